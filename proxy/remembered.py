"""Cells whose form is kept from block to block and from request to request, bounded over all forms."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

MOST_OF_ONE: Final = 4096
"""Cells of one form."""
MOST_OF_ALL: Final = 1 << 16
"""Cells of all forms: some 30 MB at the most."""
_MEMORABLE: Final = 64
"""Characters of a cell up to which it is kept: what is kept must not grow with the report's cells."""

_Known = dict[str | None, str | None]
_Treat = Callable[[list[str]], list[str | None]]
_TEXT: Final = pa.large_string()


class _Columns(NamedTuple):
    """What was known once, as Arrow has it."""

    cells: Any
    forms: Any


class Remembered:
    """Cells and what they become in one form, as one lexis writes both.

    Threads may use it at once. What others learn can make it forget everything at any time.
    """

    __slots__ = ("columns", "known")

    def __init__(self) -> None:
        self.known: _Known = {}
        self.columns: _Columns | None = None

    def __len__(self) -> int:
        return len(self.known)

    def forget(self) -> None:
        """All of it."""
        self.known.clear()
        self.columns = None

    def column(self, distinct: Any, treat: _Treat) -> Any:
        """The forms of distinct texts as Arrow has them: if all were met before, without a look at each."""
        columns = self.columns
        if columns is not None:
            places = pc.index_in(distinct, columns.cells)
            if places.null_count == distinct.null_count:
                return columns.forms.take(places)
        formed = pa.array(self.forms(distinct.to_pylist(), treat), _TEXT)
        known = self.known.copy()
        # Where all of a column is too much to be known, or cells are too long, it is never of use.
        if len(known) >= len(distinct) and (columns is None or len(columns.cells) != len(known)):
            columns = _Columns(pa.array([*known], _TEXT), pa.array([*known.values()], _TEXT))
            _EVERYTHING.hold(self, columns)
        return formed

    def forms(self, cells: Sequence[str | None], treat: _Treat) -> list[str | None]:
        """Each cell in its form: `treat` gives those of distinct cells that were not met before."""
        given = [*map(self.known.get, cells)]
        if None not in given:
            return given
        # What was found is in hand, whatever is forgotten meanwhile.
        missing = [cell for cell, form in zip(cells, given, strict=True) if form is None]
        unknown = [cell for cell in dict.fromkeys(missing) if cell is not None]
        new: _Known = dict(zip(unknown, treat(unknown), strict=True))
        memorable = [cell for cell in unknown if len(cell) <= _MEMORABLE][:MOST_OF_ONE]
        if memorable:
            _EVERYTHING.learn(self, {cell: new[cell] for cell in memorable})
        return [
            new.get(cell) if form is None else form for cell, form in zip(cells, given, strict=True)
        ]


class _Everything:
    """All that is remembered; what was learnt longest ago is forgotten first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._learnt: OrderedDict[int, Remembered] = OrderedDict()
        self.cells = 0

    def learn(self, one: Remembered, new: _Known) -> None:
        """Have one form's cells more, and forget what is too much."""
        with self._lock:
            if len(one) + len(new) > MOST_OF_ONE:
                self._forget(one)
            before = len(one)
            one.known.update(new)
            self.cells += len(one) - before
            self._learnt[id(one)] = one
            self._learnt.move_to_end(id(one))
            while self.cells > MOST_OF_ALL:
                self._forget(next(iter(self._learnt.values())))

    def hold(self, one: Remembered, columns: _Columns) -> None:
        """Have it hold columns of what it knows, unless it was to forget that meanwhile."""
        with self._lock:
            if id(one) in self._learnt:
                one.columns = columns

    def _forget(self, one: Remembered) -> None:
        self.cells -= len(one)
        one.forget()
        self._learnt.pop(id(one), None)


_EVERYTHING: Final = _Everything()
