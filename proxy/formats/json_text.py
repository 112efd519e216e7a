"""JSON texts (RFC 8259, I-JSON's rules on names and strings, RFC 7493): where records end, what is strict.

msgspec checks the grammar exactly, lone surrogates included, but it takes malformed UTF-8 inside what
it does not decode, the last of two members of one name, and numbers of any length. Those gaps are
closed here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, NoReturn

import msgspec
import numpy as np

from proxy.formats import bits
from proxy.formats.base import Limits, refused
from proxy.formats.bits import Mask, Offsets
from proxy.kernels import is_utf8

WHITESPACE: Final = b" \t\n\r"

_TOKEN: Final = re.compile(
    rb'[ \t\n\r]+|"(?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])*"|[{}\[\]:,]|[-+.0-9A-Za-z]+'
)
_UNFINISHED_STRING: Final = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])*\\?\Z')
_EXPONENT: Final = re.compile(r"[eE][+-]?0*([0-9]*)\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """What a buffer that begins inside the array of records, between two of them, holds."""

    ends: Offsets
    """The offset after each complete object."""
    close: int | None
    """The offset of the `]` that ends the array."""
    deepest: int
    """The most containers within one another; a record is the first."""
    complete: bool
    """Whether nothing is left open at the buffer's end."""
    opens: Mask
    closes: Mask
    commas: Mask
    """Braces and commas outside strings, wherever they stand."""
    outside: Mask
    """What is outside strings; of no meaning beyond the buffer's end."""


def scan(buffer: bytes) -> Scan:
    """Find the objects of an array; exact for JSON, and of no consequence for anything else.

    Raises SourceRefused where a bracket closes what was not opened.
    """
    data = np.frombuffer(buffer, np.uint8)
    is_quote = data == ord('"')
    if b"\\" in buffer:
        is_quote[_escaped(np.flatnonzero(data == ord("\\")), len(data))] = False
    quotes = bits.pack(is_quote)
    outside = ~(bits.between(quotes) | quotes)
    opens: Mask = bits.where(data, ord("{")) & outside
    closes: Mask = bits.where(data, ord("}")) & outside
    every: Mask = opens | closes
    for bracket in b"[]":
        if bracket in buffer:
            every |= bits.where(data, bracket) & outside
    brackets = bits.offsets(every)
    kinds = data[brackets]
    depth = np.cumsum(np.where(kinds | 0x20 == ord("{"), 1, -1))
    close = None
    below = np.flatnonzero(depth < 0)
    if len(below):
        first = int(below[0])
        if kinds[first] != ord("]"):
            raise refused("json-malformed")
        close = int(brackets[first])
        brackets, kinds, depth = brackets[:first], kinds[:first], depth[:first]
    return Scan(
        ends=brackets[(depth == 0) & (kinds == ord("}"))] + 1,
        close=close,
        deepest=int(depth.max(initial=0)),
        complete=not bits.count(quotes) & 1 and not (len(depth) and depth[-1]),
        opens=opens,
        closes=closes,
        commas=bits.where(data, ord(",")) & outside,
        outside=outside,
    )


def _escaped(backslashes: Offsets, length: int) -> Offsets:
    """The bytes that follow a run of backslashes of odd length."""
    last = np.flatnonzero(np.diff(backslashes, append=-1) != 1)
    runs = np.diff(last, prepend=-1)
    escaped: Offsets = backslashes[last[runs & 1 == 1]] + 1
    return escaped[escaped < length]


def weight(text: bytes) -> int:
    """How many bytes of a well-formed `text` are no white space, outside strings or inside."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) > ord(" ")))


def name_weight(name: str, *, ascii_only: bool) -> int:
    """The least weight in which a member's name can be written, with its colon."""
    total = 3
    for character in name:
        if character in '"\\\b\f\n\r\t':
            total += 2
        elif character < " ":
            total += 6
        elif ascii_only and not character.isascii():
            total += 6 if character <= "\uffff" else 12
        elif character != " ":
            total += len(character.encode())
    return total


def check_number(token: str, limits: Limits) -> str:
    """The number itself; raises SourceRefused where it is over the limits."""
    exponent = _EXPONENT.search(token)
    if len(token) > limits.number_length or (
        exponent is not None and len(exponent[1]) > 0
        and (len(exponent[1]) > 9 or int(exponent[1]) > limits.exponent)
    ):  # fmt: skip
        raise refused("number-too-large")
    return token


def strict(text: bytes, limits: Limits) -> object:
    """What a JSON text says, numbers as written (`str`); raises SourceRefused.

    Names are unique in each object, in whatever way they are escaped.
    """

    def unique(members: list[tuple[str, object]]) -> dict[str, object]:
        unique = dict(members)
        if len(unique) != len(members):
            raise refused("member-duplicated")
        return unique

    def number(token: str) -> str:
        return check_number(token, limits)

    def constant(_: str) -> NoReturn:
        raise refused("json-malformed")

    if not is_utf8(text):
        raise refused("not-utf-8")
    cause = ""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
        return json.loads(
            text.decode(),
            object_pairs_hook=unique, parse_int=number, parse_float=number, parse_constant=constant,
        )  # fmt: skip
    except (msgspec.DecodeError, json.JSONDecodeError):
        cause = "json-malformed"
    except RecursionError:
        cause = "too-deep"
    raise refused(cause)  # outside the handler: the parser's own error holds the text


def locate(text: bytes, path: tuple[str, ...], limits: Limits) -> int | None:
    """The offset after the `[` of the array at `path`, or None where `text` does not reach it yet.

    What stands before it has then been found well-formed. Raises SourceRefused.
    """
    opened: list[int] = []
    names: list[str | None] = []
    name_next = False
    at = 0
    while at < len(text):
        matched = _TOKEN.match(text, at)
        if matched is None:
            if _UNFINISHED_STRING.match(text, at):
                return None
            raise refused("json-malformed")
        token, at = matched[0], matched.end()
        first = token[0]
        if first in WHITESPACE:
            continue
        if first in b":," and not opened:
            raise refused("json-malformed")
        if first == ord(":"):
            continue
        if first in b"}]":
            if not opened:
                raise refused("json-malformed")
            opened.pop()
            names.pop()
            name_next = False
            if not opened:
                raise refused("rows-missing")
        elif first == ord(","):
            name_next = bool(opened) and opened[-1] == ord("{")
        elif name_next and first == ord('"'):
            names[-1] = str(strict(token, limits))
            name_next = False
        else:
            if names == list(path) and all(kind == ord("{") for kind in opened):
                if first != ord("["):
                    raise refused("rows-missing")
                if opened:
                    closing = bytes(kind + 2 for kind in reversed(opened))
                    strict(text[:at] + b"0]" + closing, limits)
                return at
            if first in b"{[":
                opened.append(first)
                names.append(None)
                name_next = first == ord("{")
                if len(opened) > limits.depth:
                    raise refused("too-deep")
            elif not opened:
                raise refused("rows-missing")
    return None
