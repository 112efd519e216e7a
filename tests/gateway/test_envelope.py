"""What stands beside the rows of a JSON document: what the catalogue says, and nothing that a store says."""

from __future__ import annotations

import json

import pytest

from proxy.catalogue import Catalogue
from proxy.errors import Faulty
from tests.harness import sales
from tests.harness.proxy import stage
from tests.harness.store import Page

WRAPPED, FLAGGED, PLAIN = "/sales/daily-wrapped.json", "/sales/flagged.json", "/sales/daily.json"
REPORTS = sales.REPORTS.replace(
    "rows_at: [data, rows]}\n",
    """rows_at: [data, rows], members: {licence: "internal \\"use\\"", edition: 1}}
      - {path: /sales/flagged.json, format: json, source: /sales/daily-wrapped.json, rows_at: [data, rows],
         members: {licence: "internal \\"use\\"", edition: true}}
""",
    1,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with stage(tmp_path_factory.mktemp("envelope"), reports=REPORTS, rules=sales.RULES) as at:
        yield at


@pytest.mark.parametrize("count", [0, 3, 3000])
def test_the_answer_s_envelope_is_the_catalogue_s_alone(world, count):
    """Totals, pages and constants of the store's stay behind, also under a catalogued name; ours are given."""
    store, proxy = world
    rows = sales.as_json(sales.rows(count)).decode()
    store.pages[PLAIN] = Page(rows.encode(), content_type="application/json")
    token = proxy.issuer.token("olga", groups=("owners",), stores=["3"])
    own = json.loads(proxy.get(PLAIN, token=token).body)
    seen = set()
    for before, inside, after in [
        ("", "", ""),
        ('"total":31337,"licence":"none","edition":31337,', '"sum":31337.5,', ',"next":"/p?31337"'),
        ('"edition":{"total":[31337]},', '"pages":[31337],', ',"footer":{"rows":[{"net_sales":31337}]}'),
    ]:  # fmt: skip
        body = f'{{{before}"data":{{{inside}"rows":{rows}}}{after}}}'
        store.pages[WRAPPED] = Page(body.encode(), content_type="application/json")
        answer = proxy.get(WRAPPED, token=token)
        assert answer.status == 200 and answer.whole
        seen.add(answer.seen())
    assert len(seen) == 1 and b"31337" not in answer.body
    pairs = json.loads(answer.body, object_pairs_hook=list)
    assert [name for name, _ in pairs] == ["licence", "edition", "data"]
    assert json.loads(answer.body) == {
        "licence": 'internal "use"',
        "edition": 1,
        "data": {"rows": own},
    }
    assert b'"edition":true' in proxy.get(FLAGGED, token=token).body
    assert b'"edition":1,' in proxy.get(WRAPPED, token=token).body


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("edition: 1}", "data: 1}", "the rows are there, see `rows_at`"),
        ("edition: 1}", "edition: 1.5}", "expected text or a whole number"),
        ("edition: 1}", "edition: [1]}", "found a list"),
        ("/sales/daily.json, format: json", "/sales/daily.json, format: json, members: {a: 1}",
         "`members` stand beside rows that have a place"),
        ("/sales/daily.csv, format: csv", "/sales/daily.csv, format: csv, members: {a: 1}",
         "`members` stand beside rows that have a place"),
    ],
)  # fmt: skip
def test_a_member_that_could_not_be_given_is_a_fault(was, becomes, message):
    """A member in the way of the rows, one that is no constant, and one of a document without an envelope."""
    text = REPORTS.replace("{store}", "http://127.0.0.1:1")
    assert was in text
    with pytest.raises(Faulty) as caught:
        Catalogue.load(
            text.replace(was, becomes, 1).encode(), file="r.yaml", environment={}, folder=None
        )
    assert message in str(caught.value)
