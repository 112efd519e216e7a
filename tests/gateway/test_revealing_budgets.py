"""limits.yaml and `POST /-/reveal`: what is given back is charged as what is given, and refused before it leaves."""

from __future__ import annotations

import json

import pytest

from tests.gateway.changing import token
from tests.gateway.sealing import PATH, RULES, reveal, sealed, values
from tests.gateway.test_budgets import ask, limit, outcomes, refused
from tests.harness import sales
from tests.harness.proxy import stage
from tests.harness.store import Page

NORTH = [row for row in sales.rows(80) if row[2] == "North" and row[3] != "7"]
"""Each of their addresses is given back to an officer."""


@pytest.fixture
def world(tmp_path):
    more = "p, role:officer, sales/daily, read, true, allow\np2, role:officer, sales/daily, true, *, clear\n"
    with stage(tmp_path, reports=sales.REPORTS, rules=RULES + more) as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(NORTH))
        yield proxy, sealed(proxy)


def officer(proxy, who="olga"):
    return token(proxy, who, "officers")


@pytest.mark.parametrize(
    ("what", "most", "cause"),
    [
        ("cells of @personal", 25, "budget-of-cells"),
        ("rows", 25, "budget-of-rows"),
        ("bytes", 1_200, "budget-of-bytes"),
    ],
)
def test_what_is_given_back_is_charged_and_then_refused(world, what, most, cause):
    """429 with the reset time and an event, and no value in it; another officer has a budget of its own."""
    proxy, cells = world
    limit(proxy, f"who: role:officer, reports: sales/*, what: {what}, most: {most}, per: week")
    by = officer(proxy)
    for _ in range(2):
        assert values(reveal(proxy, cells[:10], by=by)) == [row[5] for row in NORTH[:10]]
    answer = reveal(proxy, cells[:10], by=by)
    problem = refused(answer)
    assert b"canary" not in answer.raw and b"buyers.example" not in answer.raw
    event = proxy.events()[-1]
    assert (event.access, event.action, event.decision) == (problem["event"], "reveal", "deny")
    assert (event.reason, event.cause, event.lines) == ("budget-spent", cause, ("limits.yaml:2",))
    assert (event.rows, event.bytes, event.fields, event.keys) == (0, 0, {}, ())
    assert values(reveal(proxy, cells[:10], by=officer(proxy, "oscar")))[0] == NORTH[0][5]


def test_reads_and_reveals_take_of_one_budget(world):
    """What was read in clear is not given back again, and the other way round."""
    proxy, cells = world
    limit(
        proxy, "who: role:officer, reports: sales/*, what: cells of @personal, most: 30, per: week"
    )
    assert values(reveal(proxy, cells[:10], by=officer(proxy)))
    read = proxy.get(PATH, token=officer(proxy))
    refused(read)  # all rows are more than what is left
    assert b"canary" not in read.raw
    assert values(reveal(proxy, cells[:20], by=officer(proxy)))
    refused(reveal(proxy, cells[:1], by=officer(proxy)))
    assert ask(proxy).status == 200  # an analyst has other limits


def test_cells_that_are_not_given_back_cost_nothing(world):
    """Nor does a reveal that is refused: the budget is of what leaves."""
    proxy, cells = world
    limit(
        proxy, "who: role:officer, reports: sales/*, what: cells of @personal, most: 10, per: week"
    )
    by = officer(proxy)
    forged = [{"cell": f"cf1.none.r0.{'A' * 80}", "row": {}}] * 20
    assert values(reveal(proxy, forged, by=by)) == [None] * 20
    refused(reveal(proxy, cells[:11], by=by))
    assert reveal(proxy, cells[:5], by=by, purpose=None).status == 403
    assert values(reveal(proxy, cells[:10], by=by)) == [row[5] for row in NORTH[:10]]
    refused(reveal(proxy, cells[:1], by=by))


def test_a_reveal_that_is_spent_outlives_a_reload(world):
    """The budget is counted from the log where its limit is new."""
    proxy, cells = world
    by = officer(proxy)
    assert values(reveal(proxy, cells[:10], by=by))
    line = "who: role:officer, reports: sales/*, what: cells of @personal, most: {}, per: week"
    limit(proxy, line.format(19))
    problem = refused(reveal(proxy, cells[:10], by=by))
    assert json.dumps(problem).count("limits.yaml") == 0  # places of files are for the log alone
    limit(proxy, line.format(20))
    assert values(reveal(proxy, cells[:10], by=by))
    assert not outcomes(proxy)
