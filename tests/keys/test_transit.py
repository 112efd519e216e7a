"""A keyring whose key-encryption key stays in a transit engine, asked over real sockets."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from proxy import rotation
from proxy.cli import main
from proxy.demo.material import prepare
from proxy.errors import KeyringError
from proxy.keys.file import create, edit, read
from proxy.keys.kek import kek_of
from tests.gateway.reloading import soon
from tests.harness import sales
from tests.harness.background import Background
from tests.harness.proxy import Home, running
from tests.harness.vault import TOKEN, Vault
from tests.keys.rings import KEK, seen, three

ENVIRONMENT = {"VAULT_TOKEN": TOKEN}


@pytest.fixture
def vault():
    with Vault() as vault:
        yield vault


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keyring.json"


def test_the_engine_seals_and_opens_the_file(vault, path):
    """A keyring comes back whole, before and after the engine's key is rotated; the engine sees no master key."""
    kek = kek_of(vault.spec, ENVIRONMENT)
    create(path, kek, three())
    vault.rotate()
    assert seen(read(path, kek)) == seen(three())
    edit(path, kek, lambda keyring: keyring)
    assert json.loads(path.read_text())["key"].startswith("vault:v2:")
    assert seen(read(path, kek)) == seen(three())
    assert set(vault.asked) == {
        f"/v1/team/transit/{verb}/counterfoil" for verb in ("encrypt", "decrypt")
    }


def test_a_keyring_is_rewrapped_to_the_engine_and_back(vault, path):
    """The same keys under a key of this machine, under one of the engine, and again."""
    kek = kek_of(vault.spec, ENVIRONMENT)
    create(path, KEK, three())
    edit(path, KEK, lambda keyring: keyring, under=kek)
    assert seen(read(path, kek)) == seen(three())
    with pytest.raises(KeyringError, match="does not open"):
        read(path, KEK)
    edit(path, kek, lambda keyring: keyring, under=KEK)
    assert seen(read(path, KEK)) == seen(three())


def test_no_byte_of_a_file_that_the_engine_opens_can_be_another(vault, path):
    """Whatever is altered, the engine's text too: the file is not opened."""
    kek = kek_of(vault.spec, ENVIRONMENT)
    create(path, kek, three())
    raw = path.read_bytes()
    for at in range(0, len(raw), 3):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with pytest.raises(KeyringError):
            read(path, kek)


def _sealed(vault: Vault) -> None:
    vault.sealed = True


def _another(vault: Vault) -> None:
    vault.versions[0] = os.urandom(32)


def _elsewhere(vault: Vault) -> None:
    vault.namespace = "other/"


def _no_json(vault: Vault) -> None:
    vault.answers = b"<html>" + TOKEN.encode()


def _no_base64(vault: Vault) -> None:
    vault.answers = b'{"data": {"plaintext": "canary!"}}'


def _endless(vault: Vault) -> None:
    vault.answers = b" " * (1 << 20)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_sealed, "sealed or down"),
        (_another, "does not take what it is asked"),
        (_elsewhere, "not allowed"),
        (_no_json, "does not answer as a transit engine"),
        (_no_base64, "does not answer as a transit engine"),
        (_endless, "does not answer as a transit engine"),
        (Vault.close, "gives no answer"),
    ],
)
def test_what_the_engine_does_not_do_is_said(path, change, why):
    """Each failure is a KeyringError that says why, with nothing of the token or of what was answered."""
    vault = Vault()
    try:
        kek = kek_of(vault.spec, ENVIRONMENT)
        create(path, kek)
        change(vault)
        with pytest.raises(KeyringError, match=why) as caught:
            read(path, kek)
        assert "canary" not in repr(caught.value) + repr(kek)
        assert caught.value.__cause__ is None
    finally:
        vault.close()


@pytest.mark.parametrize(
    "spec",
    [
        "vault:",
        "vault:https://vault.example.com",
        "vault:https://vault.example.com/counterfoil",
        "vault:http://vault.example.com/transit/counterfoil",
        "vault:https://canary@vault.example.com/transit/counterfoil",
        "vault:https://vault.example.com/transit/counterfoil?x",
        "vault:https://vault.example.com/transit/../sys/seal\r\n",
        "vault:https://vault.example.com:x/transit/counterfoil",
        "vault:ftp://vault.example.com/transit/counterfoil",
    ],
)
def test_what_names_no_engine_is_refused(spec):
    """A URL without mount or name, without TLS, or with a credential in it: not one word of it is repeated."""
    with pytest.raises(KeyringError, match="is named as `vault:") as caught:
        kek_of(spec, ENVIRONMENT)
    assert "canary" not in str(caught.value)


def test_the_token_is_that_of_the_environment_or_of_a_private_file(vault, path):
    """Read each time, so that an agent may renew it; a file that others can read, or none at all, is refused."""
    file = path.with_name("token")
    kek = kek_of(vault.spec, {"BAO_TOKEN_FILE": str(file)})
    with pytest.raises(KeyringError, match=r"token file .* cannot be read"):
        create(path, kek)
    file.write_text("old\n")
    file.chmod(0o600)
    with pytest.raises(KeyringError, match="403"):
        create(path, kek)
    file.write_text(f"{TOKEN}\n")
    create(path, kek)
    file.chmod(0o644)
    with pytest.raises(KeyringError, match="open to others"):
        read(path, kek)
    with pytest.raises(KeyringError, match="set VAULT_TOKEN"):
        read(path, kek_of(vault.spec, {}))
    with pytest.raises(KeyringError, match="no token has") as caught:
        read(path, kek_of(vault.spec, {"VAULT_TOKEN": "canary\r\nX-Vault-Namespace: x"}))
    assert "canary" not in str(caught.value)
    vault.namespace = "team/"
    assert read(path, kek_of(vault.spec, {**ENVIRONMENT, "VAULT_NAMESPACE": "team/"})).ids


def test_the_engine_is_asked_over_tls(tmp_path, path):
    """A certificate of the authority that is named is taken, and no other."""
    material = prepare(tmp_path / "demo", now=datetime.now(UTC))
    folder = material.certificates
    with Vault(certificate=folder / "server.crt", key=folder / "server.key") as vault:
        trusting = kek_of(vault.spec, {**ENVIRONMENT, "VAULT_CACERT": str(material.ca)})
        create(path, trusting, three())
        assert seen(read(path, trusting)) == seen(three())
        with pytest.raises(KeyringError, match="gives no answer"):
            read(path, kek_of(vault.spec, ENVIRONMENT))
        with pytest.raises(KeyringError, match="VAULT_CACERT"):
            read(path, kek_of(vault.spec, {**ENVIRONMENT, "VAULT_CACERT": str(path)}))
        assert len(vault.asked) == 2


def test_a_server_runs_on_a_key_of_the_engine(vault, tmp_path, monkeypatch):
    """Made, started, rotated by the settings' `vault:`; while it is down the last good keyring stays, and no longer."""
    monkeypatch.setattr(rotation, "_AGAIN_SECONDS", 0)
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    home = Home(tmp_path, reports=sales.REPORTS, rules=sales.RULES, store="http://127.0.0.1:9")
    text = home.settings.read_text().replace("file:kek", vault.spec)
    home.settings.write_text(text)
    (tmp_path / "keyring.json").unlink()

    def keys(*words: str) -> int:
        return CliRunner().invoke(main, ["keys", *words, "-c", str(home.settings)]).exit_code

    assert keys("init", "--kek-file", str(tmp_path / "kek2")) == 1
    assert keys("init") == 0
    background = Background()
    try:
        with running(home, background) as proxy:
            first = proxy.app.keys.keyring.sealing
            assert keys("rotate") == 0 and proxy.reload()
            second = proxy.app.keys.keyring.sealing
            assert second != first
            assert keys("rotate") == 0
            vault.sealed = True
            assert not proxy.reload()
            assert proxy.app.keys.keyring.sealing == second
            assert proxy.get("/-/ready").body.count(b'"keys_cause":"not-opened"') == 1
            asked = proxy.app.keys.untaken
            assert soon(lambda: proxy.app.keys.untaken.at > asked.at)  # the change itself was seen
            vault.sealed = False
            assert soon(lambda: proxy.app.keys.keyring.sealing not in (first, second))
    finally:
        background.close()
