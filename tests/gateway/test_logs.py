"""H70: what the process prints, at its most talkative, holds no cell, no token and nothing that was echoed."""

from __future__ import annotations

import logging
import re

import pytest

from proxy.gateway.bursts import Bursts
from tests.harness import sales, wire
from tests.harness.proxy import stage
from tests.harness.store import Page

PATH = "/sales/daily.csv"
GOOD = sales.as_csv(sales.rows(50))
LONG = sales.as_csv(sales.rows(40_000))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    with stage(folder, reports=sales.REPORTS, rules=sales.RULES) as running:
        yield running


@pytest.mark.threat("H70")
def test_nothing_is_told_at_debug(world, caplog):
    """Good and bad requests, good and bad stores, a store that breaks off: at DEBUG of every logger."""
    store, proxy = world
    caplog.set_level(logging.DEBUG)
    for name in (
        "aiohttp",
        "asyncio",
        "casbin",
        "aiohttp.server",
        "aiohttp.client",
        "casbin.enforcer",
    ):
        caplog.set_level(logging.DEBUG, logger=name)
    proxy._background.loop.call_soon_threadsafe(proxy._background.loop.set_debug, True)
    try:
        token = proxy.issuer.token("alice", groups=("analysts",))
        pages = [
            Page(GOOD),
            Page(LONG),
            Page(LONG, cut_after=len(LONG) // 2, pieces=1 << 16),
            Page(GOOD + b"canary,canary\n"),
            Page(GOOD + b'2026-01-01,1,"canary'),
            Page(GOOD.replace(b",1001.01,", b",canary,")),
            Page(b"canary" * 1000),
            Page(b"canary stack trace", status=500),
            Page(b"", status=302, headers={"Location": "https://canary.example/"}),
            Page(GOOD, content_type="text/canary"),
        ]
        for page in pages:
            store.pages[PATH] = page
            proxy.get(PATH, token=token)
        for raw in (
            b"canary\r\n\r\n",
            b"GET /canary\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nX : canary\r\n\r\n".encode(),
            f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}x\r\n"
            "Connection: close\r\n\r\n".encode(),
            f"GET {PATH}?least=canary HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            "Connection: close\r\nUser-Agent: canary\r\nCounterfoil-Purpose: canary\r\n\r\n".encode(),
        ):
            wire.exchange(proxy.url, raw)
        proxy.home.write("policy.csv", sales.RULES + "p, role:analyst, sales/daily, read\n")
        assert not proxy.reload()
        proxy.home.write("policy.csv", sales.RULES)
    finally:
        proxy._background.loop.call_soon_threadsafe(proxy._background.loop.set_debug, False)
    ours = [r for r in caplog.records if r.name == "counterfoil"]
    assert ours
    said = "\n".join(logging.Formatter().format(record) for record in caplog.records)
    assert token not in said and not re.search(r"eyJ[A-Za-z0-9_-]{20}", said)
    assert "canary" not in said, re.findall(r".*canary.*", said)[:3]


def test_names_that_a_store_makes_up_take_no_room(world, caplog):
    """A store that invents huge column names fills neither memory nor the process's log."""
    store, proxy = world
    proxy.app.gateway.recorder._bursts = Bursts()
    token = proxy.issuer.token("alice", groups=("analysts",))
    for number in range(3):
        name = f"{number}\u202e" + "x" * 100_000
        rows = [(*row, "") for row in sales.rows(5)]
        store.pages[PATH] = Page(sales.as_csv(rows, (*sales.FIELDS, name)))
        assert proxy.get(PATH, token=token).status == 200
    alarms = [r.getMessage() for r in caplog.records if r.getMessage().startswith("drift")]
    assert len(alarms) == 1 and len(alarms[0]) < 300 and alarms[0].isprintable()
