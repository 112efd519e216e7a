"""Attachments are durable with the records that name them, or neither is; what becomes of them is noticed.

PROMISE 2 (no record, no data).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy import durable
from proxy.audit import attachments
from proxy.audit.publish import Publisher
from proxy.audit.query import Reader
from proxy.audit.recover import unresolved
from proxy.audit.store import Files
from proxy.cli import main
from proxy.errors import LogUnavailable
from proxy.evidence.layout import Attachment, kept
from tests.audit.records import DATABASES, KEYRING, event, leaves, opened, until, write
from tests.harness.postgres import psql


def some(content: bytes) -> Attachment:
    return Attachment(sha256(content).hexdigest(), content)


def there(path: Path, digest: str) -> bool:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return attachments.content_of(connection, digest) is not None


def image(path: Path, folder: Path) -> Path:
    """The files as a crash would leave them at this moment."""
    folder.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, folder / file.name)
    return folder / path.name


async def test_a_crash_between_attachment_and_record_leaves_neither(tmp_path):
    """At any moment before the commit neither is there; after it both are, from the files alone."""
    path = tmp_path / "access.db"
    async with opened(path) as log:
        writer = log._writer._ledger._connection
        one = some(b"evidence" * 1000)
        before = leaves(path)
        with attachments.beside(writer, [one]):
            assert attachments.content_of(writer, one.digest) == one.content
            early = image(path, tmp_path / "early")
            writer.execute("INSERT INTO leaf (place, entry) VALUES (?, ?)", (1 << 40 | 500, b"{}"))
            late = image(path, tmp_path / "late")
        after = image(path, tmp_path / "after")
    for crashed in (early, late):
        assert not there(crashed, one.digest) and leaves(crashed) == before
    assert there(after, one.digest) and len(leaves(after)) == len(before) + 1


async def test_what_fails_leaves_neither_and_is_told(tmp_path):
    """A record that cannot be written takes its attachment with it; the next ones are written again."""
    path = tmp_path / "access.db"
    one, other = some(b"one" * 999), some(b"other" * 999)
    async with opened(path, deadline=1) as log:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as blocking:
            blocking.execute("BEGIN EXCLUSIVE")
            with pytest.raises(LogUnavailable):
                await log.append(event(evidence=(f"sha256:{one.digest}",)), attachments=(one,))
            blocking.execute("ROLLBACK")
        assert not there(path, one.digest)
        for _ in range(2):  # once it is there, however many name it
            await log.append(event(evidence=(f"sha256:{other.digest}",)), attachments=(other,))
        assert there(path, other.digest)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM attachment").fetchone() == (1,)


async def test_the_same_holds_in_a_database(file, postgres):
    """They are committed with the record, once; the copy has them before whoever names them."""
    DATABASES[file] = postgres.new()
    one = some(b"evidence" * 1000)
    asked = "SELECT encode(digest, 'hex'), length(content) FROM counterfoil.attachment"
    try:
        async with opened(file) as log:
            given = event(evidence=(f"sha256:{one.digest}",))
            for _ in range(2):
                await log.append(given, attachments=(one,))
            assert psql(DATABASES[file], asked) == f"{one.digest}|8000"
            await asyncio.to_thread(log.up_to_date)
            with Reader(file) as reader:
                assert reader.attachment(one.digest) == one.content
    finally:
        del DATABASES[file]
    assert verified(file)[0] == 0


async def logged(path: Path) -> Attachment:
    evidence = (3000).to_bytes(4, "big") + bytes(3000)
    stated, (one,) = kept(evidence)
    async with opened(path) as log:
        await log.append(event(decision="permit", rows=5, evidence=stated), attachments=(one,))
        await until(lambda: not log.unpublished)
    return one


def verified(path: Path) -> tuple[int, dict]:
    ran = CliRunner().invoke(main, ["log", "verify", "--log", str(path), "--json"])
    return ran.exit_code, json.loads(ran.stdout)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE attachment SET content = zeroblob(length(content))", "is not what was named"),
        ("UPDATE attachment SET content = substr(content, 2)", "is not what was named"),
        ("UPDATE attachment SET digest = zeroblob(32)", "is missing"),
        ("DELETE FROM attachment", "is missing"),
    ],
)
async def test_verify_looks_at_each_attachment(tmp_path, change, said):
    """One that is there is whole; one that is altered or gone is found, with the place of its record."""
    path = tmp_path / "access.db"
    one = await logged(path)
    status, found = verified(path)
    assert (status, found["attachments"], found["findings"]) == (0, 1, [])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER attachment_never_changes")
        connection.execute(change)
    status, found = verified(path)
    assert status == 40
    (finding,) = found["findings"]
    assert (finding["log"], finding["index"]) == ("counterfoil/1", 1)
    assert one.digest[:12] in finding["text"] and said in finding["text"]
    with Reader(path) as reader:
        assert reader.attachment("no digest") is None


def copied_from(path: Path, folder: Path) -> tuple[Path, str]:
    """The published files, as an auditor has them; and the registry's key."""
    copy = shutil.copytree(Files.at(path).tiles, folder / "copy")
    keys = CliRunner().invoke(main, ["log", "keys", "--log", str(path)])
    return copy, keys.output.split()[0]


def verified_alone(copy: Path, key: str) -> tuple[int, dict]:
    words = ["log", "verify", "--tiles", str(copy), "--vkey", key, "--json"]
    ran = CliRunner().invoke(main, words)
    return ran.exit_code, json.loads(ran.stdout)


async def test_they_are_published_and_verified_without_the_log(tmp_path):
    """Each once, under its digest, for its owner alone; whoever has the files alone can check the evidence."""
    path = tmp_path / "access.db"
    one = await logged(path)
    async with opened(path) as log:
        await log.append(event(evidence=(f"sha256:{one.digest}",)), attachments=(one,))
    copy, key = copied_from(path, tmp_path)
    (file,) = [each for each in (copy / "attachments").rglob("*") if each.is_file()]
    assert file.read_bytes() == one.content and file.parent.name + file.name == one.digest
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    status, found = verified_alone(copy, key)
    assert (status, found["attachments"], found["findings"]) == (0, 2, [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.unlink(), "missing"),
        (lambda file: file.write_bytes(b"other"), "not what was named"),
        (lambda file: (file.unlink(), file.mkdir()), "missing"),
        (lambda file: (file.unlink(), os.mkfifo(file)), "missing"),
    ],
    ids=["gone", "altered", "a folder", "a pipe"],
)
async def test_a_published_one_that_is_altered_or_gone_is_found(tmp_path, change, said):
    """By whoever has the files alone, and by whoever has the log beside them, with its record's place."""
    path = tmp_path / "access.db"
    one = await logged(path)
    tiles = Files.at(path).tiles
    change(tiles / "attachments" / one.digest[:2] / one.digest[2:])
    key = CliRunner().invoke(main, ["log", "keys", "--log", str(path)]).output.split()[0]
    for which, (status, found) in (
        ("", verified_alone(tiles, key)),
        ("published ", verified(path)),
    ):
        (finding,) = found["findings"]
        assert (status, finding["log"], finding["index"]) == (40, "counterfoil/1", 1)
        assert finding["text"] == f"its {which}attachment {one.digest[:12]} is {said}"


async def test_one_is_durable_before_the_checkpoint_that_covers_its_record(tmp_path, monkeypatch):
    """Whatever call a publisher dies at: what a checkpoint covers is there with all that it names."""
    path = tmp_path / "access.db"
    batch = []
    for number in range(3):
        one = some(b"evidence %d" % number * 500)
        batch.append((event(evidence=(f"sha256:{one.digest}",)), one))
    files = write(path, [each for each, _ in batch])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO attachment VALUES (?, ?)",
            [(bytes.fromhex(one.digest), one.content) for _, one in batch],
        )
    done: list[str] = []

    def watched(name):
        real = getattr(durable, name)

        def call(path, *given, **named):
            real(path, *given, **named)
            done.append(f"{name} {path.relative_to(files.tiles)}")

        return call

    for name in ("put", "write", "sync_folder"):
        monkeypatch.setattr(durable, name, watched(name))
    publisher = Publisher(files, lambda: KEYRING, epoch=1)
    assert publisher.round() == ""
    publisher.close()
    covered = done.index("write 1/checkpoint")
    for _, one in batch:
        put = done.index(f"put attachments/{one.digest[:2]}/{one.digest[2:]}")
        synced = done.index(f"sync_folder attachments/{one.digest[:2]}", put)
        assert put < synced < covered
        assert done.index("sync_folder attachments") < covered


async def test_a_record_whose_attachment_is_not_there_holds_nothing_back(tmp_path):
    """What is missing is told, and found by whoever verifies; all else is published."""
    path = tmp_path / "access.db"
    files = write(
        path, [event(evidence=("sha256:" + "5" * 64,)), event(path='"sha256:' + "6" * 64)]
    )
    publisher = Publisher(files, lambda: KEYRING, epoch=1)
    assert publisher.round() == "log counterfoil/1 lacks an attachment that it names"
    assert publisher.round() == "" and publisher.covered == 3
    publisher.close()
    status, found = verified(path)
    assert status == 40 and "555555555555 is missing" in found["findings"][0]["text"]


async def test_attachments_are_never_changed_by_an_honest_program(tmp_path):
    path = tmp_path / "access.db"
    await logged(path)
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="never changed"),
    ):
        connection.execute("UPDATE attachment SET content = x'00'")


def test_what_closes_an_open_access_repeats_no_evidence():
    """Its rows are in the records before; told again they would count twice."""
    one = event("progress", evidence=("sha256:" + "0" * 64,), rows=7)
    assert b"evidence" not in unresolved(one, log="counterfoil/1", at=one.at)
