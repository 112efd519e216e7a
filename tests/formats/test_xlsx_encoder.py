"""Workbooks that we give: what other people's readers find in them, exactly, and nothing else."""

from __future__ import annotations

import io
import re
import string
import warnings
import xml.etree.ElementTree as ET
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import openpyxl
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.batch import PLAIN, Batch, Output
from proxy.errors import SourceRefused
from proxy.few import Few
from proxy.formats import FORMATS, xlsx_encoder, xlsx_text
from proxy.formats.xlsx_text import Form
from proxy.report import FormatName
from proxy.texts import Coded
from proxy.values import Type, scalar
from tests.formats.documents import batches, dialect, run
from tests.formats.workbooks import SHEET, unzipped
from tests.harness.streams import joined

XLSX = dialect(FormatName.XLSX)
PARTS = [
    "[Content_Types].xml", "_rels/.rels", "xl/workbook.xml", "xl/_rels/workbook.xml.rels", "xl/styles.xml", SHEET,
]  # fmt: skip


def given_as(columns, batches, *, of=XLSX) -> bytes:
    stream = FORMATS[FormatName.XLSX].encoder(columns, of)
    return b"".join([*(joined(stream, batch) for batch in batches), stream.finish()])


def batch(columns, rows, *, few=False) -> Batch:
    series = {
        column.name: (Few if few else lambda cells: pl.Series(cells, dtype=pl.String))(
            [row[index] for row in rows]
        )
        for index, column in enumerate(columns)
    }
    types = {column.name: column.type for column in columns}
    return Batch(series, height=len(rows), lexis=PLAIN, types=types, few=few)


def one(texts, type_=Type.TEXT, *, scale=None, places=0) -> bytes:
    columns = [Output("a", type_, scale=scale, places=places)]
    return given_as(columns, [batch(columns, [[text] for text in texts])])


def opened(document: bytes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return openpyxl.load_workbook(io.BytesIO(document)).active


def values(document: bytes) -> list:
    return [row[0] for row in opened(document).iter_rows(min_row=2, values_only=True)]


NUMERIC = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"[-+]?[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?", fullmatch=True),
    st.sampled_from(["007", "-0", "1.50", ".5", "5.", "1e5", "0.30000000000000004", "9" * 15, "9" * 16, "1" + "0" * 20]),
)  # fmt: skip
MOMENTS = st.one_of(
    st.dates().map(str),
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.datetimes().map(lambda at: at.replace(microsecond=0).isoformat(" ")),
    st.from_regex(
        r"(1899|1900|2024)-[0-2][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-6][0-9](:[0-6][0-9])?(\.[0-9]{1,4})?(Z|[-+]0[0-9]:30)?)?",
        fullmatch=True,
    ),
    st.sampled_from(["1900-02-28", "1900-03-01", "1900-02-28T23:59:59Z", "1900-03-01T00:00:00Z", "2024-1-5", "9999-12-31"]),
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=12),
    st.text(st.sampled_from("_x0041A<>&'\" \r\n\t\x00\x1f\ufffe=+-@"), max_size=14),
)
_LEFT = {0xFFFE: "_xFFFE_", 0xFFFF: "_xFFFF_"}
CELLS = st.one_of(NUMERIC, MOMENTS, TEXTS, st.sampled_from(["true", "false", "True", "", None]))


@settings(max_examples=80)
@given(
    st.sampled_from(Type), st.lists(CELLS, min_size=1, max_size=30), st.none() | st.integers(0, 6)
)
def test_few_cells_many_cells_and_distinct_cells_are_written_alike(type_, cells, scale):
    """Cell by cell, column by column and value by value."""
    column = [Output("a", type_, scale=scale)]
    rows = [[cell] for cell in cells]
    few = given_as(column, [batch(column, rows, few=True)])
    many = batch(column, rows)
    assert few == given_as(column, [many])
    distinct = [*sorted({c for c in cells if c is not None}), None]
    codes = pl.Series([distinct.index(c) for c in cells]).to_numpy()
    coded = Batch(
        {"a": Coded(pl.Series(distinct, dtype=pl.String).to_arrow().cast("large_string"), codes)},
        height=len(cells), lexis=PLAIN, types={"a": type_},
    )  # fmt: skip
    assert few == given_as(column, [coded])
    form = xlsx_encoder.XlsxEncoder(column, XLSX)._forms[0]
    assert form.column(pl.Series(cells, dtype=pl.String)).to_pylist() == [*map(form.cell, cells)]


@settings(max_examples=50)
@given(st.sampled_from(Type), st.lists(CELLS, min_size=1, max_size=12))
def test_what_is_written_is_read_with_the_same_values(type_, cells):
    """By our own decoder: a text to the character, any other value exactly.

    But for two characters that are none (U+FFFE, U+FFFF): the reader leaves them escaped.
    """
    found = [row[0] for row in run(XLSX, [one([*cells, "end"], type_)], ["a"])][:-1]
    for cell, back in zip(cells, found, strict=True):
        value = None if cell is None else scalar(cell, type_)
        if value is None or type_ is Type.TEXT:
            assert (back or "") == (cell or "").translate(_LEFT)
        else:
            assert back is not None and scalar(back, type_) == value, (cell, back)


@settings(max_examples=60)
@given(st.lists(NUMERIC, min_size=1, max_size=12), st.sampled_from([Type.DECIMAL, Type.INTEGER]))
def test_a_number_is_the_same_number_to_openpyxl_or_the_same_text(texts, type_):
    """No digit is lost or made up, and whole numbers of more than 15 digits are texts."""
    for text, value in zip(texts, values(one(texts, type_)), strict=True):
        if isinstance(value, str):
            assert value == text
        else:
            assert Decimal(repr(value)) == Decimal(text)
            assert value % 1 or len(str(int(value)).strip("-0")) <= 15


@pytest.mark.parametrize(
    ("text", "type_", "value", "shown"),
    [
        ("12", Type.INTEGER, 12, "General"),
        ("1.5", Type.DECIMAL, 1.5, "0.00"),
        ("-150", Type.DECIMAL, -150, "0.00"),
        ("1.125", Type.DECIMAL, 1.125, "General"),
        ("1e2", Type.DECIMAL, 100.0, "General"),
        ("123456789012345", Type.INTEGER, 123456789012345, "General"),
        ("1234567890123456", Type.INTEGER, "1234567890123456", "General"),
        ("12345678901234.56", Type.DECIMAL, 12345678901234.56, "0.00"),
        ("0.1234567890123456789", Type.DECIMAL, "0.1234567890123456789", "General"),
        ("007", Type.INTEGER, "007", "General"),
        ("+7", Type.INTEGER, "+7", "General"),
        ("7.0", Type.INTEGER, "7.0", "General"),
        ("n/a", Type.DECIMAL, "n/a", "General"),
        ("12", Type.TEXT, "12", "General"),
        ("true", Type.BOOLEAN, True, "General"),
        ("TRUE", Type.BOOLEAN, "TRUE", "General"),
        ("2024-02-29", Type.DATE, datetime.fromisoformat("2024-02-29"), r"yyyy\-mm\-dd"),
        ("2023-02-29", Type.DATE, "2023-02-29", "General"),
        ("1900-02-28", Type.DATE, "1900-02-28", "General"),
        ("2024-02-29T23:30:00-01:00", Type.DATETIME, datetime.fromisoformat("2024-03-01T00:30"), r"yyyy\-mm\-dd\ hh:mm:ss"),
        ("2024-02-29 10:00", Type.DATETIME, datetime.fromisoformat("2024-02-29T10:00"), r"yyyy\-mm\-dd\ hh:mm:ss"),
        ("2024-02-29T10:00:00.125Z", Type.DATETIME, datetime.fromisoformat("2024-02-29T10:00:00.125"), r"yyyy\-mm\-dd\ hh:mm:ss.000"),
        ("2024-02-29T10:00:00.000001Z", Type.DATETIME, "2024-02-29T10:00:00.000001Z", "General"),
        ("=1+1", Type.TEXT, "=1+1", "General"),
        ("=1+1", Type.DECIMAL, "=1+1", "General"),
    ],
)  # fmt: skip
def test_a_cell_is_of_the_kind_that_its_type_and_its_text_make_it(text, type_, value, shown):
    made = one([text], type_, scale=2 if type_ is Type.DECIMAL else None)
    cell = opened(made)["A2"]
    assert cell.value == value and type(cell.value) is type(value)
    assert cell.number_format == shown
    assert b"<f" not in unzipped(made)[SHEET]


def test_a_form_that_adds_digits_shows_them():
    assert opened(one(["1.125"], Type.DECIMAL, scale=2, places=3))["A2"].number_format == "0.000"
    assert opened(one(["7"], Type.DECIMAL, scale=0))["A2"].number_format == "0"


def test_a_text_is_as_long_as_a_cell_may_be_or_refused_and_never_cut():
    longest = "x" * 32_767
    assert values(one([longest])) == [longest]
    wide = "\N{MATHEMATICAL BOLD CAPITAL A}" * 16_383 + "x"
    assert values(one([wide])) == [wide]
    for text in (longest + "x", wide + "x"):
        for type_ in Type:
            with pytest.raises(SourceRefused) as refusal:
                one([text], type_)
            assert refusal.value.cause == "cell-too-long"


def test_more_rows_columns_or_bytes_than_a_sheet_has_are_refused(monkeypatch):
    monkeypatch.setattr(xlsx_encoder, "MOST_ROWS", 11)
    assert len(values(one(["x"] * 10))) == 10
    columns = [Output(f"c{n}", Type.TEXT) for n in range(16_385)]
    for work, cause in (
        (lambda: one(["x"] * 11), "too-many-rows"),
        (lambda: given_as(columns, []), "too-many-columns"),
    ):
        with pytest.raises(SourceRefused) as refusal:
            work()
        assert refusal.value.cause == cause
    monkeypatch.setattr(xlsx_encoder, "MOST_BYTES", 1_000)
    with pytest.raises(SourceRefused) as refusal:
        one(["x" * 990])
    assert refusal.value.cause == "sheet-too-large"


COLUMNS = [Output("id", Type.TEXT), Output("n", Type.INTEGER), Output("at", Type.DATETIME)]


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 9_000), max_size=8))
def test_the_bytes_are_a_function_of_the_rows_however_they_come(seed, cuts):
    """PROMISE 1, framing: batches of any height, few or many, and empty ones, make the same package."""
    import random

    chance = random.Random(seed)
    rows = [
        (f"{chance.random()}", str(n), f"20{n % 90 + 10}-01-01T00:00:{n % 60:02d}Z")
        for n in range(9_000)
    ]
    whole = given_as(COLUMNS, [batch(COLUMNS, rows)])
    places = sorted({0, len(rows), *cuts})
    parts = [rows[a:b] for a, b in pairwise(places)]
    again = given_as(
        COLUMNS, [batch(COLUMNS, part, few=len(part) <= 64) for part in [[], *parts, []]]
    )
    assert again == whole
    assert len(unzipped(whole)[SHEET]) > 1 << 19


@pytest.mark.parametrize("rows", [[], [("a", "1", "2024-01-01T00:00:00Z")]])
def test_a_package_has_the_parts_that_it_must_have_and_no_time_or_name(rows):
    made = given_as(COLUMNS, [batch(COLUMNS, rows)])
    with zipfile.ZipFile(io.BytesIO(made)) as package:
        assert package.namelist() == PARTS
        assert {each.date_time for each in package.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert not any(each.extra or each.comment for each in package.infolist())
    for part in unzipped(made).values():
        ET.fromstring(part)
    sheet = opened(made)
    assert sheet.title == "report" and sheet.freeze_panes == "A2" and sheet["A1"].font.b
    assert [cell.value for cell in sheet[1]] == ["id", "n", "at"]
    named = given_as(COLUMNS, [], of=dialect(FormatName.XLSX, sheet='R&D <"1">'))
    assert opened(named).title == 'R&D <"1">'


def test_a_package_comes_piece_by_piece():
    """What is complete is given before the end, and what is held does not grow."""
    stream = FORMATS[FormatName.XLSX].encoder(COLUMNS, XLSX)
    given_out = []
    for n in range(30):
        rows = [(f"{n}-{m}", f"{m}", None) for m in range(3_000)]
        given_out.append(len(joined(stream, batch(COLUMNS, rows))))
        assert len(stream._pending) < xlsx_encoder._SLICE
    assert sum(1 for size in given_out if size) > 10


def test_pandas_and_polars_find_the_values_that_were_given():
    """By openpyxl, by calamine, and by polars; they know numbers, days and moments for what they are."""
    columns = [
        Output("text", Type.TEXT), Output("int", Type.INTEGER), Output("dec", Type.DECIMAL, scale=2),
        Output("day", Type.DATE), Output("at", Type.DATETIME), Output("yes", Type.BOOLEAN), Output("none", Type.TEXT),
    ]  # fmt: skip
    rows = [
        (f" é{n}\n", f"{n}", f"{n}.25", f"2024-01-{n % 28 + 1:02d}", f"2024-01-01T00:00:{n % 60:02d}Z",
         "true" if n % 2 else "false", None)
        for n in range(200)
    ]  # fmt: skip
    made = given_as(columns, [batch(columns, rows)])
    for engine in ("openpyxl", "calamine"):
        frame = pd.read_excel(io.BytesIO(made), engine=engine)
        assert frame["int"].tolist() == list(range(200)) and frame["int"].dtype == "int64"
        assert frame["dec"].tolist() == [n + 0.25 for n in range(200)]
        assert frame["yes"].tolist() == [bool(n % 2) for n in range(200)]
        assert frame["text"].tolist() == [row[0] for row in rows]
        assert [f"{day:%Y-%m-%d}" for day in frame["day"]] == [row[3] for row in rows]
        assert [f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in frame["at"]] == [row[4] for row in rows]
        assert frame["none"].isna().all()
    table = pl.read_excel(io.BytesIO(made), engine="openpyxl")
    assert table["int"].to_list() == list(range(200))
    assert [f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in table["at"]] == [row[4] for row in rows]


@settings(max_examples=100)
@given(TEXTS)
def test_a_text_is_written_so_that_excel_reads_the_same_characters(text):
    """Part 1, §22.9.2.19, read back by the letter; and XML readers see nothing but a text."""
    (cell,) = ET.fromstring(f"<row><c{Form(Type.TEXT).cell(text)}</row>")
    assert cell.attrib == {"t": "inlineStr"}
    (found,) = cell.iter("t")
    back = re.sub("_x([0-9A-Fa-f]{4})_", lambda m: chr(int(m[1], 16)), found.text or "")
    assert back == text
    assert bool(found.attrib) == (text[:1].isspace() or text[-1:].isspace())


def test_the_first_day_is_where_programs_begin_to_agree():
    assert Form(Type.DATE).cell("1900-03-01") == f' s="{xlsx_text.DATE}"><v>61</v></c>'
    moment = datetime(2024, 1, 1, 12, tzinfo=UTC).isoformat()
    assert Form(Type.DATETIME).cell(moment) == f' s="{xlsx_text.SECONDS}"><v>45292.5</v></c>'


@pytest.mark.parametrize("times", [1, 200])
def test_a_json_value_of_another_kind_than_its_field_s_arrives(times):
    """A number under a text, a text under an integer: given in clear it is given, as in every format."""
    records = b'{"a":12},{"a":true},{"a":"x\\"y"},{"a":null},{"a":{"b":1}},' * times
    types = {
        Type.TEXT: ["12", "true", 'x"y', None, None],
        Type.INTEGER: [12, "true", 'x"y', None, None],
    }
    for type_, expected in types.items():
        source = batches(dialect(FormatName.JSON), b"[" + records[:-1] + b"]", ["a"])
        assert values(given_as([Output("a", type_)], source)) == expected * times


def test_each_cell_says_where_it_is():
    """Readers that do not count for themselves find it, in rows from many batches, beyond the 26th column."""
    names = [f"c{number}" for number in range(30)]
    columns = [Output(name, Type.TEXT) for name in names]
    encoder = FORMATS[FormatName.XLSX].encoder(columns, dialect(FormatName.XLSX))
    out = b""
    for height in (1, 200, 3):
        cells = {name: pl.Series([f"{name}!"] * height) for name in names}
        if height < 5:
            cells = {name: Few(column.to_list()) for name, column in cells.items()}
        batch = Batch(
            cells, height=height, lexis=PLAIN, types=dict.fromkeys(names, Type.TEXT), few=height < 5
        )
        out += joined(encoder, batch)
    out += encoder.finish()
    sheet = zipfile.ZipFile(io.BytesIO(out)).read("xl/worksheets/sheet1.xml").decode()
    rows = re.findall(r'<row r="(\d+)">(.*?)</row>', sheet)
    assert [int(number) for number, _ in rows] == list(range(1, 206))
    for number, row in rows:
        places = re.findall(r'<c r="([A-Z]+)(\d+)"', row)
        assert {each for _, each in places} == {number}
        assert [letters for letters, _ in places] == [
            *string.ascii_uppercase,
            "AA",
            "AB",
            "AC",
            "AD",
        ]
