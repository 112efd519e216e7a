"""Servers whose clients count what they get, and what must be on record of it."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from click.testing import CliRunner

from proxy.access import AccessEvent
from proxy.audit.postgres.database import Database
from proxy.audit.postgres.mirror import Mirror
from proxy.audit.recover import ENDS, OPENS
from proxy.audit.store import Files
from proxy.cli import main
from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.certificate import certify
from tests.harness.killed import Killed
from tests.harness.postgres import WRITERS, Server, Wire, psql
from tests.harness.proxy import Home
from tests.harness.store import Page, Store

REPORTS = sales.REPORTS.replace(
    "      - {path: /sales/daily.json, format: json}\n",
    """\
      - {path: /sales/daily.json, format: json}
      - {path: /sales/long.csv, format: csv}
      - {path: /sales/typed.parquet, format: parquet, also: [csv]}
      - {path: /sales/book, format: csv, also: [xlsx], source: /sales/daily.csv}
""",
)
RULES = (
    sales.RULES
    + """\
p,  role:keeper,  sales/daily, read, true, allow
p2, role:keeper,  sales/daily, true, @public, clear
p2, role:keeper,  sales/daily, true, buyer_email, encrypt
p,  role:officer, sales/daily, reveal, env.purpose == 'audit', allow
p2, role:officer, sales/daily, true, buyer_email, reveal
g,  group:keepers, role:keeper
g,  group:officers, role:officer
"""
)
SETTINGS = "reveal: {cells_per_minute: 100000000, cells_per_hour: 100000000}\n"
SMALL, LONG = sales.rows(50), sales.rows(40_000)
SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


class Client:
    """Asks for one thing again and again, on a connection of its own each time, until nobody listens."""

    def __init__(self, url: str, request: bytes, ca: str | None) -> None:
        self.answers: list[bytes] = []
        self._asked = url, request, ca
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        url, request, ca = self._asked
        while True:
            received = bytearray()
            try:
                with wire.connect(url, ca) as sock:
                    self.answers.append(b"")
                    sock.sendall(request)
                    while data := sock.recv(1 << 16):
                        received += data
            except TimeoutError:
                raise
            except OSError as gone:  # ssl.SSLError is one, where a record is cut
                if isinstance(gone, ConnectionRefusedError) or not self.answers:
                    return
            if received:
                self.answers[-1] = bytes(received)

    def ended(self) -> list[bytes]:
        """Wait until it has given up; what it got each time."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.answers


class World:
    """A store, and the home of servers that are started and killed in turn."""

    def __init__(
        self,
        folder: Path,
        background: Background,
        *,
        tls: bool = False,
        database: Database | None = None,
    ) -> None:
        self.background = background
        self.database = database
        self.server: Server | None = None
        self.wire: Wire | None = None
        """That of the database, and the way to it, for those who make trouble there."""
        self.store = store = Store(background)
        pages = store.pages
        pages["/sales/daily.csv"] = Page(sales.as_csv(SMALL))
        pages["/sales/daily.json"] = Page(sales.as_json(SMALL), content_type="application/json")
        pages["/sales/long.csv"] = Page(sales.as_csv(LONG), pieces=1 << 16)
        pages["/sales/typed.parquet"] = Page(
            _parquet(), content_type="application/vnd.apache.parquet"
        )
        self.home = Home(
            folder,
            reports=REPORTS,
            rules=RULES,
            store=store.url,
            settings=SETTINGS,
            database=database,
        )
        self.ca: str | None = None
        if tls:
            text = self.home.settings.read_text()
            self.home.settings.write_text(
                text.replace("port: 0", "port: 0, certificate: server.crt, key: server.key")
            )
            self.ca = str(certify(self.home))
        self.path = folder / "access.db"
        self.received: dict[str, int] = {}
        """Access -> bytes of its body that a client has; of all servers."""
        self.lose: Callable[[], None] = lambda: None
        """What else becomes of the log's files when a server is killed."""
        self._sealed: list[dict[str, Any]] = []

    def close(self) -> None:
        self.store.close()

    def requests(self) -> dict[str, bytes]:
        """What is asked for at once."""
        token = self.home.issuer.token
        alice = token("alice", groups=("analysts",))
        sealed = {
            "report": "sales/daily",
            "field": "buyer_email",
            "cells": self._sealed,
        }
        return {
            "small": get_request("/sales/daily.json", alice),
            "large": get_request("/sales/long.csv", alice),
            "large too": get_request("/sales/long.csv", alice, Accept="text/csv"),
            "spooled": get_request("/sales/typed.csv", alice),
            "book": get_request("/sales/book", alice, Accept=SHEET),
            "part": get_request("/sales/daily.csv", alice, Range="bytes=0-99"),
            "unknown": get_request("/sales/none", alice),
            "nobody": get_request("/sales/daily.csv", None),
            "revealed": post_request("/-/reveal", token("olga", groups=("officers",)), sealed),
        }

    def seal(self, server: Killed) -> None:
        """Fetch the sealed cells that will be asked back."""
        keeper = self.home.issuer.token("kay", groups=("keepers",))
        raw = wire.exchange(server.url, get_request("/sales/daily.csv", keeper), ca=self.ca)
        rows = csv.DictReader(io.StringIO(wire.parse(raw).body.decode(), newline=""))
        self._sealed = [{"cell": row.pop("buyer_email"), "row": row} for row in rows]

    def ask(self, server: Killed) -> list[Client]:
        """Have everything under way."""
        return [Client(server.url, request, self.ca) for request in self.requests().values()]

    def look(self, clients: list[Client]) -> None:
        """What is durable covers what the clients have, and all of it fits together."""
        received = [raw for client in clients for raw in client.ended()]
        self.lose()
        records = self.records()
        for raw in received:
            if b"\r\n\r\n" not in raw:
                continue  # not even its head
            answer = wire.parse(raw)
            found = records.get(answer.event, [])
            self.received[answer.event] = len(answer.body)
            if answer.status >= 400:
                assert answer.status in (401, 404), raw
                assert [one.step for one in found][:1] in (["refusal"], ["burst"])
                continue
            assert not answer.body or len(answer.body) <= max(one.bytes for one in found)
            if answer.whole:
                assert found[-1].step in ("complete", "outcome") and found[-1].ended == "whole"
                assert answer.status == 206 or found[-1].bytes == len(answer.body)
        self.verify()

    def records(self) -> dict[str, list[AccessEvent]]:
        """All that is durable, by access."""
        found: dict[str, list[AccessEvent]] = defaultdict(list)
        for event in self.home.events():
            found[event.access].append(event)
        return found

    def left(self) -> None:
        """Wait until a database has noticed that those who were killed are gone; a kernel knows at once."""
        if self.database is not None:
            for _ in range(400):
                if psql(self.database, WRITERS) == "0":
                    return
                threading.Event().wait(0.05)
            raise AssertionError("the dead still hold their locks")

    def verify(self) -> None:
        """`counterfoil log verify`: whole, or with ends that are not known; of a database, so is its copy."""
        if self.database is not None:
            with closing(Mirror(Files.at(self.path), self.database)) as mirror:
                mirror.catch_up()
                assert mirror.differing(lambda _: None) == ""
        said = CliRunner().invoke(main, ["log", "verify", "--log", str(self.path)])
        assert said.exit_code in (0, 10), said.output

    def settled(self) -> None:
        """Each access has one end by now; of those that were left open, one that covers what was received."""
        for access, records in self.records().items():
            ends = [one for one in records if one.step in ENDS]
            begun = [one for one in records if one.step in OPENS or one.step in ENDS]
            assert len(ends) == bool(begun), records
            if ends and ends[0].step != "refusal" and self.received.get(access):
                assert ends[0].bytes >= self.received[access]


def get_request(target: str, token: str | None, **headers: str) -> bytes:
    who = "" if token is None else f"Authorization: Bearer {token}\r\n"
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{who}{more}\r\n".encode()
    )


def post_request(target: str, token: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    return (
        f"POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
        f"Counterfoil-Purpose: audit\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    ).encode() + data


def _parquet() -> bytes:
    document = io.BytesIO()
    frame = pl.DataFrame(SMALL, schema=list(sales.FIELDS), orient="row").with_columns(
        pl.col("date").str.to_date(),
        pl.col("units").cast(pl.Int64),
        pl.col("net_sales").cast(pl.Decimal(18, 2)),
    )
    frame.write_parquet(document)
    return document.getvalue()


@contextmanager
def worlds(folder: Path, *, tls: bool = False, database: Database | None = None) -> Iterator[World]:
    background = Background()
    try:
        world = World(folder / "home", background, tls=tls, database=database)
        try:
            yield world
        finally:
            world.close()
    finally:
        background.close()
