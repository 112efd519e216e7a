"""Workbooks that stores send: values alone, whatever else they hold, and nothing that is not declared."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from decimal import Decimal

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import SourceRefused
from proxy.formats import Limits
from proxy.report import FormatName
from proxy.values import Type
from tests.formats import workbooks
from tests.formats.documents import (
    CUTS,
    bytewise,
    cut,
    decoder,
    dialect,
    outcome,
    rows,
    run,
)
from tests.formats.workbooks import by_hand, cells, plain, repacked, rich, saved, shared, strict
from tests.harness.streams import ended, feed

XLSX = dialect(FormatName.XLSX)
HEADER = ["a", "b", "c"]
VALUES = [
    ["x", 1, True],
    [None, 2.5, dt.date(2024, 2, 29)],
    ["=1", -3, dt.datetime.fromisoformat("2024-02-29T10:20:30")],
]
READ = [
    ("x", "1", "true"),
    (None, "2.5", "2024-02-29"),
    ("=1", "-3", "2024-02-29T10:20:30"),
]


def document(**more) -> bytes:
    book = openpyxl.load_workbook(io.BytesIO(plain([HEADER, *VALUES], **more)))
    book["Data"]["A4"].value, book["Data"]["A4"].data_type = "=1", "s"
    return saved(book)


def read(made: bytes, type_: Type = Type.TEXT):
    """The first column's cells."""
    from tests.formats.documents import report

    stream = decoder(XLSX, ["a"])
    stream._types = report(XLSX, ["a"], type_).types
    feed(stream, made)
    return [row[0] for row in rows(ended(stream), ["a"])]


@given(CUTS)
@settings(max_examples=15)
def test_a_workbook_is_the_same_however_it_comes_in_pieces(places):
    made = document()
    assert run(XLSX, cut(made, places), HEADER) == READ


def test_a_workbook_is_the_same_byte_by_byte_and_the_fields_are_those_asked_for():
    assert run(XLSX, bytewise(document()), HEADER, reads=["c"]) == [row[2:] for row in READ]


def test_a_workbook_that_ends_too_early_or_goes_on_too_long_is_refused():
    """Truncated at every offset, and with junk at its end."""
    made = document()
    for end in [*range(0, len(made), 97), *range(len(made) - 30, len(made))]:
        assert outcome(XLSX, [made[:end]], HEADER) == "package-malformed", end
    assert outcome(XLSX, [made + b"junk"], HEADER) == "package-malformed"
    assert outcome(XLSX, [b"junk" + made], HEADER) == "package-malformed"
    assert outcome(XLSX, [made + made[made.rindex(b"PK\5\6") :]], HEADER) == "package-malformed"


NUMBERS = st.one_of(
    st.integers(-(10**15), 10**15), st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
@settings(max_examples=25)
def test_a_number_is_read_as_the_shortest_digits_that_mean_it(numbers):
    """Whole ones have no point, whatever else is in the column."""
    found = read(cells(*(f"<c><v>{number!r}</v></c>" for number in numbers)))
    for number, text in zip(numbers, found, strict=True):
        assert Decimal(text) == Decimal(repr(float(number)))
        if abs(number) < 10**36 and float(number).is_integer():
            assert text.lstrip("-").isdigit()


@pytest.mark.parametrize(
    ("cell", "type_", "text"),
    [
        ('<c t="e"><v>#N/A</v></c>', Type.DECIMAL, "#N/A"),
        ('<c r="A2" t="e"><f>1/0</f><v>#DIV/0!</v></c>', Type.DECIMAL, "#DIV/0!"),
        ("<c s='0' t = 'e' ><v>#NEW!</v></c>", Type.TEXT, "#NEW!"),
        ("<c><f>1+1</f><v>2</v></c>", Type.INTEGER, "2"),
        ("<c><f>1+1</f></c>", Type.INTEGER, None),
        ('<c t="str"><f>"a"&amp;"b"</f><v>a&amp;b</v></c>', Type.TEXT, "a&b"),
        ('<c t="b"><v>0</v></c>', Type.BOOLEAN, "false"),
        ('<c t="d"><v>2024-01-05</v></c>', Type.DATE, "2024-01-05"),
        ('<c s="1"><v>45000</v></c>', Type.DATE, "2023-03-15"),
        ('<c s="2"><v>45000</v></c>', Type.DATE, "2023-03-15"),
        ('<c s="1"><v>45000</v></c>', Type.DATETIME, "2023-03-15T00:00:00Z"),
        ('<c s="2"><v>45000.5</v></c>', Type.DATETIME, "2023-03-15T12:00:00Z"),
        ('<c s="2"><v>45000.5</v></c>', Type.TEXT, "2023-03-15T12:00:00"),
        ('<c s="2"><v>45000.000001446759</v></c>', Type.TEXT, "2023-03-15T00:00:00.125"),
        ('<c s="1"><v>0.5</v></c>', Type.TEXT, "12:00:00"),
        ('<c s="3"><v>1.5</v></c>', Type.TEXT, "36:00:00"),
        ("<c><v>1E+21</v></c>", Type.INTEGER, "1000000000000000000000"),
        ("<c><v>-0</v></c>", Type.INTEGER, "0"),
        ('<c t="inlineStr"><is><t></t></is></c>', Type.TEXT, None),
        ('<c t="inlineStr"><is><r><t>a</t></r><r><t>b</t></r></is></c>', Type.TEXT, "ab"),
        ('<c t="inlineStr"><is><t>a_x000D_&#10;_x005F_x0041_</t></is></c>', Type.TEXT, "a\r\n_x0041_"),
        ('<c t="inlineStr"><is><t xml:space="preserve"> t="e" </t></is></c>', Type.TEXT, ' t="e" '),
        ("<c><v>nan</v></c>", Type.DECIMAL, "sheet-malformed"),
        ("<c><v>5&#x30;</v></c>", Type.INTEGER, "sheet-malformed"),
        ('<c s="3"><v>1e10</v></c>', Type.TEXT, "sheet-malformed"),
        ('<c s="3"><v>1e999</v></c>', Type.TEXT, "sheet-malformed"),
        ('<c r="A2" s="0"><f>1+1</f><v>5&#x30;</v></c>', Type.INTEGER, "sheet-malformed"),
        ("<c><v>5<!-- 0 --></v></c>", Type.INTEGER, "sheet-malformed"),
        ("<c><v><![CDATA[50]]></v></c>", Type.INTEGER, "sheet-malformed"),
        ("<c><?x y?><v>50</v></c>", Type.INTEGER, "sheet-malformed"),
        ('<c t="s"><v>77</v></c>', Type.TEXT, "sheet-malformed"),
        ('<c t="s"><v>-7</v></c>', Type.TEXT, "sheet-malformed"),
        ('<c t="odd"><v>1</v></c>', Type.TEXT, "sheet-malformed"),
        ('<c t="b"><v>7</v></c>', Type.BOOLEAN, "sheet-malformed"),
        ('<c t="inlineStr"><is><t>&bogus;</t></is></c>', Type.TEXT, "sheet-malformed"),
        ('<c r="ZZZZZZZZ1"><v>1</v></c>', Type.TEXT, "sheet-malformed"),
        ("""<c x=' r="A1"'><v>1</v></c>""", Type.TEXT, "sheet-malformed"),
        ('<c r="XFD1048576"><v>1</v></c>', Type.TEXT, "sheet-too-large"),
    ],
)  # fmt: skip
def test_a_cell_is_read_as_what_it_shows_or_the_sheet_is_refused(cell, type_, text):
    """Nothing is null that has a value: no error, and no number of which a reader would see a part."""
    try:
        found = read(cells(cell, "<c><v>1</v></c>"), type_)[0]
    except SourceRefused as refusal:
        found = refusal.cause
    assert found == text


def test_days_are_counted_from_1904_on_where_the_workbook_says_so():
    made = cells('<c s="1"><v>1</v></c>', '<c s="2"><v>45000.5</v></c>')
    assert read(made) == ["1900-01-01", "2023-03-15T12:00:00"]
    assert read(workbooks.since_1904(made)) == ["1904-01-02", "2027-03-16T12:00:00"]


def test_a_strict_workbook_is_read_like_any_other_and_so_is_one_with_prefixes():
    made = document()
    assert run(XLSX, [strict(made)], HEADER) == READ
    assert run(XLSX, [strict(shared(made))], HEADER) == READ
    assert b"purl.oclc.org" in workbooks.unzipped(strict(made))[workbooks.SHEET]
    prefixed = repacked(
        cells('<c t="e"><v>#N/A</v></c>', "<c/>", "<c><v>7</v></c>"),
        lambda name, part: part.replace(b"</", b"</x:").replace(b"<", b"<x:").replace(b"<x:/x:", b"</x:")
        .replace(b"xmlns=", b"xmlns:x=") if name == workbooks.SHEET else part,
    )  # fmt: skip
    assert read(prefixed) == ["#N/A", None, "7"]


@pytest.mark.parametrize(
    ("table", "cause"),
    [
        ([["a", "b", "a"], [1, 2, 3]], "column-duplicated"),
        ([["a", None, "c"], [1, 2, 3]], "column-unnamed"),
        ([["a", "b"], [1, 2, 3]], "column-unnamed"),
        ([[None, "b"], [None, 2]], "column-unnamed"),
        ([["a", "B"], [1, 2]], "column-missing"),
        ([["a", "b "], [1, 2]], "column-missing"),
        ([[1, 2], ["a", "b"]], "column-missing"),
        ([[None, None], ["a", "b"]], "header-missing"),
        ([], "header-missing"),
    ],
)
def test_a_sheet_without_the_declared_header_in_its_first_row_is_refused(table, cause):
    assert outcome(XLSX, [plain(table)], ["a", "b"]) == cause


def test_a_header_may_have_more_names_and_be_all_there_is():
    stream = decoder(XLSX, ["a", "z"], reads=["a"])
    feed(stream, plain([["x1", "a", 7]]))
    assert ended(stream) == []
    assert stream.undeclared == {"x1", "7"} and stream.vanished == {"z"}


def test_the_sheet_is_the_one_that_is_named_or_the_first_that_is_shown():
    book = openpyxl.Workbook()
    book.active.title, book.active.sheet_state = "hidden", "hidden"
    for name in ("hidden", "First", "Second"):
        sheet = book[name] if name == "hidden" else book.create_sheet(name)
        sheet.append(["a"])
        sheet.append([name])
    book.create_chartsheet("chart", 0)
    book.active = 2
    made = saved(book)

    def of(sheet):
        return outcome(dialect(FormatName.XLSX, sheet=sheet), [made], ["a"])

    assert of(None) == of("First") == [("First",)]
    assert of("Second") == [("Second",)] and of("hidden") == [("hidden",)]
    assert of("chart") == of("second") == of("") == "sheet-missing"


@settings(max_examples=6)
@given(st.integers(1, 4))
def test_nothing_but_values_is_read_of_a_workbook(more):
    """F56: comments, hidden sheets, names, docProps, validations, filters, formats, links, charts, tables."""
    table = [["a", "b", "c"], ["x", "1", "y"], [None, "2", None], ["z", "3", None]]
    made = rich(table, "canary", more=more)
    assert sum(part.count(b"canary") for part in workbooks.unzipped(made).values()) > 15
    found = run(XLSX, [made], ["a", "b", "c"])
    assert found == [tuple(row) for row in table[1:]] == run(XLSX, [plain(table)], ["a", "b", "c"])


def test_rows_come_lazily_some_thousands_at_a_time():
    made = plain([["a"], *([n] for n in range(9_000))])
    stream = decoder(XLSX, ["a"])
    assert stream.cut(made) == []
    works = stream.finish()
    heights = [next(works)()[0].height]
    assert stream.compared
    heights += [batch.height for work in works for batch in work()]
    assert heights == [4096, 4096, 808]


def test_merged_cells_hidden_rows_and_gaps_are_cells_like_others():
    book = openpyxl.load_workbook(io.BytesIO(plain([["a", "b"], ["1", "2"], ["3", "4"]])))
    sheet = book.active
    sheet["B6"] = "5"
    sheet.merge_cells("A2:B2")
    sheet.row_dimensions[3].hidden = True
    found = run(XLSX, [saved(book)], ["a", "b"])
    assert found == [("1", None), ("3", "4"), (None, None), (None, None), (None, "5")]


def test_limits_refuse_what_is_over_them_and_nothing_else():
    made = document()
    sizes = workbooks.unzipped(made)
    read_parts = [n for n in sizes if not n.startswith(("docProps", "xl/theme"))]
    total = sum(len(sizes[name]) for name in read_parts)
    for name, enough in (("sheet_bytes", total), ("sheet_cells", 12), ("fields", 3)):
        assert outcome(XLSX, [made], HEADER, limits=Limits(**{name: enough})) == READ
        refused = outcome(XLSX, [made], HEADER, limits=Limits(**{name: enough - 1}))
        assert refused in ("sheet-too-large", "too-many-fields"), name
    long_row = by_hand("<row>" + "<c><v>1</v></c>" * 400 + "</row>")
    assert outcome(XLSX, [long_row], ["a"], limits=Limits(record_bytes=5_000)) == "record-too-large"


@pytest.mark.parametrize("row", ["<row/>", '<row r="3"/>', "<row><c/></row>"])
def test_room_is_counted_for_rows_and_cells_without_a_number_too(row):
    many = by_hand('<row><c t="inlineStr"><is><t>a</t></is></c></row>' + row * 500)
    assert outcome(XLSX, [many], ["a"], limits=Limits(sheet_cells=400)) == (
        [] if "3" in row else "sheet-too-large"
    )
    wide = by_hand("<row>" + '<c r="B1"/><c/>' * 300 + "</row>")
    assert outcome(XLSX, [wide], ["a"], limits=Limits(sheet_cells=400)) == "sheet-too-large"


def test_room_is_counted_whatever_texts_look_like():
    """PROMISE 4: neither a text nor an attribute can make a cell go uncounted."""
    for text in ("sheetData", "&lt;sheetData&gt;", 'r="A1"', "'", " :c "):
        rows = (
            f'<row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c></row><row r="9999999">'
            f'<c r="XFD9999999"><v>1</v></c><c t="inlineStr"><is><t>{text}</t></is></c></row>'
        )
        assert outcome(XLSX, [by_hand(rows)], ["a"]) == "sheet-too-large"
    for odd in ("""<row x=' r="1"'/>""", """<c x=" r='A1'"/>""", "<row x='>' r='9'/>"):
        assert outcome(XLSX, [by_hand(odd)], ["a"]) == "sheet-malformed"


def test_an_entity_is_never_expanded():
    """A document type is refused, whichever part has it."""
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    assert outcome(XLSX, [by_hand("<row/>", before=bomb)], ["a"]) == "sheet-malformed"
    for part, cause in (
        ("xl/workbook.xml", "workbook-malformed"),
        ("xl/styles.xml", "sheet-malformed"),
    ):
        made = repacked(
            document(), lambda n, xml, part=part: bomb.encode() + xml if n == part else xml
        )
        assert outcome(XLSX, [made], HEADER) == cause


def test_texts_may_be_shared_by_cells():
    made = shared(document(), ["nobody's"])
    assert b"inlineStr" not in workbooks.unzipped(made)[workbooks.SHEET]
    assert openpyxl.load_workbook(io.BytesIO(made)).active["A2"].value == "x"
    assert run(XLSX, [made], HEADER) == READ
    with pytest.raises(SourceRefused) as refusal:
        run(XLSX, [made], HEADER, limits=Limits(sheet_bytes=4_000))
    assert refusal.value.cause == "sheet-too-large"


def test_room_is_counted_for_texts_that_are_shared_whether_a_cell_has_them_or_not():
    """A reader keeps all of them, and one takes five bytes in the part."""
    made = shared(document(), [*map(str, range(500))])
    assert run(XLSX, [made], HEADER, limits=Limits(sheet_cells=600)) == READ
    assert outcome(XLSX, [made], HEADER, limits=Limits(sheet_cells=100)) == "sheet-too-large"


def test_a_package_of_stored_parts_is_read():
    assert run(XLSX, [repacked(document(), method=zipfile.ZIP_STORED)], HEADER) == READ
