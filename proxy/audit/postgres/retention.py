"""The right to say what is kept of the access log in a database, and what goes: one machine has it at a time.

It lasts as long as its session, which is never begun anew: what was decided under it (which holds are in
force) is done under it, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, Self, TypeVar

from proxy.audit.attachments import NAMES, names_of
from proxy.audit.postgres import schema
from proxy.audit.postgres.database import Database
from proxy.audit.postgres.session import Lost, Refused, Session
from proxy.errors import LogUnavailable

_PATIENCE: Final = 30.0
"""Seconds for a step."""
_AT_ONCE: Final = 10_000
"""Attachments that are looked at together."""

_PRUNE: Final = "SELECT counterfoil.prune($1::bigint[], $2::bytea[])"
_NAMED: Final = (
    "SELECT entry FROM counterfoil.leaf WHERE number > $1 AND position($2::bytea in entry) > 0"
)
_LET_GO: Final = """
WITH went AS (
  DELETE FROM counterfoil.attachment WHERE number = ANY($1::bigint[]) AND digest <> ALL($2::bytea[])
  RETURNING number
)
INSERT INTO counterfoil.gone (attachment) SELECT number FROM went ORDER BY number
"""

T = TypeVar("T")


class Retention:
    """Nobody else prunes or holds meanwhile, on any machine."""

    def __init__(self, session: Session) -> None:
        """Use `Retention.begin`."""
        self._session = session
        self.database = session.database

    @classmethod
    def begin(cls, database: Database) -> Self:
        """Take it; raises LogUnavailable where somebody else has it."""
        found = cls(Session(database, patience=_PATIENCE))
        try:
            if not found._do(found._take):
                raise LogUnavailable(f"somebody else prunes or holds in {database} just now")
        except BaseException:
            found.close()
            raise
        return found

    async def _take(self) -> bool:
        await self._session.begin()
        lock = schema.lock_of(await schema.identity_of(self._session), "retention")
        return bool((await self._session.row("SELECT pg_try_advisory_lock($1)", lock))[0])

    def prune(self, runs: Sequence[tuple[int, bytes]]) -> None:
        """Take entries away, all or none: from a place on, those of these hashes.

        Raises LogUnavailable: also where the entries are others.
        """
        values = [place for place, _ in runs], [hashes for _, hashes in runs]
        self._do(lambda: self._session.row(_PRUNE, *values))

    def let_go(self, numbers: Sequence[int], *, after: int) -> None:
        """Take attachments away that no leaf names up to number `after`, unless a later one does.

        Raises LogUnavailable.
        """
        for start in range(0, len(numbers), _AT_ONCE):
            self._do(partial(self._let_go, numbers[start : start + _AT_ONCE], after))

    async def _let_go(self, numbers: Sequence[int], after: int) -> None:
        session = self._session
        async with session.transaction():
            await session.row(schema.TURN)
            later = await session.rows(_NAMED, after, NAMES)
            named = [digest for (entry,) in later for digest in names_of(bytes(entry))]
            await session.row(_LET_GO, numbers, named)

    def close(self) -> None:
        """Let go of it."""
        self._session.close()

    def _do(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return self._session.run(work())
        except Refused as error:
            if error.code == schema.OTHER:
                raise LogUnavailable(
                    f"{self.database} has other entries than its copy: `counterfoil log verify` tells which"
                ) from None
            raise LogUnavailable(str(error)) from None
        except Lost as error:
            raise LogUnavailable(str(error)) from None
