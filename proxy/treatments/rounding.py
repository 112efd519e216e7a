"""`round(n)`: the multiple of n nearest to a number, exactly, ties to the even multiple.

Half-even is IEEE 754's roundTiesToEven, on decimals: `round(100)` gives 1200 for 1250, 1400 for
1350. Nothing passes through a float: decimals of up to 35 digits go as 128-bit integers of 10⁻¹⁸,
all others as Python integers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from proxy.batch import Batch
from proxy.few import Cells, Few, Numbers
from proxy.kernels import few as kernels
from proxy.texts import TEXT, Coded, nulls, texts
from proxy.treatments.base import (
    BadArgument,
    Literal,
    Operation,
    Parameter,
    Site,
    Treatment,
)
from proxy.treatments.columns import SMALL, per_distinct
from proxy.treatments.numbers import (
    EXACT,
    SCALE,
    SHORT_SCALE,
    WHOLE,
    Short,
    exactly,
    plainly_short,
)
from proxy.values import DIGITS, Type, number, scalar

_REPEATS: Final = 4
"""Where results occur so often on average, each distinct one is written once."""
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
    return next((digits for digits in range(SCALE + 1) if 10**digits % step.denominator == 0), None)


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
    idempotent: ClassVar[bool] = True
    unchanged: ClassVar[str] = "a multiple of n"
    tells: ClassVar[str] = (
        "The value to within half a step. The error of a sum grows with its rows, and is at most half a "
        "step for each; whether a value is small beside the step shows, as 0 does."
    )
    use: ClassVar[str] = "For amounts and counts of which the size matters and the digits do not."
    avoid: ClassVar[str] = (
        "Where somebody can add to the value and watch where it tips over, or knows an exact sum of "
        "nearly all rows: both give the digits back. Then give `redact`, or a sum that the store makes."
    )
    shown: ClassVar[tuple[tuple[str, Type, str], ...]] = (
        ("round(100)", Type.INTEGER, "1250"),
        ("round(100)", Type.INTEGER, "1350"),
        ("round(0.05)", Type.DECIMAL, "-18.09"),
        ("round(2.5)", Type.INTEGER, "7"),
    )

    step: Fraction

    def __post_init__(self) -> None:
        if self.step <= 0:
            raise BadArgument("n", "the step of `round` is above 0", "such as `round(100)`")
        if self.step >= 10**WHOLE or _fraction_digits(self.step) is None:
            raise BadArgument(
                "n",
                f"the step of `round` has at most {WHOLE} digits before the point, {SCALE} after",
                "such as `round(100)` or `round(0.05)`",
            )

    @property
    def kin(self) -> Hashable:
        """All steps."""
        return self.name

    @property
    def places(self) -> int:
        """As many as the step needs."""
        digits = _fraction_digits(self.step)
        return DIGITS if digits is None else digits

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
        quick = EXACT[site.type]
        units, digits = self.units, self.digits
        shortly = units < _SHORT_UNITS and digits <= SHORT_SCALE
        decimal = site.type is Type.DECIMAL

        def rounded(batch: Batch) -> Cells | Coded:
            # A cell that looks like a number is one, however its document writes others.
            few = batch.column(site.field) if batch.few and shortly else None
            if isinstance(few, Few):
                given = kernels.rounded(few, decimal=decimal, units=units, digits=digits)
                if given is not None:
                    return Numbers(given)
            if batch.few or batch.height < SMALL:
                return per_distinct(batch.values(site.field), one)
            short = plainly_short(batch.plain_texts(site.field), site.type) if shortly else None
            if short is not None:
                return _rounded_short(short, units, digits)
            values = batch.series(site.field)
            plain = values.str.contains(quick)
            if plain.all():
                return _rounded(values, units, digits)
            rest = values.zip_with(~plain, nulls(1))
            easy = values.zip_with(plain, nulls(1))
            others = per_distinct(rest, one)
            assert isinstance(others, pl.Series)
            return _rounded(easy, units, digits).zip_with(plain, others)

        return rounded

    def _of_one(self, type_: Type) -> Callable[[str], str | None]:
        """Round one text in Python integers."""
        plain = _PLAIN[type_].match
        decimals = type_ is Type.DECIMAL
        digits = self.digits
        scale = 10**digits
        units = self.units
        bound = 10**DIGITS * scale
        divisors = [units * ten for ten in _TENS]

        def one(text: str) -> str | None:
            whole, point, fraction = text.partition(".")
            unscaled = whole + fraction
            if (
                len(text) <= _SHORT
                and unscaled.isascii()
                and unscaled.isdigit()
                and whole
                and (not point or (decimals and fraction))
            ):
                numerator, divisor = int(unscaled), divisors[len(fraction)]
            elif matched := plain(text):
                whole, fraction = matched.groups("")
                numerator, divisor = int(whole + fraction), divisors[len(fraction)]
            else:
                exact = scalar(text, type_)
                if not isinstance(exact, int | Fraction):
                    return None
                numerator, divisor = exact.numerator, exact.denominator * units
            count, rest = divmod(numerator * scale, divisor)
            twice = rest + rest
            if twice >= divisor and (twice > divisor or count & 1):
                count += 1
            result = count * units
            if not -bound < result < bound:
                return None
            return _written(result, digits) if digits else str(result)

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
    exact = exactly(values)
    # 2. Floor division, and the remainder against half a step; twice it is below 2·10^35.
    step = _whole(units * 10 ** (SCALE - digits))
    count = exact // step
    twice = (exact - count * step) * _whole(2)
    up = (twice > step) | ((twice == step) & (count % _whole(2) == _whole(1)))
    result = (count + up.cast(pl.Int128)) * _whole(units)
    # 3. The same integers read as decimals: text with all its digits and never `-0`.
    return result.reinterpret(dtype=pl.Decimal(WHOLE + 1 + SCALE, digits)).cast(pl.String)


def _rounded_short(short: Short, units: int, digits: int) -> pl.Series | Coded:
    """The same as `_rounded`, for numbers of the shorter form."""
    step = units * 10 ** (SHORT_SCALE - digits)
    count, rest = np.divmod(short.numbers, step)
    rest *= 2
    count += (rest > step) | ((rest == step) & (count & 1 == 1))
    least, most = int(count.min()), int(count.max())
    if (most - least + 2) * _REPEATS > len(count):
        written = _multiples(count, units, digits)
        return written if short.void is None else written.zip_with(pl.Series(~short.void), nulls(1))
    count -= least
    distinct = texts(_multiples(np.arange(least, most + 1), units, digits))
    if short.void is not None:
        count[short.void] = most - least + 1
        distinct = pa.concat_arrays([distinct, pa.nulls(1, TEXT)])
    return Coded(distinct, count)


def _multiples(count: npt.NDArray[np.int64], units: int, digits: int) -> pl.Series:
    """`count` times `units` × 10^-`digits`, as text."""
    result = pl.Series(count * units)
    if digits:
        result = result.cast(pl.Int128).reinterpret(dtype=pl.Decimal(WHOLE + 1 + SCALE, digits))
    return result.cast(pl.String)
