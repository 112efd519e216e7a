"""Columns as Arrow's arrays hold the same cells, and what is done once a distinct cell is done to each."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import texts

CELLS = st.lists(st.none() | st.text("aé𝄞", max_size=14), max_size=20)


@given(CELLS, st.data())
def test_a_column_is_the_same_there_and_back(cells, data):
    """Filtered, sliced or whole."""
    column = pl.Series(cells, dtype=pl.String)
    kept = data.draw(st.lists(st.booleans(), min_size=len(cells), max_size=len(cells)))
    for each in (column, column.filter(pl.Series(kept, dtype=pl.Boolean)), column[1:]):
        array = texts.texts(each)
        assert array.to_pylist() == each.to_list()
        assert texts.column(array).to_list() == each.to_list()


@given(CELLS, st.integers(1, 5))
def test_each_distinct_cell_is_asked_for_once(cells, repeats):
    """The form of each cell is that of its text, null stays null; or it is left, where cells hardly repeat."""
    asked: list[str] = []

    def form(distinct: list[str]) -> list[str | None]:
        asked.extend(distinct)
        return [None if "é" in text else text * 2 for text in distinct]

    found = texts.by_distinct(texts.texts(pl.Series(cells, dtype=pl.String)), form, repeats=repeats)
    distinct = {cell for cell in cells if cell is not None}
    if len(distinct) * repeats > len(cells):
        assert found is None
        return
    assert found is not None
    assert len(found) == len(cells)
    assert found.column().to_list() == [None if c is None or "é" in c else c * 2 for c in cells]
    assert sorted(asked) == sorted(distinct)


@pytest.mark.parametrize("distinct", [1, 1_333, 10_000, 30_000, 60_000])
@pytest.mark.parametrize("order", ["in turn", "in runs"])
def test_a_long_column_that_repeats_is_seen_to(distinct, order):
    """However cells follow each other, a column in which each is there often is numbered."""
    numbers = [
        n % distinct if order == "in turn" else n * distinct // 250_000 for n in range(250_000)
    ]
    cells = [str(number) for number in numbers]
    found = texts.by_distinct(
        texts.texts(pl.Series(cells, dtype=pl.String)), lambda each: [*each], repeats=4
    )
    assert found is not None
    assert len(found.distinct) == distinct
    assert found.column().to_list() == cells


def test_a_long_column_that_does_not_repeat_is_left():
    """Nobody is asked for forms where each cell is there once."""
    cells = pl.Series([str(n) for n in range(40_000)], dtype=pl.String)
    assert texts.by_distinct(texts.texts(cells), lambda each: [*each], repeats=4) is None
