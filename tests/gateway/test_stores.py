"""Stores that break HTTP's rules, on raw sockets: each answer is one to its own request, or is refused."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

import pytest

from proxy.upstream.resolving import refused as is_refused
from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.proxy import Home, running

PATH = "/sales/daily.csv"
HEAD = b"date,store_id,region,units,net_sales,buyer_email\n"
Script = Callable[[socket.socket, int], bool | None]


class RawStore:
    """Gives `script` each request's socket and number on its connection; True ends the connection."""

    def __init__(self) -> None:
        self.script: Script = lambda *_: True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._sockets.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            for number in range(1, 1000):
                asked = b""
                while b"\r\n\r\n" not in asked:
                    data = sock.recv(65536)
                    if not data:
                        return
                    asked += data
                if self.script(sock, number):
                    return

    def close(self) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    background = Background()
    store = RawStore()
    home = Home(
        tmp_path_factory.mktemp("stores"),
        reports=sales.REPORTS,
        rules=sales.RULES,
        store=store.url,
    )
    home.settings.write_text(
        home.settings.read_text() + "stores: {first_byte_seconds: 1, total_seconds: 2}\n"
    )
    with running(home, background) as proxy:
        yield store, proxy
    store.close()
    background.close()


@pytest.fixture
def ask(world):
    store, proxy = world
    token = proxy.issuer.token("alice", groups=("analysts",))

    def ask(script: Script | None = None) -> wire.Answer:
        if script is not None:
            store.script = script
        return proxy.get(PATH, token=token)

    return ask


def csv(mark: bytes) -> bytes:
    return HEAD + b"2026-01-01,1,%s,1,1,x\n" % mark


def answer(mark: bytes) -> bytes:
    body = csv(mark)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def framed(fields: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n%s\r\n\r\n%s" % (fields, body)


CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(csv(b"A")), csv(b"A"))


@pytest.mark.parametrize(
    "unasked",
    [
        answer(b"POISON"),
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
        b"garbage\r\n\r\n",
        b"H",
    ],
)
def test_what_a_store_says_unasked_answers_no_request(world, ask, unasked):
    """An answer that nobody asked for, late on an idle connection, is not the next requester's."""
    said = threading.Event()

    def late(sock: socket.socket, number: int) -> None:
        sock.sendall(answer(b"N%d" % number))
        # Once the answer has been taken and its connection is idle again.
        threading.Timer(0.1, lambda: (sock.sendall(unasked), said.set())).start()

    first = ask(late)
    assert first.status == 200 and b",N" in first.body
    assert said.wait(5)
    threading.Event().wait(0.1)
    second = ask(lambda sock, _: sock.sendall(answer(b"OWN")))
    assert second.status == 200 and b",OWN," in second.body


def test_more_than_the_stated_length_is_not_another_answer(ask):
    """Bytes beyond an answer's length never become the answer to another request."""
    ask(lambda sock, _: sock.sendall(answer(b"A") + answer(b"POISON")))
    assert b",OWN," in ask(lambda sock, _: sock.sendall(answer(b"OWN"))).body


@pytest.mark.threat("E41", "E43")
@pytest.mark.parametrize(
    "said",
    [
        framed(b"Transfer-Encoding: identity", csv(b"A")),
        framed(b"Transfer-Encoding: xchunked", csv(b"A")),
        framed(b"Transfer-Encoding: gzip, chunked", CHUNKED),
        framed(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKED),
        framed(b"Transfer-Encoding: chunked\r\nContent-Length: 9", CHUNKED),
        framed(b"Content-Length: 9\r\nContent-Length: 9", csv(b"A")),
        framed(b"Content-Length: %d" % (len(csv(b"A")) + 1), csv(b"A")),
        framed(b"Content-Length: %d" % (len(csv(b"A")) - 3), csv(b"A")),
        framed(b"Content-Length: +9", csv(b"A")),
        framed(b"X: none", csv(b"A")),
        framed(b"Transfer-Encoding: chunked", CHUNKED[:-5]),
        framed(b"Transfer-Encoding: chunked", b"zz\r\n" + csv(b"A")),
        framed(b"Transfer-Encoding: chunked", b"-5\r\n" + csv(b"A")),
        framed(b"Content-Length: 9\r\nX: " + b"a" * 200_000, csv(b"A")),
        framed(b"Content-Length: 9" + b"\r\nX: a" * 20_000, csv(b"A")),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
        + answer(b"A"),
        b"HTTP/1.1 206 Partial\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
)
def test_an_answer_without_one_sure_frame_is_refused(ask, said):
    """E40-E44: no byte is released of an answer whose end is not certain, and the next one is whole."""

    def script(sock: socket.socket, _: int) -> bool:
        sock.sendall(said)
        return True

    refused = ask(script)
    assert refused.status == 502 and b"net_sales" not in refused.raw
    assert b",OWN," in ask(lambda sock, _: sock.sendall(answer(b"OWN"))).body


@pytest.mark.threat("E42")
def test_interim_answers_and_trailers_are_passed_over(ask):
    """E42: nothing of a 103 or of a trailer reaches the requester."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </canary>\r\n\r\n"
    trailed = CHUNKED[:-2] + b"Set-Cookie: canary=1\r\n\r\n"
    for said in (hints + answer(b"A"), framed(b"Transfer-Encoding: chunked", trailed)):
        given = ask(lambda sock, _, said=said: sock.sendall(said))
        assert given.status == 200 and b"canary" not in given.raw


@pytest.mark.threat("E48")
@pytest.mark.parametrize("every", [b"HTTP/1.1 100 Continue\r\n\r\n", b"H"])
def test_a_store_that_drips_is_timed_out(ask, every):
    """E48: interim answers or single bytes without end: 504 at the deadline."""

    def drip(sock: socket.socket, _: int) -> bool:
        for byte in every * 12:
            sock.sendall(bytes([byte]))
            threading.Event().wait(0.3)
        return True

    assert ask(drip).status in (502, 504)


@pytest.mark.threat("E49")
@pytest.mark.parametrize(
    ("address", "loopback", "refused"),
    [
        ("10.0.0.7", False, False),
        ("2001:db8::7", False, False),
        ("127.0.0.1", False, True),
        ("127.0.0.1", True, False),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("0.0.0.0", True, True),
        ("169.254.169.254", True, True),
        ("::ffff:169.254.169.254", True, True),
        ("64:ff9b::a9fe:a9fe", True, True),
        ("2002:a9fe:a9fe::1", True, True),
        ("fe80::1%eth0", True, True),
        ("fd00:ec2::254", True, True),
        ("100.100.100.200", True, True),
        ("224.0.0.1", False, True),
        ("no-address", True, True),
    ],
)
def test_a_name_may_not_resolve_to_where_no_store_is(address, loopback, refused):
    """E49: a name that resolves to a metadata or link-local address is refused, in any wrapping."""
    assert is_refused(address, loopback=loopback) is refused
