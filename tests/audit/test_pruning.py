"""`counterfoil log prune`, `log hold`, `log erase`: what goes is on record, and what stays is proved as before."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit import Reader, projection, pruned
from proxy.audit.asked import Asked
from proxy.audit.export import Cursor
from proxy.audit.merkle import leaf_hash
from proxy.audit.projection import Projection, differing, standing
from proxy.audit.pruning import Pruner
from proxy.audit.sources import Leaves
from proxy.audit.store import Files
from proxy.audit.verdict import of_log
from proxy.cli import main
from proxy.cli.operated import keyring_of, operator
from proxy.evidence.layout import Attachment
from tests.audit.records import (
    event,
    events,
    home_with,
    leaves,
    locked_logs,
    opened,
    until,
    write,
)
from tests.harness.proxy import Home

OLD, NEW = 1.7e9, 1.75e9
"""November 2023, June 2025."""
BETWEEN = "2025-01-01"


BOTH = pytest.mark.parametrize("home", ["sqlite", "postgres"], indirect=True)
"""Where the log is in a file, and where it is in a database of which the file is a copy."""


@pytest.fixture
def home(request, tmp_path):
    where = getattr(request, "param", "sqlite")
    database = request.getfixturevalue("postgres").new() if where == "postgres" else None
    with home_with(database, tmp_path / "home") as made:
        yield made


@pytest.fixture
def keyring(home):
    return keyring_of(home.settings)


@pytest.fixture
async def path(home, keyring) -> Path:
    """Two logs that have ended: old entries, some with newer ones after them; a third with nothing old."""
    path = home.folder / "access.db"
    alice = keyring.opaque("user:alice")
    first = [event(at=OLD, subject=alice, report="sales/daily") for _ in range(600)]
    second = [event(at=OLD, subject="s2", report="hr/people") for _ in range(300)]
    second += [event(at=NEW, subject="s3", report="hr/people") for _ in range(300)]
    await asyncio.to_thread(write, path, first, second, keyring=keyring)
    await locked_logs(path, 0)
    async with opened(path, keyring=keyring):
        pass
    return path


def run(home: Home, *words: object, status: int = 0) -> str:
    said = CliRunner().invoke(main, ["log", *map(str, words), "-c", str(home.settings)])
    assert said.exit_code == status, said.output
    return said.output


def prune(home: Home, before: str = BETWEEN, *words: str, status: int = 0) -> str:
    return run(home, "prune", "--before", before, *words, status=status)


def held(path: Path) -> list[tuple[int, int]]:
    """(log, index) of each entry that is there."""
    return [(place >> 40, place & (1 << 40) - 1) for place, _ in leaves(path)]


def bundles(path: Path, epoch: int) -> list[str]:
    folder = Files.at(path).tiles / str(epoch) / "tile/entries"
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())


@BOTH
def test_old_entries_go_and_what_stays_is_proved_as_before(home, path):
    """Bytes are gone from the log and the files, hashes and roots are the same, and `verify` says what went."""
    before = dict(leaves(path))
    assert bundles(path, 1) == ["000", "001", "002.p/89"]
    said = prune(home)
    assert (
        "counterfoil/1  601 entries gone\n" in said and "counterfoil/2  256 entries gone\n" in said
    )
    left = held(path)
    assert [at for epoch, at in left if epoch == 1] == []
    assert [at for epoch, at in left if epoch == 2] == [*range(256, 601)]
    assert bundles(path, 1) == [] and bundles(path, 2) == ["001", "002.p/89"]
    after = dict(leaves(path))
    assert {place: after[place] for place in after if place in before} == {
        place: entry for place, entry in before.items() if place in after
    }
    with closing(Leaves(Files.at(path))) as source:
        assert (
            source.pruned(1, 300) == [leaf_hash(before[1 << 40 | at]) for at in range(512)][300:512]
        )
    said = run(home, "verify")
    assert "counterfoil/1, entries 0 to 600: pruned, on record in counterfoil/4, entry 1\n" in said
    assert "counterfoil/2, entries 0 to 255: pruned, on record in counterfoil/4, entry 2\n" in said
    found = json.loads(run(home, "verify", "--json"))
    assert found["grade"] == "whole" and [each["log"] for each in found["pruned"]] == [
        "counterfoil/1", "counterfoil/2",
    ]  # fmt: skip


def test_published_files_alone_are_verified_too(home, path):
    """Whoever has the files and no log finds the same."""
    key = next(word for word in run(home, "keys").split() if "/registry+" in word)
    prune(home)
    said = run(home, "verify", "--tiles", Files.at(path).tiles, "--vkey", key)
    assert "counterfoil/1, entries 0 to 600: pruned" in said and ": whole" in said


@BOTH
def test_what_goes_is_on_record_with_the_operator_first(home, path, keyring):
    """Before anything goes: which entries, how many, how old, and who did it."""
    prune(home)
    records = [one for one in events(path) if one.step == "prune"]
    assert [one.parameters for one in records] == [
        {"before": "2025-01-01T00:00:00.000000Z", "log": "counterfoil/1", "entries": "0-600"},
        {"before": "2025-01-01T00:00:00.000000Z", "log": "counterfoil/2", "entries": "0-255"},
    ]
    assert [one.count for one in records] == [601, 256]
    assert {one.subject for one in records} == {keyring.opaque(operator())}
    said = run(home, "tail", "-n", "3")
    assert operator() in said and "601 entries" in said


@BOTH
async def test_attachments_go_with_the_last_record_that_names_them(home, path, keyring):
    """What a pruned record alone named is gone, and overwritten; what a record that stays names is there."""
    contents = [text * 500 for text in (b"alone", b"both", b"newer")]
    old, both, new = (Attachment(sha256(each).hexdigest(), each) for each in contents)
    async with opened(path, keyring=keyring) as log:
        # The first file holds the record with which the log was opened, just now.
        batches = (255, OLD, ()), (200, OLD, (old, both)), (300, OLD, ()), (9, NEW, (both, new))
        for count, at, named in batches:
            for _ in range(count):
                names = tuple(f"sha256:{each.digest}" for each in named)
                await log.append(event(at=at, evidence=names), attachments=named)
    async with opened(path, keyring=keyring):
        pass
    await asyncio.to_thread(prune, home)
    with closing(sqlite3.connect(path)) as connection:
        left = {digest.hex() for (digest,) in connection.execute("SELECT digest FROM attachment")}
    assert left == {both.digest, new.digest}
    files = (Files.at(path).tiles / "attachments").rglob("*")
    assert {each.parent.name + each.name for each in files if each.is_file()} == left
    assert old.content[:20] not in path.read_bytes()
    assert "pruned" in await asyncio.to_thread(run, home, "verify")


@BOTH
async def test_a_running_server_goes_on(home, path, keyring):
    """What is pruned beside it is on record in a log of its own; what it writes meanwhile is whole."""
    async with opened(path, keyring=keyring) as log:
        await log.append(event())
        said = await asyncio.to_thread(prune, home)
        assert "counterfoil/1  601 entries gone" in said
        await log.append(event())
    assert ": whole" in await asyncio.to_thread(run, home, "verify")


def test_a_log_that_cannot_be_written_is_not_pruned(home, path):
    """No record, no pruning."""
    before = leaves(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "locked" in prune(home, status=1)
        other.execute("ROLLBACK")
    assert leaves(path) == before


@BOTH
def test_the_index_holds_nothing_of_what_is_gone(home, path):
    """Queries find what is left, and no more."""
    assert (
        len(run(home, "query", "--report", "sales/daily", "--json", "--limit", "1000").splitlines())
        == 600
    )
    prune(home)
    found = CliRunner().invoke(
        main, ["log", "query", "--report", "sales/daily", "--json", "--log", str(path)]
    )
    assert found.stdout == ""
    run(home, "verify")  # holds the index against the log


def test_an_index_that_is_followed_stays_the_one_that_is_read(home, path):
    """What its follower took in last goes meanwhile; it goes on in the file that readers find, nowhere else."""
    files = Files.at(path)
    files.index.unlink()
    with closing(Projection(files)) as follower:
        follower.step(300)  # as far as an entry that goes
        prune(home)
        run(home, "hold", "add", "h", "--reason", "r")
        follower.catch_up()
        assert follower.stands and standing(files) == (follower.head, follower.head)
        assert differing(files) is None
        projection.rebuild(files)
        run(home, "hold", "add", "i", "--reason", "r")
        follower.catch_up()
        assert standing(files) == (follower.head, follower.head) and differing(files) is None


async def test_an_index_that_was_deleted_is_made_again(path, keyring):
    """By the server that follows, while it runs."""
    files = Files.at(path)
    async with opened(path, keyring=keyring) as log:
        await until(lambda: log.keeps and log.lag == 0)
        for each in files.index.parent.glob(files.index.name + "*"):
            each.unlink()
        await log.append(event())
        await until(lambda: files.index.is_file() and standing(files)[1] == standing(files)[0])
    assert differing(files) is None


def test_a_reader_does_without_an_index_of_what_is_gone(home, path):
    """One that was open before finds what is left, though the index is not made again yet."""
    files = Files.at(path)
    asked = Asked(report="sales/daily")
    with Reader(path) as reader, closing(Pruner(files)) as pruner:
        assert len(reader.query(asked, limit=1000)) == 600
        pruner.prune([*pruner.plan(before=f"{BETWEEN}T00:00:00.000000Z", holds=())])
        assert reader.query(asked, limit=1000) == []
    assert standing(files)[1] == 0


def test_an_export_goes_on_where_it_stood_though_that_was_pruned(home, path, tmp_path):
    """By the hash that was kept; one that stands elsewhere is refused, as ever."""
    cursor, out = tmp_path / "cursor", tmp_path / "out"
    with Reader(path) as reader, closing(Cursor(cursor)) as held_by_us:
        stands, other = list(reader.since(0))[99:101]
        held_by_us.move(stands)
    prune(home)
    said = cursor.read_text()
    cursor.write_text(said.replace(leaf_hash(stands.entry).hex(), leaf_hash(other.entry).hex()))
    words = ("export", "--to", out, "--cursor", cursor, "--as", "json", "--log", path)
    assert "replaced or cut" in " ".join(run(home, *words, status=1).split())
    cursor.write_text(said)
    run(home, *words)
    assert out.read_bytes().splitlines() == [
        entry for place, entry in leaves(path) if place > 1 << 40 | 99
    ]


def test_exposure_says_that_it_cannot_tell_of_what_is_gone(home, path):
    """Nobody takes the silence of pruned records for the word that nobody was given anything."""
    words = ["log", "exposure", "-c", str(home.settings)]
    before = CliRunner().invoke(main, words, catch_exceptions=False)
    assert before.exit_code == 0 and "pruned" not in before.stderr
    prune(home)
    after = CliRunner().invoke(main, words, catch_exceptions=False)
    assert f"{601 + 256} entries were pruned from this log" in after.stderr


async def _ended(path: Path, keyring, records) -> None:
    await asyncio.to_thread(write, path, records, keyring=keyring)
    async with opened(path, keyring=keyring):
        pass


def test_evidence_of_an_access_of_which_the_beginning_was_pruned(home, keyring, tmp_path):
    """It is checked all the same, with the record that says so; and not without that."""
    known = {"access": "0a" * 16, "subject": "s1", "report": "sales/x", "decision": "permit"}
    known |= {"rows": 5, "fields": {"net": {"clear": 5}}}
    records = [event("intent", at=OLD, **known)]
    records += [event(at=OLD) for _ in range(300)]
    records += [
        event("progress", at=NEW, part=1, **known),
        event("outcome", at=NEW, part=2, **known),
    ]
    path = home.folder / "access.db"
    asyncio.run(_ended(path, keyring, records))
    assert "256 entries gone" in prune(home)
    run(home, "exposure", "--bundle", tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as packed:
        packed.extractall(tmp_path / "out")

    def check() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", "check.py"]
        return subprocess.run(
            command, cwd=tmp_path / "out", capture_output=True, text=True, check=False
        )

    said = check()
    assert said.returncode == 0, said.stderr
    assert "PROVED: 1 accesses" in said.stdout and "Of 1 of them" in said.stdout
    file = tmp_path / "out/pruned/0.json"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"counterfoil/1", b"counterfoil/2"))
    assert "is not in the log" in check().stderr
    file.unlink()
    assert "a record of it is missing" in check().stderr


def test_what_a_killed_publisher_left_goes_too(home, path):
    """A file that it was about to put in its place holds what the one in its place does."""
    tiles = Files.at(path).tiles
    left = tiles / "1/tile/entries/.000.x1y2z3"
    shutil.copy(tiles / "1/tile/entries/000", left)
    attachment = tiles / "attachments/0a" / ("." + "b" * 62 + ".x1y2z3")
    attachment.parent.mkdir(parents=True)
    attachment.write_bytes(b"evidence")
    prune(home)
    assert not left.exists() and not attachment.exists()


@BOTH
def test_what_is_removed_is_overwritten(home, path):
    """No byte of it is left in the file of the log."""
    alice = keyring_of(home.settings).opaque("user:alice").encode()
    assert alice in path.read_bytes()
    prune(home)
    files = [path, path.with_name("access.db-wal"), path.with_name("access-index.db")]
    for each in files:
        assert not each.exists() or alice not in each.read_bytes()


@BOTH
def test_pruning_again_goes_on_where_it_broke_off(home, path):
    """Files that were left beside what is gone go the next time, and nothing is on record of it."""
    kept = path.with_name("kept")
    shutil.copytree(Files.at(path).tiles, kept)
    prune(home)
    shutil.copy(kept / "1/tile/entries/000", Files.at(path).tiles / "1/tile/entries/000")
    count = len(leaves(path))
    assert "nothing is old enough" in prune(home)
    assert bundles(path, 1) == [] and len(leaves(path)) == count


@BOTH
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_log_that_is_pruned_while_it_is_looked_at_is_whole(home, path, after):
    """Whatever was looked at by then: entries, their files, or which logs there are."""
    seen = []

    def watch(count: int) -> None:
        seen.append(count)
        if len(seen) == after:
            prune(home)

    found = of_log(Files.at(path), None, (), begun=lambda _: watch)
    assert found.findings == [] and len(seen) >= after
    gone = [(each.log, each.first, each.last) for each in found.pruned]
    assert gone in ([], [("counterfoil/1", 0, 600), ("counterfoil/2", 0, 255)])


def test_a_year_of_fewer_digits_is_long_ago(home, path):
    """A slip of the keyboard (0024 for 2024) is older than all that is on record."""
    for before in ("0024-01-01", "0999-12-31T23:59:59Z", "0001-01-01"):
        assert "nothing is old enough" in prune(home, before)


@BOTH
def test_a_dry_run_changes_nothing(home, path):
    before = path.read_bytes()
    assert "counterfoil/1  601 entries would go\n" in prune(home, BETWEEN, "--dry-run")
    assert path.read_bytes() == before


def test_the_settings_say_how_old_entries_are(home, path):
    """36 months unless told otherwise."""
    assert "601 entries would go" in run(home, "prune", "--dry-run")
    with home.settings.open("a") as file:
        file.write("retention: {months: 1200}\n")
    assert "nothing is old enough" in run(home, "prune")
    assert "in the future" in prune(home, "2999-01-01", status=2)


@pytest.mark.parametrize(
    "tamper",
    [
        "INSERT INTO pruned SELECT min(place), zeroblob(0) FROM leaf",
        "DROP TRIGGER leaf_never_goes; DELETE FROM leaf WHERE place >= 2 << 40 | 256 AND place < 2 << 40 | 512",
    ],
)
def test_entries_that_go_without_a_record_are_invalid(home, path, tamper):
    """Whoever removes entries and keeps their hashes is found out all the same."""
    before = dict(leaves(path))
    prune(home)
    with sqlite3.connect(path) as other:
        if "DROP" in tamper:
            hashes = b"".join(leaf_hash(before[2 << 40 | at]) for at in range(256, 512))
            other.executescript(tamper)
            other.execute("INSERT INTO pruned VALUES (?, ?)", (2 << 40 | 256, hashes))
            said = (
                "counterfoil/2, entry 256: 256 entries are missing from here on, and no record says"
            )
        else:
            other.execute("DROP TRIGGER pruned_never_goes")
            other.execute("DELETE FROM pruned WHERE place = 1 << 40 | 256")
            said = "counterfoil/1, entry 256: 345 entries are missing from here on"
    other.close()
    assert said in run(home, "verify", status=40)


def test_hashes_that_are_others_are_invalid(home, path):
    """What was kept of the entries that went is held against root and tiles."""
    prune(home)
    with sqlite3.connect(path) as other:
        other.execute("DROP TRIGGER pruned_never_changes")
        other.execute("UPDATE pruned SET hashes = zeroblob(8192) WHERE place = 2 << 40")
    other.close()
    assert "counterfoil/2, entry 0: tile/0/000 holds other hashes" in run(home, "verify", status=40)


def test_an_entry_is_removed_only_where_its_hash_is_kept(path):
    """The schema itself refuses anything else."""
    with (
        closing(sqlite3.connect(path)) as other,
        pytest.raises(sqlite3.IntegrityError, match="kept"),
    ):
        other.execute("DELETE FROM leaf WHERE place = 1 << 40")


# ── holds ──


@BOTH
def test_what_is_held_stays_until_it_is_released(home, path, keyring):
    """A hold blocks pruning of what it covers; its beginning and end are on record, and never go themselves."""
    said = run(home, "hold", "add", "Roe v. Doe", "--reason", "litigation", "--subject", "alice")
    hold_id = said.split()[0]
    assert "Roe v. Doe" in run(home, "hold", "list") and operator() in run(home, "hold", "list")
    said = prune(home)
    assert "counterfoil/1" not in said and "counterfoil/2  256 entries gone" in said
    assert "1 legal hold in force" in said
    assert len([at for epoch, at in held(path) if epoch == 1]) == 601
    run(home, "hold", "release", "Roe v. Doe", "--reason", "settled")
    assert "Roe v. Doe" not in run(home, "hold", "list")
    assert "counterfoil/1  601 entries gone" in prune(home)
    first, last = [one for one in events(path) if one.step == "hold"]
    assert first.access == hold_id and first.subject == keyring.opaque(operator())
    assert first.parameters == {
        "name": "Roe v. Doe", "reason": "litigation", "subjects": keyring.opaque("user:alice"),
    }  # fmt: skip
    assert last.parameters == {"ends": hold_id, "name": "Roe v. Doe", "reason": "settled"}
    assert ": whole" in run(home, "verify")


@BOTH
def test_a_hold_goes_on_though_another_key_names(home, keyring):
    """Who is held is held under the ids that come later, too."""
    path = home.folder / "access.db"

    async def asked(keys, *principals: str) -> None:
        async with opened(path, keyring=keys) as log:
            for _ in range(300):
                for name in principals:
                    one = event(at=OLD, subject=keys.opaque(name))
                    await log.append(one, principal=name)

    asyncio.run(asked(keyring, "user:alice"))
    run(home, "hold", "add", "h", "--reason", "r", "--subject", "alice")
    said = CliRunner().invoke(
        main, ["keys", "rotate", "--names", "--yes", "-c", str(home.settings)]
    )
    assert said.exit_code == 0, said.output
    later = keyring_of(home.settings)
    assert later.opaque("user:alice") != keyring.opaque("user:alice")
    asyncio.run(asked(later, "user:alice"))
    asyncio.run(asked(later, "user:bob"))
    prune(home)
    there = [one.subject for one in events(path)]
    assert there.count(keyring.opaque("user:alice")) == 300
    assert there.count(later.opaque("user:alice")) == 300
    assert there.count(later.opaque("user:bob")) < 300


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--report", "sales/daily"], [1]),
        (["--report", "sales/*"], [1]),
        (["--report", "hr/*", "--report", "sales/daily"], [1, 2]),
        (["--report", "hr/people", "--subject", "alice"], []),
        (["--subject", "s2" * 16], []),
        (["--until", "2024-01-01"], [1, 2]),
        (["--since", "2024-01-01"], []),
        (["--since", "0024-01-01"], [1, 2]),
        (["--until", "0024-01-01"], []),
        ([], [1, 2]),
    ],
)
def test_a_hold_covers_what_fits_all_of_it(home, path, words, kept):
    run(home, "hold", "add", "h", "--reason", "r", *words)
    prune(home)
    assert sorted({epoch for epoch, at in held(path) if epoch < 3 and at < 256}) == kept


def test_what_cannot_be_held_is_told(home, path):
    run(home, "hold", "add", "h", "--reason", "r")
    assert "already" in run(home, "hold", "add", "h", "--reason", "r", status=1)
    assert "no hold" in run(home, "hold", "release", "g", "--reason", "r", status=1)
    assert "prefix/*" in run(home, "hold", "add", "g", "--reason", "r", "--report", "a b", status=2)
    assert json.loads(run(home, "hold", "list", "--json"))[0]["name"] == "h"


@pytest.mark.parametrize(
    "words",
    [
        ["--subject", ""], ["--subject", "user:"], ["--subject", "group:analysts"],
        ["--subject", "role:analyst"], ["--subject", "anyone"],
        ["--since", "2026-01-01", "--until", "2020-01-01"],
        ["--since", "2026-01-01", "--until", "2026-01-01"],
    ],
)  # fmt: skip
def test_a_hold_that_would_keep_nothing_is_not_made(home, path, words):
    """What no record can fit is refused: whoever is told that it holds must not lose it to the next prune."""
    run(home, "hold", "add", "h", "--reason", "r", *words, status=2)
    assert json.loads(run(home, "hold", "list", "--json")) == []


def test_a_hold_is_released_by_the_name_that_was_given(home, path):
    """By its id before its name, where one hold is named as another's id; and by a name as `add` took it."""
    first = run(home, "hold", "add", "a\tb" + "c" * 200, "--reason", "r").split()[0]
    second = run(home, "hold", "add", first, "--reason", "r").split()[0]
    assert second in run(home, "hold", "release", second, "--reason", "r")
    second = run(home, "hold", "add", first, "--reason", "r").split()[0]
    assert f"{first}  released" in run(home, "hold", "release", first, "--reason", "r")
    assert f"{second}  released" in run(home, "hold", "release", first, "--reason", "r")
    first = run(home, "hold", "add", "a\tb" + "c" * 200, "--reason", "r").split()[0]
    assert first in run(home, "hold", "release", "a\tb" + "c" * 200, "--reason", "r")


def test_of_retained_files_the_one_that_is_no_checkpoint_is_named(home, path, tmp_path):
    """Whoever gives many checkpoints is told which of them cannot be read."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    note = (Files.at(path).tiles / "1/checkpoint").read_bytes()
    whole.write_bytes(note)
    cut.write_bytes(note[:-10])
    said = run(home, "verify", "--retained", whole, "--retained", cut, status=40)
    assert f"{cut} is no checkpoint" in said and f"{whole} is" not in said


# ── names ──


@BOTH
def test_a_name_is_erased_on_record(home, path, keyring):
    """The directory forgets it, the log keeps the opaque id, and the record names that alone."""
    opaque = keyring.opaque("user:zoe")

    async def ask() -> None:
        async with opened(path, keyring=keyring) as log:
            await log.append(event(subject=opaque), principal="user:zoe")

    asyncio.run(ask())
    run(home, "erase", "zoe")
    names = path.with_name("access-names.db")
    assert b"user:zoe" not in names.read_bytes()
    found = [one for one in events(path) if one.step == "operated" and one.action == "log erase"]
    assert [one.parameters for one in found] == [{"subjects": opaque}]
    assert "does not know user:zoe" in run(home, "erase", "zoe", status=1)


# ── runs ──

runs = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=6).map(
    lambda pairs: [(first, first + count) for first, count in pairs]
)


def numbers(some: list[tuple[int, int]]) -> set[int]:
    return {number for first, end in some for number in range(first, end)}


@given(runs, runs)
def test_what_is_gone_is_said_or_not(gone, said):
    """Of any entries, those that are gone and not on record are told, and no others."""
    assert numbers(pruned.joined(gone)) == numbers(gone)
    assert numbers(pruned.read(pruned.written(gone))) == numbers(gone)
    found = pruned.Gone()
    for first, end in gone:
        found.add("a", first, end)
        found.add("b", first, end)
    found.said(event("prune", parameters={"log": "a", "entries": pruned.written(said)}), "here")
    unsaid = [(log, first, end) for log, first, end in found.unsaid()]
    assert numbers([(first, end) for log, first, end in unsaid if log == "a"]) == numbers(
        gone
    ) - numbers(said)
    assert numbers([(first, end) for log, first, end in unsaid if log == "b"]) == numbers(gone)
    told = numbers([(one.first, one.last + 1) for one in found.on_record()])
    assert told == numbers(gone) & numbers(said)


@given(st.text(max_size=30))
def test_no_text_is_taken_for_runs_that_it_is_not(text):
    for first, end in pruned.read(text):
        assert 0 <= first < end


# ── words that are none ──

_BYTES = "\udcff"
"""As Python has a byte of an argument that is no UTF-8."""


@pytest.mark.parametrize(
    "words",
    [
        ["erase", _BYTES],
        ["prove", _BYTES],
        ["hold", "add", "h", "--reason", "r", "--subject", _BYTES],
        ["hold", "add", "h", "--reason", "r", "--report", _BYTES],
        ["hold", "add", _BYTES, "--reason", "r"],
        ["hold", "release", _BYTES, "--reason", "r"],
        ["tail", "-n", "9" * 30],
        ["query", "--limit", "9" * 30],
    ],
)
def test_a_word_that_can_be_on_no_record_is_told(home, path, words):
    said = CliRunner().invoke(main, ["log", *words, "-c", str(home.settings)])
    assert said.exit_code in (1, 2) and isinstance(said.exception, SystemExit), said.exception
    assert said.output.isprintable() or _BYTES not in said.output
