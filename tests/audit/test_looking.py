"""Stretches looked at in several processes: whatever is wrong with a log, and with them, all is as in one."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import signal
import sqlite3
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest

from proxy.audit import registry
from proxy.audit.looking import Looked, Looking, Stretch
from proxy.audit.publish import Publisher
from proxy.audit.sources import Bundles, Leaves
from proxy.audit.store import Files, place_of
from proxy.audit.tiles import LONGEST, WIDTH, entries_path
from proxy.audit.verify import Verifier
from tests.audit.records import KEYRING
from tests.audit.test_publish import NOW, forced, key_of, written

ENTRIES = 5 * 4096 + 99


@pytest.fixture(autouse=True)
def _worth_it(monkeypatch) -> None:
    """As for a long log."""
    monkeypatch.setattr("proxy.audit.looking._WORTH", 1)


def unpublished(path: Path, entries: Iterable[bytes]) -> None:
    """A log of which nothing is published yet, with these entries from the third on."""
    asyncio.run(written(path, 1))
    shutil.rmtree(Files.at(path).tiles)
    with forced(path) as database:
        database.execute("UPDATE log SET final = NULL, sealed = NULL WHERE epoch = 1")
        database.execute("DELETE FROM registry WHERE number = 1")
        database.executemany(
            "INSERT INTO leaf (place, entry) VALUES (?, ?)",
            ((place_of(1, number), entry) for number, entry in enumerate(entries, 2)),
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A log of several stretches, published; its entries are no events but for some."""
    path = tmp_path_factory.mktemp("whole") / "access.db"
    unpublished(
        path,
        (
            b'{"step":"unresolved","n":%d}' % number if number % 3_000 == 7 else b"%d" % number
            for number in range(2, ENTRIES)
        ),
    )
    with contextlib.closing(Publisher(Files.at(path), lambda: KEYRING, epoch=2)) as publisher:
        assert publisher.round() == ""
    return path


@pytest.fixture
def log(whole: Path, tmp_path: Path) -> Files:
    shutil.copytree(whole.parent, tmp_path, dirs_exist_ok=True)
    return Files.at(tmp_path / whole.name)


def along(source: Leaves | Bundles, files: Files, *, processes: int) -> list[Looked]:
    stretch = Stretch(1, registry.folder_of(files, 1), ENTRIES, 0, ENTRIES)
    with Looking(source, processes=processes) as looking:
        return list(looking.along(stretch))


def both(files: Files) -> list[Looked]:
    """What is seen by one process, and by several, of the log and of the files alone; the former of the log."""
    with contextlib.closing(Leaves(files)) as leaves:
        alone = along(leaves, files, processes=1)
        assert along(leaves, files, processes=3) == alone
    copy = Bundles(files.tiles)
    assert copy.size(1, ENTRIES) == ENTRIES
    assert along(copy, files, processes=2) == along(copy, files, processes=1)
    return alone


def test_all_of_a_log(log: Files) -> None:
    seen = both(log)
    assert sum(len(each.hashes) for each in seen) == ENTRIES
    marked = [index for each in seen for index, _ in each.marked]
    assert marked == [n for n in range(2, ENTRIES) if n % 3_000 == 7]
    assert [each.wrong for each in seen] == [[]] * 6


@pytest.mark.parametrize("at", [3, 4095, 4096, 9_000, ENTRIES - 1])
def test_an_entry_that_is_missing(log: Files, at: int) -> None:
    """What comes after it is not looked at."""
    with forced(log.leaves) as database:
        database.execute("DELETE FROM leaf WHERE place = ?", (place_of(1, at),))
    assert sum(len(each.hashes) for each in both(log)) == at


@pytest.mark.parametrize("at", [300, 5_000, 20_000])
def test_a_file_that_says_otherwise(log: Files, at: int) -> None:
    path = log.tiles / "1" / entries_path(at // 256)
    path.write_bytes(path.read_bytes().replace(b"%d" % at, b"x" * len(str(at)), 1))
    wrong = [index for each in both(log) for index, _ in each.wrong]
    assert wrong == [at // 256 * 256]


def test_a_log_that_cannot_be_read(log: Files) -> None:
    """The error is the one that there would be without other processes."""
    with contextlib.closing(Leaves(log)) as leaves, Looking(leaves, processes=2) as looking:
        seen = looking.along(Stretch(1, registry.folder_of(log, 1), ENTRIES, 0, ENTRIES))
        next(seen)
        with contextlib.closing(sqlite3.connect(log.leaves)) as database:
            database.execute("ALTER TABLE leaf RENAME TO gone")
            database.commit()
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            list(seen)


@pytest.mark.parametrize("after", [1, 2, 4])
def test_processes_that_are_killed(log: Files, after: int) -> None:
    """What they leave is looked at here, and none is left behind."""
    with contextlib.closing(Leaves(log)) as leaves:
        alone = along(leaves, log, processes=1)
        with Looking(leaves, processes=2) as looking:
            seen = looking.along(Stretch(1, registry.folder_of(log, 1), ENTRIES, 0, ENTRIES))
            found = [next(seen) for _ in range(after)]
            for each in helpers():
                os.kill(each, signal.SIGKILL)
            assert found + list(seen) == alone
    assert helpers() == []


def helpers() -> list[int | None]:
    return [each.pid for each in multiprocessing.active_children()]


def test_a_verifier_with_processes_finds_the_same(log: Files) -> None:
    with forced(log.leaves) as database:
        for at in (400, 12_345):
            database.execute("UPDATE leaf SET entry = x'78' WHERE place = ?", (place_of(1, at),))
    key = key_of(log.leaves, 0)
    found = []
    for processes in (1, 2):
        with contextlib.closing(Leaves(log)) as leaves:
            verifier = Verifier(leaves, log.tiles, key=key, now=NOW, processes=processes)
            found.append(verifier.run())
    assert found[0] == found[1]
    assert {each.index for each in found[0].findings} >= {256, 12_345 // 256 * 256}


def test_entries_of_any_length_take_bounded_memory(tmp_path: Path) -> None:
    """PROMISE 4 (bounded memory): as they are published and verified, a file of them is read at a time."""
    path = tmp_path / "access.db"
    unpublished(path, (b"%060000d" % number for number in range(2, 1_300)))
    files = Files.at(path)
    tracemalloc.start()
    try:
        with contextlib.closing(Publisher(files, lambda: KEYRING, epoch=2)) as publisher:
            assert publisher.round() == ""
        with contextlib.closing(Leaves(files)) as leaves:
            stretch = Stretch(1, registry.folder_of(files, 1), 1_300, 0, 1_300)
            with Looking(leaves, processes=1) as looking:
                (seen,) = looking.along(stretch)
        assert len(seen.hashes) == 1_300 and not seen.wrong
        assert tracemalloc.get_traced_memory()[1] < 5 * WIDTH * LONGEST
    finally:
        tracemalloc.stop()
