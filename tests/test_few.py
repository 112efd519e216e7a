"""A column of a few cells means what polars' series means, in every operation and in both encoders."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.batch import PLAIN, Batch, Output
from proxy.few import Few, both, either, filtered, one_of
from proxy.formats import FORMATS
from proxy.formats.json_lexis import JSON_LEXIS
from proxy.report import Dialect, FormatName
from proxy.values import Type
from tests.harness.streams import joined

TEXTS = (
    st.none()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(
        [
            "",
            '"',
            ",",
            ";",
            " a ",
            "\n",
            "\r",
            "a\r\nb",
            '""',
            "0",
            "-1.50",
            "1e3",
            "true",
            "é",
            "\t",
            "#x",
            "\x00",
        ]
    )
)
TOKENS = st.none() | st.sampled_from(
    ['""', '"a"', '"\\u00e9\\n"', "1.10", "-0", "1E400", "true", "false", '"\\""', '"é"', '"null"']
)


@given(st.lists(st.tuples(TEXTS, TEXTS, st.booleans(), st.booleans()), max_size=70))
def test_every_operation_is_that_of_a_series(rows):
    a, b, p, q = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])

    def text(items):
        return Few(items), pl.Series(items, dtype=pl.String)

    def truth(items):
        return Few(items), pl.Series(items, dtype=pl.Boolean)

    for few, series in (
        *((filtered(x, m), filtered(y, n)) for (x, y), (m, n) in [(text(a), truth(p))]),
        (
            either(Few(a), Few(p), Few(b)),
            either(text(a)[1], truth(p)[1], text(b)[1]),
        ),
        (one_of(Few(p), Few(q)), one_of(truth(p)[1], truth(q)[1])),
        (both(Few(p), Few(q)), both(truth(p)[1], truth(q)[1])),
        (~Few(p), ~truth(p)[1]),
        (Few(a).is_not_null(), text(a)[1].is_not_null()),
    ):
        assert few.to_list() == series.to_list()
    assert Few(p).sum() == truth(p)[1].sum()
    assert Few(p).all() == truth(p)[1].all()
    unknown = [item if known else None for item, known in zip(p, q, strict=True)]
    for value in (True, False):
        assert (
            Few(unknown).fill_null(value=value).to_list()
            == truth(unknown)[1].fill_null(value=value).to_list()
        )


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=64))
def test_csv_is_written_alike(delimiter, rows):
    """How many records a block has (hidden ones too) may not show in how cells are quoted."""
    few, many = written(FormatName.CSV, PLAIN, rows, delimiter)
    assert few == many


@given(rows=st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=64))
def test_json_is_written_alike(rows):
    few, many = written(FormatName.JSON, JSON_LEXIS, rows, ",")
    assert few == many


@given(
    rows=st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=64), type_=st.sampled_from(Type)
)
def test_a_lexis_reads_and_writes_alike(rows, type_):
    tokens = [token for token, _ in rows] * (1 + 64 // len(rows))  # both of the series' own roads
    for items in (tokens[: len(rows)], tokens):
        few = JSON_LEXIS.read(Few(items), type_).to_list()
        assert few == JSON_LEXIS.read(pl.Series(items, dtype=pl.String), type_).to_list()
        again = JSON_LEXIS.write(Few(few), type_).to_list()
        assert again == JSON_LEXIS.write(pl.Series(few, dtype=pl.String), type_).to_list()


def written(format_, lexis, rows, delimiter):
    """One document of a few cells, and the same of series, as the second batch of a long one."""
    types = {"a": Type.TEXT, "b": Type.TEXT, "absent": Type.TEXT}
    documents = []
    for few in (True, False):
        columns = {
            name: Few([row[i] for row in rows])
            if few
            else pl.Series([row[i] for row in rows], dtype=pl.String)
            for i, name in enumerate(("a", "b"))
        }
        batch = Batch(columns, height=len(rows), lexis=lexis, types=types, few=few)
        dialect = Dialect(format=format_, delimiter=delimiter)
        columns = [Output(name, type_) for name, type_ in types.items()]
        encoder = FORMATS[format_].encoder(columns, dialect)
        documents.append(joined(encoder, batch) + joined(encoder, batch) + encoder.finish())
    return documents
