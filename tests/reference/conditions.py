"""Conditions as data: an operator and its operands. `str` writes policy text; `truth` judges a row.

Unknown is None, by Kleene's logic: `and` is the least, `or` the greatest of false < unknown < true.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

OVERFLOW = 10**72
"""Numerators and denominators beyond it are an overflow, hence unknown."""


@dataclass(frozen=True)
class Condition:
    """`Condition('and', (a, b))`; leaves hold names and literals as text."""

    of: str
    parts: tuple[Any, ...] = ()

    def __str__(self) -> str:
        of, parts = self.of, self.parts
        texts = [str(part) for part in parts]
        match of:
            case "true" | "false":
                return of
            case "row":
                return (
                    f"row.{parts[0]}"
                    if parts[0].isidentifier() and parts[0].isascii()
                    else (f"row[{_quoted(parts[0])}]")
                )
            case "sub" | "env":
                return f"{of}.{parts[0]}"
            case "number" | "boolean":
                return texts[0]
            case "text":
                return _quoted(parts[0])
            case "date" | "time":
                return f"{of}({_quoted(parts[0])})"
            case "list":
                return "[" + ", ".join(texts) + "]"
            case "and" | "or":
                return f" {of} ".join(f"({text})" for text in texts)
            case "not":
                return f"not ({texts[0]})"
            case "+" | "-" | "*" | "/" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in":
                return f"{_operand(parts[0])} {of} {_operand(parts[1])}"
            case _:
                return f"{of}({', '.join(texts)})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _operand(part: Condition) -> str:
    return f"({part})" if part.of in ("+", "-", "*", "/") else str(part)


TRUE, FALSE = Condition("true"), Condition("false")


@dataclass(frozen=True)
class Surroundings:
    """What a condition may look at; a name that is not in a mapping has no value."""

    row: Mapping[str, Any]
    sub: Mapping[str, Any]
    env: Mapping[str, Any]


def truth(condition: Condition, at: Surroundings) -> bool | None:
    """True, False, or None: unknown."""
    result = _value(condition, at)
    assert result is None or isinstance(result, bool), condition
    return result


def over(condition: Condition, now: datetime) -> bool:
    """Whether it looks at the time, and the time alone makes it false, whatever else there is."""
    return bool(_looks_at(condition) & _TIMES) and _by_time(condition, now) is False


_TIMES = {("env", "now"), ("env", "date")}


def _looks_at(node: Condition) -> set[tuple[str, str]]:
    if node.of in ("row", "sub", "env"):
        return {(node.of, node.parts[0])}
    return {each for part in node.parts if isinstance(part, Condition) for each in _looks_at(part)}


def _by_time(node: Condition, now: datetime) -> bool | None:
    match node.of:
        case "and":
            return _least([_by_time(part, now) for part in node.parts])
        case "or":
            return _greatest([_by_time(part, now) for part in node.parts])
        case "not":
            inner = _by_time(node.parts[0], now)
            return None if inner is None else not inner
    if _looks_at(node) - _TIMES:
        return None
    return truth(node, Surroundings({}, {}, {"now": now, "date": now.date()}))


def _value(node: Condition, at: Surroundings) -> Any:
    of, parts = node.of, node.parts
    match of:
        case "true":
            return True
        case "false":
            return False
        case "row" | "sub" | "env":
            return getattr(at, of).get(parts[0])
        case "number":
            return Fraction(parts[0])
        case "boolean":
            return parts[0] == "true"
        case "text":
            return parts[0]
        case "date":
            return parsed(parts[0], "date")
        case "time":
            return parsed(parts[0], "datetime")
        case "and":
            return _least([_value(part, at) for part in parts])
        case "or":
            return _greatest([_value(part, at) for part in parts])
        case "not":
            inner = _value(parts[0], at)
            return None if inner is None else not inner
        case "present":
            return _value(parts[0], at) is not None
        case "in" | "not in":
            found = _among(_value(parts[0], at), parts[1], at)
            return found if found is None or of == "in" else not found
    values = [_value(part, at) for part in parts]
    return None if None in values else _strict(of, values)


def _least(values: list[bool | None]) -> bool | None:
    if False in values:
        return False
    return None if None in values else True


def _greatest(values: list[bool | None]) -> bool | None:
    if True in values:
        return True
    return None if None in values else False


def _among(item: Any, options: Condition, at: Surroundings) -> bool | None:
    """`x in [a, b]` is `x == a or x == b`."""
    if options.of == "list":
        among = [_value(part, at) for part in options.parts]
    else:
        among = _value(options, at)
        if among is None:
            return None
    return _greatest([None if item is None or each is None else item == each for each in among])


def _strict(of: str, values: list[Any]) -> Any:
    match of, values:
        case "==", [a, b]:
            return a == b
        case "!=", [a, b]:
            return a != b
        case "<", [a, b]:
            return a < b
        case "<=", [a, b]:
            return a <= b
        case ">", [a, b]:
            return a > b
        case ">=", [a, b]:
            return a >= b
        case "starts", [a, b]:
            return a[: len(b)] == b
        case "ends", [a, b]:
            return a[len(a) - len(b) :] == b if len(b) <= len(a) else False
        case "contains", [a, b]:
            return b in a
        case "lower", [a]:
            return a.lower()
        case "upper", [a]:
            return a.upper()
        case "length", [a]:
            return Fraction(len(a))
        case "days", [a]:
            return timedelta(days=int(a)) if a.denominator == 1 and abs(a) < 10**8 else None
        case "/", [_, b] if b == 0:
            return None
        case "+" | "-" | "*" | "/", [a, b]:
            try:
                result = {"+": _sum, "-": _difference, "*": _product, "/": _quotient}[of](a, b)
            except OverflowError:
                return None
            if isinstance(result, timedelta):
                return Fraction(result.days)
            if (
                isinstance(result, Fraction)
                and max(abs(result.numerator), result.denominator) > OVERFLOW
            ):
                return None
            return result
    raise AssertionError(of)


def _sum(a: Any, b: Any) -> Any:
    return a + b


def _difference(a: Any, b: Any) -> Any:
    return a - b


def _product(a: Any, b: Any) -> Any:
    return a * b


def _quotient(a: Any, b: Any) -> Any:
    return a / b


# ── the text of a cell -> its value ──

_NUMBER = re.compile(r"([+-]?)([0-9]+)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?\Z", re.ASCII)
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?(Z|([+-])(\d\d):(\d\d))?\Z",
    re.ASCII,
)


def parsed(text: str | None, type_: str) -> Any:
    """The value of `type_` that `text` writes; None where it writes none."""
    if text is None:
        return None
    match type_:
        case "text":
            return text
        case "boolean":
            return {"true": True, "false": False}.get(text)
        case "integer" | "decimal":
            return _number(text, whole=type_ == "integer")
        case "date":
            try:
                return (
                    date.fromisoformat(text)
                    if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII)
                    else None
                )
            except ValueError:
                return None
        case "datetime":
            return _instant(text)
    raise AssertionError(type_)


def _number(text: str, *, whole: bool) -> Fraction | None:
    found = _NUMBER.match(text)
    if found is None or len(found[2]) > 36 or len(found[3] or "") > 37:
        return None
    if whole and (found[3] or found[4]):
        return None
    value = Fraction(text)
    fits = abs(value) < 10**36 and (value * 10**36).denominator == 1
    return value if fits else None


def _instant(text: str) -> datetime | None:
    found = _TIME.match(text)
    if found is None:
        return None
    day, hour, minute, second, micro, zone, sign, hours, minutes = found.groups()
    try:
        offset = timedelta()
        if zone not in (None, "Z"):
            if int(hours) > 23 or int(minutes) > 59:
                return None
            offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
        on = date.fromisoformat(day)
        local = datetime(
            on.year, on.month, on.day, int(hour), int(minute), int(second or 0),
            int((micro or "0").ljust(6, "0")), tzinfo=timezone(offset),
        )  # fmt: skip
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
