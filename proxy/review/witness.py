"""The row and requester that show a change, as people read them.

A solver gives any values that fit: the first day of the calendar, the letter `A`, a missing cell. Plainer
ones of the field's type take their place where the evaluator says that these show the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Final

from proxy.values import Scalar, Type, Value

Place = tuple[str, str]
"""`row`, `sub` or `env`, and a name of it."""
Values = Mapping[Place, Value | None]

_LIST: Final = " list"
_TEXTS: Final = ("other", "A", "abc", "abcdefgh", "abcdefghijklmnop")
_NUMBERS: Final = (1, 10, 100, 1000)
_SHORT: Final = 10_000
"""Integers below it are plain as they are."""
_YEARS: Final = (2026, 2020, 2030, 2000)
_ADDRESSES: Final = ("10.0.0.7", "192.0.2.7", "2001:db8::7")
_PASSES: Final = 2
"""A value may be plain only once another one is."""


def plainer(
    values: Values,
    is_one: Callable[[Values], bool],
    types: Mapping[Place, str],
    *,
    texts: frozenset[str],
    purposes: Iterable[str],
) -> Values:
    """The same in plain values; `is_one` says what shows it, `texts` are those that conditions name.

    `types` are those of the row's and the requester's names, as `text` or `text list`.
    """
    found, stated = dict(values), tuple(purposes)
    for place, value in values.items():
        for old in dict.fromkeys(value if isinstance(value, tuple) else (value,)):
            # What is compared with one another has the same value, and so has its plainer one.
            scalars = _scalars(types.get(place, "").removesuffix(_LIST), old, texts)
            alike = (_with(found, old, new) for new in scalars)
            found = next(filter(is_one, alike), found)
    for _ in range(_PASSES):
        for place in sorted(values):
            tries = _tries(place, types.get(place, ""), values[place], texts, stated)
            plain = (each for each in tries if is_one({**found, place: each}))
            found[place] = next(plain, found[place])
    return found


def _with(
    values: dict[Place, Value | None], old: Scalar | None, new: Scalar
) -> dict[Place, Value | None]:
    """The same with one value for another, wherever it stands."""

    def scalar(value: Scalar) -> Scalar:
        return new if type(value) is type(old) and value == old else value

    def other(value: Value | None) -> Value | None:
        if isinstance(value, tuple):
            return tuple(map(scalar, value))
        return None if value is None else scalar(value)

    return {place: other(value) for place, value in values.items()}


def _tries(
    place: Place, type_: str, value: Value | None, texts: frozenset[str], purposes: tuple[str, ...]
) -> Iterator[Value]:
    """Plain values for a name, the plainest first; none where it is as it is."""
    match place:
        case ("env", "now"):
            yield from _times(value)
        case ("env", "purpose"):
            yield from purposes
        case ("env", "ip"):
            yield from _ADDRESSES
        case ("env", "method"):
            yield from ("GET", "HEAD")
        case ("env", _):
            return
        case _ if type_.endswith(_LIST):
            items = value if isinstance(value, tuple) else ()
            if items and set(items) <= texts:
                yield items
            yield from ((each,) for each in _scalars(type_.removesuffix(_LIST), None, texts))
        case _:
            yield from _scalars(type_, value, texts)


def _scalars(type_: str, value: Value | None, texts: frozenset[str]) -> Iterator[Scalar]:
    match type_:
        case Type.TEXT:
            if isinstance(value, str) and value in texts and value:
                yield value
            yield from _TEXTS
        case Type.INTEGER | Type.DECIMAL:
            yield from _numbers(value)
        case Type.BOOLEAN:
            yield from (True, False)
        case Type.DATE:
            yield from (date(year, 1, 15) for year in _YEARS)
        case Type.DATETIME:
            yield from _times(value)
        case _:
            return


def _numbers(value: Value | None) -> Iterator[int | Fraction]:
    given = Fraction(value) if isinstance(value, int | Fraction) else Fraction(0)
    if isinstance(value, int) and 0 < value < _SHORT:
        yield value
    yield from _NUMBERS
    yield from (math.floor(given), math.ceil(given), round(given, 1), round(given, 2))
    yield from (0, -1, -10)


def _times(value: Value | None) -> Iterator[datetime]:
    """Noon of plain days; then the same instant without its minutes, seconds, fractions."""
    yield from (datetime(year, 1, 15, 12, tzinfo=UTC) for year in _YEARS)
    if isinstance(value, datetime):
        second = value.replace(microsecond=0)
        minute = second.replace(second=0)
        hour = minute.replace(minute=0)
        yield from (hour.replace(hour=0), hour, minute, second)
