"""Small reports at 64 concurrent: requests/s against the same code passing bytes through."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import uvloop

from benchmarks.figures import Figure, interleaved, ratio
from benchmarks.stage import Stage, stage

CONCURRENT = 64
SECONDS = 3.0
ROUNDS = 5
WORKERS = 2
TARGET = "/sales/store-daily.json?from=2026-01-01&to=2026-01-06&store_id=2011"


class _Client(asyncio.Protocol):
    """One kept-alive connection that asks again as soon as it has its answer."""

    def __init__(self, request: bytes, until: float, took: list[float]) -> None:
        self._request, self._until, self._took = request, until, took
        self._received = bytearray()
        self._due = -1
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]  # narrowed
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        if self._asked > self._until:
            self._transport.close()
            self.done.set_result(None)
            return
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._due < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end]).lower()
            if not head.startswith(b"http/1.1 200"):
                raise RuntimeError(head.decode())
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self._due = end + 4 + int(length)
        if len(self._received) >= self._due:
            self._received.clear()
            self._due = -1
            self._took.append(time.perf_counter() - self._asked)
            self._ask()


async def _load(url: str, token: str | None, seconds: float) -> tuple[float, float, float]:
    parts = urlsplit(url)
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    request = f"GET {TARGET} HTTP/1.1\r\nHost: {parts.netloc}\r\n{authorization}\r\n".encode()
    took: list[float] = []
    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    clients = [
        (
            await loop.create_connection(
                lambda: _Client(request, started + seconds, took), parts.hostname, parts.port
            )
        )[1]
        for _ in range(CONCURRENT)
    ]
    await asyncio.gather(*(client.done for client in clients))
    took.sort()
    return len(took) / seconds, took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3


def _run_load(
    url: str, token: str | None, seconds: float, results: multiprocessing.SimpleQueue[object]
) -> None:
    results.put(uvloop.run(_load(url, token, seconds)))


def load(url: str, token: str | None, seconds: float = SECONDS) -> tuple[float, float, float]:
    """Requests/s, p50 ms and p99 ms, from a process of its own."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.SimpleQueue[tuple[float, float, float]] = context.SimpleQueue()
    worker = context.Process(target=_run_load, args=(url, token, seconds, results))
    worker.start()
    worker.join(seconds + 60)
    return results.get()


def run() -> Iterator[Figure]:
    """Token verified, policy decided, cells masked, event durable; and the same bytes passed through."""
    yield from _run(workers=1, suffix="")
    # On as many processes as there are on the other side, which share what cores and store there are.
    yield from _run(workers=WORKERS, suffix="-workers")
    yield _durable()


def _durable() -> Figure:
    """What a client waits for the disk: the middle of all times against the same without fsync."""
    p50: dict[str, list[float]] = {"synced": [], "unsynced": []}

    def work(name: str, at: Stage) -> Callable[[], float]:
        def once() -> float:
            rate, middle, _ = load(at.proxy, at.analyst)
            p50[name].append(middle)
            return rate

        return once

    with stage() as synced, stage(synced=False) as unsynced:
        load(synced.proxy, synced.analyst, 1), load(unsynced.proxy, unsynced.analyst, 1)
        interleaved(
            {"synced": work("synced", synced), "unsynced": work("unsynced", unsynced)},
            rounds=ROUNDS,
        )
    return Figure(
        name="small-fsync-p50",
        value=ratio(p50["synced"], p50["unsynced"]),
        unit="×",
        bar=1.3,
        better="less",
    )


def _run(*, workers: int, suffix: str) -> Iterator[Figure]:
    p50: dict[str, list[float]] = {"passthrough": [], "own-client": [], "counterfoil": []}

    def work(name: str, url: str, token: str | None) -> Callable[[], float]:
        def once() -> float:
            rate, middle, _ = load(url, token)
            p50[name].append(middle)
            return rate

        return once

    with stage(workers=workers) as at:
        load(at.passthrough, None, 1), load(at.proxy, at.analyst, 1)
        measured = interleaved(
            {
                "passthrough": work("passthrough", at.passthrough, None),
                "own-client": work("own-client", at.own_client, None),
                "counterfoil": work("counterfoil", at.proxy, at.analyst),
            },
            rounds=ROUNDS,
        )
    for name, rates in measured.items():
        yield Figure(
            name=f"small-{name}{suffix}", value=statistics.median(rates), unit="requests/s"
        )
    yield Figure(
        name=f"small-ratio{suffix}",
        value=ratio(measured["counterfoil"], measured["passthrough"]),
        unit="×",
        bar=0.35 if workers == 1 else None,
    )
    yield Figure(
        name=f"small-ratio-own-client{suffix}",
        value=ratio(measured["counterfoil"], measured["own-client"]),
        unit="×",
    )
    yield Figure(
        name=f"small-p50-ratio{suffix}",
        value=ratio(p50["counterfoil"], p50["passthrough"]),
        unit="×",
    )
