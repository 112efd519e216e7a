"""CSV text (RFC 4180, with LF or CRLF line ends): where its records and fields are, exactly.

polars pads short records, keeps stray quotes, strips a byte order mark anywhere and even unpacks what
looks compressed. So nothing is given to it before this module has proved, vectorised, that quotes
stand around whole fields only, that each carriage return is inside quotes or before a line feed, and
how many fields each record has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from proxy.formats import bits
from proxy.formats.base import refused
from proxy.formats.bits import Mask, Offsets

_QUOTE, _LF, _CR = b'"\n\r'
_LINES: Final = 16
"""Within so many lines of a block's end a record ends, or all of it is looked at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """Where the complete records of a buffer end, and the delimiters that stand outside quotes."""

    ends: Offsets
    """The offset after each record's line feed."""
    delimiters: Mask
    line_feeds: Mask
    quoted: bool
    """Whether there are quotes."""
    needless: bool
    """Whether there are quotes around a text that does not need them."""
    returns: bool
    """Whether a line ends with a carriage return before its line feed."""

    @property
    def cut(self) -> int:
        """Where the incomplete record begins."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def widths(self) -> Offsets:
        """How many fields each record has."""
        before = bits.counts_before(self.delimiters, self.ends - 1)
        before[1:] -= before[:-1].copy()
        return before + 1

    def separators(self) -> Offsets:
        """The offsets of all delimiters and line feeds that end fields of complete records."""
        every = bits.offsets(self.delimiters | self.line_feeds)
        return every[: np.searchsorted(every, self.cut)]


def scan(buffer: bytes, delimiter: int) -> Scan:
    """Scan a buffer that begins at a record's start, and check its quotes (RFC 4180 §2.5 to 2.7).

    Quotes open and close by turns. One that opens stands at a field's start, or right after one that
    closes (`""` inside quotes); after one that closes comes a quote, a delimiter or a line end.
    Raises SourceRefused.
    """
    data = np.frombuffer(buffer, np.uint8)
    line_feeds, delimiters = bits.where(data, _LF), bits.where(data, delimiter)
    returns = bits.where(data, _CR) if b"\r" in buffer else None
    outside: Mask | None = None
    needless = False
    if quoted := b'"' in buffer:
        quotes = bits.where(data, _QUOTE)
        inside = bits.between(quotes)
        outside = ~(inside | quotes)
        plain = inside & ~(quotes | line_feeds | delimiters)
        line_feeds &= outside
        delimiters &= outside
        beside = line_feeds | delimiters | quotes
        opening = bits.following(beside)
        opening[0] |= np.uint64(1)
        if (quotes & inside & ~opening).any():
            raise refused("quotes-malformed")
        if returns is not None:
            beside |= returns
            plain &= ~returns
        closed = quotes & ~inside & ~bits.preceding(beside)
        # What follows the buffer's last byte has not come yet.
        if closed.any() and bits.offsets(closed)[0] != len(buffer) - 1:
            raise refused("quotes-malformed")
        # From each opening quote over plain bytes: where that ends at a closing quote, none was needed.
        opened = bits.following(quotes & inside & ~bits.following(quotes)) & plain
        closing = quotes & ~inside & ~bits.preceding(quotes)
        needless = bool((bits.past(opened, plain) & closing).any())
    ends = bits.offsets(line_feeds) + 1
    cut = int(ends[-1]) if len(ends) else 0
    before = False
    if returns is not None:
        paired = bits.preceding(line_feeds)
        before = bool((returns & paired).any())
        alone = returns & ~paired
        if outside is not None:
            alone &= outside
        if alone.any() and bits.offsets(alone)[0] < cut:
            raise refused("bare-carriage-return")
    return Scan(
        ends=ends,
        delimiters=delimiters,
        line_feeds=line_feeds,
        quoted=quoted,
        needless=needless,
        returns=before,
    )


def record_end(buffer: bytes) -> int:
    """Where the last complete record ends, of a buffer that begins at a record's start; 0 for none.

    Found by the number of quotes alone: where they are malformed it may be any line's end.
    """
    quotes = np.frombuffer(buffer, np.uint8) == _QUOTE
    before, end = int(np.count_nonzero(quotes)), len(buffer)
    for _ in range(_LINES):
        last = buffer.rfind(b"\n", 0, end) + 1
        before -= int(np.count_nonzero(quotes[last:end]))
        if not before % 2 or not last:
            return last
        end = last - 1
    line_feeds = bits.where(np.frombuffer(buffer, np.uint8), _LF)
    ends = bits.offsets(line_feeds & ~bits.between(bits.pack(quotes)))
    return int(ends[-1]) + 1 if len(ends) else 0


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
