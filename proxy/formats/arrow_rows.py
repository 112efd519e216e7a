"""An answer's rows as typed columns, divided by what is released and nothing else.

PROMISE 1, framing: where a record batch or a row group ends depends on the number of the released rows
before it and on their bytes, whatever the source's own divisions are and whatever was dropped.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from proxy.batch import Batch, Output
from proxy.formats.arrow_anew import Sizes, anew, sizes
from proxy.formats.arrow_columns import Columns
from proxy.formats.arrow_text import Column
from proxy.formats.arrow_types import DataType, given_type
from proxy.formats.arrow_values import values_of
from proxy.formats.base import Columns as Outputs
from proxy.formats.base import Encoder
from proxy.texts import TEXT, Texts


class Rows(NamedTuple):
    """Some released rows: their columns, and how many bytes each row takes."""

    columns: Sequence[Column]
    sizes: Sizes


class Sink(io.RawIOBase):
    """Where pyarrow's writers write; what they wrote is taken from time to time."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Bytes so far."""
        return self._place

    def write(self, data: Any) -> int:
        """Hold a copy."""
        held = bytes(data)
        self._held.append(held)
        self._place += len(held)
        return len(held)

    def taken(self) -> bytes:
        """What was written since the last time."""
        held, self._held = self._held, []
        return b"".join(held)


class TypedEncoder(Encoder[Rows]):
    """Batches -> the divisions of a typed document; a column that a batch does not hold is null."""

    most_rows: int
    """Of a division."""
    most_bytes: int
    """Of a division; the row with which they are reached is its last."""

    def __init__(self, columns: Outputs) -> None:
        """Raises ValueError without columns."""
        if not columns:
            raise ValueError("a document has columns")
        self._outputs = columns
        self._sink = Sink()
        self._pending: list[Sequence[Column]] = []
        self._rows = 0
        self._bytes = 0

    @cached_property
    def schema(self) -> Any:
        """The answer's own schema: names and types."""
        stored = self.source_types
        return pa.schema([(o.name, given_type(o, stored.get(o.name))) for o in self._outputs])

    @abstractmethod
    def _write(self, division: Any) -> None:
        """Write a pyarrow.RecordBatch to the sink, after what stands before it."""

    @abstractmethod
    def _close(self) -> None:
        """Write what stands at the end, after the head where nothing was written."""

    def encode(self, batch: Batch) -> Rows:
        """The batch's records as columns of the answer's types; raises SourceRefused."""
        if not batch.height:
            return Rows([], np.empty(0, np.int64))
        columns = [
            anew(_given(batch, output, given))
            for output, given in zip(self._outputs, self.schema.types, strict=True)
        ]
        return Rows(columns, sizes(columns, batch.height))

    def join(self, records: Rows) -> bytes:
        """The divisions that the rows complete."""
        for columns in self._divided(records):
            self._pending.append(columns)
            if self._rows >= self.most_rows or self._bytes >= self.most_bytes:
                self._flush()
        return self._sink.taken()

    def finish(self) -> bytes:
        """The last division and the document's end."""
        if self._rows:
            self._flush()
        self._close()
        return self._sink.taken()

    def _divided(self, records: Rows) -> Iterator[Sequence[Column]]:
        """The rows, cut where a division ends; each piece is counted before it is given."""
        upto = np.cumsum(records.sizes)
        start, height = 0, len(upto)
        while start < height:
            before = int(upto[start - 1]) if start else 0
            reached = int(np.searchsorted(upto, before + self.most_bytes - self._bytes))
            end = min(reached + 1, start + self.most_rows - self._rows, height)
            self._rows += end - start
            self._bytes += int(upto[end - 1]) - before
            whole = end - start == height
            yield (
                records.columns if whole else [c.slice(start, end - start) for c in records.columns]
            )
            start = end

    def _flush(self) -> None:
        parts, self._pending = self._pending, []
        columns = [
            anew(pa.concat_arrays(column)) if len(column) > 1 else anew(column[0])
            for column in zip(*parts, strict=True)
        ]
        self._write(pa.RecordBatch.from_arrays(columns, schema=self.schema))
        self._rows = self._bytes = 0


def _given(batch: Batch, output: Output, given: DataType) -> Column:
    """A column of the answer."""
    unread = batch.unread
    if output.as_stored and isinstance(unread, Columns) and output.name in unread.names:
        typed = unread.typed(output.name)
        if typed.type == given:
            return typed
    found = _texts(batch, output.name)
    return pa.nulls(batch.height, given) if found is None else values_of(found, given, output.type)


def _texts(batch: Batch, name: str) -> Texts | None:
    """The characters of a column; None where it has none."""
    if not batch.few:
        return batch.characters(name)
    cells = batch.plain(name)
    return None if cells is None else pa.array(cells.to_list(), TEXT)
