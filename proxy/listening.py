"""Where a process is reached: the TLS of its listeners, and their addresses."""

from __future__ import annotations

import socket

from proxy.config import Config
from proxy.errors import CounterfoilError
from proxy.hosts import shown
from proxy.tls import Files, TlsInForce


def tls(config: Config) -> TlsInForce:
    """The TLS that the settings ask for, to be opened."""
    listen = config.settings.listen
    if listen.certificate is None or listen.key is None:
        return TlsInForce(None)
    clients = listen.clients
    revoked = clients.revoked if clients else None
    return TlsInForce(
        Files(
            certificate=config.path(listen.certificate),
            key=config.path(listen.key),
            authority=config.path(clients.authority) if clients else None,
            revoked=config.path(revoked) if revoked else None,
            demanded=clients is not None and clients.required,
            hosts=not listen.names,
        )
    )


def url(host: str, port: int, *, encrypted: bool) -> str:
    """Where a listener is reached, without a path."""
    return f"{'https' if encrypted else 'http'}://{shown(host)}:{port}"


def reserve(host: str, port: int) -> socket.socket:
    """Hold a port that processes of ours are to share; it takes no connection itself.

    Raises CounterfoilError, also where another process listens there: the kernel would let it share too.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if port:
            with socket.socket(family, kind, protocol) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except OSError as exc:
        raise _refused(host, port, exc) from exc
    return held


def _refused(host: str, port: int, exc: OSError) -> CounterfoilError:
    return CounterfoilError(f"cannot listen on {host}:{port}: {exc.strerror}")
