"""Columns of text compared as values, exactly and at the speed of columns.

For each type there is a set of *plain* texts, given by a regular expression, whose values keep
their order and equality when the column is turned into keys (integers, scaled integers, ISO texts). What
is not plain (`1e3`, `+01:00`, `n/a`) is left to the scalar definition in proxy/values.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from math import ceil, floor
from typing import Any, Final

import polars as pl

from proxy.values import Type


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """How columns of one type are keyed.

    For a plain text of value x with key k, and any constant c of the type:
    x < c is k < above(c), x <= c is k <= below(c), x == c is k == exact(c).
    """

    plain: str | None
    """The regular expression of plain texts (Rust's syntax); None: all are."""
    key: Callable[[pl.Series], pl.Series]
    """Texts -> keys; anything for texts that are not plain, null for null."""
    dtype: pl.DataType
    below: Callable[[Any], Any]
    """The greatest key of a value that is not above the constant."""
    above: Callable[[Any], Any]
    """The least key of a value that is not below the constant."""

    def exact(self, constant: Any) -> Any | None:
        """The key of `constant`; None where no plain text can write it."""
        below = self.below(constant)
        return below if below == self.above(constant) else None


def _same(value: Any) -> Any:
    return value


_INTEGER_LIMIT: Final = 10**18  # plain integers have at most 18 digits, and so fit Int64
_SCALE: Final = 10**18
_DECIMAL_LIMIT: Final = 10**36  # beyond 17 digits scaled by 18 more, and within Int128


def _scaled(rounded: Callable[[Fraction], int], scale: int, limit: int) -> Callable[[Any], int]:
    """A number -> the scaled integer beside it; all beyond `limit` compare alike to plain ones."""

    def key(constant: int | Fraction) -> int:
        return max(-limit, min(limit, rounded(Fraction(constant) * scale)))

    return key


def _decimal(cells: pl.Series) -> pl.Series:
    return cells.cast(pl.Decimal(38, 18), strict=False).to_physical()


def _second(instant: datetime) -> str:
    return instant.replace(microsecond=0, tzinfo=None).isoformat()


def _next_second(instant: datetime) -> str:
    if not instant.microsecond:
        return _second(instant)
    try:
        return _second(instant + timedelta(seconds=1))
    except OverflowError:
        return "~"  # after every digit


_MONTH_DAY: Final = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_LEAP: Final = (
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)-02-29"
)
_YEAR: Final = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DAY: Final = f"(?:{_YEAR}-{_MONTH_DAY}|{_LEAP})"
_CLOCK: Final = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"

KEYS: Final = {
    Type.TEXT: Keys(plain=None, key=_same, dtype=pl.String(), below=_same, above=_same),
    Type.INTEGER: Keys(
        plain=r"^[+-]?[0-9]{1,18}$",
        key=lambda cells: cells.cast(pl.Int64, strict=False),
        dtype=pl.Int64(),
        below=_scaled(floor, 1, _INTEGER_LIMIT),
        above=_scaled(ceil, 1, _INTEGER_LIMIT),
    ),
    Type.DECIMAL: Keys(
        plain=r"^[+-]?[0-9]{1,17}(?:\.[0-9]{1,18})?$",
        key=_decimal,
        dtype=pl.Int128(),
        below=_scaled(floor, _SCALE, _DECIMAL_LIMIT),
        above=_scaled(ceil, _SCALE, _DECIMAL_LIMIT),
    ),
    Type.BOOLEAN: Keys(
        plain="^(?:true|false)$",
        key=_same,
        dtype=pl.String(),
        below=lambda truth: "true" if truth else "false",
        above=lambda truth: "true" if truth else "false",
    ),
    Type.DATE: Keys(
        plain=f"^{_DAY}$", key=_same, dtype=pl.String(), below=date.isoformat, above=date.isoformat
    ),
    Type.DATETIME: Keys(
        plain=f"^{_DAY}[T ]{_CLOCK}Z?$",
        key=lambda cells: cells.str.head(19).str.replace(" ", "T", literal=True),
        dtype=pl.String(),
        below=_second,
        above=_next_second,
    ),
}
