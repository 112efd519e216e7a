"""Columns of numbers, read at once and exactly: what `round` and `bucket` work on.

Numbers of at most 12 digits before the point and 4 after it go into 64 bits, those of at most 17 and 18 into
128. Whatever is longer, has an exponent or is no number at all is left to Python's own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from proxy import kernels
from proxy.texts import Texts, content
from proxy.values import Type

WHOLE: Final = 17
SCALE: Final = 18
"""Digits before and after the point that go into 128 bits: a product stays below 2**127."""
EXACT: Final = {
    Type.INTEGER: rf"^[+-]?[0-9]{{1,{WHOLE}}}$",
    Type.DECIMAL: rf"^[+-]?[0-9]{{1,{WHOLE}}}(?:\.[0-9]{{1,{SCALE}}})?$",
}
"""Such numbers, as a regular expression."""
SHORT_WHOLE: Final = 12
SHORT_SCALE: Final = 4
"""Those of the shorter form, see `kernels.short_numbers`."""


class Short(NamedTuple):
    """Numbers of the shorter form."""

    numbers: npt.NDArray[np.int64]
    """In units of 10^-4; 0 where there is none."""
    void: npt.NDArray[np.bool_] | None
    """Where there is none."""


def plainly_short(cells: Texts, type_: Type) -> Short | None:
    """The numbers of a column in which all are short; None of any other column."""
    places, data = content(cells)
    void = places[1:] == places[:-1]
    null = cells.is_null().to_numpy(zero_copy_only=False) if cells.null_count else False
    if (void != null).any():  # an empty text, or something under a null
        return None
    numbers = kernels.short_numbers(data, places, decimal=type_ is Type.DECIMAL)
    if numbers is None:
        return None
    return Short(numbers, void if cells.null_count else None)


def exactly(values: pl.Series) -> pl.Series:
    """The numbers of a column of which all are like `EXACT`: 128-bit integers of 10^-18, below 10^35."""
    return values.cast(pl.Decimal(WHOLE + 1 + SCALE, SCALE)).to_physical()
