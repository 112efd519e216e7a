"""Appending: what a receipt means, and what happens where none can be given."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys

import pytest

from proxy.access import encode
from proxy.audit import AccessLog
from proxy.audit.store import epoch_and_index, place_of
from proxy.errors import LogUnavailable
from tests.audit.records import (
    HOSTILE,
    commits,
    event,
    events,
    leaves,
    logs,
    opened,
)


@pytest.fixture
def path(tmp_path):
    return (
        tmp_path / "audit log?" / "access.db"
    )  # a folder that is made, with letters that a URI escapes


@contextlib.contextmanager
def locked(path):
    """Another connection holds the database as an administrator's tool might."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


async def until(condition):
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("never came true")


async def test_a_receipt_means_that_any_other_connection_reads_the_exact_bytes(path):
    async with opened(path) as log:
        for number in range(20):
            given = event(subject=f"s{number}", path=HOSTILE)
            receipt = await log.append(given)
            assert (receipt.access, receipt.log) == (given.access, log.name)
            assert (place_of(1, receipt.index), encode(given)) == leaves(path)[-1]


async def test_a_receipt_means_that_the_bytes_are_synced_in_a_write_ahead_log(path):
    async with opened(path) as log:
        assert log._writer._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert log._writer._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


async def test_what_waits_together_is_committed_together(path):
    async with opened(path) as log:
        await log.append(event())
        before = commits(path)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # the writer waits with what it took first
            appends = asyncio.gather(*(log.append(event()) for _ in range(200)))
            await asyncio.sleep(0.01)
            other.execute("ROLLBACK")
        receipts = await appends
        assert commits(path) - before <= 2
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


async def test_a_second_opener_is_refused_in_this_process_and_in_another(path):
    code = (
        "import asyncio, pathlib, sys\n"
        "from proxy.audit import AccessLog\n"
        "from proxy.errors import LogUnavailable\n"
        "try:\n"
        "    asyncio.run(AccessLog.open(pathlib.Path(sys.argv[1])))\n"
        "except LogUnavailable as error:\n"
        "    print(error)\n"
    )
    async with opened(path) as log:
        with pytest.raises(LogUnavailable, match="another process writes to this access log"):
            await AccessLog.open(path)
        other = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code, path], capture_output=True, text=True
        )
        assert "another process writes to this access log" in other.stdout, other.stderr
        await log.append(event())
    assert len(logs(path)) == 1


async def test_a_writer_that_lost_its_fence_can_write_no_more(path):
    """Somebody deletes the lock file and starts a second writer: the first is fenced off by epoch."""
    async with opened(path) as first:
        await first.append(event())
        path.with_name("access.db.lock").unlink()
        async with opened(path) as second:
            with pytest.raises(LogUnavailable, match="another process has opened the log"):
                await first.append(event())
            assert not first.healthy
            await second.append(event())
    assert [one.step for one in events(path)] == ["opened", "complete", "opened", "complete"]


async def test_a_locked_log_fails_within_the_deadline_and_works_again_afterwards(path):
    async with opened(path, deadline=0.4) as log:
        await log.append(event())
        with locked(path):
            with pytest.raises(LogUnavailable, match="locked by another process"):
                await log.append(event())
            assert not log.healthy
            assert "locked" in log.failure
        receipt = await log.append(event())
        assert log.healthy
        assert leaves(path)[-1][0] == place_of(1, receipt.index)


async def test_a_full_log_fails_and_heals_by_itself(path):
    """SQLITE_FULL, as on a full disk: nothing of the batch is there, and readiness returns unasked."""
    async with opened(path) as log:
        await log.append(event())
        writer = log._writer._connection
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        appends = [log.append(event(path="x" * 4000)) for _ in range(20)]
        done = await asyncio.gather(*appends, return_exceptions=True)
        assert isinstance(done[-1], LogUnavailable)
        assert "full" in log.failure
        size = len(leaves(path))
        writer.execute("PRAGMA max_page_count = 1000000")
        await until(lambda: log.healthy)
        assert (await log.append(event(path="x" * 4000))).index == size


STARVED = """
import asyncio, pathlib, resource, sys
from proxy.access import AccessEvent, new_access_id
from proxy.audit import AccessLog
from proxy.errors import LogUnavailable

async def main():
    log = await AccessLog.open(pathlib.Path(sys.argv[1]))
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


async def test_where_no_file_can_grow_every_append_fails_and_nothing_receipted_is_lost(path):
    child = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", STARVED, path], capture_output=True, text=True
    )
    assert child.stderr == ""
    lines = child.stdout.splitlines()
    assert all(line.startswith("refused False") for line in lines[30:])
    assert [one.access for one in events(path)[1:]] == lines[:30]
    async with opened(path) as log:
        assert (await log.append(event())).index == 1


@pytest.mark.parametrize("name", ["access.db", "access.db-wal"])
@pytest.mark.parametrize("how", ["unlinked", "moved", "replaced"])
async def test_a_file_that_was_removed_or_replaced_is_noticed_before_a_receipt(path, name, how):
    async with opened(path) as log:
        await log.append(event())
        victim = path.with_name(name)
        if how == "unlinked":
            victim.unlink()
        else:
            victim.rename(path.with_name("stolen"))
            if how == "replaced":
                victim.write_bytes(path.with_name("stolen").read_bytes())
        with pytest.raises(LogUnavailable, match="removed or replaced"):
            await log.append(event())
        with pytest.raises(LogUnavailable, match="removed or replaced"):
            await log.append(event())
        assert not log.healthy


async def test_a_lost_file_is_noticed_without_an_append(path):
    async with opened(path) as log:
        path.rename(path.with_name("stolen"))
        await until(lambda: not log.healthy)


async def test_no_more_than_so_many_events_wait(path):
    async with opened(path, waiting=8, deadline=2.0) as log:
        await log.append(event())
        with locked(path):
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
async def test_a_file_that_is_no_log_is_refused(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(LogUnavailable, match=r"access\.db is "):
        await AccessLog.open(path)
    assert path.read_bytes() == content


async def test_a_database_of_another_kind_or_version_is_refused(path):
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE pets (name)")
    with pytest.raises(LogUnavailable, match="is not an access log"):
        await AccessLog.open(path)
    path.unlink()
    async with opened(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(LogUnavailable, match="version 99"):
        await AccessLog.open(path)


async def test_leaves_cannot_be_changed_or_deleted_by_mistake(path):
    async with opened(path) as log:
        await log.append(event())
    with contextlib.closing(sqlite3.connect(path)) as other:
        for statement in ("UPDATE leaf SET entry = x''", "DELETE FROM leaf"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                other.execute(statement)


async def test_files_of_the_log_are_private(path):
    async with opened(path) as log:
        await log.append(event(subject="s1"), principal="user:alice")
        await until(lambda: path.with_name("access-names.db").exists())
    assert {one.stat().st_mode & 0o777 for one in path.parent.iterdir()} == {0o600}
