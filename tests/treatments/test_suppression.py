"""`suppress(k, by=)`: which groups of a source are given, against a naive reference and by what it promises."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.batch import PLAIN, Batch
from proxy.errors import TooManyGroups
from proxy.few import Few
from proxy.treatments import comparable, parse
from proxy.treatments.groups import PER_GROUP, Counting, Tally
from proxy.values import Type
from tests.reference import groups as reference
from tests.reference.conditions import parsed

SPELLED = {
    Type.TEXT: ("North", "South", "north", "7", "", "Öst", None),
    Type.INTEGER: ("7", "+7", "007", "10", "9", "-3", "n/a", None),
    Type.DECIMAL: ("7", "7.0", "7.00e0", "10", "9.5", "-0", "0", "1E400", None),
    Type.BOOLEAN: ("true", "false", "True", None),
    Type.DATE: ("2026-01-31", "2026-02-01", "2026-02-30", None),
    Type.DATETIME: ("2026-01-31T12:00:00Z", "2026-01-31T13:00+01:00", "2026-01-31 12:00:00.5", "x", None),
}  # fmt: skip
"""Values in several spellings, what is none, and nothing."""
TYPES = st.lists(st.sampled_from(Type), min_size=1, max_size=3)


@st.composite
def sources(draw):
    """The types of the `by` fields, rows that mostly share their values, and `k`."""
    types = draw(TYPES)
    chance = random.Random(draw(st.integers(0, 1 << 32)))
    words = [SPELLED[type_][: chance.randint(2, 9)] for type_ in types]
    if chance.random() < 0.6:
        words = [[word for word in each if word is not None] for each in words]
    rows = [tuple(map(chance.choice, words)) for _ in range(draw(st.integers(0, 40)))]
    return types, rows, draw(st.integers(2, 6))


def batch(types, rows, *, few):
    columns = [[row[n] for row in rows] for n in range(len(types))]
    return Batch(
        {f"f{n}": Few(c) if few else pl.Series(c, dtype=pl.String) for n, c in enumerate(columns)},
        height=len(rows),
        lexis=PLAIN,
        types={f"f{n}": type_ for n, type_ in enumerate(types)},
        few=few,
    )


def tallied(types, batches, least, most=1 << 30):
    counting = Counting(least=least, by=tuple(f"f{n}" for n in range(len(types))))
    tally = Tally(counting, {f"f{n}": t for n, t in enumerate(types)}, most=most)
    for each in batches:
        tally.count(each)
    return tally


def shown(types, rows, least, *, few=False, cuts=()):
    """For each row whether it is given, where they come in batches that are cut at the given places."""
    places = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    batches = [
        batch(types, rows[start:end], few=few and number % 2 == 0)
        for number, (start, end) in enumerate(pairwise(places))
    ]
    found = tallied(types, batches, least).groups()
    return [truth for each in batches for truth in found.shown(each).to_list()]


def values(types, rows):
    return [
        tuple(parsed(text, type_) for text, type_ in zip(row, types, strict=True)) for row in rows
    ]


@settings(max_examples=300)
@given(sources(), st.booleans(), st.lists(st.integers(0, 40), max_size=4))
def test_the_groups_that_are_given_are_the_reference_s(source, few, cuts):
    """Row by row, however the source comes in batches, in columns of a few cells or of many."""
    types, rows, least = source
    meant = reference.given(values(types, rows), least)
    assert shown(types, rows, least, few=few, cuts=cuts) == meant


@settings(max_examples=60)
@given(sources(), st.randoms(use_true_random=False))
def test_the_order_of_the_source_s_rows_makes_no_difference(source, chance):
    """Which rows are given is a function of the rows as a multiset; of many it is that of few."""
    types, rows, least = source
    given_ = dict(zip(rows, shown(types, rows, least), strict=True))
    mixed = rows * 20
    chance.shuffle(mixed)
    assert shown(types, mixed, least * 20, cuts=[chance.randint(0, 800)]) == [
        given_[row] for row in mixed
    ]


@pytest.mark.threat("G63")
@settings(max_examples=300)
@given(sources())
def test_no_small_group_follows_from_a_total(source):
    """A group of fewer than k rows is hidden; and within each group around it, up to the whole report, its
    sum is not what the given cells leave of a total: others are hidden with it, k rows in all, unless
    nothing is left to hide. The same holds of fewer than k rows that are in no group.
    """
    types, rows, least = source
    known = values(types, rows)
    given_ = shown(types, rows, least)
    sizes = Counter(row for row in known if None not in row)
    hidden = {
        row for row, truth in zip(known, given_, strict=True) if not truth and None not in row
    }
    assert all(
        truth == (row in sizes and row not in hidden)
        for row, truth in zip(known, given_, strict=True)
    )
    for group, size in sizes.items():
        assert size >= least or group in hidden
    for depth in range(len(types)):
        for around in {row[:depth] for row in known if None not in row[:depth]}:
            inside = {group for group in sizes if group[:depth] == around}
            small = {group for group in inside if sizes[group] < least}
            loose = sum(None in row and row[:depth] == around for row in known)
            if small or 0 < loose < least:
                together = inside & hidden
                enough = sum(sizes[group] for group in together) >= least
                assert together == inside or (enough and len(together) >= 2)


@given(sources())
def test_nothing_is_hidden_without_need(source):
    """Where each group has k rows and each row is in a group, all of them are given."""
    types, rows, _ = source
    known = values(types, rows)
    sizes = Counter(known)
    if all(None not in row for row in known):
        assert all(shown(types, rows, min(sizes.values(), default=1)))


@pytest.mark.threat("G63")
@pytest.mark.parametrize(
    ("sizes", "given_"),
    [
        ({"a": 9}, "a"),
        ({"a": 4}, ""),
        ({"a": 5, "b": 9, "c": 7}, "abc"),
        ({"a": 4, "b": 9, "c": 7}, "b"),  # alone it would follow from the total
        ({"a": 4, "b": 9, "c": 9}, "c"),  # of two of one size the lower value is hidden
        ({"a": 2, "b": 2, "c": 9, "d": 8}, "c"),  # two, but fewer than k rows together
        ({"a": 1, "b": 4, "c": 9}, "c"),  # two, and k rows together
        ({"a": 4, "b": 9}, ""),
    ],
)
def test_what_is_hidden_beside_a_small_group(sizes, given_):
    """The next smallest, until two groups are hidden that have 5 rows together."""
    rows = [(name,) for name, size in sizes.items() for _ in range(size)]
    found = dict(zip(rows, shown([Type.TEXT], rows, 5), strict=True))
    assert "".join(name for (name,), truth in found.items() if truth) == given_


def test_enclosing_groups_are_hidden_for_each_other():
    """A region with one city hides it; then the report's total calls for the smallest city elsewhere."""
    sizes = {
        ("North", "Aston"): 2,
        ("South", "Deal"): 9,
        ("South", "Eye"): 8,
        ("West", "Frome"): 20,
    }
    rows = [group for group, size in sizes.items() for _ in range(size)]
    found = dict(zip(rows, shown([Type.TEXT, Type.TEXT], rows, 5), strict=True))
    assert [city for (_, city), truth in found.items() if truth] == ["Deal", "Frome"]


def test_rows_in_no_group_are_hidden_and_not_alone():
    """A few rows without a city would follow from the total; of k of them it tells nothing."""
    rows = [("a",)] * 9 + [("b",)] * 7 + [("c",)] * 8
    few = shown([Type.TEXT], [*rows, (None,)], 5)
    assert Counter(few) == {True: 9, False: 16}
    many = shown([Type.TEXT], [*rows, *[(None,)] * 5], 5)
    assert Counter(many) == {True: 24, False: 5}


@settings(max_examples=60)
@given(sources(), st.randoms(use_true_random=False))
def test_groups_take_no_more_than_the_limit(source, chance):
    """What is counted as held is each group's values and a fixed number, in whatever order they come."""
    types, rows, least = source
    whole = batch(types, rows, few=False)
    held = sum(
        PER_GROUP + sum(len(str(value).encode()) for value in row if value is not None)
        for row in {*values(types, rows)}
    )
    chance.shuffle(rows)
    for each in (whole, batch(types, rows, few=True)):
        tallied(types, [each], least, most=held).groups()
        if held:
            with pytest.raises(TooManyGroups):
                tallied(types, [each, each], least, most=held - 1).groups()


@given(st.lists(st.none() | st.text(max_size=5), max_size=9), st.sampled_from(Type))
def test_without_a_count_nothing_is_given(apply, cells, type_):
    """The default is absent: a form that knows of no groups gives no cell."""
    assert apply("suppress(2, by='f')", cells, type_) == [None] * len(cells)


def test_it_compares_with_what_is_all_or_nothing_of_a_cell():
    """`clear` is preferred to it, and it to what hides the value; with `round` and the like it has no order."""
    suppress = parse("suppress(5, by='city')")
    for other in ("clear", "encrypt", "constant(0)", "redact", "suppress( 5, by = 'city')"):
        assert comparable(suppress, parse(other))
    for other in ("round(5)", "partial(last=4)", "pseudonym", "suppress(6, by='city')"):
        assert not comparable(suppress, parse(other))
