"""Just enough of FlatBuffers to look into a message before it is given to a library.

https://flatbuffers.dev/internals/ : a table begins with the distance back to its vtable, which says where
each field stands in it, 0 for one that is not there. Everything is little-endian.
"""

from __future__ import annotations

import struct
from typing import Final

_UINT16: Final = struct.Struct("<H")
_INT16: Final = struct.Struct("<h")
_UINT32: Final = struct.Struct("<I")
_INT32: Final = struct.Struct("<i")
_INT64: Final = struct.Struct("<q")


class Malformed(Exception):
    """A place is outside the buffer; holds no data."""


def _read(layout: struct.Struct, data: bytes, at: int) -> int:
    if not 0 <= at <= len(data) - layout.size:
        raise Malformed
    number: int = layout.unpack_from(data, at)[0]
    return number


class Table:
    """A table in a buffer; every look at it may raise Malformed."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._layout = at - _read(_INT32, data, at)
        self._size = _read(_UINT16, data, self._layout)

    @classmethod
    def root(cls, data: bytes) -> Table:
        """The outermost table."""
        return cls(data, _read(_UINT32, data, 0))

    def _place(self, number: int) -> int | None:
        """Where a field stands; None where it is not there."""
        slot = 4 + 2 * number
        if slot + 2 > self._size:
            return None
        offset = _read(_UINT16, self._data, self._layout + slot)
        return self._at + offset if offset else None

    def _number(self, number: int, layout: struct.Struct) -> int:
        at = self._place(number)
        return 0 if at is None else _read(layout, self._data, at)

    def byte(self, number: int) -> int:
        """A field of 8 bits; 0 where it is not there."""
        at = self._place(number)
        if at is None:
            return 0
        if not 0 <= at < len(self._data):
            raise Malformed
        return self._data[at]

    def int16(self, number: int) -> int:
        """A field of 16 bits; 0 where it is not there."""
        return self._number(number, _INT16)

    def int64(self, number: int) -> int:
        """A field of 64 bits; 0 where it is not there."""
        return self._number(number, _INT64)

    def table(self, number: int) -> Table | None:
        """A table that a field leads to."""
        at = self._place(number)
        return None if at is None else Table(self._data, at + _read(_UINT32, self._data, at))

    def pairs(self, number: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit numbers."""
        at = self._place(number)
        if at is None:
            return []
        at += _read(_UINT32, self._data, at)
        count = _read(_UINT32, self._data, at)
        if count * 16 > len(self._data) - at - 4:
            raise Malformed
        numbers = struct.unpack_from(f"<{2 * count}q", self._data, at + 4)
        return [*zip(numbers[::2], numbers[1::2], strict=True)]
