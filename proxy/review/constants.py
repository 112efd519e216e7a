"""Values of the condition language as constants of z3, and back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from ipaddress import ip_address
from typing import Any, Final

import z3

from proxy.policy.conditions.address import address
from proxy.policy.conditions.check import Kind
from proxy.policy.conditions.evaluate import BOUND
from proxy.values import Scalar

FIRST: Final = datetime.min.replace(tzinfo=UTC)
TICK: Final = timedelta(microseconds=1)


def real(value: int | Fraction) -> Any:
    """An exact number."""
    return z3.RealVal(str(Fraction(value)))


def text_constant(value: str) -> Any:
    """z3's own escapes are written out: a text that looks like one is none."""
    return z3.StringVal(
        "".join(
            c if c.isascii() and c.isprintable() and c != "\\" else f"\\u{{{ord(c):x}}}"
            for c in value
        )
    )


def text_of(value: Any) -> str:
    """The characters of a constant text."""
    escaped, out, at = value.as_string(), [], 0
    while at < len(escaped):
        end = escaped.find("}", at) if escaped.startswith("\\u{", at) else -1
        if end > 0:
            out.append(chr(int(escaped[at + 3 : end], 16)))
            at = end + 1
        else:
            out.append(escaped[at])
            at += 1
    return "".join(out)


def fraction(value: Any) -> Fraction:
    """Raises AttributeError for a root, which no cell can hold."""
    return Fraction(value.numerator_as_long(), value.denominator_as_long())


def constant(value: Scalar) -> Any:
    """A value; days and instants as numbers."""
    match value:
        case bool():
            return z3.BoolVal(value)
        case str():
            return text_constant(value)
        case datetime():
            return z3.IntVal((value - FIRST) // TICK)
        case date():
            return z3.IntVal(value.toordinal())
        case _:
            return real(value)


def version_of(text: str) -> int:
    """The version of the address that a text writes; 0: none."""
    found = address(text)
    return found[0] if found else 0


def number_of(text: str) -> int:
    """Its number."""
    found = address(text)
    return found[1] if found else 0


def address_text(version: int, number: int) -> object:
    """The address of that version and number; written by `str`."""
    return ip_address(number.to_bytes(4 if version == 4 else 16, "big"))


def is_bounded(value: Fraction) -> bool:
    """Whether the language keeps a result (`evaluate.BOUND`)."""
    return abs(value.numerator) <= BOUND and value.denominator <= BOUND


def others(kind: Kind | None) -> Iterable[Scalar]:
    """Values to be in a list of things that nobody looks for."""
    match kind:
        case Kind.TEXT:
            yield from (f"other {number}" for number in range(10_000))
        case Kind.BOOLEAN:
            yield from (False, True)
        case Kind.DATE:
            yield from (date(2000, 1, 1) + timedelta(days=number) for number in range(10_000))
        case Kind.DATETIME:
            yield from (FIRST + timedelta(days=730_000 + number) for number in range(10_000))
        case _:
            yield from range(1_000_000, 1_010_000)
