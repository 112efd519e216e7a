"""Drift: one alarm a name, none with a value in it, over when the catalogue is fixed."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from proxy.cli import main
from tests.gateway.reloading import soon
from tests.harness import sales
from tests.harness.proxy import stage
from tests.harness.store import Page

CSV, JSON = "/sales/daily.csv", "/sales/daily.json"
ROWS = sales.rows(20)
SALARY = "      salary: {type: text, class: personal}\n"


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES) as running:
        yield running


def ask(world, path=CSV, *, fields=sales.FIELDS, rows=ROWS):
    """Have the store give rows under these names, and ask for them; the answer's status."""
    store, proxy = world
    if path == CSV:
        store.pages[path] = Page(sales.as_csv(rows, fields))
    else:
        store.pages[path] = Page(sales.as_json(rows, fields), content_type="application/json")
    return proxy.get(path, token=proxy.issuer.token("alice", groups=("analysts",))).status


def wider(*names):
    """A header with these names at its end, and rows to match."""
    return {
        "fields": (*sales.FIELDS, *names),
        "rows": [(*row, *("x" for _ in names)) for row in ROWS],
    }


def without(*names, rows=ROWS):
    """A header without these names, and rows to match."""
    kept = [at for at, name in enumerate(sales.FIELDS) if name not in names]
    return {
        "fields": [sales.FIELDS[at] for at in kept],
        "rows": [[row[at] for at in kept] for row in rows],
    }


def alarms(caplog):
    return [r.getMessage() for r in caplog.records if r.getMessage().startswith("drift")]


def on_record(proxy):
    return [(e.report, e.cause, e.count) for e in proxy.events() if e.step == "drift"]


def status(proxy):
    """What `policy status` says of drift, to people and to programs."""
    words = ["policy", "status", "-c", str(proxy.home.settings)]
    told = CliRunner().invoke(main, words, catch_exceptions=False).stdout
    machine = CliRunner().invoke(main, [*words, "--json"], catch_exceptions=False).stdout
    people = [line for line in told.splitlines() if line.startswith("drift")]
    return people, json.loads(machine)["drift"]


def test_each_undeclared_field_raises_one_alarm(world, caplog):
    """However often and in whatever form it is asked for; one more field raises one more alarm."""
    _, proxy = world
    for _ in range(3):
        for path in (CSV, JSON):
            assert ask(world, path, **wider("salary")) == 200
    assert soon(lambda: on_record(proxy) == [("sales/daily", "undeclared-field", 1)])
    assert ask(world, **wider("salary", "bonus")) == 200
    assert soon(lambda: len(on_record(proxy)) == 2)
    assert on_record(proxy)[1] == ("sales/daily", "undeclared-field", 2)
    assert len(alarms(caplog)) == 2 and "2 fields" in alarms(caplog)[1]
    people, programs = status(proxy)
    assert len(people) == 1 and people[0].endswith("nothing declares: 2")
    assert programs == {"sales/daily": {"undeclared-field": 2}}


@pytest.mark.parametrize("path", [CSV, JSON])
def test_no_name_that_a_store_makes_up_is_told(world, caplog, path):
    """H70: a name may be a value (objects keyed by value, a lost header): no log, status or record has it."""
    _, proxy = world
    for n in range(40):
        names = [f"canary{n}-{each}@buyers.example" for each in range(5)]
        assert ask(world, path, **wider(*names)) == 200
    assert soon(lambda: on_record(proxy))
    assert 0 < len(alarms(caplog)) <= 4, (
        "a store whose names never repeat raised an alarm each time"
    )
    said = [r.getMessage() for r in caplog.records] + [str(e) for e in proxy.events()]
    people, programs = status(proxy)
    assert "canary" not in f"{said} {people} {programs}"


def test_a_document_that_lost_its_header_says_no_value(world, caplog):
    """H70: rows under no header are refused, what is lacking is named, and no cell of them is."""
    store, proxy = world
    first, *others = sales.rows(20, start=47)
    store.pages[CSV] = Page(sales.as_csv(others, first))
    token = proxy.issuer.token("alice", groups=("analysts",))
    assert proxy.get(CSV, token=token).status == 502
    assert soon(lambda: on_record(proxy) == [("sales/daily", "vanished-field", len(sales.FIELDS))])
    assert "net_sales" in alarms(caplog)[0]
    assert "canary" not in " ".join(r.getMessage() for r in caplog.records)


@pytest.mark.parametrize(("name", "expected"), [("net_sales", 502), ("buyer_email", 200)])
def test_a_column_that_vanished_raises_one_alarm(world, caplog, name, expected):
    """Whether the requester's plan needs it (then the answer is refused) or not; and it is named."""
    _, proxy = world
    for _ in range(3):
        assert ask(world, **without(name)) == expected
    assert soon(lambda: on_record(proxy) == [("sales/daily", "vanished-field", 1)])
    assert [name in alarm for alarm in alarms(caplog)] == [True]
    people, programs = status(proxy)
    assert len(people) == 1 and people[0].endswith("its store lacks: 1")
    assert programs == {"sales/daily": {"vanished-field": 1}}


def test_a_member_that_records_lack_is_no_drift(world, caplog):
    """In JSON a missing member is no value: stores leave nulls out."""
    _, proxy = world
    assert ask(world, JSON, **without("buyer_email")) == 200
    assert not alarms(caplog) and not on_record(proxy)


@pytest.mark.parametrize("count", [64, 5_000])
def test_a_member_that_very_many_records_lack_has_vanished(world, caplog, count):
    """A field dropped or renamed in JSON is told of, until it is back; a few records say nothing."""
    _, proxy = world
    drifting = lambda: proxy.app.gateway.drifting["sales/daily"]["vanished-field"]  # noqa: E731
    rows = sales.rows(count)
    dropped = without("buyer_email", rows=rows)
    for _ in range(3):
        assert ask(world, JSON, **dropped) == 200
    assert soon(lambda: on_record(proxy) == [("sales/daily", "vanished-field", 1)])
    assert ["buyer_email" in alarm for alarm in alarms(caplog)] == [True]
    assert ask(world, JSON) == 200 and drifting() == 1
    assert ask(world, JSON, rows=rows) == 200 and drifting() == 0
    store, _ = world
    some_have_it = sales.as_json(dropped["rows"], dropped["fields"])[:-1] + b","
    document = some_have_it + sales.as_json(ROWS)[1:]
    store.pages[JSON] = Page(document, content_type="application/json")
    token = proxy.issuer.token("alice", groups=("analysts",))
    assert proxy.get(JSON, token=token).status == 200 and drifting() == 0


def test_drift_ends_with_the_catalogue_that_declares_it(world, caplog):
    """A reload that declares the field ends the alarm; one that changes another report does not."""
    _, proxy = world
    drifting = lambda: proxy.app.gateway.drifting  # noqa: E731
    assert ask(world, **wider("salary")) == 200
    assert soon(lambda: on_record(proxy))
    text = (proxy.home.policies / "reports.yaml").read_text()
    proxy.home.write(
        "reports.yaml",
        text.replace("{type: text, class: confidential}", "{type: text, class: public}"),
    )
    assert proxy.reload()
    assert drifting()["sales/daily"]["undeclared-field"] == 1 and status(proxy)[1]
    text = text.replace("  sales/secret:", f"{SALARY}  sales/secret:")
    proxy.home.write("reports.yaml", text)
    assert proxy.reload()
    assert not drifting() and status(proxy) == ([], {})
    assert ask(world, **wider("salary")) == 200
    assert len(alarms(caplog)) == 1
    proxy.home.write("reports.yaml", text.replace(SALARY, ""))
    assert proxy.reload()
    assert ask(world, **wider("salary")) == 200
    assert len(alarms(caplog)) == 2, "it drifts again, and nobody was told"


def test_how_many_fields_drift_is_what_the_newest_answer_has(world, caplog):
    """A store that is mended ends it without a reload; the same fault again raises no second alarm."""
    _, proxy = world
    for fields, count in ((wider("salary"), 1), ({}, 0), (wider("salary"), 1)):
        assert ask(world, **fields) == 200
        found = proxy.app.gateway.drifting["sales/daily"]
        assert (found["undeclared-field"], found["vanished-field"]) == (count, 0)
    assert len(alarms(caplog)) == 1


def test_what_drifted_on_a_path_that_is_gone_is_over(world, caplog):
    """How many fields drift is what the answers on today's paths have."""
    _, proxy = world
    assert ask(world, **wider("salary")) == 200
    assert proxy.app.gateway.drifting["sales/daily"]["undeclared-field"] == 1
    text = (proxy.home.policies / "reports.yaml").read_text()
    moved = text.replace(
        "path: /sales/daily.csv", "path: /sales/moved.csv, source: /sales/daily.csv"
    )
    proxy.home.write("reports.yaml", moved)
    assert proxy.reload()
    assert ask(world, JSON) == 200
    assert proxy.app.gateway.drifting["sales/daily"]["undeclared-field"] == 0


def test_a_member_that_only_later_records_have_is_noticed(world, caplog):
    """Wherever in the document it begins, and however the document comes."""
    store, proxy = world
    rows = sales.rows(40_000)
    first, later = rows[:39_000], [(*row, "x") for row in rows[39_000:]]
    document = (
        sales.as_json(first)[:-1] + b"," + sales.as_json(later, (*sales.FIELDS, "salary"))[1:]
    )
    store.pages[JSON] = Page(document, content_type="application/json")
    assert proxy.get(JSON, token=proxy.issuer.token("alice", groups=("analysts",))).whole
    assert soon(lambda: on_record(proxy) == [("sales/daily", "undeclared-field", 1)])
