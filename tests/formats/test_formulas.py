"""Formulas (THREATS F53): where they are neutralised, no cell begins like one; nothing else is touched."""

from __future__ import annotations

import csv
import io
import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.batch import PLAIN, Batch, Output
from proxy.few import Few
from proxy.formats import FORMATS
from proxy.formats.json_lexis import JSON_LEXIS
from proxy.report import Dialect, FormatName, Formulas
from proxy.texts import Coded, texts
from proxy.values import Type
from tests.formats.documents import batches, dialect, report
from tests.harness.streams import joined

NEUTRAL = Dialect(format=FormatName.CSV, formulas=Formulas.NEUTRALISE)
KEEP = Dialect(format=FormatName.CSV)
CELL = st.sampled_from(
    ["=1+1", "=cmd|' /C calc'!A0", "+5", "-5", "-5.10", "-1e5", "-.5", "+", "-", "@SUM(1)", "\tx", "\rx", "\n",
     '"=1', "'=1", " =1", "a=1", "1-1", "＝1", "＋1", "－1", "＠x", "￥", "ﬀ", "é", "", "0", "-5\n", "-5x", "\ufeff="]
) | st.text(st.sampled_from("=+-@\t\r\n\"',;0 1.e＝é"), max_size=4)  # fmt: skip
ROWS = st.lists(st.tuples(st.none() | CELL, st.none() | CELL), min_size=1, max_size=6)


def meant(cell: str | None, *, number: bool) -> str | None:
    """The rule, in one sentence of another language."""
    if cell is None or cell[:1] not in tuple("=+-@\t\r\n＝＋－＠"):
        return cell
    if number and re.fullmatch(r"[+-][0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", cell):
        return cell
    return "'" + cell


def written(rows, times: int, of: Dialect, kind: str) -> bytes:
    """The rows as an encoder of that dialect gives them, from a batch of a kind."""
    columns = [*zip(*rows, strict=True)]
    outputs = [Output("=t", Type.TEXT), Output("n", Type.DECIMAL)]
    encoder = FORMATS[FormatName.CSV].encoder(outputs, of)
    types = {"=t": Type.TEXT, "n": Type.DECIMAL}
    height = len(rows) * times
    if kind == "passing":
        source = FORMATS[FormatName.CSV].encoder(outputs, KEEP)
        plain = Batch(
            {name: Few(column * times) for name, column in zip(types, columns, strict=True)},
            height=height, lexis=PLAIN, types=types, few=True,
        )  # fmt: skip
        document = joined(source, plain)
        found = batches(dialect(FormatName.CSV), document, [*types])
        return b"".join([*(joined(encoder, batch) for batch in found), encoder.finish()])
    cells = {}
    for name, column in zip(types, columns, strict=True):
        series = pl.Series(column * times, dtype=pl.String)
        if kind == "json":
            series = JSON_LEXIS.write(series, Type.TEXT)
        if kind == "few":
            series = Few(column * times)
        if kind == "coded":
            numbered = texts(series).dictionary_encode()
            codes = numbered.indices.fill_null(len(numbered.dictionary)).to_numpy()
            distinct = pl.Series([*numbered.dictionary.to_pylist(), None], dtype=pl.String)
            series = Coded(texts(distinct), codes)
        cells[name] = series
    lexis = JSON_LEXIS if kind == "json" else PLAIN
    batch = Batch(cells, height=height, lexis=lexis, types=types, few=kind == "few")
    return joined(encoder, batch) + encoder.finish()


@pytest.mark.parametrize("kind", ["few", "columns", "coded", "json", "passing"])
@pytest.mark.parametrize("times", [1, 70])
@settings(max_examples=40)
@given(rows=ROWS)
def test_each_text_that_begins_like_a_formula_is_quoted_and_nothing_else_is_changed(
    kind, times, rows
):
    answer = written(rows, times, NEUTRAL, kind)
    expected = [(meant(t, number=False), meant(n, number=True)) for t, n in rows]
    assert answer == written(expected, times, KEEP, "few").replace(b"=t", b"'=t", 1)
    head, *read = csv.reader(io.StringIO(answer.decode(), newline=""))
    assert head == ["'=t", "n"]
    assert not any(t[:1] in tuple("=+-@\t\r\n") for t, _ in read if t)


def test_what_is_kept_is_kept_to_the_character():
    rows = [("=1+1", "-5"), ("@x", "=2")]
    assert written(rows, 1, KEEP, "few") == b"=t,n\n=1+1,-5\n@x,=2\n"
    assert report(KEEP, ["a"]).variants[0].stored.formulas is Formulas.KEEP
