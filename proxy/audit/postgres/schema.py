"""The tables of an access log in PostgreSQL, all in the schema `counterfoil`, and how they are made.

A schema of an older version is brought to ours at a start, in one transaction and one process at a time; one
of a newer version is refused. Leaves and registry are protected from what an honest program or person might
do by mistake; nothing protects them from the database's owner, but what was retained elsewhere tells
(verify.py).
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from proxy.audit.merkle import HASH_BYTES
from proxy.audit.postgres.session import Refused, Session
from proxy.audit.store import INDEX_BITS

VERSION: Final = 2
_MAKING: Final = 0x43465441
"""The advisory lock of whoever makes the tables (`CFTA`)."""

_FIRST: Final = f"""
CREATE SCHEMA IF NOT EXISTS counterfoil;
CREATE TABLE counterfoil.version (version integer NOT NULL);
CREATE TABLE counterfoil.this (
  identity text NOT NULL,            -- drawn once; keys are derived for it
  turn     bigint NOT NULL           -- the advisory lock of whoever commits
);
CREATE TABLE counterfoil.log (
  epoch    integer PRIMARY KEY,
  name     text NOT NULL UNIQUE,
  opened   text NOT NULL,
  key      text NOT NULL,            -- the verifier key of its checkpoints
  key_id   text NOT NULL,            -- the master key that the signing key is derived from
  settled  bigint NOT NULL DEFAULT 0,-- accesses that began before this index have all ended
  begun    bigint NOT NULL,          -- how many leaves of all logs there were when it was opened …
  sealed   text,                     -- when it was closed for good: no leaf is added to it
  ended    bigint,                   -- … and when it was closed
  final    bigint                    -- how many leaves it had then, once the registry says so too
);
CREATE TABLE counterfoil.registry (
  number   bigint PRIMARY KEY,
  entry    bytea NOT NULL,
  after    bigint NOT NULL           -- how many leaves of all logs there were
);
CREATE TABLE counterfoil.leaf (
  number   bigint PRIMARY KEY,       -- in the order of commits, over all logs; gaps are what was pruned
  place    bigint NOT NULL UNIQUE,   -- epoch << {INDEX_BITS} | index
  entry    bytea NOT NULL
);
CREATE TABLE counterfoil.attachment (
  number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- in the order of commits
  digest   bytea NOT NULL UNIQUE,    -- SHA-256 of its content
  content  bytea NOT NULL
);
CREATE TABLE counterfoil.name (      -- the directory of subjects, by which the machines tell each other
  subject   text PRIMARY KEY,
  principal text NOT NULL,           -- '' once it is erased
  number    bigint GENERATED ALWAYS AS IDENTITY UNIQUE
);
CREATE FUNCTION counterfoil.never() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the access log is never changed (% of %)', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER never BEFORE UPDATE OR DELETE OR TRUNCATE ON counterfoil.leaf
  FOR EACH STATEMENT EXECUTE FUNCTION counterfoil.never();
CREATE TRIGGER never BEFORE UPDATE OR DELETE OR TRUNCATE ON counterfoil.registry
  FOR EACH STATEMENT EXECUTE FUNCTION counterfoil.never();
CREATE TRIGGER never BEFORE UPDATE ON counterfoil.attachment
  FOR EACH STATEMENT EXECUTE FUNCTION counterfoil.never();
CREATE TRIGGER never BEFORE DELETE OR TRUNCATE ON counterfoil.log
  FOR EACH STATEMENT EXECUTE FUNCTION counterfoil.never();
ALTER TABLE counterfoil.leaf ENABLE ALWAYS TRIGGER never;
ALTER TABLE counterfoil.registry ENABLE ALWAYS TRIGGER never;
ALTER TABLE counterfoil.attachment ENABLE ALWAYS TRIGGER never;
ALTER TABLE counterfoil.log ENABLE ALWAYS TRIGGER never;

-- Adds entries to a log, and attachments, all or none; the number of the last entry. Each statement sees what
-- was committed before it: so after the lock nothing changes but by us.
CREATE FUNCTION counterfoil.append(
  which integer, begins bigint, entries bytea[], digests bytea[], contents bytea[]
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  head bigint;
  start bigint := (which::bigint << {INDEX_BITS}) | begins;
BEGIN
  PERFORM pg_advisory_xact_lock(turn) FROM counterfoil.this;
  IF NOT EXISTS (SELECT FROM counterfoil.log WHERE epoch = which AND sealed IS NULL) THEN
    RAISE EXCEPTION 'the log is sealed' USING ERRCODE = 'CF001';
  END IF;
  IF begins > 0 AND NOT EXISTS (SELECT FROM counterfoil.leaf WHERE place = start - 1) THEN
    RAISE EXCEPTION 'the log is shorter' USING ERRCODE = 'CF002';
  END IF;
  IF cardinality(digests) > 0 THEN
    INSERT INTO counterfoil.attachment (digest, content)
      SELECT * FROM unnest(digests, contents) ON CONFLICT DO NOTHING;
  END IF;
  SELECT coalesce(max(number), 0) INTO head FROM counterfoil.leaf;
  INSERT INTO counterfoil.leaf (number, place, entry)
    SELECT head + turn, start + turn - 1, given FROM unnest(entries) WITH ORDINALITY AS each(given, turn);
  RETURN head + cardinality(entries);
END $$;
"""
SEALED: Final = "CF001"
SHORTER: Final = "CF002"
OTHER: Final = "CF003"

_SECOND: Final = f"""
ALTER TABLE counterfoil.log ADD COLUMN by_hand boolean NOT NULL DEFAULT false; -- of what operators do
CREATE TABLE counterfoil.gone (      -- what was taken away: copies follow it
  number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- in the order of commits
  place      bigint UNIQUE,          -- of the first of some leaves whose entries are gone …
  hashes     bytea,                  -- … with the hash of each of them, 32 bytes
  attachment bigint,                 -- or the number of an attachment that nothing names any more
  CHECK ((place IS NULL) = (hashes IS NULL) AND (place IS NULL) = (attachment IS NOT NULL))
);
CREATE TRIGGER never BEFORE UPDATE OR DELETE OR TRUNCATE ON counterfoil.gone
  FOR EACH STATEMENT EXECUTE FUNCTION counterfoil.never();
ALTER TABLE counterfoil.gone ENABLE ALWAYS TRIGGER never;

CREATE FUNCTION counterfoil.kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF coalesce((
    SELECT old.place >= place + length(hashes) / {HASH_BYTES} FROM counterfoil.gone
    WHERE place <= old.place ORDER BY place DESC LIMIT 1
  ), true) THEN
    RAISE EXCEPTION 'a leaf goes only where its hash is kept' USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN old;
END $$;
DROP TRIGGER never ON counterfoil.leaf;
CREATE TRIGGER never BEFORE UPDATE OR TRUNCATE ON counterfoil.leaf
  FOR EACH STATEMENT EXECUTE FUNCTION counterfoil.never();
CREATE TRIGGER kept BEFORE DELETE ON counterfoil.leaf
  FOR EACH ROW EXECUTE FUNCTION counterfoil.kept();
ALTER TABLE counterfoil.leaf ENABLE ALWAYS TRIGGER never;
ALTER TABLE counterfoil.leaf ENABLE ALWAYS TRIGGER kept;

-- Takes entries away and keeps their hashes, all or none, where they are those that whoever decided has seen.
CREATE FUNCTION counterfoil.prune(begins bigint[], seen bytea[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  start bigint;
  stop bigint;
  these bytea;
BEGIN
  PERFORM pg_advisory_xact_lock(turn) FROM counterfoil.this;
  FOR start, these IN SELECT * FROM unnest(begins, seen) LOOP
    stop := start + length(these) / {HASH_BYTES};
    IF these IS DISTINCT FROM (
      SELECT string_agg(sha256('\\x00'::bytea || entry), ''::bytea ORDER BY place) FROM counterfoil.leaf
      WHERE place >= start AND place < stop
    ) THEN
      RAISE EXCEPTION 'the entries are others' USING ERRCODE = '{OTHER}';
    END IF;
    INSERT INTO counterfoil.gone (place, hashes) VALUES (start, these);
    DELETE FROM counterfoil.leaf WHERE place >= start AND place < stop;
  END LOOP;
END $$;
"""

_MIGRATIONS: Final = (_FIRST, _SECOND)
"""Each makes the next version of the one before."""

_THERE: Final = """
SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE n.nspname = 'counterfoil' AND c.relname = 'version')
"""  # and not to_regclass, which remembers what was before a lock was waited for

TURN: Final = "SELECT pg_advisory_xact_lock(turn) FROM counterfoil.this"
"""The first statement of each transaction that changes something."""
HEAD: Final = "SELECT coalesce(max(number), 0) FROM counterfoil.leaf"


def lock_of(identity: str, what: object) -> int:
    """The key of an advisory lock: a signed number of 64 bits, another one for each access log."""
    digest = hashlib.sha256(f"{identity}/{what}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


async def _version(session: Session) -> int:
    (there,) = await session.row(_THERE)
    if not there:
        return 0
    row = await session.row("SELECT version FROM counterfoil.version")
    return int(row[0]) if row else 0


def _check(session: Session, version: int) -> None:
    if version > VERSION:
        raise Refused(
            f"{session.database} holds an access log of version {version}; this program knows {VERSION}"
        )


async def make(session: Session) -> None:
    """Make the tables, or bring them to this version; raises Lost or Refused."""
    version = await _version(session)
    _check(session, version)
    if version == VERSION:
        return
    try:
        async with session.transaction():
            await session.row("SELECT pg_advisory_xact_lock($1)", _MAKING)
            version = await _version(session)
            _check(session, version)
            for migration in _MIGRATIONS[version:]:
                await session.script(migration)
            if not version:
                identity = secrets.token_hex(16)
                values = (identity, lock_of(identity, "turn"))
                await session.row("INSERT INTO counterfoil.this VALUES ($1, $2)", *values)
                await session.row("INSERT INTO counterfoil.version VALUES ($1)", VERSION)
            else:
                await session.row("UPDATE counterfoil.version SET version = $1", VERSION)
    except Refused as error:
        if error.code != "42501":
            raise
        role, name = session.database.role, session.database.name
        raise Refused(
            f"{error}: to have the tables made, `GRANT CREATE ON DATABASE {name} TO {role}`, or"
            f" `CREATE SCHEMA counterfoil AUTHORIZATION {role}`",
            code=error.code,
        ) from None


async def identity_of(session: Session) -> str:
    """The identity that was drawn for the access log; raises Lost or Refused."""
    if await _version(session) != VERSION:
        raise Refused(f"{session.database} holds no access log of version {VERSION}")
    row = await session.row("SELECT identity FROM counterfoil.this")
    if row is None:
        raise Refused(f"{session.database} holds half an access log")
    return str(row[0])
