"""The query projection: one row an access, all its records merged; made from the leaves alone.

It follows the leaves in a database of its own, so that it can never delay or fail one. Merging is
one SQL statement that reads leaves and upserts accesses: it runs outside the interpreter lock, and
the server's own index, a rebuilt one and a reader's overlay of the newest leaves are made by the
same words.

How records of one access merge: texts and lists are as the last record that gives them says; rows
and bytes are the last record's, but never shrink while the access goes on; `outcome` is

    open        an intent or progress without an end (yet)
    whole …     how it ended, as `AccessEvent.ended` says
    refused     nothing was released
    unresolved  the process died before it was known
    change      no access, but a grant or lockdown
    drift       no access, but what a store gives otherwise than declared
    policy-…    no access, but what became of a new policy
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Final

from proxy.audit.store import Files, connect, failing_as_unavailable, journal, read_only

VERSION: Final = 4

TEXTS: Final = (
    "subject", "tool", "address", "method", "path", "report", "format", "action", "purpose",
    "decision", "reason", "cause", "policy", "previous", "commit", "digest", "log", "span",
)  # fmt: skip
DOCUMENTS: Final = ("groups", "lines", "parameters", "fields")
NUMBERS: Final = ("status", "micros", "count")
GROWING: Final = ("rows", "bytes")

_LATEST: Final = TEXTS + DOCUMENTS + NUMBERS

_OF_TEXT: Final = ", ".join(f'"{name}" TEXT' for name in TEXTS + DOCUMENTS)
_OF_INTEGERS: Final = ", ".join(f'"{name}" INTEGER' for name in NUMBERS + GROWING)

SCHEMA: Final = f"""
CREATE TABLE main.access (
  access TEXT PRIMARY KEY,
  first INTEGER NOT NULL, last INTEGER NOT NULL, -- places of its first and last record
  records INTEGER NOT NULL, step TEXT, outcome TEXT, started TEXT, at TEXT,
  {_OF_TEXT}, {_OF_INTEGERS}
) STRICT;
CREATE TABLE main.projected (
  place INTEGER NOT NULL, -- of the last leaf that is in
  entry BLOB              -- and that leaf: the index of another log is noticed
) STRICT;
INSERT INTO main.projected VALUES (0, NULL);
"""  # noqa: S608 - made of the names above alone
INDEXES: Final = "CREATE INDEX main.access_by_first ON access (first);\n" + "".join(
    f"CREATE INDEX main.access_by_{name} ON access ({name}, first);\n"
    for name in ("subject", "report", "tool", "reason", "outcome", "at")
)

_NAMES: Final = ", ".join(f'"{name}"' for name in _LATEST + GROWING)
_VALUES: Final = ", ".join(
    [f"json ->> '$.{name}'" for name in _LATEST]
    + [f"coalesce(json ->> '$.{name}', 0)" for name in GROWING]
)
_CHANGES: Final = ", ".join(
    [f'"{name}" = coalesce(excluded."{name}", "{name}")' for name in _LATEST]
    + [
        f'"{name}" = iif(excluded.step = \'progress\', max("{name}", excluded."{name}"),'
        f' excluded."{name}")'
        for name in GROWING
    ]
)
# SQLite's JSON functions cut a text at NUL: it is shown as its symbol instead.
_APPLY: Final = f"""
INSERT INTO main.access (access, first, last, records, step, outcome, started, at, {_NAMES})
SELECT
  json ->> '$.access', place, place, 1, json ->> '$.step',
  CASE json ->> '$.step'
    WHEN 'intent' THEN 'open' WHEN 'progress' THEN 'open'
    WHEN 'refusal' THEN 'refused' WHEN 'burst' THEN 'refused'
    WHEN 'unresolved' THEN 'unresolved' WHEN 'opened' THEN 'opened'
    WHEN 'policy-loaded' THEN 'policy-loaded' WHEN 'policy-refused' THEN 'policy-refused'
    WHEN 'change' THEN 'change' WHEN 'drift' THEN 'drift'
    ELSE coalesce(json ->> '$.ended', 'whole')
  END,
  json ->> '$.at', json ->> '$.at', {_VALUES}
FROM (
  SELECT place, replace(CAST(entry AS TEXT), '\\u0000', '\\u2400') AS json
  FROM leaves.leaf WHERE place > :after AND place <= :upto
  ORDER BY place LIMIT -1 -- keeps SQLite from making `json` anew for each column
)
WHERE json_valid(json) AND json ->> '$.access' IS NOT NULL
ON CONFLICT (access) DO UPDATE SET
  last = excluded.last, records = records + 1, step = excluded.step, outcome = excluded.outcome,
  at = excluded.at, {_CHANGES}
"""  # noqa: S608 - made of the names above alone


def apply(connection: sqlite3.Connection, after: int, upto: int) -> None:
    """Merge the leaves with places in (after, upto] of `leaves` into `main.access`."""
    connection.execute(_APPLY, {"after": after, "upto": upto})


def fits(connection: sqlite3.Connection, index: str) -> bool:
    """Whether the attached `index` was made from the attached `leaves`, by this version."""
    (version,) = connection.execute(f"PRAGMA {index}.user_version").fetchone()
    if version != VERSION:
        return False
    return bool(
        connection.execute(
            f"SELECT p.place = 0 OR p.entry IS l.entry FROM {index}.projected AS p "  # noqa: S608 - a schema's name
            "LEFT JOIN leaves.leaf AS l ON l.place = p.place"
        ).fetchone()[0]
    )


class Projection:
    """The index of one log, kept up by one thread at a time."""

    def __init__(self, files: Files) -> None:
        """Open the index, or make it anew where there is none that fits the leaves."""
        self._files = files
        with failing_as_unavailable(files.index):
            try:
                self._connection = self._open()
                fitting = fits(self._connection, "main")
            except sqlite3.DatabaseError as error:
                if isinstance(
                    error, sqlite3.OperationalError
                ):  # locked or full: not the index's fault
                    raise
                fitting = False
            if not fitting:
                self.discard()
                self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        connection = connect(self._files.index, busy_seconds=1.0)
        self._connection = connection
        journal(
            connection, "NORMAL"
        )  # a power cut may take the newest rows; the leaves give them again
        connection.execute("ATTACH ? AS leaves", (read_only(self._files.leaves),))
        (tables,) = connection.execute("SELECT count(*) FROM main.sqlite_schema").fetchone()
        if tables == 0:
            connection.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} {INDEXES} PRAGMA main.user_version = {VERSION}; COMMIT;"
            )
        return connection

    def discard(self) -> None:
        """Close it and delete its files: the next to open it makes it anew."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            self._files.index.with_name(self._files.index.name + suffix).unlink(missing_ok=True)

    def step(self, most: int = 2000) -> tuple[int, int]:
        """Take in up to `most` leaves in one transaction.

        Returns how many there were, and the place of the last leaf that is in. Raises
        sqlite3.Error; then nothing has changed.
        """
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            (after,) = run("SELECT place FROM main.projected").fetchone()
            upto, count = run(
                "SELECT max(place), count(*) FROM"
                " (SELECT place FROM leaves.leaf WHERE place > ? ORDER BY place LIMIT ?)",
                (after, most),
            ).fetchone()
            if count:
                apply(self._connection, after, upto)
                run(
                    "UPDATE main.projected SET place = :upto,"
                    " entry = (SELECT entry FROM leaves.leaf WHERE place = :upto)",
                    {"upto": upto},
                )
            run("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise
        return count, upto or after

    def catch_up(self) -> None:
        """Take in all leaves that are durable now."""
        while self.step()[0]:
            pass

    def missing(self, before: int) -> int:
        """How many leaves with places below `before` are not in it yet."""
        (count,) = self._connection.execute(
            "SELECT count(*) FROM leaves.leaf"
            " WHERE place > (SELECT place FROM main.projected) AND place < ?",
            (before,),
        ).fetchone()
        return int(count)

    def clear(self) -> None:
        """Forget all rows; what follows makes them again from the leaves."""
        self._connection.executescript(
            "BEGIN IMMEDIATE; DELETE FROM main.access;"
            " UPDATE main.projected SET place = 0, entry = NULL; COMMIT;"
        )

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def rebuild(files: Files) -> None:
    """Make the index of a log again from its leaves; a server may write to the log meanwhile."""
    with failing_as_unavailable(files.index):
        projection = Projection(files)
        try:
            projection.clear()
            projection.catch_up()
        finally:
            projection.close()
