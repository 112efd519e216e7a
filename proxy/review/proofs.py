"""What can be proved of the conditions of one policy, within a bounded time.

Without the solver, which is an extra, nothing is proved; nor is what would take too long.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Final

from proxy.policy.conditions import Scope
from proxy.policy.lines import Effect
from proxy.snapshot import Snapshot

if TYPE_CHECKING:
    from proxy.review.terms import Formula

_SECONDS: Final = 0.25
"""For one question."""
_ALL_SECONDS: Final = 10.0
"""For all questions about one policy."""


class Prover:
    """Answers yes where something is proved, else no."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._left = _ALL_SECONDS
        reports = snapshot.catalogue.reports
        self._attributes = snapshot.identities.attributes
        self._elsewhere = {n: t for report in reports.values() for n, t in report.types.items()}
        self._scope = functools.cache(self._scope_of)
        self._refuted = functools.cache(self._is_refuted)

    def refutes(self, report: str | None, text: str, effect: Effect) -> bool:
        """Whether a condition never makes its line apply; `report` None: it is a `when`."""
        return text != "true" and self._refuted(report, text, "true", effect)

    def hides(self, report: str | None, denied: str, text: str) -> bool:
        """Whether a deny applies wherever `text` is true; `report` None: they are `when`s."""
        return denied == "true" or self._refuted(report, text, denied, Effect.ALLOW)

    def _is_refuted(self, report: str | None, text: str, unless: str, effect: Effect) -> bool:
        """Whether `text` never makes a line apply where a deny on `unless` (`true`: none) does not."""
        if self._left <= 0:
            return False
        try:
            from proxy.review.solver import Solver, Undecided  # noqa: PLC0415 - an extra, slow to load
            from proxy.review.terms import Unmodelled, every, no  # noqa: PLC0415 - as above
        except ImportError:
            self._left = 0.0
            return False
        began, scope = time.monotonic(), self._scope(report)
        purposes = self._snapshot.policy.purposes
        solver = Solver(purposes=purposes, action=None, seconds=_SECONDS)
        try:
            truth = solver.truth(text, scope)
            applies: Formula = truth.true if effect is Effect.ALLOW else no(truth.false)
            spared = () if unless == "true" else (solver.truth(unless, scope).false,)
            return solver.find(every(applies, *spared), lambda _: True) is None
        except (Undecided, Unmodelled):
            return False
        finally:
            self._left -= time.monotonic() - began

    def _scope_of(self, report: str | None) -> Scope:
        if report is None:
            return Scope(fields=None, elsewhere={}, attributes=self._attributes)
        types = self._snapshot.catalogue.reports[report].types
        return Scope(fields=types, elsewhere=self._elsewhere, attributes=self._attributes)
