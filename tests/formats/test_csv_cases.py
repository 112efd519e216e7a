"""CSV by example: what spreadsheets and databases really write, in each dialect; what is refused, and why.

In the manner of csv-spectrum, with cases of our own.
"""

from __future__ import annotations

import csv
import io

import pytest

from proxy.report import Charset, Dialect, FormatName
from tests.formats.documents import batches, bytewise, encode, outcome, run

CASES: dict[str, tuple[str, list[list[str | None]]]] = {
    "simple": ("a,b,c\n1,2,3\n", [["1", "2", "3"]]),
    "no line end at the end": ("a,b,c\n1,2,3", [["1", "2", "3"]]),
    "no records": ("a,b,c\n", []),
    "a header alone": ("a,b,c", []),
    "comma in quotes": ('a,b,c\n"Doe, J.",1,2\n', [["Doe, J.", "1", "2"]]),
    "empty fields": ('a,b,c\n1,"",""\n2,,\n,,\n', [["1", "", ""], ["2", None, None], [None] * 3]),
    "escaped quotes": ('a,b,c\n1,"ha ""ha"" ha",2\n', [["1", 'ha "ha" ha', "2"]]),
    "nothing but quotes": ('a,b,c\n"""","""""",""""""""\n', [['"', '""', '"""']]),
    "JSON in a field": (
        'a,b,c\n1,"{""type"": ""Point"", ""coordinates"": [102.0, 0.5]}",2\n',
        [["1", '{"type": "Point", "coordinates": [102.0, 0.5]}', "2"]],
    ),
    "line ends in quotes": ('a,b,c\n"one\ntwo","\n","x\n"\n', [["one\ntwo", "\n", "x\n"]]),
    "quotes and line ends": ('a,b,c\n1,"""\n""",2\n', [["1", '"\n"', "2"]]),
    "delimiters alone in quotes": ('a,b,c\n",",",,",","\n', [[",", ",,", ","]]),
    "blanks stay": ("a,b,c\n 1 ,\t2,3 \n", [[" 1 ", "\t2", "3 "]]),
    "numbers stay as they are written": ("a,b,c\n007,1.10,+1e5\n", [["007", "1.10", "+1e5"]]),
    "words stay": ("a,b,c\nNULL,nan,true\n", [["NULL", "nan", "true"]]),
    "backslashes": ("a,b,c\n\\n,\\,\\\\\n", [["\\n", "\\", "\\\\"]]),
    "comments are records": ("a,b,c\n#1,2,3\n", [["#1", "2", "3"]]),
    "all quoted": ('"a","b","c"\n"1","2","3"\n', [["1", "2", "3"]]),
    "Latin": ("a,b,c\né,ß,ÿ\n", [["é", "ß", "ÿ"]]),
    "controls": ("a,b,c\n\x01,\x1f,\x7f\n", [["\x01", "\x1f", "\x7f"]]),
    "more columns than are declared": ("x,c,b,a,y\n9,3,2,1,8\n", [["1", "2", "3"]]),
}  # fmt: skip
WIDE = (
    "a,b,c\n€,漢字,𝄞\n\u200b,\u2028,\ufeff\n",
    [["€", "漢字", "𝄞"], ["\u200b", "\u2028", "\ufeff"]],
)
NAMES = ["a", "b", "c"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_document_is_read_as_it_is_meant_in_each_dialect(case, delimiter, line_end):
    """With each delimiter and line end, in each charset that has its characters, with a mark and without."""
    text, expected = CASES[case]
    swapped = str.maketrans({",": delimiter, delimiter: ","})
    text = text.translate(swapped)
    rows = [[cell and cell.translate(swapped) for cell in row] for row in expected]
    if line_end == "\r\n":  # inside quotes too, as such tools write it
        text = text.replace("\n", "\r\n")
        rows = [[cell and cell.replace("\n", "\r\n") for cell in row] for row in rows]
    for charset in Charset:
        for document in encoded(text, charset):
            of = Dialect(format=FormatName.CSV, delimiter=delimiter, charset=charset)
            assert run(of, [document], NAMES) == [tuple(row) for row in rows]
            assert run(of, bytewise(document), NAMES) == [tuple(row) for row in rows]
            answer = encode(of, batches(of, document, NAMES), NAMES)
            assert not answer.startswith(b"\xef\xbb\xbf")
            read = [*csv.reader(io.StringIO(answer.decode(), newline=""), delimiter=delimiter)]
            assert read == [NAMES, *([cell or "" for cell in row] for row in rows)]


def encoded(text: str, charset: Charset) -> list[bytes]:
    """The text in a charset, with each byte order mark that it may have."""
    if charset is Charset.UTF_16:
        return [("\ufeff" + text).encode(f"utf-16-{order}") for order in ("le", "be")]
    document = text.encode(charset.value)
    return [document, ("\ufeff" + text).encode(charset.value)] if "utf" in charset else [document]


@pytest.mark.parametrize("charset", [charset for charset in Charset if "utf" in charset])
def test_every_character_is_read_in_the_charsets_that_have_all(charset):
    text, expected = WIDE
    of = Dialect(format=FormatName.CSV, charset=charset)
    for document in encoded(text, charset):
        assert run(of, [document], NAMES) == [tuple(row) for row in expected]
        assert run(of, bytewise(document), NAMES) == [tuple(row) for row in expected]


HEADERS = {
    "missing": (b"1,2,3\n4,5,6\n", "column-missing"),
    "none at all": (b"", "header-missing"),
    "duplicated": (b"a,b,c,a\n1,2,3,4\n", "column-duplicated"),
    "duplicated, undeclared": (b"a,b,c,x,x\n1,2,3,4,5\n", "column-duplicated"),
    "unnamed": (b"a,b,c,\n1,2,3,4\n", "column-unnamed"),
    "renamed": (b"a,b,d\n1,2,3\n", "column-missing"),
    "another case": (b"a,b,C\n1,2,3\n", "column-missing"),
    "a blank before": (b"a,b, c\n1,2,3\n", "column-missing"),
    "a blank after": (b"a,b,c \n1,2,3\n", "column-missing"),
    "a no-break space": ("a,b,c\u00a0\n1,2,3\n".encode(), "column-missing"),
    "a homoglyph": ("a,b,с\n1,2,3\n".encode(), "column-missing"),
    "full width": ("a,b,ｃ\n1,2,3\n".encode(), "column-missing"),
    "a second mark": ("\ufeff\ufeffa,b,c\n1,2,3\n".encode(), "column-missing"),
    "a mark further on": ("a,b,\ufeffc\n1,2,3\n".encode(), "column-missing"),
    "a wider record": (b"a,b,c\n1,2,3\n1,2,3,4\n", "field-count"),
    "a narrower record": (b"a,b,c\n1,2,3\n1,2\n", "field-count"),
    "another delimiter": (b"a;b;c\n1;2;3\n", "column-missing"),
    "tabs": (b"a\tb\tc\n1\t2\t3\n", "column-missing"),
    "another delimiter below": (b"a,b,c\n1;2;3\n", "field-count"),
    "Excel's sep": (b"sep=,\na,b,c\n1,2,3\n", "column-unnamed"),
    "an unclosed quote": (b'a,b,c\n1,2,"3\n', "truncated"),
    "a quote in the middle": (b'a,b,c\n1,2"2,3\n', "quotes-malformed"),
    "apostrophes for quotes": (b"a,b,c\n'1,1',2,3\n", "field-count"),
    "a blank last line": (b"a,b,c\n1,2,3\n\n", "field-count"),
    "HTML": (b"<!doctype html>\n<title>Sign in</title>\n", "column-missing"),
    "a Parquet file": (b"PAR1\x15\x04\x15\n", "column-missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADERS)
def test_a_document_of_another_shape_is_refused(case):
    """THREATS F51, F52: no column is guessed, padded, renamed or taken for another."""
    document, cause = HEADERS[case]
    of = Dialect(format=FormatName.CSV)
    assert outcome(of, [document], NAMES) == cause
    assert outcome(of, bytewise(document), NAMES) == cause
