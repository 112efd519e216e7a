"""A report with sealed cells, and asking for them back over a real socket."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.gateway.changing import ask, token
from tests.harness import sales, wire
from tests.harness.proxy import Proxy

PATH = "/sales/daily.csv"
RULES = (
    sales.RULES
    + """\
p2, role:analyst, sales/daily, true, buyer_email, encrypt
p2, role:owner,   sales/daily, true, net_sales, encrypt
p,  role:officer, sales/daily, reveal, env.purpose == 'audit', allow
p2, role:officer, sales/daily, row.region == 'North', buyer_email, reveal
p2, role:officer, sales/daily, row.store_id in sub.stores, buyer_email, reveal
p2, role:officer, sales/daily, true, net_sales, reveal
p2, role:officer, sales/daily, row.units == 7, buyer_email, deny
p2, role:officer, sales/daily, row.net_sales > 1060, net_sales, deny
g,  group:officers, role:officer
p,  group:admins,  sales/*, lockdown, true, allow
"""
)


def reveal(
    proxy: Proxy,
    cells: Sequence[Mapping[str, Any]],
    *,
    by: str | None = None,
    report: str = "sales/daily",
    field: str = "buyer_email",
    purpose: str | None = "audit",
    method: str = "POST",
    **more: object,
) -> wire.Answer:
    """Ask for cells; by an officer of stores 0 and 3 unless told otherwise."""
    if by is None:
        by = token(proxy, "olga", "officers", stores=["0", "3"])
    headers = {} if purpose is None else {"Counterfoil_Purpose": purpose}
    body = {"report": report, "field": field, "cells": [*cells], **more}
    return ask(proxy, method, "/-/reveal", body, by=by, **headers)


def values(answer: wire.Answer) -> list[str | None]:
    """What was given back, text for text."""
    assert answer.status == 200, answer
    return [cell and cell["value"] for cell in json.loads(answer.body)["cells"]]


def sealed(
    proxy: Proxy, *, by: str | None = None, field: str = "buyer_email"
) -> list[dict[str, Any]]:
    """Each row's cell, with all else that the file has of the row."""
    answer = proxy.get(PATH, token=by or token(proxy, "alice", "analysts"))
    assert answer.status == 200
    rows = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
    return [{"cell": row.pop(field), "row": row} for row in rows]
