"""Pieces of text, by the offsets at which they begin and end: cut out of a block, and put together.

Each piece is moved once, by `kernels`, whether a column is made of them or a record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from proxy import kernels
from proxy.batch import REPEATS
from proxy.formats.bits import Bytes
from proxy.kernels import Places, Span
from proxy.texts import TEXT, Coded, Texts, content

Part: TypeAlias = int | bytes | Texts | Coded
"""Of each record one of some spans, by its number; the same text; or a text each, null for nothing."""


class Source(Protocol):
    """Records of a block in which fields stand that pass as they are."""

    @property
    def data(self) -> Bytes:
        """The block."""

    def span(self, first: str, last: str) -> Span:
        """All from one field to another that is not before it."""

    def until(self, first: str, other: str) -> Span:
        """All from one field to where another that comes after it begins."""

    def between(self, field: str, other: str) -> bytes | None:
        """What stands between two fields in each record; None where they are no neighbours."""


Column: TypeAlias = bytes | Texts | Coded | None
"""A field: as it stands in the source, the same text in each record, or a text each (null for nothing)."""


def cut(data: Bytes, span: Span) -> Texts:
    """The pieces of some UTF-8 text."""
    places, text = kernels.cut(data, span)
    buffers = [None, pa.py_buffer(places), pa.py_buffer(text)]
    return pa.Array.from_buffers(TEXT, len(places) - 1, buffers)


def numbered(data: Bytes, span: Span) -> tuple[Places, Places] | None:
    """Which of the distinct pieces each is, and the place of the first of each; None if they are too many."""
    return kernels.numbered(data, span, most=len(span[0]) // REPEATS)


def has_any(cells: Texts, characters: bytes) -> bool:
    """Whether one of some ASCII characters is in any cell, or a cell is the empty text."""
    places, data = content(cells)
    empty = places[1:] == places[:-1]
    if cells.null_count:  # under a null there may be anything
        empty &= cells.is_valid().to_numpy(zero_copy_only=False)
    if empty.any():
        return True
    return any((data == character).any() for character in characters)


def has_pair(cells: Texts, character: int) -> bool:
    """Whether an ASCII character stands twice in a row, in a cell or where one meets the next."""
    _, data = content(cells)
    found = data == character
    return bool((found[1:] & found[:-1]).any())


def together(data: Bytes, spans: Sequence[Span], parts: Sequence[Part], height: int) -> bytes:
    """`height` records, each its `parts` in turn."""
    found: list[kernels.Part] = []
    for part in parts:
        if isinstance(part, int):
            found.append(kernels.spans(data, *spans[part]))
        elif isinstance(part, bytes):
            found.append(kernels.same(part))
        else:
            cells = part.distinct if isinstance(part, Coded) else part
            if cells.null_count:  # under a null there may be anything
                cells = pc.fill_null(cells, "")
            places, text = content(cells)
            if isinstance(part, Coded):
                found.append(kernels.coded(text, places, part.codes))
            else:
                found.append(kernels.texts(text, places))
    return kernels.weave(found, height)


@dataclass(slots=True)
class _Run:
    """Fields that stand in the source as they have to stand, one after the other: one piece of it."""

    first: str
    last: str
    until: str | None = None
    """The field up to which the piece goes on: what leads to it stands there too."""

    def span(self, source: Source) -> Span:
        if self.until is not None:
            return source.until(self.first, self.until)
        return source.span(self.first, self.last)


def woven(
    columns: Mapping[str, Column],
    leads: Sequence[bytes],
    tail: bytes,
    *,
    source: Source | None,
    height: int,
) -> bytes:
    """`height` records: each column, by its field, after what leads to it, and the tail."""
    runs: list[_Run] = []
    parts: list[Part] = []
    for (field, column), lead in zip(columns.items(), leads, strict=True):
        # What leads to a field stands in the source where that is right before it in both documents.
        follows = (
            source is not None
            and bool(parts)
            and isinstance(parts[-1], int)
            and source.between(runs[-1].last, field) == lead
        )
        if column is not None:
            if follows:
                runs[-1].until = field
            parts += [column] if follows else [lead, column]
        elif follows:
            runs[-1].last = field
        else:
            parts += [lead, len(runs)]
            runs.append(_Run(field, field))
    spans = [run.span(source) for run in runs] if source is not None else []
    data = np.empty(0, np.uint8) if source is None else source.data
    return together(data, spans, [*_joined([*parts, tail])], height)


def _joined(parts: Sequence[Part]) -> Iterator[Part]:
    """The parts, bytes that follow one another or distinct texts as one with these."""
    held: Part = b""
    for part in parts:
        if not isinstance(part, bytes):
            if held != b"":
                yield held
            held = part
        elif isinstance(held, bytes):
            held += part
        elif isinstance(held, Coded) and part:
            held = _followed(held, part)
        elif part:
            yield held
            held = part
    if held != b"":
        yield held


def _followed(column: Coded, text: bytes) -> Coded:
    """Each cell with that text after it."""
    cells = pc.fill_null(column.distinct, "")
    after = pa.scalar(text.decode(), TEXT)
    return Coded(pc.binary_join_element_wise(cells, after, pa.scalar("", TEXT)), column.codes)
