"""Reading the access log: exact leaves, and accesses with their records merged.

Works beside a running server, from any process: SQLite's readers do not hinder its writer, and none
of ours keeps a snapshot while somebody looks at what it found. A query never misses a durable event:
leaves that the projection has not got yet are merged into an overlay in the reader's own temporary
database, within one snapshot. Where the projection is missing or is that of another log, the overlay
holds all of it: slower, but as true.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Final, Self

import msgspec

from proxy.audit import attachments, columns, finding, merging, projection
from proxy.audit.accesses import Access, End, Leaf, Past
from proxy.audit.asked import Asked, going_on, of_rows
from proxy.audit.merkle import HASH_BYTES
from proxy.audit.names import principal_of, subjects_of
from proxy.audit.released import Released, released
from proxy.audit.stats import Stats, counted, daily_rows
from proxy.audit.store import (
    INDEX_BITS,
    Files,
    check_kind,
    epoch_and_index,
    failing_as_unavailable,
    identity,
    read_only,
)
from proxy.errors import LogUnavailable

_PAST_AT_ONCE: Final = 5_000

_AT_ONCE: Final = 500
"""Leaves that are fetched together."""

_ALL: Final = Asked()


class Reader:
    """Looks at one access log, each time at what is durable then. Not for two threads at once."""

    def __init__(self, path: Path, *, busy_seconds: float = 5.0) -> None:
        """Open the log at `path`. Raises LogUnavailable."""
        files = Files.at(path)
        if not files.leaves.is_file():
            raise LogUnavailable(f"there is no access log at {files.leaves}")
        self.files = files
        """Where it is."""
        self._identity = identity(files.leaves)
        self._connection = sqlite3.connect(
            "", timeout=busy_seconds, isolation_level=None, check_same_thread=False, uri=True
        )
        try:
            with failing_as_unavailable(files.leaves):
                self._run("ATTACH ? AS leaves", read_only(files.leaves))
                (application,) = self._run("PRAGMA leaves.application_id").fetchone()
                (version,) = self._run("PRAGMA leaves.user_version").fetchone()
                check_kind(application, version, files)
                self._attached = self._indexed = self._attach_index()
                self._named = self._attach("names", files.names) and bool(
                    self._run("SELECT count(*) FROM names.sqlite_schema").fetchone()[0]
                )  # a server that just made the file has not made its table yet
                self._connection.executescript(merging.SCHEMA)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    @property
    def pruned(self) -> int:
        """How many entries are gone, of which hashes alone are left."""
        with self._reading():
            sizes = self._run("SELECT coalesce(sum(length(hashes)), 0) FROM leaves.pruned")
            return int(sizes.fetchone()[0]) // HASH_BYTES

    def _run(self, statement: str, *parameters: object) -> sqlite3.Cursor:
        return self._connection.execute(statement, parameters)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        if identity(self.files.leaves) != self._identity:
            raise LogUnavailable(f"{self.files.leaves} was removed or replaced")
        with failing_as_unavailable(self.files.leaves):
            yield

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        """One state of all files, and a place for an overlay; both end with it."""
        with self._reading():
            self._run("BEGIN")
            try:
                yield
            finally:
                self._connection.rollback()

    def _attach(self, schema: str, path: Path) -> bool:
        if not path.is_file():
            return False
        try:
            self._run(f"ATTACH ? AS {schema}", read_only(path))
            self._run(f"SELECT count(*) FROM {schema}.sqlite_schema").fetchone()
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):
                self._run(f"DETACH {schema}")
            return False
        return True

    def _attach_index(self) -> bool:
        if not self._attach("kept", self.files.index):
            return False
        with contextlib.suppress(sqlite3.Error):
            if projection.fits(self._connection, "kept"):
                return True
        self._run("DETACH kept")
        return False

    def _projected(self) -> int:
        """The number of the last leaf that the index has got."""
        if not self._indexed:
            return 0
        return int(self._run("SELECT number FROM kept.projected").fetchone()[0])

    def _overlay(self) -> None:
        """Merge the leaves that the index has not got, on top of its rows of the same accesses.

        The index is looked at first: in one snapshot the leaves are never behind it, unless something was
        taken away since; then it is done without.
        """
        self._indexed = self._attached and projection.fits(self._connection, "kept")
        merge = merging.overlay if self._indexed else merging.apply
        merge(self._connection, self._projected(), self._head())

    def _head(self) -> int:
        (number,) = self._run("SELECT coalesce(max(number), 0) FROM leaves.leaf").fetchone()
        return int(number)

    @property
    def head(self) -> int:
        """The number of the newest leaf; 0 where there is none."""
        with self._reading():
            return self._head()

    @property
    def lag(self) -> int:
        """How many durable leaves the projection has not got, and a query merges itself."""
        counted = "SELECT count(*) FROM leaves.leaf WHERE number > ?"
        with self._snapshot():
            return int(self._run(counted, self._projected()).fetchone()[0])

    def principal(self, subject: str) -> str:
        """The name that the directory has for an opaque id; '' where it has none."""
        return principal_of(self._connection, subject) if self._named and subject else ""

    def subjects(self, principal: str) -> tuple[str, ...]:
        """The opaque ids that the directory has for a name."""
        return subjects_of(self._connection, principal) if self._named else ()

    def last(self, count: int) -> list[Leaf]:
        """The newest `count` leaves, oldest first."""
        return self._leaves("1 ORDER BY number DESC LIMIT ?", count)[::-1]

    def since(self, number: int) -> Iterator[Leaf]:
        """The leaves after that one, oldest first, until there is none."""
        while found := self._leaves("number > ? ORDER BY number LIMIT ?", number, _AT_ONCE):
            yield from found
            number = found[-1].number

    def records(self, accesses: Sequence[Access]) -> Iterator[Leaf]:
        """All records of these accesses, given in the order in which they began; oldest first.

        Found without the index, in one go through the log from the first of them on.
        """
        if not accesses:
            return
        known = msgspec.json.encode([each.access for each in accesses]).decode()
        which = (
            "number > ? AND CAST(entry AS TEXT) ->> '$.access' IN (SELECT value FROM json_each(?))"
            " ORDER BY number LIMIT ?"
        )
        number = self._number(accesses[0].log, accesses[0].index) - 1
        while found := self._leaves(which, number, known, _AT_ONCE):
            yield from found
            number = found[-1].number

    def _number(self, log: str, index: int) -> int:
        statement = (
            "SELECT number FROM leaves.leaf"
            " WHERE place = (SELECT epoch << ? | ? FROM leaves.log WHERE name = ?)"
        )
        with self._reading():
            row = self._run(statement, INDEX_BITS, index, log).fetchone()
        if row is None:
            raise LogUnavailable(f"{log}[{index}] is in the index, and not in the log: verify it")
        return int(row[0])

    def attachment(self, digest: str) -> bytes | None:
        """What a record names by its digest; None where it is not there (any more)."""
        with self._reading():
            return attachments.content_of(self._connection, digest, "leaves")

    def _leaves(self, which: str, *parameters: object) -> list[Leaf]:
        with self._reading():
            rows = self._run(
                "SELECT number, place, coalesce(name, ''), entry FROM leaves.leaf"
                f" LEFT JOIN leaves.log ON epoch = place >> {INDEX_BITS} WHERE {which}",
                *parameters,
            ).fetchall()
        return [
            Leaf(number=number, log=name, index=epoch_and_index(place)[1], entry=entry)
            for number, place, name, entry in rows
        ]

    def query(self, asked: Asked = _ALL, *, limit: int = 100) -> list[Access]:
        """The newest `limit` accesses that fit all that is asked, newest first."""
        subjects = (
            (asked.subject, *asked.ids, *self.subjects(asked.subject)) if asked.subject else ()
        )
        where, values = of_rows(asked, subjects)
        row = f"SELECT {columns.ACCESS} FROM {{0}} AS a WHERE {{1}} ORDER BY a.first DESC LIMIT :limit"
        with self._snapshot():
            self._overlay()
            rows = self._connection.execute(
                row.format("main.access", where), values | {"limit": limit}
            ).fetchall()
            if self._indexed:
                firsts = islice(finding.newest(self._connection, asked, subjects), limit)
                known = {"firsts": msgspec.json.encode([*firsts]).decode(), "limit": limit}
                which = "a.first IN (SELECT value FROM json_each(:firsts))"
                rows += self._connection.execute(row.format("kept.access", which), known)
                rows.sort(key=columns.FIRST, reverse=True)
            logs = dict(self._run("SELECT epoch, name FROM leaves.log").fetchall())
            return [self._access(row, logs) for row in rows[:limit]]

    def reports(self) -> tuple[str, ...]:
        """The ids of the reports that are on record."""
        with self._snapshot():
            self._overlay()
            tables = ("main.access", "kept.shape")[: 1 + self._indexed]
            found = {
                report
                for table in tables
                for (report,) in self._run(f"SELECT DISTINCT report FROM {table}")
            }
            return tuple(sorted(filter(None, found)))

    def stats(
        self, *, since: datetime | None = None, until: datetime | None = None, top: int = 10
    ) -> Stats:
        """What is counted of the accesses that began in [since, until), widened to whole hours or days."""
        with self._snapshot():
            self._overlay()
            return counted(
                self._connection, indexed=self._indexed, since=since, until=until, top=top
            )

    def released(
        self, ids: tuple[str, ...], *, since: datetime, but: str = ""
    ) -> Mapping[str, Released]:
        """What was released, by report, to the subject of these ids, in accesses that were going on then.

        `but`: the id of an access that does not count.
        """
        asked = Asked(subject=ids[0], ids=ids[1:], since=since, outcome="permit")
        with self._snapshot():
            self._overlay()
            return released(self._connection, asked, ids, indexed=self._indexed, but=but)

    def daily_rows(self, since: date) -> dict[str, dict[str, int]]:
        """Opaque id -> day -> rows given in accesses that began on it, since a day on."""
        with self._snapshot():
            self._overlay()
            return daily_rows(self._connection, indexed=self._indexed, since=since)

    def one(self, access: str) -> tuple[Past, End] | None:
        """What is decided about the access of that id, and how it ended; None where the log has none."""
        with self._snapshot():
            self._overlay()
            for table in ("main.access", "kept.access")[: 1 + self._indexed]:
                statement = (
                    f"SELECT {columns.END}, {columns.PAST} FROM {table} WHERE access = :access"
                )
                row = self._connection.execute(statement, {"access": access}).fetchone()
                if row is not None:
                    ended = len(End._fields)
                    return Past._make(row[ended:]), End._make(row[:ended])
        return None

    def count(self, *, since: datetime | None, until: datetime | None) -> int:
        """About how many accesses `past` gives."""
        where, values = _decided(since, until)
        with self._reading():
            if not self._indexed:
                return int(self._run("SELECT count(*) FROM leaves.leaf").fetchone()[0])
            span = finding.spanned(self._connection, Asked(since=since, until=until))
            values |= {"least": span.least, "greatest": span.greatest}
            where += " AND first BETWEEN :least AND :greatest"
            statement = f"SELECT count(*) FROM kept.access WHERE {where}"
            return int(self._connection.execute(statement, values).fetchone()[0])

    def past(self, *, since: datetime | None, until: datetime | None) -> Iterator[Past]:
        """All accesses that were going on in [since, until), as of the first call.

        The oldest first, but last those with records that the index has not got. Read a few
        thousand at a time, so that the log's writer is never kept waiting; while it runs, ask this
        reader for nothing else but names.
        """
        where, values = _decided(since, until)
        own = f"SELECT {columns.PAST} FROM main.access WHERE {where}"
        kept = (
            f"SELECT {columns.PAST} FROM kept.access AS a WHERE first > :after AND first <= :head"
            f" AND {where}"
            " AND NOT EXISTS (SELECT 1 FROM main.access AS o WHERE o.access = a.access)"
            " ORDER BY first LIMIT :most"
        )
        with self._reading():
            self._run("BEGIN")
            try:
                self._overlay()
                values |= {"head": self._head(), "after": -1, "most": _PAST_AT_ONCE}
                if self._indexed:
                    span = finding.spanned(self._connection, Asked(since=since, until=until))
                    values["after"] = span.least - 1
                self._run("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise
        try:
            while self._indexed:
                with self._reading():
                    found = self._connection.execute(kept, values).fetchall()
                if not found:
                    break
                yield from map(Past._make, found)
                values["after"] = found[-1][0]
            newest = self._connection.execute(f"{own} ORDER BY first", values)
            yield from map(Past._make, newest)
        finally:
            self._connection.executescript("DELETE FROM main.access")

    def _access(self, row: tuple[object, ...], logs: dict[int, str]) -> Access:
        given = columns.values(row)
        statement = "SELECT place FROM leaves.leaf WHERE number = ?"
        (place,) = self._run(statement, given.pop("first")).fetchone() or (0,)  # it was taken out
        epoch, index = epoch_and_index(place)
        given |= {"log": logs.get(epoch, "") if epoch else "", "index": index}
        given["principal"] = self.principal(str(given.get("subject", "")))
        return msgspec.convert(given, Access)


def _decided(since: datetime | None, until: datetime | None) -> tuple[str, dict[str, object]]:
    where, values = going_on(since, until)
    return " AND ".join(["decision <> ''", *where]), values
