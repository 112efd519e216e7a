"""PROMISE 2 (no record, no data), over real sockets and with a real process that is starved and killed."""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.process import Served
from tests.harness.proxy import Home
from tests.harness.store import Page, Store

CANARY = b"canary"
LARGE = sales.as_csv(sales.rows(40_000))


@pytest.fixture
def background():
    background = Background()
    yield background
    background.close()


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


def alice(home: Home) -> str:
    return home.issuer.token("alice", groups=("analysts",))


def refused_unrecorded(answer: wire.Answer) -> None:
    assert answer.status == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["counterfoil-event"]
    assert b"2026-01" not in answer.raw and CANARY not in answer.raw


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


def test_a_killed_process_leaves_the_event_and_the_next_start_marks_it_unresolved(home, store):
    """SIGKILL between the intent and the last block: what was received is covered by durable records."""

    async def body():
        yield LARGE[: 1 << 20]
        await asyncio.sleep(60)

    store.pages["/sales/daily.csv"] = Page(body)
    with Served(home) as proxy:
        with wire.asked(proxy.url, "/sales/daily.csv", token=alice(home)) as sock:
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
    with Served(home) as proxy:
        records = [event for event in proxy.events() if event.access == answer.event]
        assert records[-1].step == "unresolved"
        assert records[-1].bytes >= len(answer.body)
        assert proxy.get("/sales/daily.csv", token=alice(home)).status == 200


def test_killed_at_any_moment_no_byte_is_without_its_record(home, store):
    """Killed at some moments of a long answer, the bytes on the wire never exceed what is on record."""
    killed(home, store, (0, 0.02, 0.04, 0.06, 0.08))


@pytest.mark.prove
def test_killed_at_many_moments_no_byte_is_without_its_record(home, store):
    """As above, at a hundred of them."""
    killed(home, store, [moment * 0.002 for moment in range(100)])


def killed(home: Home, store: Store, moments: Sequence[float]) -> None:
    """Each time a server anew, on the log of those before it."""
    store.pages["/sales/daily.csv"] = Page(LARGE, pieces=1 << 16)
    for moment in moments:
        with Served(home) as proxy:
            with wire.asked(proxy.url, "/sales/daily.csv", token=alice(home)) as sock:
                time.sleep(moment)
                proxy.kill()
                received = wire.rest(sock)
            if not received:
                continue
            answer = wire.parse(received)
            records = [event for event in proxy.events() if event.access == answer.event]
            assert len(answer.body) <= max(event.bytes for event in records)
            if answer.whole:
                assert records[-1].ended == "whole"


def test_every_answer_has_its_record(home, store):
    """What was received whole is in the log with all of its bytes and rows; refusals are there too."""
    store.pages["/sales/daily.csv"] = Page(LARGE)
    with Served(home) as proxy:
        whole = proxy.get("/sales/daily.csv", token=alice(home))
        small = proxy.get("/sales/daily.json", token=alice(home))
        refused = [
            proxy.get("/sales/daily.csv"),
            proxy.get("/sales/secret.csv", token=alice(home)),
            proxy.get("/sales/../x", token=alice(home)),
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
    text = Path(home.folder / "access.db").read_bytes()
    assert CANARY not in text
