"""`shift(days=, per=)`: days moved by a secret number of days, one for all dates of a person.

The number is one of -N … -1, 1 … N, drawn by a PRF (HMAC-SHA-256, RFC 2104) of one field's value, the
person's: so all dates of one person keep their order and their distances, in every field and row that is
shifted under the same key. The key is one per report, purpose, field of persons and N, or per named domain
and N. An instant keeps its time of day. No value and an empty text are no person, whose dates would else
move with those of all other nobodies.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import count
from typing import ClassVar, Final

import polars as pl

from proxy.batch import Batch
from proxy.few import Cells, Few, like
from proxy.keys import text_bytes
from proxy.texts import nulls
from proxy.treatments import domains
from proxy.treatments.base import (
    BadArgument,
    Literal,
    Operation,
    Parameter,
    Site,
    Treatment,
    quoted,
)
from proxy.treatments.columns import DAY, ISO, SMALL, SURELY, days, of_type
from proxy.values import Type, calendar_date, instant

_MOST_DAYS: Final = 36_500
_DRAWN: Final = 1 << 256
"""Values of one MAC."""


def _count(literal: Literal) -> int:
    if literal.quoted or not literal.text.isdecimal():
        raise ValueError("a whole number, 1 or above")
    return int(literal.text)


@dataclass(frozen=True, kw_only=True)
class Shift(Treatment):
    """The day moved by a secret number of days, the same for all of one person's."""

    name: ClassVar[str] = "shift"
    summary: ClassVar[str] = (
        "The day, moved by a secret number of days that is one person's own, and never 0: order and "
        "distances within a person stay. No value where the row names no person, or where the calendar "
        "ends."
    )
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="days",
            attribute="days",
            read=_count,
            summary=f"how far at most, forth or back: 1 to {_MOST_DAYS}",
            required=True,
        ),
        Parameter(
            name="per",
            attribute="per",
            read=quoted,
            summary="the field that tells whose row it is, in quotes; it need not be granted",
            required=True,
        ),
        domains.parameter("reports that name it move a person's dates alike"),
    )
    accepts: ClassVar[frozenset[Type]] = frozenset({Type.DATE, Type.DATETIME})
    output: ClassVar[str] = "the field's"
    rank: ClassVar[int] = 16
    deterministic: ClassVar[bool] = True
    reversible: ClassVar[bool] = False
    idempotent: ClassVar[bool] = False
    unchanged: ClassVar[str] = "never"
    tells: ClassVar[str] = (
        "The day to within N days; the time of day, and order and distances of one person's dates, "
        "exactly; whether the row names a person. Whoever knows one true date of a person knows them all, "
        "and so does whoever recognises the pattern of their distances."
    )
    use: ClassVar[str] = (
        "For courses of events, such as visits or orders, of which the order and the distances matter."
    )
    avoid: ClassVar[str] = (
        "Where some dates are known from elsewhere, or distances are telling by themselves; where the "
        "distances do not matter, `truncate` keeps nothing of them. Without a `domain`, for people who may "
        "state several purposes: each moves the day anew, and all together narrow it down."
    )
    shown: ClassVar[tuple[tuple[str, Type, str], ...]] = (
        ("shift(days=30, per='customer')", Type.DATE, "2026-02-27"),
        ("shift(days=30, per='customer')", Type.DATE, "2026-03-01"),
        ("shift(days=30, per='customer')", Type.DATETIME, "2026-03-01T09:41:07Z"),
        ("shift(days=365, per='customer', domain='care')", Type.DATE, "2026-03-01"),
    )

    days: int
    per: str
    domain: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.days <= _MOST_DAYS:
            message = f"`days` is between 1 and {_MOST_DAYS}"
            raise BadArgument("days", message, "such as `days=30`")
        if not self.per:
            raise BadArgument("per", "`per` names no field", "such as `per='customer_id'`")
        domains.check(self.domain)

    @property
    def refers(self) -> tuple[tuple[str, str], ...]:
        """The field of persons."""
        return (("per", self.per),)

    @property
    def kin(self) -> Hashable:
        """Moves of the same persons."""
        return (self.name, self.per, self.domain)

    @property
    def fineness(self) -> tuple[object, ...]:
        """Shorter moves first."""
        return (self.days, self.per, self.domain or "")

    def __str__(self) -> str:
        domain = "" if self.domain is None else f", domain={Literal(self.domain, quoted=True)}"
        return f"shift(days={self.days}, per={Literal(self.per, quoted=True)}{domain})"

    def gives(self, type_: Type) -> Type:
        """Keep the type."""
        return type_

    def bind(self, site: Site) -> Operation:
        """Give the moved days under this site's key."""
        place = (
            ("report", site.report, site.purpose, self.per)
            if self.domain is None
            else ("domain", self.domain)
        )
        digest = site.keyring.mac("shift", str(self.days), *place).digest
        valid = calendar_date if site.type is Type.DATE else instant

        surely = SURELY[site.type]

        def move_of(person: str) -> int:
            return _drawn(self.days, digest, text_bytes(person)) if person else 0

        def moved(batch: Batch) -> Cells:
            values = of_type(batch.values(site.field), site.type)
            persons = of_type(batch.values(self.per), batch.type(self.per))
            if isinstance(values, Few) or isinstance(persons, Few) or len(values) < SMALL:
                people = persons.to_list()
                moves = {each: move_of(each) for each in set(people) if each is not None}
                return like(values, _each_moved(values.to_list(), map(moves.get, people), valid))
            distinct = persons.drop_nulls().unique()
            drawn = pl.Series(map(move_of, distinct.to_list()), dtype=pl.Int32)
            moves_ = persons.replace_strict(distinct, drawn, default=None, return_dtype=pl.Int32)
            plain = values.str.contains(surely)
            easy = values.zip_with(plain.fill_null(value=False), nulls(1))
            given = _all_moved(easy, moves_)
            if plain.all():
                return given
            rest = values.zip_with(~plain, nulls(1)).to_list()
            others = pl.Series(_each_moved(rest, moves_.to_list(), valid), dtype=pl.String)
            return given.zip_with(plain, others)

        return moved


def _drawn(most: int, digest: Callable[[bytes], bytes], person: bytes) -> int:
    """A number of days in -most … -1, 1 … most, each as likely as any other.

    What a MAC gives beyond the largest multiple of their number is drawn again.
    """
    choices = 2 * most
    fair = _DRAWN - _DRAWN % choices
    macs = (digest(attempt.to_bytes(4, "big") + person) for attempt in count())
    drawn = next(each for mac in macs if (each := int.from_bytes(mac, "big")) < fair)
    number = drawn % choices
    return number - most if number < most else number - most + 1


def _all_moved(values: pl.Series, moves: pl.Series) -> pl.Series:
    """Days, and instants in UTC, of the years 1000 to 2999, that the calendar has wherever they move."""
    moves = moves.zip_with(moves != 0, pl.Series([None], dtype=pl.Int32))
    moved = (days(values).cast(pl.Int32) + moves).cast(pl.Date)
    return moved.dt.to_string(ISO) + values.str.slice(DAY)


def _each_moved(
    values: Iterable[str | None],
    moves: Iterable[int | None],
    valid: Callable[[str], date | datetime | None],
) -> list[str | None]:
    """The same of any values; no value where there is no move, or the calendar ends."""
    return [
        _moved(text, timedelta(days=by), valid) if text is not None and by else None
        for text, by in zip(values, moves, strict=True)
    ]


def _moved(text: str, by: timedelta, valid: Callable[[str], date | datetime | None]) -> str | None:
    """A day, or the day of an instant, moved; None where the calendar has none."""
    try:
        moved = (date.fromisoformat(text[:DAY]) + by).isoformat() + text[DAY:]
    except OverflowError:
        return None
    return moved if valid(moved) is not None else None
