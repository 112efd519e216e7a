"""The three processes of an end-to-end measurement: the sample store, a passthrough, Counterfoil."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness.proxy import Home

TOKEN = "benchmark"
REPORTS = """\
stores:
  bench: {url: "{store}", loopback: true, credential: "env:BENCH_STORE_TOKEN"}
reports:
  sales/store-daily:
    title: Daily sales by store
    store: bench
    key: [date, store_id, sku]
    variants:
      - {path: /sales/store-daily.csv, format: csv}
      - {path: /sales/store-daily.json, format: json}
      - {path: /sales/store-daily.ndjson, format: ndjson}
    parameters:
      from: {type: date, field: date, operator: ge}
      to: {type: date, field: date, operator: le}
      store_id: {type: text, field: store_id}
    fields:
      date: {type: date, class: public}
      store_id: {type: text, class: public}
      store_name: {type: text, class: internal}
      licence_no: {type: text, class: confidential}
      city: {type: text, class: public}
      postal_code: {type: text, class: public}
      sku: {type: text, class: public}
      product_name: {type: text, class: public}
      producer: {type: text, class: public}
      units: {type: integer, class: internal}
      net_sales: {type: decimal, class: confidential}
      gross_margin: {type: decimal, class: confidential}
      buyer_email: {type: text, class: personal}
"""
ROLES = """\
p,  tool:app,     sales/*, act,  true, allow
p,  role:owner,   sales/*, read, true, allow
p,  role:analyst, sales/*, read, true, allow
g,  group:owners, role:owner
g,  group:analysts, role:analyst
"""
RULES = f"""\
{ROLES}\
p2, role:owner,   sales/*, row.store_id in sub.stores, *, clear
p2, role:analyst, sales/*, true, @public|units, clear
p2, role:analyst, sales/*, true, net_sales|gross_margin, round(100)
p2, role:analyst, sales/*, true, store_name, pseudonym
p2, role:analyst, sales/*, true, licence_no, partial(last=2)
p2, role:analyst, sales/*, true, buyer_email, redact
"""
UNSYNCED = """\
from proxy.cli import main
from proxy.audit import embedded, store
embedded.journal = lambda connection, _: store.journal(connection, "OFF")
main()
"""
"""Has SQLite wait for no disk: what is on record may be gone with the machine's power."""
OWNED = tuple(str(2001 + 10 * n) for n in range(133))
"""Every tenth store of the sample."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where the processes listen, the tokens, and Counterfoil's process id and folder."""

    passthrough: str
    own_client: str
    """A passthrough with the product's own client."""
    proxy: str
    pid: int
    owner: str
    analyst: str
    folder: Path


def start(stack: ExitStack, words: list[str], pattern: str, **more: str) -> tuple[str, int]:
    """Start a process and wait for the line in which it says where it listens."""
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "BENCH_STORE_TOKEN": TOKEN, **more},
    )

    def stop() -> None:
        process.terminate()
        process.wait(30)

    stack.callback(stop)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(pattern + r" on (https?://\S+)", line):
            # What it says later must not fill the pipe, and keep it.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return found[1], process.pid
    raise RuntimeError(f"{words[:4]} did not start:\n{said}")


@contextmanager
def stage(
    *, repeat: int = 1, rows: int = 120_000, workers: int = 1, synced: bool = True
) -> Iterator[Stage]:
    """Everything running, on loopback without TLS; all of it stopped at the end.

    Both proxies, and the one with our client, have so many `workers` on one port. Without `synced`, as no
    product runs, the access log waits for no disk.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="counterfoil-bench-")))
        store, _ = start(
            stack,
            [sys.executable, "-m", "proxy.demo.store", "--port", "0", "--token", TOKEN,
             "--rows", str(rows), "--repeat", str(repeat)],
            "report store",
        )  # fmt: skip
        passthrough, _ = start(
            stack,
            [sys.executable, "-m", "benchmarks.passthrough", store, TOKEN, str(workers)],
            "passthrough",
        )
        own_client, _ = start(
            stack,
            [sys.executable, "-m", "benchmarks.passthrough", store, TOKEN, "own", str(workers)],
            "passthrough",
        )
        limits = (
            "limits: {requests_per_minute_per_subject: 100000000,"
            " requests_per_minute_per_address: 100000000}\n"
        )
        home = Home(
            folder / "home",
            reports=REPORTS,
            rules=RULES,
            store=store,
            settings=f"workers: {workers}\n{limits}",
        )
        proxy, pid = start(
            stack,
            [
                sys.executable,
                *(("-m", "proxy") if synced else ("-c", UNSYNCED)),
                "serve",
                "-c",
                str(home.settings),
            ],
            "counterfoil listens",
        )
        yield Stage(
            passthrough=passthrough,
            own_client=own_client,
            proxy=proxy,
            pid=pid,
            owner=home.issuer.token("sam", groups=("owners",), stores=list(OWNED), lifetime=7200),
            analyst=home.issuer.token("alice", groups=("analysts",), lifetime=7200),
            folder=home.folder,
        )
