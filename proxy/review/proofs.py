"""What can be proved of the conditions of one policy, within a bounded time.

Without the solver, which is an extra, nothing is proved; nor is what would take too long.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from proxy.policy.conditions import Scope
from proxy.policy.lines import Effect
from proxy.snapshot import Snapshot

if TYPE_CHECKING:
    from proxy.review.formulas import Formula

_SECONDS: Final = 0.25
"""For one question."""
_ALL_SECONDS: Final = 10.0
"""For all questions about one policy."""

_Truth = Literal["true", "not true", "false", "not false"]
_Claim = tuple[str, _Truth]
"""A condition's canonical text, and what it is said to be."""
_APPLIES: Final[Mapping[Effect, _Truth]] = {Effect.ALLOW: "true", Effect.DENY: "not false"}
_APPLIES_NOT: Final[Mapping[Effect, _Truth]] = {Effect.ALLOW: "not true", Effect.DENY: "false"}
"""What a condition is where its line applies, and where not."""


class Prover:
    """Answers yes where something is proved, else no."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._left = _ALL_SECONDS
        reports = snapshot.catalogue.reports
        self._attributes = snapshot.identities.attributes
        self._elsewhere = {n: t for report in reports.values() for n, t in report.types.items()}
        self._scope = functools.cache(self._scope_of)
        self._known: dict[tuple[str | None, tuple[_Claim, ...]], bool] = {}

    def refutes(self, report: str | None, text: str, effect: Effect) -> bool:
        """Whether a condition never makes its line apply; `report` None: it is a `when`."""
        return text != "true" and self._never(report, (text, _APPLIES[effect]))

    def hides(self, report: str | None, denied: str, text: str) -> bool:
        """Whether a deny applies wherever `text` is true; `report` None: they are `when`s."""
        return denied == "true" or self._never(report, (text, "true"), (denied, "false"))

    def implies(self, report: str | None, text: str, wider: str, effect: Effect) -> bool:
        """Whether a line on `wider` applies wherever one of the same effect on `text` does."""
        return wider in ("true", text) or self._never(
            report, (text, _APPLIES[effect]), (wider, _APPLIES_NOT[effect])
        )

    def _never(self, report: str | None, *claims: _Claim) -> bool:
        """Whether what is claimed of conditions is never so of all of them at once."""
        found = self._known.get((report, claims))
        if found is None and self._left > 0:
            found = self._known[report, claims] = self._is_never(report, *claims)
        return found is True

    def _is_never(self, report: str | None, *claims: _Claim) -> bool:
        try:
            from proxy.review.facts import Unmodelled  # noqa: PLC0415 - as above
            from proxy.review.formulas import every, no  # noqa: PLC0415 - as above
            from proxy.review.solver import Solver, Undecided  # noqa: PLC0415 - an extra, slow to load
        except ImportError:
            self._left = 0.0
            return False
        began, scope = time.monotonic(), self._scope(report)
        purposes = self._snapshot.policy.purposes
        solver = Solver(purposes=purposes, action=None, seconds=_SECONDS)

        def formula(text: str, claim: _Truth) -> Formula:
            truth = solver.truth(text, scope)
            match claim:
                case "true":
                    return truth.true
                case "not true":
                    return no(truth.true)
                case "false":
                    return truth.false
                case "not false":
                    return no(truth.false)

        try:
            claimed = every(*(formula(*claim) for claim in claims))
            return solver.find(claimed, lambda _: True) is None
        except (Undecided, Unmodelled):
            return False
        finally:
            self._left -= time.monotonic() - began

    def _scope_of(self, report: str | None) -> Scope:
        if report is None:
            return Scope(fields=None, elsewhere={}, attributes=self._attributes)
        types = self._snapshot.catalogue.reports[report].types
        return Scope(fields=types, elsewhere=self._elsewhere, attributes=self._attributes)
