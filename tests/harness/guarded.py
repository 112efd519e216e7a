"""A server that answers each request as a test says: a store that wants a credential, a token endpoint."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Self

from aiohttp import web

from tests.harness.background import Background

Answers = Callable[[web.BaseRequest, bytes], Awaitable[web.StreamResponse]]


class Guarded:
    """`asked` holds the requests as (target, `Authorization`, body)."""

    def __init__(
        self, background: Background, answer: Answers, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str | None, bytes]] = []
        self.port = 0
        self._tls = tls
        self._background = background
        self.start()

    @property
    def url(self) -> str:
        return (
            f"{'http' if self._tls is None else 'https'}://"
            f"{'127.0.0.1' if self._tls is None else 'localhost'}:{self.port}"
        )

    def start(self) -> None:
        """Again where it was, after `close`."""
        self._background.run(self._start())

    async def _start(self) -> None:
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), shutdown_timeout=0.2
        )
        await self._runner.setup()
        await web.TCPSite(
            self._runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True
        ).start()
        self.port = self._runner.addresses[0][1]

    def close(self) -> None:
        self._background.run(self._runner.cleanup())

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.asked.append((request.raw_path, request.headers.get("Authorization"), body))
        return await self.answer(request, body)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
