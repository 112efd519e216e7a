"""PROMISE 4 (bounded memory): what the proxy holds does not grow with the report."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.process import Served
from tests.harness.proxy import Home
from tests.harness.store import Page, Store

HEAD = sales.as_csv([])
ROWS = sales.as_csv(sales.rows(16_000))[len(HEAD) :]
JSON_ROWS = sales.as_json(sales.rows(8_000))[1:-1]


@pytest.fixture
def store():
    background = Background()
    store = Store(background)
    yield store
    store.close()
    background.close()


@pytest.fixture
def home(tmp_path, store):
    return Home(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, store=store.url)


def peak(pid: int) -> float:
    """The process's peak resident memory in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("format_", ["csv", "json"])
def test_the_peak_does_not_follow_the_size_of_the_report(home, store, format_):
    """A report ten times as long needs no more memory, within a fixed allowance."""
    times = 0

    async def body():
        yield HEAD if format_ == "csv" else b"["
        for n in range(times):
            if format_ == "csv":
                yield ROWS
            else:
                yield (b"," if n else b"") + JSON_ROWS
        yield b"" if format_ == "csv" else b"]"

    kind = "text/csv" if format_ == "csv" else "application/json"
    store.pages[f"/sales/daily.{format_}"] = Page(body, content_type=kind)
    with Served(home) as proxy:
        token = home.issuer.token("alice", groups=("analysts",))
        peaks = []
        for factor in (16, 160):
            times = factor
            with proxy.explained():
                answer = proxy.get(f"/sales/daily.{format_}", token=token)
                assert answer.status == 200 and answer.whole
                peaks.append(peak(proxy.pid))
    assert peaks[1] <= 300
    assert peaks[1] - peaks[0] <= 64


def test_a_client_that_stops_reading_stops_the_store(home, store):
    """Back-pressure goes end to end: the store sends a bounded amount, then waits; the access is on record."""
    sent = 0

    async def body():
        nonlocal sent
        yield HEAD
        for _ in range(400):
            yield ROWS
            sent += len(ROWS)

    store.pages["/sales/daily.csv"] = Page(body)
    with Served(home) as proxy, proxy.explained():
        token = home.issuer.token("alice", groups=("analysts",))
        with wire.asked(proxy.url, "/sales/daily.csv", token=token) as sock:
            sock.recv(1000)
            before = -1
            while sent != before:
                before = sent
                time.sleep(1)
            assert sent < 200 * len(ROWS)
            assert proxy.get("/-/ready").status == 200
        for _ in range(100):
            records = [event for event in proxy.events() if event.report == "sales/daily"]
            if records and records[-1].step == "outcome":
                break
            time.sleep(0.1)
        assert records[0].step == "intent"
        assert records[-1].ended == "client-gone"
