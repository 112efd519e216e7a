"""What could be inferred by asking twice, or of two reports (THREATS G 61, 62, 64), over real sockets."""

from __future__ import annotations

import csv
import http.client
import io
from urllib.parse import urlsplit

import pytest

from tests.gateway.changing import token
from tests.gateway.sealing import PATH, RULES, reveal, sealed, values
from tests.harness import sales
from tests.harness.proxy import running, stage
from tests.harness.store import Page

TWIN = "/sales/twin.csv"
REPORTS = (
    sales.REPORTS
    + """\
  sales/twin:
    title: The same rows, as another report
    store: main
    key: [date, store_id]
    variants: [{path: /sales/twin.csv, format: csv, source: /sales/daily.csv}]
    fields:
      date: {type: date, class: public}
      store_id: {type: text, class: public}
      region: {type: text, class: public}
      units: {type: integer, class: internal}
      net_sales: {type: decimal, class: confidential}
      buyer_email: {type: text, class: personal}
"""
)
PLAIN = "p, tool:app, sales/*, act, true, allow\np, role:analyst, sales/*, read, true, allow\ng, group:analysts, role:analyst\n"
ROWS = sales.rows(30)


def column(answer, name="buyer_email"):
    assert answer.status == 200
    return [row[name] for row in csv.DictReader(io.StringIO(answer.body.decode()))]


def with_form(form: str) -> str:
    return PLAIN + (
        "p2, role:analyst, sales/*, true, date|store_id, clear\n"
        f"p2, role:analyst, sales/*, true, buyer_email, {form}\n"
    )


@pytest.mark.threat("G61")
@pytest.mark.parametrize(
    ("form", "joins"),
    [
        ("pseudonym", False),
        ("pseudonym(per='subject')", False),
        ("pseudonym(domain='people')", True),
        ("encrypt", False),
    ],
)
def test_two_reports_have_no_stand_in_in_common_unless_that_is_stated(tmp_path, form, joins):
    """The same values in two reports: what stands for them in one is nowhere in the other."""
    with stage(tmp_path, reports=REPORTS, rules=with_form(form)) as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(ROWS))
        by = token(proxy, "alice", "analysts")
        one, other = column(proxy.get(PATH, token=by)), column(proxy.get(TWIN, token=by))
        assert len(set(one)) == len(set(other)) == len(ROWS)
        assert (set(one) == set(other)) if joins else not set(one) & set(other)


@pytest.mark.threat("G62")
def test_a_cell_of_one_report_is_not_given_back_as_one_of_another(tmp_path):
    """Whoever may have every cell of the twin back gets none of the report's by asking for it there."""
    rules = RULES + (
        "p2, role:officer, sales/twin, true, buyer_email, reveal\n"
        "p, role:officer, sales/twin, reveal, true, allow\n"
        "p, role:analyst, sales/twin, read, true, allow\n"
        "p2, role:analyst, sales/twin, true, buyer_email, encrypt\n"
    )
    with stage(tmp_path, reports=REPORTS, rules=rules) as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(ROWS))
        cells = sealed(proxy)
        assert values(reveal(proxy, [cells[0]])) == [ROWS[0][5]]
        moved = reveal(proxy, cells, report="sales/twin")
        assert set(values(moved)) == {None}
        (event,) = [one for one in proxy.events() if one.access == moved.event]
        assert event.unrevealed == {"not-authentic": len(cells)}


FORMS = {
    "buyer_email": "pseudonym",
    "date": "shift(days=30, per='store_id')",
    "net_sales": "round(100)",
}


@pytest.mark.threat("G64")
def test_a_thousand_answers_tell_no_more_than_one(tmp_path):
    """The same question has the same answer, byte for byte, and so after a restart: there is nothing to average."""
    rules = PLAIN + "p2, role:analyst, sales/*, true, store_id, clear\n"
    rules += "".join(
        f"p2, role:analyst, sales/*, true, {name}, {form}\n" for name, form in FORMS.items()
    )
    settings = "limits: {requests_per_minute_per_subject: 100000, requests_per_minute_per_address: 100000}\n"
    with stage(tmp_path, reports=REPORTS, rules=rules, settings=settings) as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(ROWS))
        by = token(proxy, "alice", "analysts")
        at = urlsplit(proxy.url)
        connection = http.client.HTTPConnection(at.hostname, at.port, timeout=20)
        seen = set()
        for _ in range(1000):
            connection.request("GET", PATH, headers={"Authorization": f"Bearer {by}"})
            answer = connection.getresponse()
            assert answer.status == 200
            seen.add(answer.read())
        connection.close()
        (once,) = seen
        proxy.close()
        with running(proxy.home, proxy._background) as again:
            assert again.get(PATH, token=by).body == once
        proxy._background.run(proxy.app.__aenter__())  # what `stage` will close
