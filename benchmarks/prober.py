"""A client in a process of its own that asks for one small report all the time, and notes every answer."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from urllib.parse import urlsplit

import uvloop

from benchmarks.small import TARGET

CONNECTIONS = 4
PAUSE = 0.002
"""Seconds between an answer and the next question: the proxy is in use, but not at its limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """When it was asked for and how long it took (s, `time.monotonic`), and what it was."""

    asked: float
    took: float
    body: int
    """Equal for equal bodies."""


async def _ask(url: str, token: str, stop: Event, answers: list[Answer]) -> None:
    parts = urlsplit(url)
    request = (
        f"GET {TARGET} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    while not stop.is_set():
        asked = time.monotonic()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(head.decode())
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        took = time.monotonic() - asked
        answers.append(Answer(asked=asked, took=took, body=hash(body)))
        await asyncio.sleep(PAUSE)
    writer.close()


def _run(
    url: str, token: str, stop: Event, results: multiprocessing.SimpleQueue[list[Answer] | str]
) -> None:
    answers: list[Answer] = []

    async def all_() -> None:
        await asyncio.gather(*[_ask(url, token, stop, answers) for _ in range(CONNECTIONS)])

    try:
        uvloop.run(all_())
    except Exception as exc:  # noqa: BLE001 - it is raised where it is seen
        results.put(repr(exc))
    else:
        results.put(answers)


@contextmanager
def asking(url: str, token: str) -> Iterator[list[Answer]]:
    """Ask while the block runs; the answers are in the list after it."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.SimpleQueue[list[Answer] | str] = context.SimpleQueue()
    stop = context.Event()
    worker = context.Process(target=_run, args=(url, token, stop, results), daemon=True)
    worker.start()
    answers: list[Answer] = []
    try:
        yield answers
    finally:
        stop.set()
        found = results.get()
        worker.join(30)
    match found:
        case str() as failure:
            raise RuntimeError(failure)
        case _:
            answers.extend(sorted(found, key=lambda answer: answer.asked))


def worst(answers: Sequence[Answer], since: float, until: float) -> float:
    """How long the slowest answer of those took (ms) that were asked for in this time."""
    return max(a.took for a in answers if since <= a.asked < until) * 1e3


def percentile(answers: Sequence[Answer], times: Sequence[tuple[float, float]], at: float) -> float:
    """How long the answers took (ms) that were asked for in these times: so many are no slower."""
    took = sorted(
        a.took for a in answers if any(since <= a.asked < until for since, until in times)
    )
    return took[min(int(len(took) * at), len(took) - 1)] * 1e3
