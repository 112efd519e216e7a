"""Attacks on framing, in raw bytes: what could be read in two ways is refused, once, and what is huge too."""

from __future__ import annotations

import contextlib
import gzip
import re
import threading
import time
from pathlib import Path

import pytest

from tests.harness import sales, wire
from tests.harness.process import Served
from tests.harness.proxy import Home, Proxy
from tests.harness.store import Store

PATH = "/sales/daily.csv"


@pytest.fixture
def fields(fields) -> bytes:
    return fields.encode()


def statuses(raw: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/[0-9.]+ (\d{3}) ", raw)]


def refused(proxy: Proxy, store: Store, request: bytes, *allowed: int) -> wire.Answer:
    """One answer and the end of the connection; one event; nothing echoed, nothing asked of the store."""
    before = len(proxy.events())
    raw = wire.exchange(proxy.url, request)
    (status,) = statuses(raw)
    answer = wire.parse(raw)
    assert status in allowed, answer
    (event,) = proxy.events()[before:]
    assert (event.access, event.step, event.status) == (answer.event, "refusal", status)
    assert b"canary" not in raw and not store.asked
    return answer


BEHIND = b"GET /sales/daily.csv HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.threat("B14")
@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + BEHIND,
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + BEHIND,
        b"Content-Length: 0\r\nContent-Length: 3\r\n\r\nabc",
        b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"Content-Length: +3\r\n\r\nabc",
        b"Content-Length: -3\r\n\r\nabc",
        b"Content-Length: 3, 3\r\n\r\nabc",
        b"Content-Length: 0x3\r\n\r\nabc",
        b"Content-Length: 3 3\r\n\r\nabc",
        b"Content-Length: \xd9\xa3\r\n\r\nabc",
        b"Content-Length: 1_0\r\n\r\nabcdefghij",
        b"Content-Length: 99999999999999999999999\r\n\r\nabc",
        b"Content-Length:\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding\x00: chunked\r\n\r\n0\r\n\r\n",
        b"X: a\r\n canary\r\n\r\n",
        b"X: a\r\n\tcanary\r\n\r\n",
        b" X: canary\r\n\r\n",
        b"X : canary\r\n\r\n",
        b"X\t: canary\r\n\r\n",
        b": canary\r\n\r\n",
        b"canary\r\n\r\n",
        b"X: a\x00canary\r\n\r\n",
        b"X: a\rcanary\r\n\r\n",
        b"X(canary): a\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nZ\r\ncanary",
        b"Transfer-Encoding: chunked\r\n\r\n5;ext=\ncanary",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\ncanary",
    ],
)
def test_what_two_parsers_could_read_in_two_ways_is_refused(proxy, store, fields, framing):
    """B14: lengths, codings, folds and names of fields in any but the one way: refused, closed, not echoed."""
    request = f"GET {PATH} HTTP/1.1\r\n".encode() + fields + framing
    refused(proxy, store, request, 400, 413)


@pytest.mark.threat("B14")
@pytest.mark.parametrize(
    "first",
    [b"GET\t/sales/daily.csv HTTP/1.1",
     b" GET /sales/daily.csv HTTP/1.1", b"GET /sales/daily.csv HTTP/1.1 canary", b"GET /sales/daily.csv http/1.1",
     b"GET /sales/daily.csv HTTP/1.01", b"GET /sales/daily.csv HTTP/01.1", b"GET /sales/daily.csv", b"G\x00T / HTTP/1.1",
     b"GET /sales/daily.csv XTTP/1.1", b"GET /sales/daily csv HTTP/1.1", b"PRI * HTTP/2.0"],
)  # fmt: skip
def test_a_request_line_has_one_form(proxy, store, fields, first):
    """B14: blanks, versions and methods in any but the one way are refused."""
    refused(proxy, store, first + b"\r\n" + fields + b"\r\n", 400)


@pytest.mark.threat("B14")
@pytest.mark.parametrize("where", ["request line", "field", "end"])
def test_a_bare_line_feed_ends_no_line(proxy, store, fields, where):
    """B14: lines end in CR LF alone: whoever takes a bare LF for an end sees other fields than who does not."""
    head = f"GET {PATH} HTTP/1.1\r\n".encode()
    request = {
        "request line": head.replace(b"\r\n", b"\n") + fields + b"\r\n",
        "field": head + b"X: a\nY: canary\r\n" + fields + b"\r\n",
        "end": head + fields + b"\n",
    }[where]
    refused(proxy, store, request, 400)


@pytest.mark.threat("B15")
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_body_that_is_a_request_is_a_body(proxy, store, fields, method):
    """B15: whatever a read's body holds, there is one answer and one event."""
    inner = f"GET {PATH} HTTP/1.1\r\n".encode() + fields + b"\r\n"
    head = f"{method} {PATH} HTTP/1.1\r\n".encode() + fields
    refused(proxy, store, head + b"Content-Length: %d\r\n\r\n" % len(inner) + inner, 413)


@pytest.mark.threat("B20")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
@pytest.mark.parametrize("target", [PATH, "/-/reveal", "/-/grants"])
def test_a_compressed_request_is_not_unpacked(proxy, store, fields, coding, target):
    """B20: a bomb in a request is refused for its length, its coding or its type, and never unpacked."""
    bomb = gzip.compress(gzip.compress(bytes(64 << 20)))
    request = (
        f"POST {target} HTTP/1.1\r\n".encode()
        + fields
        + f"Connection: close\r\nContent-Encoding: {coding}\r\nContent-Type: application/json\r\n".encode()
        + b"Content-Length: %d\r\n\r\n" % len(bomb)
        + bomb
    )
    raw = wire.exchange(proxy.url, request)
    assert statuses(raw) in ([400], [404], [413], [415]), raw
    assert not store.asked


# ── what is huge ──


@pytest.mark.threat("B18")
@pytest.mark.parametrize(
    ("what", "request_"),
    [
        ("target", b"GET /" + b"a" * (64 << 10) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (
            "query",
            b"GET /sales/daily.csv?"
            + b"a=1&" * (16 << 10)
            + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        ("method", b"G" * (64 << 10) + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("field", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * (64 << 10) + b"\r\n\r\n"),
        ("name", b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X" * (64 << 10) + b": a\r\n\r\n"),
        ("fields", b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: canary\r\n" * 10_000 + b"\r\n"),
    ],
)
def test_a_huge_head_is_refused(proxy, store, what, request_):
    """B18: a target of 64 KiB, a field of that size, ten thousand fields: refused before they are a request."""
    answer = refused(proxy, store, request_, 400, 414, 431)
    assert answer.status in (414, 431) or what == "method"


@pytest.mark.threat("B18")
def test_ten_thousand_trailers_are_not_taken(proxy, store, fields):
    """B18: a read's chunks are refused before their trailer is looked at."""
    request = (
        f"GET {PATH} HTTP/1.1\r\n".encode() + fields + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    )
    refused(proxy, store, request + b"X: canary\r\n" * 10_000 + b"\r\n", 413, 431)


def resident(pid: int) -> int:
    """MiB that the process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * 4096 >> 20


@pytest.mark.threat("B18")
def test_ten_thousand_pipelined_requests_take_no_room(tmp_path, world, store):
    """B18: they are read as they are answered, and those of nobody share their records; memory stays where it is."""
    home = Home(tmp_path, reports=sales.REPORTS, rules=sales.RULES, store=store.url)
    with Served(home) as proxy, wire.connect(proxy.url) as sock:
        proxy.get(PATH)
        before = resident(proxy.pid)
        one = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nX: {'a' * 1000}\r\n\r\n".encode()
        count = 10_000

        def send() -> None:
            sock.sendall(
                one * (count - 1)
                + one.replace(b"Host: localhost", b"Host: localhost\r\nConnection: close")
            )

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        answered, most, tail = 0, 0, b""
        sock.settimeout(60)
        while data := sock.recv(1 << 20):
            found = tail + data
            answered += found.count(b"HTTP/1.1 401 ")
            tail = found[-12:] if not found.endswith(b"HTTP/1.1 401 ") else b""
            most = max(most, resident(proxy.pid))
        sender.join(30)
        assert answered == count
        assert most - before < 48
        events = proxy.events()
        assert len(events) < 2_000 and any(event.step == "burst" for event in events)
        assert not store.asked


@pytest.mark.threat("B18")
@pytest.mark.parametrize("before", ["", "GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_head_of_many_large_fields_takes_no_room(tmp_path, store, before):
    """B18: each field is as large as it may be, and there are as many as there may be: 431, long before they are there."""
    home = Home(tmp_path, reports=sales.REPORTS, rules=sales.RULES, store=store.url)
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 16_000) for number in range(120))
    with Served(home) as proxy, contextlib.ExitStack() as stack:
        size, answers = resident(proxy.pid), []
        for _ in range(50):
            sock = stack.enter_context(wire.connect(proxy.url))
            with contextlib.suppress(ConnectionError):  # it is not waited for to the end
                sock.sendall(before.encode() + b"GET / HTTP/1.1\r\nHost: localhost\r\n" + fields)
            answers.append(statuses(wire.rest(sock)))
        assert resident(proxy.pid) - size < 32
        assert all(each in ([], [401], [431], [401, 431]) for each in answers)
        causes = [event.cause for event in proxy.events() if event.status == 431]
        assert causes and set(causes) == {"head-too-large"}


@pytest.mark.threat("B18")
def test_a_head_may_be_as_large_as_is_said(proxy, store, fields):
    """Three fields of nearly the most bytes, dripping in: answered, and the next on that connection, too."""
    large = "".join(f"X-{number}: {'a' * 16_000}\r\n" for number in range(3))
    head = f"GET {PATH} HTTP/1.1\r\n{large}".encode() + fields
    with wire.connect(proxy.url) as sock:
        for end in (b"\r\n", b"Connection: close\r\n\r\n"):
            for start in range(0, len(head), 9_000):
                sock.sendall(head[start : start + 9_000])
                time.sleep(0.01)
            sock.sendall(end)
        assert statuses(wire.rest(sock)) == [200, 200]


@pytest.mark.threat("B18")
def test_a_connection_that_sends_no_http_is_closed(proxy, store):
    """B18: bytes that are no HTTP, as many as there may be, get one refusal and the end of the connection."""
    raw = wire.exchange(proxy.url, b"\x16\x03\x01" * 1_000_000)
    assert statuses(raw) in ([], [400]) and not store.asked
