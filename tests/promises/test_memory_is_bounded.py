"""PROMISE 4 (bounded memory): what the proxy holds does not grow with the report."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.process import Served
from tests.harness.proxy import Home
from tests.harness.store import Page, Store

HEAD = sales.as_csv([])
ROWS = sales.as_csv(sales.rows(16_000))[len(HEAD) :]
JSON_ROWS = sales.as_json(sales.rows(8_000))[1:-1]
LINES = JSON_ROWS.replace(b"},{", b"}\n{") + b"\n"
COUNTED = """\
reports:
  counted/daily:
    title: Daily sales, of large groups alone
    store: main
    variants:
      - {path: /counted/daily.csv, format: csv, source: /sales/daily.csv}
    fields:
      date: {type: date, class: public}
      store_id: {type: text, class: public}
      net_sales: {type: decimal, class: confidential}
"""
REPORTS = sales.REPORTS.replace("reports:\n", COUNTED, 1).replace(
    "      - {path: /sales/daily.csv, format: csv}\n",
    """\
      - {path: /sales/daily.csv, format: csv, also: [parquet]}
      - {path: /sales/lines.ndjson, format: ndjson, also: [csv]}
      - {path: /sales/stored.parquet, format: parquet, also: [arrow]}
      - {path: /sales/wide.csv, format: csv, charset: utf-16-le, also: [ndjson]}
""",
    1,
)
RULES = sales.RULES + (
    "p,  tool:app,     counted/*, act,  true, allow\n"
    "p,  role:analyst, counted/*, read, true, allow\n"
    "p2, role:analyst, counted/*, true, net_sales, suppress(100, by='date'|'store_id')\n"
)
SOURCES = {
    "/sales/daily.csv": ("text/csv", HEAD, ROWS, b"", b""),
    "/sales/daily.json": ("application/json", b"[", JSON_ROWS, b",", b"]"),
    "/sales/lines.ndjson": ("application/x-ndjson", b"", LINES, b"", b""),
    "/sales/wide.csv": (
        "text/csv",
        HEAD.decode().encode("utf-16-le"),
        ROWS[: len(ROWS) // 2].rpartition(b"\n")[0].decode().encode("utf-16-le") + b"\n\0",
        b"",
        b"",
    ),
}
"""Path -> media type, what stands before the rows, rows, what stands between such, and after all."""
TYPES = {"date": pa.date32(), "units": pa.int64(), "net_sales": pa.decimal128(18, 2)}


def text(source: str, times: int) -> Page:
    """The rows of a source, so many times."""
    kind, before, rows, between, after = SOURCES[source]

    async def body():
        yield before
        for n in range(times):
            yield (between if n else b"") + rows
        yield after

    return Page(body, content_type=kind)


def parquet(times: int) -> Page:
    """So many row groups."""
    read = pa.csv.read_csv(
        pa.BufferReader(HEAD + ROWS), convert_options=pa.csv.ConvertOptions(column_types=TYPES)
    )
    file = io.BytesIO()
    with pq.ParquetWriter(file, read.schema) as writer:
        for _ in range(times):
            writer.write_table(read)
    return Page(file.getvalue(), content_type="application/vnd.apache.parquet")


@pytest.fixture
def store():
    background = Background()
    store = Store(background)
    yield store
    store.close()
    background.close()


@pytest.fixture
def home(tmp_path, store):
    return Home(tmp_path / "home", reports=REPORTS, rules=RULES, store=store.url)


def peak(pid: int) -> float:
    """The process's peak resident memory in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("/sales/daily.csv", "/sales/daily.csv"),
        ("/sales/daily.csv", "/counted/daily.csv"),
        ("/sales/daily.json", "/sales/daily.json"),
        ("/sales/lines.ndjson", "/sales/lines.ndjson"),
        ("/sales/daily.csv", "/sales/daily.parquet"),
        ("/sales/stored.parquet", "/sales/stored.parquet"),
        ("/sales/stored.parquet", "/sales/stored.arrows"),
        pytest.param("/sales/lines.ndjson", "/sales/lines.csv", marks=pytest.mark.prove),
        pytest.param("/sales/wide.csv", "/sales/wide.ndjson", marks=pytest.mark.prove),
    ],
)
def test_the_peak_does_not_follow_the_size_of_the_report(home, store, source, target):
    """A report ten times as long needs no more memory, within a fixed allowance."""
    with Served(home) as proxy:
        token = home.issuer.token("alice", groups=("analysts",))
        peaks = []
        for factor in (16, 160):
            page = text(source, factor) if source in SOURCES else parquet(factor)
            store.pages[source] = page
            with proxy.explained():
                answer = proxy.get(target, token=token)
                assert answer.status == 200 and answer.whole
                peaks.append(peak(proxy.pid))
        # It is installed with the tests' readers, and pyarrow would load it.
        assert "/pandas/" not in Path(f"/proc/{proxy.pid}/maps").read_text()
    assert peaks[1] <= 300
    assert peaks[1] - peaks[0] <= 64


def test_arrow_has_no_allocator_of_its_own():
    """Two of them keep what the other has freed: some 40 MiB of a large Parquet report."""
    script = "import proxy.cli, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"system\n"


@pytest.mark.threat("B19")
def test_a_client_that_stops_reading_stops_the_store(home, store):
    """Back-pressure goes end to end: the store sends a bounded amount, then waits; the access is on record."""
    sent = 0

    async def body():
        nonlocal sent
        yield HEAD
        for _ in range(400):
            yield ROWS
            sent += len(ROWS)

    store.pages["/sales/daily.csv"] = Page(body)
    with Served(home) as proxy, proxy.explained():
        token = home.issuer.token("alice", groups=("analysts",))
        with wire.asked(proxy.url, "/sales/daily.csv", token=token) as sock:
            sock.recv(1000)
            before = -1
            while sent != before:
                before = sent
                time.sleep(1)
            assert sent < 200 * len(ROWS)
            assert proxy.get("/-/ready").status == 200
        for _ in range(100):
            records = [event for event in proxy.events() if event.report == "sales/daily"]
            if records and records[-1].step == "outcome":
                break
            time.sleep(0.1)
        assert records[0].step == "intent"
        assert records[-1].ended == "client-gone"
