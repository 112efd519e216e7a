"""Refusals over real sockets: how soon a huge token is refused, and whether a forbidden report can be told.

C27: a token of 5 MB and one 100,000 levels deep are 401 or 431 within 10 ms, from the first byte sent until
all of the answer is here. A head may not be so large; so beside them there is one 5,000 levels deep, which is
read as a token, and one with nothing odd but its signature, to compare with.

G60: the middle times of an unknown report and of forbidden ones differ by less than 1 ms.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import selectors
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks.figures import Figure, interleaved
from benchmarks.stage import start
from tests.harness import sales
from tests.harness.proxy import Home

TOKEN_ROUNDS: Final = 50
REPORT_ROUNDS: Final = 400
WARM: Final = 20
"""Rounds of reports that are not counted."""
PAUSE: Final = 0.12
"""Seconds before each token: those without an identity that come faster than ten in a second are counted
together, which is less work than a record of each."""
TIMEOUT: Final = 30.0
LIMITS: Final = (
    "limits: {requests_per_minute_per_subject: 100000000,"
    " requests_per_minute_per_address: 100000000}\n"
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where Counterfoil listens, the token of somebody with a grant, and of one without any."""

    proxy: str
    analyst: str
    nobody: str


@contextmanager
def stage() -> Iterator[Stage]:
    """Counterfoil alone: of what is refused a store is never asked."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="counterfoil-bench-")))
        home = Home(
            folder / "home",
            reports=sales.REPORTS,
            rules=sales.RULES,
            store="http://127.0.0.1:9",
            settings=LIMITS,
        )
        proxy, _ = start(
            stack,
            [sys.executable, "-m", "proxy", "serve", "-c", str(home.settings)],
            "counterfoil listens",
        )
        yield Stage(
            proxy=proxy,
            analyst=home.issuer.token("alice", groups=("analysts",), lifetime=7200),
            nobody=home.issuer.token("nora", lifetime=7200),
        )


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _nested(levels: int) -> str:
    head = b'{"alg":"ES256","kid":"k1","typ":"at+jwt"}'
    payload = b'{"a":' + b"[" * levels + b"]" * levels + b"}"
    return f"{_part(head)}.{_part(payload)}.{_part(bytes(64))}"


TOKENS: Final[Mapping[str, str]] = {
    "5mb": "a" * 5_000_000,
    "100000-deep": _nested(100_000),
    "5000-deep": _nested(5_000),
    "plain": _nested(1),
}
"""The last two fit into a head, and are parsed."""


def _refused(url: str, token: str) -> float:
    """Milliseconds from the first byte sent to the last of the answer, which may come before all is sent."""
    parts = urlsplit(url)
    request = (
        f"GET /sales/daily.csv HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    left, came = memoryview(request.encode()), bytearray()
    with (
        socket.create_connection((parts.hostname, parts.port or 0), TIMEOUT) as sock,
        selectors.DefaultSelector() as selector,
    ):
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        started = time.perf_counter()
        while not _whole(came):
            ((_, ready),) = selector.select(TIMEOUT)
            if ready & selectors.EVENT_READ:
                piece = b""
                with contextlib.suppress(ConnectionResetError):
                    piece = sock.recv(1 << 16)
                if not piece:
                    break
                came += piece
            elif left:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    left = left[sock.send(left) :]
            if not left:
                selector.modify(sock, selectors.EVENT_READ)
        took = time.perf_counter() - started
    if came[9:12] not in (b"401", b"431"):
        raise RuntimeError(f"not refused, or cut off without an answer: {bytes(came[:200])!r}")
    return took * 1e3


def _whole(came: bytearray) -> bool:
    head, end, body = came.partition(b"\r\n\r\n")
    if not end:
        return False
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(body) >= int(length)


def _tokens(at: Stage) -> Iterator[Figure]:
    def work(token: str) -> Callable[[], float]:
        def once() -> float:
            time.sleep(PAUSE)
            return _refused(at.proxy, token)

        return once

    works = {name: work(token) for name, token in TOKENS.items()}
    interleaved(works, rounds=2)
    for name, took in interleaved(works, rounds=TOKEN_ROUNDS).items():
        judged = None if name == "plain" else 10.0
        yield Figure(
            name=f"refusals-token-{name}-p50",
            value=statistics.median(took),
            unit="ms",
            bar=judged,
            better="less",
        )
        yield Figure(name=f"refusals-token-{name}-max", value=max(took), unit="ms")


ANALYST: Final = {
    "unknown": ("GET", "/sales/none.csv"),
    "unknown-elsewhere": ("GET", "/none?x=1"),
    "unknown-post": ("POST", "/sales/none.csv"),
    "forbidden": ("GET", "/sales/secret.csv"),
    "forbidden-parameter": ("GET", "/sales/secret.csv?x=1"),
    "forbidden-post": ("POST", "/sales/secret.csv"),
}
NOBODY: Final = {
    "unknown": ("GET", "/sales/none.csv"),
    "unknown-in-a-pattern": ("GET", "/sales/North/none.csv"),
    "forbidden": ("GET", "/sales/daily.csv"),
    "forbidden-in-a-pattern": ("GET", "/sales/North/daily.csv"),
    "forbidden-parameters": ("GET", "/sales/daily.csv?from=2026-01-01&least=5&x=1"),
    "forbidden-for-a-purpose": ("GET", "/sales/audited.csv"),
    "forbidden-post": ("POST", "/sales/daily.csv"),
}


def _reports(at: Stage) -> Iterator[Figure]:
    for who, token, kinds in (("analyst", at.analyst, ANALYST), ("nobody", at.nobody, NOBODY)):
        middles = _middles(at.proxy, token, kinds)
        unknown = [middle for name, middle in middles.items() if name.startswith("unknown")]
        forbidden = [middle for name, middle in middles.items() if name.startswith("forbidden")]
        for name, middle in middles.items():
            yield Figure(name=f"refusals-{who}-{name}-p50", value=middle, unit="ms")
        yield Figure(
            name=f"refusals-{who}-gap",
            value=max(abs(one - other) for one in unknown for other in forbidden),
            unit="ms",
            bar=1.0,
            better="less",
        )


def _middles(url: str, token: str, kinds: Mapping[str, tuple[str, str]]) -> dict[str, float]:
    """Each kind's middle time in ms, all on one connection, in turn."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
    headers = {"Authorization": f"Bearer {token}"}

    def work(method: str, target: str) -> Callable[[], float]:
        def once() -> float:
            started = time.perf_counter()
            connection.request(method, target, headers=headers)
            answer = connection.getresponse()
            answer.read()
            took = time.perf_counter() - started
            if answer.status != 404:
                raise RuntimeError(f"{method} {target}: {answer.status}")
            return took * 1e3

        return once

    with contextlib.closing(connection):
        works = {name: work(*asked) for name, asked in kinds.items()}
        interleaved(works, rounds=WARM)
        measured = interleaved(works, rounds=REPORT_ROUNDS)
    return {name: statistics.median(took) for name, took in measured.items()}


def run() -> Iterator[Figure]:
    """What somebody without a right is told by the time that it takes; each refusal durably on record."""
    with stage() as at:
        yield from _tokens(at)
        yield from _reports(at)
