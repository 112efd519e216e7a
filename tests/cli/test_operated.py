"""Verbs that read the log's files, or change keys, are on record as the operator's, before they do anything."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.cli.operated import keyring_of, operator, recording
from tests.audit.records import (
    event,
    events,
    home_with,
    leaves,
    locked_logs,
    logs,
    opened,
    write,
)
from tests.harness import sales
from tests.harness.postgres import psql
from tests.harness.proxy import Home


@pytest.fixture
def home(tmp_path) -> Home:
    home = Home(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, store="http://x.test")
    write(home.folder / "access.db", [event()], keyring=keyring_of(home.settings))
    return home


def run(*words: str) -> str:
    said = CliRunner().invoke(main, words, catch_exceptions=False)
    assert said.exit_code == 0, said.output
    return said.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("log", "query"),
        ("log", "exposure"),
        ("log", "stats"),
        ("log", "tail"),
        ("log", "export", "--to", "-"),
        ("policy", "replay", "POLICIES"),
        ("keys", "rotate"),
        ("log", "verify"),
        ("log", "prove", "EVENT", "-o", "OUT"),
        ("log", "hold", "list"),
        ("policy", "explain", "--event", "EVENT"),
    ],
)
def test_what_an_operator_does_with_the_files_is_on_record(home, words):
    """Who, and which verb; and nothing of what was asked for."""
    keyring = keyring_of(home.settings)
    path = home.folder / "access.db"
    asyncio.run(published(path, keyring))
    about = {"POLICIES": home.policies, "EVENT": events(path)[1].access, "OUT": home.folder / "out"}
    ran = CliRunner().invoke(main, [*(str(about.get(w, w)) for w in words), "-c", str(home.settings)])  # fmt: skip
    assert ran.exit_code in (0, 2), ran.output
    (found,) = [one for one in events(path) if one.step == "operated"]
    named = words[:3] if words[1] in ("hold", "explain") else words[:2]
    assert found.action == " ".join(named) and found.subject == keyring.opaque(operator())
    assert not found.parameters
    assert operator() in CliRunner().invoke(main, ["log", "tail", "-c", str(home.settings)]).output


def test_a_log_that_is_not_whole_is_left_as_it_was_found(home):
    """Verification writes nothing to what may be evidence; that it was used is told, and not on record."""
    path = home.folder / "access.db"
    asyncio.run(published(path, keyring_of(home.settings)))
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TRIGGER leaf_never_changes")
        other.execute("UPDATE leaf SET entry = CAST('{}' AS BLOB) WHERE number = 2")
    before = leaves(path)
    said = CliRunner().invoke(main, ["log", "verify", "-c", str(home.settings)])
    assert said.exit_code == 40 and "left as it was found" in said.stderr
    assert leaves(path) == before


async def published(path, keyring):
    async with opened(path, keyring=keyring):
        pass


@pytest.fixture(params=["sqlite", "postgres"])
def used(request, tmp_path):
    """A home whose log is in a file, and one whose log is in a database."""
    where = request.getfixturevalue("postgres").new() if request.param == "postgres" else None
    with home_with(where, tmp_path / "used") as home:
        asyncio.run(published(home.folder / "access.db", keyring_of(home.settings)))
        yield home


def written_in(home):
    """The logs in which an operator's use is on record, one by one."""
    epochs = [place >> 40 for place, _ in leaves(home.folder / "access.db")]
    return [at for at, one in zip(epochs, home.events(), strict=True) if one.step == "operated"]


def test_what_is_done_in_a_day_is_in_one_log(used):
    """However often the log is asked; it is whole, and the next server seals it."""
    path = used.folder / "access.db"
    for _ in range(3):
        run("log", "query", "-c", str(used.settings))
    assert written_in(used) == [2, 2, 2] and logs(path) == [(1, True), (2, False)]
    assert run("log", "verify", "-c", str(used.settings)) == ""
    asyncio.run(published(path, keyring_of(used.settings)))
    assert logs(path) == [(1, True), (2, True), (3, True)]
    run("log", "query", "-c", str(used.settings))
    assert written_in(used) == [2, 2, 2, 2, 4]
    run("log", "verify", "-c", str(used.settings))


def test_whoever_finds_it_written_to_begins_another(used):
    """Two at once write to two; those that come later go on with one of these."""
    path, keyring = used.folder / "access.db", keyring_of(used.settings)
    with recording(path, keyring, used.database) as one:
        one.put("operated", action="one", parameters={})
        with recording(path, keyring, used.database) as two:
            two.put("operated", action="two", parameters={})
            one.put("operated", action="one", parameters={})
    assert written_in(used) == [2, 3, 2]
    asyncio.run(locked_logs(path, 0))
    run("log", "query", "-c", str(used.settings))
    assert written_in(used) == [2, 3, 2, 2]
    run("log", "verify", "-c", str(used.settings))


def test_another_day_or_another_key_begins_another(used):
    """So that what is old comes to an end, and can be pruned; and no key outlives its time."""
    path, keyring = used.folder / "access.db", keyring_of(used.settings)
    run("log", "query", "-c", str(used.settings))
    yesterday = "UPDATE {}log SET opened = '2026-01-01T00:00:00.000000Z' WHERE epoch = 2"
    if used.database is not None:
        psql(used.database, yesterday.format("counterfoil."))
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(yesterday.format(""))
    run("log", "query", "-c", str(used.settings))
    assert written_in(used) == [2, 3] and logs(path)[1] == (2, True)
    run("keys", "rotate", "--names", "--yes", "-c", str(used.settings))
    assert keyring_of(used.settings).ids != keyring.ids
    run("log", "query", "-c", str(used.settings))
    assert written_in(used) == [2, 3, 3, 4]
    run("log", "verify", "-c", str(used.settings))


def test_a_damaged_table_of_logs_is_told_and_not_written_to(used):
    """A key in it that is none: there is no record, and the verb does what it does."""
    path = used.folder / "access.db"
    run("log", "query", "-c", str(used.settings))
    spoil = "UPDATE {}log SET key = 'none' WHERE by_hand"
    if used.database is not None:
        psql(used.database, spoil.format("counterfoil."))
    else:
        with closing(sqlite3.connect(path)) as other, other:
            other.execute(spoil.format(""))
    assert "not on record: the table of logs is damaged" in run(
        "log", "query", "-c", str(used.settings)
    )


def test_of_a_log_that_is_no_settings_own_nothing_is_recorded(home, tmp_path):
    """A copy, or another's log, is looked at and not written to."""
    other = write(tmp_path / "other.db", [event()])
    before = other.leaves.read_bytes()
    run("log", "query", "--log", str(other.leaves), "-c", str(home.settings))
    run("log", "query", "--log", str(other.leaves), "-c", str(tmp_path / "none.yaml"))
    assert other.leaves.read_bytes() == before
    assert not [one for one in events(home.folder / "access.db") if one.step == "operated"]


def test_what_cannot_be_on_record_is_told(home):
    """Without the key there is no record; the verb says so, and does what it does."""
    (home.folder / "kek").unlink()
    assert "counterfoil: not on record: " in run("log", "query", "-c", str(home.settings))
