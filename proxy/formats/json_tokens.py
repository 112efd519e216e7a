"""Raw tokens of members: record types that give them, their checks, and the columns made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from proxy import texts
from proxy.formats.base import Limits, refused
from proxy.formats.bits import Offsets
from proxy.formats.json_text import check_number, name_weight, strict, weight
from proxy.formats.pieces import cut

MISSING: Final = msgspec.Raw(b"")
"""The token of a member that a record lacks."""
_FIRST: Final = np.zeros(1, np.int64)
_NO_ENDS: Final = np.empty(0, np.int64)
_VOID: Final = np.zeros(256, np.bool_)
_VOID[list(b"\nn{[")] = True
_DIGIT: Final = np.zeros(256, np.bool_)
_DIGIT[list(b"-0123456789")] = True
"""First bytes of tokens that are no value, and of numbers."""
_BLOCK_OF_TOKENS: Final = 32 << 10
"""Bytes of tokens from which Arrow beats a list."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A record type for given members, the wanted ones first."""

    names: tuple[str, ...]
    decoder: msgspec.json.Decoder[list[Any]]
    weights: tuple[tuple[int, ...], tuple[int, ...]]
    """The least weight of each name with its colon: in a block of any characters, of ASCII alone."""


@lru_cache(maxsize=64)
def layout_of(names: tuple[str, ...]) -> Layout | None:
    """The layout of `names`; None where msgspec has no such record type."""
    attributes = [f"f{index}" for index in range(len(names))]
    try:
        record = msgspec.defstruct(
            "Record",
            [(attribute, msgspec.Raw, MISSING) for attribute in attributes],
            rename=dict(zip(attributes, names, strict=True)),
            gc=False,
        )
    except ValueError:  # a quote, backslash or control character in a name
        return None
    return Layout(
        names=names,
        decoder=msgspec.json.Decoder(list[record]),  # type: ignore[valid-type]  # made while running
        weights=(
            tuple(name_weight(name, ascii_only=False) for name in names),
            tuple(name_weight(name, ascii_only=True) for name in names),
        ),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Tokens one after another, each on a line of its own, and the kind of each: its first byte."""

    lines: bytes
    kinds: npt.NDArray[np.uint8]
    """10 where a member is missing."""
    ends: Offsets
    weight: int


def tokens_of(raw: Sequence[msgspec.Raw], limits: Limits) -> Tokens:
    """Lay tokens out and check what msgspec does not; raises SourceRefused.

    An object or array (no value of any field) is checked strictly.
    """
    if not raw:
        return Tokens(lines=b"", kinds=np.empty(0, np.uint8), ends=_NO_ENDS, weight=0)
    lines = b"\n".join(raw) + b"\n"
    data = np.frombuffer(lines, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    if len(ends) != len(raw):
        return _tokens_over_lines(raw, limits)
    starts = np.concatenate((_FIRST, ends[:-1] + 1))
    kinds = data[starts]
    for index in np.flatnonzero(kinds | 0x20 == ord("{")).tolist():
        strict(lines[starts[index] : ends[index]], limits)

    numbers = np.flatnonzero(_DIGIT[kinds])
    if len(numbers):
        if int((ends[numbers] - starts[numbers]).max()) > limits.number_length:
            raise refused("number-too-large")
        # Numbers come in runs, for tokens come column by column.
        breaks = np.flatnonzero(numbers[1:] - numbers[:-1] != 1)
        firsts = [0, *(breaks + 1).tolist()]
        lasts = [*breaks.tolist(), len(numbers) - 1]
        for first, last in zip(firsts, lasts, strict=True):
            start, end = int(starts[numbers[first]]), int(ends[numbers[last]])
            if lines.find(b"e", start, end) >= 0 or lines.find(b"E", start, end) >= 0:
                for token in lines[start:end].decode().split("\n"):
                    check_number(token, limits)
    return Tokens(lines=lines, kinds=kinds, ends=ends, weight=weight(lines))


def _tokens_over_lines(raw: Sequence[msgspec.Raw], limits: Limits) -> Tokens:
    """The same where objects or arrays hold line ends: each is replaced by an empty array."""
    total = 0
    single: list[msgspec.Raw] = []
    for token in raw:
        text = bytes(token)
        if text[:1] in {b"{", b"["}:
            strict(text, limits)
            total += weight(text) - 2
            single.append(msgspec.Raw(b"[]"))
        else:
            single.append(token)
    tokens = tokens_of(single, limits)
    return replace(tokens, weight=tokens.weight + total)


def cells_of(tokens: Tokens) -> list[str | None]:
    """One cell for each token; None for `null`, a missing member, an object or an array."""
    cells: list[str | None] = [*tokens.lines.decode().split("\n")]
    cells.pop()
    for index in np.flatnonzero(_VOID[tokens.kinds]).tolist():
        cells[index] = None
    return cells


def column_of(tokens: Tokens) -> pl.Series:
    """The same as a series."""
    if len(tokens.lines) < _BLOCK_OF_TOKENS:
        return pl.Series(cells_of(tokens), dtype=pl.String)
    starts = np.concatenate((_FIRST, tokens.ends[:-1] + 1))
    column = texts.column(cut(np.frombuffer(tokens.lines, np.uint8), (starts, tokens.ends)))
    void = _VOID[tokens.kinds]
    return column.set(pl.Series(void), None) if void.any() else column
