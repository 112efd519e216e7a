"""PROMISE 5 (nobody waits for nothing): what has come of a report leaves, whatever its store does next."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from proxy.gateway.view import BLOCK
from tests.harness import sales, wire
from tests.harness.proxy import stage
from tests.harness.store import Page

PATH = "/sales/daily.csv"
RULES = """\
p,  tool:app,     sales/*,     act,  true, allow
p,  role:analyst, sales/daily, read, true, allow
p2, role:analyst, sales/daily, true, *, clear
g,  group:analysts, role:analyst
"""
LONG = sales.as_csv(sales.rows(20_000))


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_store_that_pauses_holds_back_nothing_that_it_has_sent(tmp_path, coding):
    """The first block leaves as soon as its rows are there, in however few bytes the store goes on."""
    gate = asyncio.Event()

    async def body():
        coder = zlib.compressobj(wbits=31)
        for part in (LONG[:100_000], LONG[100_000:300_000]):
            whole = coder.compress(part) + coder.flush(zlib.Z_SYNC_FLUSH)
            yield part if coding == "identity" else whole
            await asyncio.sleep(0.3)
        await gate.wait()
        rest = LONG[300_000:]
        yield rest if coding == "identity" else coder.compress(rest) + coder.flush()

    headers = {} if coding == "identity" else {"Content-Encoding": coding}
    with stage(tmp_path, reports=sales.REPORTS, rules=RULES) as (store, proxy):
        store.pages[PATH] = Page(body, headers=headers)
        token = proxy.issuer.token("alice", groups=("analysts",))
        with wire.asked(proxy.url, PATH, token=token) as sock:
            received = bytearray()
            while len(received) < BLOCK and (some := sock.recv(1 << 16)):
                received += some
            store._background.loop.call_soon_threadsafe(gate.set)
            received += wire.rest(sock)
    answer = wire.parse(bytes(received))
    assert answer.status == 200 and answer.whole and answer.body == LONG
