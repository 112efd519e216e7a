"""Lints: lines that do nothing by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Final

import msgspec

from proxy.documents import nearest
from proxy.errors import Fault
from proxy.plan import Context
from proxy.policy.conditions import Condition
from proxy.policy.conditions.form import UNKNOWN_HERE
from proxy.policy.conditions.syntax import parse
from proxy.policy.conditions.tree import (
    Comparison,
    Items,
    Membership,
    Name,
    Node,
    Text,
    children,
)
from proxy.policy.lines import GIVES_CELLS, AccessRule, Effect
from proxy.review.written import Rule, Written, effect_of

_ANY: Final = Context(
    attributes={},
    now=datetime(2000, 1, 1, tzinfo=UTC),
    date=date(2000, 1, 1),
    ip="",
    purpose="",
    tool="",
    action="",
    method="",
)
"""For conditions that look at none of it."""
_MOST_NAMES: Final = 3
_METHODS: Final = ("GET", "HEAD")
"""What is served."""


def unheld(written: Written) -> Iterator[Fault]:
    """Lines of roles that nobody holds."""
    for rule in written.rules:
        if _unheld(written, rule):
            yield written.fault(
                rule.line,
                1,
                f"nobody holds `{rule.principal}`",
                f"give it to somebody: `g, group:…, {rule.principal}`",
            )


def _unheld(written: Written, rule: Rule) -> bool:
    return rule.principal.startswith("role:") and rule.principal not in written.holders


def empty(written: Written) -> Iterator[Fault]:
    """Roles that are given and have no line, where another one that does is nearly called so.

    A role without lines is no mistake by itself: its lines may be still to come.
    """
    spoken_of = {rule.principal for rule in written.rules}
    named = sorted(name.removeprefix("role:") for name in spoken_of if name.startswith("role:"))
    for link in written.links:
        idle = link.of.startswith("role:") and not written.policy.roles(link.of) & spoken_of
        if idle and (close := get_close_matches(link.of.removeprefix("role:"), named, n=1)):
            message, hint = f"no line is about `{link.of}`", f"did you mean `role:{close[0]}`?"
            yield written.fault(link.line, 2, message, hint)


def _is_false(condition: Condition) -> bool:
    """Whether a condition looks at nothing, and does not hold."""
    return not condition.types and not condition.reads and condition.holds(_ANY) is not True


def never(written: Written) -> Iterator[Fault]:
    """Lines whose condition is false."""
    policy = written.policy
    for rule in policy.access:
        if _is_false(rule.when):
            yield written.fault(
                rule.line, 4, "never applies: the condition is false", "take the line out"
            )
    for row in written.cell_rules:
        if row.rows and all(map(_is_false, row.rows.values())):
            yield written.fault(
                row.line, 3, "never applies: the condition is false", "take the line out"
            )


def over(written: Written) -> Iterator[Fault]:
    """Lines whose time is over, and never comes again."""
    now = datetime.now(UTC)
    hint = "take the line out"
    for rule in written.policy.access:
        if _is_over(written, None, rule.when, rule.effect, now):
            yield written.fault(rule.line, 4, "its time is over for good: it does nothing", hint)
    for row in written.cell_rules:
        effect = effect_of(row)
        if row.rows and all(
            _is_over(written, report, rows, effect, now) for report, rows in row.rows.items()
        ):
            yield written.fault(row.line, 3, "its time is over for good: it does nothing", hint)


def _is_over(
    written: Written, report: str | None, condition: Condition, effect: Effect, now: datetime
) -> bool:
    """Whether the time alone makes a condition false, now and whenever time changes it."""
    at = msgspec.structs.replace(_ANY, now=now, date=now.date())
    if not condition.is_over(at):
        return False
    if condition.next_flip(at) is None:
        return True
    # What reads the date is looked at again each midnight, whatever it says.
    since = f"env.now >= time('{now.strftime('%Y-%m-%dT%H:%MZ')}') and ({condition.text})"
    return written.prover.refutes(report, since, effect)


def twice(written: Written) -> Iterator[Fault]:
    """Lines that say the same."""
    for line, first in written.repeats.items():
        yield written.fault(line, 0, f"says what {first} says", "take one of them out")


def unreadable(written: Written) -> Iterator[Fault]:
    """Cell rules about reports that nobody may read, or reveal."""
    policy = written.policy
    allowed = {(r.action, r.report) for r in policy.access if r.effect is Effect.ALLOW}
    for row in written.cell_rules:
        patterns = {pattern for action, pattern in allowed if action is row.action}
        if row.fields and not any(policy.covering(report) & patterns for report in row.fields):
            yield written.fault(
                row.line,
                2,
                f"no `p` line lets anybody {row.action} what this line is about",
                f"add `p, {row.principal}, {row.report}, {row.action}, true, allow`",
            )


def unsealed(written: Written) -> Iterator[Fault]:
    """Lines that reveal what nobody is given in a form that can be turned back."""
    if not written.policy.reveals:
        return
    turned = {
        (report, field)
        for row in written.policy.cells
        if row.treatment is not None and row.treatment.reversible and row.treatment.rank
        for report, fields in row.fields.items()
        for field in fields
    }
    for row in written.policy.reveals:
        named = {(report, field) for report, fields in row.fields.items() for field in fields}
        if named and named.isdisjoint(turned):
            message = "reveals nothing: nobody is given what it names encrypted or tokenised"
            hint = f"add `p2, …, {row.report}, …, …, encrypt`, or take the line out"
            yield written.fault(row.line, 4, message, hint)


def contradictory(written: Written) -> Iterator[Fault]:
    """Lines whose condition is proved to be met by nothing."""
    policy, prover = written.policy, written.prover
    for rule in policy.access:
        when = rule.when.text
        if not _is_false(rule.when) and prover.refutes(None, when, rule.effect):
            yield written.fault(rule.line, 4, *_why_never(when, policy.purposes))
    for row in written.cell_rules:
        effect = Effect.DENY if row.treatment is None else Effect.ALLOW
        open_ = {report: rows for report, rows in row.rows.items() if not _is_false(rows)}
        if open_ and all(
            prover.refutes(report, rows.text, effect) for report, rows in open_.items()
        ):
            text = next(iter(open_.values())).text
            yield written.fault(row.line, 3, *_why_never(text, policy.purposes))


def _why_never(text: str, purposes: Sequence[str]) -> tuple[str, str]:
    """Why a condition is never met, and what to write: a message and a hint."""
    for name, values in _told_of(parse(text)):
        possible = {"purpose": ("", *purposes), "method": _METHODS}.get(name)
        if possible is not None and not set(values) & set(possible):
            if name == "purpose":
                hint = nearest(values[0], purposes) + "; all are in `purposes` of reports.yaml"
                return f"never applies: `{values[0]}` is not a catalogued purpose", hint
            return f"never applies: no request is a `{values[0]}`", "write `'GET'` or `'HEAD'`"
    return "never applies: the condition contradicts itself", "see its `and`s"


def _told_of(node: Node) -> Iterator[tuple[str, list[str]]]:
    """The names of `env.*` that must be one of some texts, with these."""
    match node:
        case Comparison("==", Name("env", name), Text(value)) | Comparison(
            "==", Text(value), Name("env", name)
        ):
            yield name, [value]
        case Membership(Name("env", name), Items(items), False):
            texts = [item.value for item in items if isinstance(item, Text)]
            if len(texts) == len(items):
                yield name, texts
        case _:
            for child in children(node):
                yield from _told_of(child)


def elsewhere(written: Written) -> Iterator[Fault]:
    """Row conditions that a report's lack of a field settles, which other covered reports declare."""
    for row in written.cell_rules:
        effect = effect_of(row)
        settled = [
            (report, lacking)
            for report, rows in row.rows.items()
            if row.fields[report]
            and (lacking := [name for name, type_ in rows.types if type_ == UNKNOWN_HERE])
            and _is_settled(written, report, rows.text, effect)
        ]
        if not settled or (effect is Effect.ALLOW and len(settled) == len(row.rows)):
            continue  # where nothing is given of any report it contradicts itself
        report, lacking = settled[0]
        if effect is Effect.DENY:
            does = f"hides {_names(sorted(row.fields[report]))} in every row"
        else:
            does = "gives nothing"
        message = f"{does} of `{report}`, which has no {_names(lacking)}"
        yield written.fault(row.line, 3, message, "name the reports alone that have it")


def _is_settled(written: Written, report: str, text: str, effect: Effect) -> bool:
    """Whether a condition hides all rows, or gives none."""
    if effect is Effect.DENY:
        return written.prover.hides(report, text, "true")
    return written.prover.refutes(report, text, effect)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(f"`{name}`" for name in names[:_MOST_NAMES]) + more


def cellless(written: Written) -> Iterator[Fault]:
    """Rules for those who are given no cell, where whoever is given some may read without them."""
    for rule in written.policy.access:
        if rule.effect is Effect.DENY or rule.action not in GIVES_CELLS or _unheld(written, rule):
            continue
        if not any(
            _gives_way(written, rule, report) for report in written.policy.covered(rule.report)
        ):
            yield written.fault(
                rule.line,
                2,
                f"no line gives `{rule.principal}` a cell of it: refused all the same (404)",
                f"add `p2, {rule.principal}, {rule.report}, …`",
            )


def _gives_way(written: Written, rule: AccessRule, report: str) -> bool:
    """Whether there may be somebody who is given a cell, and gets at it by this rule alone."""
    given = written.given(report, rule.action)
    whom = written.holders.get(rule.principal, frozenset()) | {rule.principal}
    return any(not given.isdisjoint(written.held_by(each)) for each in whom) or any(
        all(
            other is rule or other.when.text != "true"
            for other in written.allowing(each, report, rule.action)
        )
        for each in given
    )


def unread(written: Written) -> Iterator[Fault]:
    """Files of the folder that nobody reads."""
    for name in written.unread:
        message = f"`{name}` is not read: what it says does not count"
        yield Fault(file=name, message=message, hint="take it out, or keep it elsewhere")
