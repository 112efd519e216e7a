"""One story in front of report stores that no one here wrote: nginx's files, Datasette's tables."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import pytest

from tests.harness import sales
from tests.harness.proxy import Home, running
from tests.peers import datasette, nginx

IOWA = """\
stores:
  files: {url: "{store}", loopback: true}
reports:
  iowa/sales:
    title: Invoice lines
    store: files
    variants:
      - {path: /iowa/sales.csv, format: csv, source: /iowa.csv, delimiter: ";"}
    fields:
      Invoice/Item Number: {type: text, class: internal}
      Date: {type: text, class: public}
      Store Number: {type: text, class: public}
      Store Name: {type: text, class: confidential}
      Store Location: {type: text, class: public}
      Vendor Name: {type: text, class: public}
      Item Description: {type: text, class: public}
      Sale (Dollars): {type: text, class: confidential}
      Volume Sold (Liters): {type: decimal, class: internal}
"""
IOWA_RULES = """\
p,  tool:app,        iowa/*, act,  true, allow
p,  group:analysts,  iowa/*, read, true, allow
p2, group:analysts,  iowa/*, true, Date|Store Number|Store Location|Item Description, clear
p2, group:analysts,  iowa/*, true, Store Name, pseudonym
p2, group:analysts,  iowa/*, true, Volume Sold (Liters), round(1)
p,  group:owners,    iowa/*, read, true, allow
p2, group:owners,    iowa/*, row['Store Number'] in sub.stores, *, clear
"""

RULES = sales.RULES.replace(
    "p,  role:analyst, sales/audited, read, env.purpose in ['audit'], allow\n", ""
)


def parsed(path: str, body: bytes) -> list[dict[str, str]]:
    """The rows, each cell as it is written."""
    if path.endswith(".csv"):
        return list(csv.DictReader(io.StringIO(body.decode())))
    document = json.loads(body, parse_float=str, parse_int=str)
    return document["rows"] if path == "/sales/wrapped.json" else document


@pytest.mark.parametrize(
    "store",
    [
        pytest.param(kind, marks=pytest.mark.skipif(bool(kind.MISSING), reason=str(kind.MISSING)))
        for kind in (nginx, datasette)
    ],
    ids=["nginx", "datasette"],
)
def test_what_each_person_sees_of_a_store(tmp_path, background, store):
    """CSV, a JSON array and a JSON envelope: rows and forms by policy, untouched cells to the character."""
    with store.peer(tmp_path / "store") as (url, reports, paths):
        home = Home(tmp_path / "home", reports=reports, rules=RULES, store=url)
        with running(home, background) as proxy:
            alice = proxy.issuer.token("alice", groups=("analysts",))
            sam = proxy.issuer.token("sam", groups=("owners",), stores=["3", "7"])
            nora = proxy.issuer.token("nora")
            for path, rows in paths.items():
                every = [dict(zip(sales.FIELDS, row, strict=True)) for row in rows]
                answer = proxy.get(path, token=alice)
                assert answer.status == 200 and answer.whole and b"canary" not in answer.body
                assert parsed(path, answer.body) == [
                    {name: cell for name, cell in row.items() if name != "buyer_email"}
                    | {"net_sales": str(round(Fraction(row["net_sales"]) / 100) * 100)}
                    for row in every
                ]
                answer = proxy.get(path, token=sam)
                assert answer.status == 200 and answer.whole
                assert parsed(path, answer.body) == [
                    {name: cell for name, cell in row.items() if name != "buyer_email"}
                    for row in every
                    if row["store_id"] in ("3", "7")
                ]
                assert proxy.get(path, token=nora).status == 404
                assert proxy.get(path).status == 401


@pytest.mark.skipif(bool(nginx.MISSING), reason=str(nginx.MISSING))
@pytest.mark.skipif("COUNTERFOIL_DATA" not in os.environ, reason="COUNTERFOIL_DATA is not set")
def test_real_invoice_lines(tmp_path, background):
    """Real data with `;`, `$` and tabs in quotes: untouched cells are the source's, to the character."""
    source = Path(os.environ["COUNTERFOIL_DATA"]) / "iowa_liquor_10k_semicolon.csv"
    folder = tmp_path / "nginx"
    (folder / "files").mkdir(parents=True)
    shutil.copy(source, folder / "files/iowa.csv")
    original = list(csv.DictReader(io.StringIO(source.read_text("utf-8")), delimiter=";"))
    with nginx.nginx(folder) as url:
        home = Home(tmp_path / "home", reports=IOWA, rules=IOWA_RULES, store=url)
        with running(home, background) as proxy:
            alice = proxy.issuer.token("alice", groups=("analysts",))
            answer = proxy.get("/iowa/sales.csv", token=alice)
            assert answer.status == 200 and answer.whole
            seen = list(csv.DictReader(io.StringIO(answer.body.decode()), delimiter=";"))
            assert list(seen[0]) == [
                "Date", "Store Number", "Store Name", "Store Location", "Item Description",
                "Volume Sold (Liters)",
            ]  # fmt: skip
            assert len(seen) == len(original)
            for theirs, ours in zip(original, seen, strict=True):
                for name in ("Date", "Store Number", "Store Location", "Item Description"):
                    assert ours[name] == theirs[name]
                assert ours["Store Name"] != theirs["Store Name"]
            names = {row["Store Name"] for row in original}
            assert len({row["Store Name"] for row in seen}) == len(names)
            sam = proxy.issuer.token("sam", groups=("owners",), stores=["2191"])
            answer = proxy.get("/iowa/sales.csv", token=sam)
            seen = list(csv.DictReader(io.StringIO(answer.body.decode()), delimiter=";"))
            mine = [row for row in original if row["Store Number"] == "2191"]
            assert [row["Sale (Dollars)"] for row in seen] == [
                row["Sale (Dollars)"] for row in mine
            ]
            assert mine
