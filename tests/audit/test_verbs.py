"""`counterfoil log tail` and `log query`, as a user types them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from proxy.access import encode, timestamp
from proxy.audit.names import Names
from proxy.cli import main
from proxy.cli.log import visible, visible_json
from tests.audit.records import HOSTILE, event, leaves, write

ROOT = Path(__file__).parents[2]
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def run(*words: object) -> str:
    result = CliRunner().invoke(main, ["log", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(*words: object) -> str:
    """What is said on standard error, where nothing is said on standard output."""
    result = CliRunner().invoke(main, ["log", *map(str, words)], catch_exceptions=False)
    assert result.exit_code != 0
    assert result.stdout == ""
    return result.stderr


@pytest.fixture
def path(tmp_path):
    """Two logs, with accesses of every kind."""
    now = 1.8e9
    path = tmp_path / "access.db"
    files = write(
        path,
        [
            event("complete", "0a", now, subject="id-alice", tool="tool:bi", report="sales/daily",
                  decision="permit", rows=12, bytes=340, ended="whole",
                  fields={"units": {"clear": 12}, "net": {"round(100)": 12}, "city": {"clear": 12}}),
            event("refusal", "0b", now + 1, address="10.0.0.9", path="/x", decision="deny",
                  reason="not-found", cause="no-report"),
            event("intent", "0c", now + 2, subject="id-sam", report="sales/daily",
                  decision="permit", rows=100, bytes=5000),
        ],
        [
            event("intent", "0d", now + 3, subject="id-sam", report="hr/people",
                  decision="permit", rows=7, bytes=70),
            event("outcome", "0d", now + 9, rows=9, bytes=90, ended="client-gone"),
        ],
    )  # fmt: skip
    with contextlib.closing(Names(files.names)) as names:
        names.learn([("id-alice", "user:alice"), ("id-sam", "user:sam")])
    return path


def accesses(*words: object) -> list[str]:
    return [json.loads(line)["access"] for line in run("query", *words, "--json").split("\n")[:-1]]


def test_query_shows_accesses_with_names_rows_and_forms_newest_first(path):
    lines = run("query", "--log", path).splitlines()
    assert [line.split()[-1] for line in lines] == ["access", "0d", "0c", "0b", "0a"]
    assert "user:sam" in lines[1] and "client-gone" in lines[1]
    assert "unresolved" in lines[2]
    assert "10.0.0.9" in lines[3] and "not-found" in lines[3]
    assert "user:alice through tool:bi" in lines[4]
    assert "clear 2, round(100) 1" in lines[4]


def test_query_selects(path):
    at = "--log", path
    assert accesses(*at, "--subject", "user:sam") == ["0d", "0c"]
    assert accesses(*at, "--subject", "id-alice") == ["0a"]
    assert accesses(*at, "--report", "sales/*") == ["0c", "0a"]
    assert accesses(*at, "--report", "hr/people") == ["0d"]
    assert accesses(*at, "--tool", "bi") == ["0a"]
    assert accesses(*at, "--outcome", "deny") == ["0b"]
    assert accesses(*at, "--outcome", "not-found") == ["0b"]
    assert accesses(*at, "--outcome", "unresolved") == ["0c"]
    assert accesses(*at, "--outcome", "permit", "--limit", "2") == ["0d", "0c"]
    assert accesses(*at, "--since", timestamp(1.8e9 + 4)) == ["0d"]
    assert accesses(*at, "--until", timestamp(1.8e9 + 1)) == ["0a"]
    assert accesses(*at, "--since", "2027-01-15", "--until", "2027-01-14") == []


def test_a_reveal_is_told_from_a_read(tmp_path):
    """Both verbs say which access is a reveal, and how many cells it was refused, for which cause."""
    asked = {"subject": "id-sam", "report": "hr/people", "decision": "permit", "ended": "whole"}
    path = tmp_path / "access.db"
    write(
        path,
        [
            event("complete", "0e", 1.8e9, action="reveal", rows=2, keys=("5f3a90c1",),
                  fields={"email": {"clear": 2}},
                  unrevealed={"not-sealed": 1, "not-authentic": 3}, **asked),
            event("complete", "0f", 1.8e9 + 1, action="read", rows=2, **asked),
        ],
    )  # fmt: skip
    at = "--log", path
    assert accesses(*at, "--action", "reveal") == ["0e"]
    assert accesses(*at, "--action", "read") == ["0f"]
    why = "not revealed: not-authentic 3, not-sealed 1"
    (line,) = run("query", *at, "--action", "reveal").splitlines()[1:]
    assert "reveal hr/people" in line and f"clear 1; {why}" in line
    told = json.loads(run("query", *at, "--action", "reveal", "--json"))
    assert told["unrevealed"] == {"not-authentic": 3, "not-sealed": 1}
    assert told["keys"] == ["5f3a90c1"]
    revealed, read = run("tail", *at, "-n", "2").splitlines()
    assert "reveal hr/people" in revealed and why in revealed
    assert "reveal" not in read


def test_a_bare_name_is_a_user_s(path):
    """Whoever leaves out `user:` gets what it stands for, and a name that nobody has is told."""
    assert accesses("--log", path, "--subject", "sam") == ["0d", "0c"]
    assert accesses("--log", path, "--subject", "sam", "--since", timestamp(1.9e9)) == []
    for unknown in ("eve", "user:eve", "tool:eve", "id-eve"):
        named = unknown if ":" in unknown else f"user:{unknown}"
        assert f"does not know {named}:" in fail("query", "--log", path, "--subject", unknown)


def test_an_opaque_id_is_not_taken_for_a_name(path):
    """Somebody whose name is another's opaque id hides nothing of the other's accesses."""
    with contextlib.closing(Names(path.with_name("access-names.db"))) as names:
        names.learn([("id-mallory", "user:id-alice")])
    assert accesses("--log", path, "--subject", "id-alice") == ["0a"]


def test_a_word_that_is_no_outcome_is_told_with_those_that_are(path):
    """A typo is no empty answer: decisions, ends, reasons and the causes on record are words, others not."""
    said = " ".join(fail("query", "--log", path, "--outcome", "denied").split())
    assert "denied is no cause on record" in said
    for word in ("permit", "deny", "client-gone", "unresolved", "not-found", "purpose-required"):
        assert f" {word}," in said
    assert accesses("--log", path, "--outcome", "no-report") == ["0b"]
    assert accesses("--log", path, "--outcome", "no-report", "--subject", "sam") == []
    assert accesses("--log", path, "--outcome", "purpose-required") == []


def test_relative_times_are_understood_and_others_refused(path):
    assert accesses("--log", path, "--until", "99999w") == []
    assert "write RFC 3339" in fail("query", "--log", path, "--since", "yesterday")
    assert "write RFC 3339" in fail("query", "--log", path, "--since", "2026-13-01")


def test_tail_gives_the_exact_bytes_as_lines(path):
    stored = [entry for _, entry in leaves(path)]
    assert run("tail", "--log", path, "--json", "-n", 3).encode().splitlines() == stored[-3:]
    assert len(run("tail", "--log", path).splitlines()) == len(stored)
    assert "user:alice through tool:bi  sales/daily  permit  whole  12 rows 340 bytes" in run(
        "tail", "--log", path
    )


def test_a_drift_is_shown_with_its_report_and_its_fields(tmp_path):
    """Whoever reads of a drift learns which report's store it is, of what kind, and how many fields."""
    drifts = [
        event("drift", "0a", report="sales/daily", cause="undeclared-field", policy="37c5" * 16, count=1),
        event("drift", "0b", report="hr/people", cause="vanished-field", policy="37c5" * 16, count=3),
        event("burst", "0c", address="10.0.0.9", decision="deny", reason="unauthenticated", count=2),
        event("policy-refused", "0d", previous="37c5" * 16, cause="faulty", count=1, lines=("policy.csv:3",)),
    ]  # fmt: skip
    at = "--log", write(tmp_path / "access.db", drifts).leaves
    assert [re.split("  +", line)[2:] for line in run("tail", *at, "-n", 4).splitlines()] == [
        ["sales/daily", "undeclared-field", "1 field", "0a"],
        ["hr/people", "vanished-field", "3 fields", "0b"],
        ["10.0.0.9", "deny unauthenticated", "2 refusals", "0c"],
        ["policy 37c537c537c5 stays: policy.csv:3", "faulty", "1 fault", "0d"],
    ]
    _, refused, _, vanished, undeclared = run("query", *at).splitlines()
    assert "sales/daily" in undeclared and "drift undeclared-field" in undeclared
    assert "hr/people" in vanished and "3 fields" in vanished
    assert "policy-refused faulty" in refused and "1 fault " in refused


def test_an_answer_that_is_not_all_of_a_report_is_shown_as_what_it_is(tmp_path):
    """Its head, its bytes from one to another, or nothing of it: told apart from the whole."""
    named = {"address": "::1", "report": "r", "decision": "permit", "ended": "whole"}
    given = [
        event("complete", "0a", method="HEAD", status=200, **named),
        event("complete", "0b", method="GET", status=206, span="0-9/99", rows=7, **named),
        event("complete", "0c", method="GET", status=304, **named),
    ]
    at = "--log", write(tmp_path / "access.db", given).leaves
    had, part, head = (re.split("  +", line)[2] for line in run("query", *at).splitlines()[1:])
    assert (head, part, had) == ("HEAD r", "r 0-9/99", "r 304")
    tail = [re.split("  +", line)[3] for line in run("tail", *at, "-n", 3).splitlines()]
    assert tail == [head, part, had]
    _, told, _ = map(json.loads, run("query", *at, "--json").splitlines())
    assert (told["span"], told["status"], told["rows"]) == ("0-9/99", 206, 7)


def test_a_refusal_of_somebody_unknown_is_about_nothing(tmp_path):
    """Where a refused request got no further than its token no report is known: none is shown, nor the log."""
    refusal = event("refusal", "0a", address="10.0.0.9", decision="deny", reason="unauthenticated",
                    cause="token-expired")  # fmt: skip
    at = "--log", write(tmp_path / "access.db", [refusal]).leaves
    assert run("query", *at).splitlines()[1].split()[1:] == ["10.0.0.9", "unauthenticated", "0a"]
    opened, refused = run("tail", *at).splitlines()
    assert "counterfoil/1" in opened and "counterfoil/1" not in refused
    assert "counterfoil/1" in run("query", *at, "--outcome", "opened")


def test_tail_follows(path):
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "log", "tail", "-n", "1", "--follow", "--json", "--log", path],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as follower:  # fmt: skip
        assert json.loads(follower.stdout.readline())["step"] == "outcome"
        write(path, [event("complete", "0e")])
        assert json.loads(follower.stdout.readline())["step"] == "opened"
        assert json.loads(follower.stdout.readline())["access"] == "0e"
        follower.send_signal(signal.SIGINT)
        assert "Traceback" not in follower.stderr.read()


@pytest.mark.threat("H65")
def test_what_a_requester_chose_is_one_line_without_live_characters(tmp_path):
    """CRLF, ANSI, bidi and quotes in path, subject, tool and name: one event, one line, all escaped."""
    files = write(
        tmp_path / "access.db",
        [event("refusal", "0a", subject=HOSTILE, tool=HOSTILE, path=HOSTILE, decision="deny",
               reason="[red]not-found[/red]")],
    )  # fmt: skip
    with contextlib.closing(Names(files.names)) as names:
        names.learn([(HOSTILE, f"user:{HOSTILE}")])
    for words in (["tail", "-n", 1], ["query"], ["query", "--explain"]):
        text = run(*words, "--log", files.leaves)
        (line,) = [line for line in text.split("\n") if "0a" in line]
        assert line.isprintable()
        assert r"user:a\r\nb\x1b[31m\u202e\u2028\x9b\x7f" in line
        assert "[red]not-found[/red]" in line
    stored = run("query", "--log", files.leaves, "--json", "--subject", HOSTILE).removesuffix("\n")
    assert "\n" not in stored
    assert json.loads(stored)["path"] == HOSTILE


@given(
    text=st.text().filter(lambda text: not any(0xD800 <= ord(c) < 0xE000 for c in text)),
    begin=st.sampled_from(["", *FORMULAS]),
)
def test_no_cell_of_csv_is_a_formula_and_none_says_otherwise_than_the_log(
    tmp_path_factory, text, begin
):
    """Whatever was asked for: a cell that would be a formula stands behind an apostrophe, each other as it is."""
    chosen = begin + text
    at = "--log", write(tmp_path_factory.mktemp("log") / "access.db",
                        [event("refusal", "0a", path=chosen, tool=chosen, groups=(chosen,), decision="deny")]).leaves  # fmt: skip
    told = CliRunner().invoke(main, ["log", "query", *map(str, at), "--csv"]).stdout_bytes.decode()
    (row,) = csv.DictReader(io.StringIO(told, newline=""))
    stored = chosen.replace("\0", "␀")
    for name in ("path", "tool"):
        assert row[name] in (stored, f"'{stored}")
        assert row[name][:1] not in FORMULAS
    assert json.loads(row["groups"]) == [stored]


def test_hostile_texts_are_looked_for_as_they_are(tmp_path):
    """Quotes, wildcards, line ends and direction marks find what holds them, and nothing else."""
    for number, chosen in enumerate((HOSTILE, "*", "%", "' OR 1 --", "[a-z]", "x:y", "a=b")):
        at = "--log", write(
            tmp_path / f"access{number}.db",
            [
                event("complete", "0a", groups=(chosen,), tool=chosen, report=chosen, purpose=chosen,
                      parameters={"name": chosen}, fields={chosen: {"clear": 1}}, rows=1),
                event("complete", "0b", groups=("b",), tool="b", report="b", purpose="b",
                      parameters={"name": "b"}, fields={"b": {chosen: 1}}, rows=1),
            ],
        ).leaves  # fmt: skip
        for option in ("group", "tool", "report", "purpose", "field"):
            assert accesses(*at, f"--{option}={chosen}") == ["0a"], option
        assert accesses(*at, f"--treatment={chosen}") == ["0b"]
        assert accesses(*at, f"--parameter=name={chosen}") == ["0a"]
        assert accesses(*at, f"--policy={chosen}") == []
    assert "is not UTF-8" in fail("query", *at, "--group", "a\udc80")
    assert "write NAME=VALUE" in fail("query", *at, "--parameter", "name")


@given(st.text())
def test_escapes_hide_nothing(text):
    """No two texts look alike, and what is shown is one printable line."""
    assert visible(text).isprintable()
    assert visible(text).encode("ascii", "backslashreplace").decode("unicode_escape") == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_for_a_terminal_says_the_same(text):
    line = encode(event(path=text))
    assert visible_json(line).isprintable()
    assert msgspec.json.decode(visible_json(line)) == msgspec.json.decode(line)


def test_faults_are_told_in_one_message(path, tmp_path):
    assert "there is no access log at" in fail("tail", "--log", tmp_path / "none.db")
    assert "cannot be read" in fail("query", "-c", tmp_path / "none.yaml")
    (tmp_path / "text.db").write_text("no database" * 1000)
    assert "is not a database" in fail("query", "--log", tmp_path / "text.db")
    assert "does not know user:eve" in fail("query", "--log", path, "--subject", "user:eve")


def test_a_fault_is_told_without_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "log", "tail", "--log", tmp_path / "none.db"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1


def test_help_says_that_the_verbs_are_outside_enforcement():
    for words in ([], ["tail"], ["query"], ["stats"]):
        assert "outside enforcement" in " ".join(run(*words, "--help").split())
