"""A page is cut out of the requester's own rows: never of the store's, exactly, and no further read."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import re
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.gateway.paging import Page, PagedView
from proxy.keys import Keyring
from tests.gateway.views import steps_of
from tests.harness import sales
from tests.harness.proxy import stage
from tests.harness.store import Page as StorePage
from tests.reference import product
from tests.reference.worlds import SEEDS, world_of

KEYRING = Keyring.generate()
NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
CSV, JSON = "/sales/daily.csv", "/sales/daily.json"
REPORTS = sales.REPORTS.replace(
    "    parameters:\n",
    """\
    parameters:
      limit: {by: limit, most: 50000}
      offset: {by: offset, most: 100000}
""",
    1,
)


def paged(view: product.View, format_: str, document: bytes, cuts: list[int], page: Page):
    """The body of a page of a view, and the block that ends it, from a source in pieces."""
    made = PagedView(
        steps_of(view, format_, document),
        page=page,
    )
    places = [0, *sorted(min(cut, len(document)) for cut in cuts), len(document)]
    body = b""
    for start, end in itertools.pairwise(places):
        for work in made.records(document[start:end]):
            body += b"".join(map(made.add, made.parts(work)))
        if made.full:
            break
    else:
        for work in made.rest():
            body += b"".join(map(made.add, made.parts(work)))
    body += made.finish()
    return body, made.block(b"", len(body), last=True)


def veiled(body: bytes) -> bytes:
    return re.sub(rb"cf1\.[\w.-]+", b"#", body)


@settings(max_examples=150)
@given(
    SEEDS,
    st.sampled_from(["csv", "json"]),
    st.integers(0, 12),
    st.none() | st.integers(1, 12),
    st.lists(st.integers(0, 3000), max_size=6),
    st.sampled_from([12, 200]),
)
def test_a_page_is_that_part_of_the_whole_answer(seed, format_, first, limit, cuts, size):
    """Its rows, forms and counts are those of the answer to a store that has the page's rows alone."""
    world = world_of(seed, rows=size)
    view = product.view(world, KEYRING, NOW)
    if view is None or view.plan.counting is not None:  # what is counted has no pages
        return
    forms = view.forms(world, format_)
    released = [number for number, row in enumerate(forms) if row]
    page = Page(first=first, end=None if limit is None else first + limit)
    wanted = released[page.first : page.end]
    body, block = paged(view, format_, product.document(world, format_), cuts, page)
    alone = product.document(world, format_, [world.rows[number] for number in wanted])
    assert veiled(body) == veiled(view.answer(format_, alone))
    assert block.rows == len(wanted)
    counted = Counter((f, form) for number in wanted for f, form in forms[number].items())
    assert counted == {
        (f, form): n for f, given in block.cells.items() for form, n in given.items() if n
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with stage(tmp_path_factory.mktemp("paging"), reports=REPORTS, rules=sales.RULES) as at:
        yield at


def owner(proxy):
    return proxy.issuer.token("olga", groups=("owners",), stores=["3", "4"])


@pytest.mark.parametrize(
    ("query", "first", "end"),
    [
        ("limit=5", 0, 5),
        ("limit=5&offset=3", 3, 8),
        ("offset=7", 7, 20),
        ("limit=50000", 0, 20),
        ("limit=1&offset=19", 19, 20),
        ("limit=5&offset=20", 20, 20),
        ("offset=100000", 20, 20),
    ],
)
def test_a_page_is_one_of_ones_own_rows_and_the_store_is_not_told(world, query, first, end):
    """Of 100 rows 20 are the requester's; the store is asked for all, and the page's rows are on record."""
    store, proxy = world
    store.pages[CSV] = StorePage(sales.as_csv(sales.rows(100)))
    answer = proxy.get(f"{CSV}?{query}", token=owner(proxy))
    assert answer.status == 200 and answer.whole
    assert store.asked[-1][0] == CSV
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    own = [row for row in sales.rows(100) if row[1] in ("3", "4")]
    assert [row["net_sales"] for row in rows] == [row[4] for row in own[first:end]]
    [event] = [event for event in proxy.events() if event.access == answer.event]
    assert (event.step, event.ended, event.rows) == ("complete", "whole", end - first)
    assert event.bytes == len(answer.body)
    assert sum(event.fields.get("net_sales", {}).values()) == end - first
    assert event.parameters == dict(pair.split("=") for pair in query.split("&"))


def test_a_full_page_does_not_wait_for_the_rest_of_the_store(world):
    """A store that never ends is read no further; what it would have said has no influence."""
    store, proxy = world
    sent = 0

    async def endless():
        nonlocal sent
        yield sales.as_csv(sales.rows(3000))
        sent += 1
        yield b"".join(sales.as_csv(sales.rows(3000, start=3000)).splitlines(keepends=True)[1:])
        sent += 1
        await asyncio.sleep(3600)

    store.pages[CSV] = StorePage(endless)
    answer = proxy.get(f"{CSV}?limit=100&offset=50", token=owner(proxy))
    assert answer.status == 200 and answer.whole and sent == 2
    assert answer.body.count(b"\n") == 101
    store.pages[CSV] = StorePage(sales.as_csv(sales.rows(60_000)))
    assert proxy.get(f"{CSV}?limit=100&offset=50", token=owner(proxy)).seen() == answer.seen()


@pytest.mark.parametrize("path", [CSV, JSON])
def test_a_long_page_has_its_records_before_its_blocks(world, path):
    """Thousands of rows from the middle: several blocks, an intent before and an outcome at the end."""
    store, proxy = world
    rows = sales.rows(60_000)
    page = StorePage(sales.as_csv(rows))
    if path == JSON:
        page = StorePage(sales.as_json(rows), content_type="application/json")
    store.pages[path] = page
    whole = proxy.get(path, token=owner(proxy))
    answer = proxy.get(f"{path}?limit=9000&offset=1000", token=owner(proxy))
    assert answer.whole and len(answer.chunks) > 1
    if path == CSV:
        head, *lines = whole.body.splitlines(keepends=True)
        assert answer.body == head + b"".join(lines[1000:10_000])
    else:
        cut = [each + b"}" for each in whole.body[1:-2].split(b"},")]
        assert answer.body == b"[" + b",".join(cut[1000:10_000]) + b"]"
    events = [event for event in proxy.events() if event.access == answer.event]
    assert events[0].step == "intent" and events[-1].step == "outcome"
    assert (events[-1].rows, events[-1].ended) == (9000, "whole")
    assert events[-1].fields["net_sales"] == {"clear": 9000}


def test_a_fault_of_the_store_before_the_page_s_end_refuses_it(world):
    """What has to be read is checked as ever."""
    store, proxy = world
    store.pages[CSV] = StorePage(sales.as_csv(sales.rows(10)) + b"x,y\n")
    assert proxy.get(f"{CSV}?limit=5", token=owner(proxy)).status == 502
