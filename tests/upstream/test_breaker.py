"""A breaker on its own: the states it goes through, whatever comes in which order, by a clock of the test's."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.breaker import Breaker, Suspended, Trial


def opened(*, failures: int = 3, suspend: float = 10) -> Breaker:
    breaker = Breaker(failures=failures, suspend=suspend)
    told = [breaker.begin(0).failed(0) for _ in range(failures)]
    assert told == [*[False] * (failures - 1), True]
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not():
    """It is the row that counts: what goes well begins it anew."""
    breaker = Breaker(failures=3, suspend=10)
    for _ in range(5):
        for _ in range(2):
            assert not breaker.begin(0).failed(0)
        breaker.begin(0).succeeded()
        breaker.begin(0).succeeded()
    assert breaker.state == "closed"


def test_more_than_half_of_the_last_requests_open_it():
    """A store that fails every second time and once more is left alone, though never twice in a row."""
    breaker = Breaker(failures=5, suspend=10)
    for _ in range(9):
        breaker.begin(0).succeeded()
        assert not breaker.begin(0).failed(0)
    assert not breaker.begin(0).failed(0)  # the 19th
    assert breaker.begin(0).failed(0)


def test_an_open_one_says_how_long_and_then_lets_one_through():
    """Nobody is asked to wait longer than until the probe; beside the probe nobody goes."""
    breaker = opened()
    with pytest.raises(Suspended) as refused:
        breaker.begin(4)
    assert refused.value.after == 6
    probe = breaker.begin(10)
    assert probe.probe and breaker.state == "half-open"
    with pytest.raises(Suspended):
        breaker.begin(11)
    assert probe.answered() and breaker.state == "closed"
    assert not breaker.begin(12).probe


def test_a_probe_that_fails_doubles_the_pause_up_to_a_minute():
    """10, 20, 40, 60, 60 seconds; a success sets it back."""
    breaker, now = opened(), 0.0
    for pause in (10, 20, 40, 60, 60):
        assert breaker.refuses(now) == pause
        now += pause
        assert not breaker.begin(now).failed(now)  # it is no news
    now += 60
    probe = breaker.begin(now)
    probe.answered()
    probe.succeeded()
    for _ in range(3):
        breaker.begin(now).failed(now)
    assert breaker.refuses(now) == 10


def test_until_an_answer_ends_well_one_failure_opens_it_again():
    """A head is hope and no more: where the body hangs, the store is not asked by everybody for long."""
    breaker = opened()
    probe = breaker.begin(10)
    probe.answered()
    assert probe.failed(11)
    assert breaker.state == "open"


def test_a_probe_that_nobody_waits_for_leaves_its_place_to_the_next():
    """A requester that goes away tells nothing of the store, and does not shut it."""
    breaker = opened()
    breaker.begin(10).let_go()
    assert breaker.begin(10).probe


def test_what_began_before_tells_nothing_of_now():
    """Late failures do not open it anew, late successes do not close it."""
    breaker = Breaker(failures=2, suspend=10)
    late = [breaker.begin(0) for _ in range(4)]
    for trial in late[:2]:
        trial.failed(0)
    assert breaker.state == "open"
    assert not late[2].answered() and breaker.state == "open"
    probe = breaker.begin(10)
    probe.answered()
    probe.succeeded()
    assert not late[3].failed(10)
    assert not breaker.begin(10).failed(10)
    assert breaker.state == "closed"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "answered", "failed", "succeeded", "let_go"]),
        st.integers(0, 30),
        st.integers(0, 5),
    ),
    max_size=200,
)


@given(STEPS)
def test_it_never_stays_shut_and_never_has_two_probes(steps):
    """However requests end, there is one probe at most, and a store is asked again within a minute."""
    breaker, now, running = Breaker(failures=2, suspend=3), 0.0, list[Trial]()
    for what, at, later in steps:
        now += later
        if what == "begin":
            assert breaker.refuses(now) <= 60
            with contextlib.suppress(Suspended):
                running.append(breaker.begin(now))
        elif running:
            trial = running.pop(at % len(running))
            if what == "failed":
                trial.failed(now)
            else:
                getattr(trial, what)()
            if what == "answered":
                running.append(trial)
            elif what == "succeeded" and trial.probe:
                trial.let_go()  # without a head there is no success: the store is not known to be well
        probes = [each for each in running if each.probe and each._counts()]
        assert len(probes) == (breaker.state == "half-open")
    for trial in running:
        trial.let_go()
    breaker.begin(now + 60)
