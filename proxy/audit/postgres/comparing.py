"""What the database holds, as its copy asks for it; and whether both hold the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import zip_longest
from typing import Final

from proxy.audit.postgres.session import Session

_AT_ONCE: Final = 1_000

LEAVES: Final = (
    "SELECT number, place, entry FROM counterfoil.leaf WHERE number >= $1 ORDER BY number LIMIT $2"
)
LOGS: Final = """
SELECT epoch, name, opened, key, key_id, CASE WHEN ended <= $1 THEN sealed END
FROM counterfoil.log WHERE begun <= $1 AND (epoch > $2 OR epoch = ANY($3::int[])) ORDER BY epoch
"""
REGISTRY: Final = """
SELECT number, entry FROM counterfoil.registry WHERE number >= $1 AND after <= $2 ORDER BY number
"""

GONE: Final = """
SELECT number, place, hashes, attachment FROM counterfoil.gone WHERE number > $1 ORDER BY number LIMIT 64
"""
_WHOLE: Final = """
SELECT number, digest, digest = sha256(content) FROM counterfoil.attachment
WHERE number > $1 ORDER BY number LIMIT $2
"""


async def differing(
    session: Session, connection: sqlite3.Connection, watch: Callable[[int], None]
) -> str:
    """What the database says otherwise than its copy, of what both have; '' where there is nothing.

    `watch` is told of how many leaves were looked at just now. Raises Lost, Refused or sqlite3.Error.
    """
    after, (head, _) = 0, newest(connection)
    while ours := connection.execute(
        "SELECT number, place, entry FROM leaf WHERE number > ? ORDER BY number LIMIT ?",
        (after, _AT_ONCE),
    ).fetchall():
        theirs = [
            tuple(each)
            for each in await session.rows(LEAVES, after + 1, len(ours))
            if each[0] <= head
        ]
        if theirs != ours:
            both = zip_longest(ours, theirs, fillvalue=(head,))
            at = next(min(a[0], b[0]) for a, b in both if a != b)
            return f"it has another event than its copy, the {at}. of all logs"
        after = ours[-1][0]
        watch(len(ours))
    if wrong := await _differing_pruned(session, connection):
        return wrong
    if wrong := await _differing_attachment(session, connection):
        return wrong
    theirs = await session.rows(REGISTRY, 0, head)
    ours = connection.execute("SELECT number, entry FROM registry ORDER BY number").fetchall()
    if list(map(tuple, theirs))[: len(ours)] != ours:
        return "it has another registry of logs than its copy"
    theirs = await session.rows(LOGS, head, -1, [])
    columns = "epoch, name, opened, key, key_id, sealed"
    ours = connection.execute(f"SELECT {columns} FROM log ORDER BY epoch").fetchall()  # noqa: S608 - names of ours
    if list(map(tuple, theirs))[: len(ours)] != ours:
        return "it has another table of logs than its copy"
    return ""


async def _differing_pruned(session: Session, connection: sqlite3.Connection) -> str:
    followed, after = gone_of(connection), 0
    known = 0
    while theirs := await session.rows(GONE, after):
        for number, place, hashes, _ in theirs:
            if number > followed or place is None:
                continue
            ours = connection.execute(
                "SELECT hashes FROM pruned WHERE place = ?", (place,)
            ).fetchone()
            if ours is None or ours[0] != bytes(hashes):
                return "it kept other hashes of what was pruned than its copy"
            known += 1
        after = theirs[-1][0]
    (count,) = connection.execute("SELECT count(*) FROM pruned").fetchone()
    return "" if count == known else "it says of less that it was pruned than its copy"


async def _differing_attachment(session: Session, connection: sqlite3.Connection) -> str:
    after = 0
    while True:
        ours = connection.execute(
            "SELECT rowid, digest FROM attachment WHERE rowid > ? ORDER BY rowid LIMIT 50",
            (after,),
        ).fetchall()
        if not ours:
            return ""
        theirs = await session.rows(_WHOLE, after, len(ours))
        for number, digest, whole in theirs:
            if not whole:
                return f"its attachment {digest.hex()[:12]}, number {number}, is not what was named"
        if [(number, digest) for number, digest, _ in theirs] != ours:
            return f"it lacks an attachment that its copy has, after number {after}"
        after = ours[-1][0]


def newest(connection: sqlite3.Connection) -> tuple[int, tuple[int, bytes]]:
    """The number of the newest leaf of the copy, 0 where there is none; its place and bytes."""
    row = connection.execute(
        "SELECT number, place, entry FROM leaf ORDER BY number DESC LIMIT 1"
    ).fetchone()
    return (row[0], (row[1], row[2])) if row else (0, (0, b""))


def gone_of(connection: sqlite3.Connection) -> int:
    """How far the copy has followed what was taken away."""
    (number,) = connection.execute("SELECT gone FROM this").fetchone()
    return int(number)
