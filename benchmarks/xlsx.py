"""A workbook of 20,000 rows read, masked and written, against openpyxl at the same work in the same run.

Both get the workbook's bytes and give the bytes of another one: all rows, some fields as they are, amounts
rounded, names as pseudonyms, a number's last two digits, no address. openpyxl has its own fast modes,
`read_only` and `write_only`, and treats each distinct name once.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import openpyxl

from benchmarks.figures import Figure, interleaved, ratio
from benchmarks.stage import REPORTS, RULES
from proxy import transform
from proxy.catalogue import Catalogue
from proxy.demo.sales import Sales
from proxy.formats import FORMATS
from proxy.formats.base import Limits, Reading
from proxy.keys import Keyring
from proxy.plan import Context, Permit
from proxy.policy.decide import decide
from proxy.policy.rules import MODEL
from proxy.policy.source import load
from proxy.report import Dialect, FormatName
from proxy.spool import Spools
from proxy.subject import AttributeType, Subject
from proxy.values import Type

ROUNDS = 3
ROWS = 20_000
XLSX = Dialect(format=FormatName.XLSX)
NAME, LICENCE, SALES, MARGIN = 2, 3, 10, 11


def workbook() -> bytes:
    """The sample sales, with days and numbers for what they are."""
    names, *rows = csv.reader(io.StringIO(Sales(rows=ROWS).store_daily_csv().body.decode()))
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Sales")
    sheet.append(names)
    for row in rows:
        cells: list[Any] = list(row)
        cells[0] = date.fromisoformat(row[0])
        cells[9:12] = int(row[9]), float(row[10]), float(row[11])
        sheet.append(cells)
    return _saved(book)


def _saved(book: openpyxl.Workbook) -> bytes:
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def ours() -> Callable[[bytes], bytes]:
    """The stages of an answer, as the gateway has them."""
    text = REPORTS.replace("{store}", "http://127.0.0.1:1").replace("csv", "xlsx")
    text = text.replace('credential: "env:BENCH_STORE_TOKEN"', "credential: null")
    catalogue = Catalogue.load(text.encode(), file="reports.yaml", environment={}, folder=None)
    decided = load(
        {"model.conf": MODEL.encode(), "policy.csv": RULES.encode()},
        reports=catalogue.reports, classes=catalogue.classes, purposes=catalogue.purposes,
        attributes={"stores": AttributeType(type=Type.TEXT, many=True)}, version="0" * 64,
    )  # fmt: skip
    report = catalogue.reports["sales/store-daily"]
    now = datetime(2026, 11, 28, tzinfo=UTC)
    subject = Subject(
        user="user:alice", groups=("group:analysts",), tool="tool:app", attributes={},
        expires=now.timestamp() + 600,
    )  # fmt: skip
    context = Context(
        attributes={}, now=now, date=now.date(), ip="127.0.0.1", purpose="", tool="app",
        action="read", method="GET",
    )  # fmt: skip
    decision = decide(decided, subject=subject, report=report, context=context)
    assert isinstance(decision, Permit), decision
    plan, keyring, format_ = decision.plan, Keyring.generate(), FORMATS[FormatName.XLSX]

    def work(document: bytes) -> bytes:
        bound = transform.bind(plan, context=context, subject=subject.name, keyring=keyring)
        encoder = format_.encoder(bound.columns, XLSX)
        spools = Spools(most=1 << 28, most_each=1 << 28)
        decoder = format_.decoder(
            Reading(
                report=report, dialect=XLSX, reads=plan.reads, limits=Limits(), spools=spools
            )
        )  # fmt: skip
        decoder.cut(document)
        parts = [
            encoder.join(encoder.encode(bound.apply(batch).batch))
            for step in decoder.finish()
            for batch in step()
        ]
        return b"".join([*parts, encoder.finish()])

    return work


def theirs(document: bytes) -> bytes:
    """The same by openpyxl, row by row."""

    @cache
    def pseudonym(name: str) -> str:
        return hmac.new(b"key", name.encode(), hashlib.sha256).hexdigest()[:26]

    source = openpyxl.load_workbook(io.BytesIO(document), read_only=True)
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("report")
    rows = source.active.iter_rows(values_only=True)
    sheet.append(next(rows))
    for row in rows:
        cells = list(row)
        cells[NAME] = pseudonym(cells[NAME])
        cells[LICENCE] = "*" * (len(cells[LICENCE]) - 2) + cells[LICENCE][-2:]
        cells[SALES] = round(cells[SALES] / 100) * 100
        cells[MARGIN] = round(cells[MARGIN] / 100) * 100
        cells[-1] = None
        sheet.append(cells)
    return _saved(book)


def run() -> Iterator[Figure]:
    """Rows a second of both, and how many times faster."""
    document = workbook()
    work = ours()
    assert _height(work(document)) == _height(theirs(document)) == ROWS + 1

    def rate(of: Callable[[bytes], bytes]) -> Callable[[], float]:
        def timed() -> float:
            start = time.perf_counter()
            of(document)
            return ROWS / (time.perf_counter() - start)

        return timed

    measured = interleaved({"xlsx": rate(work), "xlsx-openpyxl": rate(theirs)}, rounds=ROUNDS)
    for name, rates in measured.items():
        yield Figure(name=name, value=statistics.median(rates), unit="rows/s")
    times = ratio(measured["xlsx"], measured["xlsx-openpyxl"])
    yield Figure(name="xlsx-ratio", value=times, unit="×", bar=3)


def _height(document: bytes) -> int:
    sheet = openpyxl.load_workbook(io.BytesIO(document), read_only=True).active
    return sum(1 for _ in sheet.iter_rows(values_only=True))
