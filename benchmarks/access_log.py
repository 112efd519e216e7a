"""The access log alone, in a file and in PostgreSQL: durable events/s, what they wait; exports to a file."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import uvloop

from benchmarks.figures import Figure
from proxy.access import AccessEvent, new_access_id, timestamp
from proxy.audit import AccessLog, Reader, ocsf
from proxy.audit.export import Cursor, Export, Form
from proxy.audit.postgres.database import Database
from proxy.audit.receivers import File
from proxy.keys import Keyring
from tests.harness import postgres

EVENTS = {1: 2_000, 64: 50_000}
"""Concurrent appenders -> events."""

FORMS: Mapping[str, Form] = {
    "ocsf": lambda leaf, event: ocsf.line(ocsf.record(leaf, event)),
    "json": lambda leaf, _: leaf.entry,
}

_KEYRING = Keyring.generate()


def _event(number: int) -> AccessEvent:
    """The record of an answer of one block, about 850 bytes long."""
    return AccessEvent(
        access=new_access_id(),
        step="complete",
        at=timestamp(time.time()),
        subject=f"{number % 50:032x}",
        groups=("group:sales-analysts", "group:staff"),
        tool="tool:bi",
        address="127.0.0.1",
        method="GET",
        report="sales/store-daily",
        format="json",
        action="read",
        decision="permit",
        status=200,
        policy="a" * 64,
        lines=("policy.csv:1", "policy.csv:7", "policy.csv:8"),
        fields={f"field_{column}": {"clear": 12} for column in range(11)},
        rows=12,
        bytes=2048,
        digest="b" * 64,
        ended="whole",
        micros=1234,
    )


class Measured(NamedTuple):
    """What appending took."""

    rate: float
    """Events/s."""
    loop: float
    """Microseconds of the loop's thread for each event."""
    p50: float
    p99: float
    """Milliseconds until an event was durable, which is what it adds to an answer."""
    lag: int
    """Events that the index for queries had not taken in when the last one was durable."""
    index: float
    """Events/s that it took in, from the first until it had all."""


def _caught_up(log: AccessLog) -> None:
    while log.lag:
        time.sleep(0.01)


async def _append(path: Path, concurrent: int, database: Database | None = None) -> Measured:
    log = await AccessLog.open(path, keyring=_KEYRING, database=database)
    events = [_event(number) for number in range(EVENTS[concurrent])]
    waiting = iter(events)
    waits: list[float] = []

    async def appender() -> None:
        for event in waiting:
            began = time.perf_counter()
            await log.append(event, principal=f"user:{event.subject}")
            waits.append(time.perf_counter() - began)

    wall, work = time.perf_counter(), time.thread_time()
    await asyncio.gather(*(appender() for _ in range(concurrent)))
    began, lag = wall, log.lag
    wall, work = time.perf_counter() - wall, time.thread_time() - work
    await asyncio.to_thread(_caught_up, log)
    index = len(events) / (time.perf_counter() - began)
    await log.close()
    of_100 = statistics.quantiles(waits, n=100)
    return Measured(
        rate=len(events) / wall,
        loop=work / len(events) * 1e6,
        p50=of_100[49] * 1e3,
        p99=of_100[98] * 1e3,
        lag=lag,
        index=index,
    )


def _appended(
    folder: Path, name: str, bar: float, database: Database | None = None
) -> Iterator[Figure]:
    for concurrent in EVENTS:
        found = uvloop.run(_append(folder / "access.db", concurrent, database))
        own = f"{name}-{concurrent}"
        judged = bar if concurrent == 64 else None
        yield Figure(name=own, value=found.rate, unit="events/s", bar=judged)
        yield Figure(name=f"{own}-loop", value=found.loop, unit="µs/event", better="less")
        yield Figure(name=f"{own}-p50", value=found.p50, unit="ms", better="less")
        yield Figure(name=f"{own}-p99", value=found.p99, unit="ms", better="less")
        yield Figure(name=f"{own}-index", value=found.index, unit="events/s")
        yield Figure(name=f"{own}-index-lag", value=found.lag, unit="events", better="less")


def _export(folder: Path, form: Form) -> float:
    """Events/s into a file that is synced, with a cursor that is moved, batch by batch."""
    with Reader(folder / "access.db") as reader, tempfile.TemporaryDirectory(dir=folder) as out:
        receiver = File(Path(out) / "events")
        with closing(Cursor(Path(out) / "cursor")) as cursor:
            export = Export(reader, receiver, form, cursor=cursor)
            began = time.perf_counter()
            export.run()
            return export.count / (time.perf_counter() - began)


def run() -> Iterator[Figure]:
    """Every event is committed and synced before its appender goes on; projection and copy follow."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _appended(Path(folder), "access-log", 20_000)
        for name, form in FORMS.items():
            rate = _export(Path(folder), form)
            yield Figure(name=f"access-log-export-{name}", value=rate, unit="events/s")
    if postgres.programs() is None:
        print("no PostgreSQL is here: apt-get install postgresql")
        return
    with tempfile.TemporaryDirectory() as folder, postgres.serving() as server:
        yield from _appended(Path(folder), "access-log-postgresql", 10_000, server.new())
