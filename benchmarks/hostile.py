"""Bytes that a server is to be worn out by: what each connection sends, with or without a token.

A connection's own packets count as hostile bytes, too: those that open and close it, 60 bytes each.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Final
from urllib.parse import urlsplit

PACKETS: Final = 4 * 60
"""Bytes: SYN, ACK, FIN, ACK."""
_HOST: Final = "Host: localhost\r\n"
_MOST_BODY: Final = (1 << 20) - 1024
Make = Callable[[str], Iterator[bytes]]
"""What connections send, one after the other; it is given a token that is good."""


def _heads(line: str, lines: int, connections: int) -> Make:
    def made(_: str) -> Iterator[bytes]:
        head = f"GET / HTTP/1.1\r\n{_HOST}" + "".join(line.format(n) for n in range(lines)) + "\r\n"
        yield from [head.encode()] * connections

    return made


def _posts(body: Callable[[], str], times: int) -> Make:
    def made(token: str) -> Iterator[bytes]:
        text = body()
        for _ in range(times):
            yield (
                f"POST /-/reveal HTTP/1.1\r\n{_HOST}Authorization: Bearer {token}\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}"
            ).encode()

    return made


def _chunks(_: str) -> Iterator[bytes]:
    head = f"POST /-/reveal HTTP/1.1\r\n{_HOST}Transfer-Encoding: chunked\r\n\r\n".encode()
    for junk in (
        b"1;" + b"a" * 8000 + b"\r\nx\r\n",
        b"0" * 15_000 + b"1\r\nx\r\n",
        b"1\r\nx\r\n" * 5_000,
    ):
        yield from [head + junk] * 200


def _tokens(_: str) -> Iterator[bytes]:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    signature = base64.urlsafe_b64encode(os.urandom(64)).decode().rstrip("=")
    deep: object = 0
    for _ in range(900):
        deep = [deep]
    for number in range(300):
        for claims in ({"sub": "a" * 9000}, {"iss": "x", "a": deep}, {"iss": "x", "n": number}):
            text = f"{part({'alg': 'ES256', 'kid': str(number)})}.{part(claims)}.{signature}"
            yield f"GET /small.csv HTTP/1.1\r\n{_HOST}Authorization: Bearer {text}\r\n\r\n".encode()


def _pipelined(_: str) -> Iterator[bytes]:
    yield from [f"GET / HTTP/1.1\r\n{_HOST}\r\n".encode() * 5_000] * 10


def _parameters(token: str) -> Iterator[bytes]:
    target = "/small.csv?" + "&".join(f"p{n}=%41" for n in range(1_200))
    lines = f"{_HOST}Authorization: Bearer {token}\r\nConnection: close\r\n"
    yield from [f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode()] * 300


def _fields(token: str) -> Iterator[bytes]:
    """Lists in fields that are parsed, of a request that is permitted."""
    lists = (
        "Accept: " + ",".join(f"a/b;q=0.{n % 1000:03}" for n in range(1_200)),
        "Accept-Encoding: " + ",".join(f"c{n};q=0.1" for n in range(1_200)),
        "If-None-Match: " + ",".join(f'"{n:08}"' for n in range(1_300)),
        "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(1_600)),
    )
    for line in lists:
        lines = f"{_HOST}Authorization: Bearer {token}\r\nConnection: close\r\n{line}\r\n"
        yield from [f"GET /small.csv HTTP/1.1\r\n{lines}\r\n".encode()] * 100


HOSTILE: Final[Mapping[str, Make]] = {
    "large-heads": _heads("X-{}: " + "a" * 15_000 + "\r\n", 4, 300),
    "many-fields": _heads("X{}: a\r\n", 10_000, 100),
    "no-http": lambda _: iter([b"\x00\xff\r\n" * 50] * 1_000),
    "chunks": _chunks,
    "deep-json": _posts(lambda: "[" * _MOST_BODY, 10),
    "wide-json": _posts(
        lambda: '{"report":"a","field":"b","cells":['
        + ",".join(['{"cell":"","row":{}}'] * (_MOST_BODY // 21 - 4)) + "]}", 10,
    ),
    "wide-rows": _posts(
        lambda: '{"report":"a","field":"b","cells":[{"cell":"","row":{'
        + ",".join([f'"{n}":1' for n in range(_MOST_BODY // 10)]) + "}}]}", 10,
    ),
    "tokens": _tokens,
    "pipelined": _pipelined,
    "parameters": _parameters,
    "fields": _fields,
    "connections": lambda _: iter([b""] * 900),
    "half-heads": lambda _: iter([b"GET / HTTP/1.1\r\nX: " + b"a" * 12_000] * 900),
}  # fmt: skip
"""Over plain TCP."""
HOSTILE_TLS: Final[Mapping[str, Make]] = {
    "tls-garbage": lambda _: (os.urandom(1000) for _ in range(900)),
    "tls-half-hello": lambda _: iter([b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + b"a" * 8_000] * 900),
}  # fmt: skip
"""To a listener with TLS."""


def send(url: str, make: Make, token: str) -> tuple[int, Counter[str]]:
    """Open a connection for each and leave it open; when all are sent, read what is answered, and close.

    One that asks to be closed is answered before the next one, as many at once are refused of one subject.
    Gives how many bytes were sent, and what was answered: statuses, `-` for a connection without an answer.
    """
    parts = urlsplit(url)
    sent, answered = 0, Counter[str]()
    with ExitStack() as stack:
        socks = []
        for data in make(token):
            sock = stack.enter_context(
                socket.create_connection((parts.hostname, parts.port or 0), 20)
            )
            sock.settimeout(5)
            with contextlib.suppress(OSError):
                sock.sendall(data)
            sent += len(data) + PACKETS
            if b"Connection: close" in data:
                answered[_answer(sock)] += 1
            else:
                socks.append(sock)
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            answered[_answer(sock)] += 1
    return sent, answered


def _answer(sock: socket.socket) -> str:
    """The status; `-` where there is none."""
    came = b""
    with contextlib.suppress(OSError):
        while piece := sock.recv(1 << 16):
            came = came or piece
    return came[9:12].decode() if came.startswith(b"HTTP/") else "-"
