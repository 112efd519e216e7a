"""Just enough of Thrift's compact protocol to read what Parquet says of itself.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

_MOST_DEPTH: Final = 16
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _, _BINARY, _LIST, _, _, _STRUCT = range(1, 13)
_LONG: Final = 15
"""A list's size where it stands in a number of its own."""
T = TypeVar("T")


class Malformed(Exception):
    """The bytes are not what they should be; holds no data."""


class Short(Malformed):
    """The bytes end too early."""


class Compact:
    """A place in some bytes, from which values are read one after another; raises Malformed."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0
        """Where the next value begins."""

    def fields(self) -> Iterator[tuple[int, int]]:
        """A struct's fields, each once: number and kind; its value is read before the next is asked for."""
        number = 0
        seen = set()
        while head := self._byte():
            kind, step = head & 0xF, head >> 4
            number = number + step if step else self._zigzag()
            if number in seen:
                raise Malformed
            seen.add(number)
            yield number, kind

    def integer(self, kind: int) -> int:
        """An integer."""
        if kind not in (_I16, _I32, _I64):
            raise Malformed
        return self._zigzag()

    def binary(self, kind: int) -> bytes:
        """Some bytes."""
        if kind != _BINARY:
            raise Malformed
        size = self._varint()
        start = self.at
        self._pass(size)
        return self._data[start : self.at]

    def struct(self, kind: int, read: Callable[[Compact], T]) -> T:
        """A struct, by what reads its fields."""
        if kind != _STRUCT:
            raise Malformed
        return read(self)

    def structs(self, kind: int, read: Callable[[Compact], T]) -> Iterator[T]:
        """A list of structs."""
        if kind != _LIST:
            raise Malformed
        size, item = self._list()
        if item != _STRUCT:
            raise Malformed
        for _ in range(size):
            yield read(self)

    def skip(self, kind: int, depth: int = _MOST_DEPTH) -> None:
        """A value that nobody asks for."""
        if not depth:
            raise Malformed
        match kind:
            case 1 | 2:  # a Boolean is in its kind
                pass
            case 3:
                self._pass(1)
            case 4 | 5 | 6:
                self._varint()
            case 7:
                self._pass(8)
            case 8:
                self._pass(self._varint())
            case 9 | 10:
                size, item = self._list()
                for _ in range(size):
                    self._skip_item(item, depth)
            case 11:
                self._skip_map(depth)
            case 12:
                for _, each in self.fields():
                    self.skip(each, depth - 1)
            case 13:
                self._pass(16)
            case _:
                raise Malformed

    def _skip_item(self, kind: int, depth: int) -> None:
        self.skip(_BYTE if kind in (_TRUE, _FALSE) else kind, depth - 1)

    def _skip_map(self, depth: int) -> None:
        size = self._varint()
        kinds = self._byte() if size else 0
        for _ in range(size):
            self._skip_item(kinds >> 4, depth)
            self._skip_item(kinds & 0xF, depth)

    def _list(self) -> tuple[int, int]:
        head = self._byte()
        size = head >> 4
        return self._varint() if size == _LONG else size, head & 0xF

    def _pass(self, size: int) -> None:
        self.at += size
        if self.at > len(self._data):
            raise Short

    def _byte(self) -> int:
        if self.at >= len(self._data):
            raise Short
        byte = self._data[self.at]
        self.at += 1
        return byte

    def _varint(self) -> int:
        number = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise Malformed

    def _zigzag(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)
