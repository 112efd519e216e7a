"""Where the entries are that are to be verified: in the access log itself, or in the published files."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

from proxy.audit import attached, attachments, registry
from proxy.audit.looking import PRUNE
from proxy.audit.store import (
    COPY,
    SCHEMA,
    Files,
    authority_of,
    check_kind,
    epoch_and_index,
    place_of,
    read_only,
)
from proxy.audit.tiles import WIDTH, Folder, Missing
from proxy.errors import LogUnavailable

_OBJECTS: Final = (
    "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite@_%' ESCAPE '@'"
)
_ENTRIES: Final = re.compile(r"((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([0-9]{1,3}))?")
"""The name of a file of entries (tiles.entries_path)."""
_FIRST: Final = -(1 << 63)
_LAST: Final = (1 << 63) - 1
"""The first place that SQLite can hold, and the last."""


def _end(name: re.Match[str]) -> int:
    """How many entries there are up to the end of that file of some."""
    number = int(re.sub("[x/]", "", name[1]))
    return min(number, _LAST // WIDTH) * WIDTH + (int(name[2]) if name[2] else WIDTH)


class Leaves:
    """The access log's own file."""

    apart = True

    def __init__(self, files: Files) -> None:
        """Raises LogUnavailable where there is none; sqlite3.Error where it cannot be read."""
        if not files.leaves.is_file():
            raise LogUnavailable(f"there is no access log at {files.leaves}")
        self._connection = sqlite3.connect(
            read_only(files.leaves), uri=True, isolation_level=None, timeout=5.0
        )
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        check_kind(application, version, files)
        self.again = partial(Leaves, files)
        # Without a transaction: entries are only ever added, and the writer's file must not grow meanwhile.

    @property
    def altered(self) -> bool:
        """Whether its tables are others than ours: then nothing that they give means anything.

        Triggers that keep an honest program from changing leaves may be gone; others may not be there.
        """
        found = set(self._connection.execute(_OBJECTS).fetchall())
        with closing(sqlite3.connect(":memory:")) as new:
            new.executescript(SCHEMA)
            ours = set(new.execute(_OBJECTS).fetchall())
        tables = {each for each in ours if each[0] == "table"}
        if not tables <= found <= ours:
            return True
        this = self._connection.execute("SELECT identity, authority, gone FROM this").fetchall()
        return len(this) != 1 or None in this[0]  # that of a file that was cut off reads as nothing

    @property
    def is_copy(self) -> bool:
        """Whether it is one of a database's log, and may be behind."""
        return authority_of(self._connection) == COPY

    @property
    def gone(self) -> int:
        """How much was taken away by now: a number that rises."""
        (number,) = self._connection.execute("SELECT gone FROM this").fetchone()
        return int(number)

    def key(self) -> str:
        """The registry's verifier key, by its own word. Raises LogUnavailable where it never began."""
        row = self._connection.execute("SELECT key FROM log WHERE epoch = 0").fetchone()
        if row is None:
            raise LogUnavailable("nothing was ever written to the access log")
        return str(row[0])

    def epochs(self) -> Sequence[int]:
        """The logs that have entries."""
        found: list[int] = []
        first = _FIRST
        while first <= _LAST:
            row = self._connection.execute(
                "SELECT min(place) FROM"
                " (SELECT * FROM (SELECT place FROM leaf WHERE place >= :first ORDER BY place LIMIT 1)"
                " UNION ALL"
                " SELECT * FROM (SELECT place FROM pruned WHERE place >= :first ORDER BY place LIMIT 1))",
                {"first": first},
            ).fetchone()
            if row[0] is None:
                break
            found.append(epoch_and_index(row[0])[0])
            first = place_of(found[-1] + 1, 0)
        return found

    def stated(self) -> Mapping[int, tuple[str, str]]:
        """The rows of the logs."""
        rows = self._connection.execute("SELECT epoch, name, key FROM log")
        return {epoch: (name, key) for epoch, name, key in rows}

    def size(self, epoch: int, published: int) -> int:  # noqa: ARG002 - it is all that another source has
        """By the last entry's place, be it there or pruned."""
        return registry.size_of(self._connection, epoch)

    def last(self, epoch: int) -> list[bytes]:
        """By its place."""
        size = self.size(epoch, 0)
        return self.entries(epoch, max(0, size - 1), size)

    def pruned(self, epoch: int, start: int) -> list[bytes]:
        """As they were kept when the entries went."""
        return registry.hashes_of(self._connection, epoch, start)

    def entries(self, epoch: int, start: int, end: int) -> list[bytes]:
        """Up to the first place where there is none."""
        table, column = registry.table_of(epoch)
        base = place_of(epoch, 0)
        first = max(start - 1, 0)  # of which the next one is to be the successor
        rows = self._connection.execute(
            # Whatever the file holds, it is hashed as bytes.
            f"SELECT {column}, number, CAST(coalesce(entry, '') AS BLOB) FROM {table}"  # noqa: S608 - two tables of ours
            f" WHERE {column} >= ? AND {column} < ? ORDER BY {column}",
            (base + first, base + end),
        ).fetchall()
        if rows and rows[0][0] == base + start:
            first = start  # the one before it was pruned
        found: list[bytes] = []
        last = -1
        for place, (at, number, entry) in enumerate(rows, base + first):
            if at != place or number <= last:  # in another order than it was committed in
                break
            found.append(entry)
            last = number
        return found[start - first :]

    def records(self, access: str) -> list[tuple[int, int, bytes]]:
        """(epoch, index, entry) of each record of an access, in their order; found without the index."""
        rows = self._connection.execute(
            "SELECT place, entry FROM leaf WHERE instr(entry, ?) AND entry ->> '$.access' = ?"
            " ORDER BY number",
            (access.encode(), access),
        )
        return [(*epoch_and_index(place), entry) for place, entry in rows]

    def prunings(self) -> list[tuple[int, int, bytes]]:
        """(epoch, index, entry) of each record of pruning, in their order."""
        rows = self._connection.execute(
            "SELECT place, entry FROM leaf WHERE instr(entry, ?) ORDER BY number", (PRUNE,)
        )
        return [(*epoch_and_index(place), entry) for place, entry in rows]

    def attachment(self, digest: str) -> bytes | None:
        """What a record names by its digest; None where it is not there."""
        return attachments.content_of(self._connection, digest)

    def attached(self, digest: str) -> bool | None:
        """By its content."""
        content = self.attachment(digest)
        return None if content is None else attachments.is_whole(digest, content)

    def close(self) -> None:
        """Close it."""
        self._connection.close()


class Bundles:
    """The published files, as somebody has them who has no access to the log."""

    apart = False

    def __init__(self, tiles: Path) -> None:
        self._tiles = tiles
        self.again = partial(Bundles, tiles)
        self._sizes: dict[int, int] = {}

    def epochs(self) -> Sequence[int]:
        """The logs of which there are files."""
        try:
            with os.scandir(self._tiles) as found:
                return sorted(int(each.name) for each in found if each.name.isdecimal())
        except OSError:
            return []  # the registry's files are missing then, which is said

    def stated(self) -> Mapping[int, tuple[str, str]]:
        """Nothing: there is no table."""
        return {}

    def attached(self, digest: str) -> bool | None:
        """Of the published ones."""
        return attached.is_whole(self._tiles, digest)

    def size(self, epoch: int, published: int) -> int:
        """What the checkpoint says: there is nothing else."""
        self._sizes[epoch] = published
        return published

    def last(self, epoch: int) -> list[bytes]:
        """Of the last file of entries; what cannot be read there is no entry that was written by us."""
        folder = self._tiles / str(epoch) / "tile/entries"
        names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        size = max((_end(each) for each in map(_ENTRIES.fullmatch, names) if each), default=0)
        return (self.entries(epoch, size - 1, size) or [b""]) if size else []

    def pruned(self, epoch: int, start: int) -> list[bytes]:
        """Of the tile, where the file of its entries is not there."""
        folder = Folder(self._tiles / (registry.SUFFIX if epoch == registry.EPOCH else str(epoch)))
        number, size = start // WIDTH, self._sizes.get(epoch, 0)
        try:
            folder.entries(number, size)
        except Missing:
            with suppress(Missing):
                return folder.hashes(0, number, size)[start % WIDTH :]
        except ValueError:
            pass  # it is there, and damaged
        return []

    def entries(self, epoch: int, start: int, end: int) -> list[bytes]:
        """Up to the first file that is missing or damaged."""
        folder = Folder(self._tiles / (registry.SUFFIX if epoch == registry.EPOCH else str(epoch)))
        found: list[bytes] = []
        # Of each entry there is one file, that of the checkpoint, however far is asked for.
        size = max(end, self._sizes.get(epoch, 0))
        try:
            for number in range(start // WIDTH, -(-end // WIDTH)):
                entries = folder.entries(number, size)
                found += entries[max(0, start - number * WIDTH) : end - number * WIDTH]
                if len(entries) < min(WIDTH, end - number * WIDTH):
                    break
        except (Missing, ValueError):
            pass
        return found
