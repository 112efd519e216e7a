"""Where metrics are read: a listener of its own, for those who hold its token.

It is no part of the front that requesters reach, and depends on nothing that it watches: it answers while
the access log cannot be written, and while no issuer's keys can be had. So its token is its own, and a
look at it is no event of the access log: there is nothing of any report's content to see.

PROMISE 4 (bounded memory): whoever has no token takes no descriptor from requesters and no turn from readers.
There are so many connections, of one address a part of them, and none for long where the token is not shown.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler

from proxy.gateway.connections import CAUSES, Connections, Slot
from proxy.gateway.listener import Front, Listener, bind
from proxy.metrics import CONTENT_TYPE, exposition
from proxy.metrics.table import Row, Sample

PATH: Final = "/metrics"
_HEADERS: Final = {"Cache-Control": "no-store", "Server": "counterfoil"}
_MOST: Final = 64
_MOST_EACH: Final = 16
"""Connections: in all, and of one address."""
_CAUSES: Final = {
    "too-many": f"there are {_MOST} to where the metrics are read",
    "too-many-of-address": f"its address has {_MOST_EACH} to where the metrics are read",
    "tls-failed": "no TLS connection came about to where the metrics are read",
    "no-descriptor": CAUSES["no-descriptor"],
    "no-token": "it did not show the token of `metrics` in time",
    "wrong-token": "it asked for the metrics without their token",
}
_REFUSED: Final = Row(
    name="counterfoil_metrics_connections_refused_total",
    kind="counter",
    labels=("cause",),
    help="Connections to where the metrics are read that were closed, `wrong-token` with an answer (401).",
)
TABLE: Final = (_REFUSED,)
"""What is told of the listener itself; with `workers` it is none of theirs."""
_UNKNOWN_SECONDS: Final = 10.0
"""How long one may take to begin, and then to show the token."""
_IDLE_SECONDS: Final = 75.0
"""How long one may ask nothing: a scraper comes back each minute or sooner."""


class _Protocol(RequestHandler):
    """One connection."""

    def __init__(self, server: _Server, slot: Slot, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._connections = server.held
        self._slot = slot
        self._unknown: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve it, for as long as somebody may be unknown."""
        super().connection_made(transport)
        wire = cast("asyncio.Transport", transport)
        self._unknown = self._loop.call_later(_UNKNOWN_SECONDS, self._let_go, wire)

    def known(self) -> None:
        """The token was shown."""
        if self._unknown is not None:
            self._unknown.cancel()

    def _let_go(self, wire: asyncio.Transport) -> None:
        self._connections.refuse("no-token")
        wire.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Its place is free."""
        self.known()
        self._slot.leave()
        super().connection_lost(exc)

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


class _Server(web.Server):
    """Answers `GET /metrics`."""

    def __init__(self, exposed: Callable[[], Awaitable[bytes]], *, token: str) -> None:
        super().__init__(self._handle, keepalive_timeout=_IDLE_SECONDS, access_log=None)
        self.held = Connections(most=_MOST, most_each=_MOST_EACH, causes=_CAUSES)
        self._exposed = exposed
        self._expected = _digest(token)

    def opened(self, slot: Slot, _: str) -> RequestHandler:
        """The protocol of a new connection of that place."""
        return _Protocol(self, slot, loop=self._loop, **self._kwargs)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._may(request):
            self.held.refuse("wrong-token")
            challenge = {"WWW-Authenticate": 'Bearer realm="counterfoil metrics"'}
            response = _refusal(401, **challenge)
            response.force_close()
            return response
        if isinstance(request.protocol, _Protocol):
            request.protocol.known()
        if request.raw_path.partition("?")[0] != PATH:
            return _refusal(404)
        if request.method != hdrs.METH_GET:
            return _refusal(405, Allow=hdrs.METH_GET)
        refused: list[Sample] = [((cause,), self.held.refused[cause]) for cause in _CAUSES]
        own = exposition([(_REFUSED, refused)], process=False)
        body = await self._exposed() + own
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": CONTENT_TYPE})

    def _may(self, request: web.BaseRequest) -> bool:
        presented = request.headers.getall(hdrs.AUTHORIZATION, ())
        if len(presented) != 1:
            return False
        scheme, _, token = presented[0].partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(_digest(token), self._expected)


@asynccontextmanager
async def read_at(
    host: str,
    port: int,
    exposed: Callable[[], Awaitable[bytes]],
    *,
    token: str,
    tls: Callable[[], ssl.SSLContext | None],
) -> AsyncIterator[int]:
    """Have the metrics read there meanwhile; gives the port. Raises CounterfoilError.

    `exposed` gives them; `token`: what a reader presents (RFC 6750); `tls`: what a connection begins with.
    """
    server = _Server(exposed, token=token)
    runner = web.ServerRunner(server)
    await runner.setup()
    try:
        listener = Listener(
            runner,
            await bind(host, port),
            opened=server.opened,
            tls=tls,
            connections=server.held,
            front=Front(seconds=_UNKNOWN_SECONDS),
        )
        await listener.start()
        yield listener.port
    finally:
        await runner.cleanup()


def _digest(token: str) -> bytes:
    """Of one length, so that comparing takes one time whatever is presented."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _refusal(status: int, **headers: str) -> web.Response:
    return web.Response(status=status, headers={**_HEADERS, **headers})
