"""Attachments: what records name by its digest, in a table of the leaves' own file.

PROMISE 2 (no record, no data): they are written in the commit of the records that name them, so that one
sync makes both durable, or neither; a full disk refuses both. Each is there once, however many records
name it. Unlike leaves they may be taken away, when they are too old to be kept: the records stay provable.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from proxy.evidence.layout import Attachment

NAMES: Final = b'"sha256:'
"""What an entry holds that names any."""
_NAMED: Final = re.compile(NAMES + rb"([0-9a-f]{64})")
_UNNAMED: Final = "digest NOT IN (SELECT digest FROM temp.named)"
SCHEMA: Final = """
CREATE TABLE attachment (
  digest   BLOB NOT NULL UNIQUE,       -- SHA-256 of its content
  content  BLOB NOT NULL
) STRICT;
CREATE TRIGGER attachment_never_changes BEFORE UPDATE ON attachment
BEGIN SELECT RAISE(ABORT, 'attachments are never changed'); END;
"""


@contextmanager
def beside(connection: sqlite3.Connection, attachments: Sequence[Attachment]) -> Iterator[None]:
    """Commit attachments together with what is written within; raises sqlite3.Error.

    `connection` is in autocommit; without attachments it stays so.
    """
    if not attachments:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(
            "INSERT INTO attachment (digest, content) VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(bytes.fromhex(each.digest), each.content) for each in attachments],
        )
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def names_of(entry: bytes) -> list[bytes]:
    """The digests that an entry names."""
    return [bytes.fromhex(each.decode()) for each in _NAMED.findall(entry)]


def noted(connection: sqlite3.Connection, after: int) -> int:
    """Note, for `let_go`, what the leaves from number `after` on name; gives the last one's number."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS named (digest BLOB PRIMARY KEY)")
    leaves = connection.execute(
        "SELECT number, entry FROM leaf WHERE number > ? AND instr(entry, ?) > 0 ORDER BY number",
        (after, NAMES),
    )
    for number, entry in leaves:
        digests = [(digest,) for digest in names_of(entry)]
        connection.executemany("INSERT OR IGNORE INTO named VALUES (?)", digests)
        after = number
    return after


def let_go(connection: sqlite3.Connection) -> None:
    """Remove the attachments that no leaf names, once all of these are `noted`; within a transaction."""
    connection.execute(f"DELETE FROM attachment WHERE {_UNNAMED}")
    connection.execute("DELETE FROM temp.named")


def unnamed(connection: sqlite3.Connection) -> list[int]:
    """The numbers of the attachments that no leaf names, once all of these are `noted`."""
    rows = connection.execute(f"SELECT rowid FROM attachment WHERE {_UNNAMED} ORDER BY rowid")
    return [number for (number,) in rows]


def content_of(connection: sqlite3.Connection, digest: str, schema: str = "main") -> bytes | None:
    """The attachment of that digest (64 hex digits); None where there is none. Raises sqlite3.Error."""
    try:
        key = bytes.fromhex(digest)
    except ValueError:
        return None
    row = connection.execute(
        f"SELECT CAST(content AS BLOB) FROM {schema}.attachment WHERE digest = ?",
        (key,),
    ).fetchone()
    return None if row is None else bytes(row[0])


def is_whole(digest: str, content: bytes | None) -> bool:
    """Whether the content is there and has that digest."""
    return content is not None and hashlib.sha256(content).hexdigest() == digest
