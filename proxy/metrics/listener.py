"""Where metrics are read: a listener of its own, for those who hold its token.

It is no part of the front that requesters reach, and depends on nothing that it watches: it answers while
the access log cannot be written, and while no issuer's keys can be had. So its token is its own, and a
look at it is no event of the access log: there is nothing of any report's content to see.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler

from proxy.metrics import CONTENT_TYPE

PATH: Final = "/metrics"
_HEADERS: Final = {"Cache-Control": "no-store", "Server": "counterfoil"}
_MOST: Final = 64
"""Connections."""
_IDLE_SECONDS: Final = 75.0
"""How long one may ask nothing: a scraper comes back each minute or sooner."""


class _Protocol(RequestHandler):
    """One connection."""

    def __init__(self, listener: Listener, **kwargs: Any) -> None:
        super().__init__(listener, **kwargs)
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve it, unless there are too many: whoever has no token takes no files from requesters."""
        super().connection_made(transport)
        if len(self._listener.connections) > _MOST:
            cast("asyncio.Transport", transport).abort()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - it may hold the input
        message: str | None = None,  # noqa: ARG002 - it echoes the input
    ) -> web.StreamResponse:
        """What aiohttp could not read, or we not answer."""
        response = _refusal(400 if status < 500 else 500)
        response.force_close()
        return response


class Listener(web.Server):
    """Answers `GET /metrics`."""

    def __init__(
        self, exposed: Callable[[], Awaitable[bytes]], *, token: str, **kwargs: Any
    ) -> None:
        """`exposed` gives the metrics; `token`: what a reader presents (RFC 6750)."""
        super().__init__(self._handle, keepalive_timeout=_IDLE_SECONDS, **kwargs)
        self._exposed = exposed
        self._expected = _digest(token)

    def __call__(self) -> RequestHandler:
        """A new connection."""
        return _Protocol(self, loop=self._loop, **self._kwargs)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._may(request):
            challenge = {"WWW-Authenticate": 'Bearer realm="counterfoil metrics"'}
            return _refusal(401, **challenge)
        if request.raw_path.partition("?")[0] != PATH:
            return _refusal(404)
        if request.method != hdrs.METH_GET:
            return _refusal(405, Allow=hdrs.METH_GET)
        body = await self._exposed()
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": CONTENT_TYPE})

    def _may(self, request: web.BaseRequest) -> bool:
        presented = request.headers.getall(hdrs.AUTHORIZATION, ())
        if len(presented) != 1:
            return False
        scheme, _, token = presented[0].partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(_digest(token), self._expected)


def _digest(token: str) -> bytes:
    """Of one length, so that comparing takes one time whatever is presented."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _refusal(status: int, **headers: str) -> web.Response:
    return web.Response(status=status, headers={**_HEADERS, **headers})
