"""Arrow IPC streams <-> record batches.

A stream has to end with its end-of-stream marker: without it nobody knows whether it is whole. Each
record batch is read by itself, with the dictionaries that are in force, so that some are read at once.

What is given is uncompressed (an answer's content coding is another matter), without dictionaries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import pyarrow as pa

from proxy.batch import PLAIN, Batch
from proxy.formats.arrow_messages import Kind, Message, Messages
from proxy.formats.arrow_rows import TypedEncoder
from proxy.formats.arrow_source import Source, by_library
from proxy.formats.arrow_types import written
from proxy.formats.base import (
    Columns,
    Decoder,
    Expansion,
    Format,
    Reading,
    Work,
    refused,
)
from proxy.report import Dialect, FormatName

_AT_ONCE: Final = 4 << 20
"""Bytes of records from which on no more are read together."""

_MUCH: Final = 16 << 20
"""Bytes of records and dictionaries from which on no more than one reading of them is held."""
Data: TypeAlias = bytes | memoryview


class ArrowDecoder(Decoder):
    """Arrow IPC stream -> batches of the columns in `reads`."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self._reading = reading
        self._fields = reading.report.fields
        self._limits = reading.limits
        self._messages = Messages(reading.limits)
        self._expansion = Expansion(reading.limits)
        self._schema: Data = b""
        self._source: Source | None = None
        self._dictionaries: dict[int, list[Message]] = {}
        self._held = 0
        """What all dictionaries take."""

    def _cut(self, blocks: Sequence[bytes]) -> list[Work]:
        block = b"".join(blocks)
        self._expansion.grow(len(block))
        return [*self._works(self._messages.cut(block))]

    def _finish(self) -> Iterator[Work]:
        if self._source is None or not self._messages.ended:
            raise refused("truncated")
        return iter(())

    def _works(self, messages: Iterator[Message]) -> Iterator[Work]:
        """Records are read with all dictionaries that are in force: so some at once, and not each alone."""
        before: list[Data] = []
        some: list[Message] = []
        size = 0
        for message in messages:
            if (message.kind is Kind.SCHEMA) is not (self._source is None):
                raise refused("arrow-malformed")
            if self._source is None:
                self._source = self._open(message)
                continue
            if not some:
                before, size = [self._schema, *self._in_force()], self._held
            some.append(message)
            size += message.size
            if message.kind is Kind.DICTIONARY:
                self._remember(message)
            elif size - self._held >= _AT_ONCE:
                yield from self._work(self._source, before, some, size)
                some = []
        if self._source is not None and any(each.kind is Kind.RECORDS for each in some):
            yield from self._work(self._source, before, some, size)

    def _work(
        self, source: Source, before: Sequence[Data], some: Sequence[Message], size: int
    ) -> Iterator[Work]:
        """Some messages after the schema and the dictionaries in force; `size` is what all of it takes.

        What takes much is read here, and works are pieces of it: so it is held once, not for each work.
        """
        self._expansion.spend(size)
        count = sum(each.kind is Kind.RECORDS for each in some)
        read = partial(_read, source, [*before, *(each.data for each in some)], count)
        if size < _MUCH:
            yield self._later(read)
        else:
            yield from [partial(_given, batch) for batch in read()]

    def _in_force(self) -> Iterator[Data]:
        return (each.data for known in self._dictionaries.values() for each in known)

    def _remember(self, message: Message) -> None:
        known = self._dictionaries.setdefault(message.dictionary, [])
        if not message.adds:
            self._held -= sum(map(_takes, known))
            known.clear()
        known.append(message)
        self._held += _takes(message)
        if self._held > self._limits.row_group_bytes:
            raise refused("row-group-too-large")

    def _open(self, message: Message) -> Source:
        """Take the schema."""
        read = partial(pa.ipc.read_schema, pa.py_buffer(message.data))
        schema = by_library(read, "arrow-malformed")
        source = Source(schema, self._reading)
        given = frozenset(source.names)
        self._lacks(given, self._fields)
        if not self._reading.reads <= given:
            raise refused("column-missing")
        self._drift(source.names, self._fields)
        self.source_types = source.source_types
        self._schema = message.data
        return source


def _given(batch: Batch) -> list[Batch]:
    return [batch]


def _takes(dictionary: Message) -> int:
    return len(dictionary.data) + dictionary.size


class _Joined:
    """Bytes one after the other, as a file that pyarrow reads from without a copy; no read crosses two."""

    closed = False

    def __init__(self, parts: Sequence[Data]) -> None:
        self._parts = iter(parts)
        self._left = memoryview(b"")

    def read(self, size: int) -> memoryview:
        """The next bytes; fewer at the end of one."""
        if not self._left:
            self._left = memoryview(next(self._parts, b""))
        some, self._left = self._left[:size], self._left[size:]
        return some


def _read(source: Source, parts: Sequence[Data], count: int) -> list[Batch]:
    """The records of a stream of `count` record batches; raises SourceRefused."""
    wanted = sorted(source.places.values()) or [0]  # no number would mean all of them
    options = pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)

    def read() -> list[Any]:
        with pa.ipc.open_stream(pa.PythonFile(_Joined(parts), "r"), options=options) as reader:
            return [reader.read_next_batch() for _ in range(count)]

    found = by_library(read, "arrow-malformed")
    return [batch for each in found for batch in source.batches(each)]


class ArrowEncoder(TypedEncoder):
    """Batches -> Arrow IPC stream."""

    most_rows = 8 << 10
    most_bytes = 8 << 20

    def __init__(self, columns: Columns, dialect: Dialect) -> None:  # noqa: ARG002 - leaves nothing open
        """Raises ValueError without columns."""
        super().__init__(columns)
        self._writer: Any = None

    def _open(self) -> Any:
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._sink, self.schema)
        return self._writer

    def _write(self, division: Any) -> None:
        self._open().write_batch(division)

    def _close(self) -> None:
        self._open().close()


_MEDIA_TYPE: Final = "application/vnd.apache.arrow.stream"
ARROW: Final = Format(
    name=FormatName.ARROW,
    media_type=_MEDIA_TYPE,
    store_types=frozenset({_MEDIA_TYPE}),
    parameters={},
    block_size=2 << 20,
    written=written(),
    lexis=PLAIN,
    decoder=ArrowDecoder,
    encoder=ArrowEncoder,
    typed=True,
)
