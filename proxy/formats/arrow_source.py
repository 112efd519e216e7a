"""A typed document's schema and record batches, held against the catalogue, as batches of few bytes.

A value that a dictionary holds once may stand in every row: what counts is what the rows take when they
are written out, and it is counted before they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as is_

from proxy.batch import PLAIN, Batch
from proxy.few import Cells
from proxy.formats.arrow_anew import Sizes, sizes
from proxy.formats.arrow_columns import Columns
from proxy.formats.arrow_types import DataType, can_be, is_text, value_type
from proxy.formats.base import Reading, refused

_PIECE_BYTES: Final = 4 << 20
_PIECE_ROWS: Final = 64 << 10
_SECONDS: Final = (-62_135_596_800, 253_402_300_799)
"""The first second of year 1 and the last one of year 9999."""
_A_DAY: Final = 86_400
_VIEW: Final = 16
"""Bytes of a view, the first four of which are its text's length."""
_EXTENSION: Final = b"ARROW:extension:name"


class Source:
    """What is read of a document, by its schema; raises SourceRefused where that is not the declared one."""

    def __init__(self, schema: Any, reading: Reading) -> None:
        """`schema` is a pyarrow.Schema."""
        malformed = f"{reading.dialect.format}-malformed"
        names: list[str] = by_library(lambda: schema.names, malformed)
        if len(names) > reading.limits.fields:
            raise refused("too-many-fields")
        if len(set(names)) != len(names):
            raise refused("column-duplicated")
        self.names = names
        self._reading = reading
        self._types = reading.report.types
        self._malformed = malformed
        self.places: dict[str, int] = {
            name: place
            for place, name in enumerate(names)
            if name in reading.reads
            or (name in reading.beside and self._fits(schema.field(place), name))
        }
        """Of the fields that are read, by name."""
        self.stored: Mapping[str, DataType] = {
            name: self._stored(schema.field(place), name) for name, place in self.places.items()
        }
        """Their value types; of a column that can hold nothing, none."""

    def _stored(self, field: Any, name: str) -> DataType:
        if not self._fits(field, name):
            raise refused("column-type")
        return value_type(field.type)

    def _fits(self, field: Any, name: str) -> bool:
        extended = isinstance(field.type, pa.BaseExtensionType) or _EXTENSION in (
            field.metadata or {}
        )
        return not extended and can_be(value_type(field.type), self._types[name])

    @property
    def source_types(self) -> dict[str, DataType]:
        """As `Decoder.source_types`; that a column is always empty is no type."""
        return {name: each for name, each in self.stored.items() if not is_.is_null(each)}

    def batches(self, found: Any) -> Iterator[Batch]:
        """The records of a pyarrow.RecordBatch in pieces; raises SourceRefused."""
        height = found.num_rows
        if not self.places:
            for start in range(0, height, _PIECE_ROWS):
                yield self._batch({}, min(_PIECE_ROWS, height - start), None)
            return
        held = self._checked(found)
        of_rows = sizes(held.columns, height)
        if height and of_rows.max() > self._reading.limits.record_bytes:
            raise refused("record-too-large")
        if of_rows.sum() > self._reading.limits.row_group_bytes:
            raise refused("row-group-too-large")
        for start, end in _pieces(of_rows):
            columns = Columns.of(held.slice(start, end - start))
            yield self._batch({}, end - start, columns)

    def _batch(self, cells: Mapping[str, Cells], height: int, unread: Columns | None) -> Batch:
        return Batch(cells, height=height, lexis=PLAIN, types=self._types, unread=unread)

    def _checked(self, found: Any) -> Any:
        """The record batch of the columns that are read; raises SourceRefused where one is not valid."""
        columns = []
        for name, stored in self.stored.items():
            cells = found.column(name)
            whole = len(cells) == found.num_rows
            if whole and _written_out(cells) > self._reading.limits.row_group_bytes:
                raise refused("row-group-too-large")
            if not whole or not _is_valid(cells) or not _is_like(value_type(cells.type), stored):
                raise refused(self._malformed)
            if cells.type != stored and not is_.is_dictionary(cells.type):
                cells = pc.cast(cells, stored)
            elif is_.is_dictionary(cells.type) and cells.type.value_type != stored:
                values = pc.cast(cells.dictionary, stored)
                cells = pa.DictionaryArray.from_arrays(cells.indices, values)
            values = cells.dictionary if is_.is_dictionary(cells.type) else cells
            if not _is_in_range(values):
                raise refused("time-out-of-range")
            columns.append(cells)
        return pa.RecordBatch.from_arrays(columns, names=list(self.stored))


T = TypeVar("T")


def by_library(step: Callable[[], T], cause: str) -> T:
    """What pyarrow makes of a document; raises SourceRefused without pyarrow's error: that may hold data."""
    with suppress(Exception):
        return step()
    raise refused(cause)


def _is_like(found: DataType, stored: DataType) -> bool:
    """Whether values are of the type that the schema tells of; texts have several."""
    return bool(found == stored) or (is_text(found) and is_text(stored))


def _written_out(cells: Any) -> int:
    """Bytes of a column of views once each has a text of its own: many may look at the same; else 0."""
    if is_.is_dictionary(cells.type):
        cells = cells.dictionary
    views = cells.buffers()[1] if is_.is_string_view(cells.type) else None
    if views is None or len(views) < _VIEW * (cells.offset + len(cells)):  # then it is not valid
        return 0
    lengths = np.frombuffer(views, np.uint32)[:: _VIEW // 4]
    lengths = lengths[cells.offset : cells.offset + len(cells)].astype(np.int64)
    if cells.null_count:  # under a null there may be anything
        lengths[cells.is_null().to_numpy(zero_copy_only=False)] = 0
    return int(lengths.sum())


def _is_valid(cells: Any) -> bool:
    """Whether all of a column is inside its buffers, and all text UTF-8."""
    try:
        cells.validate(full=True)
    except pa.ArrowException:
        return False
    return True


def _is_in_range(cells: Any) -> bool:
    stored = cells.type
    if is_.is_date32(stored):
        per_second, whole = 1, cells.view(pa.int32())
        first, last = _SECONDS[0] // _A_DAY, _SECONDS[1] // _A_DAY
    elif is_.is_date64(stored) or is_.is_timestamp(stored):
        unit = "ms" if is_.is_date64(stored) else stored.unit
        per_second, whole = (
            {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit],
            cells.view(pa.int64()),
        )
        first, last = _SECONDS
    else:
        return True
    found = pc.min_max(whole).as_py()
    if found["min"] is None:
        return True
    return bool(first <= found["min"] // per_second and found["max"] // per_second <= last)


def _pieces(of_rows: Sizes) -> Iterator[tuple[int, int]]:
    """Where pieces begin and end."""
    upto = np.cumsum(of_rows)
    start, height = 0, len(of_rows)
    while start < height:
        before = int(upto[start - 1]) if start else 0
        end = int(np.searchsorted(upto, before + _PIECE_BYTES, "right"))
        end = min(max(end, start + 1), start + _PIECE_ROWS)
        yield start, end
        start = end
