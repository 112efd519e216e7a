"""100,000 mixed requests to a real server: what it has more of afterwards, in memory and open files.

Every form of answer, refusals of each kind, validators, clients that go away in the middle, bytes that are no
HTTP, sealed values asked back. What is bounded reaches its bound first (`_Clients.warm`), and what is kept
for a while is let go of before either look.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Figure
from benchmarks.stage import start
from tests.harness.background import Background
from tests.harness.proxy import Home
from tests.harness.store import Page, Store

WARM: Final = 8_000
"""Mixed requests."""
FILLING: Final = 40_000
"""Records, after which SQLite keeps as many pages of the access log and of its index as it may."""
MEASURED: Final = 100_000
AT_ONCE: Final = 24
SUBJECTS: Final = 50
_ROWS: Final = 40
_MANY: Final = 3_000
_PARTS: Final = 10
_SETTLED: Final = 2
"""Looks in a row that find as many open files before they count."""
_LONGEST_WAIT: Final = 60.0

TYPES: Final = {
    "csv": "text/csv",
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_FORMS: Final = ("csv", "json", "ndjson") * 3 + ("parquet", "arrow", "xlsx")
"""Of small answers, in turn; the last ones are more work."""
REPORTS: Final = """\
stores:
  main: {url: "{store}", loopback: true}
reports:
  leak/small:
    title: Each format
    store: main
    key: [id]
    variants:
      - {path: /small.csv, format: csv}
      - {path: /small.json, format: json}
      - {path: /small.ndjson, format: ndjson}
      - {path: /small.parquet, format: parquet}
      - {path: /small.arrow, format: arrow}
      - {path: /small.xlsx, format: xlsx}
    parameters:
      id: {type: text, field: id}
    fields: {fields}
  leak/large:
    title: Answers of many blocks
    store: main
    variants:
      - {path: /large.csv, format: csv}
    fields: {fields}
  leak/broken:
    title: A store that breaks off
    store: main
    variants:
      - {path: /broken.csv, format: csv}
    fields: {fields}
""".replace(
    "{fields}",
    "{id: {type: text, class: public}, name: {type: text, class: internal},"
    " units: {type: integer, class: internal}, secret: {type: text, class: confidential}}",
)
RULES: Final = """\
p,  tool:app, leak/*, act, true, allow
p,  group:analysts, leak/*, read, true, allow
p,  group:officers, leak/small, reveal, true, allow
p2, group:analysts, leak/*, true, id, clear
p2, group:analysts, leak/*, true, units, clear
p2, group:analysts, leak/*, true, name, pseudonym
p2, group:analysts, leak/*, true, secret, encrypt
p2, group:officers, leak/small, true, secret, reveal
"""
SETTINGS: Final = """\
limits:
  requests_per_minute_per_subject: 100000000
  requests_per_minute_per_address: 100000000
  kept_seconds: 1
reveal: {cells_per_minute: 100000000, cells_per_hour: 100000000}
"""


def documents() -> dict[str, bytes]:
    """The small report in each format."""
    columns = {
        "id": [f"{n}" for n in range(_ROWS)],
        "name": [f"name {n}" for n in range(_ROWS)],
        "units": list(range(_ROWS)),
        "secret": [f"secret {n}" for n in range(_ROWS)],
    }
    table = pa.table(columns)
    rows = table.to_pylist()
    made = {"csv": _csv(_ROWS)}
    lines = [json.dumps(row) for row in rows]
    made["json"] = ("[" + ",".join(lines) + "]").encode()
    made["ndjson"] = ("\n".join(lines) + "\n").encode()
    out = io.BytesIO()
    pq.write_table(table, out)
    made["parquet"] = out.getvalue()
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    made["arrow"] = out.getvalue()
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(list(columns))
    for row in rows:
        sheet.append(list(row.values()))
    out = io.BytesIO()
    book.save(out)
    made["xlsx"] = out.getvalue()
    return made


def _csv(rows: int) -> bytes:
    lines = "".join(f"{n},name {n},{n},secret {n}\n" for n in range(rows))
    return f"id,name,units,secret\n{lines}".encode()


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)


class _Clients:
    """Asks all kinds of things, `AT_ONCE` at a time; counts what was answered."""

    def __init__(self, url: str, home: Home) -> None:
        self._url, self._host = url, urlsplit(url)
        issue = home.issuer.token
        self._tokens = [
            issue(f"u{n}", groups=("analysts",), lifetime=36_000) for n in range(SUBJECTS)
        ]
        self._officers = [
            issue(f"o{n}", groups=("officers",), lifetime=36_000) for n in range(SUBJECTS)
        ]
        self.answered: Counter[str] = Counter()

    async def run(self, requests: int) -> None:
        """So many requests."""
        numbers = iter(range(requests))
        async with _session() as session:
            cell = await self._sealed(session)
            await asyncio.gather(*(self._ask(session, numbers, cell) for _ in range(AT_ONCE)))

    async def warm(self) -> None:
        """As many large answers at once as there may be, many records, then some of each kind."""
        async with _session() as session:

            async def ask(target: str, times: int) -> None:
                for number in range(times):
                    await self._get(session, target, self._tokens[number % SUBJECTS])

            await asyncio.gather(*(ask("/large.csv", 10) for _ in range(AT_ONCE)))
            await asyncio.gather(*(ask("/nothing", FILLING // AT_ONCE) for _ in range(AT_ONCE)))
        await self.run(WARM)

    async def _sealed(self, session: aiohttp.ClientSession) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {self._tokens[0]}", "Accept-Encoding": "identity"}
        async with session.get(f"{self._url}/small.json", headers=headers) as answer:
            row = (await answer.json())[0]
        return {"cell": row.pop("secret"), "row": row}

    async def _ask(
        self, session: aiohttp.ClientSession, numbers: Iterator[int], cell: dict[str, object]
    ) -> None:
        for number in numbers:
            token = self._tokens[number % SUBJECTS]
            turn = number // 50
            form = _FORMS[turn % len(_FORMS)]
            match number % 50:
                case 0 | 1:
                    await self._raw(b"GET /small.csv HTTP/1.1\r\nHost: localhost\r\nA : b\r\n\r\n")
                case 2 if turn % 2:
                    await self._raw(self._head("/large.csv", token), most=1 << 14)
                case 2:
                    await self._get(session, "/large.csv", token)
                case 3 | 4:
                    await self._get(session, "/broken.csv", token)
                case 5 | 6 | 7:
                    await self._get(session, "/small.csv", None)
                case 8 | 9:
                    await self._get(session, f"/nothing/{number}", token)
                case 10 | 11:
                    await self._get(session, f"/small.csv?odd={number}", token)
                case 12 | 13 | 14:
                    body = {"report": "leak/small", "field": "secret", "cells": [cell]}
                    officer = self._officers[number % SUBJECTS]
                    await self._get(session, "/-/reveal", officer, "POST", body)
                case 15 | 16 | 17:
                    await self._get(session, f"/small.{form}", token, "HEAD")
                case _:
                    await self._get(session, f"/small.{form}", token)

    async def _get(
        self,
        session: aiohttp.ClientSession,
        target: str,
        token: str | None,
        method: str = "GET",
        body: object = None,
    ) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        kind = f"{method} {target.partition('?')[0] if 'nothing' not in target else '/nothing'}"
        try:
            async with session.request(
                method, self._url + target, headers=headers, json=body
            ) as answer:
                await answer.read()
                self.answered[f"{kind} {answer.status}"] += 1
        except aiohttp.ClientError:
            self.answered[f"{kind} cut"] += 1

    def _head(self, target: str, token: str) -> bytes:
        return f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()

    async def _raw(self, request: bytes, *, most: int = 1 << 20) -> None:
        """Bytes on a connection that is broken off once `most` have come back."""
        reader, writer = await asyncio.open_connection(self._host.hostname, self._host.port)
        writer.write(request)
        with contextlib.suppress(OSError):
            came = await reader.read(most)
            self.answered[f"raw {came[9:12].decode()}"] += 1
        writer.transport.abort()


def _memory(pid: int) -> float:
    """Its resident set, in MiB (Linux: VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def _files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _at_rest(pid: int) -> tuple[float, int]:
    """Memory and open files once the number of these has come to rest."""
    found, same, ends = -1, 0, time.monotonic() + _LONGEST_WAIT
    while same < _SETTLED and time.monotonic() < ends:
        time.sleep(2)
        now = _files(pid)
        same = same + 1 if now == found else 0
        found = now
    return _memory(pid), found


def run() -> Iterator[Figure]:
    """The growth over what there was when caches were full."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="counterfoil-leak-")))
        background = Background()
        stack.callback(background.close)
        store = Store(background)
        stack.callback(store.close)
        for name, document in documents().items():
            store.pages[f"/small.{name}"] = Page(document, TYPES[name])
        large = _csv(_MANY)
        store.pages["/large.csv"] = Page(large)
        store.pages["/broken.csv"] = Page(large, cut_after=len(large) // 2)
        store.asked = _Nothing()
        home = Home(
            folder / "home", reports=REPORTS, rules=RULES, store=store.url, settings=SETTINGS
        )
        url, pid = start(
            stack,
            [sys.executable, "-m", "proxy", "serve", "-c", str(home.settings)],
            "counterfoil listens",
        )
        clients = _Clients(url, home)
        asyncio.run(clients.warm())
        memory, files = _at_rest(pid)
        clients.answered.clear()
        print(f"  {memory:.0f} MiB and {files} files once it is warm", flush=True)
        for part in range(_PARTS):
            asyncio.run(clients.run(MEASURED // _PARTS))
            print(
                f"  {_memory(pid):.0f} MiB after {(part + 1) * MEASURED // _PARTS} more", flush=True
            )
        after, open_ = _at_rest(pid)
        for kind, count in sorted(clients.answered.items()):
            print(f"  {count:6} {kind}", flush=True)
        per = MEASURED / 100_000
        for name, grown, unit, bar in (
            ("leak-memory-per-100000", after - memory, "MiB", 16),
            ("leak-files-per-100000", open_ - files, "files", 4),
        ):
            yield Figure(name=name, value=grown / per, unit=unit, bar=bar, better="less")
        yield Figure(name="leak-memory-at-rest", value=after, unit="MiB")


class _Nothing(list[tuple[str, dict[str, str]]]):
    """Keeps nothing of what a store was asked: it is this process that must not grow."""

    def append(self, _: tuple[str, dict[str, str]]) -> None:
        """Forget it."""
