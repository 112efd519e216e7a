"""An encrypted cell: its text, and what is sealed in it.

    cf1.5f3a90c1.r3.q83vEjRWeJCrze8S…

    cf1        the version of this form
    5f3a90c1   the id of the key
    r3         `r`: sealed at random, and bound to its row by those of the report's key fields whose bits
               are set (hex; 1 is the first one). `d`: deterministic, and bound to no row
    q83vEj…    base64url without padding (RFC 4648 §5) of nonce (12) ‖ ciphertext ‖ tag (16), RFC 8452

Sealed is

    size of what is carried (2 bytes) ‖ carried ‖ type (1) ‖ value (UTF-8) ‖ 0x80 ‖ zeros

padded as by ISO/IEC 7816-4 so that type, value and mark have 32 bytes or a doubling of that: a length
tells its class and no more. Carried are other fields of the row, for the conditions under which the cell
may be revealed; each has

    size of its name (2) ‖ name ‖ type (1) ‖ room (1) ‖ length of its value, or a mark (1) ‖ value, zeros

so that the size of all is that of the fields' names and types. A value that is longer than its room is
marked as not known, and whatever looks at it is unknown.

Associated data are the version, the key id, the report, the field, how it is bound, and each bound key
field with its value. Values of a key are compared as values: `7` and `7.0` are one number.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import repeat
from typing import Final

import numpy as np

from proxy.errors import ValueRefused
from proxy.keys import prefixed, text_bytes
from proxy.values import Type, instant, number

VERSION: Final = "cf1"
DETERMINISTIC: Final = "d"
_CELL: Final = re.compile(
    rf"{VERSION}\.([a-z0-9-]{{1,32}})\.(d|r[0-9a-f]{{1,16}})\.([A-Za-z0-9_-]+)\Z"
)
_SMALLEST: Final = 32
_SHORT: Final = 511
"""Bytes of a value: paddings of shorter ones are kept."""
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_STANDARD: Final = str.maketrans("-_", "+/")
_LINE_END: Final = ord("\n")

_CODES: Final[Mapping[Type, int]] = {type_: number for number, type_ in enumerate(Type, 1)}
_TYPES: Final[Mapping[int, Type]] = {number: type_ for type_, number in _CODES.items()}
_ROOM: Final[Mapping[Type, int]] = {
    Type.TEXT: 32, Type.INTEGER: 20, Type.DECIMAL: 28, Type.BOOLEAN: 5, Type.DATE: 10, Type.DATETIME: 32,
}  # fmt: skip
"""Most bytes of a carried value."""
_NULL: Final = 0xFE
_NOT_KNOWN: Final = 0xFF


class Cause(StrEnum):
    """Why a cell is not opened, for the record alone: whoever asks is not told which."""

    NO_CELL = "not-sealed"
    """It is no text of this form."""
    NO_KEY = "unknown-key"
    """The keyring has no such key."""
    ALTERED = "not-authentic"
    """Altered, or sealed for another report, field or row, or under another key of that id."""


class Unopened(ValueRefused):
    """A cell that is not opened."""

    def __init__(self, cause: Cause) -> None:
        self.cause = cause
        super().__init__(f"the cell is not opened: {cause}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """What was sealed in a cell."""

    text: str
    """The value as its document wrote it."""
    type: Type
    """What it was then."""
    carried: Mapping[str, tuple[Type, str | None]]
    """Other fields of the row with their types then; one that is not known is not here."""
    bound: frozenset[str]
    """The key fields that the cell is bound to: what was stated of them is true."""
    key_id: str


# ── the text ──


def written(head: str, sealed: Sequence[bytes]) -> list[str]:
    """The cells' texts behind `head`, which is version, key id and how: those of one length at once."""
    before = head.encode() + b"."
    lengths = [*map(len, sealed)]
    texts = {
        length: iter(_of_one_length(before, [each for each in sealed if len(each) == length]))
        for length in {*lengths}
    }
    return [next(texts[length]) for length in lengths]


def _of_one_length(before: bytes, sealed: Sequence[bytes]) -> list[str]:
    count, length = len(sealed), len(sealed[0])
    # Zeros up to whole groups of three: what base64 takes a last group to have, so that its characters stay.
    zeros = bytes(-length % 3)
    digits = binascii.b2a_base64(zeros.join(sealed) + zeros, newline=False).translate(_URL_SAFE)
    start, stop = len(before), len(before) + (8 * length + 5) // 6
    lines = np.empty((count, stop + 1), np.uint8)
    lines[:, :start] = np.frombuffer(before, np.uint8)
    lines[:, start:stop] = np.frombuffer(digits, np.uint8).reshape(count, -1)[:, : stop - start]
    lines[:, stop] = _LINE_END
    return lines.tobytes().decode("ascii").split("\n", count)[:count]


def read(cell: str) -> tuple[str, str, bytes]:
    """Key id, how it is bound, and what is sealed; raises Unopened where that is no cell's text."""
    matched = _CELL.match(cell)
    if matched is None:
        raise Unopened(Cause.NO_CELL)
    key_id, how, text = matched.groups()
    padded = text.translate(_STANDARD) + "=" * (-len(text) % 4)
    try:
        sealed = binascii.a2b_base64(padded)
    except binascii.Error:
        raise Unopened(Cause.NO_CELL) from None
    # Spare bits of the last character: one cell has one writing.
    if binascii.b2a_base64(sealed, newline=False).decode() != padded:
        raise Unopened(Cause.NO_CELL)
    return key_id, how, sealed


# ── what it is bound to ──


def mask(key: Sequence[str], bound: Iterable[str]) -> str:
    """How a cell is bound to these of a report's key fields: `r3`."""
    return f"r{sum(1 << key.index(name) for name in bound):x}"


def bound(key: Sequence[str], how: str) -> tuple[str, ...]:
    """The key fields that `how` says a cell is bound to; raises Unopened where there are no such."""
    bits = 0 if how == DETERMINISTIC else int(how[1:], 16)
    if bits >> len(key):
        raise Unopened(Cause.ALTERED)
    return tuple(name for place, name in enumerate(key) if bits >> place & 1)


def place(key_id: str, report: str, field: str, how: str, names: Sequence[str]) -> bytes:
    """What the associated data of all cells of a column begin with."""
    parts = tuple(map(text_bytes, (VERSION, key_id, report, field, how, *names)))
    return len(parts).to_bytes(4, "big") + prefixed(*parts)


def part(text: str | None, type_: Type) -> bytes:
    """A key field's value behind its length. No value is as an empty one: CSV does not tell them apart."""
    value = text_bytes(_canonical(text, type_)) if text else b""
    return len(value).to_bytes(4, "big") + value


def _canonical(text: str, type_: Type) -> str:
    """One text for each value: other documents write it otherwise. What is no value has none of theirs."""
    match type_:
        case Type.INTEGER | Type.DECIMAL:
            value = number(text)
            return _itself(text) if value is None else f"={value}"
        case Type.DATETIME:
            at = instant(text)
            return _itself(text) if at is None else f"={at.isoformat()}"
        case _:
            return text


def _itself(text: str) -> str:
    """A key that is no value, as `=7` of integers, where texts of values begin with one `=`."""
    return f"={text}" if text.startswith("=") else text


# ── what is sealed ──


def packer(
    type_: Type, others: Mapping[str, Type]
) -> Callable[[Sequence[str], Sequence[Sequence[str | None]]], Iterator[bytes]]:
    """What packs values of a type, each with those of the other fields in its row."""
    heads = [
        len(text_bytes(name)).to_bytes(2, "big")
        + text_bytes(name)
        + bytes([_CODES[other], _ROOM[other]])
        for name, other in others.items()
    ]
    rooms = [_ROOM[other] for other in others.values()]
    size = sum(len(head) + 1 + room for head, room in zip(heads, rooms, strict=True))
    first, code = size.to_bytes(2, "big"), bytes([_CODES[type_]])
    if heads:
        heads[0] = first + heads[0]
    ends = [b""] * (len(heads) - 1) + [code]
    layouts = [*map(_slots, heads, rooms, ends)]

    def pack(texts: Sequence[str], columns: Sequence[Sequence[str | None]]) -> Iterator[bytes]:
        values = _encoded(texts)
        paddings = map(_padding, map(len, values))
        if not columns:
            return map(b"".join, zip(repeat(first + code), values, paddings))
        carried = []
        for column, slots in zip(columns, layouts, strict=True):
            carried.append(map(slots(set(column)).__getitem__, column))
        return map(b"".join, zip(*carried, values, paddings, strict=True))

    return pack


def unpacked(plaintext: bytes) -> tuple[Type, str, dict[str, tuple[Type, str | None]]]:
    """What `packer` packed: the value's type and text, and the other fields that are known."""
    end = 2 + int.from_bytes(plaintext[:2], "big")
    at, found = 2, dict[str, tuple[Type, str | None]]()
    while at < end:
        name_end = at + 2 + int.from_bytes(plaintext[at : at + 2], "big")
        name = plaintext[at + 2 : name_end].decode("utf-8", "surrogatepass")
        type_, room, state = plaintext[name_end : name_end + 3]
        at = name_end + 3
        if state == _NULL:
            found[name] = (_TYPES[type_], None)
        elif state != _NOT_KNOWN:
            text = plaintext[at : at + state].decode("utf-8", "surrogatepass")
            found[name] = (_TYPES[type_], text)
        at += room
    value = plaintext[end + 1 :].rstrip(b"\0")[:-1]
    return _TYPES[plaintext[end]], value.decode("utf-8", "surrogatepass"), found


def _slots(
    head: bytes, room: int, end: bytes
) -> Callable[[Iterable[str | None]], dict[str | None, bytes]]:
    """What gives the slot of each value: behind `head` its length or a mark, itself and zeros, then `end`."""
    before = [head + bytes([size]) for size in range(room + 1)]
    after = [bytes(room - size) + end for size in range(room + 1)]
    null = head + bytes([_NULL]) + after[0]
    not_known = head + bytes([_NOT_KNOWN]) + after[0]

    def slots(texts: Iterable[str | None]) -> dict[str | None, bytes]:
        found: dict[str | None, bytes] = {}
        for text in texts:
            if text is None:
                found[text] = null
                continue
            value = text.encode("utf-8", "surrogatepass")
            size = len(value)
            found[text] = before[size] + value + after[size] if size <= room else not_known
        return found

    return slots


def _encoded(texts: Sequence[str]) -> list[bytes]:
    try:
        return [text.encode() for text in texts]
    except UnicodeEncodeError:
        return [*map(text_bytes, texts)]


def _drawn_out(length: int) -> bytes:
    size = max(_SMALLEST, 1 << (length + 1).bit_length())
    return b"\x80".ljust(size - 1 - length, b"\0")


_PADDINGS: Final = tuple(_drawn_out(length) for length in range(_SHORT))
"""PROMISE 4 (bounded memory): of short values alone, for those of long ones are as long as these."""


def _padding(length: int) -> bytes:
    """The mark and zeros behind a value of so many bytes: with the type before it, a class's size."""
    return _PADDINGS[length] if length < _SHORT else _drawn_out(length)
