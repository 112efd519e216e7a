"""A column of texts as Arrow has it: one buffer, offsets, and the number of each distinct text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from proxy.few import Cells

Texts: TypeAlias = Any
"""A pyarrow.LargeStringArray; pyarrow ships no types."""
Codes: TypeAlias = npt.NDArray[np.integer[Any]]
"""Which of some texts each cell is."""
TEXT: Final = pa.large_string()
_NONE: Final = np.empty(0, np.uint8)
_MANY: Final = 1 << 15
_SAMPLE: Final = 1 << 12
"""Of so many cells some are looked at first, since to number distinct ones costs more than most forms."""


def nulls(height: int) -> pl.Series:
    """A String column of `height` nulls."""
    return pl.Series([None], dtype=pl.String).new_from_index(0, height)


def texts(cells: pl.Series) -> Texts:
    """The cells of a String column."""
    found = cells.to_arrow(compat_level=pl.CompatLevel.oldest())
    return found if found.type == TEXT else found.cast(TEXT)


def content(cells: Texts) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Where each cell begins and the last one ends in their text, from that of the first on; the text."""
    _, offsets, data = cells.buffers()
    places = np.frombuffer(offsets, np.int64)[cells.offset : cells.offset + len(cells) + 1]
    first, last = int(places[0]), int(places[-1])
    return places - first, np.frombuffer(data, np.uint8, last - first, first) if data else _NONE


def with_nulls(cells: Texts, void: npt.NDArray[np.bool_]) -> Texts:
    """The cells, null where `void`; they have no nulls of their own, and begin their buffers."""
    _, offsets, data = cells.buffers()
    valid = pa.py_buffer(np.packbits(~void, bitorder="little"))
    return pa.Array.from_buffers(TEXT, len(cells), [valid, offsets, data])


def column(cells: Texts) -> pl.Series:
    """A String column of these cells."""
    found = pl.from_arrow(cells)
    assert isinstance(found, pl.Series)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A column of which each distinct text is held once, so that what is done to texts is done once."""

    distinct: Texts
    """Null where that is what cells are."""
    codes: Codes
    """Which of them each cell is."""

    @classmethod
    def of(cls, text: str | None, *, height: int) -> Coded:
        """The same text in `height` cells."""
        return cls(pa.array([text], TEXT), np.zeros(height, np.int32))

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def everywhere(self) -> bytes | None:
        """The one text that all cells are, null being nothing; None where they may differ."""
        if len(self.distinct) != 1:
            return None
        text: str | None = self.distinct[0].as_py()
        return (text or "").encode()

    def column(self) -> pl.Series:
        """Each cell's text."""
        return column(self.distinct.take(pa.array(self.codes)))

    def where(self, keep: Cells) -> Coded:
        """The cells where the Boolean column `keep` is true; of the others' texts none is left."""
        assert isinstance(keep, pl.Series)
        return Coded(self.distinct, self.codes[keep.to_numpy()]).used()

    def used(self) -> Coded:
        """The same without texts that no cell is, in the order of the first of each."""
        codes = self.codes
        first = np.full(len(self.distinct), len(codes), np.int64)
        first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
        there = np.flatnonzero(first < len(codes))
        there = there[np.argsort(first[there])]  # as they come: whatever was between them
        first[there] = np.arange(len(there))
        return Coded(self.distinct.take(pa.array(there)), first[codes])

    def formed(self, form: Callable[[list[str]], list[str | None]]) -> Coded:
        """The same with each distinct text in its `form`, which is asked for at once; null stays null."""
        known: list[str | None] = self.distinct.to_pylist()
        if not self.distinct.null_count:
            return Coded(pa.array(form(known), TEXT), self.codes)  # type: ignore[arg-type]
        given = iter(form([each for each in known if each is not None]))
        formed = [None if each is None else next(given) for each in known]
        return Coded(pa.array(formed, TEXT), self.codes)

    def apart(self) -> Coded:
        """The same where texts that were held apart may be equal."""
        found = pc.dictionary_encode(self.distinct, null_encoding="encode")
        if len(found.dictionary) == len(self.distinct):
            return self
        return Coded(found.dictionary, found.indices.to_numpy()[self.codes])

    def mapped(self, form: Callable[[pl.Series], Cells]) -> Coded:
        """The same with each distinct text in another form."""
        formed = form(column(self.distinct))
        assert isinstance(formed, pl.Series)
        return Coded(texts(formed), self.codes)


def plain(cells: Cells | Coded) -> Cells:
    """A column with each cell's text."""
    return cells.column() if isinstance(cells, Coded) else cells


def by_distinct(
    cells: Texts, form: Callable[[list[str]], list[str | None]], *, repeats: int
) -> Coded | None:
    """Each cell's `form`, asked for once for each distinct cell; null stays null.

    None where cells occur fewer than `repeats` times on average, or seem to: then it hardly pays.
    """
    found = numbered(cells, repeats=repeats)
    return None if found is None else found.formed(form)


def numbered(cells: Texts, *, repeats: int) -> Coded | None:
    """The cells, each distinct one once; None where they occur fewer than `repeats` times on average."""
    if len(cells) >= _MANY and _seldom_repeated(cells, repeats):
        return None
    found = pc.dictionary_encode(cells, null_encoding="encode")
    known = found.dictionary
    if (len(known) - known.null_count) * repeats > len(cells):
        return None
    return Coded(known, found.indices.to_numpy())


def _seldom_repeated(cells: Texts, repeats: int) -> bool:
    """Whether cells taken at random, always the same ones, are too seldom equal for `repeats` of each.

    Were each of them there so often, m of n would hold some m²·repeats/2n repetitions or more.
    """
    places = np.unique(np.random.default_rng(0).integers(len(cells), size=_SAMPLE))
    distinct: int = pc.count_distinct(cells.take(pa.array(places)), mode="all").as_py()
    return 4 * (len(places) - distinct) * len(cells) < len(places) ** 2 * repeats
