"""One connection of the HTTP front: its head in time and within bounds, its answers taken in time.

aiohttp answers what its parser cannot read before any handler runs, always with 400, and echoes the
input. Here such a fault becomes a recorded refusal like any other, which echoes nothing.

It waits for ever for a client that takes nothing. Here a connection whose bytes are not taken in time is
aborted, whatever it is in the middle of, as is one that takes too long to send a request's head.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from aiohttp import web, web_protocol
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.gateway import Gateway
from proxy.gateway.connections import Connections, Slot, network_of
from proxy.gateway.peer import Peer, presented
from proxy.gateway.tracing import Tracer
from proxy.plan import Deny
from proxy.reasons import Reason

# What stands for a request that could not be read has its fields, which are none, in a dict: whoever looks
# for one of a balancer's, or for a trace's, as in any other request would fail.
web_protocol.ERROR = web_protocol.ERROR._replace(headers=CIMultiDictProxy(CIMultiDict()))

_END_OF_HEAD: Final = b"\r\n\r\n"
_TOO_MANY: Final = "Too many headers"
"""How aiohttp's parser begins to say so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long and how much is waited for."""

    stall: float
    """Seconds for which a client may take nothing of what is sent to it."""
    head: float
    """Seconds in which it sends the head of a request …"""
    head_bytes: int
    """… of about so many bytes at most."""


@dataclass(kw_only=True, slots=True)
class Wires:
    """What the connections of a server have in common."""

    gateway: Gateway
    held: Connections
    patience: Patience
    stopping: bool = False
    """Whether connections on which nothing is asked are closed."""
    all: set[asyncio.Transport] = field(default_factory=set)
    """Of the connections that there are, those being closed among them."""


class _ParserFault(web.Response):
    """A refusal that is recorded when it is prepared, before its first byte; it counts as a request does."""

    def __init__(self, gateway: Gateway, deny: Deny) -> None:
        super().__init__(status=deny.reason.status)
        self._gateway = gateway
        self._deny = deny

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Record, then answer."""
        gateway = self._gateway
        rates, network = gateway.askers.rates, network_of(gateway.askers.client(request).address)
        busy = rates.begin(network)
        try:
            access = gateway.access(request, "")
            refusal = await gateway.recorder.refuse(access, busy or self._deny)
        finally:
            if busy is None:
                rates.end(network)
        self.set_status(refusal.status)
        self.body = refusal.body
        self.headers.update(refusal.headers)
        self.force_close()
        return await super().prepare(request)


class Connection(RequestHandler):
    """One connection."""

    def __init__(
        self,
        manager: web.Server,
        wires: Wires,
        slot: Slot,
        address: str,
        *,
        loop: asyncio.AbstractEventLoop,
        **kwargs: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self.peer = Peer(address=address)
        self._slot = slot
        self._wires = wires
        self._gateway = wires.gateway
        self._patience = wires.patience
        self._hurrying: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        """Of the head that is not there yet; without what came with the end of the request before."""
        self._begun = False
        """Whether some of another head came with or after the last one."""
        self._last = b""
        """What came last, which may be the end of a head."""
        self._body: StreamReader = EMPTY_PAYLOAD
        """That of the last request that came."""
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
        self._close = self._wires.stopping
        super().connection_made(transport)
        self._wire = cast("asyncio.Transport", transport)
        self._wires.all.add(self._wire)
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
        if self._head_bytes > self._patience.head_bytes:
            return  # it is refused; what follows is not for us
        count, in_head = self._request_count, self._body.is_eof()
        self._last = (self._last + data[-len(_END_OF_HEAD) :])[-len(_END_OF_HEAD) :]
        super().data_received(data)
        if self._request_count != count:
            self._body, self._head_bytes = self._messages[-1][1], 0
            if isinstance(self._messages[-1][0], _ErrInfo):
                # It is refused: to parse what follows would be in vain.
                self._head_bytes = self._patience.head_bytes + 1
            self._begun = self._body is EMPTY_PAYLOAD and self._last != _END_OF_HEAD
        elif in_head and data:  # without, aiohttp parses more of what was here
            self._begun = True
            self._head_bytes += len(data)
            if self._head_bytes > self._patience.head_bytes:
                self._refuse_head()
        if self._waiter is None or self._waiter.done():
            self._stop_hurrying()
        else:
            self._hurry()

    def _refuse_head(self) -> None:
        """PROMISE 4 (bounded memory): aiohttp bounds each of a head's fields and their number alone."""
        fault = LineTooLong("head", str(self._patience.head_bytes), str(self._head_bytes))
        self._messages.append((_ErrInfo(status=400, exc=fault, message=""), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _hurry(self) -> None:
        if self._hurrying is None:
            self._hurrying = self._loop.call_later(self._patience.head, self._too_slow)

    def _stop_hurrying(self) -> None:
        if self._hurrying is not None:
            self._hurrying.cancel()
            self._hurrying = None

    def _too_slow(self) -> None:
        self._hurrying = None
        if self._wire is not None and self._waiter is not None and not self._waiter.done():
            self._wires.held.refuse("slow-head")
            self._wire.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing can be sent any more."""
        self._stop_waiting()
        self._stop_hurrying()
        self._slot.leave()
        if self._wire is not None:
            self._wires.all.discard(self._wire)
        self._wire = None
        super().connection_lost(exc)

    def _await_taking(self) -> None:
        if self._giving_up is None and self._wire is not None:
            self._giving_up = self._loop.call_later(self._patience.stall, self._wire.abort)

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
