"""The verbs of `counterfoil log`, where the log is in a database: they ask that before they say anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner

from proxy import config
from proxy.cli import main
from proxy.errors import CounterfoilError, Faulty
from tests.harness import sales
from tests.harness.postgres import psql
from tests.harness.proxy import Home, running
from tests.harness.store import Page, Store


@pytest.fixture
def home(tmp_path, background, postgres):
    store = Store(background)
    store.pages["/sales/daily.csv"] = Page(sales.as_csv(sales.rows(50)))
    yield Home(
        tmp_path / "home",
        reports=sales.REPORTS,
        rules=sales.RULES,
        store=store.url,
        database=postgres.new(),
    )
    store.close()


def asked(home: Home, *words: str) -> tuple[int, str]:
    ran = CliRunner().invoke(main, ["log", *words, "-c", str(home.settings)])
    return ran.exit_code, ran.output


def test_every_verb_tells_what_the_database_has_by_then(home, background):
    """Asked right after an answer, and again with another copy, once no server runs."""
    with running(home, background) as proxy:
        token = home.issuer.token("alice", groups=("analysts",))
        event = proxy.get("/sales/daily.csv", token=token).event
        assert event in asked(home, "query", "--subject", "alice")[1]
        assert event in asked(home, "tail")[1]
    home.settings.write_text(home.settings.read_text().replace("access.db", "elsewhere.db"))
    assert (
        event in asked(home, "query", "--subject", "alice")[1]
    )  # a name that the other machine knew
    assert event in asked(home, "tail")[1]
    status, said = asked(home, "verify", "--json")
    assert (status, json.loads(said)["findings"]) == (0, [])
    assert asked(home, "prove", event, "-o", str(home.folder / "proof"))[0] == 0
    steps = [each.step for each in home.events()]
    assert steps.count("complete") == 1 and steps.count("operated") == 6


@pytest.mark.parametrize("words", [("export", "--as", "json", "--follow"), ("tail", "--follow")])
def test_what_follows_has_what_other_machines_write(home, background, words):
    """On a machine where no server runs that copies it, too."""
    elsewhere = home.settings.with_name("elsewhere.yaml")
    elsewhere.write_text(home.settings.read_text().replace("access.db", "elsewhere.db"))
    with running(home, background) as proxy:
        command = [sys.executable, "-m", "proxy", "log", *words, "-c", str(elsewhere)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as ran:
            late = threading.Timer(60, ran.kill)
            late.start()
            try:
                assert ran.stdout is not None
                ran.stdout.readline()  # it reads
                token = home.issuer.token("alice", groups=("analysts",))
                event = proxy.get("/sales/daily.csv", token=token).event
                assert any(event in line for line in ran.stdout)
            finally:
                late.cancel()
                ran.terminate()


def test_verify_holds_the_database_against_the_copy(home, background):
    with running(home, background):
        pass
    assert asked(home, "verify")[0] == 0
    assert home.database is not None
    psql(
        home.database,
        "ALTER TABLE counterfoil.leaf DISABLE TRIGGER USER",
        "UPDATE counterfoil.leaf SET entry = '{}' WHERE number = 1",
    )
    status, said = asked(home, "verify")
    assert status == 40 and "another event than its copy, the 1. of all logs" in said


def test_a_name_is_erased_on_all_machines(home, background):
    with running(home, background) as proxy:
        token = home.issuer.token("alice", groups=("analysts",))
        assert proxy.get("/sales/daily.csv", token=token).status == 200
    assert home.database is not None
    names = "SELECT count(*) FROM counterfoil.name WHERE principal LIKE '%alice'"
    assert psql(home.database, names) == "1"
    status, said = asked(home, "erase", "alice")
    assert status == 0 and "without a name now" in said
    assert psql(home.database, names) == "0"
    assert "alice" not in asked(home, "tail")[1]


def test_no_old_copy_is_passed_off_as_new(home, background, postgres):
    with running(home, background):
        pass
    postgres.stop("fast")
    try:
        status, said = asked(home, "query")
        assert status == 1 and "cannot be reached" in said and "--log" in said
        copy = CliRunner().invoke(main, ["log", "tail", "--log", str(home.folder / "access.db")])
        assert copy.exit_code == 0 and "opened" in copy.output
    finally:
        postgres.start()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{url: 'postgresql://r:sesame@127.0.0.1/a'}", "it holds a password"),
        ("{url: 'mysql://r@127.0.0.1/a'}", "it is no address of a database"),
        ("{url: 'postgresql://r@127.0.0.1/a', password: sesame}", "`password` names no source"),
        ("{}", "missing"),
    ],
)
def test_faults_of_the_settings_are_told_with_their_place(home, given, said):
    text = home.settings.read_text()
    at = text.index("database: ")
    home.settings.write_text(text[:at] + f"database: {given}\n")
    with pytest.raises(Faulty) as refused:
        config.load(home.settings, os.environ)
    assert said in str(refused.value) and "yaml:5" in str(refused.value)
    assert "sesame" not in str(refused.value)


def test_a_password_that_is_not_there_is_told(home):
    (home.folder / "password").write_text("")
    with pytest.raises(CounterfoilError, match="the password of `database` is empty"):
        _ = config.load(home.settings, os.environ).database
    (home.folder / "password").unlink()
    with pytest.raises(CounterfoilError, match="the password of `database` cannot be read"):
        _ = config.load(home.settings, os.environ).database
