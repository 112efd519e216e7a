"""What a Parquet file says of itself at its end, as far as it is needed before a library reads it.

https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift . pyarrow ends the
process where what a footer says of a column contradicts itself and somebody looks at it; so nobody looks
at pyarrow's view of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from proxy.formats.base import refused
from proxy.formats.thrift import Compact, Malformed

_REPEATED = 2
_MOST_DEPTH = 64


class Leaf(NamedTuple):
    """A column of the file: one that is in no other, and once a record, has a name of its own."""

    name: bytes
    plain: bool


class ChunkAt(NamedTuple):
    """Where a column of a row group is."""

    start: int
    size: int
    values: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A row group."""

    rows: int
    chunks: tuple[ChunkAt, ...]
    """In the order of the file's columns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footer:
    """The columns and row groups of a file."""

    leaves: tuple[Leaf, ...]
    groups: tuple[Group, ...]


class _Element(NamedTuple):
    name: bytes
    repeated: bool
    children: int


def footer_of(data: bytes, most: int) -> Footer:
    """The footer of a file with at most so many columns; raises SourceRefused."""
    try:
        found = _file(Compact(data), most)
    except Malformed:
        found = None
    if found is None:
        raise refused("parquet-malformed")
    return found


def _file(compact: Compact, most: int) -> Footer:
    elements: list[_Element] = []
    groups: list[Group] = []
    for number, kind in compact.fields():
        if number == 2:
            elements = list(compact.structs(kind, _element))
        elif number == 4:
            groups = list(compact.structs(kind, _group))
        elif number == 8:
            raise refused("encrypted")
        else:
            compact.skip(kind)
    leaves = tuple(_leaves(elements))
    if len(leaves) > most:
        raise refused("too-many-fields")
    if any(len(group.chunks) != len(leaves) for group in groups):
        raise Malformed
    return Footer(leaves=leaves, groups=tuple(groups))


def _element(compact: Compact) -> _Element:
    name, repeated, children = b"", False, 0
    for number, kind in compact.fields():
        if number == 3:
            repeated = compact.integer(kind) == _REPEATED
        elif number == 4:
            name = compact.binary(kind)
        elif number == 5:
            children = compact.integer(kind)
        else:
            compact.skip(kind)
    return _Element(name, repeated, children)


def _leaves(elements: list[_Element]) -> Iterator[Leaf]:
    """The columns in order; the elements are a tree, from its root on, depth first."""
    left: list[int] = []
    for place, element in enumerate(elements):
        if element.children < 0 or len(left) > _MOST_DEPTH or (place and not left):
            raise Malformed
        if place:
            left[-1] -= 1
        if element.children:
            left.append(element.children)
        elif place:
            yield Leaf(element.name, len(left) == 1 and not element.repeated)
        while left and not left[-1]:
            left.pop()
    if left:
        raise Malformed


def _group(compact: Compact) -> Group:
    chunks: tuple[ChunkAt, ...] = ()
    rows = -1
    for number, kind in compact.fields():
        if number == 1:
            chunks = tuple(compact.structs(kind, _chunk))
        elif number == 3:
            rows = compact.integer(kind)
        else:
            compact.skip(kind)
    if rows < 0:
        raise Malformed
    return Group(rows=rows, chunks=chunks)


def _chunk(compact: Compact) -> ChunkAt:
    found: ChunkAt | None = None
    for number, kind in compact.fields():
        if number == 3:
            found = compact.struct(kind, _place)
        elif number == 1:  # another file
            raise Malformed
        elif number in (8, 9):
            raise refused("encrypted")
        else:
            compact.skip(kind)
    if found is None:
        raise Malformed
    return found


def _place(compact: Compact) -> ChunkAt:
    found = dict.fromkeys((5, 7, 9, 11), -1)
    for number, kind in compact.fields():
        if number in found:
            found[number] = compact.integer(kind)
        else:
            compact.skip(kind)
    values, size, data, dictionary = found.values()
    if min(values, size, data) < 0:
        raise Malformed
    start = dictionary if 0 < dictionary < data else data
    return ChunkAt(start, size, values)
