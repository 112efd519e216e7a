"""Published files and what verifies them: whole logs pass, and whatever is changed is found, with its place."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import random
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from proxy import durable
from proxy.access import decode, encode
from proxy.audit import Reader, registry, tiles
from proxy.audit.checkpoint import Checkpoint, NotACheckpoint, Note, VerifierKey
from proxy.audit.checkpoint import opened as read
from proxy.audit.findings import Grade, Verified
from proxy.audit.ledger import Epoch
from proxy.audit.locks import Locks
from proxy.audit.projection import differing
from proxy.audit.publish import Publisher
from proxy.audit.recover import begin
from proxy.audit.sources import Bundles, Leaves
from proxy.audit.store import Files, connect, create, journal, place_of
from proxy.audit.verify import Verifier
from proxy.cli import main
from proxy.keys import Keyring, is_signature
from tests.audit.records import KEYRING, event, leaves, opened, until, write

NOW = datetime.now(UTC)


async def written(path: Path, *sizes: int) -> None:
    """A log with some runs of so many records each."""
    for size in sizes:
        async with opened(path) as log:
            for _ in range(size):
                await log.append(event())


def looked_at(path: Path, *, retained: tuple[bytes, ...] = (), key: str = "") -> Verified:
    files = Files.at(path)
    with contextlib.closing(Leaves(files)) as source:
        found = VerifierKey.parse(key or source.key())
        return Verifier(source, files.tiles, key=found, retained=retained, now=NOW).run()


def copy_looked_at(path: Path) -> Verified:
    files = Files.at(path)
    with contextlib.closing(Leaves(files)) as source:
        key = VerifierKey.parse(source.key())
    return Verifier(Bundles(files.tiles), files.tiles, key=key, now=NOW).run()


def checkpoint(path: Path, epoch: int) -> bytes:
    return (registry.folder_of(Files.at(path), epoch) / tiles.CHECKPOINT).read_bytes()


@contextlib.contextmanager
def forced(path: Path):
    """The leaves' file, without what keeps an honest program from changing them."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        for (trigger,) in database.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall():
            database.execute(f"DROP TRIGGER {trigger}")
        yield database
        database.commit()


async def test_a_whole_log_is_whole(path: Path) -> None:
    """What several runs have written verifies, from the log itself and from a copy of its files alone."""
    await written(path, 3, 300, 0)
    for found in (looked_at(path), copy_looked_at(path)):
        assert found.findings == []
        assert found.grade is Grade.WHOLE
        assert found.unpublished == 0
        assert [each.origin for each in found.checkpoints] == [
            "counterfoil/registry", "counterfoil/1", "counterfoil/2", "counterfoil/3",
        ]  # fmt: skip
        assert [each.size for each in found.checkpoints] == [6, 4, 301, 1]


async def test_published_while_it_grows(path: Path) -> None:
    """A running log publishes what it has; earlier checkpoints stay true of it, and can be retained."""
    kept = []
    async with opened(path) as log:
        for _ in range(4):
            for _ in range(130):
                await log.append(event())
            await until(lambda: log.unpublished == 0)
            kept.append(checkpoint(path, 1))
        found = looked_at(path, retained=tuple(kept))
        assert found.findings == []
        assert found.entries == 1 + 1 + 4 * 130
        assert log.publishing_failure == ""
    assert looked_at(path, retained=tuple(kept)).findings == []
    sizes = [Note.parse(note).checkpoint.size for note in kept]
    assert sizes == [131, 261, 391, 521]
    partial = [*Files.at(path).tiles.rglob("*.p/*")]
    assert len([each for each in partial if each.parts[-4] == "1"]) <= 8  # nobody needs older ones


async def test_a_killed_run_is_finished_by_the_next(tmp_path: Path) -> None:
    """Entries that a dead process had not published are published and sealed by the one after it."""
    path = tmp_path / "access.db"
    await written(path, 10)
    files = Files.at(path)
    shutil.rmtree(registry.folder_of(files, 1))
    with forced(path) as database:
        database.execute("UPDATE log SET final = NULL WHERE epoch = 1")
        database.execute("DELETE FROM registry WHERE number = 1")
    shutil.rmtree(registry.folder_of(files, registry.EPOCH))
    await written(path, 2)
    assert looked_at(path).findings == []


async def test_what_is_published_is_never_taken_back(tmp_path: Path) -> None:
    """A log that has fewer leaves than were published is left alone, loudly, and so are others' files."""
    path = tmp_path / "access.db"
    await written(path, 10, 4)
    with forced(path) as database:
        database.execute("DELETE FROM leaf WHERE place = ?", (place_of(1, 10),))
        database.execute("UPDATE log SET final = NULL WHERE epoch = 1")
    before = checkpoint(path, 1)
    publisher = Publisher(Files.at(path), lambda: KEYRING, epoch=2)
    assert "fewer than are published" in publisher.round()
    publisher.close()
    assert checkpoint(path, 1) == before
    other = Publisher(Files.at(path), Keyring.generate, epoch=2)
    assert "no such key" in other.round()
    other.close()


async def test_a_lost_key_keeps_no_other_log_back(tmp_path: Path) -> None:
    """A log whose key is gone is left alone, loudly; those after it are published, and the registry."""
    path = tmp_path / "access.db"
    await written(path, 10, 4)
    files = Files.at(path)
    with forced(path) as database:
        database.execute("UPDATE log SET final = NULL, key_id = 'gone' WHERE epoch = 1")
        database.execute("UPDATE log SET final = NULL WHERE epoch = 2")
        database.execute("DELETE FROM registry WHERE number = 3")
    shutil.rmtree(registry.folder_of(files, 2))
    shutil.rmtree(registry.folder_of(files, registry.EPOCH))
    publisher = Publisher(files, lambda: KEYRING, epoch=2)
    assert "counterfoil/1 cannot be signed" in publisher.round()
    publisher.close()
    assert read(checkpoint(path, 2), key_of(path, 2), is_signature).size == 5
    assert read(checkpoint(path, 0), key_of(path, 0), is_signature).size == 4


async def test_logs_outlive_the_keys_that_name(tmp_path: Path) -> None:
    """Logs that were open when another key came to name, or the old one was retired, are finished and whole."""
    path = tmp_path / "access.db"
    files = Files.at(path)
    first = Keyring.generate()
    second = first.rotated(names=True)
    third = second.rotated(names=True).retired(first.naming)
    write(path, [], keyring=first)  # killed before it published anything
    for keyring in (first, second, third):
        write(path, [event("intent")], keyring=keyring)  # killed too
        async with opened(path, keyring=keyring) as log:
            await log.append(event())
            await until(lambda: log.unpublished == 0)
        assert log.publishing_failure == ""
        found = looked_at(path)
        assert found.grade is Grade.GAPS
        assert found.unpublished == 0
    with contextlib.closing(Leaves(files)) as leaves:
        keys = {registry.decode(each).log for each in leaves.entries(0, 0, 100)}
    assert len(keys) == 7


def key_of(path: Path, epoch: int) -> VerifierKey:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return registry.logs(database, f"epoch = {epoch}")[0].key


@pytest.mark.parametrize("size", [10, tiles.WIDTH, tiles.WIDTH + 10])
async def test_nothing_is_added_to_another_history(tmp_path: Path, size: int) -> None:
    """Where an older copy of the log is put back and goes on otherwise, its published files are left alone."""
    path = tmp_path / "access.db"
    await written(path, size - 1)
    before = checkpoint(path, 1)
    with forced(path) as database:
        database.execute("UPDATE log SET final = NULL, sealed = NULL WHERE epoch = 1")
        last, more = place_of(1, size - 1), place_of(1, size)
        database.execute("UPDATE leaf SET entry = x'7b7d' WHERE place = ?", (last,))
        database.execute("INSERT INTO leaf (place, entry) VALUES (?, x'7b7d')", (more,))
    publisher = Publisher(Files.at(path), lambda: KEYRING, epoch=1)
    assert "other leaves than are published" in publisher.round()
    publisher.close()
    assert checkpoint(path, 1) == before


async def test_what_cannot_be_published_is_recorded_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where files cannot be written, or the table of logs is not ours, records are made; it is said, once."""
    path = tmp_path / "access.db"
    files = Files.at(path)
    files.tiles.touch()  # nobody, root neither, makes a folder of it
    async with opened(path) as log:
        await log.append(event())
        await until(lambda: log.publishing_failure != "")
        await log.append(event())
        assert log.healthy
        assert log.unpublished == 3
        files.tiles.unlink()
        await until(lambda: log.unpublished == 0)
        await until(lambda: log.publishing_failure == "")
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE log SET key = 'x' || key WHERE epoch = 1")
            database.commit()
            await log.append(event())
            await until(lambda: log.publishing_failure != "")
            database.execute("UPDATE log SET key = substr(key, 2) WHERE epoch = 1")
            database.commit()
        await until(lambda: log.unpublished == 0)
    assert looked_at(path).findings == []
    told = [each.getMessage() for each in caplog.records if "published" in each.getMessage()]
    assert ["again" in each for each in told] == [False, True, False, True]


async def test_a_round_may_be_cut_off_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a round of publishing dies, the next one goes on: one root for each size was ever signed."""
    path = tmp_path / "access.db"
    signed: dict[tuple[str, int], bytes] = {}
    make = Checkpoint.signed

    def watched(self: Checkpoint, *rest: object) -> bytes:
        assert signed.setdefault((self.origin, self.size), self.root) == self.root
        return make(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Checkpoint, "signed", watched)
    chance = random.Random(6962)
    epochs: list[Epoch] = []
    put, write = durable.put, durable.write
    kept: list[bytes] = []
    for _ in range(12):
        with contextlib.closing(connect(path, busy_seconds=1)) as database:
            if not epochs:
                create(database, Files.at(path))
                journal(database, "OFF")
            epoch, lock = begin(
                database,
                Locks(Files.at(path).locks),
                origin="counterfoil",
                at="",
                keyring=KEYRING,
            )
            epochs.append(epoch)
            lock.release()
            sizes = {epochs[-1].number: epochs[-1].size}
            for _ in range(3):
                for _ in range(chance.choice((1, 3, 300))):
                    number, size = epochs[-1].number, sizes[epochs[-1].number]
                    database.execute(
                        "INSERT INTO leaf (place, entry) VALUES (?, ?)",
                        (place_of(number, size), encode(event())),
                    )
                    sizes[number] += 1
                left = chance.randrange(20)

                def cut(*args: object, real: object, **kwargs: object) -> None:
                    nonlocal left
                    left -= 1
                    if left < 0:
                        raise Killed
                    real(*args, **kwargs)  # type: ignore[operator]
                    if left == 0 and chance.random() < 0.5:
                        raise Killed

                monkeypatch.setattr(durable, "put", functools.partial(cut, real=put))
                monkeypatch.setattr(durable, "write", functools.partial(cut, real=write))
                publisher = Publisher(Files.at(path), lambda: KEYRING, epoch=number)
                with contextlib.suppress(Killed):
                    assert publisher.round() == ""
                publisher.close()
                monkeypatch.setattr(durable, "put", put)
                monkeypatch.setattr(durable, "write", write)
                with contextlib.suppress(FileNotFoundError):
                    kept.append(checkpoint(path, number))
    publisher = Publisher(Files.at(path), lambda: KEYRING, epoch=epochs[-1].number)
    assert publisher.round() == ""
    publisher.close()
    found = looked_at(path, retained=tuple(kept))
    assert found.findings == []
    assert copy_looked_at(path).findings == []


class Killed(BaseException):
    """As a process that is killed: nothing handles it."""


@pytest.mark.parametrize("trials", [48, pytest.param(1_000, marks=pytest.mark.prove)])
async def test_changes_are_found(tmp_path: Path, trials: int) -> None:
    """Whatever entry is flipped, dropped, swapped, put in or cut off: it is found, and its place named."""
    path = tmp_path / "access.db"
    await written(path, 5, 700)
    original = path.read_bytes()
    chance = random.Random(6962)
    for trial in range(trials):
        path.write_bytes(original)
        index = chance.randrange(1, 700)
        place = place_of(2, index)
        with forced(path) as database:
            kind = ("flip", "drop", "swap", "insert", "cut", "replace")[trial % 6]
            match kind:
                case "flip":
                    (entry,) = database.execute(
                        "SELECT entry FROM leaf WHERE place = ?", (place,)
                    ).fetchone()
                    bent = bytearray(entry)
                    bent[chance.randrange(len(bent))] ^= 1 << chance.randrange(8)
                    database.execute(
                        "UPDATE leaf SET entry = ? WHERE place = ?", (bytes(bent), place)
                    )
                case "drop":
                    database.execute("DELETE FROM leaf WHERE place = ?", (place,))
                case "swap":
                    one, other = (
                        database.execute(
                            "SELECT entry FROM leaf WHERE place = ?", (at,)
                        ).fetchone()[0]
                        for at in (place - 1, place)
                    )
                    database.execute(
                        "UPDATE leaf SET entry = ? WHERE place = ?", (other, place - 1)
                    )
                    database.execute("UPDATE leaf SET entry = ? WHERE place = ?", (one, place))
                    index -= 1
                case "insert":
                    database.execute(
                        "INSERT INTO leaf (place, entry) VALUES (?, ?)",
                        (place_of(3, 0), b'{"step":"complete"}'),
                    )
                case "cut":
                    database.execute("DELETE FROM leaf WHERE place >= ?", (place,))
                case "replace":
                    database.execute("UPDATE leaf SET entry = x'7b7d' WHERE place = ?", (place,))
        found = looked_at(path)
        assert found.grade is Grade.INVALID, kind
        places = [each.index for each in found.findings if each.index is not None]
        if kind == "insert":
            assert any(each.log == "counterfoil/3" for each in found.findings)
        elif kind in ("drop", "cut"):
            assert index in places
        else:
            assert any(at <= index < at + tiles.WIDTH for at in places)
        assert CliRunner().invoke(main, ["log", "verify", "--log", str(path)]).exit_code == 40


async def test_changed_files_are_found(tmp_path: Path) -> None:
    """Whatever byte of a published file is flipped, or file removed: it is found."""
    path = tmp_path / "access.db"
    await written(path, 2, 300)
    chance = random.Random(9162)
    files = sorted(one for one in Files.at(path).tiles.rglob("*") if one.is_file())
    kept = [
        file  # the newest checkpoint's own, not those of the one before
        for file in files
        if not file.parent.name.endswith(".p")
        or (
            not file.parent.with_suffix("").exists()
            and int(file.name) == max(int(each.name) for each in file.parent.iterdir())
        )
    ]
    assert len(kept) > 10
    for file in kept:
        original = file.read_bytes()
        bent = bytearray(original)
        bent[chance.randrange(len(bent))] ^= 1 << chance.randrange(8)
        file.write_bytes(bytes(bent))
        assert looked_at(path).grade is Grade.INVALID, file
        assert copy_looked_at(path).grade is Grade.INVALID, file
        file.unlink()
        assert looked_at(path).grade is Grade.INVALID, file
        file.write_bytes(original)
    assert looked_at(path).findings == []


async def test_history_signed_again_contradicts_what_was_retained(tmp_path: Path) -> None:
    """Whoever holds the keys can rewrite all of it; a checkpoint that was kept elsewhere shows it."""
    path = tmp_path / "access.db"
    await written(path, 20)
    kept = checkpoint(path, 1)
    assert looked_at(path, retained=(kept,)).grade is Grade.WHOLE
    files = Files.at(path)
    shutil.rmtree(files.tiles)
    with forced(path) as database:
        database.execute("UPDATE leaf SET entry = x'7b7d' WHERE place = ?", (place_of(1, 3),))
        database.execute("DELETE FROM registry WHERE number > 0")
        database.execute("UPDATE log SET final = NULL WHERE epoch = 1")
    files.index.unlink()
    publisher = Publisher(files, lambda: KEYRING, epoch=1)
    assert publisher.round() == ""
    publisher.close()
    assert looked_at(path).grade is Grade.WHOLE  # by its own word
    found = looked_at(path, retained=(kept,))
    assert found.grade is Grade.CONTRADICTED
    assert "not those of the retained checkpoint" in str(found.findings[0])
    file = tmp_path / "kept"
    file.write_bytes(kept)
    ran = CliRunner().invoke(main, ["log", "verify", "--log", str(path), "--retained", str(file)])
    assert ran.exit_code == 30, ran.output


async def test_another_key_is_not_the_logs(tmp_path: Path) -> None:
    """Under a registry's key that is another, nothing passes; a forged signature neither."""
    path = tmp_path / "access.db"
    await written(path, 2)
    other = Keyring.generate().signer("audit-checkpoint", "x", "counterfoil/registry")
    key = str(VerifierKey(name="counterfoil/registry", public=other.public))
    assert looked_at(path, key=key).grade is Grade.INVALID
    with contextlib.closing(Leaves(Files.at(path))) as source:
        own = VerifierKey.parse(source.key())
    forged = Checkpoint(origin=own.name, size=3, root=b"\0" * 32).signed(own, other.sign)
    with pytest.raises(NotACheckpoint, match="not over this text"):
        read(forged, own, is_signature)


async def test_unresolved_accesses_are_gaps(path: Path) -> None:
    """A log in which an access was left open by a dead process is whole, and says so."""
    async with opened(path) as log:
        await log.append(event("intent", rows=3))
    await written(path, 1)
    found = looked_at(path)
    assert found.grade is Grade.GAPS
    assert found.unresolved == 1


async def test_a_record_is_proved_to_whoever_has_neither_log_nor_files(
    path: Path, tmp_path: Path
) -> None:
    """Proofs of all records of an access check under the log's key, and for no other record."""
    await written(path, 300)
    chosen = decode(leaves(path)[150][1]).access
    run = CliRunner().invoke
    out = tmp_path / "proofs"
    made = run(main, ["log", "prove", chosen, "--log", str(path), "-o", str(out)])
    assert made.exit_code == 0, made.output
    keys = run(main, ["log", "keys", "--log", str(path)]).output.split()
    proof, record = out / f"{chosen}-0.tlog-proof", out / f"{chosen}-0.json"
    checked = run(main, ["log", "check", str(proof), str(record), "--vkey", keys[1]])
    assert checked.output == "in counterfoil/1, among its first 301 entries\n"
    assert run(main, ["log", "check", str(proof), str(record), "--vkey", keys[0]]).exit_code == 1
    record.write_bytes(record.read_bytes().replace(b'"complete"', b'"completf"'))
    assert run(main, ["log", "check", str(proof), str(record), "--vkey", keys[1]]).exit_code == 1
    unknown = run(main, ["log", "prove", "0" * 32, "--log", str(path), "-o", str(out)])
    assert unknown.exit_code == 1


NAMES = st.from_regex(r"[a-z./0-9-]{1,30}", fullmatch=True)


@given(NAMES, st.integers(0, 2**62), st.binary(min_size=32, max_size=32), st.data())
def test_checkpoints_read_back(name: str, size: int, root: bytes, data: st.DataObject) -> None:
    """A signed checkpoint is read as what was signed; with any byte changed it is refused."""
    signer = KEYRING.signer("test", name)
    key = VerifierKey(name=name, public=signer.public)
    assert VerifierKey.parse(str(key)) == key
    made = Checkpoint(origin=name, size=size, root=root)
    note = made.signed(key, signer.sign)
    assert read(note, key, is_signature) == made
    at = data.draw(st.integers(0, len(note) - 1))
    bent = bytearray(note)
    bent[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(NotACheckpoint):
        read(bytes(bent), key, is_signature)


def test_published_note_vector() -> None:
    """The note and key that Go's x/mod publishes for its signed notes are read and verified."""
    key = VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    signature = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    data = base64.b64decode(signature)
    assert data[:4] == key.id
    assert is_signature(key.public, data[4:], text.encode())


async def test_a_quiet_log_says_that_it_is_alive(tmp_path: Path) -> None:
    """Where nothing happens, that is on record; it is no access, and comes after no other record."""
    path = tmp_path / "access.db"
    async with opened(path) as log:
        beating = asyncio.create_task(log.beat(0.05))
        await until(lambda: [decode(entry).step for _, entry in leaves(path)].count("alive") >= 2)
        beating.cancel()
        calm = asyncio.create_task(log.beat(3600))
        await log.append(event())
        calm.cancel()
    steps = [decode(entry).step for _, entry in leaves(path)]
    assert steps[0] == "opened"
    assert steps[-1] == "complete"
    with Reader(path) as reader:
        assert len(reader.query()) == 1
    assert looked_at(path).findings == []


async def test_an_index_that_says_otherwise_is_found(tmp_path: Path) -> None:
    """What queries are answered from is held against the leaves; without an index nothing is missing."""
    path = tmp_path / "access.db"
    await written(path, 30)
    files = Files.at(path)
    assert differing(files) is None
    chosen = decode(leaves(path)[7][1]).access
    with contextlib.closing(sqlite3.connect(files.index)) as index:
        index.execute("UPDATE access SET rows = rows + 1 WHERE access = ?", (chosen,))
        index.commit()
    assert differing(files) == chosen
    ran = CliRunner().invoke(main, ["log", "verify", "--log", str(path)])
    assert ran.exit_code == 40
    assert chosen in ran.output
    files.index.unlink()
    assert differing(files) == ""
    assert CliRunner().invoke(main, ["log", "verify", "--log", str(path)]).exit_code == 0
