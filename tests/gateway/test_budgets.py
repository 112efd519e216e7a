"""limits.yaml over real sockets: what is given is counted, and refused before anything leaves or cut where it goes on."""

from __future__ import annotations

import json
import re

import pytest

from tests.gateway.reloading import Stream, soon
from tests.harness import sales
from tests.harness.background import Background
from tests.harness.proxy import running, stage
from tests.harness.store import Page

CSV, JSON = "/sales/daily.csv", "/sales/daily.json"
MANY = sales.rows(20_000)
"""Several blocks."""


def limits(*lines: str) -> str:
    return "limits:\n" + "".join(f"  - {{{line}}}\n" for line in lines)


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES) as running_:
        store, proxy = running_
        give(store, sales.rows(10))
        yield store, proxy


def give(store, rows):
    store.pages[CSV] = Page(sales.as_csv(rows))
    store.pages[JSON] = Page(sales.as_json(rows), content_type="application/json")


def limit(proxy, *lines):
    proxy.home.write("limits.yaml", limits(*lines))
    assert proxy.reload()


def ask(proxy, target=CSV, *, who="alice", **more):
    return proxy.get(target, token=proxy.issuer.token(who, groups=("analysts",)), **more)


def outcomes(proxy):
    return [event for event in proxy.events() if event.step == "outcome"]


def refused(answer):
    """It is the budget that refuses, and it says when there is a new one."""
    problem = json.loads(answer.body)
    assert (answer.status, problem["type"]) == (429, "urn:counterfoil:problem:budget-spent")
    assert 0 < int(answer.headers["retry-after"]) <= 7 * 86_400
    assert re.search(r"begins at 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", problem["detail"])
    return problem


@pytest.mark.parametrize(
    ("line", "each"),
    [
        ("who: role:analyst, reports: sales/*, what: rows, most: 25, per: week", 10),
        ("who: group:analysts, reports: sales/daily, what: cells of @confidential, most: 25, per: week", 10),
        ("who: anyone, reports: sales/*, what: cells of @public, most: 75, per: week", 30),
    ],
)  # fmt: skip
def test_what_is_given_is_counted_for_each_subject(world, line, each):
    """Two answers fit, the third is refused whole and on record with the line; another subject has its own."""
    _, proxy = world
    limit(proxy, line)
    assert [ask(proxy).status for _ in range(2)] == [200, 200]
    problem = refused(ask(proxy))
    event = proxy.events()[-1]
    assert event.access == problem["event"] and event.decision == "deny"
    assert (event.reason, event.lines, event.rows) == ("budget-spent", ("limits.yaml:2",), 0)
    assert event.cause in ("budget-of-rows", "budget-of-cells")
    assert ask(proxy, who="bob").status == 200


def test_the_tightest_of_all_limits_refuses(world):
    _, proxy = world
    limit(
        proxy,
        "who: anyone, reports: sales/*, what: rows, most: 1000, per: week",
        "who: user:alice, reports: sales/daily, what: rows, most: 10, per: week",
        "who: role:owner, reports: sales/daily, what: rows, most: 1, per: week",
    )
    assert ask(proxy).status == 200
    refused(ask(proxy))
    assert proxy.events()[-1].lines == ("limits.yaml:3",)
    assert [ask(proxy, who="bob").status for _ in range(3)] == [200] * 3


def test_different_reports_are_counted_once_each(world):
    """The same report again is no other one."""
    _, proxy = world
    limit(proxy, "who: anyone, reports: sales/*, what: reports, most: 1, per: week")
    assert [ask(proxy).status for _ in range(3)] == [200] * 3
    purpose = {"headers": {"Counterfoil-Purpose": "audit"}}
    refused(ask(proxy, "/sales/audited.csv", **purpose))
    assert ask(proxy, "/sales/audited.csv", who="bob", **purpose).status == 200


def test_an_answer_that_is_over_is_refused_whole(world):
    """Of one block or of several: nothing leaves, nothing is charged, and less is given afterwards."""
    store, proxy = world
    limit(proxy, "who: anyone, reports: sales/*, what: rows, most: 15000, per: week")
    for rows in (MANY, MANY):
        give(store, rows)
        refused(ask(proxy))
        assert proxy.events()[-1].rows == 0
    give(store, MANY[:12_000])
    answer = ask(proxy)
    assert answer.status == 200 and answer.whole
    assert answer.body.count(b"2026-") == 12_000
    give(store, MANY[:3_000])
    assert ask(proxy).status == 200
    give(store, MANY[:1])
    refused(ask(proxy))


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_an_answer_that_is_counted_first_is_the_same_answer(world, coding):
    """A limit that is far away changes no byte of it, and its records hold as much."""
    store, proxy = world
    give(store, MANY)
    before = ask(proxy, headers={"Accept-Encoding": coding})
    limit(proxy, "who: anyone, reports: sales/*, what: rows, most: 1000000, per: week")
    after = ask(proxy, headers={"Accept-Encoding": coding})
    assert before.whole and after.whole and before.body == after.body
    one, other = outcomes(proxy)
    assert (one.rows, one.bytes, one.digest, one.fields) == (
        other.rows,
        other.bytes,
        other.digest,
        other.fields,
    )


def test_bytes_that_are_spent_in_its_course_cut_an_answer(world):
    """As many blocks as fit are given, the record says why it ended, and what it holds is charged."""
    store, proxy = world
    give(store, MANY)
    limit(proxy, "who: anyone, reports: sales/*, what: bytes, most: 540000, per: week")
    answer = ask(proxy)
    assert answer.status == 200 and not answer.whole
    assert len(answer.body) <= 2 << 18
    assert soon(lambda: outcomes(proxy))
    (end,) = outcomes(proxy)
    assert (end.ended, end.bytes) == ("budget-spent", 2 << 18)
    give(store, sales.rows(2_000))
    refused(ask(proxy))
    give(store, sales.rows(300))
    assert ask(proxy).status == 200


def test_where_it_is_cut_depends_on_what_is_given_alone(world):
    """However long what is hidden beside it is, and however it comes from the store."""
    store, proxy = world
    limit(proxy, "who: anyone, reports: sales/*, what: bytes, most: 900000, per: week")
    given = []
    for who, hidden in (("alice", ""), ("bob", "x" * 600)):
        give(store, [(*row[:5], f"{hidden}@buyers.example") for row in sales.rows(40_000)])
        given.append(ask(proxy, who=who))
    assert all(answer.status == 200 and not answer.whole for answer in given)
    assert soon(lambda: len(outcomes(proxy)) == 2)
    ends = outcomes(proxy)
    assert [e.ended for e in ends] == ["budget-spent"] * 2 and ends[0].bytes == ends[
        1
    ].bytes == 3 << 18


def test_head_and_ranges_count_as_on_record(world):
    """HEAD holds nothing, a range all rows of the answer."""
    _, proxy = world
    limit(proxy, "who: anyone, reports: sales/*, what: rows, most: 20, per: week")
    for _ in range(3):
        assert ask(proxy, method="HEAD").status == 200
    for _ in range(2):
        assert ask(proxy, headers={"Range": "bytes=0-9"}).status == 206
    refused(ask(proxy, headers={"Range": "bytes=0-9"}))
    assert ask(proxy, method="HEAD").status == 429


def test_a_limit_that_begins_finds_what_was_given_before(world):
    """What the access log has of the window is counted, newest records included; and after every reload."""
    _, proxy = world
    assert [ask(proxy).status for _ in range(2)] == [200, 200]
    line = "who: anyone, reports: sales/*, what: rows, most: {}, per: week"
    limit(proxy, line.format(29))
    refused(ask(proxy))
    (proxy.home.policies / "limits.yaml").unlink()
    assert proxy.reload() and ask(proxy).status == 200
    limit(proxy, line.format(39))
    refused(ask(proxy))
    limit(proxy, line.format(40))
    assert ask(proxy).status == 200
    refused(ask(proxy))


@pytest.mark.parametrize("what", ["rows", "cells of @confidential", "bytes", "reports"])
def test_a_limit_that_begins_while_an_answer_goes_out_counts_all_of_it_once(world, what):
    """What was released of it before and what is after: neither twice, nor not at all."""
    store, proxy = world
    line = f"who: anyone, reports: sales/*, what: {what}, most: {{}}, per: week".format
    stream = Stream(store, proxy)
    assert soon(lambda: any(event.bytes for event in proxy.events()))
    limit(proxy, line(1 << 40))
    answer, records = stream.end()
    assert answer.status == 200 and answer.whole
    end = records[-1]
    confidential = sum(end.fields["net_sales"].values())
    spent = {"rows": end.rows, "bytes": end.bytes, "reports": 1}.get(what, confidential)
    store.pages["/sales/audited.csv"] = store.pages[CSV] = Page(sales.as_csv(sales.rows(1)))

    def another():
        target = "/sales/audited.csv" if what == "reports" else CSV
        return ask(proxy, target, headers={"Counterfoil-Purpose": "audit"})

    limit(proxy, line(spent))
    refused(another())
    limit(proxy, line(spent + {"bytes": 1000}.get(what, 1)))
    assert another().status == 200


@pytest.mark.parametrize("what", ["rows", "bytes"])
def test_a_limit_that_begins_below_what_an_answer_has_given_cuts_it(world, what):
    """It ends at its next record, and what was released of it is charged all the same."""
    store, proxy = world
    stream = Stream(store, proxy)
    assert soon(lambda: any(event.bytes for event in proxy.events()))
    limit(proxy, f"who: anyone, reports: sales/*, what: {what}, most: 1000, per: week")
    answer, records = stream.end()
    assert answer.status == 200 and not answer.whole
    assert records[-1].ended == "budget-spent"
    given = getattr(records[-1], what)
    store.pages[CSV] = Page(sales.as_csv(sales.rows(1)))
    refused(ask(proxy))
    limit(proxy, f"who: anyone, reports: sales/*, what: {what}, most: {given + 999}, per: week")
    assert ask(proxy).status == 200


def test_what_is_spent_outlives_a_restart(tmp_path):
    """It begins at what the log says: of answers in one block, in several, and cut ones."""
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES) as (store, proxy):
        limit(
            proxy,
            "who: anyone, reports: sales/*, what: rows, most: 20011, per: week",
            "who: anyone, reports: sales/*, what: cells of @confidential, most: 20011, per: week",
            "who: anyone, reports: sales/*, what: reports, most: 1, per: week",
        )
        give(store, MANY)
        assert ask(proxy).whole
        give(store, sales.rows(10))
        assert ask(proxy).status == 200
        home = proxy.home
        proxy.close()
        background = Background()
        try:
            with running(home, background) as again:
                refused(ask(again))
                give(store, sales.rows(1))
                assert ask(again).status == 200
                refused(ask(again))
                assert ask(again, who="bob").status == 200
                purpose = {"headers": {"Counterfoil-Purpose": "audit"}}
                refused(ask(again, "/sales/audited.csv", **purpose))
        finally:
            background.close()


def test_faults_stop_a_reload_and_the_last_limits_stay(world):
    _, proxy = world
    limit(proxy, "who: anyone, reports: sales/*, what: rows, most: 10, per: week")
    proxy.home.write("limits.yaml", limits("who: role:analist, reports: sales/*, what: rows, most: 99, per: week"))  # fmt: skip
    assert not proxy.reload()
    assert ask(proxy).status == 200
    refused(ask(proxy))
