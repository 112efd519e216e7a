"""Readers that nobody here wrote, over HTTP: with a bearer token, by HEAD and ranges where they do so."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.harness.proxy import stage
from tests.harness.store import Page

REPORTS = """\
stores: {main: {url: "{store}", loopback: true}}
reports:
  r/sales:
    title: Rows
    store: main
    variants:
      - {path: /sales.parquet, format: parquet, also: [csv, arrow, xlsx]}
      - {path: /plain.csv, format: csv, also: [parquet]}
    fields:
      store_id: {type: integer, class: public}
      city: {type: text, class: public}
      net_sales: {type: decimal, class: confidential, scale: 2}
      buyer: {type: text, class: personal}
"""
RULES = """\
p,  tool:app, r/*, act,  true, allow
p,  role:x,   r/*, read, true, allow
p2, role:x,   r/*, row.store_id in [1, 3], store_id|city, clear
p2, role:x,   r/*, row.store_id in [1, 3], net_sales, round(10)
g,  group:x,  role:x
"""
ROWS = 50_000
STORED = pa.table(
    {
        "store_id": pa.array([n % 5 for n in range(ROWS)], pa.int16()),
        "city": pa.array([("Oslo", "Ålesund", None)[n % 3] for n in range(ROWS)]),
        "net_sales": pa.array([n + 0.25 for n in range(ROWS)], pa.float64()),
        "buyer": pa.array([f"canary-{n}@example.com" for n in range(ROWS)]),
    }
)
SEEN = sum(1 for n in range(ROWS) if n % 5 in (1, 3))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readers")
    with stage(folder, reports=REPORTS, rules=RULES) as (store, proxy):
        out = io.BytesIO()
        pq.write_table(STORED, out, row_group_size=7_000)
        store.pages["/sales.parquet"] = Page(
            out.getvalue(), content_type="application/vnd.apache.parquet"
        )
        store.pages["/plain.csv"] = Page(STORED.to_pandas().to_csv(index=False).encode())
        yield store, proxy, proxy.issuer.token("alice", groups=("x",))


def httpfs() -> str:
    """The file of DuckDB's own reader over HTTP."""
    (place,) = importlib.util.find_spec("duckdb_extension_httpfs").submodule_search_locations
    (file,) = Path(place).rglob("httpfs.duckdb_extension")
    return str(file)


@pytest.mark.parametrize("path", ["/sales.parquet", "/plain.parquet"])
def test_duckdb_reads_in_place_with_a_bearer_token(world, path):
    """By HEAD and ranges, each decided and on record; what is hidden is nowhere in what it reads."""
    _, proxy, token = world
    before = len(proxy.events())
    with duckdb.connect() as connection:
        connection.execute(f"LOAD '{httpfs()}'")
        connection.execute(f"CREATE SECRET (TYPE http, BEARER_TOKEN '{token}')")
        source = f"read_parquet('{proxy.url}{path}')"
        count, total = connection.sql(f"SELECT count(*), sum(store_id) FROM {source}").fetchone()
        names = [name for name, *_ in connection.sql(f"DESCRIBE SELECT * FROM {source}").fetchall()]
        (least,) = connection.sql(
            f"SELECT min(net_sales) FROM {source} WHERE city = 'Ålesund' AND store_id = 3"
        ).fetchone()
    assert (count, total) == (SEEN, 2 * SEEN)
    assert names == ["store_id", "city", "net_sales"]
    assert least == 10
    events = proxy.events()[before:]
    assert {event.method for event in events} >= {"HEAD", "GET"}
    assert any(event.span for event in events)
    assert all(event.decision == "permit" for event in events)


def test_polars_reads_what_it_is_given(world):
    """From what was fetched: its scans over HTTP take no header (polars issue 17197)."""
    _, proxy, token = world
    frame = pl.scan_parquet(io.BytesIO(proxy.get("/sales.parquet", token=token).body))
    found = frame.filter(pl.col("store_id") == 1).select(pl.len()).collect()
    assert found.item() == SEEN // 2
    stream = pl.read_ipc_stream(io.BytesIO(proxy.get("/sales.arrows", token=token).body))
    assert stream.equals(frame.collect())


def test_pandas_reads_every_format_with_a_bearer_token(world):
    """Each as a whole; the same values in all of them."""
    _, proxy, token = world
    options = {"Authorization": f"Bearer {token}"}
    url = f"{proxy.url}/sales"
    frames = [
        pd.read_parquet(f"{url}.parquet", storage_options=options),
        pd.read_csv(f"{url}.csv", storage_options=options),
        pd.read_excel(f"{url}.xlsx", storage_options=options, engine="calamine"),
    ]
    for frame in frames:
        assert list(frame.columns) == ["store_id", "city", "net_sales"]
        assert len(frame) == SEEN
        assert frame.net_sales.astype(float).sum() == frames[0].net_sales.sum()
        assert frame.city.isna().sum() == frames[0].city.isna().sum()


def test_pyarrow_reads_what_it_is_given(world):
    """Columns that are clear have the store's own types."""
    _, proxy, token = world
    body = proxy.get("/sales.parquet", token=token).body
    found = pq.read_table(io.BytesIO(body))
    assert found.schema.field("store_id").type == pa.int16()
    assert found.schema.field("city").type == pa.string()
    assert found.num_rows == SEEN
    assert b"canary" not in body
    stream = proxy.get("/sales.arrows", token=token).body
    assert (
        pa.ipc.open_stream(stream).read_all().column("city").to_pylist()
        == found.column("city").to_pylist()
    )
