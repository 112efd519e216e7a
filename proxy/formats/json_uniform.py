"""Records that are written alike: the same members, in the same order, with the same white space.

Programs write JSON so. Where it holds for a block, each member of each record is found by the commas
and braces that stand outside strings, and its name proved by comparing bytes, without a parser; where
it does not, the block is read member by member instead (json_records.py). A document's first records say
how the others are likely to be written: then one pass of `kernels` finds and proves them (`again`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from proxy import kernels
from proxy.batch import Unread
from proxy.few import Cells
from proxy.formats import bits, pieces
from proxy.formats.base import Limits
from proxy.formats.bits import Bytes, Offsets
from proxy.formats.json_text import WHITESPACE, Scan, strict
from proxy.kernels import Alike, Span
from proxy.texts import Coded, Texts, column, with_nulls

Places = npt.NDArray[np.intp] | npt.NDArray[np.uint32]
"""(members, records)"""

_LEAD: Final = re.compile(rb'[ \t\n\r]*+("(?:[^"\\]|\\.)*+")[ \t\n\r]*+:[ \t\n\r]*+', re.DOTALL)
"""What stands before a value. Possessive: time grows with the text, whatever it holds."""
_WORD: Final = 8
_SPACE: Final = ord(" ")
"""White space is no greater, and what begins or ends a value is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Members:
    """Where the value of each member of each record stands in a buffer."""

    names: tuple[str, ...]
    starts: Places
    ends: Places
    leads: tuple[bytes, ...]
    """What stands before each value, from the brace or the value before it on; and after the last one."""


def members(buffer: bytes, start: int, cut: int, found: Scan, limits: Limits) -> Members | None:
    """The members of the records in `buffer[start:cut]`, which is JSON; None where it has to be parsed.

    So it is where records differ, hold containers, or have names, numbers or sizes that need a look.
    """
    height = len(found.ends)
    if found.deepest != 1:
        return None
    data = np.frombuffer(buffer, np.uint8)
    marks = _within(bits.offsets(found.commas | found.closes), start, cut)
    width = int(np.searchsorted(marks, found.ends[0] - 1)) + 1
    if len(marks) != height * (width + 1) - 1 or width > limits.fields:
        return None
    # Of each record: its members' ends, the last one's at the brace, and the comma after it.
    ends = np.ascontiguousarray(np.append(marks, cut).reshape(height, width + 1)[:, :width].T)
    if not np.array_equal(ends[-1], found.ends - 1):
        return None
    starts = np.empty_like(ends)
    # No record holds a container, so the first brace after a record's end opens the next one.
    starts[0, 0] = start
    starts[0, 1:] = found.ends[:-1]
    starts[0] = bits.next_set(found.opens, starts[0]) + 1
    starts[1:] = ends[:-1] + 1

    names, leads, after, trail = [], [], b"{", b""
    for index in range(width):
        end = int(ends[index, 0])
        matched = _LEAD.match(buffer, int(starts[index, 0]), end)
        if matched is None:
            return None
        lead, name = matched[0], matched[1]
        value = buffer[matched.end() : end]
        trail = value[len(value.rstrip(WHITESPACE)) :]
        names.append(str(strict(name, limits)))
        ends[index] -= len(trail)
        if not (_equal(data, starts[index], lead) and _equal(data, ends[index], trail)):
            return None
        starts[index] += len(lead)
        leads.append(after + lead)
        after = trail + b","
    lengths = ends - starts
    if len(set(names)) != width or int(lengths.min()) <= 0:
        return None
    kinds = data[starts]
    if int(kinds.min()) <= _SPACE or int(data[ends - 1].min()) <= _SPACE:
        return None
    if int(lengths.max()) > limits.number_length:
        numbers = (kinds >= ord("-")) & (kinds <= ord("9"))
        if int(np.where(numbers, lengths, 0).max()) > limits.number_length:
            return None
    # The only letters E outside strings are those of `true` and `false`, or a number has an exponent.
    letters = found.outside & bits.pack((data == ord("e")) | (data == ord("E")))
    literals = int(((kinds == ord("t")) | (kinds == ord("f"))).sum())
    # The record's brace is none; what stands after it may be nothing at all.
    if int(bits.counts_before(letters, np.array([cut - 1]))[0]) != literals:
        return None
    return Members(names=tuple(names), starts=starts, ends=ends, leads=(*leads, trail + b"}"))


def likely(buffer: bytes, found: Members) -> Alike:
    """How further records are likely to be written: as the first of those that were `found`."""
    between = b","
    if found.ends.shape[1] > 1:
        last, following = int(found.ends[-1, 0]), int(found.starts[0, 1])
        between = buffer[last + len(found.leads[-1]) : following - len(found.leads[0])]
    return Alike(leads=found.leads, between=between)


@dataclass(frozen=True, kw_only=True, slots=True)
class Again:
    """Records that are written as those before them."""

    members: Members
    cut: int
    """Where the last one ends."""
    longest: int
    """Bytes of the longest one, with what is between it and the one before."""
    open: bool
    """Whether what follows may be the beginning of another one; else it is something else."""


def again(
    buffer: bytes, start: int, names: tuple[str, ...], alike: Alike, limits: Limits
) -> Again | None:
    """The members of the records from `start` on that are written `alike`; None without any."""
    found, starts, ends = kernels.json_alike(
        buffer, start, alike, longest_number=limits.number_length
    )
    if not found.records or not (found.ascii or kernels.is_utf8(buffer, found.cut)):
        return None
    return Again(
        members=Members(names=names, starts=starts, ends=ends, leads=alike.leads),
        cut=found.cut,
        longest=found.longest,
        open=found.ended == kernels.INCOMPLETE,
    )


class Uniform(Unread):
    """Records of which the values' places are known; a column is cut out of the buffer, not copied."""

    def __init__(
        self, data: Bytes, found: Members, places: Mapping[str, int], names: Collection[str]
    ) -> None:
        """`places` says which member of a record each wanted field is; `names` are those in question."""
        self._data = data
        self._found = found
        self._places = places
        self._names = names

    @classmethod
    def of(cls, buffer: bytes, found: Members, wanted: Collection[str]) -> Uniform:
        """All records whose members were `found` in a buffer."""
        places = {name: at for at, name in enumerate(found.names) if name in wanted}
        return cls(np.frombuffer(buffer, np.uint8), found, places, places.keys())

    @property
    def names(self) -> Collection[str]:
        """The wanted members that the records have."""
        return self._names

    @property
    def data(self) -> Bytes:
        """The block."""
        return self._data

    def read(self, names: Sequence[str]) -> dict[str, Cells]:
        """Their tokens; null for `null`."""
        return {name: column(self.texts(name)) for name in names}

    def texts(self, name: str) -> Texts:
        """The same of one member, as Arrow has it."""
        return self._cut(*self.span(name, name))

    def numbered(self, name: str) -> Coded | None:
        """The same with each distinct token once."""
        starts, ends = self.span(name, name)
        found = pieces.numbered(self._data, (starts, ends))
        if found is None:
            return None
        codes, firsts = found
        return Coded(self._cut(starts[firsts], ends[firsts]), codes)

    def _cut(self, starts: Places, ends: Places) -> Texts:
        """Some tokens."""
        tokens = pieces.cut(self._data, (starts, ends))
        void = self._data[starts] == ord("n")
        return with_nulls(tokens, void) if void.any() else tokens

    def where(self, keep: Cells) -> Uniform:
        """The records where `keep` is true."""
        assert isinstance(keep, pl.Series)
        kept = keep.to_numpy()
        found = self._found
        fewer = Members(
            names=found.names,
            starts=found.starts[:, kept],
            ends=found.ends[:, kept],
            leads=found.leads,
        )
        return Uniform(self._data, fewer, self._places, self._names)

    def only(self, names: Collection[str]) -> Uniform:
        """The members of these names."""
        return Uniform(self._data, self._found, self._places, names)

    def span(self, first: str, last: str) -> Span:
        """All from the value of one member to that of another that is not before it."""
        return self._found.starts[self._places[first]], self._found.ends[self._places[last]]

    def until(self, first: str, other: str) -> Span:
        """All from the value of one member to where that of another that comes after it begins."""
        return self._found.starts[self._places[first]], self._found.starts[self._places[other]]

    def between(self, field: str, other: str) -> bytes | None:
        """What stands between the values of two members, where `other` comes right after `field`."""
        place = self._places.get(other)
        return self._found.leads[place] if place == self._places[field] + 1 else None


def _within(offsets: Offsets, start: int, cut: int) -> Offsets:
    """Those of ascending offsets that are in `[start, cut)`."""
    return offsets[np.searchsorted(offsets, start) : np.searchsorted(offsets, cut)]


def _equal(data: Bytes, places: Offsets, text: bytes) -> bool:
    """Whether `text` stands at each of `places`, of which the text may not end beyond the data."""
    size = len(text)
    if size < _WORD or int(places[-1]) + size > len(data):
        return all((data[places + at] == byte).all() for at, byte in enumerate(text))
    # Eight bytes at a time, the last eight overlapping.
    words = np.ndarray((len(data) - _WORD + 1,), np.uint64, data, strides=(1,))
    for at in (*range(0, size - _WORD, _WORD), size - _WORD):
        if (words[places + at] != np.frombuffer(text, np.uint64, 1, at)).any():
            return False
    return True
