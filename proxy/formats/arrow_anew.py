"""Arrow columns whose buffers hold what their values are, and nothing else.

PROMISE 1 (no cell without a grant): a column that was filtered or masked may still hold, under its null
bitmap, outside its slice or behind its last value, what was taken away. What is made here is a function
of the values alone: zeros under nulls, no bitmap where there are none, exact lengths, one NaN, memory of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as is_

from proxy.formats.arrow_text import Column
from proxy.formats.arrow_types import is_text

Sizes = npt.NDArray[np.int64]


def anew(cells: Column) -> Column:
    """The same values, in buffers of their own; of a value type."""
    height, stored, void = len(cells), cells.type, None
    if is_.is_null(stored) or not height:
        return pa.nulls(height, stored) if is_.is_null(stored) else _empty(stored)
    if cells.null_count:
        void = pc.is_null(cells).to_numpy(zero_copy_only=False)
    buffers = [None if void is None else _buffer(np.packbits(~void, bitorder="little"))]
    if is_text(stored):
        buffers += _text(pc.fill_null(cells, "") if void is not None else cells)
    elif is_.is_boolean(stored):
        truths = pc.fill_null(cells, False).to_numpy(zero_copy_only=False)
        buffers.append(_buffer(np.packbits(truths, bitorder="little")))
    else:
        width = stored.bit_width // 8
        start = cells.offset * width
        held = np.frombuffer(cells.buffers()[1], np.uint8, height * width, start)
        values = held.reshape(height, width).copy()
        if is_.is_floating(stored):
            _one_nan(values.view(stored.to_pandas_dtype()))
        if void is not None:
            values[void] = 0
        buffers.append(_buffer(values))
    nulls = 0 if void is None else int(void.sum())
    return pa.Array.from_buffers(stored, height, buffers, nulls)


def _one_nan(numbers: npt.NDArray[np.floating[Any]]) -> None:
    """Write each NaN in the one way in which its text reads, whatever its sign and payload.

    Whether a column goes through its texts depends on what is read with it, hidden records among that.
    """
    numbers[np.isnan(numbers)] = np.nan


def _empty(stored: pa.DataType) -> Column:
    return pa.array([], stored)


def _buffer(values: npt.NDArray[np.generic]) -> pa.Buffer:
    return pa.py_buffer(values.tobytes())


def _text(cells: Column) -> list[pa.Buffer]:
    """Offsets and text of a column without nulls."""
    _, offsets, data = cells.buffers()
    places = _places(cells, offsets)
    first, last = int(places[0]), int(places[-1])
    text = b"" if data is None else data.slice(first, last - first).to_pybytes()
    return [_buffer(places - first), pa.py_buffer(text)]


def _places(cells: Column, offsets: pa.Buffer) -> npt.NDArray[np.integer]:
    kind: type[np.integer] = np.int64 if is_.is_large_string(cells.type) else np.int32
    held = np.frombuffer(offsets, kind)
    return held[cells.offset : cells.offset + len(cells) + 1]


def sizes(columns: Sequence[Column], height: int) -> Sizes:
    """How many bytes each row's values take; a dictionary's value as often as it is used."""
    total = np.zeros(height, np.int64)
    for cells in columns:
        stored = cells.type
        if is_.is_dictionary(stored):
            total += _coded(cells)
        elif is_text(stored):
            total += _lengths(cells)
        elif not is_.is_null(stored):
            total += (stored.bit_width + 7) // 8
    return total


def _coded(cells: Column) -> Sizes:
    of_values = sizes([cells.dictionary], len(cells.dictionary))
    codes = pc.fill_null(cells.indices, 0).to_numpy()
    if not len(of_values):
        return np.zeros(len(cells), np.int64)
    found: Sizes = of_values[codes] + 4
    return found


def _lengths(cells: Column) -> Sizes:
    lengths: Sizes = pc.fill_null(pc.binary_length(cells), 0).to_numpy().astype(np.int64)
    return lengths + 4
