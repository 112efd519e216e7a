"""Cells whose form is kept from block to block and from request to request, bounded over all forms."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

MOST_OF_ONE: Final = 4096
"""Cells of one form."""
MOST_OF_ALL: Final = 1 << 16
"""Cells of all forms: some 20 MB at the most."""
_MEMORABLE: Final = 64
"""Characters of a cell up to which it is kept: what is kept must not grow with the report's cells."""

_Known = dict[str | None, str | None]


class Remembered:
    """Cells and what they become in one form, as one lexis writes both.

    Threads may use it at once. What others learn can make it forget everything at any time.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: _Known = {}

    def __len__(self) -> int:
        return len(self._known)

    def forms(
        self, cells: Sequence[str | None], treat: Callable[[list[str]], list[str | None]]
    ) -> list[str | None]:
        """Each cell in its form: `treat` gives those of distinct cells that were not met before."""
        given = [*map(self._known.get, cells)]
        if None not in given:
            return given
        # What was found is in hand, whatever is forgotten meanwhile.
        missing = [cell for cell, form in zip(cells, given, strict=True) if form is None]
        unknown = [cell for cell in dict.fromkeys(missing) if cell is not None]
        new: _Known = dict(zip(unknown, treat(unknown), strict=True))
        memorable = [cell for cell in unknown if len(cell) <= _MEMORABLE][:MOST_OF_ONE]
        if memorable:
            _EVERYTHING.learn(self._known, {cell: new[cell] for cell in memorable})
        return [
            new.get(cell) if form is None else form for cell, form in zip(cells, given, strict=True)
        ]


class _Everything:
    """All that is remembered; what was learnt longest ago is forgotten first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._learnt: OrderedDict[int, _Known] = OrderedDict()
        self.cells = 0

    def learn(self, known: _Known, new: _Known) -> None:
        """Have one form's cells more, and forget what is too much."""
        with self._lock:
            if len(known) + len(new) > MOST_OF_ONE:
                self._forget(known)
            before = len(known)
            known.update(new)
            self.cells += len(known) - before
            self._learnt[id(known)] = known
            self._learnt.move_to_end(id(known))
            while self.cells > MOST_OF_ALL:
                self._forget(next(iter(self._learnt.values())))

    def _forget(self, known: _Known) -> None:
        self.cells -= len(known)
        known.clear()
        self._learnt.pop(id(known), None)


_EVERYTHING: Final = _Everything()
