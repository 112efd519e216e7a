"""What opens the proxy's own doors is told to nobody whom policies name: no store, and no identity provider."""

from __future__ import annotations

import contextlib

import pytest

from proxy import config
from proxy.errors import Faulty
from tests.harness import sales
from tests.harness.background import Background
from tests.harness.proxy import SUBJECTS, Home, running

OWN = {
    "keyring": "keyring: {file: k.json, key_encryption_key: 'SOURCE'}",
    "metrics": "metrics: {port: 0, token: 'SOURCE'}",
    "alarms-token": "alarms: {webhook: 'https://x.example', token: 'SOURCE'}",
    "alarms-secret": "alarms: {webhook: 'https://x.example', secret: 'SOURCE'}",
    "budgets": "budgets: {valkey: 'valkeys://x.example/0', password: 'SOURCE'}",
    "database": "database: {url: 'postgresql://me@x.example/log', password: 'SOURCE'}",
    "retain": "retain: [{url: 'https://x.example', token: 'SOURCE'}]",
    "traces": "traces: {endpoint: 'https://x.example', token: 'SOURCE'}",
}
"""Each of the proxy's own secrets, as the settings name it."""


def settings(folder, line: str, source: str) -> config.Config:
    file = folder / "counterfoil.yaml"
    keyring = "" if line.startswith("keyring") else OWN["keyring"].replace("SOURCE", "env:KEK")
    file.write_text(
        f"policies: p\nlog: a.db\n{keyring}\n{line.replace('SOURCE', source)}\n"
    )  # fmt: skip
    return config.load(file, {"OWN": "a", "KEK": "b", "OTHER": "c"})


@pytest.mark.parametrize("line", OWN.values(), ids=list(OWN))
def test_policies_are_lent_no_secret_of_the_proxy_s_own(tmp_path, line):
    """Its variable is not there for them, and its file is closed."""
    assert settings(tmp_path, line, "env:OWN").lent == {"OTHER": "c"} | (
        {"KEK": "b"} if line.startswith("keyring") else {}
    )
    found = settings(tmp_path, line, "file:x/../own")
    assert found.closed >= {(tmp_path / "own").resolve()} and "OWN" in found.lent


def test_a_credential_that_was_handed_over_is_closed_too(tmp_path):
    """Systemd puts it into a file of the proxy's own."""
    file = tmp_path / "counterfoil.yaml"
    keyring = OWN["keyring"].replace("SOURCE", "credential:kek")
    file.write_text(f"policies: p\nlog: a.db\n{keyring}\n")
    made = config.load(file, {"CREDENTIALS_DIRECTORY": str(tmp_path / "handed")})
    assert tmp_path.resolve() / "handed/kek" in made.closed


@pytest.mark.parametrize("place", ["../kek", "../x/../kek", "link"])
def test_introspection_is_sent_no_secret_of_the_proxy_s_own(tmp_path, place):
    """The policies are refused, with the place and without a byte of the file."""
    with contextlib.closing(Background()) as background:
        home = Home(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, store="http://x")
        (home.policies / "link").symlink_to(home.folder / "kek")
        asked = f"introspection: {{client: c, secret: 'file:{place}', url: 'https://i.example/i'}}"
        text = SUBJECTS.format(issuer=home.issuer.name)
        home.write("subjects.yaml", text.replace('prefix: ""', f'prefix: ""\n    {asked}'))
        refused = pytest.raises(Faulty, match="the proxy's own doors")
        with refused as caught, running(home, background):
            pass
    (fault,) = map(str, caught.value.faults)
    assert fault.startswith("subjects.yaml:4:") and (home.folder / "kek").read_text() not in fault
