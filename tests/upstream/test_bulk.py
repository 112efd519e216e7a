"""A long body that passes by aiohttp's parser is the one that was sent, in time, and held within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
import uvloop

from proxy.upstream import bulk
from proxy.upstream.exchange import Answer, Pool, Prepared, get
from tests.harness.pki import LOCAL, SERVER, Authority

LIMITS = aiohttp.ClientTimeout(total=20, connect=5, sock_connect=5, sock_read=0.5)
BUFFER = 1 << 16
BODY = random.Random(7).randbytes(5 << 20)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)

Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request, monkeypatch):
    """Runs a test on each kind of loop; what is long is shorter here."""
    monkeypatch.setattr(bulk, "LEAST", 1 << 20)
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@contextlib.asynccontextmanager
async def asked(
    serve: Serve, *, server: ssl.SSLContext | None = None, client: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Answer, Callable[[], Awaitable[Answer]]]]:
    """An answer whose body comes in bulk; and what asks once more."""
    tasks = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await serve(writer)
        writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=server)
    port = listening.sockets[0].getsockname()[1]
    url = f"{'http' if server is None else 'https'}://127.0.0.1:{port}"
    try:
        async with Pool(limit=0) as pool:
            prepared = Prepared(url, {}, client)

            async def ask() -> Answer:
                answer = await get(pool, prepared, "/a", limits=LIMITS, buffer=BUFFER)
                answer.hasten(int(answer.headers["Content-Length"]))
                return answer

            answer = await ask()
            try:
                yield answer, ask
            finally:
                answer.end()
            assert not pool._acquired
    finally:
        listening.close()
        for task in tasks:
            task.cancel()


async def read(answer: Answer) -> bytes:
    """The body, as a source reads it."""
    pieces = []
    while piece := (await answer.body.readchunk())[0]:
        pieces.append(piece)
    return b"".join(pieces)


async def in_pieces(writer: asyncio.StreamWriter, seed: int, body: bytes = BODY) -> None:
    """Of any size, some of them after a pause."""
    chance = random.Random(seed)
    while body:
        size = chance.choice([1, 100, 10_000, 1_000_000])
        writer.write(body[:size])
        await writer.drain()
        if chance.random() < 0.1:
            await asyncio.sleep(0.002)
        body = body[size:]


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_long_body_is_what_was_sent(run, tmp_path, seed, tls):
    """However it comes, over TLS or not, and however much came with its head."""
    server = client = None
    if tls:
        authority = Authority()
        paths = authority.issue(*LOCAL, usage=SERVER).write(tmp_path, "store")
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(*paths)
        client = ssl.create_default_context(cadata=authority.pem.decode())

    async def serve(writer: asyncio.StreamWriter) -> None:
        await in_pieces(writer, seed, HEAD + BODY)

    async def test() -> None:
        async with asked(serve, server=server, client=client) as (answer, ask):
            assert await read(answer) == BODY
            again = await ask()
            assert await read(again) == BODY
            again.end()

    run(test())


def test_no_more_of_it_is_held_than_of_any_body(run):
    """PROMISE 4 (bounded memory): who does not read has a store wait."""
    sent = 0

    async def serve(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.transport.set_write_buffer_limits(0)
        writer.write(HEAD.replace(b"%d" % len(BODY), b"%d" % (20 * len(BODY))))
        for _ in range(20):
            writer.write(BODY)
            await writer.drain()
            sent += len(BODY)

    async def test() -> None:
        async with asked(serve) as (answer, _):
            size = 0
            while sent < 10 * len(BODY):
                size += len((await answer.body.readchunk())[0])
                assert answer.body._size <= 2 * BUFFER + bulk._CHUNK
            held = -1
            while held != answer.body._size:  # until nothing more comes in
                held = answer.body._size
                await asyncio.sleep(0.05)
            assert held <= 2 * BUFFER + bulk._CHUNK
            assert size + len(await read(answer)) == 20 * len(BODY)

    run(test())


def test_a_body_that_is_cut_off_is_not_taken_for_a_whole_one(run):
    """To the last byte."""

    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + BODY[:-1])
        await writer.drain()
        raise ConnectionError

    async def test() -> None:
        async with asked(serve) as (answer, _):
            with pytest.raises(aiohttp.ClientPayloadError):
                await read(answer)

    run(test())


def test_silence_within_it_is_waited_for_no_longer_than_in_any_body(run):
    """A store that says nothing for so long is given up."""

    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + BODY[: 4 << 20])
        await writer.drain()
        await asyncio.sleep(60)

    async def test() -> None:
        async with asyncio.timeout(20), asked(serve) as (answer, _):
            with pytest.raises(aiohttp.SocketTimeoutError):
                await read(answer)

    run(test())


def test_what_comes_after_it_is_nobodys(run):
    """Bytes beyond the stated length are not of the body, nor the answer to the next request."""
    answers = [HEAD + BODY + HEAD + b"POISON", HEAD + BODY]

    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))
        await writer.drain()

    async def test() -> None:
        async with asked(serve) as (answer, ask):
            assert await read(answer) == BODY
            answer.end()
            again = await ask()
            assert await read(again) == BODY
            again.end()

    run(test())


def test_a_body_that_is_left_or_whose_store_has_gone_is_read_as_far_as_it_came(run):
    """A store may close once it has said all; a reader may leave at any time."""

    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + BODY)
        await writer.drain()
        raise ConnectionError

    async def test() -> None:
        async with asked(serve) as (answer, ask):
            size = 0
            while not answer.body.is_eof():  # what is left is held here, and its store is gone
                size += len((await answer.body.readchunk())[0])
            await asyncio.sleep(0.05)
            assert size + len(await read(answer)) == len(BODY)
            left = await ask()
            await left.body.readchunk()
            left.end()

    run(test())
