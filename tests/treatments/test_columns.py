"""Columns: what is a value of a type is judged as `proxy.values` judges it."""

from __future__ import annotations

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.treatments.columns import SMALL, of_type, per_distinct
from proxy.values import DIGITS, Type, scalar

NEARLY = st.from_regex(
    r"[+-]?[0-9]{1,38}(\.[0-9]{0,38})?([eE][+-]?[0-9]{1,4})?"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,7})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
    r"|[Tt]rue|false\n?",
)
TEXTS = st.lists(
    st.none()
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=4)
    | NEARLY
    | st.dates().map(str)
    | st.datetimes().map(lambda at: at.isoformat()),
    max_size=10,
)


@given(TEXTS)
@example(["1" * DIGITS, "1" * (DIGITS + 1), "0001-01-01", "0000-01-01", "1999-02-29", "2000-02-29"])
@example(["2026-11-23T24:00", "2026-11-23 23:59:60", "9999-12-31T23:59-01:00", "2026-11-23T00:00Z"])
@example(["٣", "1\n", "true\n", "2026-11-23\n", ""])
def test_of_type_is_scalar(texts):
    """A text stays exactly where it writes a value of the type, in short and long columns."""
    for type_ in Type:
        expected = [
            text if text is not None and scalar(text, type_) is not None else None for text in texts
        ]
        for times in (1, 1 + SMALL):
            column = pl.Series(texts * times, dtype=pl.String)
            assert of_type(column, type_).to_list() == expected * times


@given(TEXTS)
def test_per_distinct_is_map_and_calls_once(texts):
    """A function is applied to each distinct text once, and null stays null."""
    for times in (1, 1 + SMALL):
        asked = []

        def shout(text, asked=asked):
            asked.append(text)
            return None if text == "" else text + "!"

        given_ = per_distinct(pl.Series(texts * times, dtype=pl.String), shout).to_list()
        assert given_ == [text + "!" if text else None for text in texts * times]
        assert sorted(asked) == sorted({text for text in texts if text is not None})
