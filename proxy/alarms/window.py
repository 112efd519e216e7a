"""How often each of some names came up within a time: sliding, in bounded memory; knows no clock.

Each tenth of the time has one count. What is added up goes back the whole time, and less than a tenth of it
more: what came together is never missed for lying around an edge.

PROMISE 4 (bounded memory): of each name there are eleven counts at most, and whoever has none is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

MOST_NAMES: Final = 8_192
ELSEWHERE: Final = "elsewhere"
"""Stands for every name beyond those that are told apart: they are counted together."""
_PARTS: Final = 10


@dataclass(slots=True)
class _Counted:
    parts: deque[tuple[int, int]] = field(default_factory=deque)
    """(number of a part of time, how often), the latest last."""
    told: float = float("-inf")


class Window:
    """Of a time of so many `seconds`, in which `enough` is worth telling."""

    def __init__(self, seconds: float, *, enough: int) -> None:
        self._seconds = seconds
        self._enough = enough
        self._counted: OrderedDict[str, _Counted] = OrderedDict()
        """Least recently seen first."""

    def add(self, name: str, count: int, now: float) -> tuple[str, int] | None:
        """The name came up so many times more; `now` is of a clock that never goes back.

        Under which name that is counted and how often it came up, where that is enough; then it is not said
        again within the time.
        """
        part = int(now * _PARTS / self._seconds)
        self._forget(part)
        if name not in self._counted and len(self._counted) >= MOST_NAMES:
            name = ELSEWHERE
        counted = self._counted.get(name)
        if counted is None:
            counted = self._counted[name] = _Counted()
        self._counted.move_to_end(name)
        parts = counted.parts
        if parts and parts[-1][0] == part:
            count += parts.pop()[1]
        parts.append((part, count))
        while parts[0][0] < part - _PARTS:
            parts.popleft()
        total = sum(each for _, each in parts)
        if total < self._enough or now - counted.told < self._seconds:
            return None
        counted.told = now
        return name, total

    def _forget(self, part: int) -> None:
        while self._counted:
            name, counted = next(iter(self._counted.items()))
            if counted.parts[-1][0] >= part - _PARTS:
                return  # all others were seen later
            del self._counted[name]
