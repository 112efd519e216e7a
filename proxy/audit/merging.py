"""Accesses merged from their records: one row an access, made from the leaves alone.

Merging is one SQL statement that reads leaves and upserts accesses: it runs outside the interpreter
lock, and the server's own index, a rebuilt one and a reader's overlay of the newest leaves are made by
the same words. It works on `main`, a database that is kept nowhere; `leaves` is attached, and `kept`
(the index) where there is one.

How records of one access merge: texts and lists are as the last record that gives them says; rows
and bytes are the last record's, but never shrink while the access goes on; `outcome` is

    open        an intent or progress without an end (yet)
    whole …     how it ended, as `AccessEvent.ended` says
    refused     nothing was released
    unresolved  the process died before it was known
    change      no access, but a grant or lockdown
    drift       no access, but what a store gives otherwise than declared
    policy-…    no access, but what became of a new policy
    keys-…      no access, but what became of a new keyring
    prune …     no access, but what an operator did to the log, or with its files

A record that says no more than that the log is alive is left out.
"""

from __future__ import annotations

import sqlite3
from typing import Final

TEXTS: Final = (
    "subject", "tool", "address", "method", "path", "report", "format", "action", "purpose",
    "decision", "reason", "cause", "policy", "previous", "commit", "digest", "log", "span",
)  # fmt: skip
DOCUMENTS: Final = ("groups", "lines", "parameters", "fields", "unrevealed", "keys")
NUMBERS: Final = ("status", "micros", "count")
GROWING: Final = ("rows", "bytes")

_LATEST: Final = TEXTS + DOCUMENTS + NUMBERS

_OF_TEXT: Final = ", ".join(f'"{name}" TEXT' for name in TEXTS + DOCUMENTS)
_OF_INTEGERS: Final = ", ".join(f'"{name}" INTEGER' for name in NUMBERS + GROWING)

SCHEMA: Final = f"""
CREATE TABLE main.access (
  first INTEGER PRIMARY KEY,             -- the number of its first record …
  last INTEGER NOT NULL,                 -- … and of its last
  access TEXT NOT NULL UNIQUE,
  shape INTEGER,                         -- in the index: which of its shapes it has
  records INTEGER NOT NULL, step TEXT, outcome TEXT, started TEXT, at TEXT,
  {_OF_TEXT}, {_OF_INTEGERS}
) STRICT;
"""
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
  json ->> '$.access', number, number, 1, json ->> '$.step',
  CASE json ->> '$.step'
    WHEN 'intent' THEN 'open' WHEN 'progress' THEN 'open'
    WHEN 'refusal' THEN 'refused' WHEN 'burst' THEN 'refused'
    WHEN 'unresolved' THEN 'unresolved' WHEN 'opened' THEN 'opened'
    WHEN 'policy-loaded' THEN 'policy-loaded' WHEN 'policy-refused' THEN 'policy-refused'
    WHEN 'keys-loaded' THEN 'keys-loaded' WHEN 'keys-refused' THEN 'keys-refused'
    WHEN 'change' THEN 'change' WHEN 'drift' THEN 'drift'
    WHEN 'prune' THEN 'prune' WHEN 'hold' THEN 'hold' WHEN 'operated' THEN 'operated'
    ELSE coalesce(json ->> '$.ended', 'whole')
  END,
  json ->> '$.at', json ->> '$.at', {_VALUES}
FROM (
  SELECT number, replace(CAST(entry AS TEXT), '\\u0000', '\\u2400') AS json
  FROM leaves.leaf WHERE number > :after AND number <= :upto
  ORDER BY number LIMIT -1 -- keeps SQLite from making `json` anew for each column
)
WHERE json_valid(json) AND json ->> '$.access' IS NOT NULL AND json ->> '$.step' IS NOT 'alive'
ON CONFLICT (access) DO UPDATE SET
  last = excluded.last, records = records + 1, step = excluded.step, outcome = excluded.outcome,
  at = excluded.at, {_CHANGES}
"""


_COLUMNS: Final = (
    "first", "last", "access", "records", "step", "outcome", "started", "at",
    *TEXTS, *DOCUMENTS, *NUMBERS, *GROWING,
)  # fmt: skip
COLUMNS: Final = ", ".join(f'"{name}"' for name in _COLUMNS)
"""All columns of `access` that come from records."""
_BEGUN: Final = f"""
INSERT INTO main.access ({COLUMNS}) SELECT {COLUMNS} FROM kept.access WHERE access IN
 (SELECT CAST(entry AS TEXT) ->> '$.access' FROM leaves.leaf
  WHERE number > :after AND number <= :upto AND json_valid(CAST(entry AS TEXT)))
"""


def apply(connection: sqlite3.Connection, after: int, upto: int) -> None:
    """Merge the leaves with numbers in (after, upto] of `leaves` into `main.access`."""
    connection.execute(_APPLY, {"after": after, "upto": upto})


def overlay(connection: sqlite3.Connection, after: int, upto: int) -> None:
    """The same on top of the rows that `kept` has of the same accesses: what it ought to have of them."""
    connection.execute(_BEGUN, {"after": after, "upto": upto})
    apply(connection, after, upto)
