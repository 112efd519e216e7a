"""The shape of a value for `tokenise`: which of its characters change, and into what.

    AB-1234-77     two capital letters, `-`, four digits, `-`, two digits

A shape is written as a text with one character for each of the value's: separators (spaces and ASCII
punctuation) are themselves, all else is the mark of its kind. All texts of a shape are either strings
over one alphabet, with separators between, or have a rank: the number of each among all, in order.
"""

from __future__ import annotations

import re
import string
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import prod
from typing import Final, NamedTuple

from proxy.ff1 import SMALLEST_DOMAIN

LONGEST: Final = 128
"""Characters of a value: more are not worth the time that they take."""
_REMEMBERED: Final = 512
_INTEGER: Final = re.compile(r"-?[1-9][0-9]*\Z")
_DIGITS, _UPPER, _LOWER = string.digits, string.ascii_uppercase, string.ascii_lowercase
_NEVER: Final = "\0"
"""The mark of letters and digits that the alphabet does not have."""
_KINDS: Final = {
    "\1": _DIGITS,
    "\2": _UPPER,
    "\3": _LOWER,
    "\4": _DIGITS + _UPPER,
    "\5": _DIGITS + _LOWER,
    "\6": _DIGITS + _UPPER + _LOWER,
}
"""Mark -> the characters of the kind."""
_ALPHABETS: Final = {
    "pattern": "\1\2\3",
    "digits": "\1",
    "upper": "\4",
    "lower": "\5",
    "alphanumeric": "\6",
}
"""Alphabet -> the marks of its kinds, which have no character in common."""
_MARKS: Final = {
    name: str.maketrans(
        {
            **dict.fromkeys(string.ascii_letters + string.digits, _NEVER),
            **{character: mark for mark in marks for character in _KINDS[mark]},
        }
    )
    for name, marks in _ALPHABETS.items()
}
_NUMERALS: Final = {
    mark: str.maketrans(characters, (_DIGITS + _LOWER)[: len(characters)])
    for mark, characters in _KINDS.items()
    if len(characters) < 36
}
"""Characters -> numerals that `int` reads; of the kinds that stand beside others."""

ALPHABETS: Final = tuple(_ALPHABETS)


def written(text: str, alphabet: str) -> str | None:
    """The shape of a text as a text; None where a character has no place in one, or there are too many."""
    if len(text) > LONGEST or not (text.isascii() and text.isprintable()):
        return None
    shape = text.translate(_MARKS[alphabet])
    return None if _NEVER in shape else shape


class _Run(NamedTuple):
    """Characters of one kind, or separators, which have none."""

    mark: str | None
    start: int
    stop: int
    text: str
    """Separators themselves."""
    place: int
    """Where it begins among the characters that are no separators."""
    size: int
    """How many texts such a run can be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Strings:
    """Texts of which each is a string over one alphabet, with separators between."""

    alphabet: str
    length: int
    """Of the strings."""
    runs: tuple[_Run, ...]

    def string(self, text: str) -> str:
        """The text without its separators."""
        if len(self.runs) == 1:
            return text
        return "".join([text[start:stop] for mark, start, stop, *_ in self.runs if mark])

    def text(self, string: str) -> str:
        """The string with its separators."""
        if len(self.runs) == 1:
            return string
        return "".join(
            [
                string[place : place + stop - start] if mark else text
                for mark, start, stop, text, place, _ in self.runs
            ]
        )


class Ranks(ABC):
    """Texts of which each has a number among all of the shape, from 0 on."""

    domain: int
    """How many they are."""

    @abstractmethod
    def rank(self, text: str) -> int:
        """The number of a text."""

    @abstractmethod
    def text(self, rank: int) -> str:
        """The text of a number."""


@dataclass(frozen=True, kw_only=True)
class _Mixed(Ranks):
    """Texts with characters of several kinds."""

    domain: int
    runs: tuple[_Run, ...]

    def rank(self, text: str) -> int:
        number = 0
        for mark, start, stop, _, _, size in self.runs:
            if mark:
                run = text[start:stop].translate(_NUMERALS[mark])
                number = number * size + int(run, len(_KINDS[mark]))
        return number

    def text(self, rank: int) -> str:
        written = []
        for mark, start, stop, text, _, size in reversed(self.runs):
            if mark:
                rank, run = divmod(rank, size)
                written.append(_numeral(run, _KINDS[mark], stop - start))
            else:
                written.append(text)
        return "".join(reversed(written))


@dataclass(frozen=True, kw_only=True)
class _Integers(Ranks):
    """Integers of one sign with as many digits, the first of which is not 0."""

    domain: int
    sign: str
    least: int

    def rank(self, text: str) -> int:
        return abs(int(text)) - self.least

    def text(self, rank: int) -> str:
        return f"{self.sign}{rank + self.least}"


Shape = Strings | Ranks


@lru_cache(maxsize=_REMEMBERED)
def of_texts(shape: str) -> Shape | None:
    """What is written so; None where fewer than 10**6 texts are."""
    runs: list[_Run] = []
    start = place = 0
    for mark, characters in groupby(shape, lambda each: each if each in _KINDS else None):
        text = "".join(characters)
        size = len(_KINDS[mark]) ** len(text) if mark else 1
        runs.append(_Run(mark, start, start + len(text), text, place, size))
        start += len(text)
        place += len(text) if mark else 0
    domain = prod(run.size for run in runs)
    if domain < SMALLEST_DOMAIN:
        return None
    kinds = {run.mark for run in runs if run.mark}
    if len(kinds) > 1:
        return _Mixed(domain=domain, runs=tuple(runs))
    return Strings(alphabet=_KINDS[kinds.pop()], length=place, runs=tuple(runs))


def of_integers(shape: str) -> Shape | None:
    """The same of integers, which are written without needless signs and zeros."""
    sign = "-" if shape.startswith("-") else ""
    least = 10 ** max(0, len(shape) - len(sign) - 1)
    domain = 9 * least
    if domain < SMALLEST_DOMAIN:
        return None
    return _Integers(domain=domain, sign=sign, least=least)


def is_integer(text: str) -> bool:
    """Whether the text writes an integer without needless signs and zeros; 0 is not looked for."""
    return _INTEGER.match(text) is not None


def _numeral(number: int, characters: str, width: int) -> str:
    if characters is _DIGITS:
        return str(number).zfill(width)
    written = ""
    for _ in range(width):
        number, last = divmod(number, len(characters))
        written = characters[last] + written
    return written
