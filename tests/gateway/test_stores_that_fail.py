"""A store that hangs, fails or is away: it is left alone, asked again, and takes nothing from the others."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiohttp import web

from tests.gateway.test_patience import unread
from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.guarded import Answers, Guarded
from tests.harness.proxy import Home, Proxy, running
from tests.harness.wire import Answer

PATH, OTHER = "/sales/daily.csv", "/other/daily.csv"
CSV = sales.as_csv(sales.rows(5))
LONG = sales.as_csv(sales.rows(40_000))
HUGE = LONG + LONG.split(b"\n", 1)[1] * 29
REPORTS = (
    sales.REPORTS.replace("loopback: true}", 'loopback: true{more}}\n  other: {url: "{other}", loopback: true}')
    + """\
  other/daily:
    title: From another store
    store: other
    variants: [{path: /other/daily.csv, format: csv}]
    fields:
      date: {type: date, class: public}
"""
)  # fmt: skip
RULES = sales.RULES + (
    "p, tool:app, other/*, act, true, allow\n"
    "p, role:analyst, other/*, read, true, allow\n"
    "p2, role:analyst, other/*, true, @public, clear\n"
)


class World:
    """Two stores behind a proxy; `main` answers as the test says."""

    def __init__(self, proxy: Proxy, main: Guarded, other: Guarded) -> None:
        self.proxy, self.main, self.other = proxy, main, other
        self.token = proxy.issuer.token("alice", groups=("analysts",))

    def ask(self, path: str = PATH, user: str | None = None) -> Answer:
        token = self.token if user is None else self.proxy.issuer.token(user, groups=("analysts",))
        return self.proxy.get(path, token=token)

    @property
    def live(self):
        return next(each for each in self.proxy.app.gateway.stores if each.store.name == "main")

    def until(self, status: int, path: str = PATH) -> Answer:
        """Ask until that is the answer."""
        ends = time.monotonic() + 30
        while (answer := self.ask(path)).status != status:
            assert time.monotonic() < ends, answer.status
            time.sleep(0.05)
        return answer


async def good(_: web.BaseRequest, __: bytes) -> web.StreamResponse:
    return web.Response(body=CSV, content_type="text/csv")


async def hang(_: web.BaseRequest, __: bytes) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


@contextlib.contextmanager
def world(
    folder, *, more: str = "", settings: str = "", limits: str = "", answer: Answers = good
) -> Iterator[World]:
    background = Background()
    try:
        with Guarded(background, answer) as main, Guarded(background, good) as other:
            home = Home(
                folder,
                reports=REPORTS.replace("{more}", more).replace("{other}", other.url),
                rules=RULES,
                store=main.url,
                settings=f"limits: {{drain_seconds: 1{limits}}}\n" + settings,
            )
            with running(home, background) as proxy:
                yield World(proxy, main, other)
    finally:
        background.close()


def says(status: int, **headers: str) -> Answers:
    async def answer(_: web.BaseRequest, __: bytes) -> web.StreamResponse:
        return web.Response(status=status, headers=headers, text="canary of the store")

    return answer


# ── left alone ──


@pytest.mark.threat("E48")
def test_a_store_that_is_away_is_left_alone_and_asked_again(tmp_path, caplog):
    """By default: 502 five times, then 503 at once with Retry-After, on record and said once; then all is well."""
    with world(tmp_path, more=", limits: {retries: 0, suspend_seconds: 1}") as w:
        w.main.close()
        assert [w.ask().status for _ in range(5)] == [502] * 5
        for _ in range(10):
            if (refused := w.ask()).status == 503:
                break
        assert refused.status == 503 and int(refused.headers["retry-after"]) >= 1
        event = next(each for each in w.proxy.events() if each.access == refused.event)
        assert (event.reason, event.cause) == ("store-not-asked", "store-suspended")
        assert w.ask(OTHER).status == 200
        assert w.live.breaker.state != "closed"
        assert caplog.text.count("is not asked for") == 1
        ready = w.proxy.get("/-/ready")
        assert ready.status == 200 and b'"stores_left_alone":1' in ready.body
        w.main.start()
        w.until(200)
        assert w.live.breaker.state == "closed"
        assert b"stores_left_alone" not in w.proxy.get("/-/ready").body
    assert caplog.text.count("is not asked for") == 1


def test_a_store_that_hangs_is_left_alone(tmp_path):
    """504 as often as it takes, then 503 without waiting; the store is asked by one request at a time."""
    more = ", limits: {first_byte_seconds: 1, failures: 2, suspend_seconds: 60}"
    with world(tmp_path, more=more, answer=hang) as w, ThreadPoolExecutor(4) as pool:
        assert {each.status for each in pool.map(lambda _: w.ask(), range(4))} == {504}
        asked = len(w.main.asked)
        assert {w.ask().status for _ in range(20)} == {503}
        assert len(w.main.asked) == asked
        assert w.ask(OTHER).status == 200


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 501])
def test_nobody_shuts_a_store_by_asking_for_what_fails(tmp_path, status):
    """An error that the store itself answers is 502 to whoever asked, and no reason to leave it alone."""
    with world(tmp_path, answer=says(status)) as w:
        assert {w.ask().status for _ in range(25)} == {502}
        w.main.answer = good
        assert w.ask().status == 200
        assert w.live.breaker.state == "closed" and w.live.retried == 0


def test_answers_that_break_off_count_as_failures(tmp_path):
    """A head is no answer: a store whose bodies are cut off is left alone, too."""

    async def cut(request: web.BaseRequest, _: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/csv"})
        response.content_length = len(CSV)
        await response.prepare(request)
        await response.write(CSV[:30])
        assert request.transport is not None
        request.transport.abort()
        return response

    with world(tmp_path, more=", limits: {failures: 3}", answer=cut) as w:
        assert [w.ask().status for _ in range(4)] == [502, 502, 502, 503]


def test_nobody_shuts_a_store_by_taking_slowly_what_it_gives(tmp_path):
    """A store that does not wait for ever for who takes nothing is no store that fails, however many do so."""
    ended: list[str] = []

    async def impatient(request: web.BaseRequest, _: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/csv"})
        response.content_length = len(HUGE)
        await response.prepare(request)
        try:
            for start in range(0, len(HUGE), 1 << 16):
                async with asyncio.timeout(1.5):
                    await response.write(HUGE[start : start + (1 << 16)])
        except TimeoutError:
            assert request.transport is not None
            request.transport.abort()
        ended.append(request.raw_path)
        return response

    with world(tmp_path, more=", limits: {failures: 3}", answer=impatient) as w:
        with contextlib.ExitStack() as stack:
            token = w.proxy.issuer.token("mallory", groups=("analysts",))
            head = f"Host: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
            socks = [stack.enter_context(unread(w.proxy.url)) for _ in range(4)]
            for sock in socks:
                sock.sendall(f"GET {PATH} HTTP/1.1\r\n{head}".encode())
            soon(lambda: len(ended) == 4)
            time.sleep(1)  # they take nothing, for longer than any network
            assert not any(wire.parse(wire.rest(sock)).whole for sock in socks)
        w.main.answer = good
        assert w.ask().status == 200
        assert w.live.breaker.state == "closed"


def test_a_reload_forgets_nothing_of_a_store(tmp_path):
    """A policy that says the same of a store leaves it alone as before."""
    with world(tmp_path, more=", limits: {failures: 2, retries: 0, suspend_seconds: 60}") as w:
        w.main.answer = says(503)
        assert [w.ask().status for _ in range(3)] == [502, 502, 503]
        w.proxy.home.write("policy.csv", RULES + "p, user:x, other/*, read, true, allow\n")
        assert w.proxy.reload()
        assert w.ask().status == 503


# ── room ──


@pytest.mark.threat("E48")
def test_a_store_that_hangs_takes_no_place_from_another(tmp_path):
    """As many as may wait for it, the next is refused at once; the other store's reports come as always."""
    more = ", limits: {connections: 2, first_byte_seconds: 60, total_seconds: 60}"
    with world(tmp_path, more=more, answer=hang) as w, ThreadPoolExecutor(5) as pool:
        for number in range(4):
            pool.submit(w.ask, PATH, f"user{number}")
        ends = time.monotonic() + 20
        while time.monotonic() < ends and not (
            list(w.proxy.app.gateway.stores) and w.live.room.waiting == 2
        ):
            time.sleep(0.01)
        assert (w.live.room.running, w.live.room.waiting) == (2, 2)
        refused = w.ask()
        assert refused.status == 503 and refused.headers["retry-after"]
        assert w.proxy.events()[-1].cause == "store-crowded"
        assert len(w.main.asked) == 2
        assert {w.ask(OTHER).status for _ in range(10)} == {200}
        w.main.close()  # lets all of them go


@pytest.mark.threat("E48", "B21")
def test_one_subject_s_requests_to_a_store_that_hangs_leave_it_room_for_others(tmp_path):
    """Of what a subject may have under way one store has three quarters: its other reports are served."""
    with (
        world(tmp_path, limits=", requests_per_subject: 4", answer=hang) as w,
        ThreadPoolExecutor(3) as pool,
    ):
        for _ in range(3):
            pool.submit(w.ask)
        ends = time.monotonic() + 20
        while time.monotonic() < ends and w.proxy.app.gateway.running < 3:
            time.sleep(0.01)
        refused = w.ask()
        assert refused.status == 429
        assert w.proxy.events()[-1].cause == "too-many-requests-of-store"
        assert w.ask(OTHER).status == 200
        w.main.close()


def test_places_come_back_however_requests_end(tmp_path):
    """Refused, cut off, timed out, gone away: with one place, the next one is served."""
    turn = iter(range(10**6))

    async def answer(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        match next(turn) % 5:
            case 0:
                return await says(500)(request, body)
            case 1:
                return web.Response(body=CSV, content_type="text/html")
            case 2:
                return web.Response(
                    body=CSV, content_type="text/csv", headers={"Content-Encoding": "br, br"}
                )
            case 3:
                assert request.transport is not None
                request.transport.abort()
                raise web.HTTPBadRequest
            case _:
                return await good(request, body)

    more = ", limits: {connections: 1, failures: 100, retries: 0, first_byte_seconds: 2}"
    with world(tmp_path, more=more, answer=answer) as w:
        for _ in range(30):
            assert w.ask().status in (200, 502)
        w.main.answer = good
        assert w.ask().status == 200
        assert (w.live.room.running, w.live.room.waiting) == (0, 0)


# ── once more ──


@pytest.mark.parametrize("status", [502, 503, 504])
def test_what_says_that_the_store_is_away_is_asked_once_more(tmp_path, status):
    """Nothing has come: the request goes again, after a moment; the requester sees 200."""

    async def first_time(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        w.main.answer = good
        return await says(status)(request, body)

    with world(tmp_path, answer=first_time) as w:
        assert w.ask().status == 200
        assert len(w.main.asked) == 2 and w.live.retried == 1


def test_it_is_not_asked_again_and_again(tmp_path):
    """Twice more by default, then 502; not at all where the store says when to come back."""
    with world(tmp_path, answer=says(503)) as w:
        assert w.ask().status == 502
        assert len(w.main.asked) == 3
        w.main.answer = says(503, **{"Retry-After": "30"})
        assert w.ask().status == 502
        assert len(w.main.asked) == 4


def test_after_the_first_byte_of_a_document_nothing_is_asked_again(tmp_path):
    """A body that is cut off is 502: two halves of two answers are no document."""

    async def cut(request: web.BaseRequest, _: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/csv"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(CSV[:30])
        assert request.transport is not None
        request.transport.abort()
        return response

    with world(tmp_path, answer=cut) as w:
        assert w.ask().status == 502
        assert len(w.main.asked) == 1


def test_what_is_tried_again_has_no_more_time_for_it(tmp_path):
    """The time until a head is one for all tries: a store that is slow to fail is 504 in its time, not 502 in three."""
    began: list[float] = []

    async def slow(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        began.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.7)
        return await says(503)(request, body)

    with world(tmp_path, more=", limits: {first_byte_seconds: 1}", answer=slow) as w:
        assert w.ask().status == 504
        assert len(began) == 2


@pytest.mark.threat("E48")
def test_a_head_that_drips_has_to_be_there_in_time(tmp_path):
    """Interim answers do not begin the time until the head anew."""

    async def drip(request: web.BaseRequest, _: bytes) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        while not transport.is_closing():
            transport.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await asyncio.sleep(0.1)
        raise asyncio.CancelledError

    with world(tmp_path, more=", limits: {first_byte_seconds: 1}", answer=drip) as w:
        assert w.ask().status == 504
        assert w.proxy.events()[-1].cause == "store-timeout"


def test_the_states_of_stores_are_in_the_metrics(tmp_path, monkeypatch):
    """Which store is left alone, how its requests came out, when it answered last."""
    monkeypatch.setenv("SCRAPE_TOKEN", "s" * 32)
    settings = "metrics: {port: 0, token: 'env:SCRAPE_TOKEN'}\n"
    more = ", limits: {failures: 2, retries: 0, suspend_seconds: 60}"
    with world(tmp_path, more=more, settings=settings) as w:
        assert w.ask().status == w.ask(OTHER).status == 200
        w.main.answer = says(504)
        assert [w.ask().status for _ in range(3)] == [502, 502, 503]
        url, slash, path = w.proxy.app.metrics_url.rpartition("/")
        told = wire.get(url, slash + path, token="s" * 32).body.decode()
    for line in (
        'counterfoil_store_state{state="open",store="main"} 1.0',
        'counterfoil_store_state{state="closed",store="other"} 1.0',
        'counterfoil_store_requests_total{outcome="failed",store="main"} 2.0',
        'counterfoil_store_requests_total{outcome="suspended",store="main"} 1.0',
        'counterfoil_store_requests_total{outcome="answered",store="other"} 1.0',
        'counterfoil_store_requests_running{store="main"} 0.0',
    ):
        assert line in told, told
    assert 'counterfoil_store_failed_timestamp_seconds{store="other"} 0.0' in told


# ── gone from the catalogue ──


def test_a_store_that_is_no_longer_catalogued_is_let_go_of(tmp_path):
    """PROMISE 4 (bounded memory): once no answer of it is under way, and anew where it is catalogued again."""
    with world(tmp_path) as w:
        known = w.proxy.app.gateway._stores._live
        both = (w.proxy.home.policies / "reports.yaml").read_text()
        rules = (w.proxy.home.policies / "policy.csv").read_text()
        go_on = asyncio.Event()

        async def wait(_: web.BaseRequest, __: bytes) -> web.StreamResponse:
            await go_on.wait()
            return web.Response(body=CSV, content_type="text/csv")

        w.other.answer = wait
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(w.ask, OTHER)
            w.until(200)
            soon(lambda: len(w.other.asked) == 1)
            lines = [line for line in both.splitlines() if not line.startswith("  other: ")]
            w.proxy.home.write("reports.yaml", "\n".join(lines).partition("  other/daily:")[0])
            w.proxy.home.write("policy.csv", sales.RULES)
            assert w.proxy.reload()
            w.proxy.app.gateway.let_go()
            assert known.keys() == {"main", "other"}
            w.proxy._background.run(set_(go_on))
            assert answer.result().status == 404  # the policy has changed under way
        soon(lambda: known.keys() == {"main"})
        assert b'store="other"' not in w.proxy._background.run(w.proxy.app.exposed())
        w.proxy.home.write("reports.yaml", both)
        w.proxy.home.write("policy.csv", rules)
        assert w.proxy.reload()
        assert w.ask(OTHER).status == 200
        assert known.keys() == {"main", "other"}


async def set_(event: asyncio.Event) -> None:
    event.set()


def soon(holds) -> None:
    ends = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.02)
