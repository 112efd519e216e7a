"""The access log as the gateway knows it: append an event, get a receipt once it is durable.

PROMISE 2 (no record, no data): `AccessLog.append` is the one place that makes a `Receipt`.

    asyncio loop     append: encode, queue, await          … resolve a whole batch in one callback
    writer thread    take all that waits, one statement, one commit, one fsync
    follower thread  query projection and names, later

An append that fails raises LogUnavailable within the deadline. Its event may still become durable:
records may overstate what was released, never understate it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from proxy.access import AccessEvent, Receipt, encode, timestamp
from proxy.audit.durations import Durations
from proxy.audit.follower import Follower
from proxy.audit.query import Reader
from proxy.audit.recover import Epoch, begin
from proxy.audit.store import (
    LONGEST,
    Files,
    connect,
    create,
    failing_as_unavailable,
    journal,
)
from proxy.audit.writer import Waiting, Writer
from proxy.errors import LogUnavailable

_MOST_KNOWN: Final = 100_000
"""How many subjects are remembered as known to the directory."""


class AccessLog:
    """One log, open for writing by this process alone; appended to from one event loop."""

    def __init__(
        self,
        *,
        files: Files,
        fence: int,
        connection: sqlite3.Connection,
        epoch: Epoch,
        loop: asyncio.AbstractEventLoop,
        deadline: float,
        waiting: int,
    ) -> None:
        """Use `AccessLog.open`."""
        self.path = files.leaves
        self.name = epoch.name
        self.opened = epoch.opened
        """The access id of the record with which it was opened."""
        self.unresolved = epoch.unresolved
        """How many accesses of earlier runs were found without an end."""
        self.commits = Durations()
        """How long the first event of each commit waited to be durable."""
        self._fence = fence
        self._deadline = deadline
        self._most = waiting
        self._loop = loop
        self._waiting: collections.deque[Waiting] = collections.deque()
        self._queued = 0
        self._stalled = False
        self._watch: asyncio.TimerHandle | None = None
        self._known: set[str] = set()
        self._closed = False
        self._writer = Writer(connection, files, epoch, deliver=self._deliver)
        self._follower = Follower(files, epoch.number, size=lambda: self._writer.size)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        origin: str = "counterfoil",
        deadline: float = 5.0,
        waiting: int = 10_000,
    ) -> Self:
        """Open a new log in the file at `path`, made where there is none; call `close` in the end.

        Takes the fence, seals the logs before, closes what they left open as `unresolved`. An
        append waits `deadline` seconds at most, and `waiting` of them at once.
        Raises LogUnavailable: another process writes to it, or the file cannot be used.
        """
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(
            cls._open, path, origin=origin, deadline=deadline, waiting=waiting, loop=loop
        )

    @classmethod
    def _open(
        cls,
        path: Path,
        *,
        origin: str,
        deadline: float,
        waiting: int,
        loop: asyncio.AbstractEventLoop,
    ) -> Self:
        files = Files.at(path)
        with contextlib.ExitStack() as undo, failing_as_unavailable(files.leaves):
            files.leaves.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fence = _take(files.fence)
            undo.callback(os.close, fence)
            connection = connect(files.leaves, busy_seconds=deadline / 2)
            undo.callback(connection.close)
            create(connection, files)
            journal(connection, "FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # the writer's own business
            epoch = begin(connection, origin=origin, at=timestamp(time.time()))
            log = cls(
                files=files,
                fence=fence,
                connection=connection,
                epoch=epoch,
                loop=loop,
                deadline=deadline,
                waiting=waiting,
            )
            undo.pop_all()
        log._writer.start()
        log._follower.start()
        return log

    @property
    def failure(self) -> str:
        """Why the log cannot be written now, for an operator; '' while it can."""
        if self._stalled:
            return f"{self.path} takes longer than {self._deadline:g} s to write"
        return self._writer.failure

    @property
    def healthy(self) -> bool:
        """Whether the last write succeeded; after a fault the writer tries again by itself."""
        return not self.failure

    @property
    def size(self) -> int:
        """How many events this process has made durable."""
        return self._writer.size

    @property
    def waiting(self) -> int:
        """How many events wait to be durable."""
        return self._queued

    @property
    def lag(self) -> int:
        """How many durable events the query projection has not taken in yet."""
        return self._follower.lag

    @property
    def projection_failure(self) -> str:
        """Why the query projection or the directory cannot follow; '' while they can."""
        return self._follower.failure

    async def append(self, event: AccessEvent, *, principal: str = "") -> Receipt:
        """Make `event` durable. `principal` is the name of its subject, for the directory alone.

        Raises LogUnavailable: it is not durable, or that is not known in time.
        """
        loop = self._loop
        try:
            entry = encode(event)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no record
            raise LogUnavailable(f"an event cannot be encoded: {type(error).__name__}") from None
        if len(entry) > LONGEST:
            raise LogUnavailable(f"an event is {len(entry)} bytes long, more than {LONGEST}")
        if self._closed:
            raise LogUnavailable("the access log is closed")
        if self._writer.sealed:
            raise LogUnavailable(self._writer.failure)
        if self._queued >= self._most:
            raise LogUnavailable(f"{self._queued} events wait for the access log already")
        if principal and event.subject and event.subject not in self._known:
            self._introduce(event.subject, principal)
        future: asyncio.Future[Receipt] = loop.create_future()
        item = Waiting(event.access, event.step, entry, future, loop.time())
        self._waiting.append(item)
        self._queued += 1
        if self._watch is None:
            self._watch = loop.call_later(self._deadline, self._expire)
        self._writer.put(item)
        return await future

    async def close(self) -> None:
        """Make durable what waits, seal the log unless an access is open, release the fence."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._close)
            if self._watch is not None:
                self._watch.cancel()

    def _close(self) -> None:
        self._writer.stop()
        self._follower.stop()
        self._writer.close()
        os.close(self._fence)

    def _introduce(self, subject: str, principal: str) -> None:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(subject)
        self._follower.learn(subject, principal)

    def _deliver(self, batch: list[Waiting], first: int, failure: str) -> None:
        """In the writer's thread: hand a batch back to the loop, if that still runs."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._resolve, batch, first, failure)

    def _resolve(self, batch: list[Waiting], first: int, failure: str) -> None:
        self._queued -= len(batch)
        self._stalled = False
        if not failure:
            self.commits.add(self._loop.time() - batch[0].since)
        for index, item in enumerate(batch, first):
            if not item.future.done():
                if failure:
                    item.future.set_exception(LogUnavailable(failure))
                else:
                    item.future.set_result(Receipt(access=item.access, log=self.name, index=index))
        waiting = self._waiting
        while waiting and waiting[0].future.done():
            waiting.popleft()

    def _expire(self) -> None:
        """Fail what has waited too long; one timer for all, the oldest of them first."""
        now = self._loop.time()
        waiting = self._waiting
        while waiting and (waiting[0].future.done() or waiting[0].since + self._deadline <= now):
            item = waiting.popleft()
            if not item.future.done():
                self._stalled = True
                item.future.set_exception(LogUnavailable(self.failure))
        self._watch = None
        if waiting:
            again = waiting[0].since + self._deadline
            self._watch = self._loop.call_at(again, self._expire)


def _take(path: Path) -> int:
    """The descriptor that holds the fence. Raises LogUnavailable where another process holds it."""
    fence = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fence, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fence)
        raise LogUnavailable(
            f"{path} is held: another process writes to this access log"
        ) from error
    except OSError:
        os.close(fence)
        raise
    return fence


def leaves(path: Path) -> Iterator[bytes]:
    """The exact bytes of all events in the log at `path`, in the order of their commits."""
    with Reader(path) as reader:
        for leaf in reader.since(0):
            yield leaf.entry
