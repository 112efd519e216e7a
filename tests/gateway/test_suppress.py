"""`suppress(k, by=)` over real sockets: cells of large groups alone, in each format, and what it refuses."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
from decimal import Decimal

import pytest

from proxy.formats import FORMATS
from proxy.report import EXTENSIONS, FormatName
from tests.harness import wire
from tests.harness.proxy import stage
from tests.harness.store import Page
from tests.matrix.others import READERS, WRITERS
from tests.reference import groups

FIELDS = {
    "id": "integer", "day": "date", "region": "text", "city": "text", "cost": "decimal", "note": "text",
}  # fmt: skip
PATHS = {name: f"/{name}/visits{ending}" for name, ending in EXTENSIONS.items()}
"""By the store's format."""
CSV, JSON, PARQUET = PATHS["csv"], PATHS["json"], PATHS["parquet"]
REPORTS = """\
stores: {main: {url: "{store}", loopback: true}}
reports:
  health/visits:
    title: Visits
    store: main
    variants:
VARIANTS
    parameters:
      sort: {by: order, fields: [day, cost], direction: minus}
    fields:
      id: {type: integer, class: public}
      day: {type: date, class: public}
      region: {type: text, class: internal}
      city: {type: text, class: internal}
      cost: {type: decimal, scale: 1, class: confidential}
      note: {type: text, class: personal}
""".replace(
    "VARIANTS",
    "\n".join(
        f"      - {{path: {PATHS[name]}, format: {name}, also: [{', '.join({*PATHS} - {name})}]}}"
        for name in PATHS
    ),
)
ORDERED = REPORTS.replace("    variants:\n", "    ordered_by: [cost]\n    variants:\n", 1)
RULES = """\
p,  tool:app,  health/*, act,  true, allow
p,  anyone,    health/*, read, true, allow
p2, role:some, health/visits, true, id|day|city, clear
p2, role:some, health/visits, true, cost, suppress(5, by='region'|'city')
p2, role:none, health/visits, true, cost, suppress(5, by='region'|'city')
p2, role:all,  health/visits, true, *, clear
g,  group:some, role:some
g,  group:none, role:none
g,  group:all,  role:all
"""
LIMITS = "limits: {spool_bytes: 400000, spools_bytes: 1000000, group_bytes: 20000, counts: 8}\n"
SIZES = {
    ("North", "Aston"): 3, ("North", "Bury"): 7, ("North", "Colne"): 40, ("South", "Deal"): 9,
    ("South", "Eye"): 11, ("West", "Frome"): 4, ("East", "Goole"): 25, ("East", None): 2, ("East", "Hull"): 8,
    ("East", "Ilford"): 30, (None, "Hull"): 1,
}  # fmt: skip
SHOWN = {"Colne", "Deal", "Eye", "Ilford"}
"""Aston and Frome are small; Bury goes with Aston, two of East with those in no city; the report's total
tells of nothing then."""


def rows_of(sizes, seed=0):
    """The rows of groups of these sizes, mixed."""
    chance = random.Random(seed)
    places = [group for group, size in sizes.items() for _ in range(size)]
    chance.shuffle(places)
    return [
        {
            "id": str(n),
            "day": f"2026-01-{n % 28 + 1:02d}",
            "region": region,
            "city": city,
            "cost": f"{1000 + n}.5",
            "note": f"canary{n}",
        }
        for n, (region, city) in enumerate(places)
    ]


def written(rows):
    text = io.StringIO()
    out = csv.DictWriter(text, FIELDS, lineterminator="\n")
    out.writeheader()
    out.writerows(rows)
    return text.getvalue().encode()


def in_json(rows):
    records = [{**row, "id": int(row["id"]), "cost": float(row["cost"])} for row in rows]
    return json.dumps(records).encode()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suppress")
    with stage(folder, reports=REPORTS, rules=RULES, settings=LIMITS) as at:
        yield at


def token(proxy, group="some", user="rita"):
    return proxy.issuer.token(user, groups=(group,))


def event_of(proxy, answer):
    return [event for event in proxy.events() if event.access == answer.event][-1]


def expected(rows):
    """(id, city, cost) of each row as `role:some` is given it."""
    given = groups.given([(row["region"], row["city"]) for row in rows], 5)
    return [
        (row["id"], row["city"] or None, row["cost"] if shown else None)
        for row, shown in zip(rows, given, strict=True)
    ]


def read(body):
    return [
        (row["id"], row["city"] or None, row["cost"] or None)
        for row in csv.DictReader(io.StringIO(body.decode()))
    ]


@pytest.mark.threat("G63")
def test_cells_of_large_groups_are_given_and_no_others(world):
    """In CSV and JSON, to whoever is given the groups' fields or not; the rows stay, and are on record."""
    store, proxy = world
    rows = rows_of(SIZES)
    assert {city for _, city, cost in expected(rows) if cost} == SHOWN
    store.pages[CSV] = Page(written(rows))
    answer = proxy.get(CSV, token=token(proxy))
    assert answer.status == 200 and answer.whole
    assert read(answer.body) == expected(rows)
    assert b"canary" not in answer.raw
    event = event_of(proxy, answer)
    assert (event.step, event.ended, event.rows) == ("complete", "whole", 140)
    assert event.fields["cost"] == {"suppress(5, by='region'|'city')": 140}
    store.pages[JSON] = Page(in_json(rows), content_type="application/json")
    given = json.loads(proxy.get(JSON, token=token(proxy)).body)
    assert [None if r["cost"] is None else str(r["cost"]) for r in given] == [
        c for *_, c in expected(rows)
    ]
    bare = json.loads(proxy.get(JSON, token=token(proxy, "none")).body)
    assert bare == [{"cost": record["cost"]} for record in given]
    whole = proxy.get(CSV, token=token(proxy, "all"))
    assert whole.body.split() == written(rows).split()


@pytest.mark.parametrize("stored", FormatName, ids=str)
def test_groups_are_the_same_from_every_format_into_every_other(world, stored):
    """Those too that are put aside to be read are read twice."""
    store, proxy = world
    rows = rows_of(SIZES)
    served = WRITERS[stored](FIELDS, rows)
    store.pages[PATHS[stored]] = Page(served, content_type=FORMATS[stored].media_type)
    for taken in FormatName:
        path = PATHS[stored].removesuffix(EXTENSIONS[stored]) + EXTENSIONS[taken]
        answer = proxy.get(path, token=token(proxy))
        assert answer.status == 200 and answer.whole, taken
        names, found = READERS[taken](answer.body)
        assert names == ["id", "day", "city", "cost"]
        costs = [None if cost is None else Decimal(cost) for _, _, _, cost in found]
        meant = [None if cost is None else Decimal(cost) for _, _, cost in expected(rows)]
        assert costs == meant, taken
        assert b"canary" not in answer.raw


def test_a_long_answer_streams_and_is_on_record_block_by_block(world):
    """It is counted in pieces, then given as any other: records before blocks, forms counted, no cell more."""
    store, proxy = world
    rows = rows_of({group: size * 50 for group, size in SIZES.items()} | {("North", "Aston"): 4})
    store.pages[CSV] = Page(written(rows), pieces=1000)
    answer = proxy.get(CSV.removesuffix("csv") + "json", token=token(proxy))
    assert answer.status == 200 and answer.whole and len(answer.chunks) > 1
    given = json.loads(answer.body)
    costs = [None if row["cost"] is None else str(row["cost"]) for row in given]
    assert costs == [cost for *_, cost in expected(rows)]
    hidden = {row["city"] for row in given if row["cost"] is None}
    assert hidden == {"Aston", "Bury", "Hull", None}  # the region of one Hull is not known
    events = [event for event in proxy.events() if event.access == answer.event]
    assert [event.step for event in events if event.step != "progress"] == ["intent", "outcome"]
    assert events[-1].fields["cost"] == {"suppress(5, by='region'|'city')": len(rows)}


def test_head_ranges_and_validators_are_of_ones_own_answer(world):
    """The same rows come out as the same bytes: HEAD tells their size, a range is a part of them, and a
    validator is that of the answer; it is another one where another group is hidden.
    """
    store, proxy = world
    store.pages[CSV] = Page(written(rows_of(SIZES)))
    answer = proxy.get(CSV, token=token(proxy))
    head = proxy.get(CSV, token=token(proxy), method="HEAD")
    assert head.headers["etag"] == answer.headers["etag"]
    assert int(head.headers["content-length"]) == len(answer.body)
    part = proxy.get(CSV, token=token(proxy), headers={"Range": "bytes=100-199"})
    assert part.status == 206 and part.body == answer.body[100:200]
    had = {"If-None-Match": answer.headers["etag"]}
    assert proxy.get(CSV, token=token(proxy), headers=had).status == 304
    fewer = [row for row in rows_of(SIZES) if row["city"] != "Aston"]
    store.pages[CSV] = Page(written(fewer))
    changed = proxy.get(CSV, token=token(proxy), headers=had)
    assert changed.status == 200 and read(changed.body) == expected(fewer)


@pytest.mark.threat("G59", "G63")
@pytest.mark.parametrize("path", [CSV, JSON])
def test_what_a_suppressed_cell_holds_leaves_no_trace(world, path):
    """PROMISE 1 (non-interference): sources that differ in suppressed cells, in fields that are not granted and
    in the names of groups that are not shown, all of one truth, give the same bytes, frames and head.
    """
    store, proxy = world
    seen = set()
    for seed in range(6):
        chance = random.Random(seed)
        rows = rows_of(
            {group: size * 40 for group, size in SIZES.items()} | {("North", "Aston"): 4}
        )
        shown = groups.given([(row["region"], row["city"]) for row in rows], 5)
        names = {
            name: f"{name}{chance.randint(0, 99)}" for name in ("North", "South", "West", "East")
        }
        for row, given in zip(rows, shown, strict=True):
            row["region"] = names.get(row["region"])
            row["note"] = "x" * chance.randint(0, 99)
            if not given:
                row["cost"] = f"{chance.randint(0, 10 ** chance.randint(1, 9))}.5"
        body = written(rows) if path == CSV else in_json(rows)
        pieces = chance.choice([0, 300, 5000])
        store.pages[path] = Page(
            body, FORMATS[FormatName(path.rpartition(".")[2])].media_type, pieces=pieces
        )
        seen.add(proxy.get(path, token=token(proxy)).seen())
    assert len(seen) == 1


@pytest.mark.threat("G63")
def test_an_order_by_what_is_suppressed_does_not_get_through(tmp_path):
    """Rows that the store orders by the amount come in an order of what is given; nobody may ask for that order."""
    with stage(tmp_path, reports=ORDERED, rules=RULES) as (store, proxy):
        seen = set()
        for seed in range(3):
            rows = rows_of(SIZES)
            shown = groups.given([(row["region"], row["city"]) for row in rows], 5)
            for row, given in zip(rows, shown, strict=True):
                if not given:
                    row["cost"] = f"{random.Random(seed).randint(0, 9999)}.5"
            rows.sort(key=lambda row: float(row["cost"]))
            store.pages[CSV] = Page(written(rows))
            answer = proxy.get(CSV, token=token(proxy))
            assert sorted(read(answer.body), key=str) == sorted(expected(rows), key=str)
            seen.add(answer.seen())
        assert len(seen) == 1
        assert proxy.get(CSV + "?sort=cost", token=token(proxy)).status == 403
        assert proxy.get(CSV + "?sort=-day", token=token(proxy)).status == 200


# ── what is refused ──


def refused(world, status, cause, *, user="rita", **more):
    """Ask for the CSV; it is refused so, nothing is released, and that is on record."""
    _, proxy = world
    answer = proxy.get(CSV, token=token(proxy, user=user), **more)
    assert answer.status == status and b"2026-01" not in answer.body
    event = event_of(proxy, answer)
    assert (event.decision, event.cause, event.rows, event.bytes) == ("deny", cause, 0, 0)
    return json.loads(answer.body)["type"].rpartition(":")[2] if answer.body else ""


@pytest.mark.parametrize("pieces", [0, 20_000])
def test_a_document_that_is_too_large_to_put_aside_is_refused(world, pieces):
    """413 of its own type, before anything is released; to whoever needs no count it is given."""
    store, proxy = world
    rows = rows_of({group: size * 100 for group, size in SIZES.items()})
    store.pages[CSV] = Page(written(rows), pieces=pieces)
    assert len(written(rows)) > 400_000
    assert refused(world, 413, "too-large-to-count") == "too-large-to-count"
    refused(world, 413, "too-large-to-count", user="zoe", headers={"Range": "bytes=0-9"})
    assert proxy.get(CSV, token=token(proxy, "all")).whole
    store.pages[CSV] = Page(written(rows_of(SIZES)))
    assert proxy.get(CSV, token=token(proxy)).status == 200


def test_more_groups_than_there_is_room_for_are_refused(world):
    """413, and the record says that it was the groups."""
    store, _ = world
    store.pages[CSV] = Page(written(rows_of({("North", f"city{n}"): 5 for n in range(99)})))
    assert refused(world, 413, "too-many-groups") == "too-large-to-count"


@pytest.mark.parametrize("fault", ["cut", "undeclared width", "no city"])
def test_a_source_that_is_none_is_refused_before_its_first_row(world, fault):
    """A fault at the far end of a document that would be more than one block: 502, and no byte of it."""
    store, _ = world
    good = written(rows_of({group: size * 50 for group, size in SIZES.items()}))
    store.pages[CSV] = {
        "cut": Page(good, cut_after=len(good) - 40),
        "undeclared width": Page(good + b"1,2\n"),
        "no city": Page(good.replace(b",city,", b",town,", 1)),
    }[fault]
    _, proxy = world
    answer = proxy.get(CSV, token=token(proxy))
    assert answer.status == 502 and b"2026-01" not in answer.body
    assert event_of(proxy, answer).decision == "deny"


def test_only_so_many_are_counted_at_once(world):
    """One subject has a quarter of them, one store three; beyond that 429, other answers go on, and each ends
    its turn.
    """
    store, proxy = world
    begun, go_on = [], asyncio.Event()

    async def slow():
        begun.append(1)
        yield written(rows_of(SIZES))
        await go_on.wait()

    store.pages[CSV] = Page(slow)
    store.pages[JSON] = Page(in_json(rows_of(SIZES)), content_type="application/json")
    socks = []
    try:
        for user in ("ann", "ann", "bob", "bob", "cat", "cat"):
            socks.append(wire.asked(proxy.url, CSV, token=token(proxy, user=user)))
            while len(begun) < len(socks):
                assert proxy.get("/-/live").status == 200
            if len(socks) == 2:
                answer = proxy.get(JSON, token=token(proxy, user="ann"))
                assert answer.status == 429 and answer.headers["retry-after"]
                assert event_of(proxy, answer).cause == "too-many-counted"
                assert proxy.get(JSON, token=token(proxy, user="eve")).status == 200
        assert proxy.get(JSON, token=token(proxy, user="eve")).status == 429
        assert proxy.get(JSON, token=token(proxy, "all", user="eve")).status == 200
    finally:
        store._background.loop.call_soon_threadsafe(go_on.set)
        answers = [wire.parse(wire.rest(sock)) for sock in socks]
        for sock in socks:
            sock.close()
    assert [answer.status for answer in answers] == [200] * 6
    assert proxy.get(JSON, token=token(proxy, user="eve")).status == 200


def test_what_is_put_aside_is_let_go_of_however_it_ends(world):
    """Answers, refusals and clients that go away while rows are counted leave all the room for the next one."""
    store, proxy = world
    body = written(rows_of({group: size * 60 for group, size in SIZES.items()}))
    assert 300_000 < len(body) < 400_000  # three have room
    begun, go_on = [], [asyncio.Event() for _ in range(6)]

    async def waiting():
        yield body
        begun.append(1)
        await go_on[len(begun) - 1].wait()

    for number in range(6):
        store.pages[CSV] = Page(waiting)
        with wire.asked(proxy.url, CSV, token=token(proxy)):
            while len(begun) == number:
                assert proxy.get("/-/live").status == 200
        store._background.loop.call_soon_threadsafe(go_on[number].set)
        while proxy.app.gateway.running:
            assert proxy.get("/-/live").status == 200
        store.pages[CSV] = Page(body + (b"1,2\n" if number % 2 else b""))
        assert proxy.get(CSV, token=token(proxy)).status == (502 if number % 2 else 200)


def test_where_too_much_is_put_aside_the_next_one_waits(tmp_path):
    """429 while others take the room, though the document by itself would have it."""
    limits = "limits: {spool_bytes: 400000, spools_bytes: 300000}\n"
    with stage(tmp_path, reports=REPORTS, rules=RULES, settings=limits) as world:
        body = written(rows_of({group: size * 60 for group, size in SIZES.items()}))
        world[0].pages[CSV] = Page(body)
        assert refused(world, 429, "spools-full") == "too-many-requests"
        world[0].pages[CSV] = Page(body[: len(body) // 2].rpartition(b"\n")[0] + b"\n")
        assert world[1].get(CSV, token=token(world[1])).status == 200


@pytest.mark.threat("G63")
def test_a_policy_that_would_tell_of_suppressed_groups_is_not_taken(world):
    """A reload with a line that looks at rows is refused; the last good policy stays, and counts."""
    store, proxy = world
    store.pages[CSV] = Page(written(rows_of(SIZES)))
    home = proxy.home
    try:
        home.write(
            "policy.csv", RULES + "p2, role:some, health/visits, row.city == 'Aston', cost, clear\n"
        )
        assert not proxy.reload()
        assert read(proxy.get(CSV, token=token(proxy)).body) == expected(rows_of(SIZES))
        home.write("policy.csv", RULES + "p2, role:some, health/visits, true, cost, clear\n")
        assert proxy.reload()
        answer = proxy.get(CSV, token=token(proxy))
        assert all(cost for *_, cost in read(answer.body)), "clear is preferred"
    finally:
        home.write("policy.csv", RULES)
        assert proxy.reload()
