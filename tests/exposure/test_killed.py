"""What a killed process gave is told as assumed: all rows that its records cover, and no fewer than were received.

PROMISE 2 (no record, no data).
"""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner

from proxy.cli import main
from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.process import Served
from tests.harness.proxy import Home
from tests.harness.store import Page, Store

LARGE = sales.as_csv(sales.rows(40_000))


@pytest.fixture
def store():
    background = Background()
    store = Store(background)
    yield store
    store.close()
    background.close()


def test_rows_of_an_answer_that_was_killed_are_assumed(tmp_path, store):
    """Each row that was received is counted, with the evidence made durable before it left."""

    async def body():
        yield LARGE[: 1 << 20]
        await asyncio.sleep(60)

    home = Home(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, store=store.url)
    store.pages["/sales/daily.csv"] = Page(body)
    token = home.issuer.token("alice", groups=("analysts",))
    with Served(home) as proxy:
        with wire.asked(proxy.url, "/sales/daily.csv", token=token) as sock:
            received = bytearray()
            while len(received) < 300_000:
                received += sock.recv(65536)
            proxy.kill()
            received += wire.rest(sock)
        lines = wire.parse(bytes(received)).body.decode().split("\n")[1:-1]
    with Served(home) as proxy:  # marks it as unresolved
        assert proxy.events()[-1].step
    ran = CliRunner().invoke(
        main,
        ["log", "exposure", "-c", str(home.settings), "--where", "store_id == '7'", "--json"],
        catch_exceptions=False,
    )
    (found,) = map(json.loads, ran.stdout.splitlines())
    assert (found["certainty"], found["outcome"], found["possible"]) == ("assumed", "unresolved", 0)
    mine = sum(line.split(",")[1] == "7" for line in lines)
    assert 0 < mine <= found["rows"] <= 4000
    verified = CliRunner().invoke(main, ["log", "verify", "-c", str(home.settings)])
    assert verified.exit_code == 10 and "unresolved" in verified.stdout
