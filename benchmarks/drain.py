"""Read one answer as fast as a socket gives it, and count."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

_BUFFER = bytearray(1 << 20)


def drain(url: str, target: str, token: str | None = None) -> tuple[float, int]:
    """GET on a connection of its own: seconds and bytes received. Raises where it is no 200."""
    parts = urlsplit(url)
    started = time.perf_counter()
    with socket.create_connection((parts.hostname, parts.port), timeout=600) as sock:
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        sock.sendall(
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{authorization}"
            "Connection: close\r\n\r\n".encode()
        )
        total = sock.recv_into(_BUFFER)
        if not _BUFFER.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(bytes(_BUFFER[:600]).decode(errors="replace"))
        while got := sock.recv_into(_BUFFER):
            total += got
    return time.perf_counter() - started, total
