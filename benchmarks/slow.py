"""`python -m benchmarks.slow URL COUNT HEAD BODY`: so many slow clients, until it is stopped.

Two thirds of them drip a head until they are cut. Of the others some drip the body of a POST, for which the
server does not wait, and the rest take a large answer in drops. One that is cut or refused comes again,
at once or after a while: it is to be slow, not to ask for much. HEAD are more lines of the head that asks for
the report, BODY of that of the POST.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import uvloop

DROP_SECONDS = 1.0
SPREAD_SECONDS = 15.0
"""In which they begin, so that they are not all cut at once."""
REPORT = "/others.csv"


async def _connected(host: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.get_running_loop().sock_connect(sock, (host, port))
    return sock


async def _drip(sock: socket.socket, first: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, first)
    while True:
        await asyncio.sleep(DROP_SECONDS)
        await loop.sock_sendall(sock, b"a")


async def _sip(sock: socket.socket, first: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, first)
    while await loop.sock_recv(sock, 1024):  # noqa: ASYNC110 - it waits for time to go by
        await asyncio.sleep(DROP_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a client is slow; it comes again after `pause` seconds on average."""

    act: Callable[[socket.socket, bytes], Awaitable[None]]
    first: str
    pause: float


async def _again(host: str, port: int, kind: Kind) -> None:
    await asyncio.sleep(random.random() * SPREAD_SECONDS)
    while True:
        with contextlib.suppress(OSError), await _connected(host, port) as sock:
            await kind.act(sock, kind.first.encode())
        await asyncio.sleep(random.random() * 2 * kind.pause)


async def _all(url: str, count: int, head: str, body: str) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    post = f"POST /-/reveal HTTP/1.1\r\nHost: localhost\r\n{body}Content-Length: 9999\r\n\r\n"
    heads = Kind(act=_drip, first="GET / HTTP/1.1\r\nHost: localhost\r\nX-", pause=1)
    bodies = Kind(act=_drip, first=post, pause=10)
    readers = Kind(
        act=_sip, first=f"GET {REPORT} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n", pause=60
    )
    kinds = (*[heads] * 8, *[bodies] * 3, readers)
    works = [_again(parts.hostname, parts.port, kinds[n % len(kinds)]) for n in range(count)]
    print("slow clients on " + url, flush=True)  # as servers do
    await asyncio.gather(*works)


if __name__ == "__main__":
    uvloop.run(_all(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
