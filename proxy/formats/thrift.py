"""Just enough of Thrift's compact protocol to read the head of a Parquet page.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

_MOST_DEPTH: Final = 8
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)

Fields: TypeAlias = Mapping[int, "int | Fields"]
"""The integers and structs of a struct, by field; others are passed over."""


class Malformed(Exception):
    """The bytes are no struct; holds no data."""


class Short(Exception):
    """The bytes end before the struct does; holds no data."""


def struct(data: bytes) -> tuple[Fields, int]:
    """The struct at the beginning of `data`, and where it ends; raises Malformed or Short."""
    return _struct(data, 0, _MOST_DEPTH)


def _struct(data: bytes, at: int, depth: int) -> tuple[Fields, int]:
    if not depth:
        raise Malformed
    fields: dict[int, int | Fields] = {}
    number = 0
    while True:
        head, at = _byte(data, at)
        if not head:
            return fields, at
        kind, step = head & 0xF, head >> 4
        if step:
            number += step
        else:
            number, at = _integer(data, at)
        if number in fields:
            raise Malformed
        found, at = _value(data, at, kind, depth)
        fields[number] = found


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[int | Fields, int]:
    if kind in (_TRUE, _FALSE):
        return int(kind == _TRUE), at
    if kind == _BYTE:
        return _byte(data, at)
    if kind in (_I16, _I32, _I64):
        return _integer(data, at)
    if kind == _DOUBLE:
        return {}, at + 8
    if kind == _BINARY:
        size, at = _varint(data, at)
        return {}, at + size
    if kind == _STRUCT:
        return _struct(data, at, depth - 1)
    raise Malformed  # no page's head has lists or maps


def _byte(data: bytes, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise Short
    return data[at], at + 1


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte, at = _byte(data, at)
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise Malformed


def _integer(data: bytes, at: int) -> tuple[int, int]:
    number, at = _varint(data, at)
    return (number >> 1) ^ -(number & 1), at
