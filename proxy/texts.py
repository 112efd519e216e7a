"""A column of texts as Arrow has it: one buffer, offsets, and the number of each distinct text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

Texts: TypeAlias = Any
"""A pyarrow.LargeStringArray; pyarrow ships no types."""
TEXT: Final = pa.large_string()


def texts(cells: pl.Series) -> Texts:
    """The cells of a String column."""
    found = cells.to_arrow(compat_level=pl.CompatLevel.oldest())
    return found if found.type == TEXT else found.cast(TEXT)


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
