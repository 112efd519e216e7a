"""Questions to a large access log, each through a reader that was just opened.

`EVENTS=10000000 python -m benchmarks query` asks a log of that many (three minutes, 12 GB). The leaves of
one day are written and projected, which gives the projection's rate. What goes beyond is the index of that
day copied to later ones, with other ids, places, times and versions: queries read the index alone.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.figures import Figure
from proxy.access import AccessEvent, encode, timestamp
from proxy.audit import Asked, Reader
from proxy.audit.locks import Locks
from proxy.audit.merging import COLUMNS
from proxy.audit.projection import Projection
from proxy.audit.recover import begin
from proxy.audit.store import Files, connect, create, journal, place_of
from proxy.keys import Keyring

EVENTS = int(os.environ.get("EVENTS", "200000"))
WRITTEN = min(EVENTS, 100_000)
"""Events that are written as leaves."""
DAY = 86_400.0
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

REPORTS = [
    f"{area}/report-{number}" for area in ("sales", "hr", "stock", "risk") for number in range(5)
]
TREATMENTS = ("round(100)", "pseudonym", "partial(last=4)", "redact")
MOST = 1.0
"""Seconds in which any question is answered."""


def _event(number: int, chance: random.Random) -> AccessEvent:
    """One access of the day: people ask a few reports of theirs, in one of three roles."""
    person = min(int(chance.expovariate(1 / 300)), 1999)
    report = REPORTS[(person + chance.randrange(4)) % len(REPORTS)]
    role = person % 3
    common = {
        "access": f"{number:032x}",
        "at": timestamp(BEGIN.timestamp() + number * DAY / WRITTEN),
        "subject": f"{person:032x}",
        "groups": (f"group:team-{person % 40}", "group:staff"),
        "tool": f"tool:app-{person % 5}",
        "address": "10.0.0.7",
        "method": "GET",
        "report": report,
        "format": "csv",
        "action": "read",
        "policy": f"{0:064x}",
        "purpose": "audit" if chance.random() < 0.01 else "",
        "parameters": {"store_id": str(2000 + chance.randrange(2000)), "region": f"r{person % 8}"},
    }
    if chance.random() < 0.05:
        cause = "no-allow-line" if chance.random() < 0.999 else "policy-error"
        return AccessEvent(
            step="refusal", decision="deny", reason="not-found", cause=cause, status=404, **common
        )
    rows = int(chance.paretovariate(0.6)) % 200_000
    forms = {f"field_{column}": {"clear": rows} for column in range(9)}
    forms |= {
        f"secret_{column}": {TREATMENTS[role + column - 1] if role else "clear": rows}
        for column in range(2)
    }
    if number % 50_000 == 77:
        forms["salary"] = {"clear": rows}
    return AccessEvent(
        step="complete", decision="permit", status=200, lines=("policy.csv:1", "policy.csv:7"), fields=forms,
        rows=rows, bytes=rows * 90, digest="b" * 64, ended="whole", micros=1234, **common,
    )  # fmt: skip


def write(files: Files, keyring: Keyring, events: int) -> None:
    """The leaves of one day, or as many of the days from then on."""
    chance = random.Random(1)
    with contextlib.closing(connect(files.leaves, busy_seconds=1)) as leaves:
        create(leaves, files)
        journal(leaves, "OFF")
        locks = Locks(files.locks)
        epoch, _ = begin(leaves, locks, origin="counterfoil", at=timestamp(1.7e9), keyring=keyring)
        leaves.execute("BEGIN")
        leaves.executemany(
            "INSERT INTO leaf (place, entry) VALUES (?, ?)",
            (
                (place_of(epoch.number, epoch.size + number), encode(_event(number, chance)))
                for number in range(events)
            ),
        )
        leaves.execute("COMMIT")


def project(files: Files) -> float:
    """Index the leaves of one day; how many of them a second are taken in."""
    with contextlib.closing(Projection(files)) as projection:
        begun = time.perf_counter()
        projection.catch_up()
        return WRITTEN / (time.perf_counter() - begun)


_SHIFTED = {
    "first": "first + :shift",
    "last": "last + :shift",
    "access": "printf('%016x', :day) || substr(access, 17)",
    "started": "date(started, :days) || substr(started, 11)",
    "at": "date(at, :days) || substr(at, 11)",
    "policy": "printf('%064x', :day)",
}
_ROWS = ", ".join(_SHIFTED.get(name.strip('"'), name) for name in COLUMNS.split(", "))
_COPY = (
    f"INSERT INTO access (shape, {COLUMNS}) SELECT shape, {_ROWS} FROM day.access",
    """INSERT INTO tally SELECT kind, unit, date(substr(bin, 1, 10), :days) || substr(bin, 11), name,
       accesses, rows, bytes FROM day.tally""",
    """INSERT INTO hour SELECT date(substr(hour, 1, 10), :days) || substr(hour, 11), least + :shift,
       greatest + :shift, date(latest, :days) || substr(latest, 11) FROM day.hour""",
    "INSERT INTO version SELECT printf('%064x', :day), least + :shift, greatest + :shift FROM day.version",
)
_POSTINGS = """
INSERT INTO posting SELECT term, shape, first + (value - 1) * :width, rows
FROM day.posting, json_each(:numbers) ORDER BY term, shape, value, first
"""


def _multiply(files: Files, days: int) -> None:
    """The index of the one day becomes that of `days`."""
    copy = files.index.with_name("day.db")
    with contextlib.closing(sqlite3.connect(files.index, isolation_level=None)) as index:
        index.execute("VACUUM INTO ?", (str(copy),))
        index.execute("PRAGMA journal_mode = OFF")
        index.execute("PRAGMA synchronous = OFF")
        index.execute("PRAGMA cache_size = -512000")
        index.execute("ATTACH ? AS day", (str(copy),))
        index.execute("BEGIN")
        for day in range(1, days):
            values = {"shift": day * (WRITTEN + 1), "day": day, "days": f"+{day} days"}
            for statement in _COPY:
                index.execute(statement, {k: v for k, v in values.items() if f":{k}" in statement})
        index.execute("DELETE FROM posting")
        numbers = f"[{', '.join(str(day + 1) for day in range(days))}]"
        index.execute(_POSTINGS, {"width": WRITTEN + 1, "numbers": numbers})
        index.execute("COMMIT")
        index.execute("PRAGMA journal_mode = WAL")
    copy.unlink()


def _questions(days: int) -> dict[str, Callable[[Reader], object]]:
    """What is asked, by its name."""
    middle = BEGIN + timedelta(days=days / 2)
    day_after = middle + timedelta(days=1)
    person = f"{5:032x}"
    asked = {
        "newest": Asked(),
        "subject": Asked(subject=person),
        "subject-rare": Asked(subject=f"{1999:032x}"),
        "group": Asked(group="team-7"),
        "tool": Asked(tool="app-3"),
        "report": Asked(report="hr/report-2"),
        "reports": Asked(report="risk/*"),
        "parameter": Asked(parameters=(("store_id", ("2191",)),)),
        "parameter-unknown": Asked(parameters=(("store_id", ("1",)),)),
        "field": Asked(field="salary"),
        "field-treatment": Asked(field="secret_0", treatment="round"),
        "field-treatment-never": Asked(field="field_1", treatment="redact"),
        "purpose": Asked(purpose="audit"),
        "time": Asked(since=middle, until=middle + timedelta(hours=1)),
        "outcome": Asked(outcome="deny"),
        "cause-rare": Asked(outcome="policy-error"),
        "rows-over": Asked(rows_over=150_000),
        "rows-over-never": Asked(rows_over=199_999),
        "policy": Asked(policy=f"{days // 2:064x}"),
        "subject-field": Asked(subject=person, field="secret_1", treatment="partial"),
        "subject-parameter": Asked(subject=person, parameters=(("store_id", ("2191",)),)),
        "group-report-never": Asked(group="team-7", report="sales/report-0", outcome="deny"),
        "group-tool-time": Asked(group="team-7", tool="app-2", since=middle, until=day_after),
        "report-time-rows": Asked(report="sales/*", until=middle, rows_over=50_000),
        "never-meet": Asked(subject=person, parameters=(("region", ("r6",)),)),
    }  # fmt: skip
    return {
        **{name: _asks(one) for name, one in asked.items()},
        "a-thousand": lambda reader: reader.query(Asked(field="secret_0", treatment="round"), limit=1000),
        "one": lambda reader: reader.one(f"{WRITTEN // 2:032x}"),
        "stats": lambda reader: reader.stats(),
        "stats-two-days": lambda reader: reader.stats(since=middle, until=middle + timedelta(days=2)),
    }  # fmt: skip


def _asks(asked: Asked) -> Callable[[Reader], object]:
    return lambda reader: reader.query(asked)


def run() -> Iterator[Figure]:
    """Every question is answered within a second."""
    days = max(1, EVENTS // WRITTEN)
    with tempfile.TemporaryDirectory() as folder:
        files = Files.at(Path(folder) / "access.db")
        write(files, Keyring.generate(), WRITTEN)
        yield Figure(name="query-projection", value=project(files), unit="leaves/s")
        if days > 1:
            _multiply(files, days)
        size = files.index.stat().st_size / (days * WRITTEN)
        yield Figure(name="query-index", value=size, unit="bytes/access", better="less")
        for name, question in _questions(days).items():
            begun = time.perf_counter()
            with Reader(files.leaves) as reader:
                question(reader)
            taken = time.perf_counter() - begun
            yield Figure(
                name=f"query-{name}", value=taken * 1000, unit="ms", bar=MOST * 1000, better="less"
            )
