"""What one subject, or one slow report, may take from the others."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness import sales, wire
from tests.harness.proxy import stage
from tests.harness.store import Page

PATH = "/sales/daily.csv"
LONG = sales.as_csv(sales.rows(40_000))


async def _endless():
    yield LONG[: 1 << 20]
    await asyncio.sleep(60)


def _begin(proxy, token: str):
    sock = wire.connect(proxy.url)
    sock.sendall(
        f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    assert b" 200 OK" in sock.recv(1000)
    return sock


@pytest.mark.threat("B21")
def test_one_subject_has_so_many_requests_and_no_more(tmp_path):
    """B21: beyond its number a subject gets 429 with Retry-After; others are served."""
    settings = "limits: {requests_per_subject: 2, drain_seconds: 1}\n"
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES, settings=settings) as (
        store,
        proxy,
    ):
        store.pages[PATH] = Page(_endless)
        store.pages["/sales/daily.json"] = Page(b"[]", content_type="application/json")
        alice, bob = (proxy.issuer.token(name, groups=("analysts",)) for name in ("alice", "bob"))
        with _begin(proxy, alice) as first, _begin(proxy, alice) as second:
            refused = proxy.get("/sales/daily.json", token=alice)
            assert refused.status == 429 and refused.headers["retry-after"]
            recorded = [event for event in proxy.events() if event.access == refused.event]
            assert [event.reason for event in recorded] == ["too-many-requests"]
            assert proxy.get("/sales/daily.json", token=bob).status == 200
            for sock in (first, second):
                sock.shutdown(2)


@pytest.mark.threat("B21", "E48")
def test_nobody_waits_for_a_connection_longer_than_for_a_store(tmp_path):
    """B21, E48: where all connections to a store are taken, the others get 504 in time, on record."""
    settings = "limits: {drain_seconds: 1}\nstores: {connections: 1, first_byte_seconds: 1}\n"
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES, settings=settings) as (
        store,
        proxy,
    ):

        async def busy():
            yield LONG[: 1 << 20]
            for _ in range(100):
                await asyncio.sleep(0.2)
                yield b"2026-01-01,1,North,1,1,x\n"

        store.pages[PATH] = Page(busy)
        alice, bob = (proxy.issuer.token(name, groups=("analysts",)) for name in ("alice", "bob"))
        with _begin(proxy, alice):
            waited = proxy.get(PATH, token=bob)
            assert waited.status == 504
            assert proxy.events()[-1].cause == "store-timeout"
