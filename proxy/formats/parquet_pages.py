"""The pages of a Parquet file, judged by their heads: what reading them will take.

https://parquet.apache.org/docs/file-format/data-pages/ . The footer may say anything of a column's size;
what a reader makes room for is what the head of each page says. So each is looked at before it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from proxy.formats.thrift import Fields, Malformed, Short, struct

Read: TypeAlias = Callable[[int, int], bytes]
"""Some bytes of the file, from a place on."""
_HEADS: Final = (1 << 10, 64 << 10, 1 << 20)
"""How many bytes are looked at for a page's head, in turn."""
_PER_VALUE: Final = 16
"""Bytes beside a value that a dictionary, or an encoding by lengths, makes room for."""


class Encoding(IntEnum):
    """Of parquet.thrift; those that count here."""

    PLAIN_DICTIONARY = 2
    DELTA_LENGTH_BYTE_ARRAY = 6
    DELTA_BYTE_ARRAY = 7
    RLE_DICTIONARY = 8


class _Kind(IntEnum):
    DATA = 0
    INDEX = 1
    DICTIONARY = 2
    DATA_V2 = 3


_DETAILS: Final = {_Kind.DATA: (5, 2), _Kind.DICTIONARY: (7, 2), _Kind.DATA_V2: (8, 4)}
"""Which field of the head tells of such a page, and which of its fields is the encoding."""


class MalformedPages(Exception):
    """The pages are not to the letter what Parquet says; holds no data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A column of a row group, by the heads of its pages."""

    held: int
    """Bytes that are held at once of it: the largest page, compressed and not, and the dictionary."""
    total: int
    """Bytes of all its pages, uncompressed."""
    largest: int
    """Bytes of the largest page, uncompressed."""
    encodings: frozenset[int]


def chunk_of(read: Read, start: int, size: int, values: int) -> Chunk:
    """The pages from `start` on, up to the one with the last value; raises MalformedPages."""
    total = largest = dictionary = held = 0
    encodings = set()
    for kind, stated, stored, count, encoding in _pages(read, start, start + size, values):
        takes = stated + stored
        if kind is _Kind.DICTIONARY:
            dictionary += takes + count * _PER_VALUE
        else:
            encodings.add(encoding)
            lengths = encoding in (Encoding.DELTA_BYTE_ARRAY, Encoding.DELTA_LENGTH_BYTE_ARRAY)
            held = max(held, takes + lengths * count * _PER_VALUE)
        largest = max(largest, stated)
        total += stated
    return Chunk(
        held=held + dictionary, total=total, largest=largest, encodings=frozenset(encodings)
    )


def _pages(
    read: Read, at: int, end: int, values: int
) -> Iterator[tuple[_Kind, int, int, int, int]]:
    """Each page's kind, size, compressed size, number of values and encoding."""
    while values > 0:
        head, length = _head(read, at, end)
        kind, stated, stored = (_number(head, field) for field in (1, 2, 3))
        if kind not in _DETAILS or min(stated, stored) < 0:
            raise MalformedPages
        place, encoding = _DETAILS[_Kind(kind)]
        details = head.get(place)
        if not isinstance(details, dict):
            raise MalformedPages
        count = _number(details, 1)
        if count < 0:
            raise MalformedPages
        at += length + stored
        if at > end:
            raise MalformedPages
        if kind != _Kind.DICTIONARY:
            values -= count
        yield _Kind(kind), stated, stored, count, _number(details, encoding)


def _head(read: Read, at: int, end: int) -> tuple[Fields, int]:
    for most in _HEADS:
        data = read(at, min(most, end - at))
        try:
            head, length = struct(data)
        except Short:
            continue
        except Malformed:
            break
        if length <= len(data):
            return head, length
    raise MalformedPages


def _number(fields: Fields, number: int) -> int:
    found = fields.get(number)
    if not isinstance(found, int):
        raise MalformedPages
    return found
