"""Lints: lines that do nothing by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Final

from proxy.errors import Fault
from proxy.plan import Context
from proxy.policy.conditions import Condition
from proxy.policy.lines import Action, Effect
from proxy.review.written import Written

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


def unheld(written: Written) -> Iterator[Fault]:
    """Lines of roles that nobody holds."""
    for rule in written.rules:
        if rule.principal.startswith("role:") and rule.principal not in written.holders:
            yield written.fault(
                rule.line,
                1,
                f"nobody holds `{rule.principal}`",
                f"give it to somebody: `g, group:…, {rule.principal}`",
            )


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


def is_false(condition: Condition) -> bool:
    """Whether a condition looks at nothing, and does not hold."""
    return not condition.types and not condition.reads and condition.holds(_ANY) is not True


def never(written: Written) -> Iterator[Fault]:
    """Lines whose condition is false."""
    policy = written.policy
    for rule in policy.access:
        if is_false(rule.when):
            yield written.fault(
                rule.line, 4, "never applies: the condition is false", "take the line out"
            )
    for row in policy.cells:
        if row.rows and all(map(is_false, row.rows.values())):
            yield written.fault(
                row.line, 3, "never applies: the condition is false", "take the line out"
            )


def twice(written: Written) -> Iterator[Fault]:
    """Lines that say the same."""
    for line, first in written.repeats.items():
        yield written.fault(line, 0, f"says what {first} says", "take one of them out")


def unreadable(written: Written) -> Iterator[Fault]:
    """Cell rules about reports that nobody may read."""
    policy = written.policy
    readable = {
        rule.report
        for rule in policy.access
        if rule.effect is Effect.ALLOW and rule.action is Action.READ
    }
    for row in policy.cells:
        if row.fields and not any(policy.covering(report) & readable for report in row.fields):
            yield written.fault(
                row.line,
                2,
                "no `p` line lets anybody read what this line is about",
                f"add `p, {row.principal}, {row.report}, read, true, allow`",
            )


def contradictory(written: Written) -> Iterator[Fault]:
    """Lines whose condition is proved to be met by nothing."""
    policy, prover = written.policy, written.prover
    message, hint = "never applies: the condition contradicts itself", "see its `and`s"
    for rule in policy.access:
        if not is_false(rule.when) and prover.refutes(None, rule.when.text, rule.effect):
            yield written.fault(rule.line, 4, message, hint)
    for row in policy.cells:
        effect = Effect.DENY if row.treatment is None else Effect.ALLOW
        open_ = {report: rows for report, rows in row.rows.items() if not is_false(rows)}
        if open_ and all(
            prover.refutes(report, rows.text, effect) for report, rows in open_.items()
        ):
            yield written.fault(row.line, 3, message, hint)
