"""The HTTP front: aiohttp's low-level server, with its own refusals and its patience taken over.

aiohttp answers what its parser cannot read before any handler runs, always with 400, and echoes the
input. Here such a fault becomes a recorded refusal like any other, which echoes nothing. What its
parser lets through and RFC 9112 does not is refused in the same way.

It waits for ever for a client that takes nothing, and lets a stop wait twice. Here a connection whose
bytes are not taken in time is aborted, whatever it is in the middle of, and a stop waits once, then
until each answer that it cut is on record.
"""

from __future__ import annotations

import asyncio
import re
import weakref
from typing import Any, Final, Literal, cast

import msgspec
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from proxy.gateway import Gateway
from proxy.gateway.answers import EVENT_HEADER
from proxy.gateway.control import PREFIX, Control
from proxy.gateway.record import Access
from proxy.plan import Deny
from proxy.reasons import Reason

LIVE: Final = "/-/live"
READY: Final = "/-/ready"
_RECORD_SECONDS: Final = 10.0
"""How long a stop waits until the answers that it cut are on record."""
_SHORT: Final = 12
_AT_ONCE: Final = 0.05
"""Seconds; to aiohttp 0 means for ever."""
_HOST: Final = re.compile(r"(?:[A-Za-z0-9\-._~]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?\Z")
"""RFC 9110 §7.2, without what no name of a server has."""
_TOO_MANY: Final = "Too many headers"
"""How aiohttp's parser begins to say so."""


class _ParserFault(web.Response):
    """A refusal that is recorded when it is prepared, before its first byte."""

    def __init__(self, gateway: Gateway, deny: Deny) -> None:
        super().__init__(status=deny.status or deny.reason.status)
        self._gateway = gateway
        self._deny = deny

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Record, then answer."""
        access = Access(address=request.remote or "", method="")
        refusal = await self._gateway.recorder.refuse(access, self._deny)
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
        self._stall = manager.stall
        self._wire: asyncio.Transport | None = None
        self._giving_up: asyncio.TimerHandle | None = None
        self._serving: weakref.ref[asyncio.Task[None]] | None = None

    @property
    def serving(self) -> asyncio.Task[None] | None:
        """What still runs for this connection, even where the client has gone."""
        task = self._serving() if self._serving is not None else None
        return task if task is not None and not task.done() else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        super().connection_made(transport)
        self._wire = cast("asyncio.Transport", transport)
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
        super().force_close()
        if self._wire is not None and self._wire.get_write_buffer_size():
            self._await_taking()

    async def start(self) -> None:
        """Serve requests until the connection is to be closed."""
        await super().start()
        if self._wire is not None and self._wire.get_write_buffer_size():
            self._await_taking()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing can be sent any more."""
        self._stop_waiting()
        self._wire = None
        super().connection_lost(exc)

    def _await_taking(self) -> None:
        if self._giving_up is None and self._wire is not None:
            self._giving_up = self._loop.call_later(self._stall, self._wire.abort)

    def _stop_waiting(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

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

    def __init__(self, gateway: Gateway, control: Control, *, stall: float, **kwargs: Any) -> None:
        """`stall`: seconds for which a client may take nothing of what is sent to it."""
        super().__init__(self._handle, **kwargs)
        self.gateway = gateway
        self._control = control
        self.stall = stall

    def __call__(self) -> RequestHandler:
        """A new connection."""
        return _Protocol(self, loop=self._loop, **self._kwargs)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's
        """Let what runs end by itself, cut what does not in time, and wait until that is on record."""
        running = {task for each in self._connections if (task := _serving(each)) is not None}
        if running:
            _, running = await asyncio.wait(running, timeout=timeout)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_RECORD_SECONDS)
        await super().shutdown(_AT_ONCE)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        # A health check is no access: it refers to the record that this process opened its log with.
        if request.raw_path == LIVE:
            return self._health(200, b"live\n", "text/plain; charset=utf-8")
        if request.raw_path == READY:
            said = readiness(self.gateway)
            status = 200 if said.status == "ready" else 503
            return self._health(status, msgspec.json.encode(said) + b"\n", "application/json")
        deny = _fault(request)
        if deny is not None:
            access = Access(address=request.remote or "", method=request.method)
            return await self.gateway.recorder.refuse(access, deny)
        if request.raw_path.startswith(PREFIX):
            response: web.StreamResponse = await self._control.handle(request)
        else:
            response = await self.gateway.handle(request)
        if hdrs.UPGRADE in request.headers:
            # Nothing is upgraded here. What follows may not be meant as HTTP/1.1: it is not read.
            response.force_close()
        return response

    def _health(self, status: int, said: bytes, media_type: str) -> web.Response:
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


class Readiness(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `/-/ready` tells everybody: never a file, a place in one, or what it holds."""

    status: Literal["ready", "not-ready"]
    log: Literal["written", "failing"]
    """Whether accesses can be put on record. Without that nothing is released: `not-ready`."""
    policy: Literal["in-force", "stale"]
    """`stale`: the folder's policy was refused, and the last good one goes on deciding."""
    version: str
    """The beginning of the hash of the policy in force."""
    cause: str = ""
    """Why the folder's policy was refused, of `reload.CAUSES`."""


def readiness(gateway: Gateway) -> Readiness:
    """What is so now."""
    return Readiness(
        status="ready" if gateway.healthy else "not-ready",
        log="written" if gateway.healthy else "failing",
        policy="stale" if gateway.stale else "in-force",
        version=gateway.snapshot.version[:_SHORT],
        cause=gateway.stale,
    )


def _serving(connection: RequestHandler) -> asyncio.Task[None] | None:
    return connection.serving if isinstance(connection, _Protocol) else None


def _fault(request: web.BaseRequest) -> Deny | None:
    """What RFC 9112 does not allow, or what two parsers could read in two ways; None where all is well.

    HTTP/1.0 is refused for its answers have no chunks: one that is cut looks like a whole one.
    """
    if request.version != HttpVersion11:
        return Deny(reason=Reason.MALFORMED, cause="http-version")
    if _HOST.match(request.headers.get(hdrs.HOST, "")) is None:
        return Deny(reason=Reason.MALFORMED, cause="host")
    if hdrs.TRANSFER_ENCODING in request.headers:
        return Deny(reason=Reason.BODY, cause="body-on-a-read")
    return None
