"""`bucket(edges)`: the interval that a number or a day is in, exactly.

Intervals hold their lower end and not their upper one, and cover everything:

    bucket(0|100|1000)    <0    [0, 100)    [100, 1000)    >=1000

Edges are printed as the policy writes them. With `as='lower'` a number stays a number, and a day a day:
the lower edge of its interval; below the first edge there is none, and no value is given.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from proxy.batch import Batch
from proxy.few import Cells
from proxy.texts import TEXT, Coded, nulls
from proxy.treatments.base import (
    BadArgument,
    Literal,
    Operation,
    Parameter,
    Site,
    Treatment,
    quoted,
)
from proxy.treatments.columns import SMALL, per_distinct
from proxy.treatments.numbers import (
    EXACT,
    SCALE,
    SHORT_SCALE,
    SHORT_WHOLE,
    WHOLE,
    exactly,
    plainly_short,
)
from proxy.values import DIGITS, Type, calendar_date, scalar

_NUMBERS: Final = frozenset({Type.INTEGER, Type.DECIMAL})
_DAYS: Final = frozenset({Type.DATE})
_BEYOND_EXACT: Final = 10 ** (WHOLE + SCALE)
_BEYOND: Final = 10 ** (SHORT_WHOLE + SHORT_SCALE)
"""More than any number that goes into 128 bits, or into 64, in its units."""
_PLAIN: Final = {
    Type.INTEGER: re.compile(rf"([+-]?[0-9]{{1,{DIGITS}}})()\Z"),
    Type.DECIMAL: re.compile(rf"([+-]?[0-9]{{1,{DIGITS}}})(?:\.([0-9]{{1,{DIGITS}}}))?\Z"),
}
"""Numbers that need no `Fraction`: the whole digits, and those after the point."""


def _edge(literal: Literal) -> Literal:
    type_ = Type.DATE if literal.quoted else Type.DECIMAL
    if scalar(literal.text, type_) is None:
        raise ValueError("a list of numbers, or of days in quotes")
    return literal


@dataclass(frozen=True, kw_only=True)
class Bucket(Treatment):
    """The interval between two edges that the value is in; its upper end is no part of it."""

    name: ClassVar[str] = "bucket"
    summary: ClassVar[str] = (
        "The interval that a number or a day is in, exact in decimals: `[0, 100)` holds 0 and not 100. "
        "The first and the last interval have one end: `<0`, `>=1000`."
    )
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="edges",
            attribute="edges",
            read=_edge,
            summary="where intervals begin, ascending: numbers, or days in quotes, with bars between them",
            required=True,
            positional=True,
            many=True,
        ),
        Parameter(
            name="as",
            attribute="given",
            read=quoted,
            summary="`'lower'`: the interval's lower edge, of the field's type; no value below the first",
        ),
    )
    accepts: ClassVar[frozenset[Type]] = _NUMBERS | _DAYS
    output: ClassVar[str] = (
        "text; with `as='lower'` the field's, or decimal where an edge has a point"
    )
    rank: ClassVar[int] = 12
    deterministic: ClassVar[bool] = True
    reversible: ClassVar[bool] = False
    idempotent: ClassVar[bool] = True
    unchanged: ClassVar[str] = "with `as='lower'`, where it is an edge"
    tells: ClassVar[str] = (
        "In which interval the value is, and nothing else of it; for an interval that few rows are in, "
        "that may be a lot."
    )
    use: ClassVar[str] = (
        "For ages, amounts and sizes that are compared by class, and where a step that suits small values "
        "would tell too much of large ones."
    )
    avoid: ClassVar[str] = (
        "Beside `round`, or other edges, of the same field for the same people: what they get together is "
        "as fine as all edges put together. With `as='lower'` in sums: each value counts as its interval's "
        "least."
    )
    shown: ClassVar[tuple[tuple[str, Type, str], ...]] = (
        ("bucket(0|100|1000)", Type.INTEGER, "99"),
        ("bucket(0|100|1000)", Type.DECIMAL, "100.00"),
        ("bucket(0|100|1000)", Type.DECIMAL, "-0.01"),
        ("bucket(0|100|1000)", Type.INTEGER, "25000"),
        ("bucket(0|100|1000, as='lower')", Type.INTEGER, "250"),
        ("bucket('2026-01-01'|'2026-07-01')", Type.DATE, "2026-06-30"),
    )

    edges: tuple[Literal, ...]
    given: str | None = None

    def __post_init__(self) -> None:
        if self.given not in (None, "lower"):
            raise BadArgument("as", "`as` can only be `'lower'`", "write that, or leave it out")
        exact = self.exact
        for number in range(1, len(exact)):
            if self.edges[number].quoted != self.edges[0].quoted:
                message = "the edges of `bucket` are all numbers or all days"
                raise BadArgument("edges", message, "leave the others out", number=number)
            if exact[number] <= exact[number - 1]:
                raise BadArgument(
                    "edges",
                    f"the edges of `bucket` ascend, and `{self.edges[number].text}` comes after "
                    f"`{self.edges[number - 1].text}`",
                    "put them in order, each once",
                    number=number,
                )

    @cached_property
    def exact(self) -> tuple[Any, ...]:
        """The edges' values: fractions, or days."""
        return tuple(map(_exactly, self.edges))

    @property
    def takes(self) -> frozenset[Type]:
        """Numbers where the edges are, else days."""
        return _DAYS if self.edges[0].quoted else _NUMBERS

    @property
    def kin(self) -> Hashable:
        """By the edges, however they are given."""
        return (self.name, self.exact)

    def nests(self, other: Bucket) -> bool:
        """Whether the intervals of one are made of whole intervals of the other."""
        mine, others = set(self.exact), set(other.exact)
        return mine <= others or others <= mine

    @property
    def places(self) -> int:
        """As many as the edges are written with."""
        return max(len(edge.text.partition(".")[2]) for edge in self.edges)

    @property
    def fineness(self) -> tuple[object, ...]:
        """More edges first, and of the same what can be computed with."""
        return (-len(self.edges), self.given is None, *(edge.text for edge in self.edges))

    def __str__(self) -> str:
        edges = "|".join(map(str, self.edges))
        given = "" if self.given is None else f", as={Literal(self.given, quoted=True)}"
        return f"bucket({edges}{given})"

    def gives(self, type_: Type) -> Type:
        """Give text; as a lower edge keep the type, but an edge with a point makes decimals."""
        if self.given is None:
            return Type.TEXT
        return Type.DECIMAL if type_ is Type.INTEGER and self.places else type_

    @cached_property
    def labels(self) -> tuple[str | None, ...]:
        """What is given below the first edge, between each two, and from the last on."""
        edges = [edge.text for edge in self.edges]
        if self.given is not None:
            return (None, *edges)
        between = [f"[{one}, {other})" for one, other in pairwise(edges)]
        return (f"<{edges[0]}", *between, f">={edges[-1]}")

    def bind(self, site: Site) -> Operation:
        """Give the intervals; null where a cell is no value of the field's type."""
        one = self._of_one(site.type)
        short_edges = None if site.type is Type.DATE else self._short_edges()
        distinct = pa.array([*self.labels, None], TEXT)

        def bucketed(batch: Batch) -> Cells | Coded:
            if batch.few or batch.height < SMALL or short_edges is None:
                return per_distinct(batch.values(site.field), one)
            short = plainly_short(batch.plain_texts(site.field), site.type)
            if short is not None:
                codes = np.searchsorted(short_edges, short.numbers, side="right")
                if short.void is not None:
                    codes[short.void] = len(distinct) - 1
                return Coded(distinct, codes)
            values = batch.series(site.field)
            plain = values.str.contains(EXACT[site.type])
            if plain.all():
                return self._of_exact(values)
            rest = per_distinct(values.zip_with(~plain, nulls(1)), one)
            assert isinstance(rest, pl.Series)
            return self._of_exact(values.zip_with(plain, nulls(1))).zip_with(plain, rest)

        return bucketed

    def _of_exact(self, values: pl.Series) -> pl.Series:
        """The intervals of numbers that go into 128 bits."""
        numbers = exactly(values)
        labels = pl.Series(self.labels[:1], dtype=pl.String).new_from_index(0, len(values))
        for edge, label in zip(_at_scale(self.exact, SCALE), self.labels[1:], strict=True):
            least = pl.Series([min(max(edge, -_BEYOND_EXACT), _BEYOND_EXACT)], dtype=pl.Int128)
            labels = labels.zip_with(numbers < least, pl.Series([label], dtype=pl.String))
        return labels.zip_with(numbers.is_not_null(), nulls(1))

    def _short_edges(self) -> npt.NDArray[np.int64]:
        """The least number of the shorter form, in its units, that is not below each edge."""
        least = _at_scale(self.exact, SHORT_SCALE)
        return np.array([min(max(edge, -_BEYOND), _BEYOND) for edge in least], np.int64)

    def _of_one(self, type_: Type) -> Callable[[str], str | None]:
        """The interval of one text, in Python integers."""
        labels, edges = self.labels, self.exact
        if type_ is Type.DATE:

            def of_day(text: str) -> str | None:
                day = calendar_date(text)
                return None if day is None else labels[bisect_right(edges, day)]

            return of_day
        plain = _PLAIN[type_].match
        at_scale: dict[int, list[int]] = {}

        def of_number(text: str) -> str | None:
            matched = plain(text)
            if matched is None:
                exact = scalar(text, type_)
                return None if exact is None else labels[bisect_right(edges, exact)]
            whole, fraction = matched.groups("")
            scaled = at_scale.get(len(fraction))
            if scaled is None:
                scaled = at_scale[len(fraction)] = _at_scale(edges, len(fraction))
            return labels[bisect_right(scaled, int(whole + fraction))]

        return of_number


def _exactly(edge: Literal) -> Fraction | date:
    found = scalar(edge.text, Type.DATE if edge.quoted else Type.DECIMAL)
    if isinstance(found, date):
        return found
    assert isinstance(found, int | Fraction)
    return Fraction(found)


def _at_scale(edges: tuple[Fraction, ...], digits: int) -> list[int]:
    """For each edge the least n for which n × 10^-`digits` is not below it."""
    return [-(-edge.numerator * 10**digits // edge.denominator) for edge in edges]
