"""PROMISE 4 (bounded memory): what an answer took goes with it, and waits for no garbage collection."""

from __future__ import annotations

import gc
import gzip

import pytest

from tests.gateway.reloading import soon
from tests.harness import sales, wire
from tests.harness.proxy import stage
from tests.harness.store import Page

CSV = "/sales/daily.csv"
MANY = sales.as_csv(sales.rows(20_000))
"""Several blocks, made by threads."""


def left(proxy) -> list[str]:
    """The types of ours that only the garbage collector finds."""
    assert soon(lambda: proxy.app.gateway.running == 0)
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        found = {type(each) for each in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.collect()
    return sorted(each.__qualname__ for each in found if each.__module__.startswith("proxy."))


@pytest.mark.parametrize(
    ("target", "page", "coding", "status"),
    [
        (CSV, Page(MANY), "identity", 200),
        (CSV, Page(MANY), "zstd", 200),
        (CSV, Page(MANY, pieces=5_000), "gzip", 200),
        (CSV, Page(sales.as_csv(sales.rows(10))), "identity", 200),
        (CSV, Page(gzip.compress(MANY), headers={"Content-Encoding": "gzip"}), "identity", 200),
        (CSV, Page(MANY, cut_after=len(MANY) // 2), "zstd", None),
        ("/sales/daily.json", Page(b"[{]", "application/json"), "identity", 502),
        (CSV, Page(status=500), "identity", 502),
    ],
    ids=["blocks", "zstd", "pieces", "block", "coded", "cut", "malformed", "status"],
)
def test_an_answer_leaves_no_rings(tmp_path, target, page, coding, status):
    """However long it is, and however it ends: nothing of the source, the coder or the blocks stays behind."""
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES) as (store, proxy):
        store.pages[target] = page
        token = proxy.issuer.token("alice", groups=("analysts",))
        headers = {"Accept-Encoding": coding}
        wire.get(proxy.url, target, token=token, headers=headers)
        left(proxy)
        gc.disable()
        try:
            for _ in range(3):
                answer = wire.get(proxy.url, target, token=token, headers=headers)
                assert status is None or answer.status == status
            assert left(proxy) == []
        finally:
            gc.enable()
