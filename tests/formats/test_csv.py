"""CSV: what RFC 4180 says is read to the character, and nothing else is read at all."""

from __future__ import annotations

import csv
import io
import random
from typing import Any
from unittest import mock

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.batch import Batch, Output
from proxy.errors import SourceRefused
from proxy.few import Cells, Few, filtered
from proxy.formats import FORMATS, Limits, csv_text
from proxy.formats import csv as csv_module
from proxy.formats.csv import CsvDecoder
from proxy.report import FormatName
from proxy.values import Type
from tests.formats.documents import (
    CUTS,
    batches,
    bytewise,
    cut,
    decoder,
    dialect,
    encode,
    outcome,
    rows,
    run,
)
from tests.harness.streams import ended, feed, joined

CSV = dialect(FormatName.CSV)
TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\0")
    | st.sampled_from('",;\r\n\ufeff é#x\x01\x1f'),
    max_size=6,
)
CELL = st.none() | TEXT


def written(cell: str | None, delimiter: str, *, quoted: bool) -> str:
    if cell is None:
        return ""
    if quoted or cell == "" or set(cell) & set(f'"\r\n{delimiter}'):
        return '"' + cell.replace('"', '""') + '"'
    return cell


@st.composite
def tables(draw, max_rows: int = 5):
    """Names, rows, and a document that writes them, needless quotes and CRLF here and there."""
    delimiter = draw(st.sampled_from(",;\t|"))
    width = draw(st.integers(1, 4))
    names = draw(st.lists(TEXT.filter(bool), min_size=width, max_size=width, unique=True))
    names[0] = names[0].lstrip("\ufeff") or "first"
    if len(set(names)) != width:
        names = [f"n{index}" for index in range(width)]
    cells = draw(st.lists(st.tuples(*[CELL] * width), max_size=max_rows))
    lines = []
    for row in [tuple(names), *cells]:
        fields = [written(cell, delimiter, quoted=draw(st.booleans())) for cell in row]
        lines.append(delimiter.join(fields) + draw(st.sampled_from(["\n", "\r\n"])))
    document = "".join(lines)
    # A last line end may be missing, unless the line would be none.
    if not document.endswith(("\n\n", "\n\r\n")) and draw(st.booleans()):
        document = document.removesuffix("\n").removesuffix("\r")
    if draw(st.booleans()):
        document = "\ufeff" + document
    return dialect(FormatName.CSV, delimiter=delimiter), names, cells, document.encode()


@given(tables(), CUTS)
def test_each_cell_is_read_to_the_character_however_the_document_is_cut(table, places):
    of, names, cells, document = table
    assert run(of, [document], names) == cells
    assert run(of, bytewise(document), names) == cells
    assert run(of, cut(document, places), names) == cells


@given(tables())
def test_an_encoded_document_reads_back_as_the_same_values_here_and_in_pythons_csv(table):
    of, names, cells, document = table
    again = encode(of, batches(of, document, names), names)
    assert run(of, [again], names) == cells
    if len(names) > 1:  # Python's csv takes a blank line for no record
        read = list(csv.reader(io.StringIO(again.decode(), newline=""), delimiter=of.delimiter))
        assert read == [names, *[[cell or "" for cell in row] for row in cells]]


def kind(batch: Batch, cells: list[Any], type_: Any = pl.String) -> Cells:
    if batch.few:
        return Few(cells)
    if type_ != pl.String:
        return pl.Series(cells, dtype=type_)
    # As after many an operation of polars, text stays beneath a null.
    column = pl.Series(["beneath" if cell is None else cell for cell in cells], dtype=pl.String)
    return column.set(pl.Series([cell is None for cell in cells], dtype=pl.Boolean), None)


@given(tables(max_rows=7), st.data())
def test_an_answer_is_the_same_whether_fields_pass_as_they_stand_or_are_written_anew(table, data):
    """Rows, order of columns and cells of other columns being what they are, only they decide on the bytes."""
    of, names, cells, document = table
    keep = data.draw(st.lists(st.booleans(), min_size=len(cells), max_size=len(cells)))
    order = data.draw(
        st.permutations(names).flatmap(lambda n: st.integers(1, len(n)).map(lambda k: n[:k]))
    )
    treated = {
        n: data.draw(st.lists(CELL, min_size=len(cells), max_size=len(cells)))
        for n in order
        if data.draw(st.booleans())
    }
    absent = {n for n in order if n not in treated and data.draw(st.integers(0, 5)) == 0}
    lines = [[*order]]
    for number, row in enumerate(cells):
        if keep[number]:
            given_ = {
                **dict(zip(names, row, strict=True)),
                **{n: c[number] for n, c in treated.items()},
            }
            lines.append([None if name in absent else given_[name] for name in order])
    expected = "".join(
        of.delimiter.join(written(cell, of.delimiter, quoted=False) for cell in line) + "\n"
        for line in lines
    ).encode()
    passing = [name for name in order if name not in treated and name not in absent]
    for small in (-1, 1 << 14):
        with mock.patch.object(csv_module, "_SMALL", small):
            found = [b for b in batches(of, document, names) if b.height]
        answer = FORMATS[FormatName.CSV].encoder([Output(name, Type.TEXT) for name in order], of)
        out, first = b"", 0
        for batch in found:
            some = slice(first, first + batch.height)
            first += batch.height
            mask = kind(batch, keep[some], pl.Boolean)
            new = {name: filtered(kind(batch, c[some]), mask) for name, c in treated.items()}
            kept = batch.filter(mask)
            if kept.unread is None:
                new |= {name: kept.column(name) for name in passing}
            out += joined(
                answer,
                Batch(
                    new,
                    height=kept.height,
                    lexis=kept.lexis,
                    types=dict.fromkeys(order, Type.TEXT),
                    few=kept.few,
                    unread=None if kept.unread is None else kept.unread.only(passing),
                ),
            )
        assert out + answer.finish() == expected


def reference(text: str) -> list[list[str | None]] | None:
    """RFC 4180 character by character: the records, or None where it is broken. Shares no code."""
    records: list[list[str | None]] = []
    record: list[str | None] = []
    field, state = "", "start"
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        return None
    at = 0
    while at < len(text):
        c = text[at]
        at += 1
        if state == "quoted":
            if c != '"':
                field += c
            elif text[at : at + 1] == '"':
                field += c
                at += 1
            else:
                state = "closed"
            continue
        if c == "\r":
            if text[at : at + 1] != "\n":
                return None
            continue
        if c in ",\n":
            record.append(field if state == "closed" else field or None)
            field, state = "", "start"
            if c == "\n":
                records.append(record)
                record = []
        elif state == "closed":
            return None
        elif c == '"':
            if state != "start":
                return None
            state = "quoted"
        else:
            field, state = field + c, "plain"
    if state == "quoted":
        return None
    if state != "start" or record:
        record.append(field if state == "closed" else field or None)
        records.append(record)
    if not records or len({len(record) for record in records}) != 1:
        return None
    header = records[0]
    if None in header or "" in header or len(set(header)) != len(header):
        return None
    return records


@settings(max_examples=400)
@given(st.text(st.sampled_from('ab",\r\n\0é\ufeff'), max_size=14), CUTS)
def test_what_is_read_and_what_is_refused_is_what_rfc_4180_says(text, places):
    document = ("a,b\n" if len(text) % 2 else "") + text
    expected = reference(document)
    names = [] if expected is None else [str(name) for name in expected[0]]
    whole = document.encode()
    for pieces in ([whole], bytewise(whole), cut(whole, places)):
        found = outcome(CSV, pieces, names)
        if expected is None:  # of two faults, the one that is met first is named
            assert isinstance(found, str)
        else:
            assert found == [tuple(record) for record in expected[1:]]


MALFORMED = {
    "empty": (b"", "header-missing"),
    "byte order mark alone": (b"\xef\xbb\xbf", "header-missing"),
    "half a byte order mark": (b"\xef\xbb", "not-utf-8"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "nul-character"),
    "Latin-1": (b"a,b\n\xe5,2\n", "not-utf-8"),
    "overlong": (b"a,b\n\xc0\xaf,2\n", "not-utf-8"),
    "surrogate": (b"a,b\n\xed\xa0\x80,2\n", "not-utf-8"),
    "header in Latin-1": (b"a,b,\xe5\n1,2,3\n", "not-utf-8"),
    "NUL": (b"a,b\n1,\0\n", "nul-character"),
    "NUL in quotes": (b'a,b\n1,"\0"\n', "nul-character"),
    "duplicate column": (b"a,b,b\n1,2,3\n", "column-duplicated"),
    "duplicate undeclared column": (b"a,b,x,x\n1,2,3,4\n", "column-duplicated"),
    "duplicate column by quotes": (b'a,b,"a"\n1,2,3\n', "column-duplicated"),
    "unnamed column": (b"a,b,\n1,2,3\n", "column-unnamed"),
    "blank header": (b"\na,b\n", "column-unnamed"),
    "missing column": (b"a,c\n1,2\n", "column-missing"),
    "case": (b"a,B\n1,2\n", "column-missing"),
    "no-break space": ("a,b\u00a0\n1,2\n".encode(), "column-missing"),
    "blank before a name": (b"a, b\n1,2\n", "column-missing"),
    "homoglyph": ("\u0430,b\n1,2\n".encode(), "column-missing"),
    "second byte order mark": (b"\xef\xbb\xbf\xef\xbb\xbfa,b\n1,2\n", "column-missing"),
    "byte order mark inside": (b"a,\xef\xbb\xbfb\n1,2\n", "column-missing"),
    "another delimiter": (b"a;b\n1;2\n", "column-missing"),
    "no header": (b"1,2\n3,4\n", "column-missing"),
    "HTML": (b"<!doctype html>\n<title>Sign in</title>\n", "column-missing"),
    "short record": (b"a,b\n1\n", "field-count"),
    "long record": (b"a,b\n1,2,3\n", "field-count"),
    "long and short": (b"a,b\n1,2,3\n4\n", "field-count"),
    "delimiter in the data": (b"a,b\n1;2\n", "field-count"),
    "blank line": (b"a,b\n1,2\n\n3,4\n", "field-count"),
    "blank last line": (b"a,b\n1,2\n\n", "field-count"),
    "bare CR": (b"a,b\n1,2\r3,4\n", "bare-carriage-return"),
    "CR CR LF": (b"a,b\r\r\n1,2\n", "bare-carriage-return"),
    "CR line ends": (b"a,b\r1,2\r", "bare-carriage-return"),
    "bare CR at the end": (b"a,b\n1,2\r", "bare-carriage-return"),
    "bare CR beside quotes": (b'a,b\n"1",2\r"3",4\n', "quotes-malformed"),
    "quote inside": (b'a,b\n1"2,3\n', "quotes-malformed"),
    "text after quotes": (b'a,b\n"1"2,3\n', "quotes-malformed"),
    "blank before a quote": (b'a,b\n1, "2"\n', "quotes-malformed"),
    "backslash escape": (b'a,b\n1,"\\"x"\n', "quotes-malformed"),
    "unclosed quote": (b'a,b\n1,"2\n', "truncated"),
    "unclosed quote in the header": (b'a,"b\n1,2\n', "truncated"),
    "cut inside quotes": (b'a,b\n1,"2', "truncated"),
}


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize("lead", [b"", b"x,y\n" * 8_000], ids=["small", "bulk"])
def test_a_malformed_document_is_refused_with_its_cause_however_it_is_cut(case, lead):
    document, cause = MALFORMED[case]
    header, line_end, body = document.partition(b"\n")
    if lead and header == b"a,b":
        document = header + line_end + lead + body
    assert outcome(CSV, [document], ["a", "b"]) == cause
    pieces = bytewise(document) if not lead else cut(document, range(0, 40_000, 7_001))
    assert outcome(CSV, pieces, ["a", "b"]) == cause


@given(tables(), st.data())
def test_a_truncated_document_never_gives_a_record_that_the_whole_does_not_have(table, data):
    of, names, cells, document = table
    length = data.draw(st.integers(0, len(document)))
    found = outcome(of, [document[:length]], names)
    if not isinstance(found, str):
        # CSV has no end mark: the last record alone may be short, by its last field's last characters.
        assert found[:-1] == cells[: len(found) - 1] if found else True
        if found:
            assert found[-1][:-1] == cells[len(found) - 1][:-1]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_large_blocks_keep_quoted_line_ends_escapes_nulls_and_empty_texts(line_end):
    source = random.Random(4180)
    parts = ["a", "é", '"', ",", "\n", "\r\n", "\r", " ", "\ufeff", "x\x01", "0", "#", "𝄞", "\\"]
    cells = [
        tuple(
            None if source.random() < 0.1 else "".join(source.choices(parts, k=source.randrange(9)))
            for _ in range(3)
        )
        for _ in range(40_000)
    ]
    lines = [
        ",".join(written(cell, ",", quoted=source.random() < 0.1) for cell in row) for row in cells
    ]
    document = line_end.join(["a,b,c", *lines, ""]).encode()
    assert len(document) > 500_000
    names = ["a", "b", "c"]
    assert run(CSV, [document], names) == cells
    assert run(CSV, cut(document, range(0, len(document), 300_007)), names) == cells
    again = encode(CSV, batches(CSV, document, names), names)
    assert run(CSV, [again], names) == cells


def test_large_blocks_without_quotes_keep_each_cell_and_each_null():
    lines = [f"{n},,x\x01{n}" if n % 3 else f",\ufeff {n} ," for n in range(40_000)]
    expected = [tuple(cell or None for cell in line.split(",")) for line in lines]
    for line_end in ("\n", "\r\n"):
        document = line_end.join(["a,b,c", *lines, ""]).encode()
        assert run(CSV, [document], ["a", "b", "c"]) == expected


@pytest.mark.parametrize(
    "start", ["x\x01", "\ufeff", '"\ufeffq"', "x\x9c", "PK\x03\x04", "#", "BZh9"]
)
def test_a_block_that_begins_like_another_kind_of_file_is_still_text(start):
    body = (f"{start},1\n" * 4_000).encode()
    stream = decoder(CSV, ["a", "b"])
    found = feed(stream, b"a,b\n") + feed(stream, body) + ended(stream)
    expected = start.strip('"') if start.startswith('"') else start
    assert rows(found, ["a"]) == [(expected,)] * 4_000


@given(tables(max_rows=4), st.data())
def test_columns_that_are_not_read_have_no_influence_on_the_answer(table, data):
    of, names, cells, document = table
    hidden = data.draw(st.sets(st.sampled_from(names), max_size=len(names) - 1))
    reads = [name for name in names if name not in hidden]
    lines = [of.delimiter.join(written(name, of.delimiter, quoted=True) for name in names)]
    for row in cells:
        other = [data.draw(CELL) if name in hidden else row[at] for at, name in enumerate(names)]
        lines.append(of.delimiter.join(written(cell, of.delimiter, quoted=False) for cell in other))
    changed = ("\n".join(lines) + "\n").encode()
    answers = [
        encode(of, batches(of, text, names, reads=reads), reads) for text in (document, changed)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("size", [3, 40_000])
def test_only_fields_that_are_read_are_in_a_batch(size):
    document = b"a,b,c\n" + b'1,"2",3\n' * size
    [batch] = batches(CSV, document, ["a", "b", "c"], reads=["c"])
    assert set(batch.cells) == {"c"}
    assert batch.height == size
    [batch] = batches(CSV, document, ["a", "b", "c"], reads=[])
    assert (dict(batch.cells), batch.height) == ({}, size)


def test_a_record_over_the_limit_is_refused_and_one_at_the_limit_is_not_however_it_is_cut():
    limits = Limits(record_bytes=20)
    for field, expected in ((b"y" * 17, [("x", "y" * 17)]), (b"y" * 18, "record-too-large")):
        document = b"a,b\nx," + field + b"\n"
        for pieces in ([document], bytewise(document), cut(document, [7, 21])):
            assert outcome(CSV, pieces, ["a", "b"], limits=limits) == expected


def test_no_more_than_an_incomplete_record_is_kept():
    limits = Limits(record_bytes=1_000)
    stream = decoder(CSV, ["a", "b"], limits=limits)
    assert isinstance(stream, CsvDecoder)
    feed(stream, b"a,b\n")
    for _ in range(300):
        feed(stream, b'1,"2\n3"\n' * 50 + b'1,"')
        assert len(stream._rest) <= limits.record_bytes
        feed(stream, b'"\n')
    assert (
        outcome(CSV, [b"a,b\n1,", *[b"no end"] * 300], ["a", "b"], limits=limits)
        == "record-too-large"
    )


def test_too_many_columns_are_refused():
    header = ",".join(f"c{n}" for n in range(1_025)).encode() + b"\n"
    assert outcome(CSV, [header], ["c1"]) == "too-many-fields"


def test_undeclared_columns_are_named_within_bounds_and_never_from_data():
    stream = decoder(CSV, ["a"])
    feed(stream, b"a,A,new\n1,2,3\n")
    assert stream.undeclared == {"A", "new"}
    wide = decoder(CSV, ["a"])
    feed(wide, ("a," + ",".join(f"x{n}" for n in range(500)) + "\n").encode())
    assert len(wide.undeclared) == 16
    headless = decoder(CSV, ["a"])
    with pytest.raises(SourceRefused):
        feed(headless, b"Alice,secret\nBob,secret too\n")
    assert headless.undeclared == frozenset()


def test_a_document_without_records_keeps_its_header():
    assert encode(CSV, [], ["a", 'b"c', "d,e"]) == b'a,"b""c","d,e"\n'
    assert encode(CSV, batches(CSV, b"a\n", ["a"]), ["a"]) == b"a\n"


def test_a_column_that_a_batch_lacks_is_empty_and_columns_come_in_the_answers_order():
    found = batches(CSV, b'a,b\n1,2\n3,""\n', ["a", "b"])
    assert encode(CSV, found, ["b", "z", "a"]) == b'b,z,a\n2,,1\n"",,3\n'


def test_values_of_another_lexis_are_written_as_plain_text():
    source = dialect(FormatName.JSON)
    found = batches(source, b'[{"a":"x\\n\\u0041,","b":"q\\"r"},{"a":null,"b":""}]', ["a", "b"])
    assert encode(CSV, found, ["a", "b"]) == b'a,b\n"x\nA,","q""r"\n,""\n'


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "\r", "\0", "a", "0", "§"])
def test_a_delimiter_that_could_be_anything_else_is_refused_at_once(delimiter):
    of = dialect(FormatName.CSV, delimiter=delimiter)
    with pytest.raises(ValueError, match="delimiter"):
        decoder(of, ["a"])
    with pytest.raises(ValueError, match="delimiter"):
        FORMATS[FormatName.CSV].encoder([Output("a", Type.TEXT)], of)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("quoted", [0.0, 0.01, 1.0])
def test_rows_that_are_kept_hold_what_they_held_whichever_columns_were_read_before(quoted, sparse):
    """A batch gives the same cells whether they are read before its rows are filtered or after."""
    source = random.Random(7)
    size = 3_000
    table = [
        [None if source.random() < 0.2 else f"é{source.randrange(99)}" for _ in "abcdef"]
        for _ in range(size)
    ]
    lines = [
        ",".join(written(cell, ",", quoted=source.random() < quoted) for cell in row)
        for row in table
    ]
    document = "\r\n".join(["a,b,c,d,e,f", *lines, ""]).encode()
    names = [*"abcdef"]
    keep = pl.Series([source.random() < (0.1 if sparse else 0.6) for _ in range(size)])
    expected = [tuple(row) for row, kept in zip(table, keep, strict=True) if kept]
    for first in ([], ["a"], ["b"], ["d"], ["e"], ["f"], ["a", "f"], names):
        batch = next(b for b in batches(CSV, document, names) if b.height)
        batch.load(first)
        assert rows([batch.filter(keep)], names) == expected
        twice = batch.filter(keep).filter(
            pl.Series([True, False] * (len(expected) // 2) + [True] * (len(expected) % 2))
        )
        assert rows([twice], names) == expected[::2]


def test_a_name_in_the_header_may_be_as_long_as_a_record():
    """A header is refused for the size of a record alone."""
    name = "x" * 200_000
    document = f"a,{name}\n1,2\n".encode()
    assert outcome(CSV, [document], ["a"]) == [("1",)]


@given(st.lists(st.sampled_from([b'"', b"\n", b'"\n', b"a,", b'\n"\n"', b"b\r\n"]), max_size=40))
def test_where_the_last_record_ends_is_known_by_the_quotes_alone(parts):
    """A block is cut where a look at all of it finds the last record's end, however far back that is."""
    block = b"".join(parts)
    try:
        expected = csv_text.scan(block, ord(",")).cut
    except SourceRefused:
        return
    assert csv_text.record_end(block) == expected
