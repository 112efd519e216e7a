"""A client on a raw socket: it sends the bytes that it is told to and sees every byte and frame."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One HTTP/1.1 response as it came over the wire."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    chunks: tuple[int, ...] = ()
    """The lengths of its chunks, where it was chunked."""
    whole: bool = True
    """Whether it ended as its framing says."""
    raw: bytes = field(default=b"", repr=False)

    @property
    def event(self) -> str:
        return self.headers["counterfoil-event"]

    def seen(self) -> tuple[object, ...]:
        """Everything that a requester receives but the date and the event's id."""
        own = self.headers.get("counterfoil-event", "")
        headers = tuple(
            (k, v) for k, v in self.headers.items() if k not in ("date", "counterfoil-event")
        )
        body = self.body.replace(own.encode(), b"EVENT") if own else self.body
        return self.status, headers, body, self.chunks, self.whole


Trust = str | ssl.SSLContext | None
"""The file of the authority to trust, or all that a client has."""


def connect(
    url: str, ca: Trust = None, *, timeout: float = 20, before: bytes = b""
) -> socket.socket:
    """`before` is sent before TLS begins."""
    parts = urlsplit(url)
    encrypted = parts.scheme == "https"
    if before or not encrypted:
        sock = socket.create_connection((parts.hostname, parts.port), timeout=timeout)
        try:
            if before:
                sock.sendall(before)
            return (
                _context(ca).wrap_socket(sock, server_hostname=parts.hostname)
                if encrypted
                else sock
            )
        except BaseException:  # of a connection that is reset meanwhile, something is left to close
            sock.close()
            raise
    # Wrapped before it is connected, for the same reason.
    sock = _context(ca).wrap_socket(socket.socket(), server_hostname=parts.hostname)
    try:
        sock.settimeout(timeout)
        sock.connect((parts.hostname, parts.port))
    except BaseException:
        sock.close()
        raise
    return sock


def _context(ca: Trust) -> ssl.SSLContext:
    return ca if isinstance(ca, ssl.SSLContext) else ssl.create_default_context(cafile=ca)


def exchange(
    url: str, request: bytes, *, ca: Trust = None, timeout: float = 20, before: bytes = b""
) -> bytes:
    """Send `request`, then read until the other side closes."""
    with connect(url, ca, timeout=timeout, before=before) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(request)
        return rest(sock)


def rest(sock: socket.socket) -> bytes:
    """What is still to come, until the other side closes or breaks off."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(1 << 20):
            received += data
    return bytes(received)


def asked(url: str, target: str, *, token: str) -> socket.socket:
    """A connection on which the target is asked for, and nothing is read yet."""
    sock = connect(url)
    sock.sendall(
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    return sock


def get(
    url: str,
    target: str,
    *,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    method: str = "GET",
    ca: Trust = None,
    before: bytes = b"",
) -> Answer:
    """One request on a connection of its own."""
    fields = {"Host": urlsplit(url).netloc, "Connection": "close", **(headers or {})}
    if token is not None:
        fields["Authorization"] = f"Bearer {token}"
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return parse(
        exchange(
            url,
            f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1"),
            ca=ca,
            before=before,
        )
    )


def parse(raw: bytes) -> Answer:
    """The first response in `raw`."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    status = int(first.split(" ")[1])
    if headers.get("transfer-encoding") == "chunked":
        body, chunks, whole, at = bytearray(), [], False, 0
        while at < len(rest):
            end = rest.find(b"\r\n", at)
            if end < 0:
                break
            length = int(rest[at:end], 16)
            if length == 0:
                whole = rest[at:] == b"0\r\n\r\n"
                break
            data = rest[end + 2 : end + 2 + length]
            body += data
            chunks.append(len(data))
            at = end + 2 + length + 2
        return Answer(
            status=status,
            headers=headers,
            body=bytes(body),
            chunks=tuple(chunks),
            whole=whole,
            raw=raw,
        )
    length = int(headers.get("content-length", len(rest)))
    return Answer(
        status=status, headers=headers, body=rest[:length], whole=len(rest) >= length, raw=raw
    )
