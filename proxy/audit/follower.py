"""The thread that follows the leaves: it keeps the query projection and the directory of subjects.

The directory learns from each process what that has seen; the projection is kept by one of them, the keeper
(keeper.py), and the others look at how far it is.

Nothing waits for it and nothing fails with it: what it could not do, it tries again; readers look
at the leaves that it has not got. So it leaves the processor and the disk to a burst of accesses, and
takes in what they wrote once it is over, or once that is so much that a query would be slow.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Final

from proxy.audit.names import Names
from proxy.audit.projection import Projection, standing
from proxy.audit.store import Files, explain, primary_code
from proxy.errors import LogUnavailable

_EVERY: Final = 0.25
_AFTER_FAULT: Final = 2.0
"""Seconds between two looks."""

_CALM: Final = 50
"""Leaves between two looks up to which it is no burst."""
_MOST_BEHIND: Final = 5_000
"""Leaves that a burst may be ahead by; a reader merges as many itself in a tenth of a second."""

_MOST_NAMES: Final = 10_000
_RUINED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Follower:
    """Owns the connections to projection and directory; all but `learn` happens in its thread."""

    def __init__(
        self,
        files: Files,
        *,
        keeps: Callable[[], bool],
        written: Callable[[], int],
        share: Callable[[list[tuple[str, str]]], None] | None = None,
    ) -> None:
        """Where this process `keeps` it, follow the leaves; `written` is the newest of its own.

        `share` tells other machines of names, where there are any; raises LogUnavailable.
        `start` begins to.
        """
        self.failure = ""
        self.number = 0
        """Of the last leaf that is in the projection."""
        self._files = files
        self._keeps = keeps
        self._written = written
        self._head = 0
        """The number of the newest leaf at the last look."""
        self._names: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._unwritten: list[tuple[str, str]] = []
        self._share = share
        self._unshared: list[tuple[str, str]] = []
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._projection: Projection | None = None
        self._directory: Names | None = None
        self._thread = threading.Thread(target=self._run, name="access-log-follower", daemon=True)
        self.start = self._thread.start

    @property
    def lag(self) -> int:
        """How many leaves, of all logs, are not in the projection yet."""
        return max(0, max(self._head, self._written()) - self.number)

    def learn(self, subject: str, principal: str) -> None:
        """Have the directory know `subject` as `principal`, soon."""
        if self._names.qsize() < _MOST_NAMES:
            self._names.put((subject, principal))
            self._wake.set()

    def stop(self) -> None:
        """Write what waits and close; a long backlog is left to the next start."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            last = self._stopping.is_set()
            faults = [self._attempt(self._write_names), self._attempt(self._project)]
            self.failure = "; ".join(filter(None, faults))
            if not last:
                self._wake.wait(_AFTER_FAULT if self.failure else _EVERY)
                self._wake.clear()
        if self._projection is not None:
            self._projection.close()
        if self._directory is not None:
            self._directory.close()

    def _attempt(self, action: Callable[[], None]) -> str:
        try:
            action()
        except sqlite3.Error as error:
            if self._projection is not None and primary_code(error) in _RUINED:
                self._projection.discard()
                self._projection = None
            return explain(error, self._files.index)
        except (OSError, LogUnavailable) as error:
            return str(error)
        return ""

    def _write_names(self) -> None:
        self._unwritten += [self._names.get() for _ in range(self._names.qsize())]
        if self._unwritten:
            if self._directory is None:
                self._directory = Names(self._files.names)
            self._directory.learn(self._unwritten)
            if self._share is not None:
                self._unshared = (self._unshared + self._unwritten)[-_MOST_NAMES:]
            self._unwritten = []
        if self._unshared and self._share is not None:
            self._share(self._unshared)
            self._unshared = []

    def _project(self) -> None:
        if not self._keeps():
            self._head, self.number = standing(self._files)
            return
        if self._projection is not None and not self._projection.stands:  # it was deleted
            self._projection.close()
            self._projection = None
        if self._projection is None:
            self._projection = Projection(self._files)
            self.number = self._projection.number
        if self._stands_back(self._projection.head):
            return
        while True:
            taken, self.number = self._projection.step()
            if not taken or self._stopping.is_set():
                break

    def _stands_back(self, head: int) -> bool:
        """Whether a burst goes on that may still do so by itself."""
        new, self._head = head - self._head, head
        return new > _CALM and self.lag < _MOST_BEHIND and not self._stopping.is_set()
