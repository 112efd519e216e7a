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

from proxy.audit import End, Past, Reader
from proxy.cli.log import visible
from proxy.errors import CounterfoilError
from proxy.plan import Context
from proxy.policy import granting
from proxy.policy.lines import WITHOUT_CELLS
from proxy.report import Report
from proxy.review.ended import CUT, Cut, why_cut
from proxy.review.explain import Explanation, explain, explain_change
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
    asked: Asked
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
    """The policy by which it was decided; raises CounterfoilError where it is not kept."""
    return snapshot_of(files_of(past.policy, log))


def cut(recalled: Recalled, end: End, named: Mapping[str, Value], log: Path) -> Cut | None:
    """What cut an answer that was under way; None where nothing did."""
    if end.outcome not in CUT:
        return None
    began, ended = instant(recalled.past.started), instant(end.at)
    assert began is not None  # an event's own time
    assert ended is not None  # likewise
    try:
        files = files_of(end.policy, log)
        after = snapshot_of(files)
    except CounterfoilError as exc:
        return Cut(why=f"it cannot be told: {exc}")
    found = why_cut(
        recalled.snapshot, after, recalled.asked, named, (began, ended), recalled.past.address
    )
    text = files.get(granting.LOCKDOWN_FILE, b"").decode(errors="replace")
    commands = dict.fromkeys(
        _command(block)
        for line in found.lines
        if line.file == granting.LOCKDOWN_FILE and (block := granting.block_at(text, line.line))
    )
    return dataclasses.replace(found, why="; ".join([found.why, *commands]))


def _command(block: granting.Block) -> str:
    """The command that wrote a block: its id, what it was about, whose it was and why."""
    return " ".join(line.removeprefix("# ") for line in block.text.split("\n")[:2])


def files_of(version: str, log: Path) -> Mapping[str, bytes]:
    """The files of a version, which are kept beside the log; raises CounterfoilError where they are not."""
    return Versions.beside(Path(os.path.realpath(log))).files(version)


def find(id_: str, log: Path) -> tuple[Past, End, str]:
    """The access of an event's id, how it ended, and its requester's name.

    Raises DecidedBefore, or CounterfoilError where there is no telling.
    """
    if _ID.match(id_) is None:
        raise CounterfoilError("an event's id is the 32 hexadecimal digits of `Counterfoil-Event`")
    with Reader(log) as reader:
        one = reader.one(id_)
        principal = reader.principal(one[0].subject) if one else ""
    if one is None:
        raise CounterfoilError(f"no access of that id is in {visible(str(log))}")
    past, end = one
    if not past.decision:
        raise CounterfoilError("this event is of no access: `counterfoil log query` tells of it")
    if not principal:
        if not past.subject:
            raise DecidedBefore(past, "its requester was not known")
        raise CounterfoilError("its requester's name was erased: no lines about it can be found")
    return past, end, principal


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
        asked=asked,
        subject=dataclasses.replace(subject, attributes=attributes),
        about=asked.report or reports[0].id,
        reports=reports,
        context=context_of(asked, attributes, (at, past.address)),
        unknown=tuple(sorted(unknown)),
    )


def explained(then: Recalled) -> Explanation:
    """What its version says of it."""
    policy, subject, context = then.snapshot.policy, then.subject, then.context
    if context.action in WITHOUT_CELLS:
        return explain_change(policy, subject=subject, reports=then.reports, context=context)
    return explain(policy, subject=subject, report=then.reports[0], context=context)
