"""The door: accepts connections, hears who stands behind a load balancer, and only then speaks TLS.

The sockets are accepted here and not by the event loop's own server, for three reasons: each connection
takes the certificates that are in force when it comes; a PROXY header stands before the first byte of TLS;
and who comes beyond the limits costs nothing but the close of a socket.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from proxy.errors import CounterfoilError
from proxy.gateway.connections import Connections, Slot
from proxy.gateway.forwarding import Networks, NotRead, listed, read_header

_LOGGER: Final = logging.getLogger("counterfoil")
_BACKLOG: Final = 1024
_AT_ONCE: Final = 64
"""Connections that are accepted before others get their turn."""
_PAUSE_SECONDS: Final = 1.0
_NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Opened = Callable[[Slot, str], asyncio.Protocol]
"""Makes the protocol of a connection, of its place and its client's address."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """Whose PROXY headers are read, and how long a connection may take to begin."""

    balancers: Networks = ()
    proxy_protocol: bool = False
    seconds: float = 15.0


class Listener(web.BaseSite):
    """Listening sockets of a runner."""

    def __init__(
        self,
        runner: web.ServerRunner,
        sockets: list[socket.socket],
        *,
        opened: Opened,
        tls: Callable[[], ssl.SSLContext | None],
        connections: Connections,
        front: Front,
    ) -> None:
        super().__init__(runner)
        self._sockets = sockets
        self._opened = opened
        self._tls = tls
        self._connections = connections
        self._front = front
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._paused: dict[int, asyncio.TimerHandle] = {}

    @property
    def name(self) -> str:
        """Where it listens."""
        return ", ".join(str(each.getsockname()) for each in self._sockets)

    @property
    def port(self) -> int:
        """The port, the kernel's where that was 0."""
        port: int = self._sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Accept connections."""
        await super().start()
        for each in self._sockets:
            self._loop.add_reader(each.fileno(), self._accept, each)

    async def stop(self) -> None:
        """Accept none any more; those that have not begun end."""
        for each in self._sockets:
            self._loop.remove_reader(each.fileno())
            if (pause := self._paused.pop(each.fileno(), None)) is not None:
                pause.cancel()
            each.close()
        for task in self._beginning:
            task.cancel()
        await super().stop()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connected, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno not in _NO_DESCRIPTOR:
                    raise
                self._pause(listening)
                return
            connected.setblocking(False)
            slot = self._connections.enter()
            if slot is None:
                connected.close()
                continue
            task = self._loop.create_task(self._begin(connected, peer[0], slot))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    def _pause(self, listening: socket.socket) -> None:
        """There is no descriptor for another connection: they wait in the kernel for a while."""
        self._connections.refuse("no-descriptor")
        number = listening.fileno()
        self._loop.remove_reader(number)

        def again() -> None:
            del self._paused[number]
            self._loop.add_reader(number, self._accept, listening)

        self._paused[number] = self._loop.call_later(_PAUSE_SECONDS, again)

    async def _begin(self, connected: socket.socket, address: str, slot: Slot) -> None:
        try:
            if await self._serve(connected, address, slot):
                return
        except (NotRead, TimeoutError):
            self._connections.refuse("no-proxy-header")
        except OSError:  # ssl.SSLError is one: its text is the client's choice
            self._connections.refuse("tls-failed")
        except BaseException:
            _forget(connected, slot)
            raise
        _forget(connected, slot)

    async def _serve(self, connected: socket.socket, address: str, slot: Slot) -> bool:
        """Whether the connection is served, by a protocol that leaves the slot."""
        front, loop = self._front, self._loop
        if listed(address, front.balancers):
            if front.proxy_protocol:
                async with asyncio.timeout(front.seconds):
                    told = await read_header(lambda most: loop.sock_recv(connected, most))
                if told is not None:
                    address = told
                    if not self._connections.identify(slot, address):
                        return False
        elif not self._connections.identify(slot, address):
            return False
        context = self._tls()
        try:
            await loop.connect_accepted_socket(
                lambda: self._opened(slot, address),
                connected,
                ssl=context,
                ssl_handshake_timeout=front.seconds if context is not None else None,
            )
        except TimeoutError as exc:
            raise ConnectionAbortedError from exc
        return True


def _forget(connected: socket.socket, slot: Slot) -> None:
    slot.leave()
    with suppress(OSError):
        connected.close()


async def bind(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Listen on each address of the host; raises CounterfoilError.

    `shared`: with other processes of ours; the kernel gives each its part of the connections.
    """
    loop = asyncio.get_running_loop()
    bound: list[socket.socket] = []
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            bound.append(listening)
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
    except OSError as exc:
        for each in bound:
            each.close()
        raise CounterfoilError(f"cannot listen on {host}:{port}: {exc.strerror}") from exc
    return bound
