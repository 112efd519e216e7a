"""A log in the SQLite file of the access log, beside those of other processes.

All that writing needs to know of the file is here: to begin a log, to add entries durably, to say how far
its accesses are settled, and to seal it. The writer (writer.py) calls all but `begin` from its own thread.

Each step of SQLite gives up the interpreter lock and must win it back from a busy event loop: so entries
are added by one statement, which SQLite commits and syncs (WAL, synchronous=FULL).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final, Self

from proxy.audit import attachments
from proxy.audit.ledger import Epoch, NotWritten
from proxy.audit.locks import Held, Locks
from proxy.audit.recover import again, begin
from proxy.audit.store import (
    HERE,
    Files,
    authority_of,
    connect,
    create,
    explain,
    failing_as_unavailable,
    identity,
    journal,
    place_of,
    primary_code,
)
from proxy.errors import LogUnavailable
from proxy.evidence.layout import Attachment
from proxy.keys import Keyring

_MOMENTARY: Final = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CANTOPEN,
})  # fmt: skip
"""Faults after which nothing was written and a later commit may succeed."""

_CHECKPOINT: Final = 16 << 20
_RESTART: Final = 256 << 20
"""Bytes of write-ahead log after which it is copied back, and at which readers are waited for."""
_PAGE: Final = 4096

# ?1 place of the first · ?2 all entries, end to end · ?3 [start << 16 | length, …] · ?4 epoch.
# A log that another process has sealed takes nothing: zero rows. Numbers go on from the newest leaf's.
_APPEND: Final = """
INSERT INTO leaf (place, entry)
SELECT ?1 + key, substr(?2, (value >> 16) + 1, value & 65535) FROM json_each(?3)
WHERE EXISTS (SELECT 1 FROM log WHERE epoch = ?4 AND sealed IS NULL)
"""


class Embedded:
    """One log, open for writing; not for two threads at once."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        files: Files,
        locks: Locks,
        epoch: Epoch,
        lock: Held,
    ) -> None:
        """Use `Embedded.begin`."""
        self.epoch = epoch
        self.size = epoch.size
        """How many entries it has."""
        self.head = epoch.head
        """The number of the newest of them, among those of all logs."""
        self._connection = connection
        self._files = files
        self._lock = lock
        self._turn = locks.turn()
        self._unchecked = 0
        self._identities = self._look()

    @classmethod
    def begin(
        cls,
        files: Files,
        locks: Locks,
        *,
        origin: str,
        at: str,
        keyring: Keyring,
        patience: float,
        by_hand: bool = False,
    ) -> Self:
        """Begin a log, in a file that is made where there is none; a write waits `patience` seconds.

        One that is written `by_hand` is gone on with, where there is one. Raises LogUnavailable.
        """
        with contextlib.ExitStack() as undo, failing_as_unavailable(files.leaves):
            connection = connect(files.leaves, busy_seconds=patience)
            undo.callback(connection.close)
            turn = undo.enter_context(contextlib.closing(locks.turn()))
            with turn.taken():
                create(connection, files)
                if authority_of(connection) != HERE:
                    raise LogUnavailable(
                        f"{files.leaves} is a copy of an access log in a database: name that in the"
                        " settings (`database`), or another file"
                    )
                journal(connection, "FULL")
                connection.execute("PRAGMA wal_autocheckpoint = 0")  # the ledger's own business
                found = again(connection, locks, at=at, keyring=keyring) if by_hand else None
                epoch, lock = found or begin(
                    connection, locks, origin=origin, at=at, keyring=keyring, by_hand=by_hand
                )
            undo.callback(lock.release)
            made = cls(connection, files, locks, epoch, lock)
            undo.pop_all()
            turn.close()
        return made

    def append(self, entries: Sequence[bytes], named: Sequence[Attachment] = ()) -> int:
        """Make entries durable, and the attachments that they name, all or none; the index of the first.

        Raises NotWritten.
        """
        places: list[int] = []
        start = 0
        for entry in entries:
            places.append(start << 16 | len(entry))
            start += len(entry)
        number = self.epoch.number
        first = self.size
        values = (place_of(number, first), b"".join(entries), str(places), number)
        with self._writing(), attachments.beside(self._connection, named):
            cursor = self._connection.execute(_APPEND, values)
            if cursor.rowcount != len(entries):
                raise NotWritten("another process has sealed the log", passing=False)
        self.stay()
        self.head = cursor.lastrowid or self.head
        self.size += len(entries)
        self._unchecked += start + sum([len(each.content) for each in named]) + 2 * _PAGE
        return first

    def settle(self, index: int) -> None:
        """Note that the accesses that began before that entry have all ended. Raises NotWritten."""
        with self._writing():
            self._connection.execute(
                "UPDATE log SET settled = ? WHERE epoch = ?", (index, self.epoch.number)
            )

    def seal(self, at: str) -> None:
        """Close it for good. Raises NotWritten."""
        with self._writing():
            self._connection.execute(
                "UPDATE log SET sealed = ? WHERE epoch = ? AND sealed IS NULL",
                (at, self.epoch.number),
            )

    def stay(self) -> None:
        """Raise NotWritten unless the files at our paths are those that we write to."""
        if self._look() != self._identities:
            raise NotWritten(f"{self._files.leaves} was removed or replaced", passing=False)

    @property
    def untidy(self) -> bool:
        """Whether so much was written that it is time to `tidy`."""
        return self._unchecked >= _CHECKPOINT

    def tidy(self) -> None:
        """Copy the write-ahead log back to the database; not in a commit, so that faults show."""
        self._unchecked = 0
        run = self._connection.execute
        with self._failing():
            _, pages, _ = run("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages * _PAGE > _RESTART:
            with self._writing():
                (busy,) = run("PRAGMA busy_timeout").fetchone()
                run("PRAGMA busy_timeout = 100")
                run("PRAGMA wal_checkpoint(RESTART)").fetchone()
                run(f"PRAGMA busy_timeout = {busy}")

    def close(self) -> None:
        """Close it, the last of what this process has open, so that SQLite tidies up."""
        try:
            with self._failing():
                self._connection.close()
        finally:
            self._turn.close()
            self._lock.release(forget=not self.epoch.by_hand)

    def _look(self) -> list[tuple[int, int]]:
        return [identity(self._files.leaves), identity(self._files.write_ahead)]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._failing(), self._turn.taken():
            yield

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn SQLite's faults into NotWritten."""
        try:
            yield
        except sqlite3.Error as error:
            passing = primary_code(error) in _MOMENTARY
            raise NotWritten(explain(error, self._files.leaves), passing=passing) from error
