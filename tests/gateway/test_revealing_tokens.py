"""Tokens given back over real sockets: what looks like one has a value, and none is told from another."""

from __future__ import annotations

import csv
import io

import pytest

from tests.gateway.changing import token
from tests.gateway.sealing import reveal, values
from tests.harness import sales
from tests.harness.proxy import stage
from tests.harness.store import Page

PATH = "/sales/daily.csv"
ROWS = [(*row[:5], f"LIC-{n * 7919 % 1_000_000:06d}") for n, row in enumerate(sales.rows(40))]
LICENCES = [row[5] for row in ROWS]
RULES = (
    sales.RULES
    + """\
p2, role:analyst, sales/daily, true, buyer_email, tokenise
p2, role:owner,   sales/daily, true, buyer_email, tokenise(alphabet='upper')
p,  role:officer, sales/daily, reveal, true, allow
p2, role:officer, sales/daily, true, buyer_email, reveal
p2, role:officer, sales/daily, starts(row.buyer_email, 'LIC-0'), buyer_email, deny
g,  group:officers, role:officer
"""
)
ANY = RULES.replace(
    "p2, role:officer, sales/daily, starts(row.buyer_email, 'LIC-0'), buyer_email, deny\n", ""
)
FORM = {"form": "tokenise"}
KEPT = [None if licence.startswith("LIC-0") else licence for licence in LICENCES]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    reports = sales.REPORTS.replace(
        "    key: [date, store_id]\n", "    key: [date, store_id]\n    prefer: [tokenise]\n"
    )
    with stage(tmp_path_factory.mktemp("w"), reports=reports, rules=RULES) as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(ROWS))
        yield proxy


def tokens(proxy, **headers):
    answer = proxy.get(PATH, token=token(proxy, "alice", "analysts"), headers=headers)
    assert answer.status == 200
    rows = csv.DictReader(io.StringIO(answer.body.decode(), newline=""))
    return [{"cell": row.pop("buyer_email"), "row": row} for row in rows]


def test_tokens_come_back_where_their_value_allows_it(proxy):
    """A line on the value alone is decided by what the token stands for; the row's other fields are not known."""
    asked = tokens(proxy)
    answer = reveal(proxy, asked, purpose=None, **FORM)
    assert values(answer) == KEPT and 0 < KEPT.count(None) < len(KEPT)
    assert not set(LICENCES) & {cell["cell"] for cell in asked}


def test_the_form_is_named_where_there_are_several(proxy):
    """Two forms of one field: whoever asks says which, or is asked to."""
    answer = reveal(proxy, tokens(proxy), purpose=None)
    assert answer.status == 400 and b"name one in `form`" in answer.body
    assert (
        reveal(proxy, tokens(proxy), purpose=None, form="tokenise(alphabet='lower')").status == 400
    )


def test_tokens_are_of_the_purpose_that_they_were_given_for(proxy):
    """Under another purpose the same token stands for another value; an unknown one is none."""
    asked = tokens(proxy, **{"Counterfoil-Purpose": "reconcile"})
    mine = values(reveal(proxy, asked, purpose=None, given_for="reconcile", **FORM))
    other = values(reveal(proxy, asked, purpose=None, **FORM))
    assert mine == KEPT and not {*mine} & {*other} - {None}
    assert reveal(proxy, asked, purpose=None, given_for="fun", **FORM).status == 400


def test_what_has_no_form_of_a_token_is_not_revealed(proxy):
    """Too short, another key, or a sealed cell: not revealed, one like the other."""
    shut = [
        reveal(proxy, [{"cell": cell, "row": {}}], purpose=None, **FORM, **more).seen()
        for cell, more in (
            ("12", {}),
            ("", {}),
            ("cf1.k.r0.AAAA", {}),
            ("LIC-123456", {"key": "none"}),
        )
        if cell
    ]
    assert len(set(map(repr, shut))) == 1


def test_a_condition_on_the_row_holds_for_no_token(proxy):
    """Of a token's row nothing is known: a line that looks at it gives nothing back."""
    line = "p2, role:officer, sales/daily, true, buyer_email, reveal"
    try:
        for rows in ("row.store_id in ['0', '1']", "not present(row.units)"):
            proxy.home.write("policy.csv", ANY.replace(line, line.replace("true", rows)))
            assert proxy.reload()
            asked = tokens(proxy)
            assert values(reveal(proxy, asked, purpose=None, **FORM)) == [None] * len(asked)
    finally:
        proxy.home.write("policy.csv", RULES)
        assert proxy.reload()
