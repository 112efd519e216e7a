"""The HTTP front: aiohttp's low-level server, which passes requests to their doors, and its stop taken over.

aiohttp lets a stop wait twice. Here it waits once, then until each answer that it cut is on record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import aiohttp.http_writer
from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler

from proxy.gateway import Gateway
from proxy.gateway.answers import EVENT_HEADER
from proxy.gateway.connections import Connections, Slot, network_of
from proxy.gateway.control import PREFIX, Control
from proxy.gateway.framing import fault, is_check
from proxy.gateway.health import READY, readiness, told
from proxy.gateway.protocol import Connection, Patience, Wires
from proxy.gateway.revealing import PATH as REVEAL
from proxy.gateway.revealing import Reveals
from proxy.hosts import host_of

# Before Python 3.12.9 aiohttp puts a chunk and its frame together, which moves all bytes once more: asyncio's
# own transports took parts without an end. Ours are uvloop's, which never did.
aiohttp.http_writer.SKIP_WRITELINES = False
aiohttp.http_writer.MIN_PAYLOAD_FOR_WRITELINES = (
    1 << 15
)  # to move less costs less than to send two parts

_RECORD_SECONDS: Final = 10.0
"""How long a stop waits until the answers that it cut are on record."""
_AT_ONCE: Final = 0.05
"""Seconds; to aiohttp 0 means for ever."""
_GOODBYE_SECONDS: Final = 1.0
"""How long a client has to close its side of TLS, which many never do."""
_GLANCE_SECONDS: Final = 0.01


class Server(web.Server):
    """Makes a connection's protocol; answers the health checks, passes the rest on."""

    def __init__(
        self,
        gateway: Gateway,
        control: Control,
        reveals: Reveals,
        *,
        held: Connections,
        serves: Callable[[str], bool],
        patience: Patience,
        **kwargs: Any,
    ) -> None:
        """`serves`: whether requests may be of a host."""
        super().__init__(self._handle, **kwargs)
        self._gateway = gateway
        self._control = control
        self._reveals = reveals
        self._serves = serves
        self._wires = Wires(gateway=gateway, held=held, patience=patience)

    def opened(self, slot: Slot, address: str) -> RequestHandler:
        """The protocol of a new connection of that place and client."""
        return Connection(self, self._wires, slot, address, loop=self._loop, **self._kwargs)

    def pre_shutdown(self) -> None:
        """Close connections on which nothing is asked, now and from now on."""
        self._wires.stopping = True
        super().pre_shutdown()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's
        """Let what runs end by itself, cut what does not in time, and wait until that is on record."""
        ends = self._loop.time() + (timeout or 0)
        running = {task for each in self._connections if (task := _serving(each)) is not None}
        if running:
            _, running = await asyncio.wait(running, timeout=timeout)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_RECORD_SECONDS)
        await super().shutdown(_AT_ONCE)
        await self._goodbye(ends)

    async def _goodbye(self, ends: float) -> None:
        """Let what was said arrive until then, and a closing TLS connection be closed; then cut."""
        leave = self._loop.time() + _GOODBYE_SECONDS
        while self._wires.all:
            now = self._loop.time()
            waits = any(wire.get_write_buffer_size() for wire in self._wires.all)
            if now >= leave and (now >= ends or not waits):
                break
            await asyncio.sleep(_GLANCE_SECONDS)
        for wire in tuple(self._wires.all):
            wire.abort()
        await asyncio.sleep(0)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._handled(request)
        if hdrs.UPGRADE in request.headers or request.method == hdrs.METH_CONNECT:
            # Nothing is upgraded here, and nowhere connected to. What follows may not be HTTP/1.1, and is not
            # read.
            response.force_close()
        return response

    async def _handled(self, request: web.BaseRequest) -> web.StreamResponse:
        gateway = self._gateway
        if is_check(request):  # nobody is kept from asking how it is
            return self._health(request)
        rates, network = gateway.askers.rates, network_of(gateway.askers.client(request).address)
        deny = rates.begin(network)
        if deny is not None:
            return await gateway.recorder.refuse(gateway.access(request, request.method), deny)
        try:
            return await self._answer(request)
        finally:
            rates.end(network)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        deny = fault(request, self._serves)
        if deny is not None:
            access = self._gateway.access(request, request.method)
            return await self._gateway.recorder.refuse(access, deny)
        if request.raw_path == REVEAL:
            return await self._reveals.handle(request)
        if request.raw_path.startswith(PREFIX):
            return await self._control.handle(request)
        return await self._gateway.handle(request)

    def _health(self, request: web.BaseRequest) -> web.Response:
        """A health check is no access: it refers to the record that this process opened its log with."""
        status, said, media_type = 200, b"live\n", "text/plain; charset=utf-8"
        if request.raw_path == READY:
            ready = readiness(self._gateway)
            status = 200 if ready.status == "ready" else 503
            foreign = not self._serves(host_of(request.headers.get(hdrs.HOST, "")) or "")
            address = self._gateway.askers.client(request).address
            said, media_type = told(ready, address, foreign=foreign), "application/json"
        return web.Response(
            status=status,
            body=said,
            headers={
                "Content-Type": media_type,
                EVENT_HEADER: self._gateway.recorder.opened,
                "Cache-Control": "no-store",
                "Server": "counterfoil",
            },
        )


def _serving(connection: RequestHandler) -> asyncio.Task[None] | None:
    return connection.serving if isinstance(connection, Connection) else None
