"""Workbooks end to end, over real sockets: from a store of workbooks, and from others as workbooks."""

from __future__ import annotations

import asyncio
import csv
import io
import random

import openpyxl
import pytest

from proxy.formats.xlsx import XlsxDecoder
from tests.formats.workbooks import rich, saved, unzipped
from tests.harness.proxy import stage
from tests.harness.store import Page
from tests.promises.vault import (
    FIELDS,
    MINE,
    NEEDLES,
    NUMBERS,
    OPEN_RULES,
    REPORTS,
    disguise,
    visible,
    written,
)
from tests.promises.vault import hidden as hidden_row

SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
VARIANTS = """\
    variants:
      - {path: /vault/items.csv, format: csv, also: [xlsx], sheet: Items}
      - {path: /vault/book.xlsx, format: xlsx, also: [csv, json], sheet: Data}
      - {path: /vault/first.xlsx, format: xlsx}
      - {path: /vault/any, format: csv, also: [xlsx], source: /vault/items.csv}
"""
WORLD = (
    REPORTS[: REPORTS.index("    variants:")]
    + VARIANTS
    + REPORTS[REPORTS.index("    parameters:\n      id: {type: text, field: id}\n      name") :]
)
GIVEN = ["id", "store", "flag", "name", "card", "amount", "note", "gone", "fixed", "plate"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    settings = "limits: {sheet_cells: 200000, sheet_bytes: 30000000, sheet_ratio: 100}\n"
    folder = tmp_path_factory.mktemp("xlsx")
    with stage(folder, reports=WORLD, rules=OPEN_RULES, settings=settings) as at:
        yield at


def token(proxy):
    return proxy.issuer.token("sam", groups=("owners",), stores=list(MINE))


def table_of(document: bytes) -> list[list]:
    """The same document with numbers in the cells of numbers."""
    names, *rows = csv.reader(io.StringIO(document.decode(), newline=""))

    def cell(name, text):
        short = name in NUMBERS and text and len(text.replace(".", "")) <= 15
        return (float(text) if short else text) or None

    return [names, *([cell(n, t) for n, t in zip(names, row, strict=True)] for row in rows)]


def put(store, document: bytes, *, more: int = 1) -> bytes:
    """The store gives it as CSV, and as a workbook with everything else in it."""
    book = rich(table_of(document), "canary31337", more=more)
    store.pages["/vault/items.csv"] = Page(document)
    for path in ("/vault/book.xlsx", "/vault/first.xlsx"):
        store.pages[path] = Page(book, content_type=SHEET)
    return book


def cells(answer) -> list[list]:
    assert answer.status == 200 and answer.whole
    if answer.headers["content-type"] == SHEET:
        sheet = openpyxl.load_workbook(io.BytesIO(answer.body)).active
        rows = sheet.iter_rows(values_only=True)
        return [["" if cell is None else str(cell) for cell in row] for row in rows]
    return list(csv.reader(io.StringIO(answer.body.decode(), newline="")))


def alike(one: list[list], other: list[list]) -> bool:
    """Whether both have the same cells, numbers by their value."""

    def value(text):
        return float(text) if text.replace(".", "").isdigit() else text

    return [[*map(value, row)] for row in one] == [[*map(value, row)] for row in other]


def test_a_report_is_the_same_whatever_it_comes_from_and_whatever_it_is_given_as(world):
    store, proxy = world
    rows = [visible(n) if n % 3 else hidden_row(n) for n in range(120)]
    put(store, written(rows, "csv"))
    plain = cells(proxy.get("/vault/items.csv", token=token(proxy)))
    assert plain[0] == GIVEN and len(plain) == 81
    for path in ("/vault/items.xlsx", "/vault/book.csv", "/vault/book.xlsx", "/vault/first.xlsx"):
        assert alike(cells(proxy.get(path, token=token(proxy))), plain), path
    asked = proxy.get("/vault/any", token=token(proxy), headers={"Accept": SHEET})
    assert asked.headers["content-type"] == SHEET and alike(cells(asked), plain)
    assert (
        proxy.get("/vault/any", token=token(proxy)).headers["content-type"].startswith("text/csv")
    )
    sheet = openpyxl.load_workbook(
        io.BytesIO(proxy.get("/vault/items.xlsx", token=token(proxy)).body)
    ).active
    assert sheet.title == "Items" and isinstance(sheet["F2"].value, int | float)


@pytest.mark.parametrize("count", [4, 400])
def test_an_answer_is_equal_byte_for_byte_whatever_is_hidden(world, count):
    """PROMISE 1 (non-interference), raw and unzipped: other rows, cells, lengths, columns, other sheets,
    shared strings, styles, comments, names and docProps of any number and length.
    """
    store, proxy = world
    answers: dict[str, set] = {}
    sizes = set()
    for seed, foreigners in enumerate((0, count // 2, 3 * count)):
        document = disguise(count, "csv", seed, foreigners)
        sizes.add(len(put(store, document, more=seed + 1)))
        for path in (
            "/vault/book.xlsx",
            "/vault/items.xlsx",
            "/vault/book.csv",
            "/vault/first.xlsx",
        ):
            answer = proxy.get(path, token=token(proxy))
            assert answer.status == 200 and answer.whole
            answers.setdefault(path, set()).add(answer.seen())
            if path.endswith("xlsx"):
                for name, part in unzipped(answer.body).items():
                    assert not any(needle in part for needle in NEEDLES if needle != b"canary"), (
                        name
                    )
                    assert part.count(b"canary") == part.count(b"canary-note"), name
    assert len(sizes) == 3
    assert {path: len(seen) for path, seen in answers.items()} == dict.fromkeys(answers, 1)


def test_no_part_of_an_answer_holds_a_canary(world):
    """PROMISE 1: a workbook of a store's, full of canaries in every part, and nothing of it in ours."""
    store, proxy = world
    rows = [
        {**visible(n), "note": "plain", "flag": "open"} if n % 2 else hidden_row(n)
        for n in range(200)
    ]
    book = put(store, written(rows, "csv"))
    held = {name for name, part in unzipped(book).items() if b"canary" in part}
    assert {"docProps/core.xml", "xl/workbook.xml", "xl/styles.xml", "xl/sharedStrings.xml"} <= held
    answer = proxy.get("/vault/book.xlsx", token=token(proxy))
    assert len(cells(answer)) == 101
    parts = {"raw": answer.raw, **unzipped(answer.body)}
    for name, part in parts.items():
        assert not any(needle in part for needle in NEEDLES), name


def test_what_is_no_workbook_is_refused_and_recorded_with_its_cause(world):
    store, proxy = world
    book = put(store, written([visible(1)], "csv"))
    bomb = saved(openpyxl.Workbook())
    wide = openpyxl.Workbook()
    wide.active.title = "Data"
    wide.active["A1"], wide.active["XFD40000"] = "id", "canary"
    for body, cause in (
        (b"canary,31337\n", "package-malformed"),
        (book[:-40], "package-malformed"),
        (bomb, "sheet-missing"),
        (saved(wide), "sheet-too-large"),
    ):
        store.pages["/vault/book.xlsx"] = Page(body, content_type=SHEET)
        answer = proxy.get("/vault/book.xlsx", token=token(proxy))
        assert answer.status == 502
        assert not any(needle in answer.raw for needle in NEEDLES)
        assert proxy.events()[-1].cause == cause
    store.pages["/vault/book.xlsx"] = Page(book, content_type="application/octet-stream")
    assert proxy.get("/vault/book.xlsx", token=token(proxy)).status == 502


def test_a_text_that_no_cell_can_hold_ends_the_answer_only_where_it_is_given(world):
    store, proxy = world
    long = "x" * 40_000
    mine = {**visible(1), "flag": "open", "note": long}
    theirs = {**hidden_row(2), "note": long}
    put_csv = lambda rows: store.pages.update({"/vault/items.csv": Page(written(rows, "csv"))})  # noqa: E731
    put_csv([visible(1), theirs])
    assert proxy.get("/vault/items.xlsx", token=token(proxy)).status == 200
    put_csv([visible(1), mine])
    assert proxy.get("/vault/items.xlsx", token=token(proxy)).status == 502
    assert proxy.events()[-1].cause == "cell-too-long"
    assert proxy.get("/vault/items.csv", token=token(proxy)).status == 200


def test_a_long_answer_is_released_in_blocks(world):
    store, proxy = world
    chance = random.Random(5)
    rows = [
        {**visible(n), "flag": "open", "note": f"{chance.getrandbits(600):x}"} for n in range(5_000)
    ]
    put_csv = Page(written(rows, "csv", FIELDS))
    store.pages["/vault/items.csv"] = put_csv
    answer = proxy.get("/vault/items.xlsx", token=token(proxy))
    assert len(cells(answer)) == 5_001
    assert len(answer.body) > 1 << 19
    steps = [event.step for event in proxy.events() if event.access == answer.event]
    assert (steps[0], steps[-1]) == ("intent", "outcome")


def test_a_short_workbook_is_unpacked_where_nobody_waits_for_it(world, monkeypatch):
    """PROMISE 5: however few bytes it has, what comes out of it is no work for the event loop."""
    store, proxy = world
    put(store, written([visible(1)], "csv"))
    found, read = [], XlsxDecoder._finish

    def watched(decoder):
        found.append(asyncio._get_running_loop())
        yield from read(decoder)

    monkeypatch.setattr(XlsxDecoder, "_finish", watched)
    assert proxy.get("/vault/book.csv", token=token(proxy)).status == 200
    assert found == [None]
