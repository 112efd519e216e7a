"""A released cell that the answer's format has no place for: how far an answer goes tells of no other row."""

from __future__ import annotations

import random

import pytest

from tests.harness.proxy import stage
from tests.harness.store import Page
from tests.promises import typed
from tests.promises.typed import MINE, RULES

NAMES = typed.SCHEMA.names
FILLED = "filled " * 20


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts") / "home"
    with stage(folder, reports=typed.REPORTS, rules=RULES) as (store, proxy):
        yield store, proxy


def document(count: int, bad: int, foreigners: int) -> bytes:
    """A CSV document of which sam sees the same rows, whatever stands between; `bad` has no whole number."""
    rows = [_row(n, "1", "many" if n == bad else str(n)) for n in range(count)]
    chance = random.Random(foreigners)
    for _ in range(foreigners):
        rows.insert(chance.randrange(bad + 1), _row(0, "9", chance.choice(["", "canary"])))
    return "".join([",".join(NAMES) + "\n", *rows]).encode()


def _row(n: int, shop: str, units: str) -> str:
    given = {"id": str(n), "store": shop, "flag": "open", "units": units, "name": FILLED}
    return ",".join(given.get(name, "") for name in NAMES) + "\n"


def ask(at, body: bytes, query: str = ""):
    store, proxy = at
    store.pages["/vault/texts.csv"] = Page(body, content_type="text/csv")
    token = proxy.issuer.token("sam", groups=("owners",), stores=list(MINE))
    return proxy.get(f"/vault/texts.arrows{query}", token=token)


def test_what_comes_after_a_page_does_not_refuse_it(at):
    """Whether it came together with the page's last row is a matter of the rows that are hidden."""
    for foreigners in (0, 10, 3_000):
        answer = ask(at, document(40, 30, foreigners), "?limit=20")
        assert answer.status == 200 and answer.whole
        answer = ask(at, document(40, 30, foreigners), "?limit=31")
        assert answer.status == 502


def test_an_answer_that_breaks_off_has_all_rows_before_the_cell(at):
    """Its bytes are the same, whatever lies between the rows."""
    seen = set()
    for foreigners in (0, 300, 9_000):
        answer = ask(at, document(9_000, 8_400, foreigners))
        assert answer.status == 200 and not answer.whole
        seen.add(answer.body)
    assert len(seen) == 1 and len(min(seen)) > 1 << 20
