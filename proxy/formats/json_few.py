"""A short JSON document, whole and plain: read in one step, without the columns' machinery.

numpy and polars cost some fifty microseconds to start, which is most of what a report of ten records
takes. Here Python's lists do. What is read here is read as `json_records` reads it, to the character; for
whatever is not plain there is no answer, and `json_records` reads it or refuses it.

Plain are a top-level array, or lines, of 1 to 64 records, each with the members of the first in its
order, each a string, a number without exponent, `true`, `false` or `null`. That no member is written
twice or with needless escapes is proved by weight, as in `json_records`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Final

import msgspec

from proxy.few import FEW
from proxy.formats.base import Limits
from proxy.formats.json_text import WHITESPACE, name_weight
from proxy.kernels import is_utf8

MOST: Final = 16 << 10
"""Bytes of a document up to which it is looked at."""

_RECORDS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_RECORD: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_WORDS: Final = frozenset({"true", "false", "null"})
_PLAIN_NUMBERS: Final = re.compile(r"[-.0-9]*\Z")

Records = tuple[tuple[str, ...], list[str | None]]
"""The members' names, and the cells record by record: tokens as written, None for `null`."""


def read(document: bytes, limits: Limits) -> Records | None:
    """The records of a whole, short and plain array; None for any other document. Never raises on data.

    The least weight of a document with these names and tokens is known exactly: brackets, commas,
    braces, names with their colons, tokens. Whatever else stands in it, but white space, adds to it.
    """
    if len(document) > min(MOST, limits.record_bytes, limits.envelope_bytes):
        return None
    if not is_utf8(document):
        return None
    try:
        records = _RECORDS.decode(document)
    except (msgspec.DecodeError, RecursionError):
        return None
    return _plain(records, document, limits, beside=1 + len(records))


def read_lines(text: bytes, limits: Limits) -> Records | None:
    """The same of records of which each is on a line of its own, with a line feed after each."""
    if len(text) > min(MOST, limits.record_bytes) or text.count(b"\n") > FEW:
        return None
    if not is_utf8(text):
        return None
    try:
        records = [*map(_RECORD.decode, text.split(b"\n")[:-1])]
    except (msgspec.DecodeError, RecursionError):
        return None
    return _plain(records, text, limits, beside=0)


def _plain(
    records: Sequence[dict[str, msgspec.Raw]], document: bytes, limits: Limits, *, beside: int
) -> Records | None:
    """What records hold that are plain; `beside` is the weight of what stands around and between them."""
    if not 0 < len(records) <= FEW:
        return None
    names = tuple(records[0])
    if not 0 < len(names) <= limits.fields or {*map(tuple, records)} != {names}:
        return None
    raw = [*chain.from_iterable(map(dict.values, records))]
    lines = b"\n".join(raw)
    least = beside + len(raw) + len(records) + _weight(lines)
    least += len(records) * _names_weight(names, ascii_only=document.isascii())
    if least != _weight(document):
        return None
    tokens = lines.decode().split("\n")
    unquoted = [token for token in tokens if token[0] != '"']
    numbers = [token for token in unquoted if token not in _WORDS]
    if not _PLAIN_NUMBERS.match("".join(numbers)):  # exponents, objects and arrays
        return None
    if max(map(len, numbers), default=0) > limits.number_length:
        return None
    if "null" in unquoted:
        return names, [None if each == "null" else each for each in tokens]
    return names, [*tokens]


def _weight(text: bytes) -> int:
    """As `json_text.weight`, of a text whose only control characters are white space."""
    return len(text.translate(None, WHITESPACE))


@lru_cache(maxsize=64)
def _names_weight(names: tuple[str, ...], *, ascii_only: bool) -> int:
    return sum(name_weight(name, ascii_only=ascii_only) for name in names)
