"""One GET over the pool: whatever a store does, the answer is one's own, in time, and the connection is given back."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from proxy.upstream.exchange import Pool, Prepared, get

Serve = Callable[[bytes, asyncio.StreamWriter], Awaitable[bool | None]]
LIMITS = aiohttp.ClientTimeout(total=20, connect=5, sock_connect=5, sock_read=5)
BUFFER = 1 << 16


@contextlib.asynccontextmanager
async def store(serve: Serve, *, connections: int = 2) -> AsyncIterator[tuple[Pool, Prepared]]:
    """`serve` is given each request's target and answers; True ends the connection."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if await serve(head.split(b" ")[1], writer):
                    break
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with Pool(limit=0, limit_per_host=connections) as pool:
            yield pool, Prepared(f"http://127.0.0.1:{port}", {})
    finally:
        server.close()
        for task in tasks:
            task.cancel()


def whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def test_silence_after_an_interim_answer_is_silence() -> None:
    """Who says 103 and nothing more is waited for no longer than who says nothing."""

    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")

    limits = aiohttp.ClientTimeout(total=None, connect=5, sock_connect=5, sock_read=0.2)
    async with store(serve) as (pool, prepared), asyncio.timeout(20):
        with pytest.raises(aiohttp.SocketTimeoutError):
            await get(pool, prepared, "/a", limits=limits, buffer=BUFFER)


async def test_a_request_that_is_sent_again_has_no_more_time() -> None:
    """The time for all of an answer is one, however often it is asked for."""
    loop = asyncio.get_running_loop()
    asked: list[float] = []

    async def serve(_: bytes, writer: asyncio.StreamWriter) -> bool:
        asked.append(loop.time())
        if len(asked) == 1:
            await asyncio.sleep(0.7)
        else:
            await asyncio.sleep(20)
        return True

    limits = aiohttp.ClientTimeout(total=1, connect=5, sock_connect=5, sock_read=None)
    async with store(serve) as (pool, prepared), asyncio.timeout(20):
        with pytest.raises(aiohttp.SocketTimeoutError):
            await get(pool, prepared, "/a", limits=limits, buffer=BUFFER)
        assert len(asked) == 2
        assert loop.time() - asked[1] < 0.7  # and not the whole second again


async def test_idle_connections_that_the_store_has_closed_all_at_once_are_no_failure() -> None:
    """A store that ends idle connections just as they are used again: one of them is met, and no second."""
    asked: Counter[object] = Counter()
    together = asyncio.Event()

    async def serve(target: bytes, writer: asyncio.StreamWriter) -> bool:
        client = writer.get_extra_info("peername")
        asked[client] += 1
        if asked[client] > 1:
            return True
        if len(asked) == 3:
            together.set()
        await together.wait()
        writer.write(whole(target))
        return False

    async def ask(pool: Pool, prepared: Prepared, target: str) -> bytes:
        answer = await get(pool, prepared, target, limits=LIMITS, buffer=BUFFER)
        try:
            return await answer.body.read()
        finally:
            answer.end()

    async with store(serve, connections=0) as (pool, prepared), asyncio.timeout(20):
        await asyncio.gather(*(ask(pool, prepared, "/a") for _ in range(3)))
        assert await ask(pool, prepared, "/b") == b"/b"
        assert sorted(asked.values()) == [1, 1, 1, 2]


async def test_what_is_no_http_leaves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that cannot be read is let go of at once, and not held until its time is over."""
    handles: list[asyncio.TimerHandle] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def watched(when: float, callback: Callable[..., object], *args: object, **kwargs: object):
        handle = call_at(when, callback, *args, **kwargs)
        if when - loop.time() > 1000:
            handles.append(handle)
        return handle

    async def serve(_: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        return True

    monkeypatch.setattr(loop, "call_at", watched)
    limits = aiohttp.ClientTimeout(total=3600, connect=5, sock_connect=5, sock_read=5)
    async with store(serve) as (pool, prepared):
        with pytest.raises(aiohttp.ClientPayloadError):
            await get(pool, prepared, "/a", limits=limits, buffer=BUFFER)
    assert handles and all(each.cancelled() for each in handles)


@pytest.mark.parametrize("url", ["http://h/a b", "http://h/\u00e9", "http://h/a\x0b"])
async def test_a_head_is_one_head(url: str) -> None:
    """A store's URL cannot put into the request line what would end it."""
    with pytest.raises(ValueError, match="visible ASCII"):
        Prepared(url, {})


async def _misbehave(kind: str, target: bytes, writer: asyncio.StreamWriter) -> bool | None:
    body = target * 40_000  # more than is held unread
    said = whole(body)
    match kind:
        case "whole":
            writer.write(said)
        case "small":
            writer.write(whole(target))
        case "more":
            writer.write(whole(target) + whole(b"POISON"))
        case "cut":
            writer.write(said[: len(said) // 2])
            return True
        case "cut head":
            writer.write(said[:20])
            return True
        case "closed":
            return True
        case "said and closed":
            writer.write(whole(target))
            return True
        case "old":
            writer.write(whole(target).replace(b"HTTP/1.1", b"HTTP/1.0"))
        case "slow":
            writer.write(said[:100])
            await asyncio.sleep(0.05)
            writer.write(said[100:])
        case "interim":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\n\r\n" + whole(target))
        case "upgrade":
            writer.write(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        case "garbage":
            writer.write(b"garbage\r\n\r\n")
        case "no content":
            writer.write(b"HTTP/1.1 204 No\r\n\r\n")
        case "empty and more":
            writer.write(b"HTTP/1.1 304 N\r\nContent-Length: 6\r\n\r\nPOISON")
        case _:
            raise AssertionError(kind)
    return None


KINDS = (
    "whole", "small", "more", "cut", "cut head", "closed", "said and closed", "old", "slow",
    "interim", "upgrade", "garbage", "no content", "empty and more",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
async def test_every_answer_is_ones_own_and_every_connection_comes_back(seed: int) -> None:
    """Stores that misbehave in any way, requests that are left or cancelled anywhere: the next are not harmed."""
    chance = random.Random(seed)

    async def serve(target: bytes, writer: asyncio.StreamWriter) -> bool | None:
        kind = KINDS[int(target.rsplit(b"/", 1)[1])]
        return await _misbehave(kind, target, writer)

    async def ask(pool: Pool, prepared: Prepared, number: int) -> None:
        kind, leaves = chance.randrange(len(KINDS)), chance.random() < 0.3
        target = f"/{number:06d}/{kind}"
        try:
            answer = await get(pool, prepared, target, limits=LIMITS, buffer=BUFFER)
        except (aiohttp.ClientError, OSError):
            return
        try:
            body = b""
            with contextlib.suppress(aiohttp.ClientError):
                async for piece in answer.body.iter_any():
                    body += piece
                    if leaves:
                        return
            assert body == (target.encode() * 40_000)[: len(body)], target
        finally:
            answer.end()

    async with store(serve) as (pool, prepared), asyncio.timeout(60):
        for start in range(0, 300, 6):
            tasks = [asyncio.create_task(ask(pool, prepared, start + n)) for n in range(6)]
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.01)
                for task in chance.sample(tasks, 3):
                    task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                assert ended is None or isinstance(ended, asyncio.CancelledError), ended
            assert not pool._acquired  # all slots are free again
            assert not any(pool._acquired_per_host.values())
        answer = await get(pool, prepared, "/last/1", limits=LIMITS, buffer=BUFFER)
        assert await answer.body.read() == b"/last/1"
        answer.end()
