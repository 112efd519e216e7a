"""`counterfoil log query` and `log stats`, over the log of a real proxy."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from proxy.audit.names import Names
from proxy.audit.store import Files
from proxy.cli import main
from tests.harness import sales
from tests.harness.proxy import stage
from tests.harness.store import Page

CSV = "/sales/daily.csv"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A proxy that was asked by several, before and after another key names."""
    with stage(tmp_path_factory.mktemp("log"), reports=sales.REPORTS, rules=sales.RULES) as (
        store,
        proxy,
    ):
        store.pages[CSV] = Page(sales.as_csv(sales.rows(30)))
        tokens = {
            "alice": proxy.issuer.token("alice", groups=("analysts",)),
            "olga": proxy.issuer.token("olga", groups=("owners",), stores=["1"]),
            "nobody": proxy.issuer.token("nobody"),
        }
        events = {who: proxy.get(CSV, token=token).event for who, token in tokens.items()}
        queries = {"north": "region=North", "least": "least=1234.5"}
        for name, query in queries.items():
            events[name] = proxy.get(f"{CSV}?{query}", token=tokens["alice"]).event
        events["stranger"] = proxy.get(CSV, token=None).event
        audited = {"Counterfoil-Purpose": "audit"}
        events["audited"] = proxy.get(
            "/sales/audited.csv", token=tokens["alice"], headers=audited
        ).event
        yield proxy.home, events


def run(world, *words):
    ran = CliRunner().invoke(
        main, ["log", *words, "-c", str(world[0].settings)], catch_exceptions=False
    )
    assert ran.exit_code == 0, ran.output
    return ran


def found(world, *words):
    names = {event: name for name, event in world[1].items()}
    lines = run(world, "query", *words, "--json").stdout.splitlines()
    accesses = [json.loads(line) for line in lines]
    return {names[one["access"]] for one in accesses if one["access"] in names}


def test_accesses_are_found_by_what_was_given_to_whom_and_why(world):
    """Each condition by itself, and all of several together."""
    assert found(world, "--group", "analysts") == {"alice", "north", "least", "audited"}
    assert found(world, "--group", "group:owners") == {"olga"}
    assert found(world, "--field", "net_sales") == {"alice", "olga", "north"}
    assert found(world, "--field", "net_sales", "--treatment", "clear") == {"olga"}
    assert found(world, "--field", "net_sales", "--treatment", "round") == {"alice", "north"}
    assert found(world, "--field", "net_sales", "--treatment", "round(100)") == {"alice", "north"}
    assert found(world, "--treatment", "round(10)") == set()
    assert found(world, "--purpose", "audit") == {"audited"}
    assert found(world, "--rows-over", "29") == {"alice", "north", "audited"}
    assert found(world, "--rows-over", "30") == set()
    assert found(world, "--parameter", "region=North") == {"north"}
    assert found(world, "--parameter", "region=South") == set()
    assert found(
        world, "--group", "analysts", "--field", "net_sales", "--parameter", "region=North"
    ) == {"north"}
    assert found(world, "--policy", "") >= {"alice", "olga", "nobody"}
    (version,) = {
        json.loads(line)["policy"]
        for line in run(world, "query", "--json", "--outcome", "permit").stdout.splitlines()
    }
    assert found(world, "--policy", version[:8], "--outcome", "permit") == {
        "alice",
        "olga",
        "north",
        "audited",
    }
    assert found(world, "--policy", "0123456789") == set()


def test_a_word_that_is_nowhere_on_record_is_told(world):
    """A typo is not taken for an answer; two words that are on record and never together are one."""
    ran = run(
        world, "query", "--field", "net_sale", "--group", "analyst", "--tool", "app", "--json"
    )
    assert ran.stdout == ""
    assert "nothing on record fits --field net_sale\n" in ran.stderr
    assert "nothing on record fits --group analyst\n" in ran.stderr
    assert "--tool" not in ran.stderr
    ran = run(world, "query", "--field", "net_sales", "--outcome", "deny", "--json")
    assert (ran.stdout, ran.stderr) == ("", "")
    ran = run(world, "query", "--field", "net_sales", "--outcome", "deny")
    assert (ran.stdout, ran.stderr) == ("", "counterfoil: no access on record fits\n")


def test_whoever_asks_for_a_tool_as_a_subject_is_told_how_to_ask(world):
    """It is one only where it acts alone."""
    words = ["log", "query", "-c", str(world[0].settings), "--subject", "tool:app"]
    ran = CliRunner().invoke(main, words)
    assert ran.exit_code == 1 and "what users did through it: --tool" in ran.stderr


def test_who_follows_ends_it_in_peace(world):
    """Ctrl-C is how it is meant to end."""
    words = ["-m", "proxy", "log", "tail", "--follow", "-n", "1", "-c", str(world[0].settings)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    ) as ran:  # fmt: skip
        assert ran.stdout is not None and ran.stderr is not None
        assert ran.stdout.readline()  # it has begun
        ran.send_signal(signal.SIGINT)
        assert (ran.wait(20), ran.stderr.read()) == (0, "")


def test_an_operators_own_reading_says_which_it_was(world):
    """What is on record of verbs is told as what they are."""
    run(world, "stats")
    for line in (
        run(world, "query", "--outcome", "operated").stdout,
        run(world, "tail", "-n", "5").stdout,
    ):
        assert "log stats" in line


def test_a_confidential_value_is_found_with_the_keyring_alone(world):
    """What the log has a digest of alone is found by its value, under the key of then."""
    assert found(world, "--parameter", "least=1234.5") == {"least"}
    assert found(world, "--parameter", "least=1234.6") == set()
    (log,) = world[0].settings.parent.rglob("access.db")
    words = ["log", "query", "--log", str(log), "-c", "none.yaml", "--json"]
    alone = CliRunner().invoke(main, [*words, "--parameter", "least=1234.5"])
    assert (alone.exit_code, alone.stdout) == (0, "")
    assert "are not looked for, without the keyring" in alone.stderr
    rotated = CliRunner().invoke(
        main, ["keys", "rotate", "--names", "--yes", "-c", str(world[0].settings)]
    )
    assert rotated.exit_code == 0, rotated.output
    assert found(world, "--parameter", "least=1234.5") == {"least"}


def test_whoever_s_name_was_erased_is_found_with_the_keyring_alone(world):
    """The opaque id follows from the name and the keyring, under whichever key it was made."""
    (log,) = world[0].settings.parent.rglob("access.db")
    with contextlib.closing(Names(Files.at(log).names)) as names:
        assert names.erase("user:olga")
    assert found(world, "--subject", "olga") == {"olga"}
    words = ["log", "query", "--log", str(log), "-c", "none.yaml", "--subject", "olga"]
    ran = CliRunner().invoke(main, words)
    assert ran.exit_code == 1
    assert "does not know user:olga" in ran.stderr


def test_each_access_is_explained_by_the_lines_of_then(world):
    """A permit by its lines and their text; a refusal by what it lacked, or by what came before any line."""
    home, events = world
    policy = home.policies / "policy.csv"
    before = policy.read_text()
    policy.write_text("p, role:nobody, sales/daily, read, true, allow\n")
    try:
        shown = run(world, "query", "--explain").stdout
        lines = run(world, "query", "--explain", "--json").stdout.splitlines()
    finally:
        policy.write_text(before)
    why = {one["access"]: one["why"] for one in map(json.loads, lines)}
    alice = why[events["alice"]]
    assert alice[0].startswith("permitted by ")
    assert "policy.csv:2 `p, role:analyst, sales/daily, read, true, allow`" in alice[0]
    assert "policy.csv:6 `p2, role:analyst, sales/*, true, net_sales, round(100)`" in alice[1]
    assert "round(100): net_sales" in alice[2]
    nobody = why[events["nobody"]]
    assert nobody[0] == "refused (404, not-found): No such report for you; cause no-allow-line"
    assert nobody[1].startswith("no line allows it")
    assert any(
        "policy.csv:2 allows role:analyst read: about somebody else" in each for each in nobody
    )
    assert why[events["least"]][0].startswith("refused (403, parameter-forbidden)")
    assert why[events["least"]][1].startswith(
        "least looks at net_sales, which is given as round(100)"
    )
    assert why[events["stranger"]][1:] == ["no policy line decided this"]
    for sentences in why.values():
        for sentence in sentences:
            assert f"    {sentence}" in shown.replace("\\\\", "\\")


def test_csv_holds_what_json_does(world):
    """Access by access, in the same order."""
    asked = (
        "query",
        "--explain",
        "--until",
        datetime.now(UTC).isoformat(),
    )  # not that this was asked
    rows = list(csv.DictReader(io.StringIO(run(world, *asked, "--csv").stdout)))
    lines = map(json.loads, run(world, *asked, "--json").stdout.splitlines())
    for row, one in zip(rows, lines, strict=True):
        assert row["access"] == one["access"]
        assert row["rows"] == str(one.get("rows", 0))
        assert json.loads(row["fields"] or "{}") == one.get("fields", {})
        assert row["why"] == " ".join(one["why"])


def test_stats_count_what_was_asked(world):
    """By hour, report, subject and refusal; people and programs are told the same."""
    told = json.loads(run(world, "stats", "--json").stdout)
    assert told["unit"] == "hour"
    assert sum(one["permitted"] for one in told["bins"]) == 4
    assert sum(one["refused"] for one in told["bins"]) == 3
    reports = {one["name"]: (one["accesses"], one["rows"]) for one in told["reports"]}
    assert reports["sales/audited"] == (1, 30)
    assert reports["sales/daily"][0] == 5
    reasons = {one["name"]: one["accesses"] for one in told["reasons"]}
    assert reasons == {"not-found": 1, "parameter-forbidden": 1, "unauthenticated": 1}
    shown = run(world, "stats").stdout
    assert "4 permitted, 3 refused" in shown
    for word in ("sales/daily", "user:alice", "parameter-forbidden", "█"):
        assert word in shown
    assert run(world, "stats", "--until", "2020-01-01").stdout == "no access in that time\n"
