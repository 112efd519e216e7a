"""The HTTP front: aiohttp's low-level server, with its own refusals and its patience taken over.

aiohttp answers what its parser cannot read before any handler runs, always with 400, and echoes the
input. Here such a fault becomes a recorded refusal like any other, which echoes nothing.

It waits for ever for a client that takes nothing, and lets a stop wait twice. Here a connection whose
bytes are not taken in time is aborted, whatever it is in the middle of, as is one that takes too long to
send a request's head; and a stop waits once, then until each answer that it cut is on record.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final, cast

import aiohttp.http_writer
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from proxy.gateway import Gateway
from proxy.gateway.answers import EVENT_HEADER
from proxy.gateway.connections import Connections, Slot, network_of
from proxy.gateway.control import PREFIX, Control
from proxy.gateway.framing import fault, is_check
from proxy.gateway.health import READY, readiness, told
from proxy.gateway.peer import Peer, presented
from proxy.gateway.revealing import PATH as REVEAL
from proxy.gateway.revealing import Reveals
from proxy.gateway.tracing import Tracer
from proxy.hosts import host_of
from proxy.plan import Deny
from proxy.reasons import Reason

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
_END_OF_HEAD: Final = b"\r\n\r\n"
_TOO_MANY: Final = "Too many headers"
"""How aiohttp's parser begins to say so."""


class _ParserFault(web.Response):
    """A refusal that is recorded when it is prepared, before its first byte."""

    def __init__(self, gateway: Gateway, deny: Deny) -> None:
        super().__init__(status=deny.reason.status)
        self._gateway = gateway
        self._deny = deny

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Record, then answer."""
        access = self._gateway.access(request, "")
        refusal = await self._gateway.recorder.refuse(access, self._deny)
        self.set_status(refusal.status)
        self.body = refusal.body
        self.headers.update(refusal.headers)
        self.force_close()
        return await super().prepare(request)


class _Protocol(RequestHandler):
    """One connection."""

    def __init__(
        self,
        manager: Server,
        slot: Slot,
        address: str,
        *,
        loop: asyncio.AbstractEventLoop,
        **kwargs: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self.peer = Peer(address=address)
        self._slot = slot
        self._connections = manager.held
        self._gateway = manager.gateway
        self._stall = manager.stall
        self._head = manager.head
        self._hurrying: asyncio.TimerHandle | None = None
        self._most_head = manager.head_bytes
        self._head_bytes = 0
        """Of the head that is not there yet; without what came with the end of the request before."""
        self._begun = False
        """Whether some of another head came with or after the last one."""
        self._body: StreamReader = EMPTY_PAYLOAD
        """That of the last request that came."""
        self._server = manager
        self._wire: asyncio.Transport | None = None
        self._giving_up: asyncio.TimerHandle | None = None
        self._serving: weakref.ref[asyncio.Task[None]] | None = None

    @property
    def serving(self) -> asyncio.Task[None] | None:
        """What still runs for this connection, even where the client has gone."""
        task = self._serving() if self._serving is not None else None
        return task if task is not None and not task.done() else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve, unless the server stops: a TLS handshake may have been under way."""
        self._close = self._server.stopping
        super().connection_made(transport)
        self._wire = cast("asyncio.Transport", transport)
        self._server.wires.add(self._wire)
        certificate = presented(transport.get_extra_info("ssl_object"))
        if certificate is not None:
            self.peer = replace(self.peer, certificate=certificate)
        self._hurry()
        if self._task_handler is not None:
            self._serving = weakref.ref(self._task_handler)

    # PROMISE 4 (bounded memory): whoever takes nothing for `stall` seconds holds nothing any longer.

    def pause_writing(self) -> None:
        """More waits to be sent than the transport likes to hold."""
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        """Enough of it was taken."""
        super().resume_writing()
        self._stop_waiting()
        if self._wire is not None and self._wire.is_closing():
            self._await_taking()

    def force_close(self) -> None:
        """Close as soon as what waits to be sent is taken, or has waited too long."""
        if self._wire is not None and self._wire.is_closing():
            self.transport = None  # asyncio's TLS transport breaks when it is closed a second time
        super().force_close()
        if self._wire is not None and self._wire.get_write_buffer_size():
            self._await_taking()

    async def start(self) -> None:
        """Serve requests until the connection is to be closed."""
        if self._close:  # before it began: aiohttp would wait here, for what it no longer takes in
            self.force_close()
            return
        await super().start()
        if self._wire is not None and self._wire.get_write_buffer_size():
            self._await_taking()

    def data_received(self, data: bytes) -> None:
        """Take in what the client sends; a head must end in time, and before it is too large."""
        if self._head_bytes > self._most_head:
            return  # it is refused; what follows is not for us
        count, in_head = self._request_count, self._body.is_eof()
        super().data_received(data)
        if self._request_count != count:
            self._body, self._head_bytes = self._messages[-1][1], 0
            if isinstance(self._messages[-1][0], _ErrInfo):
                # It is refused: to parse what follows would be in vain.
                self._head_bytes = self._most_head + 1
            self._begun = self._body is EMPTY_PAYLOAD and not data.endswith(_END_OF_HEAD)
        elif in_head:
            self._begun = True
            self._head_bytes += len(data)
            if self._head_bytes > self._most_head:
                self._refuse_head()
        if self._waiter is None or self._waiter.done():
            self._stop_hurrying()
        else:
            self._hurry()

    def _refuse_head(self) -> None:
        """PROMISE 4 (bounded memory): aiohttp bounds each of a head's fields and their number alone."""
        fault = LineTooLong("head", str(self._most_head), str(self._head_bytes))
        self._messages.append((_ErrInfo(status=400, exc=fault, message=""), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _hurry(self) -> None:
        if self._hurrying is None:
            self._hurrying = self._loop.call_later(self._head, self._too_slow)

    def _stop_hurrying(self) -> None:
        if self._hurrying is not None:
            self._hurrying.cancel()
            self._hurrying = None

    def _too_slow(self) -> None:
        self._hurrying = None
        if self._wire is not None and self._waiter is not None and not self._waiter.done():
            self._connections.refuse("slow-head")
            self._wire.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing can be sent any more."""
        self._stop_waiting()
        self._stop_hurrying()
        self._slot.leave()
        if self._wire is not None:
            self._server.wires.discard(self._wire)
        self._wire = None
        super().connection_lost(exc)

    def _await_taking(self) -> None:
        if self._giving_up is None and self._wire is not None:
            self._giving_up = self._loop.call_later(self._stall, self._wire.abort)

    def _stop_waiting(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Send what is still to be sent; with it a trace is over."""
        sent = super().finish_response(request, resp, start_time)
        if self._begun:
            sent = self._hurrying_after(sent)
        tracer = self._gateway.tracer
        return sent if tracer is None else _traced(sent, request, tracer)

    async def _hurrying_after(
        self, sent: Coroutine[Any, Any, tuple[web.StreamResponse, bool]]
    ) -> tuple[web.StreamResponse, bool]:
        """The head that has begun is waited for no longer than any other."""
        try:
            return await sent
        finally:
            if self._wire is not None:
                self._hurry()

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
        elif isinstance(exc, LineTooLong) or _TOO_MANY in str(exc):
            deny = Deny(reason=Reason.TOO_LARGE, cause="head-too-large")
        else:
            deny = Deny(reason=Reason.MALFORMED, cause="framing")
        return _ParserFault(self._gateway, deny)


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
        stall: float,
        head: float,
        head_bytes: int,
        **kwargs: Any,
    ) -> None:
        """`serves`: whether requests may be of a host.

        `stall`: seconds for which a client may take nothing of what is sent to it.

        `head`: seconds in which it sends the head of a request, of about `head_bytes` at most.
        """
        super().__init__(self._handle, **kwargs)
        self.gateway = gateway
        self._control = control
        self._reveals = reveals
        self._serves = serves
        self.held = held
        """The connections that there are."""
        self.stall = stall
        self.head = head
        self.head_bytes = head_bytes
        self.stopping = False
        self.wires: set[asyncio.Transport] = set()
        """Of the connections that there are, those being closed among them."""

    def opened(self, slot: Slot, address: str) -> RequestHandler:
        """The protocol of a new connection of that place and client."""
        return _Protocol(self, slot, address, loop=self._loop, **self._kwargs)

    def pre_shutdown(self) -> None:
        """Close connections on which nothing is asked, now and from now on."""
        self.stopping = True
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
        while self.wires:
            now = self._loop.time()
            waits = any(wire.get_write_buffer_size() for wire in self.wires)
            if now >= leave and (now >= ends or not waits):
                break
            await asyncio.sleep(_GLANCE_SECONDS)
        for wire in tuple(self.wires):
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
        gateway = self.gateway
        if is_check(request):  # nobody is kept from asking how it is
            return self._health(request)
        deny = fault(request, self._serves)
        if deny is not None:
            access = gateway.access(request, request.method)
            return await gateway.recorder.refuse(access, deny)
        rates, network = gateway.askers.rates, network_of(gateway.askers.client(request).address)
        deny = rates.begin(network)
        if deny is not None:
            access = gateway.access(request, request.method)
            return await gateway.recorder.refuse(access, deny)
        try:
            return await self._answer(request)
        finally:
            rates.end(network)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path == REVEAL:
            return await self._reveals.handle(request)
        if request.raw_path.startswith(PREFIX):
            return await self._control.handle(request)
        return await self.gateway.handle(request)

    def _health(self, request: web.BaseRequest) -> web.Response:
        """A health check is no access: it refers to the record that this process opened its log with."""
        status, said, media_type = 200, b"live\n", "text/plain; charset=utf-8"
        if request.raw_path == READY:
            ready = readiness(self.gateway)
            status = 200 if ready.status == "ready" else 503
            foreign = not self._serves(host_of(request.headers.get(hdrs.HOST, "")) or "")
            address = self.gateway.askers.client(request).address
            said, media_type = told(ready, address, foreign=foreign), "application/json"
        return web.Response(
            status=status,
            body=said,
            headers={
                "Content-Type": media_type,
                EVENT_HEADER: self.gateway.recorder.opened,
                "Cache-Control": "no-store",
                "Server": "counterfoil",
            },
        )


async def _traced(
    sent: Coroutine[Any, Any, tuple[web.StreamResponse, bool]],
    request: web.BaseRequest,
    tracer: Tracer,
) -> tuple[web.StreamResponse, bool]:
    status = 0
    try:
        response, reset = await sent
        status = response.status
    finally:
        tracer.end(request, status)
    return response, reset


def _serving(connection: RequestHandler) -> asyncio.Task[None] | None:
    return connection.serving if isinstance(connection, _Protocol) else None
