"""The one thread that writes leaves: group commit, and what it does when it cannot.

Its life, batch by batch:

    1. take all entries that wait (there is no commit for each: one for all of them)
    2. append them in one statement, which SQLite commits and syncs (WAL, synchronous=FULL)
    3. look that the files are still where they were opened
    4. hand over the index of the first, once for the batch

One statement, since each step of SQLite gives up the interpreter lock and must win it back from a
busy event loop. A fault of the moment (locked, full) fails the batch, and the next one tries again.
After any other the log is sealed until the next start: an fsync that failed is never retried, for
the kernel may have dropped the pages and then reports success.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Final

from proxy.access import Receipt, timestamp
from proxy.audit.recover import ENDS, OPENS, Epoch
from proxy.audit.store import Files, explain, identity, place_of, primary_code

_MOMENTARY: Final = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CANTOPEN,
})  # fmt: skip
"""Faults after which nothing was written and a later commit may succeed."""

_MOST: Final = 4096
_MOST_BYTES: Final = 8 << 20
"""Entries and bytes of one commit."""

_IDLE: Final = 1.0
"""Seconds without an entry after which the writer looks after itself."""

_CHECKPOINT: Final = 16 << 20
_RESTART: Final = 256 << 20
"""Bytes of write-ahead log after which it is copied back, and at which readers are waited for."""

_PAGE: Final = 4096

# ?1 place of the first · ?2 all entries, end to end · ?3 [start << 16 | length, …] · ?4 epoch.
# A log that another process has sealed takes nothing: zero rows.
_APPEND: Final = """
INSERT INTO leaf (place, entry)
SELECT ?1 + key, substr(?2, (value >> 16) + 1, value & 65535) FROM json_each(?3)
WHERE EXISTS (SELECT 1 FROM log WHERE epoch = ?4 AND sealed IS NULL)
"""


class Waiting:
    """An entry that waits to be durable, and the future that waits with it."""

    __slots__ = ("access", "entry", "future", "since", "step")

    def __init__(
        self, access: str, step: str, entry: bytes, future: asyncio.Future[Receipt], since: float
    ) -> None:
        """`since` is the loop's time."""
        self.access = access
        self.step = step
        self.entry = entry
        self.future = future
        self.since = since


Deliver = Callable[[list[Waiting], int, str], None]
"""(batch, index of its first entry, "") once it is durable; (batch, 0, why not) where it is not."""


class Writer:
    """Owns the connection to the leaves; `put` from any thread, all else happens in its own."""

    def __init__(
        self, connection: sqlite3.Connection, files: Files, epoch: Epoch, *, deliver: Deliver
    ) -> None:
        """Take over `connection`, on which `epoch` was just begun; `start` begins to write."""
        self.size = epoch.size
        self.failure = ""
        self.sealed = False
        self._connection = connection
        self._files = files
        self._epoch = epoch
        self._deliver = deliver
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._stopping = False
        self._open: dict[str, int] = {}
        self._unchecked = 0
        self._identities = self._look()
        self._thread = threading.Thread(target=self._run, name="access-log-writer", daemon=True)
        self.start = self._thread.start
        self.put = self._queue.put

    def stop(self) -> None:
        """Write what waits, and seal the log if no access is open."""
        self._queue.put(None)
        self._thread.join()

    def close(self) -> None:
        """After `stop`: close the connection, this process's last, so that SQLite tidies up."""
        self._attempt(self._connection.close)

    def _run(self) -> None:
        while not self._stopping:
            batch = self._gather()
            if batch:
                self._write(batch)
            elif not self._stopping:
                self._look_after()
        self._finish()

    def _gather(self) -> list[Waiting]:
        """All that waits, within bounds; empty after an idle second or a call to stop."""
        batch: list[Waiting] = []
        size = 0
        try:
            item = self._queue.get(timeout=_IDLE)
            while item is not None:
                batch.append(item)
                size += len(item.entry)
                if len(batch) == _MOST or size >= _MOST_BYTES:
                    return batch
                item = self._queue.get_nowait()
        except queue.Empty:
            return batch
        self._stopping = True
        return batch

    def _write(self, batch: list[Waiting]) -> None:
        """PROMISE 2 (no record, no data): an index is handed over only for what is durable."""
        first = self.size
        if not self.sealed:
            try:
                self._commit(batch)
            except Exception as error:  # noqa: BLE001 - a silent death would hang them all
                self._fail(error)
        if self.failure:
            self._deliver(batch, 0, self.failure)
            return
        self.size += len(batch)
        for index, item in enumerate(batch, first):
            if item.step in OPENS:
                self._open.setdefault(item.access, index)
            elif item.step in ENDS:
                self._open.pop(item.access, None)
        self._deliver(batch, first, "")
        if self._unchecked >= _CHECKPOINT:
            self._attempt(self._checkpoint)

    def _commit(self, batch: list[Waiting]) -> None:
        places: list[int] = []
        start = 0
        for item in batch:
            places.append(start << 16 | len(item.entry))
            start += len(item.entry)
        blob = b"".join([item.entry for item in batch])
        number = self._epoch.number
        parameters = (place_of(number, self.size), blob, str(places), number)
        written = self._connection.execute(_APPEND, parameters).rowcount
        if written != len(batch):
            raise _LostError("another process has opened the log")
        self._stay()
        self.failure = ""
        self._unchecked += start + 2 * _PAGE

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - as in `_write`
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, sqlite3.Error):
            self.failure = explain(error, self._files.leaves)
            self.sealed = self.sealed or primary_code(error) not in _MOMENTARY
        else:
            self.failure = str(error) if isinstance(error, _LostError) else type(error).__name__
            self.sealed = True

    def _look(self) -> list[tuple[int, int]]:
        return [identity(self._files.leaves), identity(self._files.write_ahead)]

    def _stay(self) -> None:
        """Raise unless the files at our paths are those that we write to."""
        if self._look() != self._identities:
            raise _LostError(f"{self._files.leaves} was removed or replaced")

    def _look_after(self) -> None:
        """What an idle writer does: notice lost files, and try whether a fault has passed."""
        if self.sealed:
            return
        self._attempt(self._stay)
        if self.failure and not self.sealed:
            self._attempt(self._settle)

    def _settle(self) -> None:
        """Note where the next start begins to look for open accesses; prove that writes work."""
        settled = next(iter(self._open.values()), self.size)
        self._connection.execute(
            "UPDATE log SET settled = ? WHERE epoch = ?", (settled, self._epoch.number)
        )
        self.failure = ""

    def _checkpoint(self) -> None:
        """Copy the write-ahead log back to the database; not in a commit, so that faults show."""
        self._unchecked = 0
        self._settle()
        _, pages, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages * _PAGE > _RESTART:
            (busy,) = self._connection.execute("PRAGMA busy_timeout").fetchone()
            self._connection.execute("PRAGMA busy_timeout = 100")
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            self._connection.execute(f"PRAGMA busy_timeout = {busy}")

    def _finish(self) -> None:
        while not self._queue.empty():  # what was put after the call to stop
            late = self._queue.get()
            if late is not None:
                self._deliver([late], 0, "the access log is closed")
        if not self.sealed:
            self._attempt(self._seal)
        self.sealed = True
        self.failure = self.failure or "the access log is closed"

    def _seal(self) -> None:
        """Close the log for good, unless an access is open: that is for the next start to say."""
        self._settle()
        if not self._open:
            self._connection.execute(
                "UPDATE log SET sealed = ? WHERE epoch = ?",
                (timestamp(time.time()), self._epoch.number),
            )


class _LostError(Exception):
    """The log under the writer is not its own any more; the text may be shown to an operator."""
