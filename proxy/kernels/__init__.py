"""One pass over a block, in C: where fields and values are, what short numbers are, records put together.

Only this loads machine code of ours. numpy finds the same with some sixty operations a block, each of which
takes the interpreter's lock and goes through memory again: half of the time that a report took. The C
reads what it is given and nothing beyond, writes to what it is given and nothing beyond, and keeps nothing;
each function is held against a plain one in Python, on pages that have no neighbours, by tests/kernels. It
runs without the interpreter's lock.

It is compiled as the package is built (setup.py), by a compiler that is pinned by its hash like every other
dependency; on x86-64 a second time for processors that look at 64 bytes at once, which takes half as long.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_uint8,
    c_uint64,
    c_void_p,
    py_object,
)
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from proxy.kernels.libraries import libraries

Library = TypeVar("Library", bound=ctypes.CDLL)
Places = npt.NDArray[np.uint32]
"""Offsets into a block."""

MOST: Final = 1 << 31
"""Bytes that a block must be smaller than."""
_DENSE: Final = 4
"""Bytes a field of most CSV has at least; where that is not enough room, it is scanned anew."""

WELL_FORMED, QUOTES_MALFORMED, RETURN_ALONE, _NO_ROOM = range(4)
COMPLETE, INCOMPLETE, DIFFERENT = range(3)
_SAME, _SPANS, _TEXTS, _CODED = range(4)
_SHORT: Final = 16 << 10
"""Bytes for which a call takes some microseconds at most."""
_NOWHERE: Final = c_size_t(-1).value
_OUTSIDE: Final = c_size_t(-2).value


class CsvFound(ctypes.Structure):
    """What the complete records of a block are like; see csv.c."""

    _fields_ = (
        ("separators", c_uint64), ("records", c_uint64), ("cut", c_uint64), ("longest", c_uint64),
        ("width", c_uint64), ("fault", c_uint8), ("alike", c_uint8), ("quoted", c_uint8),
        ("needless", c_uint8), ("returns", c_uint8), ("utf8", c_uint8), ("nul", c_uint8),
    )  # fmt: skip
    separators: int
    """Delimiters and line feeds that end fields."""
    records: int
    cut: int
    """Where the incomplete record begins."""
    longest: int
    """Bytes of a record, its line feed included."""
    width: int
    """Fields of the first record."""
    fault: int
    """WELL_FORMED, QUOTES_MALFORMED (then nothing else is said) or RETURN_ALONE."""
    alike: int
    """Whether all records have the width that was asked for, or that of the first."""
    quoted: int
    """Whether there are quotes, here and in the incomplete record."""
    needless: int
    """Whether there are quotes around a text that does not need them, here or there."""
    returns: int
    """Whether a line ends with a carriage return before its line feed."""
    utf8: int
    """Whether they are well-formed UTF-8."""
    nul: int
    """Whether they hold a NUL."""


class JsonFound(ctypes.Structure):
    """What the records of a block are like that are written alike; see json.c."""

    _fields_ = (
        ("records", c_uint64), ("cut", c_uint64), ("longest", c_uint64), ("ended", c_uint8),
        ("ascii", c_uint8),
    )  # fmt: skip
    records: int
    cut: int
    """Where the last of them ends."""
    longest: int
    """Bytes from the end of a record to that of the next."""
    ended: int
    """What comes after them: INCOMPLETE, a record that may be like them; DIFFERENT, what is not."""
    ascii: int
    """Whether they hold ASCII alone."""


def loaded(of: type[Library], path: str) -> Library:
    """The library there, each function with its types."""
    library = of(path)
    library.csv_scan.argtypes = (
        c_char_p, c_size_t, c_uint8, c_size_t, c_size_t, c_void_p, POINTER(CsvFound),
    )  # fmt: skip
    library.csv_scan.restype = None
    library.csv_cut.argtypes = (c_char_p, c_size_t)
    library.csv_cut.restype = c_size_t
    library.json_alike.argtypes = (
        c_char_p, c_size_t, c_size_t, c_char_p, c_void_p, c_size_t, c_char_p, c_size_t, c_size_t, c_size_t,
        c_void_p, c_void_p, POINTER(JsonFound),
    )  # fmt: skip
    library.json_alike.restype = None
    library.json_few.argtypes = c_char_p, c_size_t, c_void_p, c_char_p, c_size_t
    library.json_few.restype = c_size_t
    library.weave_size.argtypes = (c_void_p, c_size_t, c_size_t)
    library.weave_size.restype = c_size_t
    library.weave.argtypes = (c_void_p, c_size_t, c_size_t, c_char_p, c_size_t)
    library.weave.restype = None
    library.spans_size.argtypes = (c_size_t, c_void_p, c_void_p, c_size_t, c_void_p)
    library.spans_size.restype = c_size_t
    library.cut_spans.argtypes = (
        c_void_p, c_size_t, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t,
    )  # fmt: skip
    library.cut_spans.restype = None
    library.number_spans.argtypes = (
        c_void_p, c_size_t, c_void_p, c_void_p, c_size_t, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p,
        c_void_p,
    )  # fmt: skip
    library.number_spans.restype = c_size_t
    library.short_numbers.argtypes = (c_void_p, c_size_t, c_void_p, c_size_t, c_uint8, c_void_p)
    library.short_numbers.restype = c_uint8
    library.round_lines.argtypes = (
        c_char_p, c_size_t, c_uint8, c_int64, c_uint64, c_char_p, c_size_t,
    )  # fmt: skip
    library.round_lines.restype = c_size_t
    library.utf8_well_formed.argtypes = (c_char_p, c_size_t)
    library.utf8_well_formed.restype = c_uint8
    return library


_FASTEST: Final = libraries()[0]
_FREE: Final = loaded(ctypes.CDLL, _FASTEST)
"""Each call runs without the interpreter's lock."""
_HELD: Final = loaded(ctypes.PyDLL, _FASTEST)
"""Each call keeps it: to win it back from threads that wait for it may take longer than a short one."""


_new_bytes: Final = ctypes.pythonapi.PyBytes_FromStringAndSize
"""Python's own: where it is given no text, of bytes that are still to be written."""
_new_bytes.argtypes = (c_char_p, c_ssize_t)
_new_bytes.restype = py_object


def library(size: int) -> ctypes.CDLL:
    """By which so many bytes are looked at."""
    return _HELD if size <= _SHORT else _FREE


def see_that(holds: bool) -> None:  # noqa: FBT001 - as in `assert`
    """What machine code is told and does not see for itself; an `assert` would go with `python -O`."""
    if not holds:
        raise IndexError("not what the machine code can be given")


def csv_scan(block: bytes, delimiter: int, width: int = 0) -> tuple[CsvFound, Places]:
    """What a block that begins at a record's start holds, and what ends each field of complete records.

    `width` is how many fields each has to have; 0 where the first one says so. Raises IndexError.
    """
    see_that(len(block) < MOST)
    found = CsvFound()
    room = len(block) // _DENSE + 1
    while True:
        places = np.empty(room, np.uint32)
        _FREE.csv_scan(block, len(block), delimiter, width, room, places.ctypes.data, byref(found))
        if found.fault != _NO_ROOM:
            return found, places[: found.separators]
        room = len(block)


def csv_cut(block: bytes) -> int:
    """Where the last complete record of a block ends, by the number of quotes alone; 0 for none."""
    cut: int = library(len(block)).csv_cut(block, len(block))
    return cut


@dataclass(frozen=True, kw_only=True, slots=True)
class Alike:
    """How records are written that are written alike."""

    leads: tuple[bytes, ...]
    """What stands before each value, from the brace or the value before it on; and after the last one."""
    between: bytes
    """What stands between two records."""

    @property
    def members(self) -> int:
        """How many values a record has."""
        return len(self.leads) - 1

    @property
    def least(self) -> int:
        """The fewest bytes of a record, with what is between it and the next."""
        return sum(map(len, self.leads)) + self.members + len(self.between)


def json_alike(
    block: bytes, start: int, alike: Alike, *, longest_number: int
) -> tuple[JsonFound, Places, Places]:
    """The records from `start` on that are written so, up to the first that is not.

    Where each value begins and ends, (members, records). Strings are well-formed but for their UTF-8, and
    hold no escaped surrogates; numbers have no exponent (RFC 8259 §6, 7). Raises IndexError.
    """
    see_that(len(block) < MOST)
    found = JsonFound()
    ends = np.cumsum([len(lead) for lead in alike.leads], dtype=np.uint32)
    room = (len(block) - start) // alike.least + 2
    starts = np.empty((2, alike.members, room), np.uint32)
    library(len(block)).json_alike(
        block, len(block), start, b"".join(alike.leads), ends.ctypes.data, alike.members, alike.between,
        len(alike.between), longest_number, room, starts.ctypes.data, starts[1].ctypes.data, byref(found),
    )  # fmt: skip
    return found, starts[0, :, : found.records], starts[1, :, : found.records]


def is_utf8(text: bytes, size: int | None = None) -> bool:
    """Whether `text`, or so many bytes of it, is well-formed UTF-8 (RFC 3629 §4)."""
    most = len(text) if size is None else size
    see_that(most <= len(text))
    return bool(library(most).utf8_well_formed(text, most))


Part = tuple[int, npt.NDArray[np.uint8], npt.NDArray[Any] | None, npt.NDArray[Any] | None]
"""What each record has in one place, see `same`, `spans`, `texts` and `coded`."""


def same(text: bytes) -> Part:
    """The same text."""
    return _SAME, np.frombuffer(text, np.uint8), None, None


def spans(data: npt.NDArray[np.uint8], starts: npt.NDArray[Any], ends: npt.NDArray[Any]) -> Part:
    """Some bytes of `data`, from where on and up to where: an offset for each record."""
    data = _contiguous(data, np.uint8)
    return _SPANS, data, _contiguous(starts, np.uint32), _contiguous(ends, np.uint32)


def texts(data: npt.NDArray[np.uint8], places: npt.NDArray[np.int64]) -> Part:
    """A text for each record; `places` are where each begins in `data` and the last one ends."""
    return _TEXTS, _contiguous(data, np.uint8), _contiguous(places, np.int64), None


def coded(
    data: npt.NDArray[np.uint8], places: npt.NDArray[np.int64], codes: npt.NDArray[Any]
) -> Part:
    """One of some texts; `codes` are their numbers, one for each record."""
    data = _contiguous(data, np.uint8)
    return _CODED, data, _contiguous(places, np.int64), _contiguous(codes, np.uint32)


def _contiguous(numbers: npt.NDArray[Any], kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(numbers, kind)


def weave(parts: Sequence[Part], height: int) -> bytes:
    """Of each of `height` records what the parts have for it, in turn. Raises IndexError."""
    described = _described(parts, height)
    size = _FREE.weave_size(described.ctypes.data, len(parts), height)
    if size == _NOWHERE:
        raise IndexError("a piece is not in its data")
    out: bytes = _new_bytes(None, size)  # nobody else has it yet
    _FREE.weave(described.ctypes.data, len(parts), height, out, size)
    return out


def _described(parts: Sequence[Part], height: int) -> npt.NDArray[np.uint64]:
    """The parts as weave.c has them; they have to be kept as long."""
    described = np.zeros((len(parts), 6), np.uint64)
    for at, (kind, data, starts, ends) in enumerate(parts):
        see_that(ends is None or len(ends) >= height)
        see_that(starts is None or kind != _SPANS or len(starts) >= height)
        described[at] = (
            data.ctypes.data, len(data), 0 if starts is None else starts.ctypes.data,
            0 if ends is None else ends.ctypes.data, 0 if starts is None else len(starts) - 1, kind,
        )  # fmt: skip
    return described


Span = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""Where a piece of each record begins, and the offset after it."""


def cut(
    data: npt.NDArray[np.uint8], span: Span
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Pieces of `data` one after the other: where each begins and the last one ends; their bytes.

    Raises IndexError.
    """
    data, starts, ends = _pieces(data, span)
    places = np.empty(len(starts) + 1, np.int64)
    size = _FREE.spans_size(
        len(data), starts.ctypes.data, ends.ctypes.data, len(starts), places.ctypes.data
    )
    if size == _NOWHERE:
        raise IndexError("a piece is not in its data")
    out = np.empty(size, np.uint8)
    _FREE.cut_spans(
        data.ctypes.data, len(data), starts.ctypes.data, ends.ctypes.data, len(starts), out.ctypes.data,
        size,
    )  # fmt: skip
    return places, out


def numbered(data: npt.NDArray[np.uint8], span: Span, most: int) -> tuple[Places, Places] | None:
    """Which of the distinct pieces of `data` each is; the places of the first of each, in ascending order.

    None where they are more than `most`, or to tell them apart would take too long. Raises IndexError.
    """
    data, starts, ends = _pieces(data, span)
    height = len(starts)
    most = min(most, height)
    table = np.zeros(1 << (2 * most).bit_length(), np.uint64)
    codes, firsts = np.empty(height, np.uint32), np.empty(most, np.uint32)
    begins = np.empty((most, 3), np.uint64)
    known = _FREE.number_spans(
        data.ctypes.data, len(data), starts.ctypes.data, ends.ctypes.data, height, most, table.ctypes.data,
        len(table), codes.ctypes.data, firsts.ctypes.data, begins.ctypes.data,
    )  # fmt: skip
    if known == _OUTSIDE:
        raise IndexError("a piece is not in its data")
    return None if known == _NOWHERE else (codes, firsts[:known])


def _pieces(data: npt.NDArray[np.uint8], span: Span) -> tuple[npt.NDArray[Any], ...]:
    starts, ends = (_contiguous(each, np.uint32) for each in span)
    see_that(len(starts) == len(ends))
    return _contiguous(data, np.uint8), starts, ends


def short_numbers(
    data: npt.NDArray[np.uint8], places: npt.NDArray[np.int64], *, decimal: bool
) -> npt.NDArray[np.int64] | None:
    """The numbers of texts, in units of 10^-4; 0 for a text without a character. None unless all are short.

    `places` are where each text begins in `data` and the last one ends. Short is a number of 1 to 12 digits,
    after `-` or not, with a point and 1 to 4 digits after them where it may be `decimal`.
    """
    height = len(places) - 1
    places, data = _contiguous(places, np.int64), _contiguous(data, np.uint8)
    numbers = np.empty(height, np.int64)
    short = _FREE.short_numbers(
        data.ctypes.data, len(data), places.ctypes.data, height, decimal, numbers.ctypes.data
    )
    return numbers if short else None
