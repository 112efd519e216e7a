"""Counts within a time that slides, whatever comes and however often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.alarms import window as module
from proxy.alarms.window import ELSEWHERE, Window

SECONDS = 300.0


@given(
    gaps=st.lists(st.floats(0, 400) | st.floats(0, 20), min_size=1, max_size=80),
    began=st.floats(0, 1e6),
)
def test_as_many_as_are_enough_are_told_wherever_they_lie(gaps, began):
    """Told as soon as five lie within the time; not where fewer lie within it and a tenth more."""
    window, now, instants, told = Window(SECONDS, enough=5), began, [], float("-inf")
    for gap in gaps:
        now += gap
        instants.append(now)
        within = sum(now - at <= SECONDS - 1e-6 for at in instants)
        nearly = sum(now - at <= SECONDS * 1.1 + 1e-6 for at in instants)
        found = window.add("alice", 1, now)
        if found is not None:
            assert now - told >= SECONDS
            assert found[0] == "alice" and within <= found[1] <= nearly and found[1] >= 5
            told = now
        elif within >= 5:
            assert now - told < SECONDS


def test_around_an_edge():
    """19 just before a multiple of the time and 19 just after it are more than 20."""
    window = Window(SECONDS, enough=20)
    assert window.add("alice", 1, 0.0) is None
    assert window.add("alice", 18, 299.0) is None
    assert window.add("alice", 18, 301.0) == ("alice", 37)


def test_it_is_told_once_within_the_time_while_it_goes_on():
    window = Window(SECONDS, enough=20)
    told = [now for now in range(1_200) if window.add("alice", 1, float(now))]
    assert told == [19, 319, 619, 919]


def test_many_names_are_counted_together_and_forgotten():
    """PROMISE 4 (bounded memory): of names that come once each there are so many, until their time is over."""
    window = Window(SECONDS, enough=20)
    found = [window.add(f"name {n}", 1, n / 1_000) for n in range(20_000)]
    assert len(window._counted) == module.MOST_NAMES + 1
    assert [each for each in found if each] == [(ELSEWHERE, 20)]
    assert window.add("alice", 20, 400.0) == ("alice", 20)
    assert len(window._counted) == 1


@pytest.mark.parametrize("seconds", [1, 300, 10**9])
def test_what_is_kept_of_one_name_does_not_grow(seconds):
    window = Window(float(seconds), enough=10**9)
    for n in range(10_000):
        window.add("alice", 1, n * seconds / 1_000)
    assert len(window._counted["alice"].parts) <= 11
