"""`next_flip` never misses an instant at which time alone changes a condition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.conditions import compile  # noqa: A004
from proxy.policy.conditions.tree import (
    And,
    Call,
    Comparison,
    Name,
    Not,
    Or,
    Text,
    canonical,
    children,
)
from tests.policy.conditions_strategies import (
    CLOCKED,
    CONTEXT,
    CONTEXTS,
    MIDNIGHT,
    OF_ROWS,
    ROWS,
    TICK,
    WHEN,
    joined,
)

DAY = timedelta(days=1)


def at(context, now):
    """The context at another instant."""
    return msgspec.structs.replace(context, now=now, date=now.date())


def instants(node):
    """The instants that a condition names, and days around them."""
    if isinstance(node, Call) and node.function in ("time", "date"):
        text = node.arguments[0].value
        yield datetime.fromisoformat(text).replace(tzinfo=UTC)
    for child in children(node):
        yield from instants(child)


@settings(max_examples=max(settings().max_examples, 250))
@given(CLOCKED, CONTEXTS, st.lists(st.integers(0, 10**13), max_size=5))
def test_nothing_changes_before_the_flip(tree, context, later):
    """At every instant after now and before the flip the truth is that of now."""
    condition = compile(canonical(tree), WHEN)
    flip = condition.next_flip(context)
    assert flip is None or flip > context.now
    now = condition.holds(context)
    tried = set()
    held = [
        value
        for value in context.attributes.values()
        if isinstance(value, datetime) and value.tzinfo
    ]
    for base in {*instants(tree), *held, MIDNIGHT, context.now}:
        for days in range(-4, 5):
            for ticks in (-1, 0, 1):
                try:
                    tried.add(base + days * DAY + ticks * TICK)
                except OverflowError:
                    continue
    for micros in later:
        try:
            tried.add(context.now + micros * TICK)
        except OverflowError:
            continue
    if flip is not None:
        tried.add(flip - TICK)
    for then in tried:
        if then > context.now and (flip is None or then < flip):
            assert condition.holds(at(context, then)) is now, then


@settings(max_examples=max(settings().max_examples, 250))
@given(CLOCKED, CONTEXTS)
def test_a_condition_that_is_followed_from_flip_to_flip_is_never_stale(tree, context):
    """Going from flip to flip, the truth before each flip is the truth at the last one."""
    condition = compile(canonical(tree), WHEN)
    for _ in range(6):
        flip = condition.next_flip(context)
        if flip is None:
            return
        assert condition.holds(at(context, flip - TICK)) is condition.holds(context)
        context = at(context, flip)


@pytest.mark.parametrize("relation", ["==", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("ticks", [-2, -1, 0, 1, 2])
def test_each_relation_flips_at_the_instant_or_the_moment_after(relation, turned, ticks):
    """At, just before and just after a named instant, no flip is missed and none is far too early."""
    named, clock = Call("time", (Text(MIDNIGHT.isoformat()),)), Name("env", "now")
    tree = Comparison(relation, *((named, clock) if turned else (clock, named)))
    condition = compile(canonical(tree), WHEN)
    context = at(CONTEXT, MIDNIGHT + ticks * TICK)
    flip = condition.next_flip(context)
    truths = {k: condition.holds(at(context, MIDNIGHT + k * TICK)) for k in range(ticks, 4)}
    changes = [k for k in truths if truths[k] is not truths[ticks]]
    if changes:
        assert flip is not None
        assert MIDNIGHT <= flip <= MIDNIGHT + changes[0] * TICK
    elif ticks > 0:
        assert flip is None


def test_a_condition_without_a_clock_never_flips():
    """Time changes nothing where no clock is read."""
    assert (
        compile("env.purpose == '' and sub.datetime < sub.datetime + days(1)", WHEN).next_flip(
            CONTEXT
        )
        is None
    )


def test_the_day_changes_at_midnight():
    """`env.date` is looked at again at the next midnight, UTC."""
    condition = compile("env.date - date('2024-01-01') > 40", WHEN)
    assert condition.next_flip(at(CONTEXT, MIDNIGHT)) == MIDNIGHT + DAY
    assert condition.next_flip(at(CONTEXT, MIDNIGHT - TICK)) == MIDNIGHT


def test_times_of_rows_are_looked_at_again_within_a_minute():
    """Where each row has its own instant there is no single flip."""
    condition = compile("env.now < row.until", ROWS)
    assert condition.next_flip(CONTEXT) == CONTEXT.now + timedelta(seconds=60)


def test_the_end_of_the_calendar_is_no_flip():
    """What would flip after the year 9999 does not."""
    last = datetime.max.replace(tzinfo=UTC)
    assert compile("env.date > date('9999-12-30')", WHEN).next_flip(at(CONTEXT, last)) is None
    assert (
        compile(f"env.now <= time('{last.isoformat()}')", WHEN).next_flip(at(CONTEXT, last)) is None
    )


@pytest.mark.parametrize(
    ("text", "now", "flip"),
    [
        ("present(env.now + days(1))", datetime.max.replace(tzinfo=UTC) - 3 * DAY, datetime.max.replace(tzinfo=UTC) - DAY + TICK),
        ("present(env.now - days(2))", datetime.min.replace(tzinfo=UTC) + DAY, datetime.min.replace(tzinfo=UTC) + 2 * DAY),
        ("env.now - days(2) > time('2024-01-01T00:00')", datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC) + 2 * DAY),
    ],
)  # fmt: skip
def test_a_moved_time_that_enters_or_leaves_the_calendar_flips(text, now, flip):
    """Becoming known or unknown is a change of truth too."""
    condition = compile(text, WHEN)
    context = at(CONTEXT, now)
    assert condition.next_flip(context) == flip
    assert condition.holds(at(context, flip - TICK)) is condition.holds(context)
    assert condition.holds(at(context, flip)) is not condition.holds(context)


@settings(max_examples=max(settings().max_examples, 250))
@given(st.data(), CONTEXTS, CONTEXTS)
def test_what_is_over_is_false_for_every_row_and_requester(data, context, other):
    """What time alone says is so whatever the row, the attributes, the purpose and the address are."""
    terms = st.one_of(CLOCKED, CLOCKED.map(Not), OF_ROWS.conditions(2))
    kind = data.draw(st.sampled_from((And, Or)))
    tree = joined(kind, data.draw(st.tuples(terms, terms, terms)))
    condition = compile(canonical(data.draw(st.sampled_from((tree, Not(tree))))), ROWS)
    if condition.is_over(context):
        assert condition.bind(at(other, context.now)) is False


END = "env.now < time('2026-11-24T15:00:00Z')"


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        (END, False, True),
        (f"{END} and row.units > 5", False, True),
        (f"row.units > 5 and ({END} or env.date < date('2026-11-24'))", False, True),
        (f"not (row.units > 5 or not ({END}))", False, True),
        (f"{END} or row.units > 5", False, False),
        (f"not ({END}) and row.units > 5", True, False),
        ("present(sub.text) and env.purpose == 'none'", False, False),
        ("1 == 2 and row.units > 5", False, False),
        ("row.due < env.date and row.at < env.now - days(3000)", False, False),
    ],
)
def test_a_condition_is_over_where_its_time_is(text, before, after):
    """By the time alone, within what else it says; what hangs on a row or a requester is not over."""
    end = datetime(2026, 11, 24, 15, tzinfo=UTC)
    condition = compile(text, ROWS)
    assert condition.is_over(at(CONTEXT, end - TICK)) is before
    assert condition.is_over(at(CONTEXT, end)) is after
