"""The one thread that writes leaves: group commit, and what it does when it cannot.

Its life, batch by batch:

    1. take all entries that wait (there is no commit for each: one for all of them)
    2. append them in one commit, with the attachments that they name (embedded.py, postgres/ledger.py)
    3. hand over the index of the first, once for the batch

A fault of the moment (locked, full) fails the batch, and the next one tries again. After any other the
log is sealed until the next start: an fsync that failed is never retried, for the kernel may have dropped
the pages and then reports success.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from proxy.access import Receipt, timestamp
from proxy.audit.ledger import Ledger, NotWritten
from proxy.audit.recover import ENDS, OPENS
from proxy.evidence.layout import Attachment

_MOST: Final = 4096
_MOST_BYTES: Final = 8 << 20
"""Entries and bytes of one commit."""

_IDLE: Final = 1.0
"""Seconds without an entry after which the writer looks after itself."""


class Waiting:
    """An entry that waits to be durable, and the future that waits with it."""

    __slots__ = ("access", "attachments", "entry", "future", "since", "step")

    def __init__(
        self,
        access: str,
        step: str,
        entry: bytes,
        future: asyncio.Future[Receipt],
        since: float,
        attachments: Sequence[Attachment],
    ) -> None:
        """`since` is the loop's time; `attachments` are those that the entry names."""
        self.access = access
        self.step = step
        self.entry = entry
        self.future = future
        self.since = since
        self.attachments = attachments

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.entry) + sum([len(each.content) for each in self.attachments])


Deliver = Callable[[list[Waiting], int, str], None]
"""(batch, index of its first entry, "") once it is durable; (batch, 0, why not) where it is not."""


class Writer:
    """Owns the ledger; `put` from any thread, all else happens in its own."""

    def __init__(self, ledger: Ledger, *, deliver: Deliver) -> None:
        """Take over `ledger`, which was just begun; `start` begins to write."""
        self.failure = ""
        self.sealed = False
        self._ledger = ledger
        self._deliver = deliver
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._stopping = False
        self._open: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="access-log-writer", daemon=True)
        self.start = self._thread.start
        self.put = self._queue.put

    @property
    def size(self) -> int:
        """How many entries are durable."""
        return self._ledger.size

    @property
    def head(self) -> int:
        """The number of the newest of them."""
        return self._ledger.head

    def stop(self) -> None:
        """Write what waits, and seal the log if no access is open."""
        self._queue.put(None)
        self._thread.join()

    def close(self) -> None:
        """After `stop`: close the ledger."""
        self._attempt(self._ledger.close)

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
                size += item.size
                if len(batch) == _MOST or size >= _MOST_BYTES:
                    return batch
                item = self._queue.get_nowait()
        except queue.Empty:
            return batch
        self._stopping = True
        return batch

    def _write(self, batch: list[Waiting]) -> None:
        """PROMISE 2 (no record, no data): an index is handed over only for what is durable."""
        first = 0
        if not self.sealed:
            try:
                named = [each for item in batch for each in item.attachments]
                first = self._ledger.append([item.entry for item in batch], named)
                self.failure = ""
            except Exception as error:  # noqa: BLE001 - a silent death would hang them all
                self._fail(error)
        if self.failure:
            self._deliver(batch, 0, self.failure)
            return
        for index, item in enumerate(batch, first):
            if item.step in OPENS:
                self._open.setdefault(item.access, index)
            elif item.step in ENDS:
                self._open.pop(item.access, None)
        self._deliver(batch, first, "")
        if self._ledger.untidy:
            self._attempt(self._tidy)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - as in `_write`
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, NotWritten):
            self.failure = str(error)
            self.sealed = self.sealed or not error.passing
        else:
            self.failure = type(error).__name__
            self.sealed = True

    def _look_after(self) -> None:
        """What an idle writer does: notice lost files, and try whether a fault has passed."""
        if self.sealed:
            return
        self._attempt(self._ledger.stay)
        if self.failure and not self.sealed:
            self._attempt(self._settle)

    def _settle(self) -> None:
        """Note where the next start begins to look for open accesses; prove that writes work."""
        self._ledger.settle(next(iter(self._open.values()), self.size))
        self.failure = ""

    def _tidy(self) -> None:
        self._settle()
        self._ledger.tidy()

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
        """Close the log for good, unless an access is open: that is for the next start to say.

        Nor one of what operators do: the next of them goes on with it, or the next start closes it.
        """
        self._settle()
        if not self._open and not self._ledger.epoch.by_hand:
            self._ledger.seal(timestamp(time.time()))
