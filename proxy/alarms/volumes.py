"""Whether a subject is given far more rows than it used to be: pure.

A subject's days are those among the last 28 on which it was given any rows, today left out. Of these

    m    the median of the rows of a day
    s    1.4826 × the median of the distances from m (the MAD), but no less than a fifth of m

and today is unusual beyond m + 6 s, and beyond a floor. With fewer than 5 such days nothing is said: whoever
is new has no habit. Medians, so that one day that was unusual does not make the next one usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

DAYS: Final = 28
FEWEST: Final = 5
FLOOR: Final = 1_000
"""Rows of a day that are never unusual."""
_NORMAL: Final = 1.4826
"""A normal distribution's deviation is so many times its MAD."""
_LEAST: Final = 0.2
_TIMES: Final = 6


def usual(history: Sequence[int]) -> int | None:
    """The most rows that would be usual, of the rows of some days; None where nothing can be said."""
    days = [rows for rows in history if rows]
    if len(days) < FEWEST:
        return None
    middle = median(days)
    spread = _NORMAL * median(abs(rows - middle) for rows in days)
    return max(FLOOR, int(middle + _TIMES * max(spread, _LEAST * middle)))
