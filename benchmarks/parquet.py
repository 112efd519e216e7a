"""Parquet through the proxy against pandas that reads, masks and writes; and the peak of its memory."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.drain import drain
from benchmarks.figures import Figure, interleaved, ratio
from benchmarks.stage import ROLES, start
from tests.harness.proxy import Home

ROUNDS = 5
GROUP = 250_000
"""Rows of a row group of the store's."""
STORES = 1_330
OWNED = [f"store-{n}" for n in range(0, STORES, 10)]
REPORTS = """\
stores:
  files: {url: "{store}", loopback: true}
reports:
  sales/items:
    title: Items
    store: files
    variants:
      - {path: /files/items.parquet, format: parquet}
    fields:
      store_id: {type: text, class: public}
      sku: {type: text, class: public}
      day: {type: date, class: public}
      units: {type: integer, class: internal}
      net_sales: {type: decimal, class: confidential}
      margin: {type: decimal, class: confidential}
      buyer: {type: text, class: personal}
"""
RULES = f"""\
{ROLES}\
p2, role:owner,   sales/*, row.store_id in sub.stores, @public|units|net_sales|margin, clear
p2, role:analyst, sales/*, true, @public|units, clear
p2, role:analyst, sales/*, true, net_sales, round(100)
"""
ITEMS = "/files/items.parquet"


def make(path: Path, *, groups: int) -> int:
    """Write a file of so many row groups; gives its bytes."""
    chance = np.random.default_rng(7)
    stores = pa.array([f"store-{n}" for n in range(STORES)])
    writer = None
    for _ in range(groups):
        cents = chance.integers(0, 10**7, GROUP)
        text = pa.py_buffer(chance.integers(97, 123, GROUP * 24, dtype=np.uint8).tobytes())
        offsets = pa.py_buffer(np.arange(0, GROUP * 24 + 1, 24, dtype=np.int32).tobytes())
        table = pa.table(
            {
                "store_id": stores.take(pa.array(chance.integers(0, STORES, GROUP))),
                "sku": pa.array([f"sku-{n}" for n in range(5_000)]).take(
                    pa.array(chance.integers(0, 5_000, GROUP))
                ),
                "day": pa.array(chance.integers(20_000, 20_400, GROUP, dtype=np.int32)).view(
                    pa.date32()
                ),
                "units": chance.integers(0, 1_000, GROUP),
                "net_sales": pa.array(cents).cast(pa.decimal128(19, 0)).cast(pa.decimal128(21, 2)),
                "margin": chance.random(GROUP),
                "buyer": pa.Array.from_buffers(pa.string(), GROUP, [None, offsets, text]),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=GROUP)
    assert writer is not None
    writer.close()
    return path.stat().st_size


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where things listen, the tokens, Counterfoil's process id, the file and its size."""

    store: str
    proxy: str
    pid: int
    owner: str
    analyst: str
    file: Path
    size: int


@contextmanager
def stage(*, groups: int) -> Iterator[Stage]:
    """A store with one file, and Counterfoil in front of it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="counterfoil-bench-")))
        file = folder / "items.parquet"
        size = make(file, groups=groups)
        store, _ = start(
            stack, [sys.executable, "-m", "benchmarks.files", str(folder)], "file store"
        )
        home = Home(folder / "home", reports=REPORTS, rules=RULES, store=store)
        proxy, pid = start(
            stack,
            [sys.executable, "-m", "proxy", "serve", "-c", str(home.settings)],
            "counterfoil listens",
        )
        yield Stage(
            store=store,
            proxy=proxy,
            pid=pid,
            owner=home.issuer.token("sam", groups=("owners",), stores=OWNED, lifetime=7200),
            analyst=home.issuer.token("alice", groups=("analysts",), lifetime=7200),
            file=file,
            size=size,
        )


def filtered(file: Path) -> float:
    """The owner's view by pandas: seconds."""
    started = time.perf_counter()
    frame = pd.read_parquet(file)
    frame = frame[frame["store_id"].isin(OWNED)].drop(columns="buyer")
    frame.to_parquet(file.with_suffix(".pandas"))
    return time.perf_counter() - started


def masked(file: Path) -> float:
    """The analyst's view by pandas: seconds."""
    started = time.perf_counter()
    frame = pd.read_parquet(file).drop(columns=["margin", "buyer"])
    hundreds = (frame["net_sales"].astype(float) / 100).round()
    frame["net_sales"] = hundreds * 100
    frame.to_parquet(file.with_suffix(".pandas"))
    return time.perf_counter() - started


def run() -> Iterator[Figure]:
    """A tenth of the rows, and all rows masked: end to end over HTTP, while pandas has the file at hand."""
    with stage(groups=8) as at:
        megabytes = at.size / 1e6

        def ours(token: str) -> Callable[[], float]:
            return lambda: megabytes / drain(at.proxy, ITEMS, token)[0]

        ours(at.owner)(), filtered(at.file)
        measured = interleaved(
            {
                "store": lambda: megabytes / drain(at.store, ITEMS)[0],
                "filtered": ours(at.owner),
                "pandas-filtered": lambda: megabytes / filtered(at.file),
                "masked": ours(at.analyst),
                "pandas-masked": lambda: megabytes / masked(at.file),
            },
            rounds=ROUNDS,
        )
    for name, rates in measured.items():
        yield Figure(name=f"parquet-{name}", value=statistics.median(rates), unit="MB/s")
    for name, bar in (("filtered", 2), ("masked", None)):
        value = ratio(measured[name], measured[f"pandas-{name}"])
        yield Figure(name=f"parquet-{name}-against-pandas", value=value, unit="×", bar=bar)
