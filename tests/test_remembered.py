"""What is remembered changes no answer, and is bounded however many forms there are."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from proxy import remembered
from proxy.remembered import MOST_OF_ALL, MOST_OF_ONE, Remembered

CELLS = st.lists(st.none() | st.text("ab", max_size=3), max_size=12)


def shout(cells):
    return [None if cell == "b" else cell.upper() for cell in cells]


@given(st.lists(CELLS, max_size=6))
def test_each_cell_has_its_form_however_often_it_was_met(blocks):
    """Null stays null, a form may be null, and no cell with a form is treated twice."""
    one, asked = Remembered(), []

    def treat(distinct):
        asked.extend(distinct)
        return shout(distinct)

    for cells in blocks:
        expected = [None if cell is None else shout([cell])[0] for cell in cells]
        assert one.forms(cells, treat) == expected
    formed = [cell for cell in asked if cell != "b"]
    assert len(formed) == len(set(formed))


@given(st.lists(CELLS, max_size=6))
def test_columns_have_the_forms_of_their_cells(blocks):
    """Whatever was met before, in this way or cell by cell; and no cell with a form is treated twice."""
    one, asked = Remembered(), []

    def treat(distinct):
        asked.extend(distinct)
        return shout(distinct)

    for number, cells in enumerate(blocks):
        distinct = [*dict.fromkeys(cells)]
        expected = [None if cell is None else shout([cell])[0] for cell in distinct]
        found = one.column(pa.array(distinct, pa.large_string()), treat)
        assert found.to_pylist() == expected
        if number % 2:
            one.forms(cells, treat)
    formed = [cell for cell in asked if cell != "b"]
    assert len(formed) == len(set(formed))


def test_all_forms_together_keep_a_bounded_number_of_cells():
    """As many forms as requesters may make: the oldest are forgotten, and give the same again."""
    many = [Remembered() for _ in range(3 * MOST_OF_ALL // MOST_OF_ONE)]
    cells = [f"cell {n}" for n in range(MOST_OF_ONE)]
    for one in many:
        assert one.forms(cells, shout) == shout(cells)
        assert one.forms([*cells[:9], "x" * 65, "another"], shout)[-1] == "ANOTHER"
        assert one.column(pa.array(cells, pa.large_string()), shout).to_pylist() == shout(cells)
    assert sum(map(len, many)) <= MOST_OF_ALL
    assert remembered._EVERYTHING.cells <= MOST_OF_ALL
    assert sum(len(one.columns.cells) for one in many if one.columns) <= MOST_OF_ALL
    assert many[0].columns is None
    assert many[0].forms(cells[:3], shout) == shout(cells[:3])
    assert len(many[-1]) <= MOST_OF_ONE
