"""What is counted of the accesses of some time: by the hour or day, the most, and why they were refused."""

from __future__ import annotations

import sqlite3
from datetime import UTC, date, datetime, timedelta
from typing import Final

import msgspec

from proxy.access import written
from proxy.audit.facets import TALLIES

_BY_HOUR: Final = timedelta(days=3)
"""Up to which time is told hour by hour."""
_LEAST: Final = timedelta(microseconds=1)
_FIRST: Final = datetime.min.replace(tzinfo=UTC) + _LEAST
_HOUR: Final = 13
_DAY: Final = 10
"""How many characters of a time name its hour, its day."""


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """How much was accessed."""

    name: str
    """Of a bin its hour or day (`2026-11-23T22`, `2026-11-23`); else a report, a subject, a reason."""
    accesses: int
    rows: int
    bytes: int


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """The accesses that began in one hour or day; there is none for one without."""

    name: str
    permitted: int
    refused: int
    rows: int
    bytes: int


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """All that is counted."""

    unit: str
    """`hour` or `day`."""
    bins: tuple[Bin, ...]
    reports: tuple[Count, ...]
    """Those of which the most rows were given, the most first."""
    subjects: tuple[Count, ...]
    """Opaque ids, likewise."""
    reasons: tuple[Count, ...]
    """Why accesses were refused; a burst of refusals counts as many as it was."""


_RANGE: Final = "unit = :unit AND bin >= :since AND bin <= :until"
_HIDDEN: Final = "(SELECT * FROM kept.access WHERE first IN (SELECT first FROM main.access))"
_OVERLAID: Final = f"""
WITH told AS (
  SELECT kind, bin, name, accesses, rows, bytes FROM ({TALLIES.format(table="main.access")}) WHERE {_RANGE}
)
"""
_INDEXED: Final = f"""
WITH told AS (
  SELECT kind, bin, name, accesses, rows, bytes FROM ({TALLIES.format(table="main.access")}) WHERE {_RANGE}
  UNION ALL
  SELECT kind, bin, name, -accesses, -rows, -bytes FROM ({TALLIES.format(table=_HIDDEN)}) WHERE {_RANGE}
  UNION ALL
  SELECT kind, bin, name, accesses, rows, bytes FROM kept.tally WHERE kind = :kind AND {_RANGE}
)
"""
_BINS: Final = """
SELECT bin, sum(iif(name = 'permit', accesses, 0)), sum(iif(name = 'permit', 0, accesses)),
  sum(rows), sum(bytes)
FROM told WHERE kind = :kind GROUP BY bin HAVING sum(accesses) > 0 ORDER BY bin
"""
_MOST: Final = """
SELECT name, sum(accesses), sum(rows), sum(bytes) FROM told WHERE kind = :kind AND name <> ''
GROUP BY name HAVING sum(accesses) > 0 ORDER BY 3 DESC, 2 DESC, 1 LIMIT :top
"""


_DAILY: Final = """
SELECT name, bin, sum(rows) FROM told WHERE kind = :kind AND name <> '' GROUP BY 1, 2
"""


def counted(
    connection: sqlite3.Connection,
    *,
    indexed: bool,
    since: datetime | None,
    until: datetime | None,
    top: int,
) -> Stats:
    """What `kept` counts, where it is `indexed`, with what `main` has otherwise."""
    first = "SELECT min(started) FROM main.access WHERE decision <> ''"
    if indexed:
        first += (
            f" UNION ALL SELECT min(bin) FROM kept.tally WHERE kind = 'decision' AND unit = {_HOUR}"
        )
    begun = min(filter(None, (at for (at,) in connection.execute(first))), default="")
    start = written(since) if since is not None else begun
    end = written(datetime.now(UTC) if until is None else max(until, _FIRST) - _LEAST)
    unit = _HOUR if _apart(start, end) <= _BY_HOUR else _DAY
    which = {"unit": unit, "since": start[:unit], "top": top}
    which["until"] = end[:unit] if until is not None else "~"
    told = _INDEXED if indexed else _OVERLAID

    def most(kind: str) -> tuple[Count, ...]:
        found = connection.execute(told + _MOST, which | {"kind": kind})
        return tuple(Count(name=n, accesses=a, rows=r, bytes=b) for n, a, r, b in found)

    bins = connection.execute(told + _BINS, which | {"kind": "decision"})
    return Stats(
        unit="hour" if unit == _HOUR else "day",
        bins=tuple(Bin(name=n, permitted=p, refused=d, rows=r, bytes=b) for n, p, d, r, b in bins),
        reports=most("report"),
        subjects=most("subject"),
        reasons=most("reason"),
    )


def daily_rows(
    connection: sqlite3.Connection, *, indexed: bool, since: date
) -> dict[str, dict[str, int]]:
    """Opaque id -> day -> rows given in accesses that began on it, since a day on."""
    told = _INDEXED if indexed else _OVERLAID
    which = {"unit": _DAY, "since": since.isoformat(), "until": "~", "kind": "subject"}
    found: dict[str, dict[str, int]] = {}
    for name, day, rows in connection.execute(told + _DAILY, which):
        found.setdefault(name, {})[day] = rows
    return found


def _apart(start: str, end: str) -> timedelta:
    try:
        first = datetime.fromisoformat(f"{start[:_HOUR]}:00:00+00:00")
        return datetime.fromisoformat(f"{end[:_HOUR]}:00:00+00:00") - first
    except ValueError:  # nothing is on record
        return timedelta()
