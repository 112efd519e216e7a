"""`partial(first=, last=, with=)`: some characters at the ends, the rest behind a mask.

The mask has one width whatever it hides, and a text that is not longer than what would be shown is
hidden whole: the result is a function of the shown characters and of "longer than shown" alone, so
that the length of the hidden part does not leave. Characters are Unicode code points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

import polars as pl

from proxy.batch import Batch
from proxy.few import Cells, Few
from proxy.treatments.base import (
    BadArgument,
    Literal,
    Operation,
    Parameter,
    Site,
    Treatment,
)
from proxy.treatments.columns import SMALL, of_type, per_distinct
from proxy.values import Type

WIDTH: Final = 3
"""Mask characters, however many are hidden."""

_MOST: Final = 1000


def _count(literal: Literal) -> int:
    if literal.quoted or not literal.text.isdecimal():
        raise ValueError("a whole number, 0 or above")
    return int(literal.text)


def _character(literal: Literal) -> str:
    if not literal.quoted:
        raise ValueError("one character in quotes, as `'*'`")
    return literal.text


@dataclass(frozen=True, kw_only=True)
class Partial(Treatment):
    """The first and last characters; `with` a mask of fixed width between them."""

    name: ClassVar[str] = "partial"
    summary: ClassVar[str] = (
        "The first and last characters with three mask characters between them, however many are "
        "hidden; a value that is not longer than what would be shown is hidden whole."
    )
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="first", attribute="first", read=_count, summary="characters shown at the start"
        ),
        Parameter(
            name="last", attribute="last", read=_count, summary="characters shown at the end"
        ),
        Parameter(
            name="with", attribute="mask", read=_character, summary="the mask character, `'*'`"
        ),
    )
    accepts: ClassVar[frozenset[Type]] = frozenset({Type.TEXT, Type.INTEGER, Type.DATE})
    output: ClassVar[str] = "text"
    rank: ClassVar[int] = 20
    deterministic: ClassVar[bool] = True
    reversible: ClassVar[bool] = False
    idempotent: ClassVar[bool] = False
    unchanged: ClassVar[str] = "a text that looks masked already"
    tells: ClassVar[str] = (
        "The characters that are shown, and whether the value is longer than these; not how much longer. "
        "Equal values look alike, and so do all that differ in hidden characters alone."
    )
    use: ClassVar[str] = (
        "Where people have to recognise a value that they hold already: the last digits of a card."
    )
    avoid: ClassVar[str] = (
        "Where what is shown nearly names the value: the last four of nine digits leave 100,000 "
        "candidates, and the rest of the row leaves fewer. To group or join by it, give `pseudonym`."
    )
    shown: ClassVar[tuple[tuple[str, Type, str], ...]] = (
        ("partial(last=4)", Type.TEXT, "4111111111111111"),
        ("partial(first=1, last=4)", Type.TEXT, "ada@example.com"),
        ("partial(last=4, with='#')", Type.INTEGER, "1234"),
        ("partial(first=4)", Type.DATE, "1984-05-17"),
    )
    per_value: ClassVar[bool] = True

    first: int = 0
    last: int = 0
    mask: str = "*"

    def __post_init__(self) -> None:
        for parameter, count in (("first", self.first), ("last", self.last)):
            if not 0 <= count <= _MOST:
                message = f"`{parameter}` is between 0 and {_MOST}"
                raise BadArgument(parameter, message, f"such as `{parameter}=4`")
        if self.first == self.last == 0:
            raise BadArgument(
                "first", "`partial` shows nothing", "give `first=` or `last=`, or use `redact`"
            )
        if len(self.mask) != 1 or not self.mask.isprintable():
            raise BadArgument("with", "`with` is one printable character", "such as `with='*'`")

    @property
    def fineness(self) -> tuple[object, ...]:
        """More shown first."""
        return (-(self.first + self.last), -self.first, self.mask)

    def __str__(self) -> str:
        given = [f"first={self.first}"] if self.first else []
        given += [f"last={self.last}"] if self.last else []
        given += [f"with={Literal(self.mask, quoted=True)}"] if self.mask != "*" else []
        return f"partial({', '.join(given)})"

    def gives(self, type_: Type) -> Type:  # noqa: ARG002 - a masked number is none
        """Give text."""
        return Type.TEXT

    def bind(self, site: Site) -> Operation:
        """Give the masked texts."""
        shown = self.first + self.last
        middle = self.mask * WIDTH
        one = self._of_one()

        def masked(batch: Batch) -> Cells:
            values = of_type(batch.values(site.field), site.type)
            if isinstance(values, Few) or len(values) < SMALL:
                return per_distinct(values, one)
            text = pl.Series([middle], dtype=pl.String)
            if self.first:
                text = values.str.slice(0, self.first) + text
            if self.last:
                text = text + values.str.slice(-self.last)
            hidden = pl.Series([middle], dtype=pl.String)
            longer = values.str.len_chars() > shown
            return text.zip_with(longer | values.is_null(), hidden)

        return masked

    def _of_one(self) -> Callable[[str], str | None]:
        """Mask one text in Python."""
        first, last, middle = self.first, self.last, self.mask * WIDTH

        def one(text: str) -> str:
            if len(text) <= first + last:
                return middle
            return text[:first] + middle + text[len(text) - last :]

        return one
