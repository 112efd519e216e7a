"""A connection to the database, used by one thread at a time, on a loop of its own; and faults in words.

There are two kinds of fault, and they must not be confused: the database refuses, then nothing has happened;
or the connection is lost, then nobody knows whether what was asked has happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import asyncpg
import uvloop

from proxy.audit.postgres.database import Database

_OLDEST: Final = 130000
"""PostgreSQL 13, as `server_version_num` has it."""

_SETTINGS: Final = {
    "application_name": "counterfoil",
    "synchronous_commit": "on",  # also by the standbys that the server says are synchronous
    "default_transaction_isolation": "read committed",  # after a lock, a statement sees what was before
    "search_path": "pg_catalog",  # nobody's function is taken for another
    "lock_timeout": "0",
    "statement_timeout": "0",  # ours is this side's
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "10s",
    # A client that is gone is noticed in some seconds, so that its locks go.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "client_min_messages": "error",
}
_CHECK: Final = """
SELECT current_setting('server_version_num')::int, current_setting('fsync'),
       current_setting('synchronous_commit'), pg_is_in_recovery(), pg_backend_pid()
"""

_SAID: Final = {
    "25006": "read-only",
    "53100": "full",
    "53": "out of resources",
    "28": "not to be opened by this role: its password or the server's pg_hba.conf is other",
    "3D000": "not there",
    "42501": "not open to this role: it lacks a privilege",
    "57P03": "starting or stopping",
    "57": "stopping",
    "58": "failing (input/output error)",
    "XX001": "corrupt",
    "XX002": "corrupt",
}
"""SQLSTATE, or its class, in words (PostgreSQL, appendix A)."""
_ENDED: Final = frozenset({"08", "57P01", "57P02", "57P03", "57P05"})
"""With these the session ends, whatever became of what was asked."""

T = TypeVar("T")


class Refused(Exception):
    """The database has refused, and nothing has happened; the text may be shown to an operator."""

    def __init__(self, why: str, *, code: str = "") -> None:
        """`code`: the SQLSTATE, where there is one."""
        self.code = code
        super().__init__(why)


class Lost(Exception):
    """There is no connection: whatever was asked has happened, or not. For an operator, too."""


class Session:
    """One session at a time; it is begun anew when asked to."""

    def __init__(self, database: Database, *, patience: float) -> None:
        """`patience`: seconds after which the server is taken not to answer."""
        self.database = database
        self.patience = patience
        self.process = 0
        """The server's process for the last session; 0 before the first."""
        self._connection: Any = None
        self._loop = uvloop.new_event_loop()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it now, in this thread."""
        return self._loop.run_until_complete(work)

    @property
    def lost(self) -> bool:
        """Whether there is no connection, as far as is known."""
        return self._connection is None or bool(self._connection.is_closed())

    async def begin(self) -> None:
        """Connect, where there is no connection; raises Lost or Refused."""
        if not self.lost:
            return
        self.drop()
        database = self.database
        try:
            tls = database.tls
        except (ssl.SSLError, OSError) as error:
            raise Refused(
                f"the authorities of {database} cannot be read: {_system(error)}"
            ) from None
        try:
            self._connection = await asyncpg.connect(
                user=database.role,
                password=database.password,
                host=database.host,
                port=database.port,
                database=database.name,
                ssl=tls,
                timeout=self.patience,
                server_settings=_SETTINGS,
            )
        except (ssl.SSLError, OSError, TimeoutError) as error:
            why = _system(error)
            raise Lost(f"{database} cannot be reached: {why}") from None
        except asyncpg.PostgresError as error:
            raise Refused(self._explain(error), code=error.sqlstate or "") from None
        except asyncpg.InterfaceError as error:
            raise Refused(f"{database} cannot be used [{type(error).__name__}]") from None
        try:
            version, fsync, commit, follows, self.process = await self.row(_CHECK)
            if version < _OLDEST:
                raise Refused(f"{database} is older than PostgreSQL {_OLDEST // 10_000}")
            if follows:
                raise Refused(f"{database} is a standby, which takes no events")
            if (fsync, commit) != ("on", "on"):
                raise Refused(
                    f"{database} makes nothing durable: fsync is {fsync}, synchronous_commit {commit}"
                )
        except Refused:
            self.drop()
            raise

    async def row(self, statement: str, *values: object) -> Any:
        """The one row that a statement gives, or None; raises Lost or Refused."""
        return await self._asked(lambda: self._connection.fetchrow(statement, *values))

    async def rows(self, statement: str, *values: object) -> list[Any]:
        """All rows that it gives; raises Lost or Refused."""
        found: list[Any] = await self._asked(lambda: self._connection.fetch(statement, *values))
        return found

    async def script(self, text: str) -> None:
        """Some statements without values; raises Lost or Refused."""
        await self._asked(lambda: self._connection.execute(text))

    async def many(self, statement: str, values: list[tuple[object, ...]]) -> None:
        """The same with each of some values; raises Lost or Refused."""
        await self._asked(lambda: self._connection.executemany(statement, values))

    @contextlib.asynccontextmanager
    async def transaction(self) -> Any:
        """All of it or nothing. Raises Lost, also where the answer to its commit is: or Refused."""
        await self.script("BEGIN")
        try:
            yield
            await self.script("COMMIT")
        except BaseException:
            if not self.lost:
                with contextlib.suppress(Lost, Refused):
                    await self.script("ROLLBACK")
            raise

    async def _asked(self, ask: Any) -> Any:
        if self.lost:
            raise Lost(f"{self.database} is not connected")
        try:
            async with asyncio.timeout(self.patience):
                return await ask()
        except asyncpg.PostgresError as error:
            code = error.sqlstate or ""
            closed: bool = self._connection is None or self._connection.is_closed()
            if not closed and not {code, code[:2]} & _ENDED:
                raise Refused(self._explain(error), code=code) from None
            self.drop()
            raise Lost(self._explain(error)) from None
        except TimeoutError:
            self.drop()
            raise Lost(f"{self.database} does not answer") from None
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            self.drop()
            why = _system(error)
            raise Lost(f"the connection to {self.database} is lost: {why}") from None
        except BaseException:
            self.drop()  # it may be in the middle of something
            raise

    def drop(self) -> None:
        """Let go of the connection at once, whatever it does."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def close(self) -> None:
        """End the session, and let go of the loop."""
        if self._loop.is_closed():
            return
        if not self.lost:
            with contextlib.suppress(Exception):
                self.run(self._connection.close(timeout=self.patience))
        self.drop()
        self.run(asyncio.sleep(0))  # what was cut is let go of
        self._loop.close()

    def _explain(self, error: asyncpg.PostgresError) -> str:
        """In words of ours: the server's own may hold what was asked."""
        code = error.sqlstate or ""
        said = _SAID.get(code) or _SAID.get(code[:2]) or "not usable"
        return f"{self.database} is {said} [{code or type(error).__name__}]"


def _system(error: BaseException) -> str:
    """What the operating system says, or the kind of fault."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return getattr(error, "strerror", None) or type(error).__name__
