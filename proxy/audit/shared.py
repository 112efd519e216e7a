"""The access log in a database, for those who do without asyncpg where there is none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Final

from proxy.audit.ledger import Ledger
from proxy.audit.postgres.database import Database
from proxy.audit.store import Files
from proxy.errors import LogUnavailable
from proxy.keys import Keyring

if TYPE_CHECKING:
    from proxy.audit.postgres.mirror import Mirror
    from proxy.audit.postgres.retention import Retention

_PATIENCE: Final = 10.0
"""Seconds for a step."""


def mirror_of(files: Files, database: Database) -> Mirror:
    """The copy of the database's log in a file; raises LogUnavailable where asyncpg is missing."""
    try:
        from proxy.audit.postgres.mirror import Mirror  # noqa: PLC0415 - it is an extra
    except ModuleNotFoundError as error:
        raise _lacking(database, error) from None
    return Mirror(files, database)


def reached(database: Database) -> None:
    """Begin a session, and end it; in a thread without a loop. Raises LogUnavailable."""
    try:
        from proxy.audit.postgres.session import Lost, Refused, Session  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise _lacking(database, error) from None
    with closing(Session(database, patience=_PATIENCE)) as session:
        try:
            session.run(session.begin())
        except (Lost, Refused) as error:
            raise LogUnavailable(str(error)) from None


@contextlib.contextmanager
def retaining(files: Files, database: Database) -> Iterator[Retention]:
    """Nobody else prunes or holds meanwhile, and the copy knows all holds. Raises LogUnavailable."""
    with closing(mirror_of(files, database)) as mirror:
        from proxy.audit.postgres.retention import Retention  # noqa: PLC0415 - it is an extra

        with closing(Retention.begin(database)) as retention:
            mirror.catch_up()
            yield retention


def begin(
    files: Files,
    database: Database,
    *,
    origin: str,
    at: str,
    keyring: Keyring,
    patience: float,
    by_hand: bool = False,
) -> tuple[Mirror, Ledger]:
    """Begin a log in the database, and copy all that there is. Raises LogUnavailable."""
    mirror = mirror_of(files, database)
    from proxy.audit.postgres.ledger import PostgresLedger  # noqa: PLC0415 - it is an extra

    ledger = None
    try:
        ledger = PostgresLedger.begin(
            database, origin=origin, at=at, keyring=keyring, patience=patience, by_hand=by_hand
        )
        mirror.catch_up()
    except BaseException:
        mirror.close()
        if ledger is not None:
            ledger.close()
        raise
    return mirror, ledger


def _lacking(database: Database, error: ModuleNotFoundError) -> LogUnavailable:
    return LogUnavailable(f"for {database} install counterfoil[postgres]: there is no {error.name}")
