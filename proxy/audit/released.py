"""How much was released to a subject since an instant, by report: summed in SQL, of the index and the rest.

An access counts as a whole where it was going on then: what of it was before is counted too, so that what is
said is never too little. All that is on record of it counts, as it counts there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from proxy.audit import finding
from proxy.audit.asked import Asked, of_rows

_SUMS = """
SELECT coalesce(report, ''), sum(rows), sum(bytes) FROM {table} AS a WHERE {where} GROUP BY 1
"""
_CELLS = """
SELECT coalesce(report, ''), f.key, t.key, sum(t.value)
FROM {table} AS a, json_each(a.fields) AS f, json_each(f.value) AS t WHERE {where} GROUP BY 1, 2, 3
"""


@dataclass(slots=True, kw_only=True)
class Released:
    """Of one report."""

    rows: int = 0
    bytes: int = 0
    cells: dict[str, dict[str, int]] = field(default_factory=dict)
    """Field -> form -> number."""


def released(
    connection: sqlite3.Connection,
    asked: Asked,
    subjects: tuple[str, ...],
    *,
    indexed: bool,
    but: str,
) -> Mapping[str, Released]:
    """By report, of all accesses but one.

    `main.access` is the overlay of what the index, `kept`, has not got.
    """
    where, values = of_rows(asked, subjects)
    where, values["but"] = f"({where}) AND a.access <> :but", but
    found: dict[str, Released] = {}
    _add(connection, found, "main.access", where, values)
    if indexed:
        places = [*finding.newest(connection, asked, subjects)]
        known = {"places": msgspec.json.encode(places).decode(), "but": but}
        which = "a.first IN (SELECT value FROM json_each(:places)) AND a.access <> :but"
        _add(connection, found, "kept.access", which, known)
    return found


def _add(
    connection: sqlite3.Connection,
    found: dict[str, Released],
    table: str,
    where: str,
    values: dict[str, object] | dict[str, str],
) -> None:
    for report, rows, size in connection.execute(_SUMS.format(table=table, where=where), values):
        sums = found.setdefault(report, Released())
        sums.rows += rows
        sums.bytes += size
    for report, name, form, number in connection.execute(
        _CELLS.format(table=table, where=where), values
    ):
        forms = found.setdefault(report, Released()).cells.setdefault(name, {})
        forms[form] = forms.get(form, 0) + number
