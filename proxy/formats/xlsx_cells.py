"""What a reader of workbooks gives of a cell -> the plain text of its value.

    text       as it is; a text without characters is no value, like a cell without anything
    number     the shortest digits that mean the same double; whole ones without a point
    boolean    `true`, `false`
    date       `YYYY-MM-DD`, a day; in a field of datetimes `YYYY-MM-DDT00:00:00Z`
    datetime   `YYYY-MM-DDTHH:MM:SS`, with milliseconds where there are some; in a field of datetimes with `Z`
    time       `HH:MM:SS`, a date without a day
    duration   `HH:MM:SS`, of any number of hours
    error      the text that it shows, `#N/A`

A date is a number with the format of a date; which one, on which day the count begins and what a formula
came to when the workbook was last reckoned is what the reader says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from proxy.formats.base import refused
from proxy.values import DIGITS, Type


def texts(cells: Sequence[Any], type_: Type) -> list[str | None]:
    """A column's cells; raises SourceRefused for a number that is none (NaN, infinite)."""
    kinds = set(map(type, cells))
    if kinds <= {str}:
        return [cell or None for cell in cells]
    forms = _OF_INSTANTS if type_ is Type.DATETIME else _FORMS
    return [forms[type(cell)](cell) for cell in cells]


def name(cell: Any) -> str:
    """A cell of the header; empty where it has no value."""
    return _FORMS[type(cell)](cell) or ""


def _text(text: str) -> str | None:
    return text or None


def _number(number: float) -> str:
    text = repr(number)
    if text.endswith(".0"):
        return "0" if text == "-0.0" else text[:-2]
    if text[-1] in "nf":
        raise refused("sheet-malformed")
    if "e+" in text and abs(number) < 10**DIGITS:
        return format(Decimal(text), "f")
    return text


def _boolean(truth: bool) -> str:  # noqa: FBT001 - the value itself
    return "true" if truth else "false"


def _date(day: date) -> str:
    return day.isoformat()


def _instant(at: datetime | time) -> str:
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds")


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"


def _in_utc(at: datetime) -> str:
    return f"{_instant(at)}Z"


def _duration(span: timedelta) -> str:
    seconds = abs(span) // timedelta(seconds=1)
    sign = "-" if span < timedelta() else ""
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


_FORMS: Final[Mapping[type, Callable[[Any], str | None]]] = MappingProxyType(
    {
        str: _text,
        float: _number,
        int: str,
        bool: _boolean,
        date: _date,
        datetime: _instant,
        time: _instant,
        timedelta: _duration,
    }
)
_OF_INSTANTS: Final[Mapping[type, Callable[[Any], str | None]]] = MappingProxyType(
    {**_FORMS, date: _midnight, datetime: _in_utc}
)
"""In a field of datetimes: what says nothing of a zone is in UTC (`values`)."""
