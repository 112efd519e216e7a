"""`counterfoil doctor`: each thing that is wrong is told with what to do, whatever else is wrong, and no secret."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.doctor import CHECKS, State, examine
from tests.doctor.homes import add, edit, edit_reports, found
from tests.harness import sales
from tests.harness.certificate import certify
from tests.harness.postgres import PASSWORD, url_of
from tests.harness.process import ROOT
from tests.harness.provider import Provider
from tests.harness.proxy import Home, stage
from tests.identity.material import key, public

TLS = ("port: 0", "port: 0, certificate: server.crt, key: server.key")
SUBJECTS = """\
issuers:
  - {{issuer: "{issuer}", prefix: "", audience: [counterfoil], groups: {{claim: groups}}}}
"""


def _certified(home: Home, **how: bool) -> None:
    edit(home, *TLS)
    certify(home, **how)
    (home.folder / "server.key").chmod(0o600)


def _readable_key(home: Home) -> None:
    _certified(home)
    (home.folder / "server.key").chmod(0o644)


def _two_faults(home: Home) -> None:
    home.write(
        "policy.csv", sales.RULES + "p, role:analyst, sales/daily, read\np, x, y, z, true, allow\n"
    )


def _another_log(home: Home) -> None:
    with closing(sqlite3.connect(home.folder / "access.db")) as database:
        database.execute("CREATE TABLE other (x)")


DAMAGE: dict[str, tuple[Callable[[Home], object], str, str, str]] = {
    "an unknown setting": (
        lambda home: edit(home, "listen:", "lisen:"), "configuration", "fail", "lisen",
    ),
    "no settings": (lambda home: home.settings.unlink(), "configuration", "fail", "cannot be read"),
    "a token that is not set": (
        lambda home: add(home, "metrics: {port: 0, token: 'env:NOT_SET'}"),
        "configuration", "fail", "the token of `metrics` is missing: .* `NOT_SET` is not set",
    ),
    "a webhook's token that is not set": (
        lambda home: add(home, "alarms: {webhook: 'https://a.example/', token: 'env:NOT_SET'}"),
        "configuration", "fail", "the token of `alarms` is missing: .* `NOT_SET` is not set",
    ),
    "a webhook's secret that is not set": (
        lambda home: add(home, "alarms: {webhook: 'https://a.example/', secret: 'env:NOT_SET'}"),
        "configuration", "fail", "the secret of `alarms` is missing: .* `NOT_SET` is not set",
    ),
    "a token for traces that is not set": (
        lambda home: add(home, "traces: {endpoint: 'https://a.example/', token: 'env:NOT_SET'}"),
        "configuration", "fail", "the token of `traces` is missing: .* `NOT_SET` is not set",
    ),
    "a password of the log's database that is not set": (
        lambda home: add(home, "database: {url: 'postgresql://a@127.0.0.1:9/b', password: 'env:NOT_SET'}"),
        "configuration", "fail", "the password of `database` is missing: .* `NOT_SET` is not set",
    ),
    "a password for budgets that is not set": (
        lambda home: add(home, "budgets: {valkey: 'valkey://127.0.0.1:9/0', password: 'env:NOT_SET'}"),
        "configuration", "fail", "the password of `budgets` is missing: .* `NOT_SET` is not set",
    ),
    "a database for the log that is not there": (
        lambda home: add(home, "database: {url: 'postgresql://a@127.0.0.1:9/b'}"),
        "shared", "fail", "b at 127.0.0.1:9 is not usable|cannot be reached|install counterfoil",
    ),
    "a place for budgets that is not there": (
        lambda home: add(home, "budgets: {valkey: 'valkey://127.0.0.1:9/0'}"),
        "shared", "fail", "Valkey for budgets does not answer|it needs",
    ),
    "a credential that opens the proxy's own doors": (
        lambda home: edit_reports(home, "credential: 'file:../kek'"),
        "policies", "fail", "it opens the proxy's own doors",
    ),
    "a credential of a command that there is not": (
        lambda home: edit_reports(home, "credential: 'command:t'"), "policies", "fail", "has no command `t`",
    ),
    "a share that is less than asked for": (
        lambda home: add(home, "workers: 200"), "configuration", "warn", "share of one of 200 workers",
    ),
    "a line that is short": (_two_faults, "policies", "fail", "has 6 cells, this one has 4"),
    "a folder that is not sealed": (
        lambda home: add(home, "policies_must_be: sealed"), "policies", "fail", "manifest cannot be read",
    ),
    "no folder of policies": (
        lambda home: edit(home, "policies: policies", "policies: elsewhere"),
        "policies", "fail", "no such folder",
    ),
    "no keyring": (
        lambda home: (home.folder / "keyring.json").unlink(), "keyring", "fail", "cannot be read",
    ),
    "a keyring that others may read": (
        lambda home: (home.folder / "keyring.json").chmod(0o644), "keyring", "fail", "open to others",
    ),
    "another key-encryption key": (
        lambda home: (home.folder / "kek").write_text("ab" * 32), "keyring", "fail", "does not open",
    ),
    "a certificate that ends": (_certified, "certificates", "warn", "ends on .*, in 0 days"),
    "the key of another certificate": (
        lambda home: _certified(home, other_key=True), "certificates", "fail", "key of this certificate",
    ),
    "a private key that everybody may read": (
        _readable_key, "certificates", "fail", "everybody may read the server's private key",
    ),
    "policies that anybody may change": (
        lambda home: (home.policies / "policy.csv").chmod(0o666), "files", "fail", "may change what decides",
    ),
    "settings that anybody may change": (
        lambda home: home.settings.chmod(0o666), "files", "fail", "may change what decides",
    ),
    "a folder that is not there": (
        lambda home: edit(home, "access.db", "nowhere/access.db"), "files", "fail", "nothing can be written",
    ),
    "a log in memory": (
        lambda home: edit(home, "access.db", "/dev/shm/counterfoil-doctor.db"), "files", "fail", "is in memory",
    ),
    "a spool that is not there": (
        lambda home: add(home, "spool: nowhere"), "files", "fail", "nothing can be put aside",
    ),
    "a database that is no log": (_another_log, "access log", "fail", "is not an access log"),
    "a file that is no database": (
        lambda home: (home.folder / "access.db").write_bytes(b"canary" * 1000),
        "access log", "fail", "not a database",
    ),
    "a mount that is missing": (
        lambda home: add(home, "retain: [{folder: mount}]"), "retain", "fail", "no such folder",
    ),
    "a witness that is not there": (
        lambda home: add(home, "retain: [{url: 'http://127.0.0.1:9/'}]"), "retain", "fail", "refused",
    ),
    "a store that is not there": (
        lambda home: home.write("reports.yaml", sales.REPORTS.replace("{store}", "http://127.0.0.1:9")),
        "stores", "fail", "cannot be reached: Connection refused",
    ),
    "a catalogue that is none": (
        lambda home: home.write("reports.yaml", "stores: ["), "stores", "fail", "nobody was asked",
    ),
    "more connections than files": (
        lambda home: add(home, "limits: {connections: 2000000000}"), "open files", "warn", "may open",
    ),
    "more sorting than memory": (
        lambda home: add(home, "limits: {sorts: 1000000}"), "memory", "warn", "are available",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_wrong_is_told_beside_all_else(home, name):
    """The damage under its own check, in its words; every other check is told too, and nothing it holds."""
    damage, check, state, words = DAMAGE[name]
    if "memory" in name and sys.platform != "linux":
        pytest.skip("what is in memory is told by Linux alone")
    damage(home)
    said = found(home)
    assert any(at == check and how == state and re.search(words, text) for at, how, text in said), (
        said
    )
    assert {at for at, _, _ in said} == {*CHECKS}
    assert not any("canary" in text or "ab" * 8 in text for _, _, text in said)
    assert not [*home.folder.glob(".doctor*")]


def test_what_does_not_depend_on_the_settings_is_looked_at_where_they_are_at_fault(home):
    """The clock, core dumps, and who may change the settings; of all else, that it was not looked at."""
    edit(home, "listen:", "lisen:")
    home.settings.chmod(0o666)
    said = found(home)
    untold = {at for at, _, text in said if text == "not looked at: the settings are at fault"}
    assert untold == {*CHECKS} - {"configuration", "clocks", "core dumps"}
    for name in ("clocks", "core dumps"):
        ((_, _, text),) = [each for each in said if each[0] == name]
        assert "looked at" not in text
    assert ("core dumps", "ok", "the proxy leaves none") in said
    assert ("files", "fail", "anybody on this machine may change what decides") in said


def test_the_policies_are_read_with_what_the_server_lends_them(home):
    """A command of counterfoil.yaml is there; a variable that opens the proxy's own doors is not."""

    def wrong(**environment: str) -> list[str]:
        said = examine(home.settings, environment)
        return [each.text for each in said if each.check == "policies" and each.state is State.FAIL]

    add(home, "commands: {t: {run: [/bin/echo, x]}}")
    edit_reports(home, "credential: 'command:t'")
    assert not wrong()
    reports = (home.policies / "reports.yaml").read_text()
    home.write("reports.yaml", reports.replace("command:t", "env:T"))
    assert not wrong(T="t" * 40)
    add(home, "metrics: {port: 9, token: 'env:T'}")
    assert wrong(T="t" * 40) == ["the environment variable `T` is not set"]


def test_every_fault_of_the_policies_is_told_with_its_place(home):
    """Two wrong lines are two rows."""
    _two_faults(home)
    lines = sales.RULES.count("\n")
    places = {each.what for each in examine(home.settings, {}) if each.check == "policies"}
    assert {f"policy.csv:{lines + 1}", f"policy.csv:{lines + 2}"} <= {
        ":".join(place.split(":")[:2]) for place in places
    }


def test_a_database_for_the_log_is_opened_as_the_proxy_does(home, postgres):
    """One that is there, and makes durable what it takes, is well."""
    (home.folder / "password").write_text(PASSWORD)
    where = f"url: '{url_of(postgres.new())}', password: 'file:password'"
    add(home, f"database: {{{where}}}")
    assert ("shared", "ok", "opens, and makes durable what it takes") in found(home)


def test_an_identity_provider_is_asked_as_for_tokens(home, background):
    """Discovery and keys are had and usable; a set without a usable key, or none, is told."""
    provider = Provider(background)
    try:
        tenant = provider.tenant("ours", public(key("EC"), kid="k"))
        home.write("subjects.yaml", SUBJECTS.format(issuer=tenant.issuer))
        home.write("policy.csv", sales.RULES.replace("row.store_id in sub.stores", "true"))
        assert ("identity providers", "ok", "its keys are had") in found(home)
        tenant.keys = []
        assert any(
            at == "identity providers" and how == "fail" and "no usable key" in text
            for at, how, text in found(home)
        )
        tenant.down = True
        assert any(
            at == "identity providers" and how == "fail" and "its metadata" in text
            for at, how, text in found(home)
        )
    finally:
        provider.close()


def test_a_log_that_is_written_is_held_against_its_registry(tmp_path):
    """Beside the server; then with a checkpoint that was altered."""
    with stage(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES) as (_, proxy):
        proxy.get("/sales/daily.csv")
        home = proxy.home
        assert any(at == "access log" and how == "ok" for at, how, _ in found(home))
    # Closed, so all of it is published.
    assert any(
        at == "access log"
        and how == "ok"
        and re.search(r"over \d+ entries of counterfoil/1, holds", text)
        for at, how, text in found(home)
    )
    checkpoint = home.folder / "access-tiles" / "1" / "checkpoint"
    checkpoint.chmod(0o644)
    text = checkpoint.read_text()
    checkpoint.write_text(text.replace(text.splitlines()[1], "7", 1))
    assert any(at == "access log" and how == "fail" for at, how, _ in found(home))


def test_the_command_tells_people_and_programs_and_exits_by_the_worst(home):
    """A table with the fix and its command, or JSON; 0, 1 or 2."""
    words = [sys.executable, "-m", "proxy", "doctor", "--json", "-c", str(home.settings)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, check=False, timeout=60)
    said = json.loads(done.stdout)
    worst = max(State[each["state"].upper()] for each in said["findings"])
    assert done.returncode == worst == State[said["state"].upper()]
    assert worst <= State.WARN, said
    assert {each["check"] for each in said["findings"]} == {*CHECKS}
    assert not done.stderr
    secret = (home.folder / "kek").read_text()
    assert secret not in done.stdout.decode()
    (home.policies / "policy.csv").chmod(0o666)
    shown = CliRunner().invoke(main, ["doctor", "-c", str(home.settings)])
    assert shown.exit_code == State.FAIL
    assert f"$ chmod o-w {home.policies / 'policy.csv'}" in shown.output


def test_settings_that_hang_keep_nobody(home):
    """A disk that never gives the file: the command tells, and ends."""
    hanging = (
        "import sys, time; from proxy import config; from proxy.cli import main;"
        " config.load = lambda *_: time.sleep(600); main(sys.argv[1:])"
    )
    options = ["doctor", "--json", "--within", "0.2", "-c", str(home.settings)]
    words = [sys.executable, "-c", hanging, *options]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, check=False, timeout=60)
    said = json.loads(done.stdout)["findings"]
    texts = [each["text"] for each in said if each["check"] == "configuration"]
    assert done.returncode == State.FAIL and texts == ["could not be read in time"]
    assert {each["check"] for each in said} == {*CHECKS}


@pytest.mark.parametrize("what", ["pipe", "device", "huge", "folder"])
def test_settings_that_are_no_file_to_be_read_are_told_as_that(home, what):
    """Neither waited for nor read into memory, and nobody is told to change a device's mode."""
    home.settings.unlink()
    match what:
        case "pipe":
            os.mkfifo(home.settings)
        case "device":
            home.settings.symlink_to("/dev/zero")
        case "huge":
            home.settings.touch()
            os.truncate(home.settings, 1 << 40)
        case "folder":
            home.settings.mkdir()
    told = examine(home.settings, {})
    (fault,) = [each for each in told if each.check == "configuration"]
    assert fault.state is State.FAIL and fault.text.startswith("cannot be read: ")
    assert not any("chmod" in each.command for each in told)


@pytest.mark.parametrize("what", ["pipe", "folder"])
def test_a_log_that_is_no_file_is_told_as_that(home, what):
    """It is not said to be missing, and its mode is not what is to be changed."""
    log = home.folder / "access.db"
    os.mkfifo(log) if what == "pipe" else log.mkdir()
    told = examine(home.settings, {})
    (fault,) = [each for each in told if each.check == "access log"]
    assert (fault.state, fault.text) == (State.FAIL, "is not a file")
    assert not any("chmod" in each.command for each in told)


def test_programs_are_told_of_files_with_names_in_no_encoding(home):
    """It is JSON all the same, and ends by the worst of what is found."""
    odd = Path(os.fsdecode(os.fsencode(home.policies) + b"/odd-\xff.csv"))
    odd.write_text("")
    odd.chmod(0o666)
    shown = CliRunner().invoke(main, ["doctor", "--json", "-c", str(home.settings)])
    assert shown.exit_code == State.FAIL
    told = [each["what"] for each in json.loads(shown.stdout_bytes)["findings"]]
    assert f"{home.policies}/odd-\\udcff.csv" in told


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300", "0"])
def test_a_time_that_nobody_can_wait_for_is_a_fault_of_the_command(home, seconds):
    """It is told as one, with the status of something that fails."""
    shown = CliRunner().invoke(main, ["doctor", "--within", seconds, "-c", str(home.settings)])
    assert shown.exit_code == State.FAIL and "--within" in shown.output


def test_settings_that_are_a_folder_are_told_to_programs_too(home):
    """It is a finding like any other, not a fault of the command."""
    words = ["doctor", "--json", "-c", str(home.policies)]
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == State.FAIL
    told = json.loads(shown.stdout)["findings"]
    assert any(each["check"] == "configuration" and "not a file" in each["text"] for each in told)


def test_policies_that_this_user_may_not_list_hide_nothing_else(home, monkeypatch):
    """What can be looked at of files is, the folder of the access log among it."""
    listed = Path.iterdir

    def iterdir(path: Path):
        if path == home.policies:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    told = [each for each in examine(home.settings, {}) if each.check == "files"]
    assert any(each.what == str(home.folder) and each.state is State.OK for each in told)
    assert not any("could not be looked at" in each.text for each in told)
