"""`truncate(unit)`: the beginning of the period that a day or an instant is in.

The period is a year, quarter, month, ISO week (ISO 8601: from Monday on), day or hour. An instant is one
of UTC, whatever offset it is written with: `2026-03-01T00:30+02:00` is in February. A cell that names an
offset gets a `Z`; one that names none, none.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import ClassVar, Final

import polars as pl

from proxy.batch import Batch
from proxy.few import Cells, Few
from proxy.texts import nulls
from proxy.treatments.base import (
    BadArgument,
    Literal,
    Operation,
    Parameter,
    Site,
    Treatment,
    quoted,
)
from proxy.treatments.columns import DAY, ISO, SMALL, SURELY, days, per_distinct
from proxy.values import Type, calendar_date, instant

_DATES: Final = frozenset({Type.DATE, Type.DATETIME})
_UNITS: Final = ("hour", "day", "week", "month", "quarter", "year")
"""Finest first."""
_OF_INSTANTS: Final = frozenset({"hour", "day"})
"""Units that say nothing less of a day."""


@dataclass(frozen=True, kw_only=True)
class Truncate(Treatment):
    """The beginning of the year, quarter, month, week, day or hour."""

    name: ClassVar[str] = "truncate"
    summary: ClassVar[str] = (
        "The beginning of the period that a day or an instant (in UTC) is in; weeks begin on Monday."
    )
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="unit",
            attribute="unit",
            read=quoted,
            summary="`'year'`, `'quarter'`, `'month'`, `'week'`, and of instants `'day'` and `'hour'`",
            required=True,
            positional=True,
        ),
    )
    accepts: ClassVar[frozenset[Type]] = _DATES
    output: ClassVar[str] = "the field's"
    rank: ClassVar[int] = 14
    deterministic: ClassVar[bool] = True
    reversible: ClassVar[bool] = False
    idempotent: ClassVar[bool] = True
    unchanged: ClassVar[str] = "the beginning of a period"
    tells: ClassVar[str] = (
        "In which period the day or the instant is; of an instant also whether the store writes an offset, "
        "and not which."
    )
    use: ClassVar[str] = "To count or sum by period, where the day itself could name a person."
    avoid: ClassVar[str] = (
        "Where distances between dates matter: give `shift`. Where a period holds few rows, take a longer "
        "one."
    )
    shown: ClassVar[tuple[tuple[str, Type, str], ...]] = (
        ("truncate('month')", Type.DATE, "1984-05-17"),
        ("truncate('quarter')", Type.DATE, "1984-05-17"),
        ("truncate('week')", Type.DATE, "2026-01-01"),
        ("truncate('hour')", Type.DATETIME, "2026-03-01T09:41:07Z"),
        ("truncate('month')", Type.DATETIME, "2026-03-01T00:30:00+02:00"),
    )
    per_value: ClassVar[bool] = True

    unit: str

    def __post_init__(self) -> None:
        if self.unit not in _UNITS:
            known = ", ".join(f"`'{unit}'`" for unit in reversed(_UNITS))
            message = f"`truncate` knows no unit `{self.unit}`"
            raise BadArgument("unit", message, f"known: {known}")

    @property
    def takes(self) -> frozenset[Type]:
        """Days have no hours, and are days already."""
        return frozenset({Type.DATETIME}) if self.unit in _OF_INSTANTS else _DATES

    @property
    def kin(self) -> Hashable:
        """All units."""
        return self.name

    @property
    def fineness(self) -> tuple[object, ...]:
        """Shorter periods first."""
        return (_UNITS.index(self.unit),)

    def __str__(self) -> str:
        return f"truncate({Literal(self.unit, quoted=True)})"

    def gives(self, type_: Type) -> Type:
        """Keep the type."""
        return type_

    def bind(self, site: Site) -> Operation:
        """Give the beginnings; null where a cell is no value of the field's type."""
        first = _FIRST[self.unit]

        def of_day(text: str) -> str | None:
            day = calendar_date(text)
            return None if day is None else first(day).isoformat()

        def of_instant(text: str) -> str | None:
            at = instant(text)
            if at is None:
                return None
            hour = at.hour if self.unit == "hour" else 0
            zone = "" if len(text) > DAY and _names_no_offset(text) else "Z"
            return f"{first(at.date()).isoformat()}T{hour:02}:00:00{zone}"

        one = of_day if site.type is Type.DATE else of_instant
        surely = SURELY[site.type]

        def truncated(batch: Batch) -> Cells:
            values = batch.values(site.field)
            if isinstance(values, Few) or len(values) < SMALL:
                return per_distinct(values, one)
            plain = values.str.contains(surely)
            if plain.all():
                return self._of_plain(values, site.type)
            rest = per_distinct(values.zip_with(~plain, nulls(1)), one)
            assert isinstance(rest, pl.Series)
            easy = values.zip_with(plain, nulls(1))
            return self._of_plain(easy, site.type).zip_with(plain, rest)

        return truncated

    def _of_plain(self, values: pl.Series, type_: Type) -> pl.Series:
        """The same of days, and instants in UTC, that are written in the usual way."""
        firsts = days(values).dt.truncate(_EVERY[self.unit]).dt.to_string(ISO)
        if type_ is Type.DATE:
            return firsts
        hours = values.str.slice(DAY + 1, 2) if self.unit == "hour" else _text_of("00")
        zones = _text_of("Z").zip_with(values.str.ends_with("Z"), _text_of(""))
        return firsts + _text_of("T") + hours + _text_of(":00:00") + zones


def _text_of(text: str) -> pl.Series:
    """A text, for all rows."""
    return pl.Series([text], dtype=pl.String)


def _names_no_offset(instant_: str) -> bool:
    clock = instant_[DAY:]
    return not (clock.endswith("Z") or "+" in clock or "-" in clock)


_FIRST: Final[dict[str, Callable[[date], date]]] = {
    "year": lambda day: day.replace(month=1, day=1),
    "quarter": lambda day: day.replace(month=day.month - (day.month - 1) % 3, day=1),
    "month": lambda day: day.replace(day=1),
    "week": lambda day: day - timedelta(days=day.weekday()),  # 0001-01-01 is a Monday
    "day": lambda day: day,
    "hour": lambda day: day,
}
"""The first day of the period that a day is in."""
_EVERY: Final = {
    "year": "1y",
    "quarter": "1q",
    "month": "1mo",
    "week": "1w",
    "day": "1d",
    "hour": "1d",
}
"""… as polars names the period; its weeks begin on Monday too."""
