"""What was stored is what is given: type by type, value by value, from and to every format."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given as by
from hypothesis import settings
from hypothesis import strategies as st

from proxy.batch import Output
from proxy.errors import SourceRefused
from proxy.formats.arrow_anew import anew
from proxy.formats.arrow_text import texts_of
from proxy.formats.arrow_values import values_of
from proxy.report import FormatName
from proxy.values import Type, scalar
from tests.formats.typed import (
    CASES,
    TYPED,
    columns,
    document,
    given,
    hiding,
    outputs,
    parquet,
    stream,
    table_of,
)

ARROW, PARQUET, CSV, JSON = FormatName.ARROW, FormatName.PARQUET, FormatName.CSV, FormatName.JSON


def same(found, wanted) -> bool:
    """Whether two columns have equal values of equal types; NaN is NaN, and zeros have signs."""
    if found.type != wanted.type:
        return False
    return anew(combined(found)).buffers() == anew(combined(wanted)).buffers() or (
        pa.types.is_floating(wanted.type)
        and list(map(repr, found.to_pylist())) == list(map(repr, wanted.to_pylist()))
    )


def combined(cells):
    if isinstance(cells, pa.ChunkedArray):
        return pa.concat_arrays(cells.chunks) if cells.num_chunks else pa.array([], cells.type)
    return cells


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=6)
@by(data=st.data())
def test_the_text_of_a_value_reads_as_the_same_value_again(name, data):
    """Exact in both directions, with what null bitmaps and slices hide."""
    cells = data.draw(columns(name))
    declared, _, type_ = CASES[name]
    texts = texts_of(cells)
    assert texts.type == pa.large_string() and texts.null_count == cells.null_count
    assert same(values_of(texts, type_, declared), cells)
    for text, value in zip(texts.to_pylist(), cells.cast(type_).to_pylist(), strict=True):
        if name in ("int64", "uint64", "bool", "date32", "string"):
            assert value == (None if text is None else scalar(text, declared))
        if isinstance(value, Decimal):
            assert text == f"{value:f}"
        if name == "float64" and value is not None:
            assert repr(float(text)) == repr(value)


@settings(max_examples=30)
@by(data=st.data(), stored=st.sampled_from(TYPED), as_=st.sampled_from(TYPED))
def test_untouched_columns_are_the_sources_type_by_type(data, stored, as_):
    names = data.draw(st.lists(st.sampled_from(sorted(CASES)), min_size=1, max_size=5, unique=True))
    height = data.draw(st.integers(0, 6))
    whole = {name: data.draw(columns(name, most=6)) for name in names}
    height = min(map(len, whole.values()))
    table = pa.table({name: cells.slice(0, height) for name, cells in whole.items()})
    types = {name: CASES[name][0] for name in names}
    body = given(stored, [document(stored, table)], types, as_, outputs(types))
    found = table_of(as_, body)
    assert found.column_names == names
    if PARQUET in (stored, as_):  # which has one kind of dates, and no seconds
        table = table_of(PARQUET, parquet(table))
    for name in names:
        assert same(found[name], table[name]), name


@pytest.mark.parametrize("as_", TYPED)
@pytest.mark.parametrize("name", CASES)
def test_an_answer_without_rows_has_the_schema_of_one_with_rows(name, as_):
    """PROMISE 1, schema: no row has a part in a column's type, whatever its form."""
    declared, _, type_ = CASES[name]
    for as_stored in (True, False):
        schemas = []
        for cells in ([], [None]):
            table = pa.table({"a": pa.array(cells, type_)})
            body = given(
                ARROW,
                [stream(table)],
                {"a": declared},
                as_,
                outputs({"a": declared}, as_stored=as_stored),
            )
            schemas.append(table_of(as_, body).schema)
        assert schemas[0].equals(schemas[1], check_metadata=True)
        assert schemas[0].field("a").nullable and not schemas[0].metadata


COLUMNS = {
    "text": (Type.TEXT, st.text("aé,\"\n '", max_size=5), pa.string()),
    "integer": (Type.INTEGER, st.integers(-(2**63), 2**63 - 1).map(str), pa.int64()),
    "decimal": (
        Type.DECIMAL,
        st.builds(lambda n, s: f"{Decimal(n).scaleb(-s):f}", st.integers(-(10**20), 10**20), st.integers(0, 9)),
        pa.decimal128(38, 9),
    ),
    "boolean": (Type.BOOLEAN, st.sampled_from(["true", "false"]), pa.bool_()),
    "date": (Type.DATE, st.dates().map(str), pa.date32()),
    "datetime": (
        Type.DATETIME,
        st.datetimes().map(lambda t: t.isoformat() + "Z"),
        pa.timestamp("us", "UTC"),
    ),
}  # fmt: skip


@settings(max_examples=30)
@by(data=st.data(), stored=st.sampled_from([CSV, JSON]), as_=st.sampled_from(TYPED))
def test_csv_and_json_become_typed_exactly_and_back(data, stored, as_):
    """From a store of texts, values are exact; given as CSV again they are the same values."""
    rows = data.draw(
        st.lists(
            st.tuples(*(st.one_of(st.none(), values) for _, values, _ in COLUMNS.values())).map(
                lambda cells: dict(zip(COLUMNS, cells, strict=True))
            ),
            max_size=8,
        )
    )
    rows *= data.draw(st.sampled_from([1, 12]))  # few, or columns
    types = {name: each[0] for name, each in COLUMNS.items()}
    body = given(stored, [written(rows, stored)], types, as_, outputs(types, as_stored=False))
    found = table_of(as_, body)
    assert found.schema.types == [each[2] for each in COLUMNS.values()]
    for name, (type_, *_) in COLUMNS.items():
        read = [None if row[name] is None else scalar(row[name], type_) for row in rows]
        if name == "datetime":
            assert found[name].to_pylist() == read
        else:
            assert found[name].to_pylist() == [
                Decimal(row[name]) if name == "decimal" and row[name] else value
                for row, value in zip(rows, read, strict=True)
            ]
    back = given(as_, [body], types, CSV, outputs(types))
    for row, again in zip(
        rows, csv.DictReader(io.StringIO(back.decode(), newline="")), strict=True
    ):
        for name, (type_, *_) in COLUMNS.items():
            if row[name]:
                assert scalar(again[name], type_) == scalar(row[name], type_)


def written(rows, format_) -> bytes:
    if format_ is JSON:
        bare = ("integer", "decimal", "boolean")
        return (
            "["
            + ",".join(
                "{"
                + ",".join(
                    f'"{n}":{"null" if v is None else v if n in bare else json.dumps(v)}'
                    for n, v in row.items()
                )
                + "}"
                for row in rows
            )
            + "]"
        ).encode()

    def cell(value):
        return "" if value is None else '"' + value.replace('"', '""') + '"'

    lines = [",".join(COLUMNS), *(",".join(map(cell, row.values())) for row in rows)]
    return "".join(f"{line}\n" for line in lines).encode()


FORMS = [
    ("+5", Type.INTEGER, pa.int64(), 5),
    ("007", Type.INTEGER, pa.int64(), 7),
    ("-0", Type.INTEGER, pa.uint8(), 0),
    ("1e5", Type.DECIMAL, pa.decimal128(38, 9), Decimal(100_000)),
    ("+1.5", Type.DECIMAL, pa.decimal128(38, 1), Decimal("1.5")),
    ("1.10000000000000", Type.DECIMAL, pa.decimal128(38, 2), Decimal("1.10")),
    ("2026-03-01 10:00", Type.DATETIME, pa.timestamp("s"), "2026-03-01 10:00:00"),
    ("2026-03-01T10:00:00+02:30", Type.DATETIME, pa.timestamp("us"), "2026-03-01 07:30:00"),
    ("2026-03-01T10:00:00.5Z", Type.DATETIME, pa.timestamp("ms"), "2026-03-01 10:00:00.500"),
]
NO_FORMS = [
    ("0x1F", Type.INTEGER, pa.int64()), (" 5", Type.INTEGER, pa.int64()), ("1.0", Type.INTEGER, pa.int64()),
    ("", Type.INTEGER, pa.int64()), ("9" * 19, Type.INTEGER, pa.int64()), ("256", Type.INTEGER, pa.uint8()),
    ("-1", Type.INTEGER, pa.uint8()), ("nan", Type.DECIMAL, pa.decimal128(38, 9)),
    ("0.0000000001", Type.DECIMAL, pa.decimal128(38, 9)), ("1e30", Type.DECIMAL, pa.decimal128(38, 9)),
    ("1.0", Type.INTEGER, pa.decimal128(38, 0)), ("TRUE", Type.BOOLEAN, pa.bool_()), ("1", Type.BOOLEAN, pa.bool_()),
    ("2026-02-30", Type.DATE, pa.date32()), ("0000-01-01", Type.DATE, pa.date32()),
    ("2026-03-01T24:00:00", Type.DATETIME, pa.timestamp("us")), ("2026-03-01T10:00:60", Type.DATETIME, pa.timestamp("us")),
    ("2026-03-01T10:00:00ZZ", Type.DATETIME, pa.timestamp("us")), ("2026-03-01T10:00:00.5Z", Type.DATETIME, pa.timestamp("s")),
    ("1e999", Type.DECIMAL, pa.float64()), ("infinity", Type.DECIMAL, pa.float64()), (".5", Type.DECIMAL, pa.float64()),
]  # fmt: skip


@pytest.mark.parametrize(("text", "declared", "type_", "value"), FORMS)
def test_whatever_the_grammar_takes_is_read_exactly(text, declared, type_, value):
    """Other spellings than Arrow's own are values too, beside plain ones and nulls."""
    found = values_of(pa.array([text, None, text], pa.large_string()), type_, declared)
    wanted = pa.scalar(value).cast(type_) if isinstance(value, str) else pa.scalar(value, type_)
    assert found.type == type_ and found.to_pylist() == [wanted.as_py(), None, wanted.as_py()]


@pytest.mark.parametrize(("text", "declared", "type_"), NO_FORMS)
def test_what_is_no_value_or_does_not_fit_is_refused_with_nothing_of_it(text, declared, type_):
    """A cell that is given and cannot stand in its column refuses the answer; a null does not."""
    with pytest.raises(SourceRefused) as failure:
        values_of(pa.array([None, text], pa.large_string()), type_, declared)
    assert failure.value.cause == "value-not-of-type" and failure.value.__context__ is None
    assert values_of(pa.array([None], pa.large_string()), type_, declared).to_pylist() == [None]


LONG = [
    ("9" * 37, Type.DECIMAL, pa.decimal128(38, 0), "+5"), ("0." + "1" * 38, Type.DECIMAL, pa.decimal128(38, 38), "1e-2"),
    ("0" * 40 + "1", Type.INTEGER, pa.int64(), "+5"), ("1e300", Type.DECIMAL, pa.float64(), "+5"),
    ("2026-03-01T10:00:00.000000001Z", Type.DATETIME, pa.timestamp("ns"), "2026-03-01 10:00"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "declared", "type_", "odd"), LONG)
def test_a_cell_is_read_as_if_it_were_alone(text, declared, type_, odd):
    """What stands beside a cell has no part in whether it is a value, nor in which."""
    alone = [
        values_of(pa.array([each], pa.large_string()), type_, declared) for each in (text, odd)
    ]
    together = values_of(pa.array([text, odd], pa.large_string()), type_, declared)
    assert together.equals(pa.concat_arrays(alone))


@pytest.mark.parametrize("as_", TYPED)
@pytest.mark.parametrize("stored", [CSV, JSON])
def test_only_cells_that_are_given_refuse_an_answer(stored, as_):
    """A row that is dropped may hold anything."""
    documents = {
        CSV: b"keep,n\nyes,1\nno,zero\n" + b"yes,2\n" * 70,
        JSON: b'[{"keep":"yes","n":1},{"keep":"no","n":"one"}'
        + b',{"keep":"yes","n":2}' * 70
        + b"]",
    }
    types = {"keep": Type.TEXT, "n": Type.INTEGER}

    def kept(batch):
        found = batch.values("keep")
        return (
            found == "yes"
            if isinstance(found, pl.Series)
            else type(found)([x == "yes" for x in found])
        )

    body = given(stored, [documents[stored]], types, as_, outputs(types), keep=kept)
    assert table_of(as_, body)["n"].to_pylist() == [1] + [2] * 70
    with pytest.raises(SourceRefused) as failure:
        given(stored, [documents[stored]], types, as_, outputs(types))
    assert failure.value.cause == "value-not-of-type"


@pytest.mark.parametrize("as_", TYPED)
@by(
    scale=st.one_of(st.none(), st.integers(0, 18)),
    places=st.integers(0, 18),
    stored=st.one_of(st.none(), st.integers(0, 12)),
)
def test_a_decimals_scale_is_that_of_the_catalogue_or_of_the_store(as_, scale, places, stored):
    """… and as large as a form needs; without either it is nine."""
    output = Output("a", Type.DECIMAL, False, scale, places)
    table = pa.table(
        {"a": pa.array([None], pa.decimal128(20, stored) if stored is not None else pa.string())}
    )
    body = given(ARROW, [stream(table)], {"a": Type.DECIMAL}, as_, [output])
    declared = scale if scale is not None else stored if stored is not None else 9
    assert table_of(as_, body).schema.types == [pa.decimal128(38, max(declared, places))]


def test_strings_in_other_layouts_are_given_in_the_plain_one():
    """Dictionaries and views are decoded; of a dictionary, nothing is left that no row uses."""
    names = pa.array(["x" * 40, None, "b", "x" * 40])
    table = pa.table({"a": names.dictionary_encode(), "b": names.cast(pa.string_view())})
    types = {"a": Type.TEXT, "b": Type.TEXT}
    for stored in TYPED:
        found = table_of(
            ARROW, given(stored, [document(stored, table)], types, ARROW, outputs(types))
        )
        assert found.schema.types == [pa.string(), pa.large_string()]
        assert found["a"].to_pylist() == found["b"].to_pylist() == names.to_pylist()


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=6)
@by(data=st.data())
def test_a_column_made_anew_is_a_function_of_its_values(name, data):
    """PROMISE 1: equal values, equal buffers to the byte, whatever lay under, before and behind them."""
    cells = data.draw(columns(name))
    again = (
        pa.array(cells.to_pylist(), cells.type) if "nano" not in name else pa.concat_arrays([cells])
    )
    first, second = anew(cells), anew(hiding(again))
    assert first.equals(cells) or name.startswith("float")
    first.validate(full=True)
    assert [b and b.to_pybytes() for b in first.buffers()] == [
        b and b.to_pybytes() for b in second.buffers()
    ]


@pytest.mark.parametrize(
    ("type_", "bits"),
    [
        (
            pa.float64(),
            np.array([0xFFF8_0000_0000_0123, 0x7FF0_0000_0000_0001, 1 << 63], np.uint64),
        ),
        (pa.float32(), np.array([0xFFC0_0001, 0x7F80_0001, 1 << 31], np.uint32)),
        (pa.float16(), np.array([0xFE01, 0x7C01, 1 << 15], np.uint16)),
    ],
)
def test_a_number_has_the_bits_that_its_text_reads_as(type_, bits):
    """PROMISE 1: a NaN has one sign and no payload, whether its column went through its texts or not."""
    held = pa.Array.from_buffers(type_, len(bits), [None, pa.py_buffer(bits.tobytes())])
    read = values_of(texts_of(held), type_, Type.DECIMAL)
    assert anew(held).buffers()[1].to_pybytes() == read.buffers()[1].to_pybytes()


def test_parquet_keeps_an_answers_types_without_anything_of_the_sources_metadata():
    """F57: no key of pandas, no field's metadata, no statistics of the source."""
    field = pa.field(
        "a", pa.timestamp("s", "Europe/Berlin"), nullable=False, metadata={"k": "canary"}
    )
    schema = pa.schema([field], metadata={"pandas": "canary", "other": "canary"})
    table = pa.table({"a": pa.array([1, 2], field.type)}, schema=schema)
    for stored, as_ in ((PARQUET, PARQUET), (ARROW, ARROW), (PARQUET, ARROW), (ARROW, PARQUET)):
        source = parquet(table) if stored is PARQUET else stream(table)
        assert b"canary" in source
        body = given(stored, [source], {"a": Type.DATETIME}, as_, outputs({"a": Type.DATETIME}))
        found = table_of(as_, body)
        assert b"canary" not in body and found.schema.metadata is None
        assert (
            found.schema.field("a").metadata is None
            and found["a"].to_pylist() == table["a"].to_pylist()
        )
