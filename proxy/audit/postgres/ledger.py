"""One process's log in PostgreSQL: added to by one statement a batch, which the server commits and syncs.

A batch is ambiguous where the connection is lost between it and the answer. It is looked for, then, by its
place and its very bytes, and not before the former session has ended: else it might still be committed after
we looked. That is so once we hold the lock of our log, which the former session held as long as it lived.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Self, TypeVar

from proxy.audit.ledger import Epoch, NotWritten
from proxy.audit.postgres import schema
from proxy.audit.postgres.begin import begin, seal
from proxy.audit.postgres.database import Database
from proxy.audit.postgres.session import Lost, Refused, Session
from proxy.audit.store import place_of
from proxy.errors import LogUnavailable
from proxy.evidence.layout import Attachment
from proxy.keys import Keyring

_SETTLE: Final = 16 << 20
"""Bytes after which it is noted how far accesses are settled."""
_START: Final = 10.0
"""Seconds for each step of a start, at which nobody waits for an answer."""
_LONGEST: Final = 1.0
_SHORTEST: Final = 0.05
"""Seconds between two attempts to come back."""
_POLL: Final = 0.02
_SEALED_BY_ANOTHER: Final = "another process has sealed the log"

_APPEND: Final = "SELECT counterfoil.append($1, $2, $3::bytea[], $4::bytea[], $5::bytea[])"
_SETTLED: Final = "UPDATE counterfoil.log SET settled = $2 WHERE epoch = $1"
_STATE: Final = "SELECT sealed FROM counterfoil.log WHERE epoch = $1"
_FORMER: Final = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND pid = $1 AND objsubid = 1
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND ((classid::bigint << 32) | objid::bigint) = $2
"""
"""Ends the session that held the lock of our log, of which the server has not noticed that we left it."""
_THERE: Final = (
    "SELECT number, entry FROM counterfoil.leaf WHERE place >= $1 AND place < $2 ORDER BY place"
)

T = TypeVar("T")


class PostgresLedger:
    """A log in a database, open for writing; not for two threads at once."""

    def __init__(self, session: Session, epoch: Epoch, *, identity: str, lock: int) -> None:
        """Use `PostgresLedger.begin`."""
        self.epoch = epoch
        self.size = epoch.size
        self.head = epoch.head
        self._session = session
        self._identity = identity
        self._lock = lock
        self._holder = session.process
        """The server's process that holds the lock of our log, or held it last."""
        self._unsettled = 0
        self._in_doubt: Sequence[bytes] = ()
        """The entries that may or may not be there at the end."""
        self._given_up = False
        """Whether those were said to fail."""
        self._late: int | None = None
        """The index of the first entry that was said to fail, and was there all the same."""
        self._wait = 0.0
        self._not_before = 0.0
        self._why = ""
        """Why the last attempt to come back failed; '' while there is a connection."""

    @classmethod
    def begin(
        cls,
        database: Database,
        *,
        origin: str,
        at: str,
        keyring: Keyring,
        patience: float,
        by_hand: bool = False,
    ) -> Self:
        """Begin a log; a write waits `patience` seconds. Raises LogUnavailable.

        One that is written `by_hand` is gone on with, where there is one.
        """
        session = Session(database, patience=max(patience, _START))
        try:
            session.run(session.begin())
            work = begin(session, origin=origin, at=at, keyring=keyring, by_hand=by_hand)
            epoch, identity, lock = session.run(work)
        except (Lost, Refused) as error:
            session.close()
            raise LogUnavailable(str(error)) from None
        except BaseException:
            session.close()
            raise
        session.patience = patience
        return cls(session, epoch, identity=identity, lock=lock)

    def append(self, entries: Sequence[bytes], named: Sequence[Attachment] = ()) -> int:
        """Make entries durable, and the attachments that they name, all or none; the index of the first.

        Raises NotWritten. Where it is not known in time, they may become durable: `settle` and `seal` mind
        that.
        """
        return self._session.run(self._append(entries, named))

    async def _append(self, entries: Sequence[bytes], named: Sequence[Attachment]) -> int:
        digests = [bytes.fromhex(each.digest) for each in named]
        contents = [each.content for each in named]
        until = time.monotonic() + self._session.patience
        number = self.epoch.number
        while True:
            await self._be_there(until)
            first = self.size
            try:
                (head,) = await self._session.row(
                    _APPEND, number, first, [*entries], digests, contents
                )
            except Refused as error:
                raise _not_written(error) from None
            except Lost as error:
                self._in_doubt, self._given_up = entries, False
                try:
                    await self._be_there(until)  # and see whether they are there
                except NotWritten:
                    self._given_up = True
                    raise
                if self.size > first:
                    break
                if time.monotonic() > until:  # it was lost on its way, and would be again
                    raise NotWritten(str(error), passing=True) from None
            else:
                self.size += len(entries)
                self.head = head
                break
        self._unsettled += sum(map(len, entries)) + sum(map(len, contents))
        return first

    async def _be_there(self, until: float) -> None:
        """Be connected, with the lock of our log, knowing its size. Raises NotWritten."""
        session = self._session
        while session.lost:
            now = time.monotonic()
            if self._why:
                rest = self._not_before - now
                if now > until or (rest > 0 and (self._wait >= _LONGEST or now + rest > until)):
                    raise NotWritten(self._why, passing=True)
                await asyncio.sleep(max(rest, 0))
            try:
                async with asyncio.timeout(max(until - now, session.patience / 2)):
                    await self._come_back()
            except (Lost, Refused, TimeoutError) as error:
                session.drop()
                self._why = str(error) or f"{session.database} does not answer"
                self._wait = min(max(2 * self._wait, _SHORTEST), _LONGEST)
                self._not_before = time.monotonic() + self._wait
            except BaseException:
                session.drop()
                raise
            else:
                self._why, self._wait = "", 0.0

    async def _come_back(self) -> None:
        """A new session, once the former one has ended; and what became of the entries in doubt."""
        session, number = self._session, self.epoch.number
        await session.begin()
        if await schema.identity_of(session) != self._identity:
            raise NotWritten(f"{session.database} holds another access log", passing=False)
        while not (await session.row("SELECT pg_try_advisory_lock($1)", self._lock))[0]:
            await session.rows(_FORMER, self._holder, self._lock)
            await asyncio.sleep(_POLL)
        self._holder = session.process
        # A commit: it is possible, and the standbys that are waited for have what was committed before it.
        await session.row("UPDATE counterfoil.log SET settled = settled WHERE epoch = $1", number)
        doubtful, first = [*self._in_doubt], self.size
        rows = await session.rows(
            _THERE, place_of(number, first - 1), place_of(number, first + len(doubtful) + 1)
        )
        found = [bytes(entry) for _, entry in rows[1:]]
        if not rows or (found and found != doubtful):
            why = f"{session.database} has lost events, or holds those of others, in {self.epoch.name}"
            raise NotWritten(why, passing=False)
        if found:
            self.size += len(found)
            self.head = rows[-1][0]
            if self._given_up and self._late is None:
                self._late = first
        self._in_doubt = ()

    def settle(self, index: int) -> None:
        """Note that the accesses that began before that entry have all ended. Raises NotWritten."""
        index = index if self._late is None else min(index, self._late)
        self._do(lambda: self._session.row(_SETTLED, self.epoch.number, index))
        self._unsettled = 0

    def seal(self, at: str) -> None:
        """Close it for good, unless it has what its writer takes for lost. Raises NotWritten."""
        if self._late is None and not self._in_doubt:
            self._do(lambda: self._seal(at))

    async def _seal(self, at: str) -> None:
        async with self._session.transaction():
            await self._session.row(schema.TURN)
            (head,) = await self._session.row(schema.HEAD)
            await seal(self._session, self.epoch.number, at=at, head=head)

    def stay(self) -> None:
        """Raise NotWritten where the database cannot be reached, or another process has sealed the log."""
        row = self._do(lambda: self._session.row(_STATE, self.epoch.number), patience=0)
        if row is None or row[0] is not None:
            raise NotWritten(_SEALED_BY_ANOTHER, passing=False)

    def _do(self, ask: Callable[[], Coroutine[Any, Any, T]], *, patience: float | None = None) -> T:
        return self._session.run(self._done(ask, patience=patience))

    async def _done(
        self, ask: Callable[[], Coroutine[Any, Any, T]], *, patience: float | None
    ) -> T:
        wait = self._session.patience if patience is None else patience
        await self._be_there(time.monotonic() + wait)
        try:
            return await ask()
        except Refused as error:
            raise _not_written(error) from None
        except Lost as error:
            raise NotWritten(str(error), passing=True) from None

    @property
    def untidy(self) -> bool:
        """Whether so much was written that it is time to settle."""
        return self._unsettled >= _SETTLE

    def tidy(self) -> None:
        """Nothing: the server tidies up by itself."""

    def close(self) -> None:
        """End the session, and with it the lock."""
        self._session.close()


def _not_written(error: Refused) -> NotWritten:
    if error.code == schema.SEALED:
        return NotWritten(_SEALED_BY_ANOTHER, passing=False)
    if error.code == schema.SHORTER:
        return NotWritten(f"{error}: it has lost events", passing=False)
    return NotWritten(str(error), passing=True)
