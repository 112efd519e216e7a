"""`constant` and `redact`: nothing of a cell shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.treatments import parse
from proxy.values import Type

CELLS = st.lists(st.none() | st.text(st.characters(exclude_categories=("Cs",)), max_size=8))


@given(CELLS, CELLS)
def test_a_constant_is_the_same_for_all_cells(apply, one, other):
    """Two columns of one height are given alike, nulls and non-values too."""
    height = min(len(one), len(other))
    for type_ in Type:
        first = apply("constant('n/a')", one[:height], type_)
        assert first == apply("constant('n/a')", other[:height], type_) == ["n/a"] * height


@given(CELLS)
def test_redacted_cells_have_no_value(apply, cells):
    """Every cell is null, and the column is as high as before."""
    assert apply("redact", cells) == [None] * len(cells)


@pytest.mark.parametrize(
    ("text", "type_", "given_"),
    [
        ("constant(0)", Type.INTEGER, Type.INTEGER),
        ("constant(0)", Type.DECIMAL, Type.DECIMAL),
        ("constant(-1.5)", Type.DECIMAL, Type.DECIMAL),
        ("constant(-1.5)", Type.INTEGER, Type.TEXT),
        ("constant(0)", Type.TEXT, Type.TEXT),
        ("constant('0')", Type.INTEGER, Type.TEXT),
        ("constant('2026-01-01')", Type.DATE, Type.DATE),
        ("constant('2026-02-30')", Type.DATE, Type.TEXT),
        ("constant('2026-01-01')", Type.DATETIME, Type.TEXT),
        ("constant('2026-01-01T00:00Z')", Type.DATETIME, Type.DATETIME),
        ("constant('true')", Type.BOOLEAN, Type.BOOLEAN),
        ("constant('n/a')", Type.TEXT, Type.TEXT),
        ("constant(2026)", Type.DATE, Type.TEXT),
        ("redact", Type.TEXT, None),
        ("redact", Type.INTEGER, None),
    ],
)
def test_type_given(text, type_, given_):
    """A literal keeps the field's type where it is a value of it and of its kind."""
    assert parse(text).gives(type_) is given_
