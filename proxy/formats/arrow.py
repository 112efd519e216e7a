"""Arrow IPC streams <-> record batches.

A stream has to end with its end-of-stream marker: without it nobody knows whether it is whole. Each
record batch is read by itself, with the dictionaries that are in force, so that some are read at once.

What is given is uncompressed (an answer's content coding is another matter), without dictionaries.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

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


class ArrowDecoder(Decoder):
    """Arrow IPC stream -> batches of the columns in `reads`."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self._reading = reading
        self._fields = reading.report.fields
        self._limits = reading.limits
        self._messages = Messages(reading.limits)
        self._expansion = Expansion(reading.limits)
        self._schema = b""
        self._source: Source | None = None
        self._dictionaries: dict[int, list[Message]] = {}

    def _cut(self, block: bytes) -> list[Work]:
        self._expansion.grow(len(block))
        return [work for message in self._messages.cut(block) for work in self._take(message)]

    def _finish(self) -> Iterator[Work]:
        if self._source is None or not self._messages.ended:
            raise refused("truncated")
        return iter(())

    def _take(self, message: Message) -> Iterator[Work]:
        source = self._source
        if (message.kind is Kind.SCHEMA) is not (source is None):
            raise refused("arrow-malformed")
        if source is None:
            self._source = self._open(message)
            return
        if message.kind is Kind.DICTIONARY:
            known = self._dictionaries.setdefault(message.dictionary, [])
            if not message.adds:
                known.clear()
            known.append(message)
            if self._held() > self._limits.row_group_bytes:
                raise refused("row-group-too-large")
            return
        dictionaries = [each.data for known in self._dictionaries.values() for each in known]
        self._expansion.spend(message.size + message.rows + self._held())
        stream = b"".join((self._schema, *dictionaries, message.data))
        yield self._later(partial(_read, source, stream))

    def _held(self) -> int:
        """What all dictionaries take."""
        every = (each for known in self._dictionaries.values() for each in known)
        return sum(len(each.data) + each.size for each in every)

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


def _read(source: Source, stream: bytes) -> list[Batch]:
    """The records of a stream of one record batch; raises SourceRefused."""
    wanted = sorted(source.places.values()) or [0]  # no number would mean all of them
    options = pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)

    def read() -> Any:
        with pa.ipc.open_stream(pa.py_buffer(stream), options=options) as reader:
            return reader.read_next_batch()

    return list(source.batches(by_library(read, "arrow-malformed")))


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
