"""The side tables of the index: by which an access is found, and what is counted of all.

All of them are functions of the rows of `access`, so that `differing` can hold them against these.

    shape     what many accesses have in common: who may get what is written in few lines, so that a
              log of millions of accesses has some thousands of shapes
    form      which fields a shape gives, in which forms
    posting   the accesses of each shape, by number; all of them (term ''), and those of each term that
              is as good as its own: a subject, a group, a parameter's value
    hour      numbers of the accesses that began in an hour, and when the last of them ended
    version   numbers of the accesses that were decided by a version of the policy
    tally     accesses, rows and bytes by day and by hour: of each decision, report, subject, reason

So whatever is asked of shapes is decided some thousand times and not some million times, however it is
combined; what is left are ordered lists, of which the newest are read. A wide range of numbers in
`hour` or `version` costs time and never an answer: each row that is found is looked at itself.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from proxy.audit.merging import COLUMNS

SCHEMA: Final = """
CREATE TABLE {schema}.shape (
  id INTEGER PRIMARY KEY,
  report TEXT NOT NULL, tool TEXT NOT NULL, decision TEXT NOT NULL, reason TEXT NOT NULL,
  cause TEXT NOT NULL, outcome TEXT NOT NULL, action TEXT NOT NULL,
  purpose TEXT NOT NULL,  -- of one that is a digest no more than that
  size INTEGER NOT NULL,  -- digits of the number of rows; 0 where there is none
  forms TEXT NOT NULL,    -- JSON: each field behind an `f`, then each of its forms behind a `t`
  UNIQUE (report, tool, outcome, reason, size, cause, decision, action, purpose, forms)
) STRICT;
CREATE TABLE {schema}.form (
  field TEXT, form TEXT, shape INTEGER, PRIMARY KEY (field, form, shape)
) STRICT, WITHOUT ROWID;
CREATE TABLE {schema}.posting (
  term TEXT, shape INTEGER, first INTEGER, rows INTEGER NOT NULL, PRIMARY KEY (term, shape, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE {schema}.hour (
  hour TEXT PRIMARY KEY, least INTEGER NOT NULL, greatest INTEGER NOT NULL, latest TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE {schema}.version (
  policy TEXT PRIMARY KEY, least INTEGER NOT NULL, greatest INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE {schema}.tally (
  kind TEXT, unit INTEGER, -- characters of its bin: 10 of a day, 13 of an hour
  bin TEXT, name TEXT, accesses INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
  PRIMARY KEY (kind, unit, bin, name)
) STRICT, WITHOUT ROWID;
"""

CUT: Final = "+[0-9]*"
"""The last member of a list that was too long to be recorded as a whole, as a pattern of GLOB: `+12`."""

_FACETS: Final = (
    "report", "tool", "decision", "reason", "cause", "outcome", "action", "purpose", "size",
    "forms",
)  # fmt: skip
_OF_SHAPE: Final = ", ".join(_FACETS)

_SHAPED: Final = """
SELECT a.first, coalesce(report, '') AS report, coalesce(tool, '') AS tool,
  coalesce(decision, '') AS decision, coalesce(reason, '') AS reason, coalesce(cause, '') AS cause,
  outcome, coalesce(action, '') AS action,
  CASE WHEN purpose GLOB 'hmac:*' THEN 'hmac:' ELSE coalesce(purpose, '') END AS purpose,
  iif(rows = 0, 0, length(rows)) AS size,
  (SELECT json_group_array(iif(type = 'object', 'f', 't') || key) FROM json_tree(a.fields)
   WHERE key IS NOT NULL) AS forms
FROM {table} AS a
"""
"""The shape of each row of `table`."""

_PAIRS: Final = """
SELECT (SELECT substr(f.value, 2) FROM json_each(forms) AS f WHERE f.key < t.key AND f.value GLOB 'f*'
  ORDER BY f.key DESC LIMIT 1) AS field, substr(t.value, 2) AS form, shape.id AS shape
FROM kept.shape, json_each(forms) AS t WHERE t.value GLOB 't*'
"""
"""Each field of each shape, with each of its forms."""

_TERMS: Final = f"""
SELECT '' AS term, shape, first, rows FROM {{table}}
UNION ALL SELECT 's' || subject, shape, first, rows FROM {{table}} WHERE subject <> ''
UNION ALL SELECT iif(value GLOB '{CUT}', 'g+', 'g' || value), shape, first, rows
  FROM {{table}}, json_each(groups)
UNION ALL SELECT 'p' || json_array(key, value), shape, first, rows FROM {{table}}, json_each(parameters)
"""
"""The postings of each row of `table`; a member of `groups` that says there were more stands for any."""

TALLIES: Final = """
WITH hourly AS MATERIALIZED (
SELECT kind, substr(started, 1, 13) AS bin, name, sum(n) AS accesses, sum(rows) AS rows,
  sum(bytes) AS bytes
FROM (
  SELECT started, rows, bytes, kind,
    iif(outcome = 'refused', max(1, coalesce(count, 1)), 1) AS n,
    CASE kind WHEN 'decision' THEN decision WHEN 'report' THEN coalesce(report, '')
      WHEN 'subject' THEN coalesce(subject, '') ELSE reason END AS name
  FROM {table}, (SELECT 'decision' AS kind UNION ALL SELECT 'report' UNION ALL SELECT 'subject'
    UNION ALL SELECT 'reason') WHERE decision <> ''
)
WHERE name IS NOT NULL
GROUP BY 1, 2, 3
)
SELECT kind, 13 AS unit, bin, name, accesses, rows, bytes FROM hourly
UNION ALL
SELECT kind, 10, substr(bin, 1, 10), name, sum(accesses), sum(rows), sum(bytes) FROM hourly
GROUP BY 1, 3, 4
"""
"""What the rows of `table` add to `tally`; a burst counts as the refusals that are in it."""

_HOURS: Final = """
SELECT substr(started, 1, 13) AS hour, min(first) AS least, max(first) AS greatest, max(at) AS latest
FROM {table} GROUP BY 1
"""
_VERSIONS: Final = """
SELECT policy, min(first) AS least, max(first) AS greatest FROM {table} WHERE policy <> '' GROUP BY 1
"""

SCRATCH: Final = f"""
CREATE TABLE main.shaped (first INTEGER PRIMARY KEY, {_OF_SHAPE});
CREATE TABLE main.delta (kind, unit, bin, name, accesses, rows, bytes);
CREATE TABLE main.was (term, shape, first);
"""
"""What `fold` works with, beside `main.access`."""

_WERE: Final = "(SELECT * FROM kept.access WHERE first IN (SELECT first FROM main.access))"
_TOGETHER: Final = " AND ".join(f"s.{name} = n.{name}" for name in _FACETS)
_COUNTS: Final = (
    "kind, unit, bin, name, sum(accesses) AS accesses, sum(rows) AS rows, sum(bytes) AS bytes"
)
_FORGET: Final = f"""
INSERT INTO main.was SELECT term, shape, first FROM ({_TERMS.format(table=_WERE)});
DELETE FROM kept.posting WHERE (term, shape, first) IN (SELECT term, shape, first FROM main.was);
INSERT INTO main.delta SELECT kind, unit, bin, name, -accesses, -rows, -bytes
FROM ({TALLIES.format(table=_WERE)})
"""
_FOLD: Final = f"""
INSERT INTO main.shaped {_SHAPED.format(table="main.access")};
INSERT OR IGNORE INTO kept.shape ({_OF_SHAPE}) SELECT DISTINCT {_OF_SHAPE} FROM main.shaped;
INSERT OR IGNORE INTO kept.form {_PAIRS} AND shape.id > :known;
UPDATE main.access SET shape =
  (SELECT s.id FROM main.shaped AS n, kept.shape AS s WHERE n.first = access.first AND {_TOGETHER});
INSERT OR REPLACE INTO kept.access (shape, {COLUMNS}) SELECT shape, {COLUMNS} FROM main.access;
INSERT OR IGNORE INTO kept.posting SELECT * FROM ({_TERMS.format(table="main.access")});
INSERT INTO main.delta {TALLIES.format(table="main.access")};
INSERT INTO kept.tally SELECT {_COUNTS} FROM main.delta WHERE true GROUP BY 1, 2, 3, 4
  ON CONFLICT DO UPDATE SET accesses = accesses + excluded.accesses, rows = rows + excluded.rows,
  bytes = bytes + excluded.bytes;
DELETE FROM kept.tally WHERE accesses = 0
  AND (kind, unit, bin, name) IN (SELECT kind, unit, bin, name FROM main.delta);
INSERT INTO kept.hour SELECT * FROM ({_HOURS.format(table="main.access")}) WHERE true
  ON CONFLICT DO UPDATE SET least = min(least, excluded.least),
  greatest = max(greatest, excluded.greatest), latest = max(latest, excluded.latest);
INSERT INTO kept.version SELECT * FROM ({_VERSIONS.format(table="main.access")}) WHERE true
  ON CONFLICT DO UPDATE SET least = min(least, excluded.least),
  greatest = max(greatest, excluded.greatest);
DELETE FROM main.access;
DELETE FROM main.shaped;
DELETE FROM main.delta;
DELETE FROM main.was
"""


def fold(connection: sqlite3.Connection) -> None:
    """Put the rows of `main.access` in place of those that `kept` has of the same accesses."""
    run = connection.execute
    (were,) = run(f"SELECT count(*) FROM {_WERE}").fetchone()
    if were:
        for statement in _FORGET.split(";"):
            run(statement)
    (known,) = run("SELECT coalesce(max(id), 0) FROM kept.shape").fetchone()
    for statement in _FOLD.split(";"):
        run(statement, {"known": known} if ":known" in statement else {})


_HOW_MANY: Final = f"""
coalesce(sum(1 + (coalesce(subject, '') <> '') + (SELECT count(*) FROM json_each(parameters))
  + (SELECT count(DISTINCT iif(value GLOB '{CUT}', '+', 'g' || value)) FROM json_each(groups))), 0)
"""
"""How many postings there are of rows; so all are there, and none beside."""
_ONE: Final = "(SELECT * FROM kept.access WHERE first = p.first)"
_ASTRAY: Final = f"""
SELECT a.access FROM ({_SHAPED.format(table="kept.access")}) AS n JOIN kept.access AS a USING (first)
LEFT JOIN kept.shape AS s ON s.id = a.shape WHERE s.id IS NULL OR NOT ({_TOGETHER});

SELECT access FROM ({_TERMS.format(table="kept.access")}) AS t JOIN kept.access USING (first)
WHERE NOT EXISTS (SELECT 1 FROM kept.posting AS p
  WHERE (p.term, p.shape, p.first, p.rows) = (t.term, t.shape, t.first, t.rows));

SELECT coalesce(a.access, p.first) FROM kept.posting AS p LEFT JOIN kept.access AS a USING (first)
WHERE (SELECT count(*) FROM kept.posting) <> (SELECT {_HOW_MANY} FROM kept.access)
AND NOT EXISTS (SELECT 1 FROM ({_TERMS.format(table=_ONE)}) AS t
  WHERE (t.term, t.shape) = (p.term, p.shape));

SELECT access FROM ({_PAIRS} EXCEPT SELECT * FROM kept.form) JOIN kept.access USING (shape);

SELECT coalesce(access, shape) FROM (SELECT * FROM kept.form EXCEPT {_PAIRS})
LEFT JOIN kept.access USING (shape);

SELECT access FROM ({_HOURS.format(table="kept.access")}) AS n JOIN kept.access ON first = n.least
LEFT JOIN kept.hour AS h USING (hour)
WHERE h.least IS NULL OR h.least > n.least OR h.greatest < n.greatest OR h.latest < n.latest;

SELECT access FROM ({_VERSIONS.format(table="kept.access")}) AS n JOIN kept.access ON first = n.least
LEFT JOIN kept.version AS h ON h.policy = n.policy
WHERE h.least IS NULL OR h.least > n.least OR h.greatest < n.greatest;

SELECT 'counted in ' || bin FROM (
  SELECT *, 1 AS side FROM ({TALLIES.format(table="kept.access")}) UNION ALL SELECT *, -1 FROM kept.tally
) GROUP BY kind, unit, bin, name, accesses, rows, bytes HAVING sum(side) <> 0
"""


def astray(connection: sqlite3.Connection) -> str | None:
    """An access of `kept` of which a side table says otherwise than its row; None where all say the same.

    Of what is counted it is the day or hour: `counted in 2026-11-23`.
    """
    for statement in _ASTRAY.split(";"):
        row = connection.execute(f"{statement} LIMIT 1").fetchone()
        if row is not None:
            return str(row[0])
    return None
