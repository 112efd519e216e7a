"""What tests of the edge share: one proxy for all of a module, as new for each test."""

from __future__ import annotations

import pytest

from proxy.gateway.bursts import Bursts
from tests.harness import sales
from tests.harness.proxy import Proxy, stage
from tests.harness.store import Page, Store

PATH = "/sales/daily.csv"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with stage(
        tmp_path_factory.mktemp("world"), reports=sales.REPORTS, rules=sales.RULES
    ) as running:
        yield running


@pytest.fixture
def store(world) -> Store:
    world[0].pages.clear()
    world[0].pages[PATH] = Page(sales.as_csv(sales.rows(20)))
    world[0].asked.clear()
    return world[0]


@pytest.fixture
def proxy(world, store) -> Proxy:
    # No test is to notice how many refusals there were before it.
    world[1].app.gateway.recorder._bursts = Bursts()
    return world[1]


@pytest.fixture
def fields(proxy) -> str:
    """What a permitted request has beside its first line."""
    token = proxy.issuer.token("alice", groups=("analysts",))
    return f"Host: localhost\r\nAuthorization: Bearer {token}\r\n"
