"""Rows are sorted anew for whoever may not know the store's order: by what they are given, within bounds."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import total_ordering

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.errors import TooLargeToSort
from proxy.few import Few
from proxy.formats import FORMATS
from proxy.gateway.paging import Page
from proxy.gateway.sorting import SortedView, order_for, sortable
from proxy.keys import Keyring
from proxy.report import FormatName, Ordering
from proxy.values import Type, scalar
from tests.gateway.views import steps_of
from tests.harness import sales, wire
from tests.harness.proxy import stage
from tests.harness.store import Page as StorePage
from tests.reference import documents, product
from tests.reference.worlds import SEEDS, world_of

KEYRING = Keyring.generate()
NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def answered(view, format_, document, *, asked=(), page=None, most=1 << 30, piece=700):
    """The sorted body of a view over a source that comes in pieces, and the block that ends it."""
    kind = FORMATS[FormatName(format_)]
    made = SortedView(
        steps_of(view, format_, document),
        lexis=kind.lexis,
        plan=view.plan,
        asked=asked,
        page=page,
        most=most,
    )
    for start in range(0, len(document), piece):
        for work in made.records(document[start : start + piece]):
            assert all(made.add(part) == b"" for part in made.parts(work))
    for work in made.rest():
        assert all(made.add(part) == b"" for part in made.parts(work))
    body = made.finish()
    return body, made.block(b"", len(body), last=True)


def place(text, type_, *, descending=False):
    """Where a cell stands: values by value, then what is none, and last where nothing is."""
    if text is None:
        return (2,)
    value = scalar(text, type_)
    known = (1, text) if value is None else (0, value)
    return (0, Descending(known) if descending else known)


@total_ordering
class Descending:
    """What is greater stands before."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, what):
        self.what = what

    def __lt__(self, other):
        return other.what < self.what

    def __eq__(self, other):
        return other.what == self.what


def some_view(seed, size):
    view = product.view(world_of(seed, rows=size), KEYRING, NOW)
    assume(view is not None)
    return world_of(seed, rows=size), view


@settings(max_examples=60)
@given(SEEDS, st.randoms(use_true_random=False), st.sampled_from([10, 150]))
def test_rows_are_in_the_order_of_what_was_asked_for_then_of_the_key_then_of_all(
    seed, chance, size
):
    """As a sort in plain Python of the cells that are given puts them; nothing is lost and nothing added."""
    world, view = some_view(seed, size)
    clear = sorted(view.plan.clear)
    asked = [
        Ordering(name, descending=chance.random() < 0.5)
        for name in chance.sample(clear, chance.randint(0, len(clear)))
    ]
    body, block = answered(view, "csv", product.document(world, "csv"), asked=asked)
    assume(b"cf1." not in body)
    order = order_for(view.plan, asked)
    assert [*order[: len(asked)]] == asked
    assert {each.field for each in order} == {*(each.field for each in asked)} | (
        view.plan.clear & {*view.report.key}
    )
    found = documents.read_csv(body)
    plain = documents.read_csv(view.answer("csv", product.document(world, "csv")))
    number = {name: at for at, name in enumerate(found.names)}

    def key(row):
        by = [
            place(row[number[e.field]], view.report.types[e.field], descending=e.descending)
            for e in order
        ]
        return *by, *((cell is None, cell or "") for cell in row)

    assert [*map(tuple, found.rows)] == sorted(map(tuple, plain.rows), key=key)
    assert block.rows == len(plain.rows)


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(["csv", "json"]), st.integers(0, 99), st.sampled_from([10, 150]))
def test_the_answer_does_not_depend_on_the_store_s_order(seed, format_, shuffled, size):
    """Whatever the order and the pieces in which the store gives its rows, the bytes are the same."""
    world, view = some_view(seed, size)
    first, one = answered(view, format_, product.document(world, format_))
    assume(b"cf1." not in first)
    rows = [*world.rows]
    random.Random(shuffled).shuffle(rows)
    other = product.document(world, format_, rows)
    second, two = answered(view, format_, other, piece=100 + 37 * shuffled)
    assert first == second
    assert (one.rows, one.cells) == (two.rows, two.cells)
    unsorted = view.answer(format_, product.document(world, format_))
    if format_ == "json":
        records = Counter(map(repr, documents.read_json(unsorted)))
        assert Counter(map(repr, documents.read_json(first))) == records


@settings(max_examples=40)
@given(
    SEEDS,
    st.sampled_from(["csv", "json"]),
    st.one_of(
        st.tuples(st.just(10), st.integers(1, 9)), st.tuples(st.just(150), st.integers(9, 80))
    ),
)
def test_pages_are_the_parts_of_the_sorted_whole(seed, format_, size_and_limit):
    """One after another they give all rows, each once, and their counts add up to those of the whole."""
    size, limit = size_and_limit
    world, view = some_view(seed, size)
    document = product.document(world, format_)
    whole, all_ = answered(view, format_, document)
    assume(b"cf1." not in whole)
    counted: Counter[tuple[str, str]] = Counter()
    rows = []
    for first in range(0, all_.rows + 1, limit):
        page = Page(first=first, end=first + limit)
        body, block = answered(view, format_, document, page=page)
        assert block.rows == min(limit, all_.rows - first)
        for field, forms in block.cells.items():
            counted.update({(field, form): number for form, number in forms.items()})
        if format_ == "csv":
            rows += documents.read_csv(body).rows
        else:
            rows += documents.read_json(body)
    read = documents.read_csv(whole).rows if format_ == "csv" else documents.read_json(whole)
    assert [*map(tuple, rows)] == [*map(tuple, read)]
    assert counted == {
        (field, form): n for field, forms in all_.cells.items() for form, n in forms.items()
    }


NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(-1000, 1000, places=2, allow_nan=False).map(str),
    st.sampled_from(["1", "1.0", "+1", "1e0", "01", "-0", "0", "1e999", "x", "", "NaN", "9" * 40]),
    st.sampled_from(["9007199254740993", "9007199254740992", "0.1", "0.10000000000000001"]),
)
DAYS = st.dates().map(str) | st.sampled_from(["2023-02-29", "0000-01-01", "2024-02-29", "1", ""])
TIMES = st.one_of(
    st.datetimes().map(lambda at: at.isoformat()[:19] + "Z"),
    st.sampled_from(["2026-01-01T00:00:00+01:00", "2025-12-31T23:00Z", "2025-12-31T23:00:00Z", "noon",
                     "2023-02-29T00:00:00Z", "0000-01-01T00:00:00Z", "2026-01-01T24:00:00Z"]),
)  # fmt: skip


@settings(max_examples=300)
@given(
    st.one_of(
        st.tuples(st.just(Type.DECIMAL), st.lists(st.none() | NUMBERS, max_size=30)),
        st.tuples(st.just(Type.INTEGER), st.lists(st.none() | NUMBERS, max_size=30)),
        st.tuples(st.just(Type.DATE), st.lists(st.none() | DAYS, max_size=30)),
        st.tuples(st.just(Type.DATETIME), st.lists(st.none() | TIMES, max_size=30)),
        st.tuples(st.just(Type.TEXT), st.lists(st.none() | st.text(max_size=3), max_size=30)),
    ),
    st.booleans(),
)
def test_a_column_sorts_as_its_values_do_exactly(both, few):
    """Numbers of any length and instants at any offset; two ways to write one value are equal."""
    type_, texts = both
    column = sortable(Few(texts) if few else pl.Series(texts, dtype=pl.String), type_)
    known = [at for at, text in enumerate(texts) if text is not None]
    for one in known:
        for other in known:
            before = place(texts[one], type_) < place(texts[other], type_)
            assert (column[one] < column[other]) == before
    assert column.is_null().to_list() == [text is None for text in texts]


def test_what_is_held_is_counted_from_what_is_given_alone():
    """The bytes up to which rows are held do not depend on the hidden ones, or on how they come."""
    world, view = next(found for found in map(released_some, range(100)) if found)
    document = product.document(world, "csv")
    least = next(most for most in range(0, 1 << 20, 16) if _fits(view, document, most))
    rows = [*world.rows]
    random.Random(1).shuffle(rows)
    shuffled = product.document(world, "csv", rows)
    for piece in (90, 5000, 1 << 20):
        for each in (document, shuffled):
            assert _fits(view, each, least, piece)
            assert not _fits(view, each, least - 16, piece)


def released_some(seed):
    world = world_of(seed, rows=150)
    view = product.view(world, KEYRING, NOW)
    enough = view is not None and sum(map(bool, view.forms(world, "csv"))) in range(20, 140)
    return (world, view) if enough else None


def _fits(view, document, most, piece=1 << 20):
    try:
        answered(view, "csv", document, most=most, piece=piece)
    except TooLargeToSort:
        return False
    return True


# ── over real sockets ──

CSV, JSON = "/sales/daily.csv", "/sales/daily.json"
REPORTS = sales.REPORTS.replace(
    "    key: [date, store_id]\n", "    key: [date, store_id]\n    ordered_by: [net_sales]\n", 1
).replace(
    "    parameters:\n",
    """\
    parameters:
      limit: {by: limit, most: 50000}
      offset: {by: offset, most: 100000}
      sort: {by: order, fields: [units, net_sales, store_id], direction: minus}
""",
    1,
)
RULES = sales.RULES + (
    "p2, role:owner, sales/daily, row.store_id in sub.stores, @public|@internal, clear\n"
    "p2, role:owner, sales/daily, true, net_sales, deny\n"
    "p,  role:auditor, sales/daily, read, true, allow\n"
    "p2, role:auditor, sales/daily, true, *, clear\n"
    "g,  group:auditors, role:auditor\n"
)
SETTINGS = "limits: {sort_bytes: 100000, sorts: 4, drain_seconds: 1}\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with stage(
        tmp_path_factory.mktemp("sorting"), reports=REPORTS, rules=RULES, settings=SETTINGS
    ) as at:
        yield at


def serve(store, rows):
    store.pages[CSV] = StorePage(sales.as_csv(rows))
    store.pages[JSON] = StorePage(sales.as_json(rows), content_type="application/json")


def owner(proxy, user="olga"):
    return proxy.issuer.token(user, groups=("owners",), stores=["3", "4"])


def by_sales(rows, seed):
    """The rows with other amounts and foreign rows among them, in the order of the amounts."""
    chance = random.Random(seed)
    other = [
        (*row[:4], f"{chance.random() * 10 ** chance.randint(1, 9):.2f}", f"x{chance.random()}")
        for row in rows
    ]
    other += [
        (f"2026-02-{chance.randint(1, 28):02d}", "9", "Nowhere", "1", f"{chance.random() * 1000:.2f}", "y" * chance.randint(0, 99))
        for _ in range(chance.randint(0, 400))
    ]  # fmt: skip
    return sorted(other, key=lambda row: float(row[4]))


@pytest.mark.parametrize("path", [CSV, JSON])
@pytest.mark.parametrize(
    "query", ["", "?limit=7&offset=3", "?sort=-units", "?sort=-store_id&limit=9"]
)
def test_an_order_by_a_hidden_field_does_not_get_through(world, path, query):
    """Stores whose hidden amounts order the same rows in other ways give the same bytes, hidden rows or not."""
    store, proxy = world
    rows = [row for row in sales.rows(400) if row[1] in ("3", "4")]
    seen = set()
    for seed in range(4):
        serve(store, by_sales(rows, seed))
        answer = proxy.get(path + query, token=owner(proxy))
        assert answer.status == 200
        seen.add(answer.seen())
        auditor = proxy.issuer.token("ada", groups=("auditors",))
        got = proxy.get(path, token=auditor)
        assert got.body.split() == store.pages[path].body.split()
    assert len(seen) == 1
    if path == CSV and not query:
        given_ = [*csv.reader(io.StringIO(answer.body.decode()))][1:]
        assert given_ == sorted(given_, key=lambda row: (row[0], row[1], row))
        assert len(given_) == len(rows)


def test_too_many_rows_to_sort_are_refused_before_any_is_released(world):
    """413 with its own type, on record; whoever sees the order is given all; a smaller part is sorted."""
    store, proxy = world
    serve(store, by_sales(sales.rows(9000), 1))
    refused = proxy.get(CSV, token=owner(proxy))
    assert refused.status == 413
    assert json.loads(refused.body)["type"] == "urn:counterfoil:problem:too-large-to-sort"
    [event] = [event for event in proxy.events() if event.access == refused.event]
    assert (event.decision, event.cause, event.rows) == ("deny", "too-large-to-sort", 0)
    assert proxy.get(f"{CSV}?limit=5", token=owner(proxy)).status == 413
    whole = proxy.get(CSV, token=proxy.issuer.token("ada", groups=("auditors",)))
    assert whole.status == 200 and whole.whole
    foreign = [row for row in by_sales(sales.rows(9000), 1) if row[1] not in ("3", "4")]
    serve(store, foreign + sales.rows(30))
    assert proxy.get(CSV, token=owner(proxy)).status == 200


def test_ranges_of_one_sorted_answer_are_given_at_once(world):
    """It is sorted once for all of them, and while its bytes go out it is sorted no more."""
    store, proxy = world
    rows = sales.rows(50)

    async def slow():
        await asyncio.sleep(0.3)
        yield sales.as_csv(rows)

    store.pages[CSV] = StorePage(slow)
    token = owner(proxy, "orin")

    def part(first):
        return proxy.get(CSV, token=token, headers={"Range": f"bytes={first}-{first + 9}"})

    with ThreadPoolExecutor(6) as threads:
        parts = list(threads.map(part, range(0, 60, 10)))
    assert [each.status for each in parts] == [206] * 6
    assert b"".join(each.body for each in parts) == proxy.get(CSV, token=token).body[:60]


def test_only_so_many_answers_are_sorted_at_once(world):
    """One subject has a quarter of them, one store three quarters; beyond that 429, and other answers go on."""
    store, proxy = world
    begun = []

    async def slow():
        begun.append(1)
        yield sales.as_csv(sales.rows(1))
        await asyncio.sleep(3600)

    store.pages[CSV] = StorePage(slow)
    serve_json = StorePage(sales.as_json(sales.rows(3)), content_type="application/json")
    store.pages[JSON] = serve_json
    socks = []
    try:
        for user in ("olga", "otto", "oona"):
            sock = wire.connect(proxy.url)
            socks.append(sock)
            head = f"GET {CSV} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {owner(proxy, user)}\r\n\r\n"
            sock.sendall(head.encode())
            while len(begun) < len(socks):
                assert proxy.get("/-/live").status in (200, 401, 404)
            if user == "olga":
                assert proxy.get(JSON, token=owner(proxy)).status == 429
                assert proxy.get(JSON, token=owner(proxy, "omar")).status == 200
        refused = proxy.get(JSON, token=owner(proxy, "orla"))
        assert refused.status == 429 and refused.headers["retry-after"]
        assert proxy.events()[-1].cause == "too-many-sorted"
        auditor = proxy.issuer.token("ada", groups=("auditors",))
        assert proxy.get(JSON, token=auditor).status == 200
    finally:
        for sock in socks:
            sock.close()
