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
from proxy.review.written import Written, effect_of

_HINT: Final = "a deny wins: take one out"


def shadowed(written: Written) -> Iterator[Fault]:
    """Allow lines that denials without a condition win over."""
    for rule in written.policy.access:
        if line := _undone(written, rule, proved=False):
            yield written.fault(rule.line, 2, f"undone by {line}", _HINT)
    for row in written.policy.cells:
        if lines := _hidden(written, row, proved=False):
            yield written.fault(row.line, 4, f"hidden by {_listed(lines)}", _HINT)


def hidden(written: Written) -> Iterator[Fault]:
    """Allow lines that denials are proved to win over wherever they apply."""
    for rule in written.policy.access:
        line = _undone(written, rule, proved=True)
        if line and not _undone(written, rule, proved=False):
            yield written.fault(rule.line, 2, f"undone by {line} whenever it applies", _HINT)
    for row in written.policy.cells:
        lines = _hidden(written, row, proved=True)
        if lines and not _hidden(written, row, proved=False):
            message = f"hidden by {_listed(lines)} in each of its rows"
            yield written.fault(row.line, 4, message, _HINT)


def _undone(written: Written, rule: AccessRule, *, proved: bool) -> Line | None:
    """The denial that refuses all that an access rule allows."""
    if rule.effect is Effect.DENY:
        return None
    for deny in written.access_like(rule, written.held_with(rule.principal)):
        if deny.effect is Effect.DENY and (
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

    def hides(report: str, other: CellRule) -> bool:
        denied = other.rows[report].text
        return effect_of(other) is Effect.DENY and (
            written.prover.hides(report, denied, row.rows[report].text)
            if proved
            else denied == "true"
        )

    return _covered(written, row, written.held_with(row.principal), hides)


def _covered(
    written: Written,
    row: CellRule,
    principals: frozenset[str],
    fits: Callable[[str, CellRule], bool],
) -> tuple[Line, ...]:
    """The lines that fit on each report, and together name all that a cell rule names; () where none do."""
    found: dict[Line, None] = {}
    for report, named in row.fields.items():
        left = set(named)
        for other in written.cells_on(report, principals) if left else ():
            if left & other.fields[report] and fits(report, other):
                left -= other.fields[report]
                found[other.line] = None
        if left:
            return ()
    return tuple(found)


def _listed(lines: tuple[Line, ...]) -> str:
    return " and ".join(map(str, lines))
