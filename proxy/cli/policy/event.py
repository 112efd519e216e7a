"""A decision of then: an event of the access log, with the policy and catalogue that were in force."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from proxy.audit import Past, Reader
from proxy.cli.log import visible
from proxy.errors import CounterfoilError
from proxy.plan import Context
from proxy.report import Report
from proxy.review.then import Asked, Judge, context_of
from proxy.snapshot import Snapshot, snapshot_of
from proxy.subject import Subject
from proxy.values import Value, instant
from proxy.versions import Versions

_ID: Final = re.compile(r"[0-9a-f]{32}\Z")
_GROUPS: Final = msgspec.json.Decoder(tuple[str, ...])


@dataclass(frozen=True, kw_only=True, slots=True)
class Recalled:
    """Who asked for what, and by which policy it was decided."""

    past: Past
    snapshot: Snapshot
    subject: Subject
    about: str
    """The report, or what a lockdown calls several."""
    reports: tuple[Report, ...]
    context: Context
    unknown: tuple[str, ...]
    """Attributes that the token may have given; the log does not hold them, nor were they named now."""


class DecidedBefore(CounterfoilError):
    """No policy line was asked: it was refused before."""

    def __init__(self, past: Past, why: str) -> None:
        self.past = past
        super().__init__(
            f"no policy line decided this: {why} (cause {visible(past.cause) or 'none'})"
        )


def snapshot_then(past: Past, log: Path) -> Snapshot:
    """The policy that was in force; raises CounterfoilError where it is not kept."""
    files = Versions.beside(Path(os.path.realpath(log))).files(past.policy)
    return snapshot_of(files)


def find(id_: str, log: Path) -> tuple[Past, str]:
    """The access of an event's id, and its requester's name.

    Raises DecidedBefore, or CounterfoilError where there is no telling.
    """
    if _ID.match(id_) is None:
        raise CounterfoilError("an event's id is the 32 hexadecimal digits of `Counterfoil-Event`")
    with Reader(log) as reader:
        past = reader.one(id_)
        principal = reader.principal(past.subject) if past else ""
    if past is None:
        raise CounterfoilError(f"no access of that id is in {visible(str(log))}")
    if not past.decision:
        raise CounterfoilError("this event is of no access: `counterfoil log query` tells of it")
    if not principal:
        if not past.subject:
            raise DecidedBefore(past, "its requester was not known")
        raise CounterfoilError("its requester's name was erased: no lines about it can be found")
    return past, principal


def recall(past: Past, principal: str, snapshot: Snapshot, named: Mapping[str, Value]) -> Recalled:
    """The request as it was then; `named`: attributes of the token. Raises DecidedBefore.

    Raises CounterfoilError where something is named that its token did not decide.
    """
    groups = _GROUPS.decode(past.groups) if past.groups else ()
    asked = Asked(
        principal=principal, groups=groups, tool=past.tool, method=past.method, report=past.report,
        path=past.path, format=past.format, action=past.action or "read", purpose=past.purpose, uses=None,
    )  # fmt: skip
    judge = Judge(snapshot)
    reports, at = judge.reports(asked), instant(past.started)
    assert at is not None  # an event's own time
    subject = judge.as_recorded(asked, at.timestamp())
    if not reports or subject is None:
        raise DecidedBefore(past, "it was refused before")
    claims = judge.unknown(subject)
    for name in named.keys() - claims:
        raise CounterfoilError(
            f"`{name}` of {visible(principal)} came from people.csv, and not from its token"
        )
    unknown = claims - set(named)
    attributes = {n: v for n, v in subject.attributes.items() if n not in unknown} | dict(named)
    return Recalled(
        past=past,
        snapshot=snapshot,
        subject=dataclasses.replace(subject, attributes=attributes),
        about=asked.report or reports[0].id,
        reports=reports,
        context=context_of(asked, attributes, (at, past.address)),
        unknown=tuple(sorted(unknown)),
    )
