"""CSV text (RFC 4180, with LF or CRLF line ends): where its records and fields are, exactly.

polars pads short records, keeps stray quotes, strips a byte order mark anywhere and even unpacks what
looks compressed. So nothing is given to it before it is proved that quotes stand around whole fields only,
that each carriage return is inside quotes or before a line feed, and how many fields each record has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from proxy import kernels
from proxy.formats.base import refused

_FAULTS: Final = {
    kernels.QUOTES_MALFORMED: "quotes-malformed",
    kernels.RETURN_ALONE: "bare-carriage-return",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """The complete records of a buffer, and what ends each of their fields."""

    separators: kernels.Places
    """The offsets of all delimiters and line feeds that end fields."""
    height: int
    """How many records there are."""
    width: int
    """How many fields the first one has."""
    alike: bool
    """Whether each has as many as was asked for, or else as the first."""
    cut: int
    """Where the incomplete record begins."""
    longest: int
    """Bytes of the longest one, its line feed included."""
    quoted: bool
    """Whether there are quotes."""
    needless: bool
    """Whether there are quotes around a text that does not need them."""
    returns: bool
    """Whether a line ends with a carriage return before its line feed."""
    utf8: bool
    """Whether complete records are well-formed UTF-8."""
    nul: bool
    """Whether they hold a NUL."""

    def field_ends(self) -> npt.NDArray[np.uint32]:
        """(records, fields): what ends each field, of records that have as many fields."""
        return self.separators.reshape(self.height, -1)


def scan(buffer: bytes, delimiter: int, *, width: int = 0) -> Scan:
    """Scan a buffer that begins at a record's start, and check its quotes (RFC 4180 §2.5 to 2.7).

    Quotes open and close by turns. One that opens stands at a field's start, or right after one that
    closes (`""` inside quotes); after one that closes comes a quote, a delimiter or a line end.
    Each record should have `width` fields; 0 where the first one says so. Raises SourceRefused.
    """
    found, separators = kernels.csv_scan(buffer, delimiter, width)
    if found.fault:
        raise refused(_FAULTS[found.fault])
    return Scan(
        separators=separators,
        height=found.records,
        width=found.width,
        alike=bool(found.alike),
        cut=found.cut,
        longest=found.longest,
        quoted=bool(found.quoted),
        needless=bool(found.needless),
        returns=bool(found.returns),
        utf8=bool(found.utf8),
        nul=bool(found.nul),
    )


def record_end(buffer: bytes) -> int:
    """Where the last complete record ends, of a buffer that begins at a record's start; 0 for none.

    Found by the number of quotes alone: where they are malformed it may be any line's end.
    """
    return kernels.csv_cut(buffer)


def fields(
    buffer: bytes, start: int, ends: Sequence[int], index: int, width: int
) -> list[str | None]:
    """Field `index` of each record, of `width` fields that end at `ends`; the first begins at `start`.

    Without quotes around it and `""` undone; None for a field without anything.
    """
    column: list[str | None] = []
    last = index == width - 1
    for place in range(index, len(ends), width):
        field = buffer[ends[place - 1] + 1 if place else start : ends[place]]
        if last:
            field = field.removesuffix(b"\r")
        if field.startswith(b'"'):
            column.append(field[1:-1].replace(b'""', b'"').decode())
        else:
            column.append(field.decode() or None)
    return column
