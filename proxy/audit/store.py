"""The files of an access log, their schema, and how they are opened.

An access log `access.db` is some files in one folder; the first alone is the record:

    access.db         leaves: the exact bytes of every event, append-only (WAL, synchronous=FULL); and
                      what is too large for a leaf that names it (attachments.py)
    access-tiles/     what proves them: each log's tree, entries and signed root, as static files
    access-index.db   the query projection: made from the leaves, can be deleted and rebuilt
    access-names.db   the directory of subjects: opaque id -> principal, erasable
    access-locks/     what its processes hold while they live: each its log, one of them all else

A log is opened anew by each process at its start and numbered by a fencing epoch, `counterfoil/<epoch>`;
several may be open at once. A leaf's `place` is `epoch << 40 | index`; its `number` is its turn among all
leaves, in the order of commits, so that one integer is a reader's cursor however many write.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.audit import attachments
from proxy.errors import LogUnavailable

APPLICATION_ID: Final = 0x43465441
"""`CFTA` in the header of the leaves' file: a database of another kind is refused."""

VERSION: Final = 8
HERE: Final = "file"
COPY: Final = "database"
"""What a file says of where the log is that it holds."""
INDEX_BITS: Final = 40
SCHEMA: Final = f"""
CREATE TABLE log (
  epoch    INTEGER PRIMARY KEY,
  name     TEXT NOT NULL UNIQUE,
  opened   TEXT NOT NULL,
  key      TEXT NOT NULL,              -- the verifier key of its checkpoints
  key_id   TEXT NOT NULL,              -- the master key that the signing key is derived from
  settled  INTEGER NOT NULL DEFAULT 0, -- accesses that began before this index have all ended
  by_hand  INTEGER NOT NULL DEFAULT 0, -- whether it is of what operators do, one after another (recover.py)
  sealed   TEXT,                       -- when it was closed for good: no leaf is added to it
  final    INTEGER                     -- how many leaves it had then, once the registry says so too
) STRICT;
CREATE TABLE registry (
  number   INTEGER PRIMARY KEY,
  entry    BLOB NOT NULL
) STRICT;
CREATE TABLE this (
  identity  TEXT NOT NULL,             -- drawn once; keys are derived for it
  authority TEXT NOT NULL,             -- 'file': this one; 'database': it is a copy (postgres/mirror.py)
  gone      INTEGER NOT NULL           -- rises with all that is taken away; a copy: how far it has followed
) STRICT;
CREATE TRIGGER registry_never_changes BEFORE UPDATE ON registry
BEGIN SELECT RAISE(ABORT, 'the registry is never changed'); END;
CREATE TRIGGER registry_never_goes BEFORE DELETE ON registry
BEGIN SELECT RAISE(ABORT, 'the registry is never shortened'); END;
CREATE TABLE leaf (
  number   INTEGER PRIMARY KEY,        -- in the order of commits, over all logs
  place    INTEGER NOT NULL UNIQUE,    -- epoch << {INDEX_BITS} | index
  entry    BLOB NOT NULL
) STRICT;
CREATE TRIGGER leaf_never_changes BEFORE UPDATE ON leaf
BEGIN SELECT RAISE(ABORT, 'leaves are never changed'); END;
CREATE TABLE pruned (
  place    INTEGER PRIMARY KEY,        -- of the first of some leaves whose entries are gone
  hashes   BLOB NOT NULL               -- of each of them, 32 bytes
) STRICT;
CREATE TRIGGER pruned_never_changes BEFORE UPDATE ON pruned
BEGIN SELECT RAISE(ABORT, 'hashes are never changed'); END;
CREATE TRIGGER pruned_never_goes BEFORE DELETE ON pruned
BEGIN SELECT RAISE(ABORT, 'hashes are never deleted'); END;
CREATE TRIGGER leaf_never_goes BEFORE DELETE ON leaf
WHEN old.place >= coalesce((SELECT place + length(hashes) / 32 FROM pruned
  WHERE place <= old.place ORDER BY place DESC LIMIT 1), 0)
BEGIN SELECT RAISE(ABORT, 'a leaf goes only where its hash is kept'); END;
{attachments.SCHEMA}PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""


def place_of(epoch: int, index: int) -> int:
    """The place of leaf `index` of log `epoch`."""
    return epoch << INDEX_BITS | index


def epoch_and_index(place: int) -> tuple[int, int]:
    """The log's epoch and the index in it."""
    return place >> INDEX_BITS, place & (1 << INDEX_BITS) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Where the parts of one access log are."""

    leaves: Path

    @classmethod
    def at(cls, path: Path) -> Files:
        """The files of the log at `path`; links are followed once, here."""
        return cls(leaves=Path(os.path.realpath(path)))

    @property
    def write_ahead(self) -> Path:
        """SQLite's write-ahead log of the leaves: the newest of them are in it alone."""
        return self.leaves.with_name(self.leaves.name + "-wal")

    @property
    def index(self) -> Path:
        """The query projection."""
        return self.leaves.with_name(f"{self.leaves.stem}-index{self.leaves.suffix}")

    @property
    def tiles(self) -> Path:
        """The folder of tiles and checkpoints, with one for each log in it."""
        return self.leaves.with_name(f"{self.leaves.stem}-tiles")

    @property
    def names(self) -> Path:
        """The directory of subjects."""
        return self.leaves.with_name(f"{self.leaves.stem}-names{self.leaves.suffix}")

    @property
    def locks(self) -> Path:
        """The folder of the locks (locks.py)."""
        return self.leaves.with_name(f"{self.leaves.stem}-locks")


def connect(path: Path, *, busy_seconds: float) -> sqlite3.Connection:
    """A connection in autocommit that may go from thread to thread; a new file is private."""
    with contextlib.suppress(FileExistsError):
        # Never open one that exists: to close it again would drop the locks (POSIX advisory ones
        # belong to the process) of any other connection of ours to it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return sqlite3.connect(
        path, timeout=busy_seconds, isolation_level=None, check_same_thread=False, uri=False
    )


def identity(path: Path) -> tuple[int, int]:
    """Device and inode of the file at `path`; (0, 0) where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - for each commit: twice as fast as the Path's own
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def read_only(path: Path) -> str:
    """The SQLite URI that opens `path` for reading."""
    return f"{path.as_uri()}?mode=ro"


def journal(connection: sqlite3.Connection, synchronous: str) -> None:
    """Write ahead, and sync as told; raises LogUnavailable where the file system cannot."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise LogUnavailable(f"the file system cannot hold a write-ahead log (journal mode {mode})")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA fullfsync = ON")  # where fsync alone does not reach the platter


def create(connection: sqlite3.Connection, files: Files, *, copy_of: str = "") -> None:
    """Make the schema in an empty file, `copy_of` the log of that identity or as a log itself.

    Raises LogUnavailable for a file that is something else.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (application, version, tables) == (0, 0, 0):
        this = (copy_of or secrets.token_hex(16), COPY if copy_of else HERE)
        own = f"INSERT INTO this VALUES ('{this[0]}', '{this[1]}', 0);"
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} {own} COMMIT;")
        folder = os.open(files.leaves.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the new file's name must be as durable as what is in it
        finally:
            os.close(folder)
    else:
        check_kind(application, version, files)


def authority_of(connection: sqlite3.Connection) -> str:
    """Where the log is that the file holds: HERE or COPY."""
    (authority,) = connection.execute("SELECT authority FROM this").fetchone()
    return str(authority)


def check_kind(application: int, version: int, files: Files) -> None:
    """Raise LogUnavailable unless the header's numbers are an access log's of this version."""
    if application != APPLICATION_ID:
        raise LogUnavailable(f"{files.leaves} is not an access log")
    if version != VERSION:
        raise LogUnavailable(
            f"{files.leaves} is an access log of version {version}; this program knows {VERSION}"
        )


_SAID: Final = {
    sqlite3.SQLITE_BUSY: "locked by another process",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_CANTOPEN: "not to be opened (to read a log too, its folder must be writable)",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "not a database",
    sqlite3.SQLITE_IOERR: "failing (input/output error)",
}

_DAMAGED: Final = frozenset({
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, -1,
})  # fmt: skip


def primary_code(error: sqlite3.Error) -> int:
    """The primary result code of SQLite, or -1 where the fault is not SQLite's."""
    code: int = getattr(error, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else -1


def damaged(error: sqlite3.Error) -> bool:
    """Whether it is what the file holds that cannot be read, and not that it cannot be read now."""
    return primary_code(error) in _DAMAGED


def explain(error: sqlite3.Error, path: Path) -> str:
    """What is wrong with the file, in words and with SQLite's own name for it."""
    said = _SAID.get(primary_code(error), "not usable")
    return f"{path} is {said} [{getattr(error, 'sqlite_errorname', type(error).__name__)}]"


@contextlib.contextmanager
def failing_as_unavailable(path: Path) -> Iterator[None]:
    """Turn the faults of SQLite and of the operating system into LogUnavailable."""
    try:
        yield
    except sqlite3.Error as error:
        raise LogUnavailable(explain(error, path)) from error
    except OSError as error:
        raise LogUnavailable(f"{path} cannot be used: {error.strerror}") from error
