"""Appending: what a receipt means, and what happens where none can be given."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from proxy.access import decode, encode
from proxy.audit import AccessLog, Reader
from proxy.audit.checkpoint import VerifierKey
from proxy.audit.findings import Grade
from proxy.audit.projection import differing
from proxy.audit.sources import Leaves
from proxy.audit.store import Files, epoch_and_index, place_of
from proxy.audit.verify import Verifier
from proxy.errors import LogUnavailable
from proxy.keys import file as keyring_file
from proxy.keys.kek import kek_of
from tests.audit.records import (
    HOSTILE,
    KEYRING,
    commits,
    database,
    event,
    events,
    leaves,
    locked_logs,
    logs,
    opened,
    until,
)

WRITER = """
import asyncio, pathlib, sys
from proxy.audit import AccessLog
from proxy.keys import file
from proxy.keys.kek import kek_of
from tests.audit.records import event
from tests.harness.postgres import given

async def main():
    keyring = file.read(pathlib.Path(sys.argv[2]), kek_of("env:KEK", {"KEK": sys.argv[3]}))
    path, database = pathlib.Path(sys.argv[1]), given(sys.argv[4])
    log = await AccessLog.open(path, keyring=keyring, database=database)
    await log.append(event("intent", "0c"))
    print(log.name, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def whole(path):
    """All that the log holds fits together."""
    files = Files.at(path)
    with contextlib.closing(Leaves(files)) as source:
        key = VerifierKey.parse(source.key())
        found = Verifier(source, files.tiles, key=key, now=datetime.now(UTC)).run().findings
    assert [each for each in found if each.grade > Grade.GAPS] == []


@contextlib.contextmanager
def locked(path):
    """Another connection holds the database as an administrator's tool might."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


async def test_a_receipt_means_that_any_other_connection_reads_the_exact_bytes(path):
    async with opened(path) as log:
        for number in range(20):
            given = event(subject=f"s{number}", path=HOSTILE)
            receipt = await log.append(given)
            assert (receipt.access, receipt.log) == (given.access, log.name)
            assert (place_of(1, receipt.index), encode(given)) == leaves(path)[-1]


async def test_a_receipt_means_that_the_bytes_are_synced_in_a_write_ahead_log(file):
    async with opened(file) as log:
        assert log._writer._ledger._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert log._writer._ledger._connection.execute("PRAGMA synchronous").fetchone() == (
            2,
        )  # FULL


async def test_what_waits_together_is_committed_together(file):
    async with opened(file) as log:
        await log.append(event())
        before = commits(file)
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # the writer waits with what it took first
            appends = asyncio.gather(*(log.append(event()) for _ in range(200)))
            await asyncio.sleep(0.01)
            other.execute("ROLLBACK")
        receipts = await appends
        assert commits(file) - before <= 2
        assert len({receipt.index for receipt in receipts}) == 200


async def test_indices_are_contiguous_in_the_order_of_commits_under_concurrent_appenders(path):
    async def appender(log, number):
        given = [event(subject=f"s{number}", part=part) for part in range(25)]
        return [(one, await log.append(one)) for one in given]

    async with opened(path) as log:
        done = await asyncio.gather(*(appender(log, number) for number in range(64)))
        found = leaves(path)
    assert [epoch_and_index(place) for place, _ in found] == [(1, n) for n in range(1 + 64 * 25)]
    for pairs in done:
        assert [found[receipt.index][1] for _, receipt in pairs] == [
            encode(one) for one, _ in pairs
        ]
        assert sorted(receipt.index for _, receipt in pairs) == [r.index for _, r in pairs]


async def test_each_start_opens_a_new_log_and_seals_those_before(path):
    for epoch in (1, 2, 3):
        async with opened(path) as log:
            assert log.name == f"counterfoil/{epoch}"
            assert (await log.append(event())).index == 1
            assert logs(path) == [(one, one < epoch) for one in range(1, epoch + 1)]
            assert log.opened == events(path)[-2].access
    assert logs(path) == [(1, True), (2, True), (3, True)]
    assert [one.log for one in events(path) if one.step == "opened"] == [
        "counterfoil/1", "counterfoil/2", "counterfoil/3",
    ]  # fmt: skip


async def test_several_processes_each_have_a_log_of_their_own_at_once(path):
    async with opened(path) as one, opened(path) as other:
        assert (one.name, other.name) == ("counterfoil/1", "counterfoil/2")
        for number in range(10):
            first, second = await asyncio.gather(one.append(event()), other.append(event()))
            assert (first.log, first.index) == (one.name, number + 1)
            assert (second.log, second.index) == (other.name, number + 1)
        assert logs(path) == [(1, False), (2, False)]
    assert logs(path) == [(1, True), (2, True)]
    assert [epoch_and_index(place) for place, _ in sorted(leaves(path))] == [
        (epoch, index) for epoch in (1, 2) for index in range(11)
    ]
    whole(path)


async def test_readers_follow_the_commits_of_all_logs(path):
    """What is newest, and what a cursor has not seen, does not depend on whose log it is in."""
    async with opened(path) as one, opened(path) as other:
        await until(
            lambda: one.lag == other.lag == 0
        )  # the index is there, and the reader finds it
        with Reader(path) as reader:
            said = []
            for log in (one, other, other, one, other, one):
                seen = reader.head
                said.append((await log.append(event())).access)
                await asyncio.to_thread(one.up_to_date)
                assert [decode(leaf.entry).access for leaf in reader.since(seen)] == said[-1:]
            assert [decode(leaf.entry).access for leaf in reader.last(6)] == said
            for _ in range(2):  # merged by the reader itself; then by the index
                found = reader.query(limit=4)
                assert [each.access for each in found] == said[:1:-1]
                assert [(each.log, each.index) for each in found] == [
                    ("counterfoil/1", 3), ("counterfoil/2", 3), ("counterfoil/1", 2),
                    ("counterfoil/2", 2),
                ]  # fmt: skip
                await until(lambda: one.lag == other.lag == 0)
    assert differing(Files.at(path)) is None


async def test_one_process_keeps_and_another_takes_over_when_it_ends(path):
    async with opened(path) as one, opened(path) as other:
        await until(lambda: one.keeps or other.keeps)
        first, second = (one, other) if one.keeps else (other, one)
        await first.append(event())
        await second.append(event())
        await until(lambda: not any((one.lag, other.lag, one.unpublished, other.unpublished)))
        assert not second.keeps
        await first.close()
        await until(lambda: second.keeps)
        await second.append(event())
        await until(lambda: not second.lag and not second.unpublished)
    whole(path)


async def test_a_log_whose_writer_lives_is_left_alone_and_one_whose_writer_died_is_sealed(
    path, tmp_path
):
    kek, file = os.urandom(32).hex(), tmp_path / "keyring.json"
    keyring_file.create(file, kek_of("env:KEK", {"KEK": kek}))
    keyring = keyring_file.read(file, kek_of("env:KEK", {"KEK": kek}))
    async with opened(path, keyring=keyring) as one:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, path, file, kek, database(path), stdout=subprocess.PIPE
        )
        await one.append(event("intent", "0a"))
        assert await child.stdout.readline() == b"counterfoil/2\n"
        async with opened(path, keyring=keyring) as two:
            assert (two.name, two.unresolved) == ("counterfoil/3", 0)
            child.kill()
            await child.wait()
            await locked_logs(path, 2)
            async with opened(path, keyring=keyring) as three:
                assert three.unresolved == 1
            assert (await one.append(event("outcome", "0a"))).index == 2
    assert [(each.log, each.access) for each in events(path) if each.step == "unresolved"] == [
        ("counterfoil/2", "0c")
    ]
    whole(path)


async def test_a_writer_that_lost_its_lock_can_write_no_more(file):
    """Somebody deletes the lock's file and starts another: the first is fenced off by its epoch."""
    async with opened(file) as first:
        await first.append(event())
        file.with_name("access-locks").joinpath("1").unlink()
        async with opened(file) as second:
            with pytest.raises(LogUnavailable, match="another process has sealed the log"):
                await first.append(event())
            assert not first.healthy
            await second.append(event())
    assert [one.step for one in events(file)] == ["opened", "complete", "opened", "complete"]


async def test_a_locked_log_fails_within_the_deadline_and_works_again_afterwards(file):
    async with opened(file, deadline=0.4) as log:
        await log.append(event())
        with locked(file):
            with pytest.raises(LogUnavailable, match="locked by another process"):
                await log.append(event())
            assert not log.healthy
            assert "locked" in log.failure
        receipt = await log.append(event())
        assert log.healthy
        assert leaves(file)[-1][0] == place_of(1, receipt.index)


async def test_a_full_log_fails_and_heals_by_itself(file):
    """SQLITE_FULL, as on a full disk: nothing of the batch is there, and readiness returns unasked."""
    async with opened(file) as log:
        await log.append(event())
        writer = log._writer._ledger._connection
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        appends = [log.append(event(path="x" * 4000)) for _ in range(20)]
        done = await asyncio.gather(*appends, return_exceptions=True)
        assert isinstance(done[-1], LogUnavailable)
        assert "full" in log.failure
        size = len(leaves(file))
        writer.execute("PRAGMA max_page_count = 1000000")
        await until(lambda: log.healthy)
        assert (await log.append(event(path="x" * 4000))).index == size


STARVED = """
import asyncio, pathlib, resource, sys
from proxy.access import AccessEvent, new_access_id
from proxy.audit import AccessLog
from proxy.errors import LogUnavailable
from proxy.keys import Keyring

async def main():
    log = await AccessLog.open(pathlib.Path(sys.argv[1]), keyring=Keyring.generate())
    def event():
        return AccessEvent(access=new_access_id(), step="complete", at="", path="x" * 1000)
    for number in range(60):
        if number == 30:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        try:
            print((await log.append(event())).access, flush=True)
        except LogUnavailable as error:
            print("refused", log.healthy, error, flush=True)
    await log.close()

asyncio.run(main())
"""


async def test_where_no_file_can_grow_every_append_fails_and_nothing_receipted_is_lost(file):
    child = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", STARVED, file], capture_output=True, text=True
    )
    said = (
        child.stderr.splitlines()
    )  # by the log about its files, which cannot grow either; no traceback
    assert all(line.startswith("access log: ") and "not published" in line for line in said), said
    lines = child.stdout.splitlines()
    assert all(line.startswith("refused False") for line in lines[30:])
    assert [one.access for one in events(file)[1:]] == lines[:30]
    async with opened(file) as log:
        assert (await log.append(event())).index == 1


@pytest.mark.parametrize("name", ["access.db", "access.db-wal"])
@pytest.mark.parametrize("how", ["unlinked", "moved", "replaced"])
async def test_a_file_that_was_removed_or_replaced_is_noticed_before_a_receipt(file, name, how):
    async with opened(file) as log:
        await log.append(event())
        victim = file.with_name(name)
        if how == "unlinked":
            victim.unlink()
        else:
            victim.rename(file.with_name("stolen"))
            if how == "replaced":
                victim.write_bytes(file.with_name("stolen").read_bytes())
        with pytest.raises(LogUnavailable, match="removed or replaced"):
            await log.append(event())
        with pytest.raises(LogUnavailable, match="removed or replaced"):
            await log.append(event())
        assert not log.healthy


async def test_a_lost_file_is_noticed_without_an_append(file):
    async with opened(file) as log:
        file.rename(file.with_name("stolen"))
        await until(lambda: not log.healthy)


async def test_no_more_than_so_many_events_wait(file):
    async with opened(file, waiting=8, deadline=2.0) as log:
        await log.append(event())
        with locked(file):
            appends = [asyncio.ensure_future(log.append(event())) for _ in range(8)]
            await asyncio.sleep(0)
            with pytest.raises(LogUnavailable, match="8 events wait"):
                await log.append(event())
        assert len({receipt.index for receipt in await asyncio.gather(*appends)}) == 8
        await log.append(event())


async def test_an_event_that_cannot_be_an_entry_is_refused(path):
    async with opened(path) as log:
        with pytest.raises(LogUnavailable, match="more than 65535"):
            await log.append(event(path="x" * 65_535))
        with pytest.raises(LogUnavailable, match="cannot be encoded"):
            await log.append(event(path="\ud800"))
        room = 65_535 - len(encode(event()))
        longest = event(path="x" * (room - len(',"path":""')))
        await log.append(longest)
        assert len(leaves(path)[-1][1]) == 65_535
        assert log.healthy


async def test_a_closed_log_takes_nothing(path):
    async with opened(path) as log:
        pass
    with pytest.raises(LogUnavailable, match="closed"):
        await log.append(event())
    assert not log.healthy


async def test_closing_makes_durable_what_waits(path):
    async with opened(path) as log:
        appends = [asyncio.ensure_future(log.append(event())) for _ in range(50)]
        await asyncio.sleep(0)
    indices = [receipt.index for receipt in await asyncio.gather(*appends)]
    assert indices == list(range(1, 51))
    assert len(leaves(path)) == 51


async def test_an_append_that_is_given_up_disturbs_no_other(path):
    async with opened(path) as log:
        appends = [asyncio.ensure_future(log.append(event())) for _ in range(10)]
        await asyncio.sleep(0)
        for append in appends[::2]:
            append.cancel()
        done = await asyncio.gather(*appends, return_exceptions=True)
        assert [one.index for one in done[1::2]] == [2, 4, 6, 8, 10]
        assert len(leaves(path)) == 11  # what was given up is on record all the same


@pytest.mark.parametrize(
    "content", [b"SQLite format 3\0" + b"\xff" * 8000, b"no database at all" * 500]
)
async def test_a_file_that_is_no_log_is_refused(file, content):
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(LogUnavailable, match=r"access\.db is "):
        await AccessLog.open(file, keyring=KEYRING)
    assert file.read_bytes() == content


async def test_a_database_of_another_kind_or_version_is_refused(file):
    file.parent.mkdir()
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE pets (name)")
    with pytest.raises(LogUnavailable, match="is not an access log"):
        await AccessLog.open(file, keyring=KEYRING)
    file.unlink()
    async with opened(file):
        pass
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(LogUnavailable, match="version 99"):
        await AccessLog.open(file, keyring=KEYRING)


async def test_leaves_cannot_be_changed_or_deleted_by_mistake(file):
    async with opened(file) as log:
        await log.append(event())
    with contextlib.closing(sqlite3.connect(file)) as other:
        for statement in ("UPDATE leaf SET entry = x''", "DELETE FROM leaf"):
            with pytest.raises(sqlite3.IntegrityError, match=r"never|kept"):
                other.execute(statement)


async def test_files_of_the_log_are_private(path):
    async with opened(path) as log:
        await log.append(event(subject="s1"), principal="user:alice")
        await until(lambda: path.with_name("access-names.db").exists())
    own = [one for one in path.parent.iterdir() if one.is_file()]
    assert {one.stat().st_mode & 0o777 for one in own} == {0o600}
    published = [*path.with_name("access-tiles").rglob("tile/entries")]
    assert published
    assert {one.stat().st_mode & 0o777 for one in published} == {0o700}
    assert {
        one.stat().st_mode & 0o777 for each in published for one in each.rglob("*") if one.is_file()
    } == {0o600}
