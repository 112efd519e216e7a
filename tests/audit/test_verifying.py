"""The server's own look at its log: a real process, which finds what `log verify` finds, and ends with the server."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

from proxy.audit.retaining import FolderSink, Retaining
from proxy.audit.store import Files, place_of
from proxy.audit.verifying import SelfVerifying
from tests.audit.records import event, opened, until
from tests.audit.test_publish import forced, written
from tests.audit.test_retaining import ENTRIES, signed
from tests.harness.process import ROOT


def verifying(path: Path, *retained: Path) -> SelfVerifying:
    return SelfVerifying(Files.at(path), every=1, retained=retained)


async def test_a_whole_log_then_an_altered_one_then_it_again(tmp_path: Path, caplog) -> None:
    """What is wrong is told with its place for as long as it is so, and never in what words an entry has."""
    path = tmp_path / "access.db"
    await written(path, 5, 700)
    own = verifying(path)
    assert await own.look() and own.wrong == {} and own.verified_at > 0
    shutil.copy(path, tmp_path / "kept.db")
    with forced(path) as database:
        sql = "UPDATE leaf SET entry = x'736563726574' WHERE place = ?"
        database.execute(sql, (place_of(2, 300),))
    assert await own.look()
    assert own.wrong["grade"] == "invalid" and own.wrong["log"] == "counterfoil/2"
    assert own.wrong["entry"] in (256, 300) and int(own.wrong["faults"]) >= 1
    assert "counterfoil/2, entry 256" in caplog.text and "secret" not in caplog.text
    shutil.copy(tmp_path / "kept.db", path)
    assert await own.look() and own.wrong == {}
    assert "it is whole again" in caplog.text


async def test_a_backup_that_was_put_back(tmp_path: Path) -> None:
    """It is whole in itself: only what lies in a folder of `retain` tells."""
    path, kept, backup = (tmp_path / name for name in ("log", "kept", "backup"))
    kept.mkdir()
    await written(path / "access.db", 3)
    shutil.copytree(path, backup)
    async with opened(path / "access.db") as log:
        await log.append(event())
        await until(lambda: log.unpublished == 0)
        retaining = Retaining(log.files, [FolderSink(kept, every=1)])
        await retaining.round()
        assert not retaining.failures
    own = verifying(path / "access.db", kept)
    assert await own.look() and own.wrong == {}
    shutil.rmtree(path)
    shutil.copytree(backup, path)
    assert await verifying(path / "access.db").look()
    assert await own.look()
    assert own.wrong["grade"] == "contradicted"


async def test_a_copy_that_is_behind_is_no_other_history(tmp_path: Path, postgres) -> None:
    """What another machine has retained of a log in a database, this one may not have copied yet."""
    database, kept = postgres.new(), tmp_path / "kept"
    kept.mkdir()
    async with opened(tmp_path / "ours.db", database=database) as log:
        for _ in range(20):
            await log.append(event())
        await until(lambda: log.unpublished == 0)
    async with opened(tmp_path / "theirs.db", database=database) as log:
        for _ in range(3):
            await log.append(event())
        await until(lambda: log.unpublished == 0)
        retaining = Retaining(log.files, [FolderSink(kept, every=1)])
        await retaining.round()
        assert not retaining.failures
    own = verifying(tmp_path / "ours.db", kept)
    assert await own.look() and own.wrong == {}
    for newest in (kept / "counterfoil-1").iterdir():
        newest.unlink()
    other = kept / "counterfoil-1" / f"{5:019d}"  # of no more entries than it has
    other.write_bytes(signed(ENTRIES[:5], by="counterfoil/1"))
    assert await own.look() and own.wrong["grade"] == "contradicted"


async def test_an_access_without_an_end_is_no_fault(tmp_path: Path) -> None:
    """A crash leaves it for good: it is for the auditor to know, and no alarm each day."""
    path = tmp_path / "access.db"
    async with opened(path) as log:
        await log.append(event("unresolved"))
    own = verifying(path)
    assert await own.look() and own.wrong == {}


async def test_a_look_that_could_not_be_taken(tmp_path: Path, caplog, monkeypatch) -> None:
    """No log, or no process that ends as it should: it is said, and is no verdict on the log."""
    own = verifying(tmp_path / "none.db")
    assert not await own.look()
    assert own.wrong == {"grade": "unknown"} and own.verified_at == 0
    assert "there is no access log at" in caplog.text
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert not await own.look()
    assert "ended with status 1" in caplog.text
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert not await own.look()
    assert "no process can be begun" in caplog.text


async def test_only_the_keeper_looks_and_a_stop_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / "access.db"
    await written(path, 3)
    looks = False
    own = SelfVerifying(Files.at(path), every=0.01, keeps=lambda: looks)
    task = asyncio.create_task(own.run())
    await asyncio.sleep(0.1)
    assert own.verified_at == 0
    looks = True
    await until(lambda: own.verified_at)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()


BUSY = """
import time
from proxy.audit import verifying
verifying.of_log = lambda *_: time.sleep(600)
verifying.main()
"""


def test_it_ends_with_the_server(tmp_path: Path) -> None:
    """Whose end of its input is closed then, however it ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY, str(tmp_path / "access.db")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    said, wrong = process.communicate(timeout=60)
    assert (process.returncode, said, wrong) == (1, b"", b"")
