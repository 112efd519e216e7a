"""PROMISE 2 (no record, no data), over real sockets and with a real process that is starved and killed."""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness import sales, wire
from tests.harness.process import Served
from tests.harness.proxy import Home
from tests.harness.store import Page, Store

CANARY = b"canary"
LARGE = sales.as_csv(sales.rows(40_000))


@pytest.fixture
def store(background):
    store = Store(background)
    store.pages["/sales/daily.csv"] = Page(sales.as_csv(sales.rows(50)))
    store.pages["/sales/daily.json"] = Page(
        sales.as_json(sales.rows(50)), content_type="application/json"
    )
    yield store
    store.close()


@pytest.fixture
def home(tmp_path, store):
    return Home(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, store=store.url)


@pytest.fixture(params=["sqlite", "postgres"])
def either(request, tmp_path, store):
    """The log in a file of its own, or in a database."""
    database = request.getfixturevalue("postgres").new() if request.param == "postgres" else None
    return Home(
        tmp_path / "home",
        reports=sales.REPORTS,
        rules=sales.RULES,
        store=store.url,
        database=database,
    )


def alice(home: Home) -> str:
    return home.issuer.token("alice", groups=("analysts",))


def refused_unrecorded(answer: wire.Answer) -> None:
    assert answer.status == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["counterfoil-event"]
    assert b"2026-01" not in answer.raw and CANARY not in answer.raw


@pytest.mark.threat("H66")
@pytest.mark.parametrize("path", ["/sales/daily.csv", "/sales/daily.json"])
def test_a_locked_log_releases_nothing_and_serves_again_when_unlocked(home, path):
    """While another connection holds the log's database, every answer is 503 without a byte of data."""
    with Served(home) as proxy:
        assert proxy.get(path, token=alice(home)).status == 200
        with sqlite3.connect(home.folder / "access.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            asked = ((path, alice(home)), ("/sales/nothing", alice(home)), (path, None))
            with ThreadPoolExecutor() as pool:
                granted, *others = pool.map(lambda each: proxy.get(each[0], token=each[1]), asked)
            refused_unrecorded(granted)
            assert [answer.status for answer in others] == [503, 503]
            other.execute("ROLLBACK")
        other.close()
        assert proxy.get(path, token=alice(home)).status == 200


@pytest.mark.threat("H66")
@pytest.mark.parametrize("path", ["/sales/daily.csv", "/sales/daily.json"])
def test_a_full_disk_releases_nothing(home, path):
    """When no file of the process may grow any more, every answer is 503, and readiness fails."""
    with Served(home) as proxy:
        assert proxy.get(path, token=alice(home)).status == 200
        before = len(proxy.events())
        resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        for _ in range(3):
            refused_unrecorded(proxy.get(path, token=alice(home)))
        ready = proxy.get("/-/ready")
        assert ready.status == 503
        assert json.loads(ready.body).items() >= {"status": "not-ready", "log": "failing"}.items()
        assert len(proxy.events()) == before


def test_a_log_file_that_was_taken_away_releases_nothing(home):
    """SQLite would go on writing into an unlinked file unseen: it is noticed before the next answer."""
    with Served(home) as proxy:
        assert proxy.get("/sales/daily.csv", token=alice(home)).status == 200
        (home.folder / "access.db").rename(home.folder / "stolen.db")
        refused_unrecorded(proxy.get("/sales/daily.csv", token=alice(home)))


def test_a_log_that_fails_in_mid_stream_cuts_the_answer(home, store):
    """Blocks beyond what the records cover are not released when the log fails under way."""
    gate = asyncio.Event()

    async def body():
        yield LARGE[: 1 << 20]
        await gate.wait()
        yield LARGE[1 << 20 :]

    store.pages["/sales/daily.csv"] = Page(body)
    with Served(home) as proxy:
        with wire.asked(proxy.url, "/sales/daily.csv", token=alice(home)) as sock:
            received = bytearray(sock.recv(65536))
            resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            store._background.loop.call_soon_threadsafe(gate.set)
            received += wire.rest(sock)
        answer = wire.parse(bytes(received))
        assert answer.status == 200 and not answer.whole
        covered = max(event.bytes for event in proxy.events() if event.access == answer.event)
        assert 0 < len(answer.body) <= covered


@pytest.fixture
def databased(tmp_path, store, postgres) -> Home:
    """A home whose log is in a database."""
    return Home(
        tmp_path / "home",
        reports=sales.REPORTS,
        rules=sales.RULES,
        store=store.url,
        database=postgres.new(),
    )


def test_a_database_that_stops_and_comes_back(databased, postgres):
    """While it is stopped every answer is 503 without a byte of data, and readiness fails; then all is well."""
    with Served(databased) as proxy:
        assert proxy.get("/sales/daily.csv", token=alice(databased)).status == 200
        postgres.stop("immediate")
        try:
            asked = (("/sales/daily.csv", alice(databased)), ("/sales/nothing", alice(databased)))
            for path, token in (*asked, ("/sales/daily.csv", None)):
                refused_unrecorded(proxy.get(path, token=token))
            ready = proxy.get("/-/ready")
            assert ready.status == 503
            assert json.loads(ready.body).items() >= {"log": "failing"}.items()
        finally:
            postgres.start()
        for _ in range(400):
            if proxy.get("/-/ready").status == 200:
                break
            time.sleep(0.05)
        answer = proxy.get("/sales/daily.csv", token=alice(databased))
        assert answer.status == 200
        assert [event.access for event in proxy.events()].count(answer.event) == 1
        assert "open sesame" not in proxy.output and CANARY.decode() not in proxy.output


def test_a_database_that_stops_in_mid_stream_cuts_the_answer(databased, store, postgres):
    """Blocks beyond what the records cover are not released; the next start says that the end is not known."""
    gate = asyncio.Event()

    async def body():
        yield LARGE[: 1 << 20]
        await gate.wait()
        yield LARGE[1 << 20 :]

    store.pages["/sales/daily.csv"] = Page(body)
    with Served(databased) as proxy:
        with wire.asked(proxy.url, "/sales/daily.csv", token=alice(databased)) as sock:
            received = bytearray(sock.recv(65536))
            postgres.stop("immediate")
            try:
                store._background.loop.call_soon_threadsafe(gate.set)
                received += wire.rest(sock)
            finally:
                postgres.start()
        answer = wire.parse(bytes(received))
        assert answer.status == 200 and not answer.whole
        covered = max(event.bytes for event in proxy.events() if event.access == answer.event)
        assert 0 < len(answer.body) <= covered


@pytest.mark.threat("H67")
def test_a_killed_process_leaves_the_event_and_the_next_start_marks_it_unresolved(either, store):
    """SIGKILL between the intent and the last block: what was received is covered by durable records."""

    async def body():
        yield LARGE[: 1 << 20]
        await asyncio.sleep(60)

    store.pages["/sales/daily.csv"] = Page(body)
    with Served(either) as proxy:
        with wire.asked(proxy.url, "/sales/daily.csv", token=alice(either)) as sock:
            received = bytearray()
            while len(received) < 10_000:
                received += sock.recv(65536)
            proxy.kill()
            received += wire.rest(sock)
        answer = wire.parse(bytes(received))
        records = [event for event in proxy.events() if event.access == answer.event]
        assert (
            records[0].step == "intent"
            and records[0].subject
            and records[0].report == "sales/daily"
        )
        assert 0 < len(answer.body) <= max(event.bytes for event in records)
    store.pages["/sales/daily.csv"] = Page(sales.as_csv(sales.rows(5)))
    with Served(either) as proxy:
        records = [event for event in proxy.events() if event.access == answer.event]
        assert records[-1].step == "unresolved"
        assert records[-1].bytes >= len(answer.body)
        assert proxy.get("/sales/daily.csv", token=alice(either)).status == 200


def test_every_answer_has_its_record(either, store):
    """What was received whole is in the log with all of its bytes and rows; refusals are there too."""
    store.pages["/sales/daily.csv"] = Page(LARGE)
    with Served(either) as proxy:
        whole = proxy.get("/sales/daily.csv", token=alice(either))
        small = proxy.get("/sales/daily.json", token=alice(either))
        refused = [
            proxy.get("/sales/daily.csv"),
            proxy.get("/sales/secret.csv", token=alice(either)),
            proxy.get("/sales/../x", token=alice(either)),
        ]
        records = proxy.events()
    of_whole = [event for event in records if event.access == whole.event]
    assert [event.part for event in of_whole] == list(range(len(of_whole)))
    assert of_whole[0].step == "intent" and of_whole[-1].step == "outcome"
    assert of_whole[-1].bytes == len(whole.body) and of_whole[-1].rows == 40_000
    assert of_whole[-1].ended == "whole" and len(of_whole[-1].digest) == 64
    (of_small,) = [event for event in records if event.access == small.event]
    assert of_small.step == "complete" and of_small.bytes == len(small.body)
    assert of_small.fields["net_sales"] == {"round(100)": 50}
    for answer in refused:
        (event,) = [event for event in records if event.access == answer.event]
        assert event.step == "refusal" and event.status == answer.status
    text = Path(either.folder / "access.db").read_bytes()
    assert CANARY not in text
