"""The decoder of workbooks on packages that went wrong: read or refused with a cause, in bounded memory.

`make prove ARGS='tests/fuzz/test_xlsx.py -s'` prints how many there were, and what became of them.
"""

from __future__ import annotations

import random
import time
import zlib
from collections import Counter

import pytest

from proxy.formats import Limits
from proxy.report import FormatName
from tests.formats.documents import dialect, outcome
from tests.formats.workbooks import (
    SHEET,
    by_hand,
    plain,
    repacked,
    rich,
    shared,
    strict,
    unzipped,
)

XLSX = dialect(FormatName.XLSX)
SECONDS = 60
LIMITS = Limits(sheet_bytes=1 << 20, sheet_cells=10_000, record_bytes=1 << 16)
TABLE = [["a", "b"], ["x", 1], ["é", 2.5], [None, True], ["=1", None]]
SEEDS = [
    plain(TABLE), rich(TABLE, "canary"), strict(plain(TABLE)), shared(plain(TABLE)),
    by_hand('<row r="1"><c r="A1" t="str"><v>a</v></c></row><row><c t="e"><v>#N/A</v></c><c s="2"><v>45000.5</v></c></row>'),
]  # fmt: skip
WORDS = [
    b"<", b">", b"/", b'"', b"'", b"&", b"&#x30;", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?x?>", b"<!DOCTYPE a>",
    b"<row>", b"</row>", b"<row/>", b'<c r="XFD1048576">', b'<c r="A0">', b"<c>", b"</c>", b'<c t="s"><v>99</v></c>',
    b't="e"', b't="d"', b't="b"', b's="4294967296"', b"<v>", b"</v>", b"<v>1e999</v>", b"<v>-1</v>", b"<f>", b"</f>",
    b"</sheetData>", b"<sheetData>", b'r="-1"', b'r="99999999999999999999"', b"\0", b"\xff\xfe", b"nan", b"1048577",
    b"../", b"http://x", b"rId1", b"rId2", b'date1904="1"', b"hidden", b'<numFmt numFmtId="14" formatCode="&quot;"/>',
]  # fmt: skip
WHOLE = [
    b"<row/>", b'<row r="3"/>', b'<row r="0"/>', b'<row r="1048577"/>', b'<c r="B7"><v>1</v></c>', b"<c/>", b"<v>1e999</v>",
    b'<c t="s"><v>0</v></c>', b'<c t="s"><v>99</v></c>', b'<c t="e"><v>#REF!</v></c>', b'<c t="d"><v>2024-02-30</v></c>',
    b'<c s="7"><v>-1.5</v></c>', b'<c r="XFD1048576"/>', b'<c r="XFD1048576"><v>1</v></c>', b"<f>1</f>", b"x", b"&lt;",
    b'<c t="inlineStr"><is><t>_xD800_</t></is></c>', b'<c s="1"><v>2958466</v></c>', b'<c s="2"><v>1e308</v></c>',
    b"<is><r><t>a</t></r></is>", b'<c t="n" cm="1"><v>1</v><v>2</v></c>', b"<sheetData/>", b'<mergeCell ref="A1:B9"/>',
]  # fmt: skip
"""What may stand between tags, so that the document stays XML."""


def mutated(document: bytes, chance: random.Random) -> bytes:
    """A few bytes or words otherwise: of the package, or of the parts within it."""

    def damaged(part: bytes) -> bytes:
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(part) + 1)
            upto = at + chance.choice([0, 0, 1, chance.randint(0, 40)])
            new = chance.choice([*WORDS, bytes([chance.randrange(256)]), part[at : at + 60]])
            part = part[:at] + new + part[upto:]
        return part

    def filled(part: bytes) -> bytes:
        pieces = part.split(b">")
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(1, len(pieces))
            pieces[at] = chance.choice(WHOLE) + pieces[at]
        return b">".join(pieces)

    if chance.random() < 0.2:
        return damaged(document)
    if chance.random() < 0.6:
        return repacked(document, lambda name, part: filled(part) if name == SHEET else part)
    names = [n for n in unzipped(document) if n.startswith(("xl/w", "xl/s", "xl/_", "_rels", "["))]
    chosen = {chance.choice([*names, SHEET]) for _ in range(chance.randint(1, 2))}
    return repacked(document, lambda name, part: damaged(part) if name in chosen else part)


@pytest.mark.prove
def test_any_damaged_workbook_is_read_or_refused_with_a_cause():
    chance = random.Random(zlib.crc32(b"xlsx"))
    found: Counter[str] = Counter()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        document = mutated(chance.choice(SEEDS), chance)
        became = outcome(XLSX, [document], ["a"], limits=LIMITS)
        found[became if isinstance(became, str) else "read"] += 1
    print(f"\n{sum(found.values())} workbooks in {SECONDS} s: {dict(found.most_common())}")
    assert found["read"] and len(found) > 6
