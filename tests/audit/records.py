"""Records of accesses for the tests of the log: builders, strategies, and a naive reading of files."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

from hypothesis import strategies as st

from proxy.access import AccessEvent, decode, encode, new_access_id, timestamp
from proxy.audit import AccessLog
from proxy.audit.locks import Locks
from proxy.audit.postgres.database import Database
from proxy.audit.postgres.ledger import PostgresLedger
from proxy.audit.recover import begin
from proxy.audit.store import Files, connect, create, journal, place_of
from proxy.keys import Keyring
from tests.harness import sales
from tests.harness.postgres import WRITERS, psql, url_of
from tests.harness.proxy import Home

STEPS = (
    "complete", "intent", "progress", "outcome", "refusal", "unresolved", "burst", "policy-loaded",
    "policy-refused", "keys-loaded", "keys-refused", "change",
)  # fmt: skip
ENDED = (
    "whole",
    "client-gone",
    "store-failed",
    "internal-error",
    "expired",
    "policy-changed",
    "log-failed",
    "stopped",
)
REPORTS = ("sales/store-daily", "sales/producers", "sales", "sales0", "hr/people", "sales/é'\"")
KEYRING = Keyring.generate()
HOSTILE = "a\r\nb\x1b[31m\u202e\u2028\x9b\x7f\"'\\\t é"


DATABASES: dict[Path, Database] = {}
"""The log's file -> the database of which it is a copy."""


@contextlib.asynccontextmanager
async def opened(path: Path, **options: object):
    more = {"keyring": KEYRING, "database": DATABASES.get(path), **options}
    log = await AccessLog.open(path, **more)
    try:
        yield log
    finally:
        await log.close()


@contextlib.contextmanager
def home_with(database: Database | None, folder: Path) -> Iterator[Home]:
    """The settings of a server that need not run, whose log is in that database, or in a file."""
    home = Home(
        folder, reports=sales.REPORTS, rules=sales.RULES, store="http://x.test", database=database
    )
    path = home.folder / "access.db"
    if database is not None:
        DATABASES[path] = database
    yield home
    DATABASES.pop(path, None)


def database(path: Path) -> str:
    """The database that another process is to be given, '' for none."""
    return url_of(DATABASES[path]) if path in DATABASES else ""


async def locked_logs(path: Path, count: int) -> None:
    """Wait until the writers of so many logs live: a server notices in a moment who has died."""
    if path in DATABASES:
        await until(lambda: psql(DATABASES[path], WRITERS) == str(count))


async def until(condition):
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("never came true")


def event(
    step: str = "complete", access: str = "", at: float = 1.8e9, **more: object
) -> AccessEvent:
    return AccessEvent(access=access or new_access_id(), step=step, at=timestamp(at), **more)


def leaves(path: Path) -> list[tuple[int, bytes]]:
    """Place and entry of every leaf, read by a connection that knows nothing of our code."""
    if path in DATABASES:
        asked = "SELECT place, encode(entry, 'hex') FROM counterfoil.leaf ORDER BY number"
        rows = [line.split("|") for line in psql(DATABASES[path], asked).splitlines()]
        return [(int(place), bytes.fromhex(entry)) for place, entry in rows]
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT place, entry FROM leaf ORDER BY number").fetchall()


def events(path: Path) -> list[AccessEvent]:
    return [decode(entry) for _, entry in leaves(path)]


def logs(path: Path) -> list[tuple[int, bool]]:
    """Each log's epoch, and whether it is sealed."""
    if path in DATABASES:
        asked = "SELECT epoch, sealed IS NOT NULL FROM counterfoil.log WHERE epoch > 0 ORDER BY 1"
        rows = [line.split("|") for line in psql(DATABASES[path], asked).splitlines()]
        return [(int(epoch), sealed == "t") for epoch, sealed in rows]
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(
            "SELECT epoch, sealed IS NOT NULL FROM log WHERE epoch > 0 ORDER BY epoch"
        ).fetchall()


def commits(path: Path) -> int:
    """How many transactions the write-ahead log holds: frames that carry a commit's page count.

    https://www.sqlite.org/fileformat2.html#the_write_ahead_log
    """
    data = path.with_name(path.name + "-wal").read_bytes()
    page, salts = struct.unpack(">I", data[8:12])[0], data[16:24]
    count = 0
    for at in range(32, len(data) - page - 23, 24 + page):
        if data[at + 8 : at + 16] != salts:
            break
        count += data[at + 4 : at + 8] != b"\0\0\0\0"
    return count


def write(path: Path, *batches: list[AccessEvent], keyring: Keyring = KEYRING) -> Files:
    """A log file with one log for each batch, as a process that was killed would leave it."""
    files = Files.at(path)
    if path in DATABASES:
        for batch in batches:
            ledger = PostgresLedger.begin(
                DATABASES[path],
                origin="counterfoil",
                at=timestamp(1.7e9),
                keyring=keyring,
                patience=5,
            )
            ledger.append([encode(one) for one in batch])
            ledger.close()
        return files
    locks = Locks(files.locks)
    with contextlib.closing(connect(files.leaves, busy_seconds=1)) as connection:
        create(connection, files)
        journal(connection, "OFF")
        for batch in batches:
            epoch, lock = begin(
                connection, locks, origin="counterfoil", at=timestamp(1.7e9), keyring=keyring
            )
            lock.release()
            connection.executemany(
                "INSERT INTO leaf (place, entry) VALUES (?, ?)",
                [
                    (place_of(epoch.number, epoch.size + index), encode(one))
                    for index, one in enumerate(batch)
                ],
            )
    return files


texts = st.one_of(st.sampled_from(["", "a", "B", HOSTILE]), st.text(max_size=5)).filter(
    lambda text: "\\u0000" not in text and not any(0xD800 <= ord(c) < 0xE000 for c in text)
)
counts = st.integers(0, 2**53 - 1)


listed = st.one_of(texts, st.sampled_from(["group:a", "+1", "+12", "+", "f", "t"]))
"""Members of lists that are counted together beyond a length: `+12`."""
forms = st.one_of(texts, st.sampled_from(["clear", "round(100)", "round(10)", "rounds", "round)"]))


@st.composite
def records(draw: st.DrawFn, counts: st.SearchStrategy[int] = counts) -> AccessEvent:
    """Any one record of one of a few accesses, at one of a few times."""
    return AccessEvent(
        access=draw(st.sampled_from(["0a", "0b", "0c", "0d"])),
        step=draw(st.sampled_from(STEPS)),
        part=draw(st.integers(0, 3)),
        at=timestamp(1.8e9 + draw(st.integers(0, 20)) / 2),
        subject=draw(st.sampled_from(["", "s1", "s2", "user:alice"])),
        groups=tuple(draw(st.lists(listed, max_size=2))),
        tool=draw(st.one_of(texts, st.sampled_from(["tool:bi", "bi"]))),
        address=draw(st.sampled_from(["", "10.0.0.1"])),
        path=draw(texts),
        report=draw(st.sampled_from(("", *REPORTS))),
        decision=draw(st.sampled_from(["", "permit", "deny"])),
        reason=draw(st.sampled_from(["", "not-found", "purpose-required"])),
        cause=draw(st.sampled_from(["", "no-allow-line"])),
        status=draw(st.sampled_from([0, 200, 206, 404])),
        span=draw(st.sampled_from(["", "0-9/99"])),
        lines=tuple(draw(st.lists(st.sampled_from(["policy.csv:1", "policy.csv:2"]), max_size=2))),
        parameters=draw(st.dictionaries(texts, texts, max_size=2)),
        purpose=draw(st.sampled_from(["", "audit", "hmac:12", "hmac:13", HOSTILE])),
        policy=draw(st.sampled_from(["", "abc0", "abc1", "f00d"])),
        action=draw(st.sampled_from(["", "read", "reveal"])),
        unrevealed=draw(
            st.dictionaries(st.sampled_from(["not-sealed", HOSTILE]), counts, max_size=2)
        ),
        keys=tuple(draw(st.lists(st.sampled_from(["5f3a90c1", "0ld"]), max_size=2))),
        fields=draw(
            st.dictionaries(listed, st.dictionaries(forms, counts, max_size=2), max_size=2)
        ),
        rows=draw(st.one_of(st.sampled_from([0, 9, 10, 99, 100]), counts)),
        bytes=draw(counts),
        ended=draw(st.sampled_from(["", *ENDED])),
        micros=draw(counts),
        count=draw(st.integers(0, 3)),
    )
