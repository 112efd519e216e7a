"""A report store: a real HTTP server whose answers a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from aiohttp import web

from tests.harness.background import Background


@dataclass
class Page:
    """What the store answers on a path."""

    body: bytes | Callable[[], AsyncIterator[bytes]] = b""
    content_type: str = "text/csv"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pieces: int = 0
    """Send a body of bytes chunked, in pieces of this size."""
    cut_after: int | None = None
    """Break the connection after so many bytes."""
    delay: float = 0


class Store:
    """`pages` maps a path to its page; `asked` holds the requests as (target, headers)."""

    def __init__(self, background: Background) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._background = background
        self.url = background.run(self._start())

    async def _start(self) -> str:
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), shutdown_timeout=0.5
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def close(self) -> None:
        self._background.run(self._runner.cleanup())

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append((request.raw_path, {k.lower(): v for k, v in request.headers.items()}))
        page = self.pages.get(request.path)
        if page is None:
            return web.Response(status=404, text="the store has no such page: secret-detail")
        if page.delay:
            await asyncio.sleep(page.delay)
        headers = {"Content-Type": page.content_type, **page.headers}
        if isinstance(page.body, bytes) and not page.pieces and page.cut_after is None:
            return web.Response(status=page.status, body=page.body, headers=headers)
        response = web.StreamResponse(status=page.status, headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        if callable(page.body):
            async for piece in page.body():
                await response.write(piece)
        else:
            body = page.body if page.cut_after is None else page.body[: page.cut_after]
            size = page.pieces or len(body) or 1
            for start in range(0, len(body), size):
                await response.write(body[start : start + size])
        if page.cut_after is not None and request.transport is not None:
            request.transport.close()
            return response
        await response.write_eof()
        return response
