"""Counters in an SQLite file beside the access log, shared by the processes of one server.

Of one process alone it is a database without a name: in memory while it is small, else in a file that nobody
else sees. The access log is the authority, so no charge waits for a disk: what a power cut takes, the log
gives again. Each charge is one transaction, and SQLite has one writer at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from proxy.budgets.counters import (
    Begin,
    Begun,
    BudgetsUnavailable,
    Charge,
    Charged,
    Over,
    Spent,
    Unknown,
)

T = TypeVar("T")

VERSION: Final = 1
_SWEEP_SECONDS: Final = 300
_BUSY_SECONDS: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS counted (  -- since when a counter is charged by all, without a gap
  counter TEXT PRIMARY KEY, since REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
  subject TEXT, counter TEXT, start INTEGER, end INTEGER NOT NULL, amount INTEGER NOT NULL,
  since REAL NOT NULL,                -- what `counted` said when the log was asked
  PRIMARY KEY (subject, counter, start)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (
  subject TEXT, counter TEXT, start INTEGER, report TEXT, end INTEGER NOT NULL,
  PRIMARY KEY (subject, counter, start, report)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claimed (name TEXT PRIMARY KEY, until REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS swept (until REAL NOT NULL) STRICT;  -- windows that ended by then are forgotten
"""


class Embedded:
    """One process's way to the counters; for one event loop."""

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        """Without `path` they are this process's own. `clock`: seconds since the epoch.

        Raises BudgetsUnavailable.
        """
        self._path = path
        self._clock = clock
        self._swept = 0.0
        # A lock that another process holds must not stop the event loop; a thread costs some tens of µs.
        self._thread = None if path is None else ThreadPoolExecutor(1, "counterfoil-budgets")
        try:
            try:
                self._connection = self._open()
            except sqlite3.DatabaseError as error:
                if path is None or isinstance(error, sqlite3.OperationalError):
                    raise
                for suffix in ("", "-wal", "-shm"):  # broken: the log gives again what it held
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
                self._connection = self._open()
        except (sqlite3.Error, OSError) as error:
            where = "what is spent of budgets" if path is None else str(path)
            raise BudgetsUnavailable(f"{where} cannot be opened: {error}") from error

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path or "", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            if self._path is not None:
                self._path.chmod(0o600)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                for table in ("counted", "spent", "seen", "claimed", "swept"):
                    connection.execute(f"DROP TABLE IF EXISTS {table}")  # a name of ours
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    async def declare(self, counters: Collection[str]) -> None:
        """Count these without a gap from now on; what was known of them is held against the log again."""
        await self._run(lambda: self._declare(counters))

    async def charge(
        self, subject: str, charges: Sequence[Charge], *, keep: bool = True
    ) -> Charged:
        """Charge a subject, or say why not."""
        return await self._run(lambda: self._charge(subject, charges, keep=keep))

    async def begin(self, subject: str, begun: Sequence[Begun]) -> None:
        """Let counters begin at what the log says, or at what they have where that is more."""
        await self._run(lambda: self._begin(subject, begun))

    async def claim(self, name: str, seconds: float) -> bool:
        """Whether nobody claimed the name within so many seconds before; then it is claimed."""
        return await self._run(lambda: self._claim(name, seconds))

    async def close(self) -> None:
        """Close the database."""
        if self._thread is not None:
            await asyncio.to_thread(self._thread.shutdown)
        self._connection.close()

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            if self._thread is None:
                return work()
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError, RuntimeError) as error:
            raise _unavailable(error) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            yield run
            run("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise

    def _declare(self, counters: Collection[str]) -> None:
        now = self._clock()
        with self._transaction() as run:
            for counter in counters:
                run("INSERT OR REPLACE INTO counted VALUES (?, ?)", (counter, now))

    def _charge(self, subject: str, charges: Sequence[Charge], *, keep: bool) -> Charged:
        now = self._clock()
        with self._transaction() as run:
            _step_back(run, now)
            begin: list[Begin] = []
            amounts: dict[str, tuple[int, int]] = {}
            over: Over | None = None
            for each in charges:
                window = each.per.window(now)
                key = (subject, each.counter, window.start)
                run("INSERT OR IGNORE INTO counted VALUES (?, ?)", (each.counter, now))
                (since,) = run(
                    "SELECT since FROM counted WHERE counter = ?", (each.counter,)
                ).fetchone()
                row = run(
                    "SELECT amount, since FROM spent"
                    " WHERE subject = ? AND counter = ? AND start = ?",
                    key,
                ).fetchone()
                if (row is None and since > window.start) or (row is not None and row[1] < since):
                    begin.append(Begin(counter=each.counter, start=window.start, since=since))
                    continue
                before = row[0] if row is not None else 0
                more = each.amount
                if (
                    each.report
                    and run(
                        "SELECT 1 FROM seen WHERE subject = ? AND counter = ? AND start = ? AND report = ?",
                        (*key, each.report),
                    ).fetchone()
                ):
                    more = 0
                after = before + more
                if more and each.most is not None and after > each.most:
                    over = over or Over(now=now, counter=each.counter, window=window)
                amounts[each.counter] = (before, after)
            if begin:
                return Unknown(begin=tuple(begin))
            if over is not None:
                return over
            if keep:
                for each in charges:
                    before, after = amounts[each.counter]
                    if after != before:
                        self._add(run, subject, each, after, now)
                self._sweep(run, now)
            return Spent(now=now, amounts=amounts)

    def _add(
        self,
        run: Callable[..., sqlite3.Cursor],
        subject: str,
        charge: Charge,
        amount: int,
        now: float,
    ) -> None:
        window = charge.per.window(now)
        run(
            "INSERT INTO spent VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET amount = excluded.amount",
            (subject, charge.counter, *window, amount, window.start),
        )
        if charge.report:
            run(
                "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?, ?)",
                (subject, charge.counter, window.start, charge.report, window.end),
            )

    def _begin(self, subject: str, begun: Sequence[Begun]) -> None:
        with self._transaction() as run:
            for each in begun:
                key = (subject, each.begin.counter, each.begin.start)
                end = each.begin.start + each.per.seconds
                for report in each.reports:
                    run("INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?, ?)", (*key, report, end))
                (reports,) = run(
                    "SELECT count(*) FROM seen WHERE subject = ? AND counter = ? AND start = ?", key
                ).fetchone()
                run(
                    "INSERT INTO spent VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                    " amount = max(amount, excluded.amount), since = max(since, excluded.since)",
                    (*key, end, max(each.amount, reports), each.begin.since),
                )

    def _claim(self, name: str, seconds: float) -> bool:
        now = self._clock()
        with self._transaction() as run:
            # Nor does one count that was claimed by a clock which has stepped back since.
            run(
                "DELETE FROM claimed WHERE until <= ? OR (name = ? AND until > ?)",
                (now, name, now + seconds),
            )
            taken = run(
                "INSERT OR IGNORE INTO claimed VALUES (?, ?)", (name, now + seconds)
            ).rowcount
        return taken == 1

    def _sweep(self, run: Callable[..., sqlite3.Cursor], now: float) -> None:
        """Forget windows that are over."""
        if abs(now - self._swept) >= _SWEEP_SECONDS:
            self._swept = now
            for table in ("spent", "seen"):
                run(f"DELETE FROM {table} WHERE end <= ?", (now,))  # noqa: S608 - a name of ours
            run("DELETE FROM swept")
            run("INSERT INTO swept VALUES (?)", (now,))


def _step_back(run: Callable[..., sqlite3.Cursor], now: float) -> None:
    """Where the clock has stepped back into what was forgotten, the log is asked again."""
    if run("DELETE FROM swept WHERE until > ?", (now,)).rowcount:
        run("UPDATE counted SET since = ?", (now,))


def _unavailable(error: Exception) -> BudgetsUnavailable:
    return BudgetsUnavailable(f"what is spent of budgets is not known: {type(error).__name__}")
