"""A small report with something to hide, its policy, and its rows: what most end-to-end tests ask for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

REPORTS = """\
stores:
  main: {url: "{store}", loopback: true}
purposes: [reconcile, audit]
reports:
  sales/daily:
    title: Daily sales
    store: main
    key: [date, store_id]
    variants:
      - {path: /sales/daily.csv, format: csv}
      - {path: /sales/daily.json, format: json}
      - {path: /sales/daily-wrapped.json, format: json, rows_at: [data, rows]}
      - {path: "/sales/{region}/daily.csv", format: csv, source: "/by-region/{region}"}
    parameters:
      region: {type: text, field: region}
      from: {type: date, field: date, operator: ge}
      least: {type: decimal, field: net_sales, operator: ge}
    fields:
      date: {type: date, class: public}
      store_id: {type: text, class: public}
      region: {type: text, class: public}
      units: {type: integer, class: internal}
      net_sales: {type: decimal, class: confidential}
      buyer_email: {type: text, class: personal}
  sales/secret:
    title: Nobody is granted this
    store: main
    variants:
      - {path: /sales/secret.csv, format: csv}
    fields:
      code: {type: text, class: confidential}
  sales/audited:
    title: For stated purposes only
    store: main
    variants:
      - {path: /sales/audited.csv, format: csv, source: /sales/daily.csv}
    fields:
      date: {type: date, class: public}
      store_id: {type: text, class: public}
"""
RULES = """\
p,  tool:app,     sales/*,       act,  true, allow
p,  role:analyst, sales/daily,   read, true, allow
p,  role:owner,   sales/daily,   read, true, allow
p,  role:analyst, sales/audited, read, env.purpose in ['audit'], allow
p2, role:analyst, sales/*, true, @public|@internal, clear
p2, role:analyst, sales/*, true, net_sales, round(100)
p2, role:owner,   sales/daily, row.store_id in sub.stores, * except @personal, clear
g,  group:analysts, role:analyst
g,  group:owners, role:owner
"""
FIELDS = ("date", "store_id", "region", "units", "net_sales", "buyer_email")
Row = Sequence[str]


def rows(count: int, *, start: int = 0) -> list[tuple[str, ...]]:
    """Rows of stores 0 to 9 in turn; `net_sales` and `buyer_email` are canaries."""
    return [
        (
            f"2026-01-{n % 28 + 1:02d}",
            str(n % 10),
            ("North", 'South, "old"', "Öst")[n % 3],
            str(n % 50),
            f"{1000 + n}.{n % 100:02d}",
            f"canary{n}@buyers.example",
        )
        for n in range(start, start + count)
    ]


def as_csv(records: Sequence[Row], fields: Sequence[str] = FIELDS) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows(records)
    return text.getvalue().encode()


def as_json(records: Sequence[Row], fields: Sequence[str] = FIELDS) -> bytes:
    def member(name: str, value: str) -> str:
        return value if name in ("units", "net_sales") else json.dumps(value, ensure_ascii=False)

    return (
        "["
        + ",".join(
            "{" + ",".join(f'"{f}":{member(f, v)}' for f, v in zip(fields, r, strict=True)) + "}"
            for r in records
        )
        + "]"
    ).encode()
