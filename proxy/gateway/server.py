"""The HTTP front: aiohttp's low-level server, with its own refusals taken over.

aiohttp answers what its parser cannot read before any handler runs, always with 400, and echoes the
input. Here such a fault becomes a recorded refusal like any other, which echoes nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from proxy.gateway import EVENT_HEADER, Gateway
from proxy.gateway.record import Access
from proxy.plan import Deny, Reason

LIVE: Final = "/-/live"
READY: Final = "/-/ready"


class _ParserFault(web.Response):
    """A refusal that is recorded when it is prepared, before its first byte."""

    def __init__(self, gateway: Gateway, deny: Deny) -> None:
        super().__init__(status=deny.status or deny.reason.status)
        self._gateway = gateway
        self._deny = deny

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Record, then answer."""
        access = Access(address=request.remote or "", method="")
        refusal = await self._gateway.refuse(access, self._deny)
        self.set_status(refusal.status)
        self.body = refusal.body
        self.headers.update(refusal.headers)
        self.force_close()
        return await super().prepare(request)


class _Protocol(RequestHandler):
    """One connection."""

    def __init__(self, manager: Server, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self._gateway = manager.gateway

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it echoes the input
    ) -> web.StreamResponse:
        """What aiohttp could not read."""
        if status >= 500:
            deny = Deny(reason=Reason.INTERNAL, cause="server-error")
        elif isinstance(exc, LineTooLong):
            deny = Deny(reason=Reason.TOO_LARGE, cause="line-too-long")
        else:
            deny = Deny(reason=Reason.MALFORMED, cause="framing")
        return _ParserFault(self._gateway, deny)


class Server(web.Server):
    """Makes a connection's protocol; answers the health checks, passes all else to the gateway."""

    def __init__(self, gateway: Gateway, **kwargs: Any) -> None:
        super().__init__(self._handle, **kwargs)
        self.gateway = gateway

    def __call__(self) -> RequestHandler:
        """A new connection."""
        return _Protocol(self, loop=self._loop, **self._kwargs)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        # A health check is no access: it refers to the record that this process opened its log with.
        if request.raw_path == LIVE:
            return self._health(healthy=True, said="live")
        if request.raw_path == READY:
            healthy = self.gateway.healthy
            return self._health(healthy=healthy, said="ready" if healthy else "not ready")
        return await self.gateway.handle(request)

    def _health(self, *, healthy: bool, said: str) -> web.Response:
        return web.Response(
            status=200 if healthy else 503,
            text=f"{said}\n",
            headers={
                EVENT_HEADER: self.gateway.opened,
                "Cache-Control": "no-store",
                "Server": "counterfoil",
            },
        )
