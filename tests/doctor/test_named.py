"""What a doctor says of files that settings and policies name, and that others may read or change."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from proxy.doctor import State
from tests.doctor.homes import add, edit, edit_reports, told
from tests.harness.pki import LOCAL, SERVER, Authority
from tests.harness.proxy import Home

SECRETS = {
    "`keyring.file`": "keyring.json",
    "`keyring.key_encryption_key`": "kek",
    "`metrics.token`": "metrics.token",
    "`alarms.token`": "alarms.token",
    "`alarms.secret`": "alarms.secret",
    "`budgets.password`": "budgets.password",
    "`database.password`": "database.password",
    "`traces.token`": "traces.token",
    "`retain[0].token`": "retain.token",
    "`credential` of store a": "a.token",
    "`basic` of store b": "b.password",
    "`oauth` of store c": "c.secret",
    "`oauth.tls` of store c": "c.key",
    "`tls` of store c": "store.key",
    "`introspection` of issuer": "introspection.secret",
}
OTHERS = {
    "`listen.certificate`": "server.crt",
    "`listen.clients.authority`": "ca.pem",
    "`listen.clients.revoked`": "ca.crl",
    "`database.authorities`": "database.pem",
    "`commands.t`": "print-token",
    "`tls` of store c": "store.pem",
    "`oauth.tls` of store c": "c.pem",
    "`keys` of issuer": "keys.json",
}
SETTINGS = """\
metrics: {port: 0, token: 'file:metrics.token'}
alarms: {webhook: 'http://127.0.0.1:9/', token: 'file:alarms.token', secret: 'file:alarms.secret'}
budgets: {valkey: 'valkey://127.0.0.1:9/0', password: 'file:budgets.password'}
database: {url: 'postgresql://a@127.0.0.1:9/b', password: 'file:database.password', authorities: database.pem}
traces: {endpoint: 'http://127.0.0.1:9/', token: 'file:traces.token'}
retain: [{url: 'http://127.0.0.1:9/', token: 'file:retain.token'}]
commands: {t: {run: [./print-token, canary]}}
"""
STORES = """\
stores:
  a: {url: 'http://127.0.0.1:9', loopback: true, credential: 'file:../a.token'}
  b: {url: 'http://127.0.0.1:9', loopback: true, basic: {user: u, password: 'file:../b.password'}}
  c:
    url: https://127.0.0.1:9
    loopback: true
    oauth:
      token_url: https://127.0.0.1:9/
      loopback: true
      client: c
      secret: file:../c.secret
      tls: {authority: ../c.pem, certificate: ../store.crt, key: ../c.key}
    tls: {authority: ../store.pem, certificate: ../store.crt, key: ../store.key}
reports: {}
"""


@pytest.fixture
def named(home: Home) -> Home:
    """All files that can be named; each is there, and its owner's alone."""
    authority = Authority()
    certificate, key = authority.issue(*LOCAL, usage=SERVER).write(home.folder, "server")
    clients = "clients: {authority: ca.pem, revoked: ca.crl}"
    edit(home, "port: 0", f"port: 0, certificate: {certificate}, key: {key}, {clients}")
    add(home, SETTINGS)
    home.write("reports.yaml", STORES)
    subjects = (home.policies / "subjects.yaml").read_text()
    assert "{file: jwks.json}" in subjects
    more = "{file: ../keys.json}\n    introspection: {client: c, secret: 'file:../introspection.secret'}"
    home.write("subjects.yaml", subjects.replace("{file: jwks.json}", more))
    for name in (*SECRETS.values(), *OTHERS.values(), "store.crt"):
        file = home.folder / name
        if not file.exists():
            file.write_text(base64.b64encode(os.urandom(32)).decode())
        file.chmod(0o600)
    (home.folder / "ca.pem").write_bytes(authority.pem)
    (home.folder / "ca.crl").write_bytes(authority.revoke())
    return home


def faults(home: Home) -> dict[str, tuple[str, str]]:
    """What is at fault among `files`: path -> text and command."""
    return {
        each.what: (each.text, each.command)
        for each in told(home, "files")
        if each.state is State.FAIL
    }


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("files", "good", "bad", "mended", "said"),
    [
        (SECRETS, 0o600, 0o664, 0o640, "others may read or change the secret"),
        # Whoever changes one makes a tool, or runs something; that others read it is no fault.
        (OTHERS, 0o644, 0o666, 0o664, "anybody on this machine may change"),
    ],
    ids=["secrets", "authorities, certificates, lists and programs"],
)
def test_files_that_others_may_read_or_change_are_told(named, files, good, bad, mended, said):
    """Each one that settings, catalogue or issuers name, with the command that mends it."""
    for name in files.values():
        (named.folder / name).chmod(good)
    assert not faults(named)
    for name in files.values():
        (named.folder / name).chmod(bad)
    found = faults(named)
    assert {*found} == {str(named.folder / name) for name in files.values()}
    for by, name in files.items():
        text, command = found[str(named.folder / name)]
        assert by in text and said in text
        assert not os.system(command) and _mode(named.folder / name) == mended
    assert not faults(named)


def test_a_folder_in_which_anybody_may_put_another_file_is_told_once(named):
    """As good as the file itself, but where names are their owners' (the sticky bit)."""
    named.folder.chmod(0o777)
    assert [*faults(named)] == [str(named.folder)]
    named.folder.chmod(0o1777)
    assert not faults(named)


def test_what_is_told_of_a_policy_file_is_told_once(home):
    """A set of keys beside the policies is one of the folder's files already; a credential is a secret too."""
    (home.policies / "jwks.json").chmod(0o666)
    token = home.policies / "token"
    token.write_text("canary")
    token.chmod(0o666)
    edit_reports(home, "credential: 'file:token'")
    texts = [(each.what, each.text) for each in told(home, "files") if each.state is State.FAIL]
    decides = "anybody on this machine may change what decides"
    assert min(texts) == (str(home.policies / "jwks.json"), decides)
    assert {text for what, text in texts if what == str(token)} == {
        decides,
        "others may read or change the secret that `credential` of store main names",
    }
    assert len(texts) == 3


def test_nobody_is_told_to_change_the_mode_of_a_device(home):
    """What is put out of use by a link to /dev/null, which everybody may write: that is as it should be."""
    add(home, 'metrics: {port: 0, token: "file:/dev/null"}')
    (home.policies / "README").symlink_to("/dev/null")
    assert not [each for each in told(home, "files") if each.command.startswith("chmod")]
