"""`truncate` against a count day by day."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.treatments import parse
from proxy.values import Type, instant
from tests.reference.forms import truncated
from tests.treatments.conftest import INSTANTS

UNITS = ("hour", "day", "week", "month", "quarter", "year")


@given(st.sampled_from(UNITS[2:]), st.lists(st.dates().map(str), min_size=1, max_size=10))
def test_a_day_goes_to_the_beginning_of_its_period(apply, unit, cells):
    """It is the last day on or before it on which such a period begins."""
    expected = [truncated(cell, unit, "date") for cell in cells]
    for times in (1, 300):
        assert apply(f"truncate('{unit}')", cells * times, Type.DATE) == expected * times


@given(st.sampled_from(UNITS), st.lists(INSTANTS, min_size=1, max_size=10))
def test_an_instant_goes_to_the_beginning_of_its_period_in_utc(apply, unit, cells):
    """Whatever offset it is written with; beyond the calendar it is no value."""
    expected = [truncated(c, unit, "datetime") if instant(c) else None for c in cells]
    for times in (1, 300):
        assert apply(f"truncate('{unit}')", cells * times, Type.DATETIME) == expected * times


@given(st.lists(INSTANTS, min_size=1, max_size=10))
def test_longer_periods_hold_shorter_ones(apply, cells):
    """The month of the day is the month; the offset has no influence beyond the instant."""
    for finer, coarser in (("hour", "day"), ("day", "week"), ("day", "month"), ("month", "quarter"), ("quarter", "year")):  # fmt: skip
        through = apply(f"truncate('{finer}')", cells, Type.DATETIME)
        at_once = apply(f"truncate('{coarser}')", cells, Type.DATETIME)
        assert apply(f"truncate('{coarser}')", through, Type.DATETIME) == at_once


@pytest.mark.parametrize(
    ("unit", "cell", "expected"),
    [
        ("hour", "2026-03-01T09:41:07.123456Z", "2026-03-01T09:00:00Z"),
        ("hour", "2026-03-01 09:41", "2026-03-01T09:00:00"),
        ("hour", "2026-03-01T09:41+05:45", "2026-03-01T03:00:00Z"),
        ("day", "2026-03-01T00:30:00+02:00", "2026-02-28T00:00:00Z"),
        ("week", "2027-01-03T12:00:00Z", "2026-12-28T00:00:00Z"),
        ("year", "0001-12-31T12:00:00Z", "0001-01-01T00:00:00Z"),
        ("week", "0001-01-05T12:00:00Z", "0001-01-01T00:00:00Z"),
        ("day", "9999-12-31T23:59:59-01:00", None),
        ("day", "2026-02-29T00:00:00Z", None),
        ("day", "2026-02-28", None),
    ],
)
def test_examples(apply, unit, cell, expected):
    """Known cases: offsets, weeks across years, the ends of the calendar, and what is no instant."""
    assert apply(f"truncate('{unit}')", [cell], Type.DATETIME) == [expected]


def test_only_instants_have_days_and_hours():
    """A unit that would give a day as it is, or more, is refused on days."""
    taken = {unit: parse(f"truncate('{unit}')").takes for unit in UNITS}
    assert taken["hour"] == taken["day"] == {Type.DATETIME}
    assert all(taken[unit] == {Type.DATE, Type.DATETIME} for unit in UNITS[2:])
