"""`round(n)` against exact arithmetic."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.texts import texts
from proxy.treatments import parse
from proxy.treatments.numbers import plainly_short
from proxy.treatments.rounding import Round
from proxy.values import Type, number

STEPS = st.builds(
    lambda units, digits: Fraction(units, 10**digits),
    st.one_of(st.integers(1, 1000), st.integers(1, 10**17 - 1)),
    st.integers(0, 18),
)
EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)


def plain(value: Fraction) -> str:
    """Write a decimal fraction without an exponent."""
    return format(EXACT.divide(Decimal(value.numerator), Decimal(value.denominator)), "f")


def reference(text: str, step: Fraction) -> str:
    """Round by the decimal module's half-even: the quotient to a whole number, times the step."""
    exact = Fraction(number(text))
    quotient = exact / step
    # Fraction.__round__ is half-even too; decimal is the referee where it divides exactly.
    count = round(quotient)
    digits = next(n for n in range(40) if 10**n % step.denominator == 0)
    result = EXACT.quantize(Decimal(plain(count * step)), Decimal(1).scaleb(-digits))
    text = format(result, "f")
    return text.lstrip("-") if result == 0 else text


def numbers(digits: int = 36) -> st.SearchStrategy[str]:
    """Numbers as documents write them: signs, leading zeros, points, exponents."""
    return st.one_of(
        st.from_regex(rf"[+-]?[0-9]{{1,{digits - 1}}}(\.[0-9]{{1,{digits - 1}}})?", fullmatch=True),
        st.from_regex(r"[+-]?[0-9]{1,6}(\.[0-9]{1,2})?", fullmatch=True),
        st.from_regex(r"-?[0-9]{1,3}(\.[0-9]{1,3})?[eE][+-]?[0-9]", fullmatch=True),
    )


@given(
    STEPS,
    st.lists(
        st.none() | st.from_regex(r"[+-]?[0-9]{1,12}(\.[0-9]{1,4})?", fullmatch=True),
        min_size=1,
        max_size=20,
    ),
)
def test_short_numbers_are_rounded_in_64_bits_alike(apply, step, cells):
    """Numbers of a usual size take a shorter road to the same multiples; null stays null."""
    expected = [None if cell is None else reference(cell, step) for cell in cells]
    assert apply(Round(step=step), cells * 300, Type.DECIMAL) == expected * 300
    assert apply(Round(step=step), cells, Type.DECIMAL, few=True) == expected


@pytest.mark.parametrize("step", ["999999999999", "0.0001", "5000000000", "0.0003", "100"])
@pytest.mark.parametrize("sign", ["", "-", "+"])
def test_the_largest_short_numbers_do_not_overflow(apply, step, sign):
    """At the ends of what goes in 64 bits, and one beyond."""
    cells = [
        f"{sign}{'9' * whole}{point}" for whole in (11, 12, 13) for point in ("", ".9999", ".99995")
    ]
    for some in (
        cells,
        [cell for cell in cells if len(cell.lstrip("+-")) <= 17 and not cell.endswith("5")],
    ):
        given_ = apply(Round(step=Fraction(step)), some * 100, Type.DECIMAL)
        expected = [reference(cell, Fraction(step)) for cell in some]
        assert given_ == expected * 100
        assert apply(Round(step=Fraction(step)), some, Type.DECIMAL, few=True) == expected


@given(STEPS, st.lists(numbers(), min_size=1, max_size=20))
def test_rounds_exactly(apply, step, cells):
    """Every number goes to its nearest multiple, in exact decimals, in small and large batches."""
    expected = [reference(cell, step) for cell in cells]
    for times in (1, 300):
        given_ = apply(Round(step=step), cells * times, Type.DECIMAL)
        for cell, before, after in zip(cells, expected, given_, strict=False):
            overflow = number(before) is None
            assert after == (None if overflow else before), cell
        assert given_ == given_[: len(cells)] * times
        assert apply(Round(step=step), cells, Type.DECIMAL, few=True) == given_[: len(cells)]


@given(STEPS, st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=20))
def test_ties_go_to_the_even_multiple(apply, step, counts):
    """A number half-way between two multiples goes to the even one, below zero too."""
    cells = [plain((2 * count + 1) * step / 2) for count in counts]
    expected = [plain((count + count % 2) * step) for count in counts]
    for times in (1, 300):
        rounded = apply(Round(step=step), cells * times, Type.DECIMAL)
        for after, wanted in zip(rounded, expected * times, strict=True):
            assert Fraction(after) == Fraction(wanted)


@given(STEPS, st.lists(numbers(), max_size=20))
def test_rounding_twice_changes_nothing(apply, step, cells):
    """What is rounded stays as it is."""
    once = apply(Round(step=step), cells, Type.DECIMAL)
    assert apply(Round(step=step), once, Type.DECIMAL) == once


@given(st.lists(st.integers(-(10**40), 10**40).map(str), max_size=20), st.integers(1, 10**17 - 1))
def test_integers_stay_integers(apply, cells, step):
    """On an integer field a whole step gives integers, in small and large batches."""
    treatment = Round(step=Fraction(step))
    assert treatment.gives(Type.INTEGER) is Type.INTEGER
    for times in (1, 300):
        for before, after in zip(
            cells * times, apply(treatment, cells * times, Type.INTEGER), strict=True
        ):
            exact = number(before)
            expected = None if exact is None else str(step * round(Fraction(exact, step)))
            assert after == (expected if expected and number(expected) is not None else None)


@pytest.mark.parametrize(
    ("step", "cell", "expected"),
    [
        ("100", "1250", "1200"),
        ("100", "1350", "1400"),
        ("100", "1249.999999999999999999", "1200"),
        ("100", "1250.000000000000000001", "1300"),
        ("100", "1250.0000000000000000000000000000001", "1300"),
        ("100", "-1250", "-1200"),
        ("100", "-50", "0"),
        ("100", "-0", "0"),
        ("100", "+1200", "1200"),
        ("100", "0001250.00", "1200"),
        ("100", "1.25e3", "1200"),
        ("100", "99999999999999999.999999999999999999", "100000000000000000"),
        ("100", "9" * 36, None),
        ("0.05", "1234.525", "1234.50"),
        ("0.05", "1234.575", "1234.60"),
        ("0.05", "1234.55", "1234.55"),
        ("0.05", "-0.02", "0.00"),
        ("2.5", "3.75", "5.0"),
        ("2.5", "1.25", "0.0"),
        ("0.000000000000000001", "99999999999999999", "99999999999999999." + "0" * 18),
        ("100", "", None),
        ("100", " 1", None),
        ("100", "1\n", None),
        ("100", "1_000", None),
        ("100", "1,000", None),
        ("100", "٣", None),
        ("100", "NaN", None),
        ("100", "1e999", None),
        ("100", "9" * 40, None),
        ("100", ".5", None),
        ("100", "5.", None),
    ],
)
def test_examples(apply, step, cell, expected):
    """Known cases: ties, signs, digits after the point, and what is no number."""
    treatment = parse(f"round({step})")
    assert apply(treatment, [cell], Type.DECIMAL) == [expected]
    assert apply(treatment, [cell] * 300, Type.DECIMAL) == [expected] * 300
    assert apply(treatment, ["1.0"] * 300 + [cell], Type.DECIMAL)[-1] == expected


def test_a_fraction_is_no_integer(apply):
    """On an integer field a cell with a fraction is no value, even where it is a whole number."""
    for cells in (["1.0", "7", "1e2"], ["1.0", "7", "1e2"] * 200):
        assert apply("round(5)", cells, Type.INTEGER)[:3] == [None, "5", None]
    assert parse("round(0.5)").gives(Type.INTEGER) is Type.DECIMAL
    assert apply("round(0.5)", ["7"], Type.INTEGER) == ["7.0"]


@pytest.mark.parametrize("cells", [["12.5"], ["12.5", "7"], ["7", "+7", "12.0"]])
def test_a_fraction_is_no_integer_in_a_large_batch_either(apply, cells):
    """How many cells there are has no influence on what is a value of an integer field."""
    alone = apply(Round(step=Fraction(5)), cells, Type.INTEGER)
    assert apply(Round(step=Fraction(5)), cells * 300, Type.INTEGER) == alone * 300


@given(st.lists(st.integers(-999, 999), min_size=1, max_size=20))
def test_close_numbers_become_equal(apply, cells):
    """Whatever lies nearer to one multiple than to the next is given as that multiple alone."""
    rounded = apply("round(2000)", [str(cell) for cell in cells], Type.INTEGER)
    assert set(rounded) == {"0"}


PLAINLY = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,4})?", re.ASCII)


@given(
    st.lists(
        st.from_regex(r"-?[0-9]{1,13}\.[0-9]{1,5}", fullmatch=True)
        | st.from_regex(r"-?[0-9]{1,13}", fullmatch=True)
        | st.text("0123.,-e٣", max_size=6)
        | st.none(),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([Type.DECIMAL, Type.INTEGER]),
)
def test_what_is_plainly_short_is_read_exactly(cells, type_):
    """Nothing is taken for a short number that is none, and what is taken is read exactly."""
    short = plainly_short(texts(pl.Series(cells, dtype=pl.String)), type_)
    numbers = [cell for cell in cells if cell is not None]
    points = any("." in cell for cell in numbers)
    if short is None:
        assert (type_ is Type.INTEGER and points) or not all(map(PLAINLY.fullmatch, numbers))
        return
    assert all(map(PLAINLY.fullmatch, numbers))
    assert type_ is Type.DECIMAL or not points
    exact = [0 if cell is None else int(Fraction(cell) * 10**4) for cell in cells]
    assert short.numbers.tolist() == exact
    void = [cell is None for cell in cells]
    assert short.void is None if not any(void) else short.void.tolist() == void
