"""Columns of a typed document: what a dictionary says of them is what their texts say."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from proxy.batch import REPEATS
from proxy.formats.arrow_columns import Columns
from proxy.texts import numbered

VALUES = st.sampled_from([None, "", "a", "b", "å", "long text"])


@given(
    dictionary=st.lists(VALUES, min_size=1, max_size=8),
    data=st.data(),
    type_=st.sampled_from([pa.string(), pa.large_string()]),
)
def test_a_dictionary_s_numbers_are_those_of_its_texts(dictionary, data, type_):
    """Each text that is there once, as they come; none that no record has, whatever the dictionary holds."""
    places = st.none() | st.integers(0, len(dictionary) - 1)
    indices = data.draw(st.lists(places, max_size=40))
    before = data.draw(st.integers(0, len(indices)))
    cells = pa.DictionaryArray.from_arrays(
        pa.array(indices, pa.int32()), pa.array(dictionary, type_)
    )[before:]
    columns = Columns.of(pa.RecordBatch.from_arrays([cells], ["field"]))
    expected = numbered(columns.texts("field"), repeats=REPEATS)
    found = columns.numbered("field")
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found.distinct.equals(expected.distinct)
        assert found.codes.tolist() == expected.codes.tolist()
        assert pc.count_distinct(found.distinct, mode="all").as_py() == len(found.distinct)
