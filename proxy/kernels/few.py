"""A few cells, in C: what a report of ten records is read and rounded by.

Each gives Python texts at once: to make numpy's arrays would cost more than all that they hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ctypes import Structure, addressof, c_char_p, c_uint64, c_void_p
from struct import Struct
from typing import Final

import msgspec
import numpy as np

from proxy.kernels import MOST, library, see_that


class _Names(Structure):
    """As json.c has it."""

    _fields_ = (
        ("texts", c_char_p), ("ends", c_void_p), ("names", c_uint64), ("wanted", c_uint64),
        ("members", c_uint64), ("longest", c_uint64), ("lines", c_uint64),
    )  # fmt: skip


MOST_WANTED: Final = 64
"""Members that `json_few` reads."""
_FEW: Final = Struct("=5Q")
"""`json_few`, as json.c has it."""


class FewJson(msgspec.Struct, frozen=True):
    """What a few records hold."""

    records: int
    values: list[str]
    """As they are written: of the first wanted member that is there, record by record, then of the next."""
    there: int
    """Which of the wanted members they have, a bit for each."""
    nulls: int
    """Of which of them some value is `null`."""
    others: int
    """How many of their members are neither wanted nor known."""
    names: bytes
    """All of their members' names, in quotes, each with a line feed after it."""


class Names:
    """The members of records that are looked for, and how many and how long they may be."""

    __slots__ = ("_described", "_ends", "_texts", "address", "wanted")

    def __init__(
        self,
        wanted: Sequence[str],
        others: Iterable[str],
        *,
        members: int,
        number: int,
        lines: bool,
    ) -> None:
        """`wanted` are read, `others` known; a record has so many `members`, a number so many characters.

        `lines`: whether each record is on a line of its own; else they are an array.
        """
        self.wanted = tuple(wanted)
        texts = [name.encode("utf-8", "surrogatepass") for name in (*self.wanted, *others)]
        self._texts = b"".join(texts)
        self._ends = np.cumsum([len(text) for text in texts], dtype=np.uint32)
        self._described = _Names(
            self._texts,
            self._ends.ctypes.data,
            len(texts),
            len(self.wanted),
            members,
            number,
            lines,
        )
        self.address = addressof(self._described)


def json_few(document: bytes, names: Names) -> FewJson | None:
    """The records of a whole document of 1 to 64, each with the members of the first, in its order.

    Their values are strings without escaped surrogates, numbers without exponent, `true`, `false` or `null`
    (RFC 8259); all of it is well-formed UTF-8, no name is there twice, none has an escape. None for any other
    document, and where more than `MOST_WANTED` members are wanted.
    """
    size = len(document)
    see_that(size < MOST)
    room = size + _FEW.size  # no more is written than is read
    out = bytes(room)  # nobody else has it yet
    end = library(size).json_few(document, size, names.address, out, room)
    if not end:
        return None
    records, there, nulls, at, others = _FEW.unpack_from(out)
    return FewJson(
        records, out[_FEW.size : at].decode().split("\n"), there, nulls, others, out[at:end]
    )


_WIDEST: Final = 24
"""Bytes of a rounded number with its line feed, at most."""


def rounded(
    texts: Sequence[str | None], *, decimal: bool, units: int, digits: int
) -> list[str] | None:
    """Numbers rounded to multiples of `units` × 10^-`digits`, ties to the even one, with all these digits.

    None unless all are short, as `kernels.short_numbers` has it. Steps are below 10^12, digits at most 4.
    """
    try:
        lines = "\n".join(texts) + "\n"  # type: ignore[arg-type]  # a null is one of the others
        data = lines.encode()
    except (TypeError, UnicodeEncodeError):
        return None
    room = _WIDEST * len(texts)
    out = bytes(room)  # nobody else has it yet
    size = len(data)
    end = library(size).round_lines(data, size, decimal, units, digits, out, room)
    if not end:
        return None
    found = out[: end - 1].decode().split("\n")
    return found if len(found) == len(texts) else None
