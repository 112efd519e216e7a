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
TEXT: Final = pa.large_string()
_NONE: Final = np.empty(0, np.uint8)


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
    codes: npt.NDArray[np.integer[Any]]
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
        """The cells where the Boolean column `keep` is true."""
        assert isinstance(keep, pl.Series)
        return Coded(self.distinct, self.codes[keep.to_numpy()])

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

    None where cells occur fewer than `repeats` times on average: then it hardly pays.
    """
    numbered = pc.dictionary_encode(cells)
    distinct = numbered.dictionary
    if len(distinct) * repeats > len(cells):
        return None
    formed: list[str | None] = form(distinct.to_pylist())
    codes = numbered.indices
    if codes.null_count:
        codes = codes.fill_null(len(distinct))
        formed = [*formed, None]
    return Coded(pa.array(formed, TEXT), codes.to_numpy())
