"""The access log as the gateway knows it: append an event, get a receipt once it is durable.

PROMISE 2 (no record, no data): `AccessLog.append` is the one place that makes a `Receipt`.

    asyncio loop     append: encode, queue, await          … resolve a whole batch in one callback
    writer thread    take all that waits, one statement, one commit, one fsync
    follower thread  query projection and names, later     (the projection: in one process alone,
    publisher thread tiles and signed roots, once a second  as are these; see keeper.py)

An append that fails raises LogUnavailable within the deadline. Its event may still become durable:
records may overstate what was released, never understate it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from proxy.access import AccessEvent, Receipt, encode, new_access_id, timestamp
from proxy.audit import shared
from proxy.audit.durations import Durations
from proxy.audit.embedded import Embedded
from proxy.audit.follower import Follower
from proxy.audit.keeper import Keeper
from proxy.audit.ledger import Ledger
from proxy.audit.locks import Locks
from proxy.audit.postgres.database import Database
from proxy.audit.publishing import Publishing
from proxy.audit.query import Reader
from proxy.audit.store import Files, failing_as_unavailable
from proxy.audit.tiles import LONGEST
from proxy.audit.writer import Waiting, Writer
from proxy.errors import LogUnavailable
from proxy.evidence.layout import Attachment
from proxy.keys import Keyring

if TYPE_CHECKING:
    from proxy.audit.postgres.mirror import Mirror

_MOST_KNOWN: Final = 100_000
"""How many subjects are remembered as known to the directory …"""
_KNOWN_FOR: Final = 60.0
"""… and for how many seconds: a name may be erased meanwhile, and whoever asks again is known again."""


class AccessLog:
    """One log, of this process alone, beside those of others; appended to from one event loop."""

    def __init__(
        self,
        *,
        files: Files,
        keyring: Keyring,
        locks: Locks,
        ledger: Ledger,
        loop: asyncio.AbstractEventLoop,
        deadline: float,
        waiting: int,
        mirror: Mirror | None = None,
        by_hand: bool,
    ) -> None:
        """Use `AccessLog.open`."""
        epoch = ledger.epoch
        self.files = files
        self.keyring = keyring
        """The newest one, by which checkpoints of all logs are signed."""
        self.path = files.leaves
        self.name = epoch.name
        self.opened = epoch.opened
        """The access id of the record with which it was opened."""
        self.unresolved = epoch.unresolved
        """How many accesses of dead processes were found without an end."""
        self.commits = Durations()
        """How long the first event of each commit waited to be durable."""
        self._deadline = deadline
        self._most = waiting
        self._loop = loop
        self._waiting: collections.deque[Waiting] = collections.deque()
        self._queued = 0
        self._stalled = False
        self._watch: asyncio.TimerHandle | None = None
        self._known: set[str] = set()
        self._known_until = 0.0
        self._last = loop.time()
        """When an event came in."""
        self._closed = False
        self._writer = Writer(ledger, deliver=self._deliver)
        self._keeper = Keeper(locks)
        self._follower = Follower(
            files,
            keeps=lambda: self._keeper.is_here,
            written=lambda: self._writer.head,
            share=None if mirror is None else mirror.learn,
        )
        self._mirror = mirror
        self._publishing = Publishing(
            files,
            self._keeper,
            lambda: self.keyring,
            epoch=epoch.number,
            size=lambda: self._writer.size,
            mirror=mirror,
            patient=not by_hand,
        )

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        keyring: Keyring,
        origin: str = "counterfoil",
        database: Database | None = None,
        deadline: float = 5.0,
        waiting: int = 10_000,
        by_hand: bool = False,
    ) -> Self:
        """Open a new log in the file at `path`, made where there is none; call `close` in the end.

        Where there is a `database`, the log is in that, and the file is a copy of it.
        Its checkpoints are signed by a key that is derived from `keyring`. Seals the logs of processes
        that have died, and closes what they left open as `unresolved`; logs of others that live go on. An
        append waits `deadline` seconds at most, and `waiting` of them at once. What is written `by_hand`,
        some records now and then, goes on in one log for a day.
        Raises LogUnavailable: the file cannot be used.
        """
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(
            cls._open,
            path,
            keyring=keyring,
            origin=origin,
            database=database,
            deadline=deadline,
            waiting=waiting,
            by_hand=by_hand,
            loop=loop,
        )

    @classmethod
    def _open(
        cls,
        path: Path,
        *,
        keyring: Keyring,
        origin: str,
        database: Database | None,
        deadline: float,
        waiting: int,
        by_hand: bool,
        loop: asyncio.AbstractEventLoop,
    ) -> Self:
        files = Files.at(path)
        with failing_as_unavailable(files.leaves):
            files.leaves.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            locks = Locks(files.locks)
        at, patience = timestamp(time.time()), deadline / 2
        ledger: Ledger
        mirror = None
        if database is None:
            ledger = Embedded.begin(
                files,
                locks,
                origin=origin,
                at=at,
                keyring=keyring,
                patience=patience,
                by_hand=by_hand,
            )
        else:
            mirror, ledger = shared.begin(
                files,
                database,
                origin=origin,
                at=at,
                keyring=keyring,
                patience=patience,
                by_hand=by_hand,
            )
        log = cls(
            files=files,
            keyring=keyring,
            locks=locks,
            ledger=ledger,
            loop=loop,
            deadline=deadline,
            waiting=waiting,
            mirror=mirror,
            by_hand=by_hand,
        )
        log._writer.start()
        log._follower.start()
        log._publishing.start()
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
    def lost(self) -> bool:
        """Whether nothing can be written to it ever again; a log that is begun anew may do better."""
        return self._writer.sealed

    @property
    def size(self) -> int:
        """How many events this process has made durable."""
        return self._writer.size

    @property
    def keeps(self) -> bool:
        """Whether this process does for all what one has to do alone: follow, publish, retain."""
        return self._keeper.is_here

    @property
    def waiting(self) -> int:
        """How many events wait to be durable."""
        return self._queued

    @property
    def lag(self) -> int:
        """How many durable events, of all processes, the query projection has not taken in yet."""
        return self._follower.lag

    @property
    def projection_failure(self) -> str:
        """Why the query projection or the directory cannot follow; '' while they can."""
        return self._follower.failure

    @property
    def unpublished(self) -> int:
        """How many durable events of this process no checkpoint covers yet."""
        return self._publishing.lag

    @property
    def publishing_failure(self) -> str:
        """Why tiles and checkpoints cannot follow; '' while they can."""
        return self._publishing.failure

    async def append(
        self,
        event: AccessEvent,
        *,
        principal: str = "",
        attachments: Sequence[Attachment] = (),
    ) -> Receipt:
        """Make `event` durable, and the attachments that it names.

        `principal` is the name of its subject, for the directory alone.

        Raises LogUnavailable: it is not durable, or that is not known in time.
        """
        loop = self._loop
        self._last = loop.time()
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
        if self._last > self._known_until:
            self._known.clear()
            self._known_until = self._last + _KNOWN_FOR
        if principal and event.subject and event.subject not in self._known:
            self._introduce(event.subject, principal)
        future: asyncio.Future[Receipt] = loop.create_future()
        item = Waiting(event.access, event.step, entry, future, loop.time(), attachments)
        self._waiting.append(item)
        self._queued += 1
        if self._watch is None:
            self._watch = loop.call_later(self._deadline, self._expire)
        self._writer.put(item)
        return await future

    async def beat(self, seconds: float) -> None:
        """Put on record that the log is alive whenever nothing was for so long; until cancelled."""
        while True:
            quiet = self._loop.time() - self._last
            if quiet < seconds:
                await asyncio.sleep(seconds - quiet)
                continue
            now = timestamp(time.time())
            alive = AccessEvent(access=new_access_id(), step="alive", at=now, log=self.name)
            with contextlib.suppress(LogUnavailable):  # which is told of where it matters
                await self.append(alive)

    async def close(self) -> None:
        """Make durable what waits, seal the log unless an access is open."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._close)
            if self._watch is not None:
                self._watch.cancel()

    def _close(self) -> None:
        self._writer.stop()
        self._follower.stop()
        self._publishing.stop()
        self._writer.close()
        if self._mirror is not None:
            self._mirror.close()

    def up_to_date(self) -> Path:
        """The log's file, with all that is durable by now; raises LogUnavailable.

        Not for the thread of the event loop: it may ask a database.
        """
        if self._mirror is not None:
            self._mirror.catch_up()
        return self.path

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


def leaves(path: Path) -> Iterator[bytes]:
    """The exact bytes of all events in the log at `path`, in the order of their commits."""
    with Reader(path) as reader:
        for leaf in reader.since(0):
            yield leaf.entry
