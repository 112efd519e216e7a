"""The messages of an Arrow IPC stream, cut out of bytes that come in pieces, and judged by their heads.

https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format :

    FF FF FF FF   size of the head (4 bytes)   head: a flatbuffer `Message`   body
    FF FF FF FF   00 00 00 00                                                 the end of the stream

What a message takes once it is decompressed is known from its head and the first bytes of its buffers,
so that nothing is given to the library which could become more than the limits say.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from proxy.formats.base import Limits, refused
from proxy.formats.flatbuffer import Malformed, Table

_NOTHING: Final = memoryview(b"")
_CONTINUATION: Final = b"\xff\xff\xff\xff"
_PREFIX: Final = 8
_LENGTH: Final = struct.Struct("<i")
_UNCOMPRESSED: Final = struct.Struct("<q")
_PER_ROW: Final = 16
"""Bytes that a row takes to be counted and cut, even where it has no column."""
_PLAIN: Final = -1
"""What stands instead of a buffer's length where it is not compressed in spite of all."""


class Kind(IntEnum):
    """What a message holds: Message.fbs, `MessageHeader`."""

    SCHEMA = 1
    DICTIONARY = 2
    RECORDS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message, whole."""

    kind: Kind
    data: memoryview
    """All of it, with what stands before the head."""
    size: int
    """Bytes that it takes once it is decompressed, with what its rows take to be counted and cut."""
    dictionary: int = 0
    """Which dictionary it holds."""
    adds: bool = False
    """Whether that is more of a dictionary, and no new one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Head:
    table: Table
    start: int
    """Where the body begins."""
    end: int


class Messages:
    """Bytes cut anywhere -> whole messages."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = bytearray()
        """What came and is not part of `_data` yet."""
        self._head: _Head | None = None
        self._data = _NOTHING
        """The message of that head, of its full length; of a long one, memory is used as it comes."""
        self._filled = 0
        self.ended = False
        """Whether the end of the stream has come."""

    def cut(self, block: bytes) -> Iterator[Message]:
        """The messages that `block` completes; raises SourceRefused."""
        self._held += block
        while not self.ended:
            if self._head is None:
                self._head = self._next()
                if self._head is None:
                    break
                self._data, self._filled = np.empty(self._head.end, np.uint8).data, 0
            head = self._head
            if not self._fill(head.end):
                break
            data, self._data, self._head = self._data, _NOTHING, None
            message = _checked(data, head, self._limits)
            if message is None:
                raise refused("arrow-malformed")
            yield message
        if self.ended and self._held:
            raise refused("arrow-malformed")

    def _fill(self, end: int) -> bool:
        """Move what came of the message to it; whether that is all of it."""
        some = min(len(self._held), end - self._filled)
        with memoryview(self._held) as held:
            self._data[self._filled : self._filled + some] = held[:some]
        del self._held[:some]
        self._filled += some
        return self._filled == end

    def _next(self) -> _Head | None:
        """The next message's head; None where it is not there yet, or the stream has ended."""
        held = self._held
        if not _CONTINUATION.startswith(held[:4]):
            raise refused("arrow-malformed")
        if len(held) < _PREFIX:
            return None
        (size,) = _LENGTH.unpack_from(held, 4)
        if size < 0:
            raise refused("arrow-malformed")
        if size == 0:
            self.ended = True
            del held[:_PREFIX]
            return None
        if size > self._limits.footer_bytes:
            raise refused("envelope-too-large")
        start = _PREFIX + size
        if len(held) < start:
            return None
        found = _body_of(bytes(held[_PREFIX:start]))
        if found is None:
            raise refused("arrow-malformed")
        table, body = found
        if body > self._limits.row_group_bytes:
            raise refused("row-group-too-large")
        return _Head(table=table, start=start, end=start + body)


def _body_of(head: bytes) -> tuple[Table, int] | None:
    """The head's table and the length of its body; None where it is malformed."""
    try:
        table = Table.root(head)
        body = table.int64(3)
    except Malformed:
        return None
    return (table, body) if body >= 0 else None


def _checked(data: memoryview, head: _Head, limits: Limits) -> Message | None:
    """The message, if it is one of those that a stream has; None where it is malformed."""
    try:
        kind, table = head.table.byte(1), head.table.table(2)
        if table is None:
            return None
        if kind == Kind.SCHEMA:
            if table.int16(0):
                raise refused("big-endian")
            return Message(kind=Kind.SCHEMA, data=data, size=0)
        records = table.table(1) if kind == Kind.DICTIONARY else table
        if records is None or kind not in (Kind.DICTIONARY, Kind.RECORDS):
            return None
        size, rows = _size(data, head, records), records.int64(0)
        if size is None or rows < 0:
            return None
        if max(size, rows * _PER_ROW) > limits.row_group_bytes:
            raise refused("row-group-too-large")
        if kind == Kind.RECORDS:
            return Message(kind=Kind.RECORDS, data=data, size=size + rows * _PER_ROW)
        return Message(
            kind=Kind.DICTIONARY,
            data=data,
            size=size + rows * _PER_ROW,
            dictionary=table.int64(0),
            adds=bool(table.byte(2)),
        )
    except Malformed:
        return None


def _size(data: memoryview, head: _Head, records: Table) -> int | None:
    """Bytes of the buffers once they are decompressed; None where one is outside the body."""
    compressed = records.table(3) is not None
    length, total = head.end - head.start, 0
    for start, size in records.pairs(2):
        if start < 0 or size < 0 or start + size > length:
            return None
        if compressed and size:
            if size < _UNCOMPRESSED.size:
                return None
            (stated,) = _UNCOMPRESSED.unpack_from(data, head.start + start)
            if stated < _PLAIN:
                return None
            size = stated if stated != _PLAIN else size  # noqa: PLW2901 - what it becomes
        total += size
    return total
