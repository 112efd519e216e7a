"""The table of formats: what a store's answer may call itself, and streams that stay failed."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import formats
from proxy.errors import SourceRefused
from proxy.formats import CAUSES, FORMATS
from proxy.kernels import is_utf8
from proxy.report import Charset, FormatName
from tests.formats import typed
from tests.formats.documents import decoder, dialect, outcome
from tests.harness.streams import ended, feed
from tests.matrix.others import WRITERS

TABLE = pa.table({"a": ["1"]})
GOOD = {
    FormatName.CSV: b"a\n1\n",
    FormatName.JSON: b'[{"a":1}]',
    FormatName.NDJSON: b'{"a":1}\n',
    FormatName.XLSX: WRITERS["xlsx"]({"a": "integer"}, [{"a": "1"}]),
    FormatName.ARROW: typed.stream(TABLE),
    FormatName.PARQUET: typed.parquet(TABLE),
}
"""A document of each format."""

_SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ACCEPTED = [
    ("csv", "text/csv", True),
    ("csv", "Text/CSV; Charset=UTF-8", True),
    ("csv", 'text/csv;charset="utf-8";header=present', True),
    ("csv", "text/plain; charset=utf-8", True),
    ("csv", "text/tab-separated-values", True),
    ("csv", "text/csv; header=absent", False),
    ("csv", "text/csv; charset=utf-16", False),
    ("csv", "text/csv; charset=utf-7", False),
    ("csv", "text/csv; charset=iso-8859-1", False),
    ("csv", "text/csv; charset=", False),
    ("csv", "text/csv;", False),
    ("csv", "text/csv; charset=utf-8; charset=utf-7", False),
    ("csv", "text/csv; charset=utf-8; charset=utf-8", False),
    ("csv", "text/csv, text/html", False),
    ("csv", "text/html; charset=utf-8", False),
    ("csv", "application/json", False),
    ("csv", "application/octet-stream", False),
    ("csv", "", False),
    ("json", "application/json", True),
    ("json", "application/json; charset=utf-8", True),
    ("json", "application/json ; charset=utf-8", True),
    ("json", "application/json; charset=utf-8; boundary=x", False),
    ("json", "application/json; charset=utf-16", False),
    ("json", "application/x-ndjson", False),
    ("json", "text/plain", False),
    ("json", "text/html", False),
    ("arrow", "application/vnd.apache.arrow.stream", True),
    ("arrow", "application/vnd.apache.arrow.file", False),
    ("arrow", "application/octet-stream", False),
    ("parquet", "application/vnd.apache.parquet", True),
    ("parquet", "application/x-parquet", True),
    ("parquet", "application/octet-stream", False),
    ("parquet", "application/vnd.apache.parquet; charset=utf-8", False),
    ("ndjson", "application/x-ndjson", True),
    ("ndjson", "application/ndjson; charset=utf-8", True),
    ("ndjson", "application/jsonl", True),
    ("ndjson", "application/jsonlines", True),
    ("ndjson", "application/x-jsonlines", True),
    ("ndjson", "application/x-ndjson; charset=utf-16", False),
    ("ndjson", "application/json", False),
    ("ndjson", "text/plain", False),
    ("xlsx", _SHEET, True),
    ("xlsx", f"{_SHEET}; charset=utf-8", False),
    ("xlsx", "application/vnd.ms-excel", False),
    ("xlsx", "application/vnd.ms-excel.sheet.macroEnabled.12", False),
    ("xlsx", "application/zip", False),
    ("xlsx", "application/octet-stream", False),
]


@pytest.mark.parametrize(("name", "content_type", "accepted"), ACCEPTED)
def test_a_content_type_is_accepted_only_where_all_of_it_is_understood(
    name, content_type, accepted
):
    of = dialect(FormatName(name))
    assert FORMATS[of.format].accepts(content_type, of) is accepted


NAMED = {
    Charset.UTF_8: ["utf-8", "UTF-8"],
    Charset.LATIN_1: ["ISO-8859-1", "iso_8859-1", "latin1"],
    Charset.WINDOWS_1252: ["windows-1252", "cp1252"],
    Charset.UTF_16: ["utf-16"],
    Charset.UTF_16_LE: ["UTF-16LE"],
    Charset.UTF_16_BE: ["utf-16be"],
}


@pytest.mark.parametrize("declared", Charset)
def test_a_content_type_names_the_declared_charset_or_none(declared):
    """THREATS F50: no two charsets have a name in common, and nothing else is understood."""
    of = dialect(FormatName.CSV, charset=declared)
    accepts = FORMATS[FormatName.CSV].accepts
    assert accepts("text/csv", of)
    for charset, names in NAMED.items():
        for name in names:
            assert accepts(f"text/csv; charset={name}", of) is (charset is declared)
    for name in ("utf-7", "utf8", "us-ascii", "utf-32", "", "x"):
        assert not accepts(f"text/csv; charset={name}", of)


@given(st.sampled_from(FormatName), st.text(max_size=40))
def test_no_content_type_makes_accepts_raise(name, content_type):
    FORMATS[name].accepts(content_type, dialect(name))


def test_every_format_of_the_catalogue_has_its_row():
    assert set(FORMATS) == set(FormatName)
    for name, row in FORMATS.items():
        assert row.name is name
        assert row.accepts(row.media_type, dialect(name))
        assert row.accepts(row.asked(dialect(name)), dialect(name))


@pytest.mark.parametrize("name", FormatName)
@pytest.mark.parametrize("junk", [b"\xff\n", b'a\n"x"y\n', b"\0\n"])
def test_a_failed_stream_stays_failed_with_the_same_cause(name, junk):
    stream = decoder(dialect(name), ["a"])
    with pytest.raises(SourceRefused) as first:
        feed(stream, junk)
    good = GOOD[name]
    for step in (lambda: feed(stream, good), lambda: feed(stream, b""), lambda: ended(stream)):
        with pytest.raises(SourceRefused) as again:
            step()
        assert again.value.cause == first.value.cause


@pytest.mark.parametrize("name", FormatName)
def test_a_finished_stream_takes_nothing_more(name):
    stream = decoder(dialect(name), ["a"])
    feed(stream, GOOD[name])
    ended(stream)
    with pytest.raises(RuntimeError):
        feed(stream, b"a")
    with pytest.raises(RuntimeError):
        ended(stream)


@pytest.mark.parametrize("name", FormatName)
def test_a_stream_that_broke_in_a_way_nobody_foresaw_stays_broken(name, monkeypatch):
    stream = decoder(dialect(name), ["a"])

    class Panic(BaseException):
        """What polars raises where it panics is no Exception."""

    def panic(_):
        raise Panic

    monkeypatch.setattr(stream, "_cut", panic)
    with pytest.raises(Panic):
        feed(stream, b"a\n")
    monkeypatch.undo()
    with pytest.raises(SourceRefused) as failure:
        feed(stream, b"a\n")
    assert failure.value.cause == "decoder-failed"


@pytest.mark.parametrize("name", FormatName)
@given(document=st.binary(max_size=60))
def test_whatever_a_store_sends_is_read_or_refused_and_no_message_holds_it(name, document):
    outcome(dialect(name), [document], ["a"])  # which looks at the message


def test_the_table_of_causes_holds_the_causes_in_use_and_no_others():
    folder = Path(str(formats.__file__)).parent
    source = "".join(
        path.read_text() for path in folder.glob("*.py") if path.name != "__init__.py"
    ).replace(
        re.search(
            r"CAUSES: Final.*?^\)", (folder / "base.py").read_text(), re.MULTILINE | re.DOTALL
        )[0],
        "",
    )
    assert {cause for cause in CAUSES if f'"{cause}"' in source} == set(CAUSES)
    assert set(re.findall(r'refused\("([a-z0-9-]+)"\)', source)) <= set(CAUSES)


@pytest.mark.parametrize(
    "sequence",
    [
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\xff",
        b"\x80",
        b"\xf8\x88\x80\x80\x80",
    ],
)
@pytest.mark.parametrize("place", [0, 17, 40_000, 65_500])
def test_a_large_block_is_judged_as_a_small_one(sequence, place):
    """Malformed UTF-8 is found wherever it stands, and well-formed text never refused."""
    text = "aé€😀\n".encode() * 6_000
    while text[place] & 0xC0 == 0x80:
        place += 1
    assert is_utf8(text)
    assert is_utf8(text + text[:2], len(text))
    assert not is_utf8(text[:place] + sequence + text[place:])
    assert not is_utf8(sequence)
