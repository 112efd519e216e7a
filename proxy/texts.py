"""A column of texts as Arrow has it: one buffer, offsets, and the number of each distinct text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

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


def column(cells: Texts) -> pl.Series:
    """A String column of these cells."""
    found = pl.from_arrow(cells)
    assert isinstance(found, pl.Series)
    return found


def by_distinct(
    cells: pl.Series, form: Callable[[list[str]], list[str | None]], *, repeats: int
) -> pl.Series | None:
    """Each cell's `form`, asked for once for each distinct cell; null stays null.

    None where cells occur fewer than `repeats` times on average: then it hardly pays.
    """
    numbered = pc.dictionary_encode(texts(cells))
    if len(numbered.dictionary) * repeats > len(cells):
        return None
    formed = pa.array(form(numbered.dictionary.to_pylist()), TEXT)
    return column(formed.take(numbered.indices))
