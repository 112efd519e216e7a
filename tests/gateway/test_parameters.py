"""Parameters over real sockets: what the store is asked, what is refused, and what is on record."""

from __future__ import annotations

import json
import time

import pytest

from tests.harness import sales
from tests.harness.proxy import stage
from tests.harness.store import Page

CSV, JSON = "/sales/daily.csv", "/sales/daily.json"
REPORTS = sales.REPORTS.replace(
    "      region: {type: text, field: region}\n",
    """\
      region: {type: text, field: region}
      find: {type: text, fields: [region, buyer_email], operator: contains}
      any: {type: text, fields: [region, store_id], operator: contains}
      sort: {by: order, fields: [date, units, net_sales, buyer_email], direction: minus}
      per: {by: group, fields: [date, region, net_sales]}
      who: {type: text}
      most: {by: limit, most: 50}
      kind: {type: text, field: region, operator: in, allowed: [North, South]}
""",
    1,
)
RULES = (
    sales.RULES
    + """\
p,  role:auditor, sales/daily, read, true, allow
p2, role:auditor, sales/daily, true, * except @personal, clear
p,  role:partial, sales/daily, read, true, allow
p2, role:partial, sales/daily, true, date|store_id|region|units, clear
p2, role:partial, sales/daily, row.region == 'North', net_sales, clear
p,  role:north, sales/daily, read, true, allow
p2, role:north, sales/daily, row.region == 'North', date|region|net_sales, clear
g,  group:auditors, role:auditor
g,  group:partials, role:partial
g,  group:norths, role:north
"""
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with stage(tmp_path_factory.mktemp("parameters"), reports=REPORTS, rules=RULES) as (
        store,
        proxy,
    ):
        store.pages[CSV] = Page(sales.as_csv(sales.rows(30)))
        store.pages[JSON] = Page(sales.as_json(sales.rows(30)), content_type="application/json")
        yield store, proxy


def token(proxy, group):
    return proxy.issuer.token("alice", groups=(group,), stores=["1"])


@pytest.mark.parametrize(
    ("group", "query", "permitted"),
    [
        ("analysts", "sort=date", True),
        ("analysts", "sort=-units,date", True),
        ("analysts", "sort=net_sales", False),
        ("analysts", "sort=date,-net_sales", False),
        ("analysts", "sort=buyer_email", False),
        ("analysts", "any=N", True),
        ("analysts", "find=N", False),
        ("analysts", "per=date", False),
        ("owners", "sort=-net_sales", True),
        ("owners", "per=region", False),
        ("auditors", "sort=net_sales", True),
        ("auditors", "per=date,region", True),
        ("auditors", "find=N", False),
        ("partials", "sort=net_sales", False),
        ("partials", "per=date", False),
        ("norths", "sort=net_sales", True),
        ("norths", "sort=units", False),
        ("norths", "per=date", False),
    ],
)
def test_a_parameter_looks_only_at_fields_that_are_clear_in_all_rows(
    world, group, query, permitted
):
    """403, and the store is not asked, unless each field is clear in every row that may be seen; and for
    groups, unless every row is, and all that is given of it.
    """
    store, proxy = world
    before = len(store.asked)
    answer = proxy.get(f"{JSON}?{query}", token=token(proxy, group))
    assert answer.status == (200 if permitted else 403)
    assert len(store.asked) == before + permitted
    if permitted:
        assert store.asked[-1][0] == f"{JSON}?{query.replace(',', '%2C')}"
        return
    problem = json.loads(answer.body)
    assert problem["type"] == "urn:counterfoil:problem:parameter-forbidden"
    assert f"Not for you: {query.partition('=')[0]}." in problem["detail"]
    [event] = [event for event in proxy.events() if event.access == answer.event]
    assert (event.decision, event.cause) == ("deny", "hidden-field")


def test_what_a_value_names_is_on_record_and_what_it_searches_is_not(world):
    """Field names are recorded as they are; a text that is looked for in a personal field by digest."""
    _, proxy = world
    query = "sort=-net_sales&find=canary&who=canary&most=3"
    answer = proxy.get(f"{CSV}?{query}", token=token(proxy, "analysts"))
    [event] = [event for event in proxy.events() if event.access == answer.event]
    assert (event.parameters["sort"], event.parameters["most"]) == ("-net_sales", "3")
    for name in ("find", "who"):  # nobody knows what a filter without a field holds
        assert event.parameters[name].startswith("hmac:")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("canary=1", ""),
        ("canary", "Write `name=value`, with `&` between."),
        ("from=canary", "`from` is a date such as 2026-12-24."),
        ("from=2026-02-30", "`from` is a date such as 2026-12-24."),
        ("sort=canary", "`sort` is one or more of date, -date, units, -units, with `,` between."),
        ("most=0", "`most` is a whole number from 1 to 50."),
        ("most=1&most=2", "`most` is given more than once."),
        ("kind=North,canary", "`kind` is one of North, South, or several with `,` between."),
        ("any=%FFcanary", "`any` is a text of at most 1024 characters, percent-encoded as UTF-8."),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_named_and_its_values_are_told(world, query, told):
    """In the catalogue's words: nothing of the request is repeated."""
    _, proxy = world
    answer = proxy.get(f"{JSON}?{query}", token=token(proxy, "analysts"))
    problem = json.loads(answer.body)
    assert (answer.status, problem["type"]) == (400, "urn:counterfoil:problem:bad-parameter")
    assert told in problem["detail"] and "Parameters of this report: region," in problem["detail"]
    assert "canary" not in answer.body.decode()


def test_groups_of_rows_are_no_drift(world):
    """What groups have beside the rows' fields is given to nobody, and told of only where it comes in rows."""
    store, proxy = world
    auditor = token(proxy, "auditors")
    before = store.pages[JSON]

    def serve(more):
        rows = f'[{{"region":"North","net_sales":5.50,{more}}},{{"region":"South","net_sales":1}}]'
        store.pages[JSON] = Page(rows.encode(), content_type="application/json")

    try:
        serve('"n":3')
        answer = proxy.get(f"{JSON}?per=region", token=auditor)
        rows = json.loads(answer.body)
        assert [(row["region"], row["units"]) for row in rows] == [("North", None), ("South", None)]
        assert all("n" not in row for row in rows)
        serve('"x":1,"y":2')
        assert proxy.get(JSON, token=auditor).status == 200
    finally:
        store.pages[JSON] = before
    deadline = time.monotonic() + 10  # an alarm is not waited for by the answer
    while not any(event.count > 1 for event in drift(proxy)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert [(event.cause, event.count) for event in drift(proxy)] == [("undeclared-field", 2)]


def drift(proxy):
    return [event for event in proxy.events() if event.step == "drift"]
