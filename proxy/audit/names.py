"""The directory of subjects: opaque id -> principal. Apart from the leaves, and erasable.

Leaves know a subject by a keyed HMAC alone, so a person's name can be erased (GDPR Art. 17) without
a change to the log. What was erased is overwritten (`secure_delete`), in the write-ahead log too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from proxy.audit.store import Files, connect, failing_as_unavailable, journal, read_only


class Names:
    """The directory at `path`, open for writing."""

    def __init__(self, path: Path) -> None:
        """Open or make it. Raises LogUnavailable."""
        self._path = path
        with failing_as_unavailable(path):
            self._connection = connect(path, busy_seconds=1.0)
            journal(self._connection, "FULL")
            self._connection.execute("PRAGMA secure_delete = ON")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS name"
                " (subject TEXT PRIMARY KEY, principal TEXT NOT NULL) STRICT, WITHOUT ROWID"
            )
            self._connection.execute(
                # How far it has what other machines have seen (postgres/mirror.py).
                "CREATE TABLE IF NOT EXISTS told (number INTEGER NOT NULL) STRICT"
            )
            self._connection.execute(
                "CREATE INDEX IF NOT EXISTS name_by_principal ON name (principal)"
            )

    def learn(self, names: Iterable[tuple[str, str]]) -> None:
        """Add pairs of subject and principal. Raises sqlite3.Error; then none is added."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany("INSERT OR IGNORE INTO name VALUES (?, ?)", names)
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise

    @property
    def told(self) -> int:
        """The number of the newest that it was told of. Raises sqlite3.Error."""
        (number,) = self._connection.execute("SELECT coalesce(max(number), 0) FROM told").fetchone()
        return int(number)

    def be_told(self, names: Sequence[tuple[str, str]], number: int) -> None:
        """Take what others have learnt, or erased (''), up to that number. Raises sqlite3.Error."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            for subject, principal in names:
                if principal:
                    run("INSERT OR REPLACE INTO name VALUES (?, ?)", (subject, principal))
                else:
                    run("DELETE FROM name WHERE subject = ?", (subject,))
            run("DELETE FROM told")
            run("INSERT INTO told VALUES (?)", (number,))
            run("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise
        if not all(principal for _, principal in names):
            run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def erase(self, principal: str) -> int:
        """Forget all ids of `principal`; how many there were. Raises LogUnavailable."""
        with failing_as_unavailable(self._path):
            gone = self._connection.execute("DELETE FROM name WHERE principal = ?", (principal,))
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return gone.rowcount

    def close(self) -> None:
        """Close it."""
        self._connection.close()


def known(files: Files) -> Mapping[str, set[str]]:
    """Principal -> its opaque ids, of all that are in the directory. Raises LogUnavailable."""
    found: dict[str, set[str]] = {}
    if not files.names.is_file():
        return found
    with (
        failing_as_unavailable(files.names),
        closing(sqlite3.connect(read_only(files.names), uri=True, timeout=5.0)) as connection,
    ):
        (made,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        rows = connection.execute("SELECT principal, subject FROM name") if made else ()
        for principal, subject in rows:
            found.setdefault(principal, set()).add(subject)
    return found


def subjects_of(connection: sqlite3.Connection, principal: str) -> tuple[str, ...]:
    """The opaque ids of `principal` in the attached directory `names`."""
    rows = connection.execute("SELECT subject FROM names.name WHERE principal = ?", (principal,))
    return tuple(subject for (subject,) in rows)


def principal_of(connection: sqlite3.Connection, subject: str) -> str:
    """The principal that the attached directory `names` knows for `subject`, or ''."""
    row = connection.execute(
        "SELECT principal FROM names.name WHERE subject = ?", (subject,)
    ).fetchone()
    return row[0] if row else ""
