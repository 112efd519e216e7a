"""`bucket(edges)` against an evaluator that looks at every edge."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.treatments import parse
from proxy.treatments.base import Literal
from proxy.treatments.buckets import Bucket
from proxy.values import Type, number, scalar
from tests.reference.forms import bucketed

WRITTEN = st.one_of(
    st.from_regex(r"-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,2})?", fullmatch=True),
    st.from_regex(r"-?(0|[1-9][0-9]{0,19})(\.[0-9]{1,20})?", fullmatch=True),
)
EDGES = st.lists(WRITTEN, min_size=1, max_size=6, unique_by=Decimal).map(
    lambda edges: sorted(edges, key=Decimal)
)
BESIDE = st.sampled_from(["0", "1E-20", "-1E-20", "0.0001", "-0.0001", "1", "-1"]).map(Decimal)


def bucket(edges: list[str], *, lower: bool = False) -> Bucket:
    literals = tuple(Literal(edge, quoted="-" in edge[1:]) for edge in edges)
    return Bucket(edges=literals, given="lower" if lower else None)


@st.composite
def edges_and_numbers(draw):
    """Edges, and numbers on them, beside them and anywhere."""
    edges = draw(EDGES)
    near = st.tuples(st.sampled_from(edges), BESIDE).map(lambda at: f"{Decimal(at[0]) + at[1]:f}")
    anywhere = st.from_regex(r"[+-]?[0-9]{1,6}(\.[0-9]{1,3})?([eE]-?[0-9])?", fullmatch=True)
    return edges, draw(st.lists(st.none() | near | near | anywhere, min_size=1, max_size=8))


@given(edges_and_numbers(), st.booleans())
def test_a_number_is_in_the_interval_that_holds_it(apply, given_, lower):
    """Exactly, on edges and a hair beside them, in small and large batches."""
    edges, cells = given_
    expected = [
        None
        if cell is None or number(cell) is None
        else bucketed(number(cell), edges, "decimal", lower=lower)
        for cell in cells
    ]
    for times in (1, 300):
        found = apply(bucket(edges, lower=lower), cells * times, Type.DECIMAL)
        assert found == expected * times


@given(EDGES, st.lists(st.integers(-2000, 2000), min_size=1, max_size=8), st.booleans())
def test_short_numbers_of_one_shape_go_the_short_way_alike(apply, edges, cells, point):
    """Columns that are read at once, of integers or of decimals with a point in each cell."""
    type_ = Type.DECIMAL if point else Type.INTEGER
    texts = [f"{cell}.5" if point else str(cell) for cell in cells]
    expected = [bucketed(number(text), edges, "decimal", lower=False) for text in texts]
    assert apply(bucket(edges), [*texts, None] * 300, type_) == [*expected, None] * 300


@given(
    st.lists(st.dates(), min_size=1, max_size=5, unique=True),
    st.lists(st.none() | st.dates() | st.just("2026-02-30"), max_size=20),
    st.booleans(),
)
def test_a_day_is_in_the_interval_that_holds_it(apply, days, cells, lower):
    """Days are put into intervals of days, and what is no day into none."""
    edges = [day.isoformat() for day in sorted(days)]
    texts = [None if cell is None else str(cell) for cell in cells]
    expected = [
        None
        if text is None or scalar(text, Type.DATE) is None
        else bucketed(scalar(text, Type.DATE), edges, "date", lower=lower)
        for text in texts
    ]
    assert apply(bucket(edges, lower=lower), texts, Type.DATE) == expected


@pytest.mark.parametrize(
    ("text", "cell", "expected"),
    [
        ("bucket(0|100|1000)", "0", "[0, 100)"),
        ("bucket(0|100|1000)", "-0", "[0, 100)"),
        ("bucket(0|100|1000)", "99.999999999999999999999", "[0, 100)"),
        ("bucket(0|100|1000)", "100", "[100, 1000)"),
        ("bucket(0|100|1000)", "1e2", "[100, 1000)"),
        ("bucket(0|100|1000)", "1000", ">=1000"),
        ("bucket(0|100|1000)", "-0.0000001", "<0"),
        ("bucket(0|100|1000)", "9" * 36, ">=1000"),
        ("bucket(0|100|1000)", "9" * 37, None),
        ("bucket(0|100|1000)", "NaN", None),
        ("bucket(0|100|1000)", "", None),
        ("bucket(0|0.50|1.00)", "0.5", "[0.50, 1.00)"),
        ("bucket(0|0.50|1.00, as='lower')", "0.7", "0.50"),
        ("bucket(0|0.50|1.00, as='lower')", "-1", None),
        ("bucket(0.00005)", "0.0000", "<0.00005"),
        ("bucket(0.00005)", "0.0001", ">=0.00005"),
        ("bucket(-0.00005)", "0.0000", ">=-0.00005"),
        ("bucket(-0.00005)", "-0.0001", "<-0.00005"),
        ("bucket(99999999999999999999)", "999999999999.9999", "<99999999999999999999"),
        ("bucket(-99999999999999999999)", "-999999999999.9999", ">=-99999999999999999999"),
    ],
)
def test_examples(apply, text, cell, expected):
    """Known cases: ends, signs, edges as they are written, numbers at the ends of what goes in 64 bits."""
    assert apply(text, [cell], Type.DECIMAL) == [expected]
    assert apply(text, [cell] * 300, Type.DECIMAL) == [expected] * 300


def test_a_lower_edge_is_a_number_of_the_given_type(apply):
    """Of integers it is an integer, unless an edge has a point; the answer's column has its digits."""
    whole, half = parse("bucket(0|10, as='lower')"), parse("bucket(0|0.25|10, as='lower')")
    assert whole.gives(Type.INTEGER) is Type.INTEGER and whole.places == 0
    assert half.gives(Type.INTEGER) is Type.DECIMAL and half.places == 2
    assert parse("bucket('2026-01-01', as='lower')").gives(Type.DATE) is Type.DATE
    assert apply(half, ["0", "7", "-3"], Type.INTEGER) == ["0", "0.25", None]


@given(EDGES)
def test_each_edge_begins_an_interval_and_nothing_is_in_two(apply, edges):
    """As many intervals as edges and one more, in the order of the numbers in them."""
    labels = bucket(edges).labels
    assert len(set(labels)) == len(edges) + 1
    assert apply(bucket(edges), edges, Type.DECIMAL) == [*labels[1:]]
    for (_, one), (other, _) in pairwise(pairwise([None, *edges, None])):
        assert one == other
