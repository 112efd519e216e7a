"""The access log alone: durable events/s, and what an append costs the event loop."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from benchmarks.figures import Figure
from proxy.access import AccessEvent, new_access_id, timestamp
from proxy.audit import AccessLog

EVENTS = {1: 2_000, 64: 50_000}
"""Concurrent appenders -> events."""


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


async def _append(path: Path, concurrent: int) -> tuple[float, float]:
    """Events/s, and microseconds of the loop's thread for each."""
    log = await AccessLog.open(path)
    events = [_event(number) for number in range(EVENTS[concurrent])]
    waiting = iter(events)

    async def appender() -> None:
        for event in waiting:
            await log.append(event, principal=f"user:{event.subject}")

    wall, work = time.perf_counter(), time.thread_time()
    await asyncio.gather(*(appender() for _ in range(concurrent)))
    wall, work = time.perf_counter() - wall, time.thread_time() - work
    await log.close()
    return len(events) / wall, work / len(events) * 1e6


def run() -> Iterator[Figure]:
    """Every event is committed and synced before its appender goes on; the projection follows."""
    with tempfile.TemporaryDirectory() as folder:
        for concurrent in EVENTS:
            rate, cost = uvloop.run(_append(Path(folder) / "access.db", concurrent))
            name = f"access-log-{concurrent}"
            judged = concurrent == 64
            yield Figure(name=name, value=rate, unit="events/s", bar=20_000 if judged else None)
            yield Figure(name=f"{name}-loop", value=cost, unit="µs/event", better="less")
