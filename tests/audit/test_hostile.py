"""Files that somebody without the keys has written: never a clean verdict, never a crash, never without bound."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.access import encode
from proxy.audit import registry, tiles
from proxy.audit.checkpoint import Note, VerifierKey
from proxy.audit.findings import Grade
from proxy.audit.publish import Publisher
from proxy.audit.sources import Bundles, Leaves
from proxy.audit.store import Files, place_of
from proxy.audit.verify import Verifier
from proxy.cli import main
from tests.audit.records import KEYRING, event, leaves, opened, until, write
from tests.audit.test_publish import NOW, checkpoint, forced, written

Change = Callable[[sqlite3.Connection], object]
BRACKETS = b"[" * 5000 + b"]" * 5000
"""Of which a decoder has enough."""


def _verify(*words: object) -> str:
    """What `log verify` says, which is that it is not whole."""
    ran = CliRunner().invoke(main, ["log", "verify", *map(str, words)])
    assert ran.exit_code == 40, (ran.output, ran.exception)
    assert isinstance(ran.exception, SystemExit), ran.exception
    return ran.output


def _loose(database: sqlite3.Connection) -> None:
    database.executescript(
        "CREATE TABLE loose (number INTEGER PRIMARY KEY, place INTEGER UNIQUE, entry);"
        "INSERT INTO loose SELECT number, place, CAST(entry AS TEXT) FROM leaf;"
        "DROP TABLE leaf; ALTER TABLE loose RENAME TO leaf;"
    )


def _seen_through(database: sqlite3.Connection) -> None:
    database.executescript(
        "ALTER TABLE leaf RENAME TO other; CREATE VIEW leaf AS SELECT number, place, entry FROM other;"
    )


def _copied(place: int) -> Change:
    return lambda database: database.execute(
        "INSERT INTO leaf (place, entry) SELECT ?, entry FROM leaf LIMIT 1 OFFSET 3", (place,)
    )


CHANGES: dict[str, Change] = {
    "the first entry is gone": lambda database: database.execute(
        "DELETE FROM leaf WHERE place = ?", (place_of(1, 0),)
    ),
    "an entry that seems unresolved is no JSON": lambda database: database.execute(
        "UPDATE leaf SET entry = ? WHERE place = ?",
        (b'{"step":"unresolved" and so on', place_of(1, 3)),
    ),
    "an entry that seems unresolved is no text": lambda database: database.execute(
        "UPDATE leaf SET entry = ? WHERE place = ?",
        (b'{"at":"\xff","step":"unresolved"}', place_of(1, 3)),
    ),
    "an entry that seems to prune is brackets": lambda database: database.execute(
        "UPDATE leaf SET entry = ? WHERE place = ?",
        (b'{"step":"prune","x":' + BRACKETS + b"}", place_of(1, 3)),
    ),
    "an entry that no checkpoint covers is brackets": lambda database: database.execute(
        "INSERT INTO leaf (place, entry) VALUES (?, ?)",
        (place_of(1, 21), b'{"x":' + BRACKETS + b"}"),
    ),
    "the key is none": lambda database: database.execute("UPDATE log SET key = 'x'"),
    "entries are texts": _loose,
    "entries are seen through a view": _seen_through,
    "something happens with each entry": lambda database: database.execute(
        "CREATE TRIGGER more AFTER INSERT ON leaf BEGIN DELETE FROM registry; END"
    ),
    "an entry comes before all logs": _copied(5),
    "an entry comes before zero": _copied(-7),
    "an entry comes last of all": _copied((1 << 63) - 1),
    "the registry is gone": lambda database: database.execute("DROP TABLE registry"),
    "the registry is brackets": lambda database: database.execute(
        "UPDATE registry SET entry = ? WHERE number = 0", (b'{"at":' + BRACKETS + b"}",)
    ),
    "the registry has an entry before all": lambda database: database.execute(
        "INSERT INTO registry VALUES (-1, x'00')"
    ),
    "the registry has an entry after all": lambda database: database.execute(
        "INSERT INTO registry VALUES (1 << 40, x'00')"
    ),
    "the registry is no text": lambda database: database.execute(
        "UPDATE registry SET entry = x'ff00'"
    ),
    "it says nothing of itself": lambda database: database.execute("DELETE FROM this"),
    "it says of itself two things": lambda database: database.execute(
        "INSERT INTO this SELECT * FROM this"
    ),
    "the logs are gone": lambda database: database.execute("DELETE FROM log"),
}


@pytest.mark.threat("H68")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_a_changed_database_is_not_whole(tmp_path: Path, change: Change) -> None:
    """Whatever its file is made to hold: `log verify` exits with 40, with what was retained or without."""
    path = tmp_path / "access.db"
    await written(path, 20)
    with contextlib.closing(Leaves(Files.at(path))) as source:
        key = source.key()
    kept = tmp_path / "kept"
    kept.write_bytes(checkpoint(path, 1))
    with forced(path) as database:
        change(database)
    Files.at(path).index.unlink()  # whoever writes the one can remove the other
    _verify("--log", path, "--vkey", key, "--retained", kept)
    if change is not CHANGES["the logs are gone"]:
        _verify("--log", path)


async def test_damaged_databases_are_not_whole(tmp_path: Path) -> None:
    """A database that is junk, in whole or in part, is a finding, named; the index too."""
    path = tmp_path / "access.db"
    await written(path, 20)
    whole = path.read_bytes()
    Files.at(path).index.write_bytes(b"junk" * 5000)
    assert "access-index.db" in _verify("--log", path)
    Files.at(path).index.unlink()
    for bent in (b"junk" * 5000, whole[:4096] + b"\xff" * 4096 + whole[8192:]):
        path.write_bytes(bent)
        assert "access.db" in _verify("--log", path)


@pytest.mark.parametrize("where", ["tile/0/000.p/21", "tile/entries/000.p/21"])
async def test_published_files_hold_nothing_else(tmp_path: Path, where: str) -> None:
    """Entries and hashes behind those of the checkpoint are found, though it does not cover them."""
    path = tmp_path / "access.db"
    await written(path, 20)
    file = registry.folder_of(Files.at(path), 1) / where
    file.write_bytes(file.read_bytes() + (b"\0\2{}" if "entries" in where else bytes(32)))
    assert where.removesuffix(".p/21") in _verify("--log", path)


@pytest.mark.parametrize("where", ["checkpoint", "tile/0/000.p/21", "tile/entries/000.p/21"])
async def test_published_files_are_read_within_bounds(tmp_path: Path, where: str) -> None:
    """A published file of gigabytes, a pipe, a folder or a forbidden one in its place is a finding, at once."""
    path = tmp_path / "access.db"
    await written(path, 20)
    files = Files.at(path)
    with contextlib.closing(Leaves(files)) as source:
        key = source.key()
    file = registry.folder_of(files, 1) / where
    os.truncate(file, 4 << 30)
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, limit[1]))
    try:
        _verify("--tiles", files.tiles, "--vkey", key)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
    file.unlink()
    os.mkfifo(file)
    _verify("--tiles", files.tiles, "--vkey", key)
    file.unlink()
    file.mkdir()
    _verify("--tiles", files.tiles, "--vkey", key)
    file.rmdir()
    file.symlink_to("/dev/zero")
    _verify("--tiles", files.tiles, "--vkey", key)


async def test_what_nothing_proves_is_not_whole(tmp_path: Path) -> None:
    """Entries that no checkpoint covers are passed while they are new; who keeps files from being made has none."""
    path = tmp_path / "access.db"
    await written(path, 5)
    files = Files.at(path)
    now = time.time()
    write(path, [event(at=now)] * 3)  # killed at once
    publisher = Publisher(files, lambda: KEYRING, epoch=2)
    assert publisher.round() == ""
    publisher.close()
    with contextlib.closing(Leaves(files)) as source:
        key = VerifierKey.parse(source.key())
        for age, grade in ((0, Grade.WHOLE), (3600, Grade.GAPS), (-3600, Grade.GAPS)):
            with contextlib.closing(sqlite3.connect(path)) as database:
                place = place_of(2, source.size(2, 0))
                entry = encode(event(at=now - age))
                database.execute("INSERT INTO leaf (place, entry) VALUES (?, ?)", (place, entry))
                database.commit()
            at = datetime.fromtimestamp(now, UTC)
            found = Verifier(source, files.tiles, key=key, now=at).run()
            assert found.grade is grade
            assert found.unpublished == 1
            with forced(path) as database:
                database.execute("DELETE FROM leaf WHERE place = ?", (place,))


@pytest.mark.parametrize(("lasted", "grade"), [(1, Grade.GAPS), (3600, Grade.INVALID)])
async def test_a_run_that_died_at_once_is_a_gap(tmp_path: Path, lasted: int, grade: Grade) -> None:
    """A process may die before it publishes its log; one that went on for longer has had its files removed."""
    path = tmp_path / "access.db"
    files = write(path, [event()], [event(at=1.7e9 + lasted)])
    publisher = Publisher(files, lambda: KEYRING, epoch=2)
    assert publisher.round() == ""
    publisher.close()
    shutil.rmtree(registry.folder_of(files, 2))
    with contextlib.closing(Leaves(files)) as source:
        key = VerifierKey.parse(source.key())
        assert Verifier(source, files.tiles, key=key, now=NOW).run().grade is grade
    copy = Verifier(Bundles(files.tiles), files.tiles, key=key, now=NOW).run()
    assert copy.grade is Grade.GAPS  # of which nothing is known but that it was begun


@pytest.mark.parametrize(("lasted", "grade"), [(1, Grade.GAPS), (3600, Grade.INVALID)])
@pytest.mark.parametrize("count", [1, 300])
async def test_a_copy_without_a_checkpoint_is_as_old_as_its_entries(
    tmp_path: Path, lasted: int, grade: Grade, count: int
) -> None:
    """Of published files alone too, a checkpoint that was taken away is no process that died at once."""
    path = tmp_path / "access.db"
    files = write(path, [event()], [event(at=1.7e9 + lasted)] * count)
    publisher = Publisher(files, lambda: KEYRING, epoch=2)
    assert publisher.round() == ""
    publisher.close()
    with contextlib.closing(Leaves(files)) as source:
        key = VerifierKey.parse(source.key())
    folder = registry.folder_of(files, 2)
    (folder / "checkpoint").unlink()
    assert Verifier(Bundles(files.tiles), files.tiles, key=key, now=NOW).run().grade is grade
    for each in (folder / "tile/entries").rglob("*"):
        if each.is_file():
            each.write_bytes(b"x")
    found = Verifier(Bundles(files.tiles), files.tiles, key=key, now=NOW).run()
    assert found.grade is Grade.INVALID


async def test_a_question_about_a_log_of_which_a_row_is_gone_is_a_fault_in_words(
    tmp_path: Path,
) -> None:
    """An index that names what the log has not ends `log exposure` in one message."""
    path = tmp_path / "access.db"
    write(path, [event(decision="permit", report="sales/daily", rows=1)])
    assert CliRunner().invoke(main, ["log", "query", "--log", str(path)]).exit_code == 0
    with forced(path) as database:
        database.execute("DELETE FROM log WHERE epoch > 0")
    said = CliRunner().invoke(main, ["log", "exposure", "--log", str(path)])
    assert said.exit_code == 1 and isinstance(said.exception, SystemExit), said.exception
    assert "verify it" in said.stderr


async def test_all_of_a_published_file_is_looked_at(tmp_path: Path) -> None:
    """A file of fewer entries beside one of more lends it nothing, whatever size was retained."""
    path = tmp_path / "access.db"
    files = Files.at(path)
    async with opened(path) as log:
        for _ in range(43):
            await log.append(event())
        await until(lambda: log.unpublished == 0)
        kept = checkpoint(path, 1)
        for _ in range(300):
            await log.append(event())
    with contextlib.closing(Leaves(files)) as source:
        key = VerifierKey.parse(source.key())
    assert Note.parse(kept).checkpoint.size == 44
    assert (
        Verifier(Bundles(files.tiles), files.tiles, key=key, retained=[kept], now=NOW)
        .run()
        .findings
        == []
    )
    folder = registry.folder_of(files, 1) / "tile/entries"
    entries = tiles.unbundled((folder / "000").read_bytes())
    (folder / "000.p").mkdir(exist_ok=True)
    (folder / "000.p/44").write_bytes(tiles.bundle(entries[:44]))
    forged = [entries[0], b"{}", *entries[2:]]
    (folder / "000").write_bytes(tiles.bundle(forged))
    found = Verifier(Bundles(files.tiles), files.tiles, key=key, retained=[kept], now=NOW).run()
    assert found.grade is Grade.INVALID


async def test_hashes_beside_entries_that_are_newer_are_looked_at(tmp_path: Path) -> None:
    """The files of the newest checkpoint are held against the log, though that has gone on."""
    path = tmp_path / "access.db"
    await written(path, 20)
    with forced(path) as database:
        database.execute("UPDATE log SET sealed = NULL, final = NULL")
        database.execute(
            "INSERT INTO leaf (place, entry) VALUES (?, ?)",
            (place_of(1, 21), encode(event(at=time.time()))),
        )
    tile = registry.folder_of(Files.at(path), 1) / tiles.hashes_path(0, 0, 21)
    tile.write_bytes(bytes(reversed(tile.read_bytes())))
    assert "tile/0/000 holds other hashes than the entries have" in _verify("--log", path)


def test_what_is_no_event_is_told_by_all_that_read_it(tmp_path: Path) -> None:
    """In words: an entry of thousands of brackets, and one whose members are of other types."""
    kinds = ('"groups":5', '"fields":{"a":1}', '"lines":"x"', '"x":' + BRACKETS.decode())
    for number, more in enumerate(kinds):
        path = tmp_path / str(number)
        write(path, [event()])
        with forced(path) as database:
            entry = f'{{"access":"a","at":"2026-11-29T00:00:00.000000Z","step":"complete",{more}}}'
            database.execute("UPDATE leaf SET entry = ? WHERE number = 2", (entry.encode(),))
        for verb in ("query", "tail", "stats", "export", "exposure"):
            ran = CliRunner().invoke(main, ["log", verb, "--log", str(path)])
            assert ran.exception is None or isinstance(ran.exception, SystemExit), (more, verb)


def test_no_message_has_a_terminal_obey(tmp_path: Path) -> None:
    """Whatever a damaged log has for a name: an error shows it as escapes."""
    path = tmp_path / "access.db"
    write(path, [event()])
    with forced(path) as database:
        database.execute("DELETE FROM log WHERE epoch = 0")
        database.execute("UPDATE log SET name = 'x' || char(27) || ']0;y' || char(7, 0x202e)")
        database.execute("UPDATE leaf SET entry = CAST('{}' AS BLOB) WHERE number = 2")
    ran = CliRunner().invoke(main, ["log", "export", "--log", str(path)])
    assert ran.exit_code == 1 and r"x\x1b]0;y\x07\u202e[1] is not an access event" in ran.stderr
    assert ran.stderr.replace("\n", "").isprintable()


async def test_a_log_that_grows_while_it_is_looked_at_is_whole(tmp_path: Path) -> None:
    """What is written, published, sealed and begun while somebody verifies is no fault of the log."""
    path = tmp_path / "access.db"
    await written(path, 5)
    files = Files.at(path)
    async with opened(path) as log:
        await log.append(event())
        await until(lambda: log.unpublished == 0)
        with contextlib.closing(Leaves(files)) as source:
            key = VerifierKey.parse(source.key())
            assert source.size(2, 0) == 2
            for _ in range(300):
                await log.append(event())
            await until(lambda: log.unpublished == 0)
            assert Verifier(source, files.tiles, key=key, now=NOW).run().findings == []
            await log.close()
            assert len(leaves(path)) == 6 + 302
            assert Verifier(source, files.tiles, key=key, now=NOW).run().findings == []
