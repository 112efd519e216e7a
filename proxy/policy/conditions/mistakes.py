"""What is wrong in a condition, said so that its author can put it right."""

from __future__ import annotations

from difflib import get_close_matches
from typing import NamedTuple

from proxy.errors import CounterfoilError


class Mistake(NamedTuple):
    """One thing wrong in a condition; `offset` counts characters from 0."""

    offset: int
    message: str
    hint: str = ""


class BadCondition(CounterfoilError):
    """A text that is no condition in its scope; `mistakes` is sorted by offset and never empty."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes: tuple[Mistake, ...] = tuple(sorted(set(mistakes)))
        super().__init__("; ".join(mistake.message for mistake in self.mistakes))


def shown(text: str, most: int = 40) -> str:
    """`text`, cut where it is long."""
    return text if len(text) <= most else text[:most] + "…"


def nearest(word: str, known: list[str], prefix: str = "") -> str:
    """A hint that names the known word closest to `word`, else lists a few, else ''."""
    close = get_close_matches(word, known, n=1) or get_close_matches(word.lower(), known, n=1)
    if close:
        return f"did you mean `{prefix}{close[0]}`?"
    few = ", ".join(f"`{prefix}{each}`" for each in sorted(known)[:8])
    return f"known are {few}" + (", …" if len(known) > 8 else "") if few else ""
