"""What policy is measured against: a proxy as one writes it with aiohttp, which passes bytes through.

`own` asks the store with the product's own client instead, which is leaner than aiohttp's session: so it
tells what policy, treatments and record cost by themselves. A number has so many processes share the port.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing

import aiohttp
import uvloop
from aiohttp import web
from yarl import URL

from proxy.credentials import Bearer, Secret
from proxy.report import Store
from proxy.upstream import Stores
from proxy.upstream.live import Limits

BUFFER = 1 << 19


async def _own(stores: Stores, store: Store, target: str) -> AsyncIterator[bytes]:
    source = await stores.fetch(store, target, "*/*", lambda _: True)
    try:
        while (piece := await source.read()) != b"":
            if piece is not None:
                yield piece
    finally:
        source.end()


async def _plain(session: aiohttp.ClientSession, store: Store, target: str) -> AsyncIterator[bytes]:
    assert isinstance(store.credential, Bearer)
    headers = {"Authorization": f"Bearer {store.credential.token.value}"}
    url = URL(store.url + target, encoded=True)
    async with session.get(url, headers=headers, allow_redirects=False) as answer:
        async for piece in answer.content.iter_any():
            yield piece


async def _serve(store: Store, *, own: bool, port: int, tells: bool) -> None:
    async with (
        Stores(Limits(connect=5, first_byte=30, total=3600, connections=100)) as stores,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=100),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=BUFFER,
        ) as session,
    ):

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            target = request.raw_path
            asked = _own(stores, store, target) if own else _plain(session, store, target)
            async with aclosing(asked) as pieces:
                first = await anext(pieces)
                second = await anext(pieces, None)
                if second is None:
                    return web.Response(body=first, content_type="application/json")
                response = web.StreamResponse()
                response.enable_chunked_encoding()
                await response.prepare(request)
                await response.write(first)
                await response.write(second)
                async for piece in pieces:
                    await response.write(piece)
                await response.write_eof()
                return response

        runner = web.ServerRunner(web.Server(handle, access_log=None, auto_decompress=False))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, reuse_port=True).start()
        if tells:
            print(f"passthrough on http://127.0.0.1:{port}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    token = Secret(kind="env", place="TOKEN", value=sys.argv[2])
    at = Store(name="bench", url=sys.argv[1], credential=Bearer(token=token), loopback=True)
    held = socket.socket()  # what the processes share; it takes no connection itself
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    processes = sum(int(word) for word in sys.argv[3:] if word.isdecimal()) or 1
    first = True
    for _ in range(processes - 1):
        if not os.fork():
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
            first = False
            break
    port = held.getsockname()[1]
    uvloop.run(_serve(at, own="own" in sys.argv[3:], port=port, tells=first))
