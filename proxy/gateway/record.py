"""What is known of one access while it goes on, and the events that say so."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import Final

import msgspec

from proxy.access import AccessEvent, Ended, Step, new_access_id, timestamp
from proxy.gateway.tracing import Trace
from proxy.gateway.view import Block
from proxy.identity.certificates import Certificate
from proxy.keys import Keyring
from proxy.plan import Deny, Permit
from proxy.report import Report
from proxy.subject import Subject

_LONGEST_PATH: Final = 256

# An entry of the log has at most 65,535 bytes. What of these lists goes beyond is counted in their last
# member: that there was more is on record, and what it was follows from the policy's version.
_MOST_LINES: Final = 384
_MOST_GROUPS: Final = 64
_MOST_GROUP_CHARACTERS: Final = 2048
_MOST_FIELDS: Final = 32
_MOST_FIELD_BYTES: Final = 24_000
_MOST_FORMS: Final = 16


class Access(msgspec.Struct, kw_only=True):
    """One request on its way; each stage fills in what it has found out."""

    address: str
    method: str
    keyring: Keyring
    """The keys of its forms and of its records: those in force when it began, to its end."""
    certificate: Certificate | None = None
    """That of the client, which may not be good."""
    unread: bool = False
    """Whether what a load balancer says of the client cannot be read."""
    itself: object = msgspec.field(default_factory=object)
    """Stands for the request, however often it is decided: its token may be good for one request."""
    id: str = msgspec.field(default_factory=new_access_id)
    now: float = msgspec.field(default_factory=time.time)
    """Seconds since the epoch, frozen for the request."""
    started: float = msgspec.field(default_factory=time.monotonic)
    path: str = ""
    subject: Subject | None = None
    opaque: str = ""
    """The subject's id in the record."""
    report: Report | None = None
    format: str = ""
    status: int = 200
    """Of the answer, where it is given."""
    span: str = ""
    """Which bytes of the answer are given, where that is a part: `0-99/4096`."""
    parameters: dict[str, str] = msgspec.field(default_factory=dict)
    """As recorded: values of open classes, digests of others."""
    purpose: str = ""
    action: str = "read"
    about: str = ""
    """What reports it is about, where that is not one report: a pattern of the policy's."""
    policy: str = ""
    permit: Permit | None = None
    unrevealed: dict[str, int] = msgspec.field(default_factory=dict)
    """Cells that were asked back and are not: why -> how many."""
    keys: tuple[str, ...] = ()
    """The ids of the keys of those that were opened."""
    parts: int = 0
    trace: Trace | None = None
    """Where its time goes, where that is asked for."""

    @property
    def principal(self) -> str:
        """The subject's name, for the directory."""
        return self.subject.name if self.subject else ""

    def stated(self, purposes: Sequence[str], catalogued: Container[str]) -> str | None:
        """Keep the purpose that is stated, and give it: '' for none, None where it is no catalogued one.

        Of another text only a digest is on record, for it may be anything.
        """
        if not purposes:
            return ""
        if len(purposes) == 1 and purposes[0] in catalogued:
            self.purpose = purposes[0]
            return self.purpose
        text = "\n".join(purposes).encode(errors="surrogateescape")  # the very bytes, UTF-8 or not
        digest = self.keyring.mac("audit-purpose").hexdigest(text)
        self.purpose = f"hmac:{digest[:32]}"
        return None

    def recorded(self, parameters: Mapping[str, str], report: Report) -> None:
        """Keep the parameters in the form in which they are recorded."""
        self.parameters = dict(parameters)
        closed = report.closed & parameters.keys()
        if closed:
            for name in closed:
                self.parameters[name] = concealed(self.keyring, report.id, name, parameters[name])

    def event(
        self,
        step: Step,
        *,
        deny: Deny | None = None,
        block: Block | None = None,
        evidence: tuple[str, ...] = (),
        ended: Ended | None = None,
    ) -> AccessEvent:
        """The next record of this access; `evidence` is what it says of the rows that are new in it."""
        part, self.parts = self.parts, self.parts + 1
        subject, permit = self.subject, self.permit
        lines = tuple(map(str, deny.lines)) if deny else ()
        if permit is not None:
            lines = (*map(str, permit.lines), *permit.plan.places)
        return AccessEvent(
            access=self.id,
            step=step,
            part=part,
            at=timestamp(self.now if part == 0 else time.time()),
            subject=self.opaque,
            groups=_some_groups(subject.groups) if subject else (),
            tool=(subject.tool or "") if subject else "",
            certificate=self.certificate.thumbprint if self.certificate else "",
            address=self.address,
            method=self.method,
            path=self.path[:_LONGEST_PATH],
            report=self.report.id if self.report else self.about,
            format=self.format,
            action=self.action if self.report or self.about or self.action != "read" else "",
            purpose=self.purpose,
            decision="deny" if deny else "permit",
            reason=deny.reason.slug if deny else "",
            cause=deny.cause if deny else "",
            status=deny.reason.status if deny else self.status,
            span="" if deny else self.span,
            policy=self.policy,
            lines=_some_lines(lines),
            parameters=self.parameters,
            fields=_some_fields(block.cells) if block else {},
            unrevealed=self.unrevealed,
            keys=self.keys,
            evidence=evidence,
            rows=block.rows if block else 0,
            bytes=block.bytes if block else 0,
            digest=block.digest if block else "",
            ended=ended or "",
            micros=int((time.monotonic() - self.started) * 1e6),
        )


def concealed(
    keyring: Keyring, report: str, name: str, value: str, *, key_id: str | None = None
) -> str:
    """What is on record of a parameter's value that is not told; under the naming key unless one is named."""
    mac = keyring.mac("audit-parameter", report, key_id=key_id)
    return f"hmac:{mac.hexdigest(f'{name}={value}'.encode())[:32]}"


def _some_lines(lines: tuple[str, ...]) -> tuple[str, ...]:
    if len(lines) <= _MOST_LINES:
        return lines
    return (*lines[:_MOST_LINES], f"+{len(lines) - _MOST_LINES}")


def _some_groups(groups: tuple[str, ...]) -> tuple[str, ...]:
    left, kept = _MOST_GROUP_CHARACTERS, 0
    for name in groups[:_MOST_GROUPS]:
        left -= len(name)
        if left < 0:
            break
        kept += 1
    return groups if kept == len(groups) else (*groups[:kept], f"+{len(groups) - kept}")


def _some_fields(cells: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Of very many fields the last ones are counted together, by treatment unless that is too much."""
    if len(cells) <= _MOST_FIELDS:
        return cells
    left = _MOST_FIELD_BYTES
    some: dict[str, dict[str, int]] = {}
    rest: Counter[str] = Counter()
    number = 0
    for name, counts in cells.items():
        left -= len(msgspec.json.encode(name)) + len(msgspec.json.encode(counts))
        if left >= 0:
            some[name] = counts
        else:
            rest.update(counts)
            number += 1
    if not number:
        return some
    return some | {f"+{number}": dict(rest) if len(rest) < _MOST_FORMS else {"": rest.total()}}
