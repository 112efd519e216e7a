"""What differs between two plans of one requester is what differs in some row, and nothing else."""

from __future__ import annotations

import dataclasses
import random
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings

from proxy.audit import Past
from proxy.review.alike import Alike
from proxy.review.cells import Cells
from proxy.review.replay import Replay
from proxy.review.replayed import Kind
from proxy.review.rules import ordered
from proxy.review.then import Asked, Judge
from tests.reference.conditions import Condition
from tests.reference.worlds import SEEDS, Maker, world_of
from tests.review.test_difference import LINES, every_row, policy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ASKED = Asked(
    principal="user:u", groups=(), tool="", method="GET", report="sales/daily", path="", format="csv",
    action="read", purpose="", uses=(),
)  # fmt: skip
HELD = "g, user:u, role:r\n"


def changed(before, after, *, at=NOW):
    """The changes for a member of the role, whose attributes the log does not hold."""
    given_ = [Judge(each).given(ASKED, (at, "127.0.0.1")) for each in (before, after)]
    return Cells(Alike(seconds=10)).changes(*given_)


@settings(max_examples=40)
@given(LINES, LINES)
def test_a_change_is_told_where_some_row_shows_one_and_nowhere_else(old, new):
    """By brute force over every row of a small world; a function that the solver knows little of may be told too often."""
    before, after = policy([HELD, *old]), policy([HELD, *new])
    if None in [Judge(each).given(ASKED, (NOW, "")) for each in (before, after)]:
        return
    told = {change.field for change in changed(before, after)}
    shown = set()
    for was, now in zip(every_row(before), every_row(after), strict=True):
        shown |= {name for name in was.keys() | now.keys() if was.get(name) != now.get(name)}
    assert shown <= told
    assert shown == told or any("lower" in line for line in (*old, *new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("true, *, clear", "true, *, clear\np2, role:r, sales/*, row.units > 5, *, clear"),
        ("row.region in ['a', 'b'], *, clear", "row.region in ['b', 'a', 'b'], *, clear"),
        ("row.units > 5 and row.price > 1, *, clear", "row.price > 1 and row.units > 5, *, clear"),
        ("row.units > 5, *, clear", "not (row.units <= 5), *, clear"),
        ("true, *, clear", "true, *, clear\np2, role:r, sales/*, 1 > 2, *, deny"),
        ("true, *, clear", "true, *, clear\np2, role:r, sales/*, row.units > 5, *, redact"),
        ("row.units > 5, *, clear", "row.units > 5, *, clear\np2, role:r, sales/*, row.units > 7, *, clear"),
        ("true, *, clear", "true, *, clear\np2, role:r, sales/*, row.units > 5 and row.units < 3 and present(row.units), *, deny"),
    ],
)  # fmt: skip
def test_lines_that_make_no_difference_are_no_change(old, new):
    """A line that a preferred one forestalls, another order or spelling of the same condition."""
    before, after = (policy([HELD, f"p2, role:r, sales/*, {line}\n"]) for line in (old, new))
    assert changed(before, after) == changed(after, before) == ()


def test_without_the_solver_equal_lines_are_still_no_change(monkeypatch):
    """What needs no proof is seen without the extra; what needs one is told as a change."""
    monkeypatch.setitem(sys.modules, "proxy.review.solver", None)
    old, new, other = (
        policy([HELD, f"p2, role:r, sales/*, {line}\n"])
        for line in (
            "row.region in ['a', 'b'], *, clear",
            "row.region in ['b', 'a'], *, clear",
            "row.region == 'a' or row.region == 'b', *, clear",
        )
    )
    assert changed(old, new) == ()
    assert {change.field for change in changed(old, other)} == {"region", "units", "price"}


def test_a_grant_whose_time_is_over_changes_nothing_since():
    """Accesses before its end are told to lose its cells, those after it are as before; in one replay."""
    own = "p2, role:r, sales/*, true, region, clear\n"
    until = "env.now < time('2026-03-01T12:00:00Z')"
    grant = f"p2, user:u, sales/daily, ({until}) and (row.units > 1), units, clear\n"
    before, after = policy([HELD, own, grant]), policy([HELD, own])
    assert changed(before, after) == ()
    early = NOW - timedelta(seconds=1)
    assert [each.field for each in changed(before, after, at=early)] == ["units"]
    blank = Past(**dict.fromkeys(Past._fields, ""))
    pasts = [
        blank._replace(
            started=at.isoformat(), subject="user:u", method="GET", report="sales/daily", format="csv",
            action="read", decision="permit", policy="then",
        )
        for at in (early, NOW, early, NOW, NOW)
    ]  # fmt: skip
    work = Replay(after, then=lambda _: before, names=lambda subject: subject)
    work.add(pasts)
    found = work.result()
    (tally,) = found.tallies
    assert (tally.difference.kind, tally.count, found.unchanged) == (Kind.CHANGED, 2, 3)


def turned(condition):
    """The same condition, with its lists and its `and`s and `or`s the other way round."""
    parts = [turned(part) if isinstance(part, Condition) else part for part in condition.parts]
    if condition.of in ("list", "and", "or"):
        parts.reverse()
    return dataclasses.replace(condition, parts=tuple(parts))


@given(SEEDS)
def test_what_has_no_order_is_written_in_one(seed):
    """A condition turned round has the same text."""
    condition = Maker(random.Random(seed)).condition(world_of(seed).report.fields)
    assert ordered(str(condition)) == ordered(str(turned(condition)))
