"""Attachments as static files beside the tiles, for whoever has these and no log: each under its own digest.

    access-tiles/attachments/0c/deb8a6…      62 hex digits: the SHA-256 of what is in it is 0cdeb8a6…

Of all logs together, each once. They need the permission to read the log, as entries do. Who publishes
(publish.py) has them durable before the checkpoint that covers the first record that names them.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from proxy import durable
from proxy.access import NO_EVENT
from proxy.audit.attachments import NAMES, content_of
from proxy.evidence.layout import named

FOLDER: Final = "attachments"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_AT_ONCE: Final = 256
_PIECE: Final = 1 << 20


class _Evidence(msgspec.Struct):
    evidence: tuple[str, ...] = ()


_EVIDENCE: Final = msgspec.json.Decoder(_Evidence)


def _path(tiles: Path, digest: str) -> Path:
    return tiles / FOLDER / digest[:2] / digest[2:]


def digests_of(entries: Iterable[bytes]) -> Iterator[str]:
    """Of the attachments that records name as their evidence; what is no record names none."""
    for entry in entries:
        if NAMES in entry:
            try:
                statements = _EVIDENCE.decode(entry).evidence
            except NO_EVENT:
                continue
            for statement in statements:
                digest = named(statement)
                if digest is not None and _DIGEST.fullmatch(digest):
                    yield digest


def is_whole(tiles: Path, digest: str) -> bool | None:
    """Whether the published attachment of that digest has it; None where there is none."""
    if not _DIGEST.fullmatch(digest):
        return None
    hashed = hashlib.sha256()
    try:
        # A pipe in its place must not be waited for.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(_path(tiles, digest), flags)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            while piece := file.read(_PIECE):
                hashed.update(piece)
    except OSError:
        return None
    return hashed.hexdigest() == digest


class Attached:
    """The files of one access log, written by one thread of one process at a time."""

    def __init__(self, tiles: Path) -> None:
        self._tiles = tiles
        self._unsynced: set[Path] = set()

    def put(self, connection: sqlite3.Connection, digest: str) -> bool:
        """Publish an attachment of the leaves' file, unless it is; False where that does not hold it.

        Raises OSError or sqlite3.Error.
        """
        path = _path(self._tiles, digest)
        if path.is_file():
            return True
        content = content_of(connection, digest)
        if content is None:
            return False
        for folder in (path.parent.parent, path.parent):
            if not folder.is_dir():
                folder.mkdir(mode=durable.PRIVATE_FOLDER, exist_ok=True)
                self._unsynced.add(folder.parent)
        durable.put(path, content, mode=durable.PRIVATE_FILE)
        self._unsynced.add(path.parent)
        return True

    def sync(self) -> None:
        """Make the names of all that was put durable. Raises OSError."""
        while self._unsynced:
            durable.sync_folder(self._unsynced.pop())


def unpublish(tiles: Path, connection: sqlite3.Connection) -> None:
    """Remove the files of attachments that the leaves' file does not hold. Raises OSError or sqlite3.Error.

    `connection` is in autocommit. Nobody can add one to it between the last look and the removal.
    """

    def held(digest: str) -> bool:
        asked = "SELECT 1 FROM attachment WHERE digest = ?"
        return connection.execute(asked, (bytes.fromhex(digest),)).fetchone() is not None

    there = {
        path: found[0]
        for path in (tiles / FOLDER).glob("??/*")
        # Whoever was killed while publishing it has left it as `.62 digits.something`.
        if (found := _DIGEST.match(path.parent.name + path.name.removeprefix(".")))
    }
    loose = [path for path, digest in there.items() if not held(digest)]
    for start in range(0, len(loose), _AT_ONCE):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for path in loose[start : start + _AT_ONCE]:
                if not held(there[path]):
                    path.unlink(missing_ok=True)
        finally:
            connection.rollback()
    for folder in {path.parent for path in loose}:
        durable.sync_folder(folder)
