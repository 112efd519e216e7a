"""A copy of the access log's leaves, logs and registry in an SQLite file of this machine.

It has exactly the schema of a file that is itself the log (store.py), and says of itself that it is a copy,
so that nobody writes to it as if it were the log. It is a beginning of the database at any time: what is
copied in one transaction ends with some leaf, and holds no more of logs and registry than there was then.

What `log.final` says is no part of the copy: it says what this machine has published (publish.py).
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

from proxy.audit import registry
from proxy.audit.merkle import HASH_BYTES, leaf_hash
from proxy.audit.names import Names
from proxy.audit.postgres import comparing, schema
from proxy.audit.postgres.begin import append
from proxy.audit.postgres.comparing import GONE, LEAVES, LOGS, REGISTRY, gone_of, newest
from proxy.audit.postgres.database import Database
from proxy.audit.postgres.session import Lost, Refused, Session
from proxy.audit.store import (
    COPY,
    Files,
    authority_of,
    connect,
    create,
    failing_as_unavailable,
    journal,
)
from proxy.errors import LogUnavailable

_AT_ONCE: Final = 1_000
"""Leaves that are copied in one transaction; each is 64 KiB long at most."""
_PATIENCE: Final = 5.0

_ATTACHMENTS: Final = """
SELECT number, digest, content FROM counterfoil.attachment WHERE number > $1 ORDER BY number LIMIT 4
"""
_LEARN: Final = """
INSERT INTO counterfoil.name (subject, principal) SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (subject) DO UPDATE SET principal = excluded.principal, number = DEFAULT
WHERE name.principal = ''
"""
_FORGET: Final = "UPDATE counterfoil.name SET principal = '', number = DEFAULT WHERE principal = $1"
_NAMES: Final = """
SELECT subject, principal, number FROM counterfoil.name WHERE number > $1 ORDER BY number LIMIT $2
"""
T = TypeVar("T")


class Contradiction(LogUnavailable):
    """The database's history is another one than that of the copy."""


class Mirror:
    """The copy, brought up to date by whoever asks; for any thread, one after another."""

    def __init__(self, files: Files, database: Database) -> None:
        """`files.leaves` is made where there is none."""
        self.database = database
        self._files = files
        self._session = Session(database, patience=_PATIENCE)
        self._connection: sqlite3.Connection | None = None
        self._names: Names | None = None
        self._turn = threading.Lock()

    def catch_up(self) -> None:
        """Copy all that the database has by now.

        Raises LogUnavailable: it cannot be asked, or is another log than that of the file.
        """
        self._do(self._catch_up)

    def finish(self, epoch: int, entry: registry.Sealed) -> None:
        """Have the registry say how a log ended, once; and copy that. Raises LogUnavailable."""
        self._do(lambda: self._finish(epoch, entry))

    def learn(self, names: Iterable[tuple[str, str]]) -> None:
        """Have all machines know subjects by their principals. Raises LogUnavailable."""
        known = dict(names)
        self._do(lambda: self._say(_LEARN, [*known], [*known.values()]))

    def forget(self, principal: str) -> None:
        """Have all machines forget a principal's name. Raises LogUnavailable."""
        self._do(lambda: self._say(_FORGET, principal))

    def differing(self, watch: Callable[[int], None]) -> str:
        """What the database says otherwise than the copy, of what both have; '' where there is nothing.

        `watch` is told of how many leaves were looked at just now. Raises LogUnavailable.
        """
        return self._do(lambda: self._differing(watch))

    async def _differing(self, watch: Callable[[int], None]) -> str:
        while True:
            connection = await self._open()
            found = await comparing.differing(self._session, connection, watch)
            if not found or not await self._session.rows(GONE, gone_of(connection)):
                return found
            await self._catch_up()  # something was taken away meanwhile

    def close(self) -> None:
        """Close file and session."""
        with self._turn:
            self._session.close()
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._names is not None:
                self._names.close()
                self._names = None

    def _do(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with self._turn, failing_as_unavailable(self._files.leaves):
            try:
                return self._session.run(work())
            except (Lost, Refused) as error:
                raise LogUnavailable(str(error)) from None

    async def _open(self) -> sqlite3.Connection:
        await self._session.begin()
        if self._connection is None:
            identity = await schema.identity_of(self._session)
            connection = connect(self._files.leaves, busy_seconds=_PATIENCE)
            try:
                create(connection, self._files, copy_of=identity)
                if authority_of(connection) != COPY:
                    raise LogUnavailable(
                        f"{self._files.leaves} is an access log itself, and no copy of one in a database:"
                        " name another file"
                    )
                if registry.identity_of(connection) != identity:
                    raise Contradiction(
                        f"{self._files.leaves} is a copy of another access log than {self.database} holds"
                    )
                journal(connection, "NORMAL")  # what is lost of it is copied again
                connection.execute("PRAGMA secure_delete = ON")  # what goes is overwritten
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    async def _catch_up(self) -> None:
        connection = await self._open()
        (head,) = await self._session.row(schema.HEAD)
        while True:
            seen = gone_of(connection)
            after, last = newest(connection)
            leaves = await self._session.rows(LEAVES, after, _AT_ONCE + 1)
            # Asked after the leaves: what of them is not there any more is among these.
            if gone := await self._session.rows(GONE, seen):
                self._follow(connection, seen, gone)
                continue
            if after and (not leaves or (leaves[0][1], bytes(leaves[0][2])) != last):
                raise Contradiction(
                    f"{self.database} has another history than its copy {self._files.leaves}, which has"
                    f" {after} events"
                )
            leaves = leaves[1:] if after else leaves[:_AT_ONCE]
            await self._copy_attachments(connection)  # before the leaves that name them
            copied = await self._copy(connection, seen, after, leaves)
            if copied and (not leaves or leaves[-1][0] >= head):
                break
        await self._copy_names()

    async def _say(self, statement: str, *values: object) -> None:
        """Change names in the order of commits, by which they are copied."""
        await self._session.begin()
        async with self._session.transaction():
            await self._session.row(schema.TURN)
            await self._session.row(statement, *values)

    async def _copy_names(self) -> None:
        while True:
            after = 0 if self._names is None else self._names.told
            if self._names is None and self._files.names.is_file():
                self._names = Names(self._files.names)
                continue
            names = await self._session.rows(_NAMES, after, _AT_ONCE)
            if not names:
                break
            if self._names is None:
                self._names = Names(self._files.names)
            self._names.be_told([(each[0], each[1]) for each in names], names[-1][2])

    def _follow(self, connection: sqlite3.Connection, seen: int, gone: list[Any]) -> None:
        """Take away what was taken away there, once it is seen that it is what we have."""
        run = connection.execute
        run("BEGIN IMMEDIATE")
        try:
            if gone_of(connection) == seen:  # else another process has done it meanwhile
                for _, place, hashes, attachment in gone:
                    if place is None:
                        run("DELETE FROM attachment WHERE rowid = ?", (attachment,))
                    else:
                        self._follow_pruned(connection, place, bytes(hashes))
                run("UPDATE this SET gone = ?", (gone[-1][0],))
            run("COMMIT")
        except BaseException:
            connection.rollback()
            raise
        with contextlib.suppress(sqlite3.OperationalError):  # somebody reads just now
            run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _follow_pruned(self, connection: sqlite3.Connection, place: int, hashes: bytes) -> None:
        run = connection.execute
        end = place + len(hashes) // HASH_BYTES
        ours = run(
            "SELECT place, entry FROM leaf WHERE place >= ? AND place < ?", (place, end)
        ).fetchall()
        for at, entry in ours:
            start = (at - place) * HASH_BYTES
            if leaf_hash(entry) != hashes[start : start + HASH_BYTES]:
                raise Contradiction(
                    f"{self.database} has pruned other entries than its copy {self._files.leaves} has"
                )
        run("INSERT INTO pruned (place, hashes) VALUES (?, ?)", (place, hashes))
        run("DELETE FROM leaf WHERE place >= ? AND place < ?", (place, end))

    async def _copy(
        self, connection: sqlite3.Connection, seen: int, after: int, leaves: list[Any]
    ) -> bool:
        """In one transaction: a beginning of what there is becomes a longer one.

        False where another process has taken something away meanwhile: it may be of these.
        """
        upto = leaves[-1][0] if leaves else after
        (known,) = connection.execute("SELECT coalesce(max(epoch), -1) FROM log").fetchone()
        unsealed = [
            epoch for (epoch,) in connection.execute("SELECT epoch FROM log WHERE sealed IS NULL")
        ]
        (registered,) = connection.execute("SELECT count(*) FROM registry").fetchone()
        logs = await self._session.rows(LOGS, upto, known, unsealed)
        entries = await self._session.rows(REGISTRY, registered, upto)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if gone_of(connection) != seen:
                connection.rollback()
                return False
            # Another process may have copied the same meanwhile.
            connection.executemany(
                "INSERT INTO log (epoch, name, opened, key, key_id, sealed) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (epoch) DO UPDATE SET sealed = coalesce(sealed, excluded.sealed)",
                map(tuple, logs),
            )
            connection.executemany(
                "INSERT OR IGNORE INTO registry VALUES (?, ?)", map(tuple, entries)
            )
            (there,) = connection.execute("SELECT coalesce(max(number), 0) FROM leaf").fetchone()
            connection.executemany(
                "INSERT INTO leaf (number, place, entry) VALUES (?, ?, ?)",
                (tuple(leaf) for leaf in leaves if leaf[0] > there),
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
        return True

    async def _copy_attachments(self, connection: sqlite3.Connection) -> None:
        """All that there are by now; in the copy, a row has the number that it has there."""
        while True:
            (after,) = connection.execute(
                "SELECT coalesce(max(rowid), 0) FROM attachment"
            ).fetchone()
            rows = await self._session.rows(_ATTACHMENTS, after)
            if not rows:
                break
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(
                    # In place of an earlier one of that content, which was taken away there meanwhile.
                    "INSERT OR REPLACE INTO attachment (rowid, digest, content) VALUES (?, ?, ?)",
                    map(tuple, rows),
                )
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    async def _finish(self, epoch: int, entry: registry.Sealed) -> None:
        await self._open()
        session = self._session
        async with session.transaction():
            await session.row(schema.TURN)
            (head,) = await session.row(schema.HEAD)
            done = await session.row(
                "UPDATE counterfoil.log SET final = $2"
                " WHERE epoch = $1 AND sealed IS NOT NULL AND final IS NULL RETURNING epoch",
                epoch,
                entry.size,
            )
            if done is not None:
                await append(session, [entry], head=head)
            else:  # another machine did
                row = await session.row("SELECT final FROM counterfoil.log WHERE epoch = $1", epoch)
                if row is None or row[0] != entry.size:
                    raise Contradiction(f"{self.database} has another end of log {entry.log}")
        await self._catch_up()
