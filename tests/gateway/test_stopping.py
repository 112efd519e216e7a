"""A server that stops keeps nobody waiting on a connection on which nothing is asked."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from proxy.gateway.connections import Connections
from proxy.gateway.protocol import Patience
from proxy.gateway.server import Server
from tests.harness import sales
from tests.harness.pki import Authority, trusting
from tests.harness.proxy import stage


@pytest.mark.parametrize("turns", [0, 1, 2], ids=["before", "while it is made", "after"])
async def test_a_connection_that_is_made_while_the_server_stops_is_closed(turns):
    """Whenever the stop comes: before the connection is made, between that and its first turn, or after."""
    nothing: Any = None  # is asked
    held = Connections(most=1, most_each=1)
    slot = held.enter()
    assert slot is not None
    server = Server(
        nothing,
        nothing,
        nothing,
        held=held,
        serves=bool,
        patience=Patience(stall=1, head=1, head_bytes=1 << 16),
    )
    loop = asyncio.get_running_loop()
    theirs, ours = socket.socketpair()
    with theirs:
        theirs.setblocking(False)

        def made() -> asyncio.BaseProtocol:
            stop: tuple[Any, ...] = (server.pre_shutdown,)
            for _ in range(turns):
                stop = (loop.call_soon, *stop)
            loop.call_soon(*stop)
            return server.opened(slot, "127.0.0.1")

        await loop.connect_accepted_socket(made, ours)
        async with asyncio.timeout(20):
            await server.shutdown(3600)
            assert await loop.sock_recv(theirs, 1) == b""


def test_a_client_that_never_says_goodbye_does_not_hold_up_the_stop(tmp_path):
    """TLS on asyncio's own transport, closing and not yet closed: a second close would break it."""
    authority = Authority()
    listen = authority.listening(tmp_path)
    with stage(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, listen=listen) as (
        _,
        proxy,
    ):
        at = urlsplit(proxy.url)
        held = socket.create_connection((at.hostname, at.port), timeout=20)
        client = trusting(authority).wrap_socket(
            held, server_hostname=at.hostname, suppress_ragged_eofs=False
        )
        client.sendall(b"GET /-/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := client.recv(4096):  # ends with the proxy's goodbye; ours is not sent
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200 ")
    client.close()
