"""What is pruned of a log in a database: other machines follow, and nothing goes unseen or half."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.access import timestamp
from proxy.audit import Reader, holds
from proxy.audit.asked import Asked
from proxy.audit.checkpoint import VerifierKey
from proxy.audit.findings import Verified
from proxy.audit.merkle import leaf_hash
from proxy.audit.postgres import schema
from proxy.audit.postgres.database import Database
from proxy.audit.postgres.mirror import Contradiction, Mirror
from proxy.audit.projection import standing
from proxy.audit.pruning import Pruner, alone
from proxy.audit.publish import Publisher
from proxy.audit.sources import Leaves
from proxy.audit.store import Files
from proxy.audit.verify import Verifier
from proxy.errors import LogUnavailable
from tests.audit.records import (
    DATABASES,
    KEYRING,
    event,
    leaves,
    locked_logs,
    opened,
    until,
    write,
)
from tests.harness.background import Background
from tests.harness.postgres import PASSWORD, Wire, psql

OLD = 1.7e9
NOW = timestamp(1.75e9)


@pytest.fixture
async def path(file, postgres):
    """600 old entries, of a log that is published to its end."""
    DATABASES[file] = postgres.new()
    await asyncio.to_thread(write, file, [event(at=OLD, subject="s1") for _ in range(600)])
    await locked_logs(file, 0)
    async with opened(file):
        pass
    yield file
    del DATABASES[file]


@pytest.fixture
def elsewhere(path, tmp_path):
    """Another machine."""
    other = tmp_path / "elsewhere" / "access.db"
    DATABASES[other] = DATABASES[path]
    yield other
    del DATABASES[other]


def put_on_record(bundles):
    return [
        event("prune", parameters={"log": one.log, "entries": f"{one.first}-{one.first + one.count - 1}"})
        for one in bundles
    ]  # fmt: skip


def prune(path: Path, database=None) -> int:
    """Remove all that is old; how many entries. What goes is on record, as whoever asks for it sees to."""
    files = Files.at(path)
    with (
        alone(files, database or DATABASES[path]) as retention,
        contextlib.closing(Pruner(files, retention)) as pruner,
    ):
        plan = [*pruner.plan(before=NOW, holds=holds.in_force(files).values())]

        async def record():
            async with opened(path) as log:
                for one in put_on_record(plan):
                    await log.append(one)

        asyncio.run(record())
        pruner.prune(plan)
        return sum(each.count for each in plan)


def verified(path: Path) -> Verified:
    files = Files.at(path)
    with contextlib.closing(Leaves(files)) as source:
        key = VerifierKey.parse(source.key())
        return Verifier(source, files.tiles, key=key, now=datetime.now(UTC)).run()


def differing(path: Path) -> str:
    with contextlib.closing(Mirror(Files.at(path), DATABASES[path])) as mirror:
        mirror.catch_up()
        return mirror.differing(lambda _: None)


def whole(path: Path) -> None:
    found = verified(path)
    said = {(one.log, one.first, one.last) for one in found.pruned}
    assert found.findings == [] and sum(last - first + 1 for _, first, last in said) == 601
    assert differing(path) == ""


def followed(path: Path) -> bool:
    """Whether the index has all that is left."""
    head, number = standing(Files.at(path))
    return head == number


def bundles(path: Path) -> list[str]:
    folder = Files.at(path).tiles / "1/tile/entries"
    return sorted(each.name for each in folder.rglob("*") if each.is_file())


async def test_a_machine_that_runs_meanwhile_follows(path, elsewhere):
    """Its copy, its index and its published files lose the same, by themselves; both are whole."""
    async with opened(elsewhere) as log:
        await until(lambda: bundles(elsewhere) == ["000", "001", "89"] and not log.lag)
        assert await asyncio.to_thread(prune, path) == 601
        await until(lambda: bundles(elsewhere) == [] and followed(elsewhere))
        with Reader(elsewhere) as reader:
            assert (
                reader.query(Asked(subject="s1")) == [] and reader.pruned == 601 and reader.lag == 0
            )
        await log.append(event())
    await asyncio.to_thread(whole, path)
    await asyncio.to_thread(whole, elsewhere)


async def test_a_machine_that_comes_late_publishes_what_is_left(path, elsewhere):
    """The hashes of what went before its time are published like all others, and prove the rest."""
    await asyncio.to_thread(prune, path)
    async with opened(elsewhere):
        pass
    assert bundles(elsewhere) == []
    for name in ("tile/0/000", "tile/0/001", "tile/0/002.p/89"):
        one, other = (Files.at(each).tiles / "1" / name for each in (path, elsewhere))
        assert one.read_bytes() == other.read_bytes()
    await asyncio.to_thread(whole, elsewhere)
    assert leaves(path) == leaves(elsewhere)


async def test_a_machine_that_had_published_a_part_goes_on(path, elsewhere):
    """Its last file of entries was not whole when it stopped, and is gone when it comes back."""
    files = Files.at(elsewhere)
    files.leaves.parent.mkdir()
    assert await asyncio.to_thread(differing, elsewhere) == ""
    with contextlib.closing(sqlite3.connect(files.leaves)) as copy, copy:
        # As it stood when 300 entries had been committed.
        copy.execute("DROP TRIGGER leaf_never_goes")
        copy.execute("DELETE FROM leaf WHERE number > 300")
        copy.execute("UPDATE log SET sealed = NULL WHERE epoch > 0")
        copy.execute("DELETE FROM log WHERE epoch > 1")
        copy.execute("DROP TRIGGER registry_never_goes")
        copy.execute("DELETE FROM registry WHERE number > 0")
    publisher = Publisher(files, lambda: KEYRING, epoch=1)
    assert publisher.round() == "" and bundles(elsewhere) == ["000", "44"]
    publisher.close()
    await asyncio.to_thread(prune, path)
    async with opened(elsewhere):
        pass
    assert bundles(elsewhere) == []
    await asyncio.to_thread(whole, elsewhere)


async def test_nobody_holds_or_prunes_on_another_machine_meanwhile(path, elsewhere):
    async with opened(elsewhere):
        pass

    def both():
        said = "somebody else prunes or holds in"
        with alone(Files.at(path), DATABASES[path]), pytest.raises(LogUnavailable, match=said):
            prune(elsewhere)
        with alone(Files.at(elsewhere), DATABASES[elsewhere]):
            pass

    await asyncio.to_thread(both)


async def test_a_hold_of_another_machine_keeps_what_it_covers(path, elsewhere):
    async with opened(elsewhere) as log:
        await log.append(event("hold", parameters={"name": "h", "reason": "r", "subjects": "s1"}))
    assert await asyncio.to_thread(prune, path) == 0


async def test_a_role_needs_to_be_granted_that_it_may_prune(path, postgres):
    """Without, it is told so and nothing goes; with it, no more is needed."""
    name = DATABASES[path].name
    psql(
        DATABASES[path],
        f"CREATE ROLE poor_{name} LOGIN PASSWORD '{PASSWORD}'",
        f"GRANT USAGE ON SCHEMA counterfoil TO poor_{name}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA counterfoil TO poor_{name}",
    )
    poor = Database(
        role=f"poor_{name}", host="127.0.0.1", port=postgres.port, name=name, password=PASSWORD
    )
    with pytest.raises(LogUnavailable, match="it lacks a privilege"):
        await asyncio.to_thread(prune, path, poor)
    psql(
        DATABASES[path],
        f"GRANT DELETE ON counterfoil.leaf, counterfoil.attachment TO poor_{name}",
        f"GRANT INSERT ON counterfoil.gone TO poor_{name}",
    )
    assert await asyncio.to_thread(prune, path, poor) == 601
    await asyncio.to_thread(whole, path)


@pytest.mark.parametrize("how", ["before", "after"])
async def test_a_connection_that_is_cut_prunes_all_or_nothing_and_the_next_goes_on(
    path, postgres, how
):
    """Whatever became of it: nothing is half gone, and pruning again ends it."""
    background = Background()
    wire = Wire(background, postgres.port)
    over = postgres.database(DATABASES[path].name, port=wire.port)
    wire.canary, wire.cut = leaf_hash(leaves(path)[0][1]), how
    with pytest.raises(LogUnavailable):
        await asyncio.to_thread(prune, path, over)
    wire.close()
    background.close()
    left = psql(DATABASES[path], "SELECT count(*) FROM counterfoil.leaf WHERE place >> 40 = 1")
    assert left == ("601" if how == "before" else "0")
    again = await asyncio.to_thread(prune, path)
    assert again == int(left)
    await asyncio.to_thread(whole, path)


async def test_entries_that_are_others_in_the_database_are_not_pruned(path):
    """They are evidence: the copy has what was there."""
    psql(
        DATABASES[path],
        "ALTER TABLE counterfoil.leaf DISABLE TRIGGER USER",
        "UPDATE counterfoil.leaf SET entry = '{}' WHERE number = 400",
        "ALTER TABLE counterfoil.leaf ENABLE ALWAYS TRIGGER never",
        "ALTER TABLE counterfoil.leaf ENABLE ALWAYS TRIGGER kept",
    )
    with pytest.raises(LogUnavailable, match="other entries than its copy"):
        await asyncio.to_thread(prune, path)
    left = "SELECT count(*) FROM counterfoil.leaf WHERE place >> 40 = 1"
    assert psql(DATABASES[path], left) == "601"


async def test_what_the_database_says_that_was_pruned_is_held_against_the_copy(path, elsewhere):
    """Whoever replaces the hashes of entries that they removed is found out by any copy."""
    async with opened(elsewhere):
        pass
    files = Files.at(elsewhere)
    before = shutil.copytree(files.leaves.parent, files.leaves.parent.with_name("before"))
    await asyncio.to_thread(prune, path)
    psql(
        DATABASES[path],
        "ALTER TABLE counterfoil.gone DISABLE TRIGGER USER",
        "UPDATE counterfoil.gone SET hashes = sha256('') || substr(hashes, 33) WHERE number = 1",
    )
    assert "other hashes of what was pruned" in await asyncio.to_thread(differing, path)
    DATABASES[before / "access.db"] = DATABASES[path]
    with pytest.raises(Contradiction, match="pruned other entries than its copy"):
        await asyncio.to_thread(differing, before / "access.db")
    del DATABASES[before / "access.db"]


async def test_a_schema_of_the_first_version_is_brought_to_this_one(file, postgres):
    """With what it holds; and then it can be pruned."""
    DATABASES[file] = postgres.new()
    await asyncio.to_thread(write, file, [event(at=OLD) for _ in range(300)])
    await locked_logs(file, 0)
    psql(
        DATABASES[file],
        "DROP TABLE counterfoil.gone",
        "ALTER TABLE counterfoil.log DROP COLUMN by_hand",
        "DROP FUNCTION counterfoil.prune",
        "DROP FUNCTION counterfoil.kept CASCADE",
        "DROP TRIGGER never ON counterfoil.leaf",
        "CREATE TRIGGER never BEFORE UPDATE OR DELETE OR TRUNCATE ON counterfoil.leaf"
        " FOR EACH STATEMENT EXECUTE FUNCTION counterfoil.never()",
        "UPDATE counterfoil.version SET version = 1",
    )
    async with opened(file):
        pass
    assert psql(DATABASES[file], "SELECT version FROM counterfoil.version") == str(schema.VERSION)
    assert await asyncio.to_thread(prune, file) == 301
    assert verified(file).findings == []
    del DATABASES[file]
