"""Packages that are not what they say: bombs, lies, doubles, ciphers, other kinds of documents."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.formats import Limits
from proxy.report import FormatName
from tests.formats.documents import dialect, outcome
from tests.formats.workbooks import SHEET, by_hand, plain, repacked, unzipped

XLSX = dialect(FormatName.XLSX)
GOOD = plain([["a"], ["1"]])


def central(document: bytes, name: str) -> int:
    """Where the central directory's entry of a part begins."""
    at = document.rindex(name.encode()) - 46
    assert document[at : at + 4] == b"PK\1\2"
    return at


def patched(document: bytes, at: int, form: str, value: int) -> bytes:
    return document[:at] + struct.pack(form, value) + document[at + struct.calcsize(form) :]


def local(document: bytes, name: str) -> int:
    return struct.unpack_from("<I", document, central(document, name) + 42)[0]


def change(part: str, new: bytes):
    return lambda name, old: new if name == part else old


def twice() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return repacked(GOOD, more={SHEET.upper(): b"<worksheet/>"})


def macros() -> bytes:
    return repacked(
        GOOD,
        lambda name, part: (
            part.replace(b"spreadsheetml.sheet.main+xml", b"ms-excel.sheet.macroEnabled.main+xml")
            if name == "[Content_Types].xml"
            else part
        ),
        more={"xl/vbaProject.bin": b"\xd0\xcf\x11\xe0"},
    )


CASES = {
    "no package": (b"a,b\n1,2\n", "package-malformed"),
    "nothing": (b"", "package-malformed"),
    "an empty package": (b"PK\5\6" + bytes(18), "package-malformed"),
    "the binary format": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "package-encrypted"),
    "an encrypted part": (patched(GOOD, central(GOOD, SHEET) + 8, "<H", 1), "package-encrypted"),
    "one encrypted by its local header": (
        patched(GOOD, local(GOOD, SHEET) + 6, "<H", 1), "package-malformed"),
    "another method": (repacked(GOOD, method=zipfile.ZIP_BZIP2), "package-method"),
    "a size that is too small": (
        patched(GOOD, central(GOOD, SHEET) + 24, "<I", 10), "package-malformed"),
    "a size that is too large": (
        patched(GOOD, central(GOOD, SHEET) + 24, "<I", 9_999), "package-malformed"),
    "a wrong check": (patched(GOOD, central(GOOD, SHEET) + 16, "<I", 1), "package-malformed"),
    "a part elsewhere": (patched(GOOD, central(GOOD, SHEET) + 42, "<I", 1), "package-malformed"),
    "a part that is too long": (
        patched(GOOD, central(GOOD, SHEET) + 20, "<I", 1 << 20), "package-malformed"),
    "two parts of one name": (twice(), "package-part-twice"),
    "very many parts": (
        repacked(GOOD, more={f"x{n}": b"" for n in range(5_000)}), "package-too-many-parts"),
    "macros": (macros(), "workbook-kind"),
    "another package": (repacked(GOOD, lambda *_: None, more={"a.txt": b"a"}), "package-malformed"),
    "no workbook": (repacked(GOOD, lambda n, p: None if n == "xl/workbook.xml" else p), "package-malformed"),
    "no sheet": (repacked(GOOD, lambda n, p: None if n == SHEET else p), "package-malformed"),
    "a workbook that is no XML": (repacked(GOOD, change("xl/workbook.xml", b"<a")), "workbook-malformed"),
    "a workbook of another kind": (repacked(GOOD, change("xl/workbook.xml", b"<a/>")), "sheet-missing"),
    "a sheet that is no XML": (repacked(GOOD, change(SHEET, b"<a")), "sheet-malformed"),
    "a sheet in UTF-16": (
        repacked(GOOD, change(SHEET, unzipped(GOOD)[SHEET].decode().encode("utf-16"))), "sheet-malformed"),
    "a sheet that ends in its rows": (
        repacked(GOOD, change(SHEET, b"<worksheet><sheetData><row/></worksheet>")), "sheet-malformed"),
    "a sheet without rows": (repacked(GOOD, change(SHEET, b"<worksheet/>")), "sheet-malformed"),
    "styles that are no XML": (repacked(GOOD, change("xl/styles.xml", b"\0")), "sheet-malformed"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_package_that_is_not_what_it_says_is_refused(case):
    document, cause = CASES[case]
    assert outcome(XLSX, [document], ["a"]) == cause


@pytest.mark.parametrize("size", [2 << 20, 60 << 20, 100 << 20])
def test_a_bomb_is_not_unpacked(size):
    """PROMISE 4: what it would take is never taken, whether it declares its size or not."""
    zeros = io.BytesIO()
    with (
        zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as package,
        zipfile.ZipFile(io.BytesIO(GOOD)) as good,
    ):
        for name in good.namelist():
            if name != SHEET:
                package.writestr(name, good.read(name))
        with package.open(SHEET, "w") as part:
            for _ in range(size >> 20):
                part.write(bytes(1 << 20))
    bomb = zeros.getvalue()
    modest = patched(bomb, central(bomb, SHEET) + 24, "<I", 1 << 19)
    tracemalloc.start()
    try:
        assert outcome(XLSX, [bomb], ["a"]) in ("package-ratio", "sheet-too-large")
        # Where the size is a lie it is the XML that is none, or that it goes on.
        assert outcome(XLSX, [modest], ["a"]) in ("package-malformed", "sheet-malformed")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_what_is_not_read_is_not_counted_and_does_not_matter():
    """Pictures, other sheets and whatever else may be of any size, and junk."""
    more = {"xl/media/image1.png": bytes(3 << 20), "xl/worksheets/sheet9.xml": b"<junk"}
    made = repacked(GOOD, more=more)
    assert outcome(XLSX, [made], ["a"], limits=Limits(sheet_bytes=1 << 16)) == [("1",)]


@pytest.mark.parametrize(
    "target", ["../../etc/passwd", "/etc/passwd", "http://x/y", "", "#", "sheet1.xml"]
)
def test_a_part_is_looked_for_in_the_package_alone(target):
    rels = "xl/_rels/workbook.xml.rels"
    made = repacked(
        GOOD, change(rels, unzipped(GOOD)[rels].replace(b"/xl/worksheets/sheet1.xml", target.encode()))
    )  # fmt: skip
    assert outcome(XLSX, [made], ["a"]) == "package-malformed"
    away = unzipped(GOOD)[rels].replace(b"<Relationship ", b'<Relationship TargetMode="External" ')
    assert outcome(XLSX, [repacked(GOOD, change(rels, away))], ["a"]) == "sheet-missing"


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_workbook_is_read_or_refused_with_a_cause(data):
    """Any byte may be another one."""
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(GOOD) - 1))] = data.draw(st.integers(0, 255))
    outcome(XLSX, [bytes(damaged)], ["a"])


ROWS = st.lists(
    st.sampled_from(
        ["<row>", "</row>", '<row r="2"/>', '<c r="A1">', "<c>", "</c>", "<v>1</v>", "<v>", "</v>",
         '<c t="e">', "<f>1</f>", '<c t="inlineStr"><is><t>a</t></is></c>', "<c/>", '<c r="C7" t="s">', "x", "&amp;"]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@settings(max_examples=60)
@given(ROWS)
def test_any_xml_in_place_of_the_rows_is_read_or_refused_with_a_cause(rows):
    head = '<row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c></row>'
    outcome(XLSX, [by_hand(head + rows)], ["a"])
