"""How much one client may ask, and how slowly: limits of connections, rate and patience, and who is spared."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest

from proxy.gateway.connections import CAUSES, Connections
from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.process import Served
from tests.harness.proxy import Home, stage
from tests.harness.store import Page, Store

PATH = "/sales/daily.csv"


def until(condition, seconds: float = 20) -> bool:
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.02)
    return condition()


@contextlib.contextmanager
def world(folder, limits: str = ""):
    settings = f"limits: {{{limits}}}\n" if limits else ""
    with stage(folder, reports=sales.REPORTS, rules=sales.RULES, settings=settings) as (
        store,
        proxy,
    ):
        store.pages[PATH] = Page(sales.as_csv(sales.rows(20)))
        yield store, proxy


def closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1000) == b""
    except ConnectionError:
        return True


@pytest.mark.threat("B17")
def test_a_thousand_slow_heads_and_bodies_end_and_keep_nobody_waiting(tmp_path):
    """B17: a good client is answered while they drip, each is closed by the deadline, and the log is not filled."""
    with (
        contextlib.closing(Background()) as background,
        contextlib.closing(Store(background)) as store,
    ):
        store.pages[PATH] = Page(sales.as_csv(sales.rows(20)))
        home = Home(
            tmp_path,
            reports=sales.REPORTS,
            rules=sales.RULES,
            store=store.url,
            settings="limits: {head_seconds: 2}\n",
        )
        token = home.issuer.token("alice", groups=("analysts",))
        body = f"POST /-/reveal HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        slow = [
            b"",
            b"GET /sales/daily.csv HTTP/1.1\r\nHost: localhost\r\nX: ",
            b"GET /sa",
            body.encode()[:-2] + b"\r\nContent-Length: 10\r\nContent-Type: text/plain\r\n\r\na",
        ]
        with Served(home) as proxy, contextlib.ExitStack() as stack, proxy.explained():
            socks = []
            for number in range(1000):
                socks.append(stack.enter_context(wire.connect(proxy.url)))
                socks[-1].sendall(slow[number % len(slow)])
            for _ in range(20):
                for sock in socks[1::4] + socks[2::4]:
                    with contextlib.suppress(OSError):
                        sock.send(b"y")
                assert proxy.get(PATH, token=token).status == 200
            assert all(closed(sock) or closed(sock) for sock in socks)
            assert proxy.get(PATH, token=token).status == 200
            lines = [line for line in proxy.output.splitlines() if "closed: " in line]
            assert 1 <= len(lines) <= 2
            assert "Traceback" not in proxy.output


@pytest.mark.threat("B21")
def test_one_subject_with_many_reports_at_once_is_told_to_wait(tmp_path):
    """B21: of 500 that it opens of one store, 96 run and the others get 429, on record; another subject does not notice."""
    with world(tmp_path, "drain_seconds: 1") as (store, proxy):
        store.pages["/sales/daily.csv"] = Page(sales.as_csv(sales.rows(20)), delay=60)
        token = proxy.issuer.token("alice", groups=("analysts",))
        one = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(wire.connect(proxy.url)) for _ in range(500)]
            for sock in socks:
                sock.sendall(one.encode())
            assert until(
                lambda: sum(e.reason == "too-many-requests" for e in proxy.events()) == 404
            )
            assert proxy.app.gateway.running == 96 and until(lambda: len(store.asked) == 96)
            store.pages[PATH] = Page(sales.as_csv(sales.rows(20)))
            answer = proxy.get(PATH, token=proxy.issuer.token("bob", groups=("analysts",)))
            assert answer.status == 200
            refused = [wire.parse(wire.rest(sock)) for sock in socks if readable(sock)]
            assert {each.status for each in refused} == {429} and len(refused) == 404
            assert all(int(each.headers["retry-after"]) > 0 for each in refused)


def readable(sock: socket.socket) -> bool:
    sock.settimeout(0)
    try:
        return sock.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return False
    finally:
        sock.settimeout(20)


def test_a_subject_over_its_rate_is_told_when_to_come_again(tmp_path):
    """429 with Retry-After, one record for many in a burst of them; another subject is served."""
    with world(tmp_path, "requests_per_minute_per_subject: 50") as (store, proxy):
        token = proxy.issuer.token("alice", groups=("analysts",))
        answers = [proxy.get(PATH, token=token) for _ in range(150)]
        assert [each.status for each in answers[:50]] == [200] * 50
        late = [each for each in answers if each.status == 429]
        assert len(late) >= 95 and all(1 <= int(each.headers["retry-after"]) <= 60 for each in late)
        assert len(store.asked) == 150 - len(late)
        document = json.loads(late[-1].body)
        assert document["type"] == "urn:counterfoil:problem:too-many-requests"
        events = proxy.events()
        known = {event.access: event for event in events}
        assert all(each.event in known for each in late)
        bursts = [known[each.event] for each in late if known[each.event].step == "burst"]
        assert bursts and len(events) < 150
        opaque = proxy.app.keys.keyring.opaque("user:alice")
        assert {(each.subject, each.address) for each in bursts} == {(opaque, "")}
        other = proxy.get(PATH, token=proxy.issuer.token("bob", groups=("analysts",)))
        assert other.status == 200


@pytest.mark.skipif(sys.platform != "linux", reason="how a process is stopped")
def test_refusals_that_come_all_at_once_share_one_record(tmp_path):
    """Hundreds of refusals between two commits of the log: beyond the rate they have one record together, and its count."""
    home = Home(tmp_path, reports=sales.REPORTS, rules=sales.RULES, store="http://127.0.0.1:9")
    with Served(home) as proxy, contextlib.ExitStack() as stack, proxy.explained():
        socks = [stack.enter_context(wire.connect(proxy.url)) for _ in range(300)]
        proxy.process.send_signal(signal.SIGSTOP)
        for sock in socks:
            sock.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        proxy.process.send_signal(signal.SIGCONT)
        answers = [wire.parse(wire.rest(sock)) for sock in socks]
        assert {each.status for each in answers} == {401}
        assert proxy.close() == 0
        bursts = [event for event in proxy.events() if event.step == "burst"]
        own = sum(event.step == "refusal" for event in proxy.events())
        assert sum(event.part == 0 for event in bursts) <= 2
        assert own + sum(event.count for event in bursts) == 300
        assert {each.event for each in answers} == {
            event.access for event in proxy.events() if event.step in ("refusal", "burst")
        }


def test_the_rate_is_the_same_for_what_is_there_and_what_is_not(tmp_path):
    """G60: over its rate, a subject is told nothing of reports: known, forbidden and unknown are one answer."""
    with world(tmp_path, "requests_per_minute_per_subject: 1") as (_, proxy):
        token = proxy.issuer.token("alice", groups=("analysts",))
        proxy.get(PATH, token=token)
        targets = (PATH, "/sales/secret.csv", "/none", PATH + "?x=1")
        answers = [proxy.get(target, token=token) for target in targets]
        assert {each.status for each in answers} == {429}
        assert len({each.body.replace(each.event.encode(), b"") for each in answers}) == 1


def test_an_address_over_its_rate_is_refused_before_its_token_is_looked_at(tmp_path):
    """Whoever floods from one address costs no signature: 429, with records that are counted together."""
    with world(tmp_path, "requests_per_minute_per_address: 60") as (_, proxy):
        answers = [proxy.get(PATH, token=proxy.issuer.token(f"user{n}")) for n in range(150)]
        late = [each for each in answers if each.status == 429]
        assert len(late) >= 85
        causes = {event.cause for event in proxy.events() if event.status == 429}
        assert causes == {"address-rate"}
        assert len(proxy.events()) < 150
        assert proxy.get("/-/ready").status == 200  # nobody is kept from asking how it is


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("NOT HTTP\r\n\r\n", 400),
        (f"GET {PATH} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 421),
    ],
)
def test_what_is_malformed_counts_as_a_request_does(tmp_path, request_, status):
    """Whoever floods with what is refused at once is over the rate all the same, and by the same records."""
    with world(tmp_path, "requests_per_minute_per_address: 6") as (_, proxy):
        statuses = [
            wire.parse(wire.exchange(proxy.url, request_.encode())).status for _ in range(12)
        ]
        assert statuses[:6] == [status] * 6 and set(statuses[8:]) == {429}
        assert proxy.get(PATH).status == 429


def test_what_is_malformed_behind_a_balancer_shuts_nobody_out(tmp_path):
    """Whose it is nobody knows, for it has no fields: it counts as the balancer's own, answered and on record."""
    listen = ", names: [localhost], balancers: {addresses: [127.0.0.1], forwarded_for: true}"
    settings = "limits: {requests_per_minute_per_address: 6}\n"
    with stage(
        tmp_path, reports=sales.REPORTS, rules=sales.RULES, settings=settings, listen=listen
    ) as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(sales.rows(20)))
        for number in range(12):
            answer = wire.parse(
                wire.exchange(proxy.url, b"NOT HTTP\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
            )
            assert answer.status == 400 if number < 6 else answer.status in (400, 429)
            (event,) = [each for each in proxy.events() if each.access == answer.event]
            assert event.address == "127.0.0.1" and event.step == "refusal"
        answer = proxy.get(
            PATH,
            token=proxy.issuer.token("alice", groups=("analysts",)),
            headers={"Host": "localhost", "X-Forwarded-For": "192.0.2.7"},
        )
        assert answer.status == 200


def test_an_address_has_so_many_requests_at_once(tmp_path):
    """Whoever they are of; what is beyond is 429."""
    with world(tmp_path, "requests_per_address: 3") as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(sales.rows(20)), delay=3)
        with contextlib.ExitStack() as stack:
            for number in range(3):
                token = proxy.issuer.token(f"user{number}", groups=("analysts",))
                stack.enter_context(wire.asked(proxy.url, PATH, token=token))
            assert until(lambda: len(store.asked) == 3)
            assert (
                proxy.get(PATH, token=proxy.issuer.token("x", groups=("analysts",))).status == 429
            )
        assert until(lambda: proxy.get(PATH).status == 401)


@pytest.mark.parametrize(
    ("limits", "cause"),
    [("connections: 5", "too-many"), ("connections_per_address: 5", "too-many-of-address")],
)
def test_connections_beyond_the_limit_are_closed_and_counted(tmp_path, caplog, limits, cause):
    """They cost a socket's close and one line a minute; when one ends, the next is served."""
    with world(tmp_path, limits) as (_, proxy):
        with contextlib.ExitStack() as stack:
            kept = [stack.enter_context(wire.connect(proxy.url)) for _ in range(5)]
            assert until(lambda: proxy.app.connections.open == 5)
            for _ in range(20):
                with wire.connect(proxy.url) as sock:
                    assert closed(sock)
            assert proxy.app.connections.refused[cause] == 20
            assert caplog.text.count(CAUSES[cause]) == 1
            kept[0].close()
            assert until(lambda: proxy.app.connections.open < 5)
            assert proxy.get("/-/live").status == 200
        assert until(lambda: proxy.app.connections.open == 0)


def test_a_stop_ends_connections_that_have_not_begun(tmp_path):
    """A stop waits for no handshake, and nothing of a connection is left."""
    from tests.harness.pki import Authority

    with stage(
        tmp_path / "home",
        reports=sales.REPORTS,
        rules=sales.RULES,
        listen=Authority().listening(tmp_path),
    ) as (_, proxy):
        parts = urlsplit(proxy.url)
        sock = socket.create_connection((parts.hostname, parts.port), timeout=20)
        sock.sendall(b"\x16\x03\x01")
        assert until(lambda: proxy.app.connections.open == 1)
    with sock:
        assert closed(sock)
    assert proxy.app.connections.open == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("counterfoil")]


def test_there_is_room_for_the_connections_that_there_may_be():
    """As many files may be open as the system allows; where that is too few, connections are fewer, and it is told."""
    code = """
import logging, resource
from proxy.gateway.connections import make_room
logging.basicConfig(format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 200))
for connections, others in ((20, 12), (150, 50), (900, 60), (900, 1000)):
    print(make_room(connections, others), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["20 200", "150 200", "140 200", "100 200"]
    assert done.stderr.count("ulimit -n") == 2 and "200" in done.stderr and "960" in done.stderr


@pytest.mark.threat("B17")
def test_connections_take_no_file_that_an_answer_needs(tmp_path):
    """Where the system allows few files and connections come by the hundred, a good client is answered."""
    with (
        contextlib.closing(Background()) as background,
        contextlib.closing(Store(background)) as store,
    ):
        store.pages[PATH] = Page(sales.as_csv(sales.rows(20)), delay=1)
        home = Home(tmp_path, reports=sales.REPORTS, rules=sales.RULES, store=store.url)
        token = home.issuer.token("alice", groups=("analysts",))
        head = f"Host: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        with Served(home, files=200) as proxy, contextlib.ExitStack() as stack, proxy.explained():
            good = [stack.enter_context(wire.connect(proxy.url)) for _ in range(8)]
            for _ in range(300):
                stack.enter_context(wire.connect(proxy.url))
            assert until(lambda: "closed: " in proxy.output)
            for sock in good:  # each has a connection to the store of its own
                sock.sendall(f"GET {PATH} HTTP/1.1\r\n{head}".encode())
            assert [wire.parse(wire.rest(sock)).status for sock in good] == [200] * len(good)


def test_what_is_told_of_connections_names_no_client():
    """One line for each cause and minute, with their number."""
    held = Connections(most=1, most_each=1)
    assert held.enter() is not None
    for _ in range(5):
        assert held.enter() is None
    assert held.refused["too-many"] == 5
    assert all(re.fullmatch(r"[a-z-]+", cause) for cause in CAUSES)
