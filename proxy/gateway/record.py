"""What is known of one access while it goes on, and the events that say so."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy import problems
from proxy.access import AccessEvent, Ended, Step, new_access_id, timestamp
from proxy.gateway.view import Block
from proxy.keys import Keyring
from proxy.plan import Deny, Permit
from proxy.report import Report, Variant
from proxy.subject import Subject

_OPEN_CLASSES: Final = frozenset({"public", "internal"})
"""Classes whose parameters are recorded by value; every other class by keyed digest."""
_LONGEST_PATH: Final = 256
_MOST_GROUPS: Final = 64


@dataclass(slots=True, kw_only=True)
class Access:
    """One request on its way; each stage fills in what it has found out."""

    address: str
    method: str
    id: str = field(default_factory=new_access_id)
    now: float = field(default_factory=time.time)
    """Seconds since the epoch, frozen for the request."""
    started: float = field(default_factory=time.monotonic)
    path: str = ""
    subject: Subject | None = None
    opaque: str = ""
    """The subject's id in the record."""
    report: Report | None = None
    variant: Variant | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    """As recorded: values of open classes, digests of others."""
    purpose: str = ""
    policy: str = ""
    permit: Permit | None = None
    parts: int = 0

    @property
    def principal(self) -> str:
        """The subject's name, for the directory."""
        return self.subject.name if self.subject else ""

    def recorded(self, parameters: Mapping[str, str], report: Report, keyring: Keyring) -> None:
        """Keep the parameters in the form in which they are recorded."""
        mac = keyring.mac("audit-parameter", report.id)
        self.parameters = {
            name: value
            if _is_open(report, name)
            else f"hmac:{mac.hexdigest(f'{name}={value}'.encode())[:32]}"
            for name, value in parameters.items()
        }

    def event(
        self,
        step: Step,
        *,
        deny: Deny | None = None,
        block: Block | None = None,
        ended: Ended | None = None,
    ) -> AccessEvent:
        """The next record of this access."""
        part, self.parts = self.parts, self.parts + 1
        subject, permit = self.subject, self.permit
        lines = deny.lines if deny else ()
        if permit is not None:
            lines = (*permit.lines, *permit.plan.lines)
        return AccessEvent(
            access=self.id,
            step=step,
            part=part,
            at=timestamp(self.now if part == 0 else time.time()),
            subject=self.opaque,
            groups=subject.groups[:_MOST_GROUPS] if subject else (),
            tool=(subject.tool or "") if subject else "",
            address=self.address,
            method=self.method,
            path=self.path[:_LONGEST_PATH],
            report=self.report.id if self.report else "",
            format=self.variant.format.value if self.variant else "",
            action="read" if self.report else "",
            purpose=self.purpose,
            decision="deny" if deny else "permit",
            reason=deny.reason.slug if deny else "",
            cause=deny.cause if deny else "",
            status=problems.status(deny) if deny else 200,
            policy=self.policy,
            lines=tuple(map(str, lines)),
            parameters=dict(self.parameters),
            fields=block.cells if block else {},
            rows=block.rows if block else 0,
            bytes=block.bytes if block else 0,
            digest=block.digest if block else "",
            ended=ended or "",
            micros=int((time.monotonic() - self.started) * 1e6),
        )


def _is_open(report: Report, parameter: str) -> bool:
    declared = report.parameters[parameter]
    if declared.field is None:
        return True
    return report.fields[declared.field].class_ in _OPEN_CLASSES
