"""What programs are told of a folder at fault is one JSON object, whatever was to be done with it."""

from __future__ import annotations

import json
import subprocess

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.seal import LOCK
from tests.review.test_check import GOOD, folder

BAD = GOOD + "p, role:x, sales/*, raed, true, allow\n"


def invoke(*words: str):
    return CliRunner().invoke(main, ["policy", *words], catch_exceptions=False)


@pytest.mark.parametrize(
    "words",
    [
        ("test", "{}"),
        ("explain", "alice", "GET", "/sales/daily.csv", "--policies", "{}"),
        ("diff", "{}", "{}"),
        ("diff", "{good}", "{}"),
        ("replay", "{}"),
    ],
)
def test_faults_are_told_to_programs_as_check_tells_them(tmp_path, words):
    """The same object as that of `check --json`, and the exit status that people are given."""
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    good, bad = folder(tmp_path / "good", GOOD), folder(tmp_path / "bad", BAD)
    filled = [word.format(bad, good=good) for word in words]
    shown, told = invoke(*filled), invoke(*filled, "--json")
    assert shown.exit_code == told.exit_code == 2
    expected = json.loads(invoke("check", bad, "--json").stdout)
    found = json.loads(told.stdout)
    assert {name: found[name] for name in expected} == expected
    assert expected["errors"] and "unknown action `raed`" in shown.stdout
    assert "4 | p, role:x" in shown.stdout


def test_a_seal_is_told_to_programs_too(tmp_path):
    """The manifest and what it lists, or the faults."""
    where = folder(tmp_path, GOOD)
    (tmp_path / "subjects.yaml").write_text("issuers: 1\n")
    told = invoke("seal", where, "--json")
    assert told.exit_code == 2 and json.loads(told.stdout)["errors"][0]["file"] == "subjects.yaml"
    folder(tmp_path, GOOD)
    (tmp_path / "jwks.json").write_text("{}")
    subjects = (tmp_path / "subjects.yaml").read_text()
    subjects = subjects.replace("keys: {file: jwks.json}", "keys: {url: https://id.example.com/k}")
    (tmp_path / "subjects.yaml").write_text(subjects)
    told = invoke("seal", where, "--json")
    assert told.exit_code == 0
    assert json.loads(told.stdout)["manifest"] == str(tmp_path / LOCK)
    assert "policy.csv" in json.loads(told.stdout)["sealed"]


def test_a_folder_is_compared_from_within_and_by_the_settings(tmp_path, monkeypatch):
    """`diff HEAD` works in the folder itself, and from anywhere with `-c`."""
    where = tmp_path / "conf"
    where.mkdir()
    folder(where, GOOD)
    monkeypatch.chdir(where)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "as it was"]):
        git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", *words]
        subprocess.run(git, check=True)
    with (where / "policy.csv").open("a") as file:
        file.write("p2, role:analyst, sales/*, true, net, clear\n")
    here = invoke("diff", "HEAD")
    assert here.exit_code == 1 and "role:analyst" in here.stdout
    settings = tmp_path / "counterfoil.yaml"
    settings.write_text(
        'policies: conf\nlog: access.db\nkeyring: {file: keyring.json, key_encryption_key: "file:kek"}\n'
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert invoke("diff", "HEAD").exit_code == 2
    assert invoke("diff", "HEAD", "-c", str(settings)).stdout == here.stdout
    words = ("explain", "alice", "GET", "/sales/daily.csv", "--group", "analysts")
    assert invoke(*words, "-c", str(settings)).exit_code == 0
