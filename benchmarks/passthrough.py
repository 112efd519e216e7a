"""What policy is measured against: the same aiohttp code, which passes the store's bytes through."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import web

from proxy.report import Store
from proxy.upstream import Stores


async def _serve(store: Store) -> None:
    async with Stores(connect=5, first_byte=30, total=3600, most=100) as stores:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            async with stores.fetch(store, request.raw_path, "*/*", lambda _: True) as pieces:
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
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"passthrough on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(Store(name="bench", url=sys.argv[1], credential=sys.argv[2], loopback=True)))
