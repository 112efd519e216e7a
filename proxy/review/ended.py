"""Why an answer that was under way was cut: which lines, or what else, ended its permit.

The gateway looks at a permit again between two blocks, and records that it ended and under which policy.
What ended it is found as there: by the same questions in the same order (`gateway/standing.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from proxy.plan import Context, Deny, Line
from proxy.policy.index import Policy
from proxy.report import Report
from proxy.review.explain import Explanation, Form, Said, explain
from proxy.review.then import Asked, Judge, claimed_groups, context_of
from proxy.snapshot import Snapshot
from proxy.subject import Subject
from proxy.values import Value

CUT: Final = frozenset({"policy-changed", "expired"})
"""The outcomes of an answer whose permit ended."""
_BY_TIME: Final = frozenset({"now", "date"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What cut an answer, as far as it can be told."""

    why: str
    lines: tuple[Line, ...] = ()
    """The lines that did, or that gave before what nothing gives now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """What one version gives at one time."""

    policy: Policy
    subject: Subject
    context: Context
    found: Explanation


def why_cut(
    before: Snapshot,
    after: Snapshot,
    asked: Asked,
    named: Mapping[str, Value],
    times: tuple[datetime, datetime],
    address: str,
) -> Cut:
    """Why what `before` permitted at the first of `times` was cut under `after` at the second.

    `named`: attributes of the token.
    """
    began, ended = times
    report = before.catalogue.reports.get(asked.report)
    groups, _ = claimed_groups(before, asked, began.timestamp())
    was = Judge(before).as_recorded(asked, began.timestamp())
    now = Judge(after).subject(asked, groups, ended.timestamp())
    if report is None or was is None:
        return Cut(why="it cannot be told: it was about no report of one requester")
    if now is None:
        return Cut(why="subjects.yaml has no issuer of its requester any longer")
    if after.catalogue.reports.get(report.id) != report:
        declares = "otherwise" if report.id in after.catalogue.reports else "no longer"
        return Cut(why=f"reports.yaml declares `{report.id}` {declares}")
    then = _view(before, was, report, asked, named, (began, address))
    anew = _view(after, now, report, asked, named, (ended, address))
    if isinstance(anew.found.decision, Deny):
        return _refused(then.found, anew.found, anew.found.decision)
    if cut := _given_otherwise(then, anew):
        return cut
    realms = [each.identities.realm_of(asked.principal) for each in (before, after)]
    if realms[0] != realms[1]:
        return Cut(why="subjects.yaml takes something else of its requester's token")
    return _by_nothing(anew, report)


def _view(
    snapshot: Snapshot, subject: Subject, report: Report, asked: Asked,
    named: Mapping[str, Value], circumstances: tuple[datetime, str],
) -> _View:  # fmt: skip
    declared = snapshot.identities.attributes
    attributes = dict(subject.attributes) | {n: v for n, v in named.items() if n in declared}
    who = dataclasses.replace(subject, attributes=attributes)
    context = context_of(asked, attributes, circumstances)
    found = explain(snapshot.policy, subject=who, report=report, context=context)
    return _View(policy=snapshot.policy, subject=who, context=context, found=found)


def _refused(then: Explanation, anew: Explanation, deny: Deny) -> Cut:
    """It is refused by now: by lines that deny it, or for a line that allowed it does not now."""
    if deny.lines:
        return Cut(why=f"denied by {_listed(deny.lines)}", lines=deny.lines)
    acting = deny.cause == "tool-may-not-act"
    lines = tuple(
        each.line
        for each in then.lines
        if each.said is Said.APPLIED and each.effect == "allow" and (each.action == "act") is acting
    )
    if not lines or any(each.said is Said.APPLIED for each in anew.lines if each.line in lines):
        return Cut(why=f"it is refused by now: cause {deny.cause}")
    whom = "the tool acts" if acting else "it was permitted"
    return Cut(why=f"{whom} no longer by {_listed(lines)}, nor by another line", lines=lines)


def _given_otherwise(then: _View, anew: _View) -> Cut | None:
    """What the plan gives now that it did not, or in another form."""
    changes, lines = dict[str, list[str]](), dict[Line, None]()
    before = {seen.field: [*_given(seen.forms)] for seen in then.found.fields}
    for seen in anew.found.fields:
        was, now = before.get(seen.field, []), [*_given(seen.forms)]
        if [(each.form, each.rows) for each in was] == [(each.form, each.rows) for each in now]:
            continue
        changes.setdefault(f"was {_forms(was)}, and is {_forms(now)}", []).append(seen.field)
        lines |= dict.fromkeys(line for each in (*was, *now) for line in each.lines)
    told = [f"{', '.join(fields)} {change}" for change, fields in changes.items()]
    for name in anew.found.attributes:
        values = [view.context.attributes.get(name.removeprefix("sub.")) for view in (then, anew)]
        if values[0] != values[1]:
            told.append(f"people.csv or the token says another {name}")
    return Cut(why="; ".join(told), lines=tuple(lines)) if told else None


def _by_nothing(anew: _View, report: Report) -> Cut:
    """The same lines give the same: its time was up."""
    forms = [form for seen in anew.found.fields for form in _given(seen.forms)]
    held = dict.fromkeys(line for form in forms for line in form.lines)
    timed = tuple(
        row.line
        for row in anew.policy.cells
        if row.line in held and row.rows[report.id].reads & _BY_TIME
    )
    if timed:
        return Cut(why=f"rows are others by now: {_listed(timed)}", lines=timed)
    return Cut(why="no line: its token was at its end, or is trusted no longer")


def _given(forms: Iterable[Form]) -> Iterator[Form]:
    return (form for form in forms if not form.why_not)


def _forms(forms: Iterable[Form]) -> str:
    return (
        ", ".join(
            f"{form.form}{'' if form.rows == 'true' else f' where {form.rows}'} ({_listed(form.lines)})"
            for form in forms
        )
        or "absent"
    )


def _listed(lines: Iterable[Line]) -> str:
    return ", ".join(map(str, lines))
