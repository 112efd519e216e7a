"""What a hostile store may try, over real sockets and with default settings (THREATS E 40 to 49).

Whatever it says: nothing of it leaves but the declared report, and what it must not learn goes nowhere.
"""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiohttp import web

from tests.gateway.test_stores import RawStore, answer, csv
from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.guarded import Guarded
from tests.harness.proxy import Home, Proxy, running
from tests.harness.store import Page, Store

PATH = "/sales/daily.csv"
CSV = sales.as_csv(sales.rows(20))
CREDENTIAL = "the-stores-own-credential"
CANARY = "store-canary-Wx3"


@pytest.fixture(scope="module")
def background():
    made = Background()
    yield made
    made.close()


def home_of(folder, store: str, *, more: str = ", credential: 'file:../token'") -> Home:
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(CREDENTIAL)
    reports = sales.REPORTS.replace("loopback: true}", f"loopback: true{more}}}")
    return Home(folder, reports=reports, rules=sales.RULES, store=store)


@pytest.fixture(scope="module")
def raw(tmp_path_factory, background):
    store = RawStore()
    with running(home_of(tmp_path_factory.mktemp("raw") / "home", store.url), background) as proxy:
        yield store, proxy
    store.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory, background):
    store = Store(background)
    with running(home_of(tmp_path_factory.mktemp("s") / "home", store.url), background) as proxy:
        yield store, proxy
    store.close()


def alice(proxy: Proxy) -> str:
    return proxy.issuer.token("alice", groups=("analysts",))


def refused(proxy: Proxy, answer: wire.Answer, status: int = 502) -> None:
    """A problem on record, and nothing of the store in it."""
    assert answer.status == status
    assert CANARY.encode() not in answer.raw and CREDENTIAL.encode() not in answer.raw
    records = [event for event in proxy.events() if event.access == answer.event]
    assert [event.status for event in records] == [status]


@pytest.mark.threat("E40")
@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
@pytest.mark.parametrize(
    "fields",
    [
        ("Location",),
        ("Location", "Refresh", "Content-Location", "URI"),
        ("Link",),
    ],
)
def test_where_a_redirect_leads_nobody_asks(world, background, status, fields):
    """Presigned or not: 502, the place is not told, is not asked, and never sees the credential."""
    store, proxy = world

    async def trapped(_: web.BaseRequest, __: bytes) -> web.StreamResponse:
        return web.Response(body=CSV, content_type="text/csv")

    with Guarded(background, trapped) as trap:
        leads = f"{trap.url}/b?X-Amz-Signature={CANARY}"
        store.asked.clear()
        store.pages[PATH] = Page(CSV, status=status, headers=dict.fromkeys(fields, leads))
        given = proxy.get(PATH, token=alice(proxy))
        refused(proxy, given)
        assert not {"location", "refresh", "link", "uri"} & given.headers.keys()
        assert str(trap.port).encode() not in given.body
        assert trap.asked == []
        assert [each[1]["authorization"] for each in store.asked] == [f"Bearer {CREDENTIAL}"]


@pytest.mark.threat("E41")
@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 500 %s\r\nContent-Length: %d\r\nContent-Type: text/csv\r\n\r\n%s",
        b"HTTP/1.1 404 %s\r\nContent-Length: %d\r\nContent-Type: application/problem+json\r\n\r\n%s",
        b"HTTP/1.1 200 %s\r\nContent-Length: %d\r\nContent-Type: text/html\r\n\r\n<html>%s",
        b"HTTP/1.1 200 %s\r\nContent-Length: %d\r\nContent-Type: text/csv, text/html\r\n\r\n%s",
        b"HTTP/1.1 200 %s\r\nContent-Length: %d\r\n\r\n%s",
        b"HTTP/1.1 206 %s\r\nContent-Length: %d\r\nContent-Type: text/csv\r\n\r\n%s",
    ],
)
def test_a_store_s_own_words_for_an_error_stay_here(raw, caplog, said):
    """Body, reason phrase, HTML with 200: a generic problem, alike for all; the words are not logged either."""
    store, proxy = raw
    word = CANARY.encode()
    store.script = lambda sock, _: sock.sendall(
        said % (word, len(word) + 6 * (b"<html>" in said), word)
    )
    given = proxy.get(PATH, token=alice(proxy))
    refused(proxy, given)
    assert given.headers["content-type"] == "application/problem+json"
    assert CANARY not in caplog.text


FIELDS = (
    b"Set-Cookie: %s=1", b'ETag: "%s"', b"Last-Modified: Tue, 01 Jan 2030 00:00:00 GMT; %s",
    b"Server: %s", b"Server-Timing: db;dur=%s", b"Link: <%s>", b"X-Powered-By: %s", b"X-Accel-Redirect: /%s",
    b"Content-Disposition: attachment; filename=%s.csv", b"Content-Language: %s", b"Vary: %s", b"Age: 7; %s",
    b"Cache-Control: public, max-age=99, %s", b'Alt-Svc: h3="%s:1"', b"Access-Control-Allow-Origin: %s",
    b"Strict-Transport-Security: %s", b"WWW-Authenticate: Basic realm=%s", b"Proxy-Authenticate: %s",
    b"Content-MD5: %s", b"Digest: %s", b"Warning: %s", b"Via: %s", b"Accept-Ranges: %s", b"Refresh: 0;url=%s",
    b"Clear-Site-Data: %s", b"Trailer: %s", b"Content-Security-Policy: %s", b"Counterfoil-Event: %s",
)  # fmt: skip


@pytest.mark.threat("E42", "E44")
def test_no_field_of_a_store_goes_through(raw):
    """Whatever fields it has, with a 103 before and trailers after them: the answer is as without them."""
    store, proxy = raw
    token = alice(proxy)
    store.script = lambda sock, _: sock.sendall(answer(b"A"))
    plain = proxy.get(PATH, token=token)
    word = CANARY.encode()
    fields = b"".join(each % word + b"\r\n" for each in FIELDS)
    body = csv(b"A")
    said = (
        b"HTTP/1.1 103 Early Hints\r\n" + fields + b"\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n" + fields + b"\r\n"
        + b"%x\r\n%s\r\n0\r\n" % (len(body), body) + fields + b"\r\n"
    )  # fmt: skip
    store.script = lambda sock, _: sock.sendall(said)
    given = proxy.get(PATH, token=token)
    assert plain.status == 200 and given.seen() == plain.seen()
    assert CANARY.encode() not in given.raw
    assert given.headers["cache-control"] == "private, no-store"


@pytest.mark.threat("E43", "E44")
@pytest.mark.parametrize(
    "asked",
    [
        {"Range": "bytes=0-9"},
        {"Range": "bytes=0-0,-1"},
        {"Range": "bytes=5-", "If-Range": '"x"'},
        {"If-None-Match": '"x"'},
        {"If-Modified-Since": "Tue, 01 Jan 2030 00:00:00 GMT"},
        {"If-Match": "*"},
    ],
)
def test_a_store_sees_no_range_and_no_condition(world, asked):
    """Parts and validators are of the requester's own view: the store is asked for all of it, and plainly."""
    store, proxy = world
    store.pages[PATH] = Page(CSV, headers={"ETag": '"x"', "Accept-Ranges": "bytes"})
    store.asked.clear()
    whole = proxy.get(PATH, token=alice(proxy))
    given = proxy.get(PATH, token=alice(proxy), headers=asked)
    assert given.status in (200, 206) and given.headers.get("etag") != '"x"'
    assert given.body in whole.body
    assert b"canary" not in given.raw
    for _, fields in store.asked:
        assert fields.keys() == {"host", "accept", "accept-encoding", "authorization"}


@pytest.mark.threat("E43")
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/99",
        b"HTTP/1.1 206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=x",
        b"HTTP/1.1 200 OK\r\nContent-Range: bytes 0-9/99",
        b"HTTP/1.1 203 Other",
        b"HTTP/1.1 226 IM Used",
    ],
)
def test_a_part_that_nobody_asked_for_is_no_report(raw, head):
    """Some rows that look like all of them would be a lie: 502."""
    store, proxy = raw
    body = csv(CANARY.encode())
    store.script = lambda sock, _: sock.sendall(
        head + b"\r\nContent-Type: text/csv\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    refused(proxy, proxy.get(PATH, token=alice(proxy)))


@pytest.mark.threat("E44")
def test_a_head_tells_the_requester_s_length_and_no_other(world):
    """HEAD of two documents that differ in what is hidden alone is the same, and is not asked of the store."""
    store, proxy = world
    seen = set()
    for width in (1, 40, 4000):
        rows = [(*row[:5], "x" * width) for row in sales.rows(20)]
        store.pages[PATH] = Page(sales.as_csv(rows), headers={"ETag": f'"{width}"'})
        given = wire.parse(
            wire.exchange(
                proxy.url,
                f"HEAD {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                f"Authorization: Bearer {alice(proxy)}\r\n\r\n".encode(),
            )
        )
        assert given.status == 200 and given.headers["cache-control"] == "private, no-store"
        seen.add(given.seen()[:2])
    assert len(seen) == 1


# ── where stores are ──


class Names:
    """What the system's resolver says: `says` gives, for each time that a name is asked, its addresses."""

    def __init__(self, monkeypatch) -> None:
        self.says: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self.hangs: dict[str, threading.Event] = {}
        real = socket.getaddrinfo

        def getaddrinfo(host, port, *args, **kwargs):
            name = host.decode() if isinstance(host, bytes) else host
            if name not in self.says:
                return real(host, port, *args, **kwargs)
            self.asked.append(name)
            if name in self.hangs:
                self.hangs[name].wait(60)
            answers = self.says[name]
            found = answers.pop(0) if len(answers) > 1 else answers[0]
            return [entry for each in found for entry in real(each, port, *args, **kwargs)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def names(monkeypatch):
    return Names(monkeypatch)


@pytest.fixture
def listener():
    """Who must not be asked: something on this machine."""
    sock = socket.create_server(("127.0.0.1", 0))
    came: list[object] = []

    def accept() -> None:
        try:
            while True:
                came.append(sock.accept()[1])
        except OSError:
            pass

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield sock.getsockname()[1], came
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()
    thread.join(10)


BAD = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "169.254.170.2", "169.254.0.23",
    "100.100.100.200", "192.0.0.192", "168.63.129.16", "224.0.0.1", "255.255.255.255", "::1", "::",
    "fe80::1", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::1", "2002:7f00:1::",
]  # fmt: skip


@pytest.mark.threat("E49")
def test_a_name_that_leads_where_no_store_is_is_not_connected_to(
    tmp_path, background, names, listener, caplog
):
    """Each kind of address, alone or beside a good one: 502, and nothing was connected to."""
    port, came = listener
    home = home_of(tmp_path / "home", f"http://reports.example.test:{port}", more="")
    text = (home.policies / "reports.yaml").read_text().replace("loopback: true", "loopback: false")
    home.write("reports.yaml", text)
    home.settings.write_text(home.settings.read_text() + "stores: {failures: 1000}\n")
    with running(home, background) as proxy:
        for bad in BAD:
            for found in ([bad], ["192.0.2.7", bad]):
                names.says["reports.example.test"] = [found]
                refused(proxy, proxy.get(PATH, token=alice(proxy)))
                assert proxy.events()[-1].cause == "store-address", bad
        assert names.asked and came == []
        assert not any(bad in caplog.text for bad in BAD if len(bad) > 5)


@pytest.mark.threat("E49")
def test_the_address_that_is_looked_at_is_the_one_that_is_connected_to(
    tmp_path, background, names, listener
):
    """DNS rebinding: a name that leads elsewhere each time it is asked is asked once for a connection."""
    port, came = listener
    home = home_of(tmp_path / "home", f"http://reports.example.test:{port}", more="")
    text = (home.policies / "reports.yaml").read_text().replace("loopback: true", "loopback: false")
    home.write("reports.yaml", text)
    home.settings.write_text(
        home.settings.read_text() + "stores: {retries: 0, connect_seconds: 1}\n"
    )
    with running(home, background) as proxy:
        names.says["reports.example.test"] = [["203.0.113.9"], ["127.0.0.1"]]
        given = proxy.get(PATH, token=alice(proxy))
        assert given.status in (502, 504) and names.asked == ["reports.example.test"]
        assert proxy.events()[-1].cause in ("store-unreachable", "store-timeout")
        refused(proxy, proxy.get(PATH, token=alice(proxy)))
        assert proxy.events()[-1].cause == "store-address"
        assert came == []


@pytest.mark.threat("E49")
def test_loopback_is_for_the_store_that_has_it(world, tmp_path, background, names):
    """With `loopback: true` a name may lead to this machine; nowhere else where no store is."""
    store, _ = world
    store.pages[PATH] = Page(CSV)
    port = store.url.rpartition(":")[2]
    home = home_of(tmp_path / "home", f"http://reports.example.test:{port}")
    with running(home, background) as proxy:
        names.says["reports.example.test"] = [["127.0.0.1"], ["169.254.169.254"]]
        assert proxy.get(PATH, token=alice(proxy)).status == 200
        background.run(drop_idle(proxy))
        refused(proxy, proxy.get(PATH, token=alice(proxy)))


async def drop_idle(proxy: Proxy) -> None:
    """As after a while: the next request connects anew."""
    for pool in proxy.app.gateway._stores._pools.values():
        for connections in pool._conns.values():
            for protocol, _ in connections:
                protocol.close()
        pool._conns.clear()


@pytest.mark.threat("E48")
def test_a_name_that_nobody_answers_for_takes_nothing_from_another(
    world, tmp_path, background, names
):
    """However many want to connect there, the system is asked once at a time; others are found meanwhile."""
    store, _ = world
    store.pages[PATH] = Page(CSV)
    port = store.url.rpartition(":")[2]
    home = home_of(tmp_path / "home", f"http://gone.example.test:{port}")
    text = (home.policies / "reports.yaml").read_text()
    line = next(each for each in text.splitlines() if "gone.example.test" in each)
    text = text.replace(line, f"{line}\n{line.replace('main', 'other').replace('gone', 'there')}")
    there = "    store: main\n    variants:\n      - {path: /sales/audited.csv"
    assert there in text
    home.write("reports.yaml", text.replace(there, there.replace("main", "other")))
    names.says |= {"gone.example.test": [["127.0.0.1"]], "there.example.test": [["127.0.0.1"]]}
    event = names.hangs["gone.example.test"] = threading.Event()
    with running(home, background) as proxy, ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(proxy.get, PATH, token=alice(proxy)) for _ in range(40)]
        while not names.asked or proxy.app.gateway.running < 40:
            threading.Event().wait(0.01)
        given = proxy.get(
            "/sales/audited.csv", token=alice(proxy), headers={"Counterfoil-Purpose": "audit"}
        )
        assert given.status == 200
        assert names.asked.count("gone.example.test") == 1
        event.set()
        assert {each.result().status for each in waiting} == {200}
