"""Lints: lines that do nothing beside others, which apply wherever they do.

Others apply to whoever a line is about where they are about the same principal, a role that it holds,
or anyone. Denials also where all who hold this role hold the other one too: so it is today.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from proxy.errors import Fault
from proxy.plan import Line
from proxy.policy.lines import AccessRule, CellRule, Effect
from proxy.review.written import Rule, Written, effect_of

_HINT: Final = "a deny wins: take one out"


def shadowed(written: Written) -> Iterator[Fault]:
    """Allow lines that denials without a condition win over."""
    for rule in written.policy.access:
        if line := _undone(written, rule, proved=False):
            yield written.fault(rule.line, 2, f"undone by {line}", _HINT)
    for row in written.cell_rules:
        if lines := _hidden(written, row, proved=False):
            yield written.fault(row.line, 4, f"hidden by {_listed(lines)}", _HINT)


def hidden(written: Written) -> Iterator[Fault]:
    """Allow lines that denials are proved to win over wherever they apply."""
    for rule in written.policy.access:
        line = _undone(written, rule, proved=True)
        if line and not _undone(written, rule, proved=False):
            yield written.fault(rule.line, 2, f"undone by {line} whenever it applies", _HINT)
    for row in written.cell_rules:
        lines = _hidden(written, row, proved=True)
        if lines and not _hidden(written, row, proved=False):
            message = f"hidden by {_listed(lines)} in each of its rows"
            yield written.fault(row.line, 4, message, _HINT)


def redundant(written: Written) -> Iterator[Fault]:
    """Lines beside which others are proved to give as much, or to take it, wherever they apply."""
    for rule in written.policy.access:
        if rule.line not in written.repeats and (line := _forestalled(written, rule)):
            yield written.fault(rule.line, 4, _nothing(rule, (line,)), "take it out")
    for row in written.cell_rules:
        if row.line not in written.repeats and (lines := _bettered(written, row)):
            yield written.fault(row.line, 5, _nothing(row, lines), "take it out")


def _nothing(rule: Rule, lines: tuple[Line, ...]) -> str:
    does = "denies" if effect_of(rule) is Effect.DENY else "gives"
    return f"{does} nothing beside {_listed(lines)}"


def _forestalled(written: Written, rule: AccessRule) -> Line | None:
    """The line that allows or denies all that an access rule does."""
    implies, when, effect = written.prover.implies, rule.when.text, rule.effect
    if written.prover.refutes(None, when, effect):
        return None
    for other in written.access_beside(rule, effect, written.held_by(rule.principal)):
        if (
            other is not rule
            and implies(None, when, other.when.text, effect)
            and (
                # Of two that do the same the first one stays.
                _is_before(other, rule)
                or rule.principal not in written.held_by(other.principal)
                or rule.report not in written.over(other.report)
                or not implies(None, other.when.text, when, effect)
            )
        ):
            return other.line
    return None


def _bettered(written: Written, row: CellRule) -> tuple[Line, ...]:
    """The lines that together hide all that a cell rule does, or give it in no less preferred forms."""
    implies, effect = written.prover.implies, effect_of(row)

    def betters(report: str, other: CellRule) -> bool:
        rows, others = row.rows[report].text, other.rows[report].text
        place = written.preference(report)
        return (
            other is not row
            and (
                row.treatment is None
                or other.treatment is None
                or place(other.treatment) <= place(row.treatment)
            )
            and implies(report, rows, others, effect)
            and (
                # Of two that do the same the first one stays.
                _is_before(other, row)
                or other.treatment != row.treatment
                or row.principal not in written.held_by(other.principal)
                or not implies(report, others, rows, effect)
            )
        )

    if all(written.prover.refutes(r, rows.text, effect) for r, rows in row.rows.items()):
        return ()
    return _covered(written, row, effect, written.held_by(row.principal), betters)


def _is_before(one: Rule, other: Rule) -> bool:
    return (one.line.file, one.line.line) < (other.line.file, other.line.line)


def _undone(written: Written, rule: AccessRule, *, proved: bool) -> Line | None:
    """The denial that refuses all that an access rule allows."""
    if rule.effect is Effect.DENY:
        return None
    for deny in written.access_beside(rule, Effect.DENY, written.held_with(rule.principal)):
        if (
            written.prover.hides(None, deny.when.text, rule.when.text)
            if proved
            else deny.when.text == "true"
        ):
            return deny.line
    return None


def _hidden(written: Written, row: CellRule, *, proved: bool) -> tuple[Line, ...]:
    """The denials that together hide all that a cell rule gives."""
    if effect_of(row) is Effect.DENY:
        return ()

    def hides(report: str, deny: CellRule) -> bool:
        denied = deny.rows[report].text
        if not proved:
            return denied == "true"
        return written.prover.hides(report, denied, row.rows[report].text)

    return _covered(written, row, Effect.DENY, written.held_with(row.principal), hides)


def _covered(
    written: Written,
    row: CellRule,
    effect: Effect,
    also: frozenset[str],
    fits: Callable[[str, CellRule], bool],
) -> tuple[Line, ...]:
    """The lines that fit on each report, and together name all that a cell rule names; () where none do."""
    found: dict[Line, None] = {}
    for report, named in row.fields.items():
        left = set(named)
        for other in written.cells_beside(row, report, effect, also) if left else ():
            if left & other.fields[report] and fits(report, other):
                left -= other.fields[report]
                found[other.line] = None
        if left:
            return ()
    return tuple(found)


def _listed(lines: tuple[Line, ...]) -> str:
    return " and ".join(map(str, lines))
