"""How long the proxy waits: for clients that take nothing, for requests that do not come, at a stop."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sqlite3
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.harness import sales, wire
from tests.harness.process import Served
from tests.harness.proxy import Home, stage
from tests.harness.store import Page, Store

PATH = "/sales/daily.csv"
CHECK = b"GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
SHORT = sales.as_csv(sales.rows(4000))
LONG = sales.as_csv(sales.rows(40_000))
HUGE = LONG + LONG.split(b"\n", 1)[1] * 9
HASTE = "limits: {stall_seconds: 1, keep_alive_seconds: 1, drain_seconds: 1}\n"


def unread(url: str) -> socket.socket:
    """A connection whose client's kernel takes next to nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    parts = urlsplit(url)
    sock.connect((parts.hostname, parts.port))
    return sock


def request(home: Home, path: str = PATH) -> bytes:
    token = home.issuer.token("alice", groups=("analysts",))
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )


def until(condition, seconds: float = 40) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(met)


@pytest.fixture
def store(background):
    store = Store(background)
    yield store
    store.close()


def held(proxy: Served) -> int:
    """How many accepted connections the process has: those at its port that belong to a descriptor."""
    port = f":{urlsplit(proxy.url).port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    accepted = [line[9] for line in lines if line[1].endswith(port) and line[3] != "0A"]
    return sum(inode != "0" for inode in accepted)


@pytest.mark.threat("B19")
@pytest.mark.parametrize("how", ["short answers", "one short answer", "a long answer", "refusals"])
def test_who_takes_nothing_is_let_go(tmp_path, store, how):
    """B19: an answer that nobody takes keeps no connection, whatever it is, and the record covers it."""
    store.pages[PATH] = Page(HUGE if how == "a long answer" else SHORT)
    home = Home(tmp_path, reports=sales.REPORTS, rules=sales.RULES, store=store.url, settings=HASTE)
    with Served(home) as proxy, unread(proxy.url) as sock:
        one = request(home, "/none" if how == "refusals" else PATH)
        if how == "refusals":
            sock.settimeout(1)
            with suppress(TimeoutError, ConnectionError):
                while True:
                    sock.send(one * 100)
        else:
            sock.sendall(one * (100 if how == "short answers" else 1))
            assert until(lambda: held(proxy) == 1)
        assert until(lambda: held(proxy) == 0), "the connection is still there"
        if how == "a long answer":
            assert until(lambda: proxy.events()[-1].ended == "client-gone")
        assert "Traceback" not in proxy.output


@pytest.mark.threat("B17")
@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nX", b"GET /sales/d"])
def test_a_request_that_does_not_come_is_not_waited_for(tmp_path, sent):
    """B17: a head that does not end within the deadline, however it drips, ends the connection."""
    with (
        stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES, settings=HASTE) as (_, proxy),
        wire.connect(proxy.url) as sock,
    ):
        sock.sendall(sent)
        sock.settimeout(0.1)
        for _ in range(100):
            try:
                if sock.recv(1000) == b"":
                    break
            except TimeoutError:
                if sent:
                    sock.sendall(b"y")
            except ConnectionError:
                break
        else:
            pytest.fail("the connection is still there")


def test_a_head_that_is_whole_leaves_nothing_to_wait_for(tmp_path):
    """However its end came, and however many came at once: the connection is kept as long as is said."""
    settings = "limits: {head_seconds: 2, keep_alive_seconds: 600}\n"
    sent = (
        [CHECK],
        [CHECK[:-2], b"\r\n"],
        [CHECK[:-1], b"\n"],
        [CHECK[:-4], *(bytes([each]) for each in CHECK[-4:])],
        [CHECK * 70],
    )
    with (
        stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES, settings=settings) as (_, proxy),
        ExitStack() as stack,
    ):
        socks = [stack.enter_context(wire.connect(proxy.url)) for _ in sent]
        for sock, pieces in zip(socks, sent, strict=True):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for each in pieces:
                sock.sendall(each)
                time.sleep(0.01)  # so that it comes by itself
            answers = b""
            while answers.count(b"live\n") < sum(map(len, pieces)) // len(CHECK):
                answers += sock.recv(1 << 16)
        time.sleep(3)
        assert not proxy.app.connections.refused
        for sock in socks:
            sock.sendall(CHECK)
            assert sock.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


@pytest.mark.threat("B17")
@pytest.mark.parametrize("begun", ["with it", "after it", "behind many"])
def test_a_second_head_is_not_waited_for_either(tmp_path, begun):
    """B17: one that began with the request before it, or while that was answered."""
    settings = "limits: {head_seconds: 1, keep_alive_seconds: 600}\n"
    check, partial = CHECK, b"GET /sal"
    with (
        stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES, settings=settings) as (_, proxy),
        wire.connect(proxy.url) as sock,
    ):
        if begun == "with it":
            sock.sendall(check + partial)
        elif begun == "behind many":
            sock.sendall(check * 70 + partial)
        else:
            sock.sendall(check)
            assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
            sock.sendall(partial)
        wire.rest(
            sock
        )  # until it is closed; the socket's own patience ends before that of a kept connection
        assert proxy.app.connections.refused["slow-head"] == 1


@pytest.mark.parametrize(
    "busy", ["taking nothing", "waiting for more", "waiting for the store", "gone"]
)
def test_a_stop_ends_in_time_and_what_it_cut_is_on_record(tmp_path, store, busy):
    """SIGTERM: one drain, then each access has its end in the log, which is sealed; exit status 0."""

    async def slow():
        yield LONG[: 1 << 20]
        await asyncio.sleep(30)

    waiting = busy in ("waiting for the store", "gone")
    body = HUGE if busy == "taking nothing" else LONG if waiting else slow
    store.pages[PATH] = Page(body, delay=30 if waiting else 0)
    patient = HASTE.replace("stall_seconds: 1", "stall_seconds: 60")
    home = Home(
        tmp_path, reports=sales.REPORTS, rules=sales.RULES, store=store.url, settings=patient
    )
    with Served(home) as proxy, closing(unread(proxy.url)) as sock, wire.connect(proxy.url) as idle:
        sock.sendall(request(home))
        assert until(lambda: store.asked)
        assert waiting or until(lambda: any(event.step == "intent" for event in proxy.events()))
        if busy == "gone":
            sock.close()
            time.sleep(0.2)
        began = time.monotonic()
        assert proxy.close() == 0
        assert time.monotonic() - began < 10
        last = proxy.events()[-1]
        assert last.report == "sales/daily" and last.subject
        if waiting:
            assert (last.step, last.cause, last.bytes) == ("refusal", "stopped", 0)
            told = wire.parse(wire.rest(sock)) if busy != "gone" else None
            assert told is None or (told.status, told.event) == (503, last.access)
        else:
            assert (last.step, last.ended) == ("outcome", "stopped") and last.bytes > 0
        with closing(sqlite3.connect(home.folder / "access.db")) as database:
            ((sealed,),) = database.execute("SELECT sealed FROM log WHERE epoch > 0").fetchall()
            assert sealed
        assert idle.recv(1) == b""
        assert "Traceback" not in proxy.output


def test_a_stop_lets_a_running_answer_end(tmp_path, store):
    """SIGTERM in mid-stream: what ends within the drain is whole, on the wire and on record."""

    async def slow():
        yield LONG[: 1 << 20]
        await asyncio.sleep(0.7)
        yield LONG[1 << 20 :]

    store.pages[PATH] = Page(slow)
    home = Home(
        tmp_path,
        reports=sales.REPORTS,
        rules=sales.RULES,
        store=store.url,
        settings="limits: {drain_seconds: 10}\n",
    )
    with Served(home) as proxy, wire.connect(proxy.url) as sock:
        sock.sendall(request(home))
        received = bytearray(sock.recv(1000))
        proxy.process.send_signal(signal.SIGTERM)
        while data := sock.recv(1 << 20):
            received += data
        assert wire.parse(bytes(received)).whole
        assert proxy.close() == 0
        assert proxy.events()[-1].ended == "whole"


def test_a_reload_may_be_asked_for_while_the_proxy_starts(tmp_path, store):
    """SIGHUP that comes early or often neither ends the process nor is lost."""
    home = Home(tmp_path, reports=sales.REPORTS, rules=sales.RULES, store=store.url)
    with Served(home) as proxy:
        home.write("policy.csv", sales.RULES + "# another version\n")
        for _ in range(20):
            proxy.process.send_signal(signal.SIGHUP)
        assert until(lambda: "is in force" in proxy.output)
        (first,) = re.findall(r"with policy (\w+)", proxy.output)
        assert until(lambda: re.findall(r"policy (\w+) is in force", proxy.output)[-1] != first)
        assert proxy.close() == 0
