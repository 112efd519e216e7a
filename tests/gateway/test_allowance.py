"""How many cells may be revealed: never more in a span than twice what it allows, and again after a while."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.gateway import allowance
from proxy.gateway.allowance import Allowance

SPANS = ((100.0, 60.0), (1000.0, 3600.0))


@given(st.lists(st.tuples(st.integers(1, 100), st.floats(0, 50)), max_size=80))
def test_no_span_gives_more_than_its_burst_and_its_rate(asked):
    """In any stretch of time: what may be asked at once, and what comes back in that time."""
    left, now, given_ = Allowance(spans=SPANS), 0.0, []
    for cells, pause in asked:
        now += pause
        if left.take("a", cells, now) == 0:
            given_.append((now, cells))
    for most, seconds in SPANS:
        for start, (began, _) in enumerate(given_):
            total = 0
            for at, cells in given_[start:]:
                total += cells
                assert total <= most + (at - began) * most / seconds + 1e-6


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60))
def test_who_waits_as_told_is_given_it(asked):
    """The seconds that are told are enough, and none fewer whole ones are."""
    left, now = Allowance(spans=SPANS), 0.0
    for cells in asked:
        wait = left.take("a", cells, now)
        if wait:
            assert wait == 1 or left.take("a", cells, now + wait - 1) > 0
            now += wait
            assert left.take("a", cells, now) == 0


def test_one_subject_takes_nothing_of_another(monkeypatch):
    """Each has its own; beyond those that can be told apart, the rest share one, and memory is bounded."""
    monkeypatch.setattr(allowance, "_MOST_SUBJECTS", 3)
    left = Allowance(spans=SPANS)
    assert [left.take(name, 100, 0.0) for name in "abc"] == [0, 0, 0]
    assert left.take("a", 1, 0.0) > 0
    assert left.take("d", 60, 0.0) == 0 and left.take("e", 60, 0.0) > 0
    assert len(left._left) == 4
    assert left.take("f", 100, 10_000.0) == 0 and len(left._left) == 1
