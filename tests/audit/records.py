"""Records of accesses for the tests of the log: builders, strategies, and a naive reading of files."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from pathlib import Path

from hypothesis import strategies as st

from proxy.access import AccessEvent, decode, encode, new_access_id, timestamp
from proxy.audit import AccessLog
from proxy.audit.recover import begin
from proxy.audit.store import Files, connect, create, journal, place_of

STEPS = (
    "complete", "intent", "progress", "outcome", "refusal", "unresolved", "burst", "policy-loaded",
    "policy-refused", "change",
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
HOSTILE = "a\r\nb\x1b[31m\u202e\u2028\x9b\x7f\"'\\\t é"


@contextlib.asynccontextmanager
async def opened(path: Path, **options: object):
    log = await AccessLog.open(path, **options)
    try:
        yield log
    finally:
        await log.close()


def event(
    step: str = "complete", access: str = "", at: float = 1.8e9, **more: object
) -> AccessEvent:
    return AccessEvent(access=access or new_access_id(), step=step, at=timestamp(at), **more)


def leaves(path: Path) -> list[tuple[int, bytes]]:
    """Place and entry of every leaf, read by a connection that knows nothing of our code."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT place, entry FROM leaf ORDER BY place").fetchall()


def events(path: Path) -> list[AccessEvent]:
    return [decode(entry) for _, entry in leaves(path)]


def logs(path: Path) -> list[tuple[int, bool]]:
    """Each log's epoch, and whether it is sealed."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(
            "SELECT epoch, sealed IS NOT NULL FROM log ORDER BY epoch"
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


def write(path: Path, *batches: list[AccessEvent]) -> Files:
    """A log file with one log for each batch, as a process that was killed would leave it."""
    files = Files.at(path)
    with contextlib.closing(connect(files.leaves, busy_seconds=1)) as connection:
        create(connection, files)
        journal(connection, "OFF")
        for batch in batches:
            epoch = begin(connection, origin="counterfoil", at=timestamp(1.7e9))
            connection.executemany(
                "INSERT INTO leaf VALUES (?, ?)",
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


@st.composite
def records(draw: st.DrawFn) -> AccessEvent:
    """Any one record of one of a few accesses, at one of a few times."""
    return AccessEvent(
        access=draw(st.sampled_from(["0a", "0b", "0c", "0d"])),
        step=draw(st.sampled_from(STEPS)),
        part=draw(st.integers(0, 3)),
        at=timestamp(1.8e9 + draw(st.integers(0, 20)) / 2),
        subject=draw(st.sampled_from(["", "s1", "s2", "user:alice"])),
        groups=tuple(draw(st.lists(texts, max_size=2))),
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
        fields=draw(st.dictionaries(texts, st.dictionaries(texts, counts, max_size=1), max_size=2)),
        rows=draw(counts),
        bytes=draw(counts),
        ended=draw(st.sampled_from(["", *ENDED])),
        micros=draw(counts),
        count=draw(st.integers(0, 3)),
    )
