"""The values of a field, scalar by scalar: text in a document -> a value of the policy language.

Types and their exact lexical grammar (anything else is *not a value of the type*, which the
condition language reads as unknown and every treatment but `clear` gives as null):

    text       any string
    integer    [+-]?digits, at most 36 of them
    decimal    [+-]?digits[.digits][e[+-]digits], at most 36 digits on each side of the point
    boolean    true | false
    date       YYYY-MM-DD, a day of the proleptic Gregorian calendar
    datetime   YYYY-MM-DD(T| )HH:MM[:SS[.ffffff]][Z|±HH:MM]; without an offset it is UTC

Numbers are exact: `int` or `Fraction`, never a float.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Final

Scalar = str | int | Fraction | bool | date | datetime
"""A value of the policy language; `datetime` is always aware (UTC)."""

Value = Scalar | tuple[Scalar, ...]
"""A scalar, or a list of scalars of one type (a subject's attribute)."""


class Type(StrEnum):
    """The type of a field, a parameter or an attribute."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"

    @property
    def is_number(self) -> bool:
        """Whether values of this type take part in arithmetic."""
        return self in (Type.INTEGER, Type.DECIMAL)


DIGITS: Final = 36
"""Most digits on either side of the point; beyond is overflow, hence not a value."""

_INTEGER = re.compile(rf"[+-]?[0-9]{{1,{DIGITS}}}\Z")
_DECIMAL = re.compile(
    rf"([+-]?)([0-9]{{1,{DIGITS}}})(?:\.([0-9]{{1,{DIGITS}}}))?(?:[eE]([+-]?[0-9]{{1,3}}))?\Z"
)
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})\Z")
_DATETIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})?\Z"
)
_BOUND = 10**DIGITS


def number(text: str) -> int | Fraction | None:
    """The exact number that `text` writes, or None where it is not one or overflows."""
    if _INTEGER.match(text):
        return int(text)
    matched = _DECIMAL.match(text)
    if matched is None:
        return None
    sign, whole, fraction, exponent = matched.groups()
    fraction = fraction or ""
    scale = int(exponent or 0) - len(fraction)
    digits = int(whole + fraction)
    exact = Fraction(digits * 10**scale) if scale >= 0 else Fraction(digits, 10**-scale)
    if exact >= _BOUND or _BOUND % exact.denominator:
        return None
    return -exact if sign == "-" else exact


def calendar_date(text: str) -> date | None:
    """The day that `text` writes as YYYY-MM-DD, or None."""
    matched = _DATE.match(text)
    if matched is None:
        return None
    try:
        return date(*map(int, matched.groups()))
    except ValueError:
        return None


def instant(text: str) -> datetime | None:
    """The instant that `text` writes (RFC 3339 with optional seconds and offset), in UTC, or None."""
    matched = _DATETIME.match(text)
    if matched is None:
        return None
    day, hour, minute, second, micro, offset = matched.groups()
    on = calendar_date(day)
    if on is None:
        return None
    ahead = timedelta()
    if offset and offset != "Z":
        hours, minutes = int(offset[1:3]), int(offset[4:6])
        if hours > 23 or minutes > 59:
            return None
        ahead = timedelta(hours=hours, minutes=minutes) * (-1 if offset[0] == "-" else 1)
    try:
        local = datetime(
            on.year, on.month, on.day, int(hour), int(minute), int(second or 0),
            int((micro or "").ljust(6, "0")), tzinfo=UTC,
        )  # fmt: skip
        return local - ahead
    except (ValueError, OverflowError):
        return None


def scalar(text: str, type_: Type) -> Scalar | None:
    """The value of `type_` that `text` writes, or None where it writes none."""
    match type_:
        case Type.TEXT:
            return text
        case Type.INTEGER:
            return int(text) if _INTEGER.match(text) else None
        case Type.DECIMAL:
            return number(text)
        case Type.BOOLEAN:
            return {"true": True, "false": False}.get(text)
        case Type.DATE:
            return calendar_date(text)
        case Type.DATETIME:
            return instant(text)
