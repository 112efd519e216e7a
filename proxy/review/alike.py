"""Whether two rules of a field give each cell the same form, whatever the row and the requester: proved.

Without the solver, which is an extra, nothing is proved; nor is what would take too long.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from proxy.review.rules import Key, Rules
from proxy.review.then import Given

if TYPE_CHECKING:
    from proxy.review.formulas import Formula
    from proxy.review.solver import Solver

_SECONDS: Final = 0.25
"""For one question."""
_ALL_SECONDS: Final = 10.0
"""For all questions of one replay."""


class Alike:
    """Answers yes where it is proved, else no; the same question is asked once."""

    def __init__(self, *, seconds: float = _SECONDS) -> None:
        """`seconds` are for one question."""
        self._seconds = seconds
        self._left = _ALL_SECONDS
        self._known: dict[tuple[Key, Key, tuple[str, ...]], bool] = {}

    def proves(self, then: Given, was: Rules, now: Given, is_: Rules) -> bool:
        """Whether `was`, of `then`, gives the same as `is_`, of `now`."""
        purposes = tuple(dict.fromkeys((*then.purposes, *now.purposes)))
        key = (was.key, is_.key, purposes)
        if key not in self._known:
            self._known[key] = self._asked(then, was, now, is_, purposes)
        return self._known[key]

    def _asked(
        self, then: Given, was: Rules, now: Given, is_: Rules, purposes: tuple[str, ...]
    ) -> bool:
        if self._left <= 0 or not (was.conditions or is_.conditions):
            return False  # forms of every row are as different as their names
        try:
            from proxy.review.facts import Unmodelled  # noqa: PLC0415 - as above
            from proxy.review.formulas import every, some  # noqa: PLC0415 - as above
            from proxy.review.solver import Solver, Undecided  # noqa: PLC0415 - an extra, slow to load
        except ImportError:
            self._left = 0.0
            return False
        began = time.monotonic()
        solver = Solver(purposes=purposes, action=now.context.action, seconds=self._seconds)
        try:
            before, after = _formulas(solver, then, was), _formulas(solver, now, is_)
            differs = [
                every(given, other)
                for form, given in before.items()
                for name, other in after.items()
                if form != name
            ]
            return solver.find(some(*differs), lambda _: True) is None
        except (Undecided, Unmodelled):
            return False
        finally:
            self._left -= time.monotonic() - began


def _formulas(solver: Solver, given: Given, rules: Rules) -> dict[str, Formula]:
    """When a field is given in each form; under '' when in none."""
    from proxy.review.formulas import every, no, some  # noqa: PLC0415 - an extra, slow to load

    spared = [solver.truth(each.text, given.scope).false for each in rules.denies]
    found: dict[str, Formula] = {}
    before: list[Formula] = []
    for form in rules.forms:
        rows = [solver.truth(each.text, given.scope).true for each in form.rows]
        here = some(*rows) if rows else every()
        found[form.name] = every(here, no(*before), *spared)
        before.append(here)
    return {**found, "": no(*found.values())}
