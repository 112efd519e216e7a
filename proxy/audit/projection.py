"""The query projection: an index of accesses that follows the leaves, in a database of its own.

So it can never delay or fail a leaf. What it holds is said by `merging` (one row an access) and
`facets` (by which it is found, and counted); both work in SQL alone, outside the interpreter lock, and
on `main`, a database that is kept nowhere: what a batch of leaves changes is made there by the words
by which a reader merges what the index has not got, and then put into `kept`, the index.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Final

from proxy.audit import facets, merging
from proxy.audit.merging import overlay
from proxy.audit.store import Files, connect, failing_as_unavailable, identity, journal, read_only

VERSION: Final = 11

_SCHEMA: Final = f"""
{merging.SCHEMA} {facets.SCHEMA.format(schema="main")}
CREATE TABLE main.projected (
  number INTEGER NOT NULL, -- of the last leaf that is in
  entry BLOB,              -- and that leaf: the index of another log is noticed
  gone INTEGER NOT NULL    -- `gone` of the leaves' file: what was taken away since is still in
) STRICT;
INSERT INTO main.projected VALUES (0, NULL, 0);
"""
_TABLES: Final = ("access", "shape", "form", "posting", "hour", "version", "tally")


def fits(connection: sqlite3.Connection, index: str) -> bool:
    """Whether the attached `index` was made from what the attached `leaves` hold, by this version."""
    (version,) = connection.execute(f"PRAGMA {index}.user_version").fetchone()
    return version == VERSION and _is_of(connection, index)


def _is_of(connection: sqlite3.Connection, index: str) -> bool:
    """Whether an index of this version was made from what the leaves hold now."""
    row = connection.execute(
        f"SELECT p.gone = t.gone AND (p.number = 0 OR p.entry IS l.entry) FROM {index}.projected AS p"
        " JOIN leaves.this AS t LEFT JOIN leaves.leaf AS l ON l.number = p.number"
    ).fetchone()
    return row is not None and bool(row[0])


class Projection:
    """The index of one log, kept up by one thread at a time."""

    def __init__(self, files: Files) -> None:
        """Open the index, or make its file anew where that is damaged, or of another version.

        What an index of this version holds of other leaves goes with the first step, within the file: another
        process may be following in it.
        """
        self._files = files
        with failing_as_unavailable(files.index):
            try:
                self._connection = self._open()
                (version,) = self._connection.execute("PRAGMA kept.user_version").fetchone()
            except sqlite3.DatabaseError as error:
                if isinstance(
                    error, sqlite3.OperationalError
                ):  # locked or full: not the index's fault
                    raise
                version = -1
            if version != VERSION:
                self.discard()
                self._connection = self._open()
            self._file = identity(files.index)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            "", timeout=1.0, isolation_level=None, check_same_thread=False, uri=True
        )
        self._connection = connection
        with contextlib.closing(connect(self._files.index, busy_seconds=1.0)) as index:
            journal(index, "NORMAL")
            (tables,) = index.execute("SELECT count(*) FROM main.sqlite_schema").fetchone()
            if tables == 0:
                index.executescript(
                    f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA main.user_version = {VERSION}; COMMIT;"
                )
        connection.execute("ATTACH ? AS kept", (str(self._files.index),))
        # Lists are added to at their many ends: SQLite's own 2 MB cost a third of the rate.
        connection.execute("PRAGMA kept.cache_size = -16000")  # KiB
        # A power cut may take the newest rows; the leaves give them again.
        connection.execute("PRAGMA kept.synchronous = NORMAL")
        connection.execute("ATTACH ? AS leaves", (read_only(self._files.leaves),))
        connection.executescript(merging.SCHEMA + facets.SCRATCH)
        return connection

    @property
    def stands(self) -> bool:
        """Whether the file at its path is the one that is written to."""
        return identity(self._files.index) == self._file

    def discard(self) -> None:
        """Close it and delete its files: the next to open it makes it anew."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            self._files.index.with_name(self._files.index.name + suffix).unlink(missing_ok=True)

    def step(self, most: int = 2000) -> tuple[int, int]:
        """Take in up to `most` leaves in one transaction.

        Returns how many there were, and the number of the last leaf that is in. Raises
        sqlite3.Error; then nothing has changed.
        """
        run = self._connection.execute
        emptied = False
        run("BEGIN IMMEDIATE")
        try:
            if not _is_of(self._connection, "kept"):
                self._empty()
                emptied = True
            (after,) = run("SELECT number FROM kept.projected").fetchone()
            upto, count = run(
                "SELECT max(number), count(*) FROM"
                " (SELECT number FROM leaves.leaf WHERE number > ? ORDER BY number LIMIT ?)",
                (after, most),
            ).fetchone()
            if count:
                overlay(self._connection, after, upto)
                facets.fold(self._connection)
                run(
                    "UPDATE kept.projected SET number = :upto,"
                    " entry = (SELECT entry FROM leaves.leaf WHERE number = :upto)",
                    {"upto": upto},
                )
            run("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise
        if emptied:
            self._overwrite()
        return count, upto or after

    def catch_up(self) -> None:
        """Take in all leaves that are durable now."""
        while self.step()[0]:
            pass

    @property
    def number(self) -> int:
        """Of the last leaf that is in."""
        (number,) = self._connection.execute("SELECT number FROM kept.projected").fetchone()
        return int(number)

    @property
    def head(self) -> int:
        """Of the newest leaf that there is."""
        (head,) = self._connection.execute("SELECT max(number) FROM leaves.leaf").fetchone()
        return int(head or 0)

    def clear(self) -> None:
        """Forget all rows; what follows makes them again from the leaves."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._empty()
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise
        self._overwrite()

    def _empty(self) -> None:
        """Within a transaction: what it held is overwritten, for it may be of what was taken away."""
        run = self._connection.execute
        run("PRAGMA kept.secure_delete = ON")
        for table in _TABLES:
            run(f"DELETE FROM kept.{table}")
        run(
            "UPDATE kept.projected SET number = 0, entry = NULL, gone = (SELECT gone FROM leaves.this)"
        )
        run("PRAGMA kept.secure_delete = OFF")

    def _overwrite(self) -> None:
        """Have nothing of it in the write-ahead log either, unless somebody reads just now."""
        with contextlib.suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA kept.wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def standing(files: Files) -> tuple[int, int]:
    """The numbers of the newest leaf, and of the last one that is in the index; for who does not keep it.

    Raises sqlite3.Error.
    """
    with contextlib.closing(sqlite3.connect("", isolation_level=None, uri=True)) as connection:
        run = connection.execute
        run("ATTACH ? AS leaves", (read_only(files.leaves),))
        (head,) = run("SELECT coalesce(max(number), 0) FROM leaves.leaf").fetchone()
        if not files.index.is_file():
            return int(head), 0
        run("ATTACH ? AS kept", (read_only(files.index),))
        (tables,) = run("SELECT count(*) FROM kept.sqlite_schema").fetchone()
        if not tables or not fits(connection, "kept"):
            return int(head), 0
        (number,) = run("SELECT number FROM kept.projected").fetchone()
        return int(head), int(number)


def rebuild(files: Files) -> None:
    """Make the index of a log again from its leaves; a server may write to both meanwhile."""
    with failing_as_unavailable(files.index):
        projection = Projection(files)
        try:
            projection.clear()
            projection.catch_up()
        finally:
            projection.close()


def differing(files: Files) -> str | None:
    """The id of an access of which the index says otherwise than the leaves; None where it says the same.

    '' where there is no index, or one of another log or version: queries do without it. Where it is what
    is counted of all, the day or hour. Raises sqlite3.Error.
    """
    if not files.index.is_file():
        return ""
    with contextlib.closing(sqlite3.connect("", isolation_level=None, uri=True)) as connection:
        run = connection.execute
        run("ATTACH ? AS leaves", (read_only(files.leaves),))
        run("ATTACH ? AS kept", (read_only(files.index),))
        connection.executescript(merging.SCHEMA)
        run("BEGIN")  # one state of both: nothing is pruned between these looks
        (tables,) = run("SELECT count(*) FROM kept.sqlite_schema").fetchone()
        if not tables or not fits(connection, "kept"):
            return ""
        (upto,) = run("SELECT number FROM kept.projected").fetchone()
        merging.apply(connection, 0, upto)
        columns = merging.COLUMNS
        for one, other in (("main", "kept"), ("kept", "main")):
            row = run(
                f"SELECT access FROM (SELECT {columns} FROM {one}.access"
                f" EXCEPT SELECT {columns} FROM {other}.access) LIMIT 1"
            ).fetchone()
            if row is not None:
                return str(row[0])
        return facets.astray(connection)
