"""Old entries go: their bytes are removed from the log and from the published files, their hashes stay.

So every checkpoint, and the proof of every entry that remains, is as good as before. The steps:

    1. plan       which files of entries hold nothing but what is old and on no hold
    2. (caller)   put on record what goes, before anything does
    3. prune      in the log: hashes in, entries out, in one transaction for some files; then the attachments
                  that nothing names any more, and the files
    4. (caller)   make the index again, from what is left

A file of entries (256 of them) goes as a whole or stays: one that holds a younger record, one that is held,
or a record of a hold or of pruning, stays with all that is in it. So do logs that are not ended and
published to their end: the log of a running server ends with it.

Where the file is a copy of a database's log, what goes is taken away there, and the copy follows, as those
of other machines do.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from proxy.access import NO_EVENT
from proxy.audit import attachments
from proxy.audit.holds import Hold
from proxy.audit.locks import Locks
from proxy.audit.merkle import leaf_hashes
from proxy.audit.postgres.database import Database
from proxy.audit.shared import mirror_of, retaining
from proxy.audit.store import (
    COPY,
    HERE,
    Files,
    authority_of,
    connect,
    failing_as_unavailable,
    journal,
    place_of,
)
from proxy.audit.tiles import WIDTH
from proxy.audit.unpublishing import unpublish
from proxy.errors import LogUnavailable

if TYPE_CHECKING:
    from proxy.audit.postgres.retention import Retention

_AT_ONCE: Final = 32
"""Files of entries in one transaction: the writer of a running server waits for no more."""
_KEPT: Final = frozenset({"hold", "prune"})
"""Steps of records that never go."""


class _Head(msgspec.Struct):
    at: str
    step: str
    subject: str = ""
    report: str = ""


_HEAD: Final = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """Entries that go: those of one file."""

    log: str
    epoch: int
    first: int
    count: int

    @property
    def place(self) -> int:
        """Of the first of them."""
        return place_of(self.epoch, self.first)


@contextlib.contextmanager
def alone(files: Files, database: Database | None = None) -> Iterator[Retention | None]:
    """Nobody else prunes or holds meanwhile; of a `database`, what says so there, and the copy is up to date.

    Raises LogUnavailable where somebody does.
    """
    path = files.leaves.with_name(files.leaves.name + ".retention")
    with failing_as_unavailable(path):
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LogUnavailable(
                f"{path} is held: somebody else prunes or holds just now"
            ) from None
        if database is None:
            yield None
        else:
            with retaining(files, database) as retention:
                yield retention
    finally:
        os.close(lock)


class Pruner:
    """Of one access log, beside whoever writes to it; within `alone`."""

    def __init__(self, files: Files, retention: Retention | None = None) -> None:
        """Raises LogUnavailable where there is no log, or it is kept elsewhere than said."""
        if not files.leaves.is_file():
            raise LogUnavailable(f"there is no access log at {files.leaves}")
        self._files = files
        self._there = retention
        self._turn = Locks(files.locks).turn()
        with failing_as_unavailable(files.leaves):
            self._connection = connect(files.leaves, busy_seconds=5.0)
            journal(self._connection, "FULL")
            if authority_of(self._connection) != (HERE if retention is None else COPY):
                self.close()
                is_ = "a copy of a log in a database" if retention is None else "no copy of a log"
                raise LogUnavailable(f"{files.leaves} is {is_}, other than the settings say")
            self._connection.execute("PRAGMA wal_autocheckpoint = 0")
            self._connection.execute("PRAGMA secure_delete = ON")  # what goes is overwritten

    def close(self) -> None:
        """Close it."""
        self._connection.close()
        self._turn.close()

    def plan(self, *, before: str, holds: Iterable[Hold]) -> Iterator[Bundle]:
        """What of the log is older than `before` (RFC 3339, UTC, microseconds) and may go."""
        holds = list(holds)
        with failing_as_unavailable(self._files.leaves):
            logs = self._connection.execute(
                "SELECT epoch, name, final FROM log WHERE final IS NOT NULL AND epoch > 0 ORDER BY epoch"
            ).fetchall()
            for epoch, name, size in logs:
                for first in range(0, size, WIDTH):
                    count = min(WIDTH, size - first)
                    entries = self._entries(epoch, first, count)
                    if len(entries) == count and all(_old(each, before, holds) for each in entries):
                        yield Bundle(log=name, epoch=epoch, first=first, count=count)

    def prune(self, bundles: Sequence[Bundle]) -> None:
        """Remove what is on record as pruned; raises LogUnavailable, and can be called again."""
        with failing_as_unavailable(self._files.leaves):
            for start in range(0, len(bundles), _AT_ONCE):
                some = bundles[start : start + _AT_ONCE]
                if self._there is not None:
                    self._there.prune([(each.place, self._hashes(each)) for each in some])
                    continue
                with self._turn.taken():
                    self._remove(some)
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._follow()
        self.tidy()

    def tidy(self) -> None:
        """Remove the published files of all entries that are gone, and what they alone named.

        Raises LogUnavailable.
        """
        with failing_as_unavailable(self._files.leaves):
            self._let_go_of_attachments()
        with failing_as_unavailable(self._files.tiles):
            unpublish(self._files, self._connection)

    def _follow(self) -> None:
        if self._there is not None:
            with closing(mirror_of(self._files, self._there.database)) as mirror:
                mirror.catch_up()

    def _let_go_of_attachments(self) -> None:
        run = self._connection.execute
        noted = attachments.noted(self._connection, 0)
        if self._there is not None:
            unnamed = attachments.unnamed(self._connection)
            self._there.let_go(unnamed, after=noted)
            self._follow()
            return
        with self._turn.taken():
            run("BEGIN IMMEDIATE")
            try:
                attachments.noted(self._connection, noted)  # what was written meanwhile
                attachments.let_go(self._connection)
                run("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise
        run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _entries(self, epoch: int, first: int, count: int) -> list[bytes]:
        place = place_of(epoch, first)
        rows = self._connection.execute(
            "SELECT entry FROM leaf WHERE place >= ? AND place < ? ORDER BY place",
            (place, place + count),
        )
        return [entry for (entry,) in rows]

    def _hashes(self, bundle: Bundle) -> bytes:
        entries = self._entries(bundle.epoch, bundle.first, bundle.count)
        if len(entries) != bundle.count:
            raise LogUnavailable(f"entries of {bundle.log} from {bundle.first} on are missing")
        return b"".join(leaf_hashes(entries))

    def _remove(self, bundles: Sequence[Bundle]) -> None:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            for each in bundles:
                hashes, place = self._hashes(each), each.place
                run("INSERT INTO pruned (place, hashes) VALUES (?, ?)", (place, hashes))
                run("DELETE FROM leaf WHERE place >= ? AND place < ?", (place, place + each.count))
            run("UPDATE this SET gone = gone + 1")
            run("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise


def _old(entry: bytes, before: str, holds: Sequence[Hold]) -> bool:
    """Whether an entry may go; what is no event stays, for others to look at."""
    try:
        head = _HEAD.decode(entry)
    except NO_EVENT:
        return False
    return (
        head.at < before
        and head.step not in _KEPT
        and not any(
            each.covers(subject=head.subject, report=head.report, at=head.at) for each in holds
        )
    )
