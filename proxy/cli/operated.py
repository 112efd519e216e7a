"""What an operator does with the files of the access log is on record in it, before it is done.

`operator:UID@HOST` is who the machine takes it to be: these verbs are outside enforcement, and whoever may
write the files can write other things into them. What is done in a day is in one log, which each use goes on
with, but where another writes to it just then; the next start of a server seals it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from proxy import config
from proxy.access import AccessEvent, Step, new_access_id, timestamp
from proxy.audit import AccessLog
from proxy.audit.postgres.database import Database
from proxy.audit.store import Files
from proxy.errors import CounterfoilError, LogUnavailable
from proxy.keys import Keyring
from proxy.keys import file as keyring_file
from proxy.keys.kek import kek_of


def operator() -> str:
    """Whoever uses this machine, as a principal."""
    return f"operator:{os.getuid()}@{socket.gethostname()}"


def keyring_of(settings: Path) -> Keyring:
    """The keyring that the settings name. Raises CounterfoilError."""
    found = config.load(settings, os.environ)
    return keyring_file.read(found.keyring, kek_of(found.key_encryption_key, found.environment))


class Recording:
    """A log that is open for what an operator does."""

    def __init__(self, runner: asyncio.Runner, log: AccessLog, keyring: Keyring) -> None:
        self._runner = runner
        self._log = log
        self._keyring = keyring

    def put(
        self, step: Step, *, action: str = "", parameters: Mapping[str, str], count: int = 0
    ) -> str:
        """Make it durable; the record's id. Raises LogUnavailable."""
        name = operator()
        event = AccessEvent(
            access=new_access_id(),
            step=step,
            at=timestamp(time.time()),
            subject=self._keyring.opaque(name),
            action=action,
            parameters={**parameters},
            count=count,
        )
        return self._runner.run(self._log.append(event, principal=name)).access


def database_of(settings: Path, log_file: Path | None) -> Database | None:
    """The database that holds the access log, where it is that of the settings. Raises CounterfoilError."""
    if log_file is not None and not settings.is_file():
        return None
    found = config.load(settings, os.environ)
    if log_file is not None and not _same(log_file, found.path(found.settings.log)):
        return None
    return found.database


@contextlib.contextmanager
def recording(
    path: Path, keyring: Keyring, database: Database | None = None
) -> Iterator[Recording]:
    """Open a log in the access log at `path`, which is there. Raises LogUnavailable."""
    if not Files.at(path).leaves.is_file():
        raise LogUnavailable(f"there is no access log at {path}")
    with asyncio.Runner() as runner:
        opening = AccessLog.open(path, keyring=keyring, database=database, by_hand=True)
        log = runner.run(opening)
        try:
            yield Recording(runner, log, keyring)
        finally:
            runner.run(log.close())


def note(action: str, settings: Path, log_file: Path | None = None) -> None:
    """Put on record that a verb is used, in the log that the settings name; says so where it cannot be.

    A log that no settings here name is a copy, or another's: nothing is written to it.
    """
    try:
        if not settings.is_file():
            return
        found = config.load(settings, os.environ)
        path = found.path(found.settings.log)
        if not path.is_file() or (log_file is not None and not _same(log_file, path)):
            return
        with recording(path, keyring_of(settings), found.database) as log:
            log.put("operated", action=action, parameters={})
    except CounterfoilError as error:
        click.echo(f"counterfoil: not on record: {error}", err=True)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
