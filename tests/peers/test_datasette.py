"""The same story in front of Datasette: streamed CSV and JSON from a real database behind a real server."""

from __future__ import annotations

import csv
import io
import json
import shutil
import socket
import sqlite3
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import sales
from tests.harness.background import Background
from tests.harness.proxy import Home, running

DATASETTE = shutil.which("datasette")
REPORTS = """\
stores:
  warehouse: {url: "{store}", loopback: true}
reports:
  sales/daily:
    title: Daily sales
    store: warehouse
    key: [date, store_id]
    variants:
      - {path: /sales/daily.csv, format: csv, source: /sales/stream.csv}
      - {path: /sales/daily.json, format: json, source: /sales/daily-rows.json}
      - {path: /sales/wrapped.json, format: json, source: /sales/daily.json, rows_at: [rows]}
    fields:
      date: {type: date, class: public}
      store_id: {type: text, class: public}
      region: {type: text, class: public}
      units: {type: integer, class: internal}
      net_sales: {type: decimal, class: confidential}
      buyer_email: {type: text, class: personal}
"""

pytestmark = pytest.mark.skipif(DATASETTE is None, reason="Datasette is not installed: make peers")


@contextmanager
def datasette(folder: Path, rows: list[tuple[str, ...]]):
    """Datasette serving `rows` as sales/daily on loopback."""
    folder.mkdir()
    with sqlite3.connect(folder / "sales.db") as database:
        database.execute(
            "CREATE TABLE daily (date TEXT, store_id TEXT, region TEXT, units INTEGER,"
            " net_sales NUMERIC, buyer_email TEXT)"
        )
        database.executemany("INSERT INTO daily VALUES (?, ?, ?, ?, ?, ?)", rows)
    database.close()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    assert DATASETTE is not None
    process = subprocess.Popen(
        [DATASETTE, "serve", str(folder / "sales.db"), "-h", "127.0.0.1", "-p", str(port),
         "--setting", "max_csv_mb", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(400):
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def background():
    background = Background()
    yield background
    background.close()


def test_streamed_csv_and_json_behind_datasette(tmp_path, background):
    """Datasette's streaming CSV, its JSON array and its JSON envelope: rows and forms by policy."""
    # Datasette writes a NUMERIC as SQLite keeps it: 1000.00 is 1000.
    rows = [(d, s, r, u, f"{float(n):g}", e) for d, s, r, u, n, e in sales.rows(3000)]
    reports = (
        REPORTS.replace("/sales/stream.csv", '"/sales/daily.csv?_stream=on"')
        .replace("/sales/daily-rows.json", '"/sales/daily.json?_shape=array&_size=1000"')
        .replace(
            "source: /sales/daily.json,", 'source: "/sales/daily.json?_shape=objects&_size=1000",'
        )
    )
    with datasette(tmp_path / "datasette", rows) as url:
        home = Home(tmp_path / "home", reports=reports, rules=sales.RULES.replace(
            "p,  role:analyst, sales/audited, read, env.purpose in ['audit'], allow\n", ""
        ), store=url)  # fmt: skip
        with running(home, background) as proxy:
            alice = proxy.issuer.token("alice", groups=("analysts",))
            sam = proxy.issuer.token("sam", groups=("owners",), stores=["3"])
            answer = proxy.get("/sales/daily.csv", token=alice)
            assert answer.status == 200 and answer.whole and b"canary" not in answer.body
            assert len(answer.body.splitlines()) == 3001
            answer = proxy.get("/sales/daily.csv", token=sam)
            seen = list(csv.reader(io.StringIO(answer.body.decode())))
            assert seen[1:] == [list(row[:-1]) for row in rows if row[1] == "3"]

            answer = proxy.get("/sales/daily.json", token=sam)
            assert answer.status == 200
            mine = [row for row in rows[:1000] if row[1] == "3"]
            assert [r["net_sales"] for r in json.loads(answer.body)] == [float(m[4]) for m in mine]
            answer = proxy.get("/sales/wrapped.json", token=alice)
            assert answer.status == 200 and b"canary" not in answer.body
            document = json.loads(answer.body)
            assert list(document) == ["rows"] and len(document["rows"]) == 1000
            assert {row["net_sales"] for row in document["rows"]} == {
                1000, 1100, 1200, 1300, 1400, 1500, 1600, 1700, 1800, 1900, 2000
            }  # fmt: skip
