"""`round(n)`: the multiple of n nearest to a number, exactly, ties to the even multiple.

Half-even is IEEE 754's roundTiesToEven, on decimals: `round(100)` gives 1200 for 1250, 1400 for
1350. Nothing passes through a float: decimals of up to 35 digits go as 128-bit integers of 10⁻¹⁸,
all others as Python integers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar, Final

import numpy as np
import polars as pl

from proxy.batch import Batch
from proxy.few import Cells, Few
from proxy.texts import content, nulls, texts
from proxy.treatments.base import (
    BadArgument,
    Literal,
    Operation,
    Parameter,
    Site,
    Treatment,
)
from proxy.treatments.columns import SMALL, per_distinct
from proxy.values import DIGITS, Type, number, scalar

_WHOLE: Final = 17
_SCALE: Final = 18
"""Digits before and after the point that the quick road takes: a product stays below 2**127."""

_QUICK: Final = {
    Type.INTEGER: rf"^[+-]?[0-9]{{1,{_WHOLE}}}$",
    Type.DECIMAL: rf"^[+-]?[0-9]{{1,{_WHOLE}}}(?:\.[0-9]{{1,{_SCALE}}})?$",
}
_SHORT_WHOLE: Final = 12
_SHORT_SCALE: Final = 4
_SHORTER: Final = {
    Type.INTEGER: rf"^[+-]?[0-9]{{1,{_SHORT_WHOLE}}}$",
    Type.DECIMAL: rf"^[+-]?[0-9]{{1,{_SHORT_WHOLE}}}(?:\.[0-9]{{1,{_SHORT_SCALE}}})?$",
}
_TEN: Final = np.uint8(10)
_SHORT_UNITS: Final = 10**12
"""Numbers and steps for which 64-bit integers do: a product stays below 2**63."""
_PLAIN: Final = {
    Type.INTEGER: re.compile(rf"([+-]?[0-9]{{1,{DIGITS}}})()\Z"),
    Type.DECIMAL: re.compile(rf"([+-]?[0-9]{{1,{DIGITS}}})(?:\.([0-9]{{1,{DIGITS}}}))?\Z"),
}
"""Numbers that need no `Fraction`: the whole digits, and those after the point."""
_SHORT: Final = 16
"""Characters of a number without a sign that is read in the shortest way."""
_TENS: Final = tuple(10**digits for digits in range(DIGITS + 1))


def _step(literal: Literal) -> Fraction:
    exact = None if literal.quoted else number(literal.text)
    if exact is None:
        raise ValueError("a number")
    return Fraction(exact)


def _fraction_digits(step: Fraction) -> int | None:
    """How many digits `step` has after the point; None where more than the quick road takes."""
    return next(
        (digits for digits in range(_SCALE + 1) if 10**digits % step.denominator == 0), None
    )


@dataclass(frozen=True, kw_only=True)
class Round(Treatment):
    """The nearest multiple of `step`, ties to the even multiple."""

    name: ClassVar[str] = "round"
    summary: ClassVar[str] = (
        "The nearest multiple of n, ties to the even one, exact in decimals; as many digits after "
        "the point as n needs: `round(0.50)` is `round(0.5)`."
    )
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="n",
            attribute="step",
            read=_step,
            summary="the step: a number above 0, as `100`, `2.5` or `0.05`",
            required=True,
            positional=True,
        ),
    )
    accepts: ClassVar[frozenset[Type]] = frozenset({Type.INTEGER, Type.DECIMAL})
    output: ClassVar[str] = "the field's; decimal where n has a fraction"
    rank: ClassVar[int] = 10
    deterministic: ClassVar[bool] = True
    reversible: ClassVar[bool] = False

    step: Fraction

    def __post_init__(self) -> None:
        if self.step <= 0:
            raise BadArgument("n", "the step of `round` is above 0", "such as `round(100)`")
        if self.step >= 10**_WHOLE or _fraction_digits(self.step) is None:
            raise BadArgument(
                "n",
                f"the step of `round` has at most {_WHOLE} digits before the point, {_SCALE} after",
                "such as `round(100)` or `round(0.05)`",
            )

    @property
    def fineness(self) -> tuple[object, ...]:
        """Smaller steps first."""
        return (self.step,)

    @cached_property
    def digits(self) -> int:
        """How many digits the results have after the point."""
        return _fraction_digits(self.step) or 0

    @cached_property
    def text(self) -> str:
        """As `str` gives it."""
        return f"round({_written(int(self.step * 10**self.digits), self.digits)})"

    @cached_property
    def units(self) -> int:
        """The step, in the last of the results' digits."""
        return int(self.step * 10**self.digits)

    def __str__(self) -> str:
        return self.text

    def gives(self, type_: Type) -> Type:
        """Keep the type, but a step with a fraction makes decimals of integers."""
        return Type.DECIMAL if self.digits else type_

    def bind(self, site: Site) -> Operation:
        """Give the rounded numbers; null where a cell is no number of the field's type."""
        one = self._of_one(site.type)
        quick = _QUICK[site.type]
        short = self._short(site.type)
        units, digits = self.units, self.digits

        def rounded(batch: Batch) -> Cells:
            values = batch.values(site.field)
            if isinstance(values, Few) or len(values) < SMALL:
                return per_distinct(values, one)
            if short is not None and short(values):
                return _rounded_short(values, units, digits)
            plain = values.str.contains(quick)
            if plain.all():
                return _rounded(values, units, digits)
            rest = values.zip_with(~plain, nulls(1))
            easy = values.zip_with(plain, nulls(1))
            others = per_distinct(rest, one)
            assert isinstance(others, pl.Series)
            return _rounded(easy, units, digits).zip_with(plain, others)

        return rounded

    def _short(self, type_: Type) -> Callable[[pl.Series], bool] | None:
        """Whether all of a column may take the shorter road; None where this step may not."""
        if self.units >= _SHORT_UNITS or self.digits > _SHORT_SCALE:
            return None
        pattern = _SHORTER[type_]
        if type_ is Type.INTEGER:
            return lambda values: values.str.contains(pattern).all()
        return lambda values: _evidently_short(values) or values.str.contains(pattern).all()

    def _of_one(self, type_: Type) -> Callable[[str], str | None]:
        """Round one text in Python integers."""
        plain = _PLAIN[type_].match
        decimals = type_ is Type.DECIMAL
        digits = self.digits
        scale = 10**digits
        units = self.units
        bound = 10**DIGITS * scale

        def one(text: str) -> str | None:
            whole, point, fraction = text.partition(".")
            unsigned = whole.isdigit() and (not point or (decimals and fraction.isdigit()))
            if unsigned and len(text) <= _SHORT and text.isascii():
                numerator, denominator = int(whole + fraction), _TENS[len(fraction)]
            elif matched := plain(text):
                whole, fraction = matched.groups("")
                numerator, denominator = int(whole + fraction), _TENS[len(fraction)]
            else:
                exact = scalar(text, type_)
                if not isinstance(exact, int | Fraction):
                    return None
                numerator, denominator = exact.numerator, exact.denominator
            divisor = denominator * units
            count, rest = divmod(numerator * scale, divisor)
            if 2 * rest > divisor or (2 * rest == divisor and count % 2):
                count += 1
            result = count * units
            return _written(result, digits) if -bound < result < bound else None

        return one


def _written(units: int, digits: int) -> str:
    """The decimal `units` × 10^-`digits`, with all its digits after the point and never `-0`."""
    if not digits:
        return str(units)
    text = str(abs(units)).zfill(digits + 1)
    point = len(text) - digits
    sign = "-" if units < 0 else ""
    return f"{sign}{text[:point]}.{text[point:]}"


def _whole(value: int) -> pl.Series:
    return pl.Series([value], dtype=pl.Int128)


def _rounded(values: pl.Series, units: int, digits: int) -> pl.Series:
    """Round texts of the quick form to multiples of `units` × 10^-`digits`."""
    # 1. Exact integers of 10^-18, below 10^35.
    exact = values.cast(pl.Decimal(_WHOLE + 1 + _SCALE, _SCALE)).to_physical()
    # 2. Floor division, and the remainder against half a step; twice it is below 2·10^35.
    step = _whole(units * 10 ** (_SCALE - digits))
    count = exact // step
    twice = (exact - count * step) * _whole(2)
    up = (twice > step) | ((twice == step) & (count % _whole(2) == _whole(1)))
    result = (count + up.cast(pl.Int128)) * _whole(units)
    # 3. The same integers read as decimals: text with all its digits and never `-0`.
    return result.reinterpret(dtype=pl.Decimal(_WHOLE + 1 + _SCALE, digits)).cast(pl.String)


def _evidently_short(values: pl.Series) -> bool:
    """Whether all are short decimals with a point and no sign; much quicker than a look at each."""
    if values.null_count():
        return False
    places, data = content(texts(values))
    points = np.flatnonzero(data == ord("."))
    digits = int(((data - np.uint8(ord("0"))) < _TEN).sum())
    if len(points) != len(values) or len(points) + digits != len(data):
        return False
    # As many points as cells, and each where its own cell may have it.
    whole, fraction = points - places[:-1], places[1:] - points - 1
    return bool(
        whole.min() >= 1
        and whole.max() <= _SHORT_WHOLE
        and fraction.min() >= 1
        and fraction.max() <= _SHORT_SCALE
    )


def _rounded_short(values: pl.Series, units: int, digits: int) -> pl.Series:
    """The same as `_rounded`, for texts of the shorter form."""
    exact = values.cast(pl.Decimal(_SHORT_WHOLE + _SHORT_SCALE, _SHORT_SCALE)).to_physical()
    whole = exact.cast(pl.Int64)
    number = (whole.fill_null(0) if whole.null_count() else whole).to_numpy()
    step = units * 10 ** (_SHORT_SCALE - digits)
    count, rest = np.divmod(number, step)
    count += (2 * rest > step) | ((2 * rest == step) & (count % 2 == 1))
    result = pl.Series(count * units)
    if digits:
        result = result.cast(pl.Int128).reinterpret(dtype=pl.Decimal(_WHOLE + 1 + _SCALE, digits))
    written = result.cast(pl.String)
    return written.zip_with(values.is_not_null(), nulls(1)) if values.null_count() else written
