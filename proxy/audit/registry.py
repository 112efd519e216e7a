"""The log of logs: which logs were opened, by which key each is signed, and how each was sealed.

A log is begun anew at each start, with a key of its own. So that none can be left out or put in
later, each is an entry of a registry, a log like them that is never sealed:

    {"at":"…","event":"opened","key":"counterfoil/3+0cdeb8a6+AeJ…","log":"counterfoil/3"}
    {"at":"…","event":"sealed","log":"counterfoil/3","root":"CsUYapGG…","size":20852163}

Whoever knows the registry's verifier key can verify all of it. Signing keys are derived from the
keyring (HKDF) for the log's name and the access log's identity, a random number that was drawn with it.
"""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from proxy.access import NO_EVENT
from proxy.audit.checkpoint import Checkpoint, VerifierKey
from proxy.audit.merkle import HASH_BYTES
from proxy.audit.store import Files, place_of
from proxy.audit.tiles import WIDTH
from proxy.keys import Keyring, Signer

PURPOSE: Final = "audit-checkpoint"
EPOCH: Final = 0
"""The registry's place among the logs."""
SUFFIX: Final = "registry"
_DAY: Final = len("2026-11-23")


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="opened"):
    """A log was begun."""

    at: str
    key: str
    log: str


class Sealed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="sealed"):
    """A log was ended: nothing was, and nothing is ever, added to it after `size` entries."""

    at: str
    log: str
    root: str
    size: int

    @property
    def checkpoint(self) -> Checkpoint:
        """The last state of the log. Raises ValueError where the root is none."""
        root = base64.b64decode(self.root, validate=True)
        return Checkpoint(origin=self.log, size=self.size, root=root)


Entry = Opened | Sealed
_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final[msgspec.json.Decoder[Entry]] = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """The exact bytes of an entry."""
    return _ENCODER.encode(entry)


def decode(leaf: bytes) -> Entry:
    """What an entry says; raises ValueError."""
    try:
        return _DECODER.decode(leaf)
    except NO_EVENT:
        raise ValueError("it is no entry of a registry") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """A log as its row has it: its name, and the keys by which it is signed."""

    epoch: int
    name: str
    key: VerifierKey
    key_id: str
    """The master key that the signing key is derived from."""

    def signer(self, keyring: Keyring, identity: str) -> Signer:
        """The signing key. Raises KeyringError where the keyring has lost its master key."""
        return keyring.signer(PURPOSE, identity, self.name, key_id=self.key_id)


def goes_on(log: Signed, opened: str, keyring: Keyring, identity: str, *, at: str) -> bool:
    """Whether an operator's log is still gone on with: for a day, by the key that names now."""
    return opened[:_DAY] == at[:_DAY] and log == new(
        keyring, identity, epoch=log.epoch, name=log.name
    )


def new(keyring: Keyring, identity: str, *, epoch: int, name: str) -> Signed:
    """A log that is begun now."""
    signer = keyring.signer(PURPOSE, identity, name)
    key = VerifierKey(name=name, public=signer.public)
    return Signed(epoch=epoch, name=name, key=key, key_id=signer.key_id)


def insert(connection: sqlite3.Connection, log: Signed, *, at: str, by_hand: bool = False) -> None:
    """Write the row of a log that is begun, within the caller's transaction."""
    connection.execute(
        "INSERT INTO log (epoch, name, opened, key, key_id, by_hand) VALUES (?, ?, ?, ?, ?, ?)",
        (log.epoch, log.name, at, str(log.key), log.key_id, by_hand),
    )


def table_of(epoch: int) -> tuple[str, str]:
    """The table that holds a log's entries, and the column by which they are numbered."""
    return ("registry", "number") if epoch == EPOCH else ("leaf", "place")


def size_of(connection: sqlite3.Connection, epoch: int) -> int:
    """How many entries a log has, by the last one's place, be it there or pruned."""
    table, column = table_of(epoch)
    base = place_of(epoch, 0)
    (last,) = connection.execute(
        f"SELECT max({column}) FROM {table} WHERE {column} BETWEEN ? AND ?",
        (base, place_of(epoch + 1, 0) - 1),
    ).fetchone()
    size = 0 if last is None else int(last) - base + 1
    if (
        epoch == EPOCH
    ):  # rows without a place among the entries are counted, so that they are missed there
        return max(size, _count(connection))
    gone = connection.execute(
        f"SELECT place + length(hashes) / {HASH_BYTES} FROM pruned WHERE place BETWEEN ? AND ?"
        " ORDER BY place DESC LIMIT 1",
        (base, place_of(epoch + 1, 0) - 1),
    ).fetchone()
    return size if gone is None else max(size, int(gone[0]) - base)


def folder_of(files: Files, epoch: int) -> Path:
    """Where a log is published."""
    return files.tiles / (SUFFIX if epoch == EPOCH else str(epoch))


def hashes_of(connection: sqlite3.Connection, epoch: int, start: int) -> list[bytes]:
    """Those that were kept when entries went, from entry `start` of a log on; none where that is there."""
    if epoch == EPOCH:
        return []
    row = connection.execute(
        # No more than a file of entries has, whatever the row holds.
        "SELECT substr(CAST(hashes AS BLOB), 1 + (:place - place) * :size, :size * :most) FROM pruned"
        " WHERE place <= :place ORDER BY place DESC LIMIT 1",
        {"place": place_of(epoch, start), "size": HASH_BYTES, "most": WIDTH},
    ).fetchone()
    data = b"" if row is None else row[0]
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def _count(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM registry").fetchone()
    return int(count)


def append(connection: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    """Add entries to the registry, within the caller's transaction."""
    size = _count(connection)
    connection.executemany(
        "INSERT INTO registry (number, entry) VALUES (?, ?)",
        [(size + at, encode(entry)) for at, entry in enumerate(entries)],
    )


def identity_of(connection: sqlite3.Connection) -> str:
    """The identity that was drawn for this access log."""
    (identity,) = connection.execute("SELECT identity FROM this").fetchone()
    return str(identity)


def logs(connection: sqlite3.Connection, where: str = "1") -> list[Signed]:
    """The logs for which a condition on their rows holds, in their order; the registry is the first."""
    rows = connection.execute(
        f"SELECT epoch, name, key, key_id FROM log WHERE {where} ORDER BY epoch"
    )
    return [
        Signed(epoch=epoch, name=name, key=VerifierKey.parse(key), key_id=key_id)
        for epoch, name, key, key_id in rows
    ]
