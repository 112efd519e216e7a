"""A report in every format, whose rows are known by open and by closed fields; who asked for it, and what they got."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from proxy.cli import main
from tests.harness.proxy import Proxy, stage
from tests.harness.store import Page
from tests.matrix.others import WRITERS

FIELDS = {
    "day": "date", "shop": "text", "code": "text", "city": "text", "net": "decimal", "mail": "text",
}  # fmt: skip
FORMATS = {
    "csv": "text/csv", "json": "application/json", "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}  # fmt: skip
REPORTS = """\
stores:
  main: {url: "{store}", loopback: true}
purposes: [audit]
reports:
  shop/days:
    title: Days
    store: main
    key: [day, shop, code]
    found_by: [city]
    ordered_by: [day]
    variants:
      - {path: /days.csv, format: csv}
      - {path: /days.json, format: json}
      - {path: /days.ndjson, format: ndjson}
      - {path: /days.parquet, format: parquet}
      - {path: /days.arrow, format: arrow}
      - {path: /days.xlsx, format: xlsx}
    parameters:
      limit: {by: limit, most: 100000}
      offset: {by: offset, most: 100000}
    fields:
      day: {type: date, class: public}
      shop: {type: text, class: internal}
      code: {type: text, class: personal}
      city: {type: text, class: public}
      net: {type: decimal, class: confidential, scale: 2}
      mail: {type: text, class: personal}
  shop/totals:
    title: Totals
    store: main
    variants:
      - {path: /totals.csv, format: csv}
    fields:
      shop: {type: text, class: internal}
      net: {type: decimal, class: confidential}
"""
RULES = """\
p,  tool:app,     shop/*, act,  true, allow
p,  role:analyst, shop/*, read, true, allow
p,  role:mixed,   shop/*, read, true, allow
p2, role:analyst, shop/*, true, @public|@internal, clear
p2, role:analyst, shop/*, true, net, round(100)
p2, role:mixed,   shop/days, row.shop in ['S1', 'S3'], city|net, clear
p2, role:mixed,   shop/days, row.shop == 'S2', net, round(100)
p2, role:mixed,   shop/days, row.shop == 'S4', mail, redact
g,  group:analysts, role:analyst
g,  group:mixed,    role:mixed
"""
CANARY = "canary-code"


def rows(count: int) -> list[dict[str, str | None]]:
    """Rows in the order of their days; `code` and `mail` are canaries, and each code occurs thrice."""
    return [
        {
            "day": f"2026-{n * 12 // count + 1:02d}-{n % 28 + 1:02d}",
            "shop": f"S{n % 6}",
            "code": f"{CANARY}-{n // 3}",
            "city": ("Bath", "León", None)[n % 3],
            "net": f"{n}.25",
            "mail": f"canary-mail-{n}@buyers.example",
        }
        for n in range(count)
    ]


def given(who: str, row: dict[str, str | None]) -> dict[str, str]:
    """Field -> form of a row, by the rules above in plain words; {} where it is not given."""
    if who == "alice":
        return {"day": "clear", "shop": "clear", "city": "clear", "net": "round(100)"}
    match row["shop"]:
        case "S1" | "S3":
            return {"city": "clear", "net": "clear"}
        case "S2":
            return {"net": "round(100)"}
        case "S4":
            return {"mail": "redact"}
    return {}


@dataclass
class Shop:
    proxy: Proxy
    asked: dict[str, tuple[str, list[dict[str, str | None]], str]]
    """Access -> who, the rows that were given, and how surely."""

    @property
    def path(self) -> Path:
        return self.proxy.home.folder / "access.db"

    def log(self, *words: object, code: int = 0):
        ran = CliRunner().invoke(
            main,
            ["log", *map(str, words), "-c", str(self.proxy.home.settings)],
            catch_exceptions=False,
        )
        assert ran.exit_code == code, ran.output
        return ran

    def exposed(self, *words: object) -> dict[str, dict]:
        lines = self.log("exposure", *words, "--json").stdout.splitlines()
        return {one["access"]: one for one in map(json.loads, lines)}


@contextlib.contextmanager
def open_shop(folder: Path, *, many: int = 3000, few: int = 40) -> Iterator[Shop]:
    """Two people have asked for the report in each format, for pages, for a part, and for totals."""
    with stage(folder, reports=REPORTS, rules=RULES) as (store, proxy):
        tokens = {
            "alice": proxy.issuer.token("alice", groups=("analysts",)),
            "mike": proxy.issuer.token("mike", groups=("mixed",)),
        }
        asked = {}

        def ask(who, target, expected, surely, **more):
            answer = proxy.get(target, token=tokens[who], **more)
            assert answer.whole and answer.status in (200, 206, 304), (target, answer.status)
            asked[answer.event] = (who, expected, surely)
            return answer

        for kind, type_ in FORMATS.items():
            for count in (few, many):
                source = rows(count)
                store.pages[f"/days.{kind}"] = Page(
                    WRITERS[kind](FIELDS, source), content_type=type_
                )
                for who in tokens:
                    expected = [row for row in source if given(who, row)]
                    ask(who, f"/days.{kind}", expected, "confirmed")
        source = rows(many)
        for who, query, cut in (
            ("alice", "limit=7&offset=1500", slice(1500, 1507)),  # in the order of the store
            ("alice", "limit=2000&offset=10", slice(10, 2010)),
        ):
            expected = [row for row in source if given(who, row)][cut]
            ask(who, f"/days.csv?{query}", expected, "confirmed")
        ask("alice", "/days.csv", source, "assumed", headers={"Range": "bytes=5-90"})
        whole = proxy.get("/days.json", token=tokens["alice"], headers={"If-None-Match": '"x"'})
        asked[whole.event] = ("alice", rows(many), "confirmed")
        had = {"If-None-Match": whole.headers["etag"]}
        ask("alice", "/days.json", [], "confirmed", headers=had)
        store.pages["/totals.csv"] = Page(b"shop,net\nS1,10.00\nS2,20.00\n")
        ask("alice", "/totals.csv", [{"shop": "S1"}, {"shop": "S2"}], "possible")
        yield Shop(proxy, asked)
