"""The pages of a Parquet file, judged by their heads: what reading them will take.

https://parquet.apache.org/docs/file-format/data-pages/ . The footer may say anything of a column's size;
what a reader makes room for is what the head of each page says. So each is looked at before it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from proxy.formats.thrift import Compact, Malformed, Short

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


_BY_LENGTHS: Final = frozenset({Encoding.DELTA_LENGTH_BYTE_ARRAY, Encoding.DELTA_BYTE_ARRAY})


class _Kind(IntEnum):
    DATA = 0
    INDEX = 1
    DICTIONARY = 2
    DATA_V2 = 3


_DETAILS: Final[dict[int, int]] = {_Kind.DATA: 5, _Kind.DICTIONARY: 7, _Kind.DATA_V2: 8}
"""Which field of the head tells of such a page."""
_ENCODING_AT: Final = {5: 2, 7: 2, 8: 4}
"""Which of that one's fields is the encoding."""


class _Head(NamedTuple):
    """The head of a page."""

    kind: _Kind
    stated: int
    """Bytes, uncompressed."""
    stored: int
    """Bytes in the file."""
    values: int
    encoding: int


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
    """The pages from `start` on, up to the one with the last value; raises Malformed."""
    total = largest = dictionary = held = 0
    encodings = set()
    for head in _pages(read, start, start + size, values):
        takes = head.stated + head.stored
        if head.kind is _Kind.DICTIONARY:
            dictionary += takes + head.values * _PER_VALUE
        else:
            encodings.add(head.encoding)
            held = max(held, takes + head.values * _PER_VALUE * (head.encoding in _BY_LENGTHS))
        largest = max(largest, head.stated)
        total += head.stated
    return Chunk(
        held=held + dictionary, total=total, largest=largest, encodings=frozenset(encodings)
    )


def _pages(read: Read, at: int, end: int, values: int) -> Iterator[_Head]:
    """The pages' heads."""
    while values > 0:
        head, length = _head(read, at, end)
        at += length + head.stored
        if at > end:
            raise Malformed
        if head.kind is not _Kind.DICTIONARY:
            values -= head.values
        yield head


def _head(read: Read, at: int, end: int) -> tuple[_Head, int]:
    for most in _HEADS:
        compact = Compact(read(at, min(most, end - at)))
        try:
            return _read_head(compact), compact.at
        except Short:
            continue
    raise Malformed


def _read_head(compact: Compact) -> _Head:
    found: dict[int, int] = {}
    details: dict[int, tuple[int, int]] = {}
    for number, kind in compact.fields():
        if number in (1, 2, 3):
            found[number] = compact.integer(kind)
        elif number in _ENCODING_AT:
            details[number] = compact.struct(kind, partial(_details, number))
        else:
            compact.skip(kind)
    place = _DETAILS.get(found.get(1, -1))
    stated, stored = found.get(2, -1), found.get(3, -1)
    if place not in details or min(stated, stored) < 0:
        raise Malformed
    values, encoding = details[place]
    return _Head(_Kind(found[1]), stated, stored, values, encoding)


def _details(place: int, compact: Compact) -> tuple[int, int]:
    """How many values a page has, and their encoding."""
    values = encoding = -1
    for number, kind in compact.fields():
        if number == 1:
            values = compact.integer(kind)
        elif number == _ENCODING_AT[place]:
            encoding = compact.integer(kind)
        else:
            compact.skip(kind)
    if min(values, encoding) < 0:
        raise Malformed
    return values, encoding
