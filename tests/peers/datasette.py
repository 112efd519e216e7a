"""Datasette: streamed CSV and JSON from a real database, by a server that no one here wrote."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import contextmanager
from pathlib import Path

from tests.harness import sales
from tests.peers.running import free_port, serving

DATASETTE = shutil.which("datasette")
MISSING = None if DATASETTE else "Datasette is not installed: make peers"
REPORTS = """\
stores:
  warehouse: {url: "{store}", loopback: true}
reports:
  sales/daily:
    title: Daily sales
    store: warehouse
    key: [date, store_id]
    variants:
      - {path: /sales/daily.csv, format: csv, source: "/sales/daily.csv?_stream=on"}
      - {path: /sales/daily.json, format: json, source: "/sales/daily.json?_shape=array&_size=1000"}
      - {path: /sales/wrapped.json, format: json, source: "/sales/daily.json?_shape=objects&_size=1000", rows_at: [rows]}
    fields:
      date: {type: date, class: public}
      store_id: {type: text, class: public}
      region: {type: text, class: public}
      units: {type: integer, class: internal}
      net_sales: {type: decimal, class: confidential}
      buyer_email: {type: text, class: personal}
"""


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
    port = free_port()
    assert DATASETTE is not None
    words = [
        DATASETTE, "serve", str(folder / "sales.db"), "-h", "127.0.0.1", "-p", str(port),
        "--setting", "max_csv_mb", "0",
    ]  # fmt: skip
    with serving(words, port) as url:
        yield url


@contextmanager
def peer(folder: Path):
    """Its address, the catalogue, and the rows that it gives on each path."""
    # Datasette writes a NUMERIC as SQLite keeps it: 1000.00 is 1000.
    rows = [(d, s, r, u, f"{float(n):g}", e) for d, s, r, u, n, e in sales.rows(3000)]
    page = rows[:1000]
    with datasette(folder, rows) as url:
        yield (
            url,
            REPORTS,
            {
                "/sales/daily.csv": rows,
                "/sales/daily.json": page,
                "/sales/wrapped.json": page,
            },
        )
