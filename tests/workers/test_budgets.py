"""Budgets of several workers: shared between them and not multiplied, whichever of them dies."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.gateway.reloading import soon
from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.process import Served
from tests.harness.proxy import Home
from tests.harness.store import Page, Store

PATH = "/sales/daily.csv"
LIMITS = "limits: [{{who: anyone, reports: sales/*, what: rows, most: {most}, per: week}}]\n"


@contextmanager
def served(folder, most):
    background = Background()
    store = Store(background)
    store.pages[PATH] = Page(sales.as_csv(sales.rows(5)))
    home = Home(
        folder / "home",
        reports=sales.REPORTS,
        rules=sales.RULES,
        store=store.url,
        settings="workers: 2\n",
    )
    home.write("limits.yaml", LIMITS.format(most=most))
    try:
        with Served(home) as proxy, proxy.explained():
            yield home, proxy
    finally:
        store.close()
        background.close()


def children(proxy: Served) -> list[int]:
    """The workers' processes."""
    listed = Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children").read_text()
    return [int(pid) for pid in listed.split()]


@pytest.mark.parametrize("killed", [False, True])
def test_one_budget_for_all_workers(tmp_path, killed):
    """Of 40 requests at once, each on a connection of its own, as many are answered as there is room for."""
    with served(tmp_path, most=60) as (home, proxy):
        token = home.issuer.token("alice", groups=("analysts",))
        statuses: list[int] = []

        def ask() -> None:
            statuses.extend(wire.get(proxy.url, PATH, token=token).status for _ in range(5))

        if killed:
            assert wire.get(proxy.url, PATH, token=token).status == 200
            victim = children(proxy)[0]
            os.kill(victim, signal.SIGKILL)
            assert soon(lambda: victim not in children(proxy) and len(children(proxy)) == 2)
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        given = [event for event in proxy.events() if event.step == "complete"]
        assert (home.folder / "access-budgets.db").is_file()
        assert statuses.count(200) == 12 - killed and statuses.count(429) == 28 + killed
        assert sum(event.rows for event in given) == 60
