"""What a policy is made of goes with it, at once but piece by piece."""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.piecemeal import let_go, used_up
from tests.policy.example import context, faults, load, subject
from tests.policy.test_source import GOOD


@contextmanager
def uncollected():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Thing:
    """What can be seen to go."""


@given(st.lists(st.integers(), max_size=2_000))
def test_items_are_used_up_in_their_order(items):
    held = list(items)
    assert list(used_up(held)) == items
    assert held == []


def test_an_item_goes_before_the_next_one_comes():
    things = [Thing() for _ in range(3)]
    seen = [weakref.ref(thing) for thing in things]
    for number, thing in enumerate(used_up(things)):
        assert [ref() is None for ref in seen] == [at < number for at in range(3)]
        del thing


@pytest.mark.parametrize("size", [0, 1, 499, 500, 501, 1_700])
def test_containers_are_emptied(size):
    things = [Thing() for _ in range(size)]
    seen = [weakref.ref(thing) for thing in things]
    by_number = dict(enumerate(things))
    let_go(things, by_number)
    assert not things and not by_number
    assert not any(ref() for ref in seen)


def test_a_policy_goes_with_its_last_reference_and_its_pieces_hold_its_lines():
    """No circle keeps a policy, nor a slice, nor Casbin's enforcer, until a full garbage collection."""
    with uncollected():
        policy = load(GOOD)
        who = subject("user:a", "group:analysts")
        slice_ = policy.slice(who, "sales/daily", "read")
        assert slice_.verdict(context(who)).lines
        seen = [weakref.ref(each) for each in (policy, slice_, slice_._decider._enforcer)]
        pieces = policy.pieces
        lines = sum(len(piece) for piece in pieces if isinstance(piece, list))
        assert lines == len(policy.access) + len(policy.cells) + 1
        del policy, slice_
        assert [ref() for ref in seen] == [None, None, None]


@pytest.mark.parametrize("bad", ["", "p2, role:x, sales/*, row.nothing == 1, *, clear\n"])
def test_reading_leaves_nothing_to_the_collector(bad):
    """However many lines are read, good or bad ones: no more circles are left behind than by a few."""

    def left(lines):
        text = GOOD + "".join(
            f"p2, user:u{n}, sales/daily, row.store_id == {n}, date, clear\n" for n in range(lines)
        )
        with uncollected():
            assert bool(faults(text + bad)) == bool(bad)
            return gc.collect()

    left(10)
    assert left(1_000) == left(10)
