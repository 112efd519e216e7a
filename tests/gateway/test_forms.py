"""Forms of cells over real sockets: intervals, periods, and dates that move with a person nobody is told of."""

from __future__ import annotations

import csv
import io
import json
from datetime import date

import pytest

from tests.harness import sales
from tests.harness.proxy import stage
from tests.harness.store import Page

CSV, JSON = "/sales/daily.csv", "/sales/daily.json"
RULES = """\
p,  tool:app,     sales/*,     act,  true, allow
p,  role:analyst, sales/daily, read, true, allow
p2, role:analyst, sales/daily, row.region != 'hidden', store_id, clear
p2, role:analyst, sales/daily, row.region != 'hidden', date, shift(days=30, per='buyer_email')
p2, role:analyst, sales/daily, row.region != 'hidden', units, bucket(0|10|25, as='lower')
p2, role:analyst, sales/daily, row.region != 'hidden', net_sales, bucket(0|999.50|1010)
p,  role:owner, sales/daily, read, true, allow
p2, role:owner, sales/daily, true, date, truncate('month')
g,  group:analysts, role:analyst
g,  group:owners, role:owner
"""
PEOPLE = ("ada@buyers.example", "bob@buyers.example", "cyd@buyers.example", "")
ROWS = [
    (f"2026-0{n % 8 + 1}-{n % 28 + 1:02d}", str(n), "North", str(n), f"{990 + n}.50", PEOPLE[n % 4])
    for n in range(40)
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    key = "    key: [date, store_id]\n"
    reports = sales.REPORTS.replace(key, f"{key}    prefer: [shift, truncate]\n", 1)
    with stage(tmp_path_factory.mktemp("forms"), reports=reports, rules=RULES) as running:
        yield running


def answers(world, rows, group="analysts"):
    """The bodies of the CSV and the JSON answer."""
    store, proxy = world
    store.pages[CSV] = Page(sales.as_csv(rows))
    store.pages[JSON] = Page(sales.as_json(rows), content_type="application/json")
    token = proxy.issuer.token("alice", groups=(group,))
    found = [proxy.get(path, token=token) for path in (CSV, JSON)]
    assert [answer.status for answer in found] == [200, 200]
    return [answer.body.decode() for answer in found]


def test_each_form_is_given_in_its_type(world):
    """Intervals are texts, lower edges numbers, shifted dates dates; the person is in no answer."""
    as_csv, as_json = answers(world, ROWS)
    table = list(csv.DictReader(io.StringIO(as_csv)))
    records = json.loads(as_json)
    assert "buyers.example" not in as_csv + as_json
    assert [*table[0]] == [*records[0]] == ["date", "store_id", "units", "net_sales"]
    for row, record, source in zip(table, records, ROWS, strict=True):
        units, sold = int(source[3]), float(source[4])
        lower = 0 if units < 10 else 10 if units < 25 else 25
        assert row["units"] == str(lower) and record["units"] == lower
        interval = "[0, 999.50)" if sold < 999.5 else "[999.50, 1010)" if sold < 1010 else ">=1010"
        assert row["net_sales"] == record["net_sales"] == interval
        assert (row["date"] or None) == record["date"]
        assert (row["date"] == "") == (source[5] == "")


def test_dates_of_a_person_keep_their_distances(world):
    """Each person's dates move by one number of days, which is not 0, and rows without a person have none."""
    as_csv, _ = answers(world, ROWS)
    moved = {}
    for row, source in zip(csv.DictReader(io.StringIO(as_csv)), ROWS, strict=True):
        if row["date"]:
            by = (date.fromisoformat(row["date"]) - date.fromisoformat(source[0])).days
            moved.setdefault(source[5], set()).add(by)
    assert moved.keys() == set(PEOPLE[:3])
    assert all(len(by) == 1 and 1 <= abs(*by) <= 30 for by in moved.values())


def test_rows_that_are_not_released_move_nothing(world):
    """Whose rows are hidden, and with what dates, has no influence on a byte of the answer."""
    hidden = [("2026-05-05", str(n), "hidden", "7", "1.00", PEOPLE[n % 4]) for n in range(7)]
    others = [("1999-09-09", str(n), "hidden", "8", "2.00", f"x{n}") for n in range(300)]
    assert answers(world, hidden + ROWS) == answers(world, ROWS[:3] + others + ROWS[3:]) == answers(world, ROWS)  # fmt: skip


def test_another_person_of_a_hidden_field_moves_that_row_alone(world):
    """What flows of the field that a form names is in the cells of that form."""
    before, _ = answers(world, ROWS)
    changed = [*ROWS[:5], (*ROWS[5][:5], "eve@buyers.example"), *ROWS[6:]]
    after, _ = answers(world, changed)
    differing = [n for n, (a, b) in enumerate(zip(before.split("\n"), after.split("\n"), strict=True)) if a != b]  # fmt: skip
    assert differing == [6]
    one, other = (next(csv.reader([text.split("\n")[6]])) for text in (before, after))
    assert one[1:] == other[1:] and one[0] != other[0]


def test_periods_are_dates(world):
    """The first of the month, for each row."""
    as_csv, as_json = answers(world, ROWS, "owners")
    expected = [source[0][:8] + "01" for source in ROWS]
    assert as_csv.split("\n")[1:-1] == expected
    assert [record["date"] for record in json.loads(as_json)] == expected
