"""Of which rows values were given back is on record, and `counterfoil log exposure` finds them."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.cli import main
from tests.gateway.sealing import PATH, RULES, reveal, sealed, values
from tests.gateway.test_revealing_tokens import ANY, FORM, tokens
from tests.gateway.test_revealing_tokens import ROWS as LICENSED
from tests.harness import sales
from tests.harness.proxy import stage
from tests.harness.store import Page

ROWS = sales.rows(60)
REPORTS = sales.REPORTS.replace(
    "    key: [date, store_id]\n",
    "    key: [date, store_id, units]\n    found_by: [buyer_email]\n    prefer: [tokenise]\n",
)
MOST = "reveal: {cells_per_minute: 100000000, cells_per_hour: 100000000}\n"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """Two keys are open, and the field itself is one by which rows are found, though nobody reads it there."""
    folder = tmp_path_factory.mktemp("rows")
    with stage(folder, reports=REPORTS, rules=RULES, settings=MOST) as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(ROWS))
        yield proxy


@pytest.fixture(scope="module")
def cells(proxy):
    return sealed(proxy)


def exposed(proxy, event, where):
    """What is found of one access: (rows, how surely, rows that are possible)."""
    words = [
        "log",
        "exposure",
        "--where",
        where,
        "--fields",
        "buyer_email",
        "--report",
        "sales/daily",
    ]
    ran = CliRunner().invoke(main, [*words, "-c", str(proxy.home.settings), "--json"])
    assert ran.exit_code == 0, ran.output
    for one in map(json.loads, ran.stdout.splitlines()):
        if one["access"] == event:
            return one["rows"], one["certainty"], one["possible"]
    return 0, "", 0


def shown(proxy, answer) -> str:
    """All that its record says."""
    (found,) = [one for one in proxy.events() if one.access == answer.event]
    assert found.action == "reveal"
    return str(found)


def test_rows_of_which_values_were_given_back_are_found(proxy, cells):
    """By their key and by the value itself, surely; rows that were asked for and not given are not."""
    answer = reveal(proxy, cells)
    back = values(answer)
    stores = [row[1] for row, value in zip(ROWS, back, strict=True) if value is not None]
    assert 0 < len(stores) < len(ROWS)
    for store in (min(stores), max(stores), "none"):
        count = stores.count(store)
        said = (count, "confirmed", 0) if count else (0, "", 0)
        assert exposed(proxy, answer.event, f"store_id == '{store}'") == said
    email = next(value for value in back if value is not None)
    hidden = next(row[5] for row, value in zip(ROWS, back, strict=True) if value is None)
    assert exposed(proxy, answer.event, f"buyer_email == '{email}'") == (1, "confirmed", 0)
    assert exposed(proxy, answer.event, f"buyer_email == '{hidden}'") == (0, "", 0)
    record = shown(proxy, answer)
    assert email not in record and hidden not in record


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_however_a_row_is_stated_it_is_found(proxy, cells, data):
    """A number of the key may be written otherwise; what is not of the row gives nothing back."""
    chosen = data.draw(st.lists(st.integers(0, len(ROWS) - 1), min_size=1, max_size=8))
    asked = []
    for place in chosen:
        row = dict(cells[place]["row"])
        row["units"] += data.draw(st.sampled_from(["", ".0", ".000", "e0"]))
        asked.append({"cell": cells[place]["cell"], "row": row})
    answer = reveal(proxy, asked)
    units = [
        int(ROWS[place][3])
        for place, value in zip(chosen, values(answer), strict=True)
        if value is not None
    ]
    unit = int(ROWS[chosen[0]][3])
    found = exposed(proxy, answer.event, f"units == {unit}")
    assert found == ((units.count(unit), "confirmed", 0) if unit in units else (0, "", 0))


def test_a_token_tells_of_its_value_alone(tmp_path):
    """It says nothing of its row: that may be any, and is found as one that is possible."""
    reports = REPORTS.replace("key: [date, store_id, units]", "key: [date, store_id]")
    with stage(tmp_path, reports=reports, rules=ANY, settings=MOST) as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(LICENSED))
        some = tokens(proxy)[:5]
        answer = reveal(proxy, some, purpose=None, **FORM)
        assert values(answer) == [row[5] for row in LICENSED[:5]]
        licence = LICENSED[2][5]
        assert exposed(proxy, answer.event, f"buyer_email == '{licence}'") == (1, "confirmed", 0)
        assert exposed(proxy, answer.event, "store_id == '0'") == (0, "possible", 5)
        assert licence not in shown(proxy, answer)
