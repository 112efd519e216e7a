"""How many cells each subject may still have revealed: by the minute, and by the hour."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

_MOST_SUBJECTS: Final = 8192
_ROUNDING: Final = 1e-6
"""Seconds."""
_OTHERS: Final = ""
"""Stands for every subject beyond those that are told apart: they share one allowance."""


@dataclass(slots=True)
class _Left:
    cells: list[float]
    """Of each span."""
    seen: float


@dataclass(slots=True, kw_only=True)
class Allowance:
    """A token bucket per subject and span; knows no clock.

    PROMISE 4 (bounded memory): whoever has all of its allowance again is forgotten.
    """

    spans: tuple[tuple[float, float], ...]
    """(most cells, seconds in which they come back), one for each span."""
    _left: OrderedDict[str, _Left] = field(default_factory=OrderedDict)
    """Least recently seen first."""
    _longest: float = field(init=False)
    _whole: float = 0.0
    """Before then nobody has all of its allowance again."""

    def __post_init__(self) -> None:
        self._longest = max(seconds for _, seconds in self.spans)

    def take(self, subject: str, cells: int, now: float) -> int:
        """Take so many cells of a subject's allowance: 0; or take none, and say in how many seconds.

        `now` is of a clock that never goes back, in seconds.
        """
        if now >= self._whole:
            self._forget(now)
        if subject not in self._left and len(self._left) >= _MOST_SUBJECTS:
            subject = _OTHERS
        left = self._left.get(subject)
        if left is None:
            left = self._left[subject] = _Left([most for most, _ in self.spans], now)
        passed, wait = now - left.seen, 0.0
        cells_left = left.cells
        for place, (most, seconds) in enumerate(self.spans):
            have = cells_left[place] + passed * most / seconds if passed > 0 else cells_left[place]
            cells_left[place] = have = min(have, most)
            if have < cells:
                wait = max(wait, (cells - have) * seconds / most)
        left.seen = now
        self._left.move_to_end(subject)
        if wait > _ROUNDING:
            return max(1, math.ceil(wait - _ROUNDING))
        for place in range(len(cells_left)):
            cells_left[place] -= cells
        return 0

    def _forget(self, now: float) -> None:
        while self._left:
            subject, left = next(iter(self._left.items()))
            if now - left.seen < self._longest:
                self._whole = left.seen + self._longest  # all others were seen later
                return
            del self._left[subject]
