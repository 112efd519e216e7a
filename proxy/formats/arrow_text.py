"""Typed Arrow columns -> the plain text of their values, exactly.

integer, decimal   all digits and the scale, never an exponent: `7`, `1.10`
floating           the shortest text that reads as the same number: `0.1`, `5.0`, `1e+20`;
                   `nan`, `inf` and `-inf` are no values by the grammar
date, timestamp    `2026-03-01`, `2026-03-01T09:00:00[.ffffff]`, with `Z` where it has a zone; nine
                   digits where there are nanoseconds, which is no value by the grammar
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as is_

from proxy.formats.arrow_types import DataType
from proxy.texts import TEXT, Texts, texts

Column: TypeAlias = Any
"""A pyarrow.Array; pyarrow ships no types."""
_PLAIN_SCALE: Final = 6
"""Digits after the point up to which Arrow writes no exponent."""
DECIMALS: Final = {32: pa.decimal32, 64: pa.decimal64, 128: pa.decimal128, 256: pa.decimal256}
"""By their width in bits."""
_TO_SECONDS: Final = len("2026-03-01T09:00:00")


def texts_of(cells: Column) -> Texts:
    """The text of each value; the type is one of those that can be read, dates and times in range."""
    stored = cells.type
    if is_.is_dictionary(stored):
        return texts_of(cells.dictionary).take(cells.indices)
    if is_.is_decimal(stored):
        return _decimals(cells, stored)
    if is_.is_floating(stored):
        return _floats(cells)
    if is_.is_timestamp(stored):
        return _instants(cells, stored)
    if is_.is_date64(stored):
        cells = pc.cast(cells, pa.date32())
    return pc.cast(cells, TEXT)


def _decimals(cells: Column, stored: DataType) -> Texts:
    scale = stored.scale
    if 0 <= scale <= _PLAIN_SCALE:
        return pc.cast(cells, TEXT)
    whole = DECIMALS[stored.bit_width](stored.precision, 0)
    digits = pc.cast(
        pa.Array.from_buffers(whole, len(cells), cells.buffers(), offset=cells.offset), TEXT
    )
    if scale < 0:
        longer = _joined(digits, _text("0" * -scale))
        return pc.if_else(pc.equal(digits, _text("0")), digits, longer)
    sign = pc.if_else(pc.starts_with(digits, "-"), _text("-"), _text(""))
    padded = pc.ascii_lpad(pc.ascii_ltrim(digits, "-"), scale + 1, "0")
    point = _text(".")
    before = pc.utf8_slice_codeunits(padded, 0, -scale)
    return _joined(sign, before, point, pc.utf8_slice_codeunits(padded, -scale))


def _floats(cells: Column) -> Texts:
    if is_.is_float16(cells.type):
        cells = pc.cast(cells, pa.float32())
    column = pl.from_arrow(cells)
    assert isinstance(column, pl.Series)
    written = column.cast(pl.String)
    return texts(written.replace("NaN", "nan") if column.is_nan().any() else written)


def _instants(cells: Column, stored: DataType) -> Texts:
    written = pc.cast(cells.view(pa.timestamp(stored.unit)), TEXT)
    date = pc.utf8_slice_codeunits(written, 0, len("2026-03-01"))
    time = pc.utf8_slice_codeunits(written, len("2026-03-01 "), _TO_SECONDS)
    parts = [date, _text("T"), time]
    if _has_fractions(cells, stored):
        parts.append(_fractions(pc.utf8_slice_codeunits(written, _TO_SECONDS)))
    if stored.tz is not None:
        parts.append(_text("Z"))
    return _joined(*parts)


def _has_fractions(cells: Column, stored: DataType) -> bool:
    second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[stored.unit]
    return bool((numbers(cells) % second).any())


def _fractions(written: Texts) -> Texts:
    """`.000` -> nothing, `.120` and `.120000000` -> `.120000`, `.000000001` stays."""
    nanoseconds = pc.utf8_slice_codeunits(pc.ascii_rpad(written, 10, "0"), 0, 10)
    short = pc.utf8_slice_codeunits(nanoseconds, 0, 7)
    fraction = pc.if_else(pc.ends_with(nanoseconds, "000"), short, nanoseconds)
    return pc.if_else(pc.equal(fraction, _text(".000000")), _text(""), fraction)


def numbers(cells: Column) -> npt.NDArray[np.int64]:
    """The integers of a column of 64 bits a cell; 0 for what is null."""
    found: npt.NDArray[np.int64] = pc.fill_null(cells.view(pa.int64()), 0).to_numpy()
    return found


def _text(text: str) -> Any:
    return pa.scalar(text, TEXT)


def _joined(*parts: Any) -> Texts:
    """The parts of each row in one text; null where one is."""
    return pc.binary_join_element_wise(*parts, _text(""))
