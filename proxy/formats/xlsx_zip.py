"""A zip package (PKWARE's APPNOTE) that is written while its parts come, and that has no time but 1980-01-01.

zipfile writes to such a place as well, but takes its own level and time for each kind of call, and raises
where one that was not finished is let go of; every answer that is cut off would be one.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

_VERSION: Final = 20
_DEFLATE: Final = 8
_LATER: Final = 8
"""The flag: sizes and check come after the part (§4.3.9)."""
_DATE: Final = 1 << 5 | 1
"""1980-01-01, in the format of MS-DOS."""
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_DESCRIPTOR: Final = struct.Struct("<4s3I")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")


class _Entry(NamedTuple):
    name: bytes
    start: int
    check: int
    packed: int
    size: int


class Zip:
    """One part after the other; `drain` gives what there is of the package and was not given before."""

    def __init__(self, *, level: int) -> None:
        self._level = level
        self._out = bytearray()
        self._given = 0
        self._entries: list[_Entry] = []
        self._name = b""
        self._start = 0
        self._check = 0
        self._size = 0
        self._data = 0
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)

    @property
    def _at(self) -> int:
        return self._given + len(self._out)

    def begin(self, name: str) -> None:
        """Begin a part, whose name is ASCII."""
        self._name, self._start, self._check, self._size = name.encode("ascii"), self._at, 0, 0
        self._deflate = zlib.compressobj(self._level, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._out += _LOCAL.pack(
            b"PK\3\4", _VERSION, _LATER, _DEFLATE, 0, _DATE, 0, 0, 0, len(self._name), 0
        )
        self._out += self._name
        self._data = self._at

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """More of the part."""
        self._check = zlib.crc32(data, self._check)
        self._size += len(data)
        self._out += self._deflate.compress(data)

    def end(self) -> None:
        """The part is complete."""
        self._out += self._deflate.flush()
        entry = _Entry(self._name, self._start, self._check, self._at - self._data, self._size)
        self._out += _DESCRIPTOR.pack(b"PK\7\10", entry.check, entry.packed, entry.size)
        self._entries.append(entry)

    def close(self) -> None:
        """The package is complete."""
        start = self._at
        for each in self._entries:
            self._out += _CENTRAL.pack(
                b"PK\1\2", _VERSION, _VERSION, _LATER, _DEFLATE, 0, _DATE, each.check, each.packed,
                each.size, len(each.name), 0, 0, 0, 0, 0, each.start,
            )  # fmt: skip
            self._out += each.name
        count = len(self._entries)
        self._out += _END.pack(b"PK\5\6", 0, 0, count, count, self._at - start, start, 0)

    def drain(self) -> bytes:
        """The package's next bytes."""
        out = bytes(self._out)
        self._given += len(out)
        self._out.clear()
        return out
