"""Reads evidence back: bytes -> rows with what is kept of their values, and the forms of each."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from proxy.evidence.layout import DEFLATED, LENGTH, PLAIN, WIDTHS, Head, NotEvidence, pieces
from proxy.values import Type

Codes = npt.NDArray[np.integer[Any]]

_MOST: Final = 1 << 28
"""Bytes that a piece may become."""
_HEAD: Final = msgspec.json.Decoder(Head)
_FORMS: Final = msgspec.json.Decoder(dict[str, list[str]])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Values:
    """What is kept of one field of some rows."""

    type: Type
    distinct: list[str | None]
    """`=` and a value, `#` and a digest, or None where the store gives none."""
    codes: Codes
    """Which of them each row has."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Noted:
    """Some rows, in the order of the answer."""

    rows: int
    key: str
    """The id of the master key of its digests."""
    values: Mapping[str, Values]
    """By field."""
    forms: list[dict[str, str]]
    """Of each: field -> form."""
    codes: Codes
    """Which of them each row has."""


def read(evidence: bytes) -> Iterator[Noted]:
    """The rows of each piece; raises NotEvidence."""
    for piece in pieces(evidence):
        yield _piece(piece)


def _piece(piece: bytes) -> Noted:
    document = _document(piece)
    start = LENGTH + int.from_bytes(document[:LENGTH], "big")
    try:
        head = _HEAD.decode(document[LENGTH:start])
        forms = [_by_field(_FORMS.decode(each)) for each in head.forms]
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise NotEvidence("its head is none") from None
    numbers = _Numbers(document, start, head.rows)
    values = {
        each.field: Values(
            type=each.type,
            distinct=each.values,
            codes=numbers.next(each.width, len(each.values)),
        )
        for each in head.columns
    }
    codes = numbers.next(head.width, len(forms))
    if not numbers.exhausted:
        raise NotEvidence("it has bytes that mean nothing")
    return Noted(rows=head.rows, key=head.key, values=values, forms=forms, codes=codes)


def _by_field(forms: dict[str, list[str]]) -> dict[str, str]:
    return {field: form for form, fields in forms.items() for field in fields}


def _document(piece: bytes) -> bytes:
    match piece[:1]:
        case first if first == PLAIN:
            return piece[1:]
        case first if first == DEFLATED:
            inflating = zlib.decompressobj()
            try:
                document = inflating.decompress(piece[1:], _MOST)
            except zlib.error:
                raise NotEvidence("it cannot be inflated") from None
            if not inflating.eof or inflating.unused_data:
                raise NotEvidence("it cannot be inflated")
            return document
        case _:
            raise NotEvidence("it is in no form that is known")


class _Numbers:
    """Takes the numbers of the rows, column after column."""

    def __init__(self, document: bytes, start: int, rows: int) -> None:
        self._document = document
        self._at = start
        self._rows = rows

    def next(self, width: int, count: int) -> Codes:
        """Which of `count` each row has."""
        rows = self._rows
        if width not in WIDTHS or not 1 <= rows <= _MOST:
            raise NotEvidence("its numbers have no such width")
        if not width:
            if count not in (1, rows):
                raise NotEvidence("its values are not as many as its rows")
            return np.zeros(rows, np.int64) if count == 1 else np.arange(rows)
        end = self._at + width * rows
        if end > len(self._document):
            raise NotEvidence("it is cut off")
        kind = np.dtype(f"<u{width}")
        codes = np.cumsum(np.frombuffer(self._document, kind, rows, self._at), dtype=kind)
        if int(codes.max()) >= count:
            raise NotEvidence("a number of it means nothing")
        self._at = end
        return codes

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._document)
