"""What proves the log, as static files: each log's entries, tree and signed root, while it grows.

    access-tiles/registry/…        the log of logs (registry.py), itself such a log
    access-tiles/3/…               log 3: checkpoint, tile/0/…, tile/entries/… (tiles.py)
    access-tiles/attachments/…     what their records name by its digest (attached.py)

The order of a round, for each log: attachments, entries and hashes, each file whole or not at all and
synced; their folders synced; the checkpoint last. So whoever reads a checkpoint finds all that it
covers. What is published is never taken back: a log whose leaves are fewer than its own checkpoint says,
or others, is left alone, loudly.

Folders with entries or attachments are private (0700): they need the permission to read the log. The
rest may be handed to anybody, and tells how many events there were when.
"""

from __future__ import annotations

import base64
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Final

from proxy.audit import registry
from proxy.audit.attached import Attached, digests_of
from proxy.audit.checkpoint import NotACheckpoint, Note
from proxy.audit.locks import Locks, Turn
from proxy.audit.merkle import leaf_hashes
from proxy.audit.published import PUBLIC_FOLDER, Batch, Contradicted, Published
from proxy.audit.registry import Sealed, Signed, folder_of
from proxy.audit.store import Files, place_of
from proxy.audit.tiles import LONGEST, WIDTH, Folder, Missing
from proxy.audit.unpublishing import unpublish_anew
from proxy.errors import KeyringError, LogUnavailable
from proxy.keys import Keyring

_AT_ONCE: Final = 16 * WIDTH
"""Entries that are read and hashed together, where they are not long."""
_MOST_BYTES: Final = WIDTH * LONGEST
"""PROMISE 4 (bounded memory): those of one file, however long they are."""


class Publisher:
    """Publishes all logs of one access log, and says in the registry how the ended ones ended."""

    def __init__(
        self,
        files: Files,
        keyring: Callable[[], Keyring],
        *,
        epoch: int,
        finish: Callable[[int, Sealed], None] | None = None,
    ) -> None:
        """For the process that writes log `epoch`. `keyring` knows the keys of all logs that are open.

        `finish` has the registry say how a log ended, where the files are a copy of it.
        """
        self.covered = 0
        """How many entries of log `epoch` are published."""
        self.done = False
        """Whether that log is published to its end."""
        self._files = files
        self._keyring = keyring
        self._epoch = epoch
        self._finish_there = finish
        self._published: dict[int, Published] = {}
        self._attached = Attached(files.tiles)
        self._lacking: list[str] = []
        """What records name and the leaves' file does not hold, as found in this round."""
        self._locks = Locks(files.locks)
        self._turn: Turn | None = None
        self._connection: sqlite3.Connection | None = None
        self._seen = -1

    @property
    def news(self) -> bool:
        """Whether anybody has written to the leaves' file since the last call."""
        (version,) = self._open().execute("PRAGMA data_version").fetchone()
        before, self._seen = self._seen, version
        return bool(version != before)

    def look(self) -> None:
        """See how far another process has published log `epoch`. Raises sqlite3.Error or OSError."""
        run = self._open().execute
        sealed, final = run(
            "SELECT sealed, final FROM log WHERE epoch = ?", (self._epoch,)
        ).fetchone()
        size = registry.size_of(self._open(), self._epoch)
        with contextlib.suppress(Missing, NotACheckpoint, FileNotFoundError):
            data = Folder(folder_of(self._files, self._epoch)).checkpoint()
            self.covered = Note.parse(data).checkpoint.size
        self.done = final is not None if sealed is not None else self.covered >= size

    def round(self) -> str:
        """Publish what is new; returns what went wrong, '' if nothing did.

        Raises sqlite3.Error, or ValueError where the table of logs is not ours; what is a matter of one log
        leaves the others alone.
        """
        faults = []
        try:
            unpublish_anew(self._files, self._open())  # a prune broke off, or was another machine's
        except OSError as error:
            faults.append(str(error))
        logs = registry.logs(self._open(), "final IS NULL")
        for log in [*logs, *logs[:1]]:  # the registry again: of what became final just now
            try:
                self._publish(log)
            except (OSError, Contradicted, LogUnavailable) as error:
                self._published.pop(log.epoch, None)
                faults.append(str(error))
        faults += self._lacking
        self._lacking = []
        return "; ".join(dict.fromkeys(faults))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
        if self._turn is not None:
            self._turn.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._files.tiles.mkdir(mode=PUBLIC_FOLDER, exist_ok=True)
            self._connection = sqlite3.connect(
                self._files.leaves, timeout=5.0, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        return self._connection

    def _publish(self, log: Signed) -> None:
        own = self._published.get(log.epoch)
        if own is None:
            try:
                signer = log.signer(self._keyring(), registry.identity_of(self._open()))
            except KeyringError as error:
                raise Contradicted(f"log {log.name} cannot be signed: {error}") from None
            if signer.public != log.key.public:
                raise Contradicted(f"log {log.name} is not signed by a key of this keyring")
            own = Published(log, folder_of(self._files, log.epoch), signer.sign)
            self._hold(own)
            self._published[log.epoch] = own
        run = self._open().execute
        (sealed,) = run("SELECT sealed FROM log WHERE epoch = ?", (log.epoch,)).fetchone()
        size = registry.size_of(self._open(), log.epoch)
        if size < own.size:
            raise Contradicted(f"log {log.name} has {size} leaves, fewer than are published")
        if size > own.size:
            own.publish(self._attaching(log, self._new(log.epoch, own.size, size)))
        if log.epoch == self._epoch:
            self.covered = own.size
        if sealed is not None:
            self._finish(log, own, sealed)
            del self._published[log.epoch]

    def _hold(self, own: Published) -> None:
        """Hold what was published last against the leaves. Raises Contradicted where they are others.

        So nothing is added to what another history has published, of which a copy was put back.
        """
        size = registry.size_of(self._open(), own.log.epoch)
        if size < own.size:
            raise Contradicted(f"log {own.log.name} has {size} leaves, fewer than are published")
        if not own.size:
            return
        start = (own.size - 1) // WIDTH * WIDTH
        ours, *more = self._new(own.log.epoch, start, own.size)  # a file of them is there or gone
        same = own.last_hashes == ours.hashes if ours.entries is None else own.last == ours.entries
        if more or not same:
            raise Contradicted(f"log {own.log.name} has other leaves than are published")

    def _new(self, epoch: int, start: int, end: int) -> Iterator[Batch]:
        """The entries [start, end) of a log, some at a time. Raises Contradicted where one is missing."""
        table, column = registry.table_of(epoch)
        base = place_of(epoch, 0)
        run = self._open().execute
        while start < end:
            most = min(_AT_ONCE, end - start)
            rows = run(
                f"SELECT {column}, entry FROM {table} WHERE {column} >= ? AND {column} < ? ORDER BY {column}",  # noqa: S608 - two tables of ours
                (base + start, base + start + most),
            )
            entries: list[bytes] = []
            read = 0
            for at, (place, entry) in enumerate(rows, base + start):
                if at != place or read >= _MOST_BYTES:
                    break
                entries.append(entry)
                read += len(entry)
            rows.close()
            if entries:
                batch = Batch(hashes=leaf_hashes(entries), entries=entries)
            else:
                hashes = registry.hashes_of(self._open(), epoch, start)[:most]
                batch = Batch(hashes=hashes, entries=None)
            if not batch.hashes:
                raise Contradicted(f"log {epoch} lacks leaves from {start} on")
            yield batch
            start += len(batch.hashes)

    def _attaching(self, log: Signed, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same; once all are taken, what they name is published, durably.

        What is not there holds nothing else back: that it is missing is for verification to prove.
        """
        for batch in batches:
            for digest in digests_of(batch.entries or ()):
                if not self._attached.put(self._open(), digest):
                    self._lacking.append(f"log {log.name} lacks an attachment that it names")
            yield batch
        self._attached.sync()

    def _finish(self, log: Signed, own: Published, sealed: str) -> None:
        """Have the registry say how the log ended, in one transaction."""
        root = base64.b64encode(own.root).decode()
        entry = Sealed(at=sealed, log=log.name, root=root, size=own.size)
        if self._finish_there is not None:
            self._finish_there(log.epoch, entry)
        connection = self._open()
        if self._turn is None:
            self._turn = self._locks.turn()
        with self._turn.taken():
            connection.execute("BEGIN IMMEDIATE")
            try:
                done = connection.execute(
                    "UPDATE log SET final = ? WHERE epoch = ? AND final IS NULL",
                    (own.size, log.epoch),
                )
                # Unless whoever keeps beside us, since our lock was taken away, did it.
                if done.rowcount and self._finish_there is None:
                    registry.append(connection, [entry])
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise
