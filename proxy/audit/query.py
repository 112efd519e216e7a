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
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from proxy.access import timestamp
from proxy.audit import projection
from proxy.audit.accesses import OUTCOMES, Access, End, Leaf, Past
from proxy.audit.names import principal_of, subjects_of
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

_DECIDED: Final = frozenset({"policy", "groups"})
"""What its first record says of how an access was decided; a later one says how it stood then."""


def _text_of(name: str) -> str:
    """The expression for a field of `Past` that is a text."""
    if name not in _DECIDED:
        return f"coalesce(\"{name}\", '')"
    entry = "replace(CAST(entry AS TEXT), '\\u0000', '\\u2400')"  # as the projection reads it
    begun = f"(SELECT {entry} ->> '$.{name}' FROM leaves.leaf WHERE place = first)"  # noqa: S608 - names of ours
    return f"coalesce(iif(records = 1, \"{name}\", {begun}), '')"


_PAST: Final = ", ".join(["first", *map(_text_of, Past._fields[1:])])
_END: Final = ", ".join(f"coalesce(\"{name}\", '')" for name in End._fields)
_PAST_AT_ONCE: Final = 5_000

_AT_ONCE: Final = 500
"""Leaves that are fetched together."""

_COLUMNS: Final = (
    "access", "first", "records", "outcome", "started", "at",
    *(name for name in projection.TEXTS if name != "log"),
    *projection.DOCUMENTS, *projection.NUMBERS, *projection.GROWING,
)  # fmt: skip

_DOCUMENT: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    "groups": msgspec.json.Decoder(tuple[str, ...]),
    "lines": msgspec.json.Decoder(tuple[str, ...]),
    "parameters": msgspec.json.Decoder(dict[str, str]),
    "fields": msgspec.json.Decoder(dict[str, dict[str, int]]),
}


class Reader:
    """Looks at one access log, each time at what is durable then. Not for two threads at once."""

    def __init__(self, path: Path, *, busy_seconds: float = 5.0) -> None:
        """Open the log at `path`. Raises LogUnavailable."""
        files = Files.at(path)
        if not files.leaves.is_file():
            raise LogUnavailable(f"there is no access log at {files.leaves}")
        self._files = files
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
                self._indexed = self._attach_index()
                self._named = self._attach("names", files.names) and bool(
                    self._run("SELECT count(*) FROM names.sqlite_schema").fetchone()[0]
                )  # a server that just made the file has not made its table yet
                self._connection.executescript(projection.SCHEMA)
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

    def _run(self, statement: str, *parameters: object) -> sqlite3.Cursor:
        return self._connection.execute(statement, parameters)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        if identity(self._files.leaves) != self._identity:
            raise LogUnavailable(f"{self._files.leaves} was removed or replaced")
        with failing_as_unavailable(self._files.leaves):
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
            self._run(f"SELECT count(*) FROM {schema}.sqlite_schema").fetchone()  # noqa: S608 - a name of ours
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):
                self._run(f"DETACH {schema}")
            return False
        return True

    def _attach_index(self) -> bool:
        if not self._attach("kept", self._files.index):
            return False
        with contextlib.suppress(sqlite3.Error):
            if projection.fits(self._connection, "kept"):
                return True
        self._run("DETACH kept")
        return False

    def _projected(self) -> int:
        """The place of the last leaf that the index has got."""
        if not self._indexed:
            return 0
        return int(self._run("SELECT place FROM kept.projected").fetchone()[0])

    def _overlay(self) -> None:
        """Merge the leaves that the index has not got, on top of its rows of the same accesses.

        The index is looked at first: in one snapshot the leaves are never behind it.
        """
        after = self._projected()
        if self._indexed:
            self._run(
                "INSERT INTO main.access SELECT * FROM kept.access WHERE access IN"
                " (SELECT CAST(entry AS TEXT) ->> '$.access' FROM leaves.leaf"
                "  WHERE place > ? AND json_valid(CAST(entry AS TEXT)))",
                after,
            )
        projection.apply(self._connection, after, self._head())

    def _head(self) -> int:
        (place,) = self._run("SELECT coalesce(max(place), 0) FROM leaves.leaf").fetchone()
        return int(place)

    @property
    def head(self) -> int:
        """The place of the newest leaf; 0 where there is none."""
        with self._reading():
            return self._head()

    @property
    def lag(self) -> int:
        """How many durable leaves the projection has not got, and a query merges itself."""
        with self._snapshot():
            after = self._projected()
            (count,) = self._run(
                "SELECT count(*) FROM leaves.leaf WHERE place > ?", after
            ).fetchone()
            return int(count)

    def principal(self, subject: str) -> str:
        """The name that the directory has for an opaque id; '' where it has none."""
        return principal_of(self._connection, subject) if self._named and subject else ""

    def subjects(self, principal: str) -> tuple[str, ...]:
        """The opaque ids that the directory has for a name."""
        return subjects_of(self._connection, principal) if self._named else ()

    def last(self, count: int) -> list[Leaf]:
        """The newest `count` leaves, oldest first."""
        return self._leaves("1 ORDER BY place DESC LIMIT ?", count)[::-1]

    def since(self, place: int) -> Iterator[Leaf]:
        """The leaves after `place`, oldest first, until there is none."""
        while found := self._leaves("place > ? ORDER BY place LIMIT ?", place, _AT_ONCE):
            yield from found
            place = found[-1].place

    def _leaves(self, which: str, *parameters: object) -> list[Leaf]:
        with self._reading():
            rows = self._run(
                "SELECT place, coalesce(name, ''), entry FROM leaves.leaf"  # noqa: S608 - conditions of ours
                f" LEFT JOIN leaves.log ON epoch = place >> {INDEX_BITS} WHERE {which}",
                *parameters,
            ).fetchall()
        return [
            Leaf(place=place, log=name, index=epoch_and_index(place)[1], entry=entry)
            for place, name, entry in rows
        ]

    def query(
        self,
        *,
        subject: str = "",
        report: str = "",
        tool: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        outcome: str = "",
        limit: int = 100,
    ) -> list[Access]:
        """The newest `limit` accesses that fit all that is given, newest first.

        `subject` is a principal or an opaque id; `report` an id or `prefix/*`; `outcome` a
        decision, a reason, a cause or one of OUTCOMES. An access is in a range of time when it was
        going on at some instant t of it, since ≤ t < until.
        """
        where, values = self._conditions(
            subject=subject, report=report, tool=tool, since=since, until=until, outcome=outcome
        )
        columns = ", ".join(f'"{name}"' for name in _COLUMNS)
        part = f"SELECT {columns} FROM {{0}} AS a WHERE {where} ORDER BY first DESC LIMIT :limit"  # noqa: S608 - names and conditions of ours
        parts = [part.format("main.access")]
        if self._indexed:
            hidden = " AND NOT EXISTS (SELECT 1 FROM main.access AS o WHERE o.access = a.access)"
            parts.append(part.format("kept.access").replace(where, where + hidden))
        statement = " UNION ALL ".join(f"SELECT * FROM ({text})" for text in parts)  # noqa: S608 - as above
        statement += " ORDER BY first DESC LIMIT :limit"
        with self._snapshot():
            self._overlay()
            rows = self._connection.execute(statement, values | {"limit": limit}).fetchall()
            logs = dict(self._run("SELECT epoch, name FROM leaves.log").fetchall())
            return [self._access(dict(zip(_COLUMNS, row, strict=True)), logs) for row in rows]

    def one(self, access: str) -> tuple[Past, End] | None:
        """What is decided about the access of that id, and how it ended; None where the log has none."""
        with self._snapshot():
            self._overlay()
            for table in ("main.access", "kept.access")[: 1 + self._indexed]:
                statement = f"SELECT {_END}, {_PAST} FROM {table} WHERE access = :access"  # noqa: S608 - names of ours
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
            statement = f"SELECT count(*) FROM kept.access WHERE {where}"  # noqa: S608 - conditions of ours
            return int(self._connection.execute(statement, values).fetchone()[0])

    def past(self, *, since: datetime | None, until: datetime | None) -> Iterator[Past]:
        """All accesses that were going on in [since, until), as of the first call.

        The oldest first, but last those with records that the index has not got. Read a few
        thousand at a time, so that the log's writer is never kept waiting; while it runs, ask this
        reader for nothing else but names.
        """
        where, values = _decided(since, until)
        own = f"SELECT {_PAST} FROM main.access WHERE {where}"  # noqa: S608 - names and conditions of ours
        kept = (
            f"SELECT {_PAST} FROM kept.access AS a WHERE first > :after AND first <= :head"  # noqa: S608 - as above
            f" AND {where}"
            " AND NOT EXISTS (SELECT 1 FROM main.access AS o WHERE o.access = a.access)"
            " ORDER BY first LIMIT :most"
        )
        with self._reading():
            self._run("BEGIN")
            try:
                self._overlay()
                values |= {"head": self._head(), "after": -1, "most": _PAST_AT_ONCE}
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
            self._connection.executescript(
                "DELETE FROM main.access; UPDATE main.projected SET place = 0, entry = NULL;"
            )

    def _conditions(
        self,
        *,
        subject: str,
        report: str,
        tool: str,
        since: datetime | None,
        until: datetime | None,
        outcome: str,
    ) -> tuple[str, dict[str, object]]:
        where, values = _between(since, until)
        if outcome != "opened":
            where.append("outcome <> 'opened'")
        if subject:
            ids = (subject, *self.subjects(subject))
            where.append("subject IN (SELECT value FROM json_each(:subjects))")
            values["subjects"] = msgspec.json.encode(ids).decode()
        if report.endswith("/*"):
            where.append("report >= :report AND report < :after")  # `0` is the character after `/`
            values |= {"report": report[:-1], "after": report[:-2] + "0"}
        elif report:
            where.append("report = :report")
            values["report"] = report
        if tool:
            where.append("tool IN (:tool, 'tool:' || :tool)")
            values["tool"] = tool
        if outcome:
            values["outcome"] = outcome
            if outcome in ("permit", "deny"):
                where.append("decision = :outcome")
            elif outcome in OUTCOMES:
                where.append("outcome = :outcome")
            else:
                where.append("(reason = :outcome OR cause = :outcome)")
        return " AND ".join(where) or "1", values

    def _access(self, row: dict[str, object], logs: dict[int, str]) -> Access:
        given = {name: value for name, value in row.items() if value is not None}
        for name, decoder in _DOCUMENT.items():
            if name in given:
                given[name] = decoder.decode(str(given[name]))
        epoch, index = epoch_and_index(int(str(given.pop("first"))))
        given |= {"log": logs.get(epoch, ""), "index": index}
        given["principal"] = self.principal(str(given.get("subject", "")))
        return msgspec.convert(given, Access)


def _between(since: datetime | None, until: datetime | None) -> tuple[list[str], dict[str, object]]:
    """Conditions of accesses that were going on in [since, until), and their values."""
    where: list[str] = []
    values: dict[str, object] = {}
    if since is not None:
        where.append("at >= :since")
        values["since"] = timestamp(since.timestamp())
    if until is not None:
        where.append("started < :until")
        values["until"] = timestamp(until.timestamp())
    return where, values


def _decided(since: datetime | None, until: datetime | None) -> tuple[str, dict[str, object]]:
    where, values = _between(since, until)
    return " AND ".join(["decision <> ''", *where]), values
