"""Records of a CSV block, proved well-formed: columns and runs of columns are cut out when asked for."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.compute as pc

from proxy.batch import Unread
from proxy.few import Cells
from proxy.formats import pieces
from proxy.formats.bits import Bytes
from proxy.formats.csv_text import Scan
from proxy.kernels import Places, Span
from proxy.texts import Coded, Texts, texts, with_nulls
from proxy.texts import column as column_of

_QUOTE, _CR = b'"\r'


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What the header says of the records under it."""

    delimiter: str
    width: int
    wanted: Mapping[str, int]
    """Field -> its place in a record."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """The records of one block, all with as many fields as the header."""

    text: bytes
    found: Scan
    width: int
    first: int
    """Where the first record begins."""

    @cached_property
    def data(self) -> Bytes:
        """The block's bytes."""
        return np.frombuffer(self.text, np.uint8)

    @cached_property
    def field_ends(self) -> npt.NDArray[np.uint32]:
        """(records, fields): what ends each field."""
        return self.found.field_ends()[self.first > 0 :]

    @cached_property
    def starts(self) -> Places:
        """Where each record begins."""
        starts = np.empty(len(self.field_ends), np.uint32)
        starts[:1] = self.first
        np.add(self.field_ends[:-1, -1], 1, out=starts[1:])
        return starts


@dataclass(frozen=True, kw_only=True, eq=False)
class Lines(Unread):
    """Some records and some columns of a block."""

    _block: _Block
    _rows: npt.NDArray[np.intp] | None
    """The numbers of the records in question; None for all."""
    _places: Mapping[str, int]
    _names: Collection[str]
    """The columns in question."""
    _delimiter: str
    _ends: dict[int, Places]
    """By place, where that field ends in the records in question, as far as known."""

    @classmethod
    def of(cls, header: Header, text: bytes, found: Scan, *, first: int) -> Lines:
        """All records of a block from offset `first` on: all, or all but the first."""
        block = _Block(text=text, found=found, width=header.width, first=first)
        return cls(
            _block=block,
            _rows=None,
            _places=header.wanted,
            _names=header.wanted.keys(),
            _delimiter=header.delimiter,
            _ends={},
        )

    @property
    def names(self) -> Collection[str]:
        """The columns in question."""
        return self._names

    def written_as(self, delimiter: str) -> bool:
        """Whether each field stands as an encoder with that delimiter would write it."""
        return delimiter == self._delimiter and not self._block.found.needless

    def read(self, names: Sequence[str]) -> dict[str, Cells]:
        """Quotes are taken off; null is a field without anything."""
        return {name: column_of(self.texts(name)) for name in names}

    def where(self, keep: Cells) -> Lines:
        """The records where `keep` is true."""
        assert isinstance(keep, pl.Series)
        rows = np.flatnonzero(keep.to_numpy())
        ends = {place: ends[rows] for place, ends in self._ends.items()}
        return replace(self, _rows=rows if self._rows is None else self._rows[rows], _ends=ends)

    def only(self, names: Collection[str]) -> Lines:
        """The columns of these names."""
        return replace(self, _names=names)

    def span(self, first: str, last: str) -> Span:
        """All from one field to another that is not before it."""
        return self._start(self._places[first]), self._end(self._places[last])

    def until(self, first: str, other: str) -> Span:
        """All from one field to where another that comes after it begins."""
        return self._start(self._places[first]), self._start(self._places[other])

    def between(self, field: str, other: str) -> bytes | None:
        """The delimiter, where `other` comes right after `field`."""
        follows = self._places.get(other) == self._places[field] + 1
        return self._delimiter.encode() if follows else None

    @property
    def data(self) -> Bytes:
        """The block."""
        return self._block.data

    def firsts(self, name: str) -> Bytes:
        """The first byte of each text of a field; a NUL where there is none."""
        data, place = self._block.data, self._places[name]
        starts = self._start(place)
        found: Bytes = np.where(starts == self._end(place), np.uint8(0), data[starts])
        # What stands after a quote that opens is text, or the quote that closes.
        return np.where(found == _QUOTE, data[np.minimum(starts + 1, len(data) - 1)], found)

    def texts(self, name: str) -> Texts:
        """The same of one field, as Arrow has it."""
        return self._cut(*self.span(name, name))

    def numbered(self, name: str) -> Coded | None:
        """The same with each distinct cell once."""
        starts, ends = self.span(name, name)
        found = pieces.numbered(self._block.data, (starts, ends))
        if found is None:
            return None
        codes, firsts = found
        coded = Coded(self._cut(starts[firsts], ends[firsts]), codes)
        # What has quotes without need of them may be equal to what has none.
        return coded.apart() if self._block.found.needless else coded

    def _cut(self, starts: Places, ends: Places) -> Texts:
        """The texts of some fields."""
        block = self._block
        void = starts == ends
        if block.found.quoted and (quoted := block.data[starts] == _QUOTE).any():
            cells = pieces.cut(block.data, (starts + quoted, ends - quoted))
            if pieces.has_pair(cells, _QUOTE):
                cells = pc.replace_substring(cells, '""', '"')
        else:
            cells = pieces.cut(block.data, (starts, ends))
        return with_nulls(cells, void) if void.any() else cells

    def _start(self, place: int) -> Places:
        """Where each record's field of that place begins."""
        if place:
            return self._end(place - 1) + 1
        starts = self._block.starts
        return starts if self._rows is None else starts[self._rows]

    def _end(self, place: int) -> Places:
        """Where each record's field of that place ends."""
        known = self._ends.get(place)
        if known is None:
            known = self._ends[place] = self._find_end(place)
        return known

    def _find_end(self, place: int) -> Places:
        block, rows = self._block, self._rows
        column = block.field_ends[:, place]
        ends: Places = np.ascontiguousarray(column) if rows is None else column[rows]
        if place == block.width - 1 and block.found.returns:
            # A block may begin with a line feed: what is before it is in no record.
            ends = ends - (block.data[np.maximum(ends, 1) - 1] == _CR)
        return ends


def quoted(written: Texts, delimiter: str) -> Texts:
    """A column as it is written: what needs quotes has them."""
    special = f'"\r\n{delimiter}'
    if not pieces.has_any(written, special.encode()):
        return written
    cells = column_of(written)
    needed = cells.str.contains(f"[{re.escape(special)}]") | (cells == "")
    anew = '"' + cells.str.replace_all('"', '""', literal=True) + '"'
    return texts(cells.zip_with(~needed, anew))
