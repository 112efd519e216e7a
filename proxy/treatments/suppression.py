"""`suppress(k, by=)`: the cell as it is, where enough rows of the source share its group; else nothing.

    suppress(5, by='city')           rows of one city
    suppress(5, by='region'|'city')  … of one region, whose total must not tell of a hidden city

What is counted are the rows of the store's answer, whoever asks and whatever of them it may see: so nobody
learns more by asking for less. Which groups are given, and what is hidden beside the small ones, groups.py
says. The whole document is read before the first row leaves.

Whoever could have other rows counted, or be given other rows, might take one answer from another. So a
report with this form has no parameter that selects rows, and its lines look at no row and count in one way
(policy/differencing.py). What this does not reach: two reports over the same data, a store that changes
between two answers, and whoever knows all of the hidden rows but one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from proxy.batch import Batch
from proxy.few import Cells, either
from proxy.treatments.base import (
    BadArgument,
    Choosing,
    Literal,
    Operation,
    Parameter,
    Site,
    Treatment,
    quoted,
)
from proxy.treatments.columns import of_type
from proxy.treatments.groups import Counting
from proxy.values import Type

_LEAST: Final = 2
_MOST: Final = 1_000_000


def _count(literal: Literal) -> int:
    if literal.quoted or not literal.text.isdecimal():
        raise ValueError("a whole number")
    return int(literal.text)


@dataclass(frozen=True, kw_only=True)
class Suppress(Treatment):
    """The cell, unless too few rows are like its own."""

    name: ClassVar[str] = "suppress"
    summary: ClassVar[str] = (
        "The value as it is, where at least `k` rows of the report have the row's values of the `by` fields; "
        "else none. Further groups are hidden where a total would tell of a hidden one."
    )
    tells: ClassVar[str] = (
        "The value itself in groups that are given; of the others that they are small, or among the next "
        "larger ones."
    )
    use: ClassVar[str] = (
        "For figures about groups of people, where small groups would be known by their members."
    )
    avoid: ClassVar[str] = (
        "Where a row is one person and others know that it is there: use `round`, `pseudonym` or `redact`."
    )
    shown: ClassVar[tuple[tuple[str, Type, str], ...]] = (
        ("suppress(5, by='city')", Type.DECIMAL, "1234.56"),
    )
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="k",
            attribute="least",
            read=_count,
            summary="how many rows a group has at least, as `5`",
            required=True,
            positional=True,
        ),
        Parameter(
            name="by",
            attribute="by",
            read=quoted,
            many=True,
            summary="the field whose equal values make a group, in quotes; before it those of the groups "
            "around it, with bars between them",
            required=True,
        ),
    )
    accepts: ClassVar[frozenset[Type]] = frozenset(Type)
    output: ClassVar[str] = "the field's"
    rank: ClassVar[int] = 5
    deterministic: ClassVar[bool] = True
    reversible: ClassVar[bool] = False
    idempotent: ClassVar[bool] = True
    unchanged: ClassVar[str] = "in a group that is large enough, and not hidden for another's sake"

    least: int
    by: tuple[str, ...]

    def __post_init__(self) -> None:
        if not _LEAST <= self.least <= _MOST:
            raise BadArgument(
                "k", f"`k` is between {_LEAST} and {_MOST}", "such as `suppress(5, …)`"
            )
        for number, name in enumerate(self.by):
            if not name:
                raise BadArgument("by", "`by` names no field", "such as `by='city'`", number=number)
            if name in self.by[:number]:
                raise BadArgument(
                    "by", f"`by` names `{name}` twice", "write it once", number=number
                )

    @property
    def refers(self) -> tuple[tuple[str, str], ...]:
        """The fields by which rows are counted."""
        return tuple([("by", name) for name in self.by])

    @property
    def fineness(self) -> tuple[object, ...]:
        """Fewer hidden first; one way to count is no finer than another."""
        return (self.least, self.by)

    @property
    def counting(self) -> Counting:
        """By what the source's rows are counted."""
        return Counting(least=self.least, by=self.by)

    def __str__(self) -> str:
        names = "|".join(str(Literal(name, quoted=True)) for name in self.by)
        return f"suppress({self.least}, by={names})"

    def gives(self, type_: Type) -> Type:
        """Keep the type."""
        return type_

    def bind(self, site: Site) -> Operation:  # noqa: ARG002 - the same at every site
        """Give nothing: no row was counted."""
        return lambda batch: batch.repeated(None)

    def choosing(self, site: Site) -> Choosing:
        """Give the values of rows in groups that may be given."""

        def chosen(batch: Batch, shown: Cells) -> Cells:
            values = of_type(batch.values(site.field), site.type)
            return either(values, shown, batch.repeated(None))

        return chosen
