"""`counterfoil keys …`: what each verb leaves, what it refuses, and that none shows a key."""

from __future__ import annotations

import base64
import json
import os

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.keys import Keyring
from proxy.keys import file as keyring_file
from proxy.keys.kek import kek_of

SETTINGS = (
    'policies: policies\nlog: access.db\nkeyring: {file: keyring.json, key_encryption_key: "%s"}\n'
)


class Home:
    """A folder with settings, and all that the verbs have printed in it."""

    def __init__(self, folder):
        self.folder = folder
        self.settings = folder / "counterfoil.yaml"
        self.file = folder / "keyring.json"
        self.printed = ""
        self.name("file:kek")

    def name(self, spec):
        self.settings.write_text(SETTINGS % spec)

    def run(self, verb, *words, answer="", **environment):
        asked = ["keys", verb, "-c", str(self.settings), *words]
        result = CliRunner().invoke(
            main, asked, input=answer, env=environment, catch_exceptions=False
        )
        self.printed += result.output
        return result.exit_code, result.output

    def init(self):
        assert self.run("init", "--kek-file", str(self.folder / "kek"))[0] == 0
        return self

    def ring(self, spec="", environment=os.environ) -> Keyring:
        return keyring_file.read(
            self.file, kek_of(spec or f"file:{self.folder / 'kek'}", environment)
        )

    def listed(self):
        status, output = self.run("list", "--json")
        return status, json.loads(output)


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    yield home
    kek = tmp_path / "kek"
    secrets = [kek.read_text().strip()] if kek.exists() else []
    if kek.exists() and home.file.exists():
        for key in home.ring().keys:
            secrets += [key.secret.hex(), base64.b64encode(key.secret).decode()[:42]]
    assert not [secret for secret in secrets if secret in home.printed], "a key was printed"


def test_init_makes_a_keyring_and_its_key(home):
    """Both files are there, the owner's alone, and the settings open the one with the other."""
    status, output = home.run("init", "--kek-file", str(home.folder / "kek"))
    (key,) = home.ring().keys
    assert status == 0 and output.startswith(f"{key.id}  seals and names")
    for name in ("kek", "keyring.json"):
        assert (home.folder / name).stat().st_mode & 0o777 == 0o600


def test_init_overwrites_nothing(home):
    """A keyring that is there stays, and no key is made beside it; a key that is there is taken."""
    home.init()
    before = {path.name: path.read_bytes() for path in home.folder.iterdir()}
    status, output = home.run("init", "--kek-file", str(home.folder / "kek"))
    assert status == 1 and "exists already" in output and output.count("\n") == 1
    home.name("file:other")
    assert home.run("init", "--kek-file", str(home.folder / "other"))[0] == 1
    home.name("file:kek")
    assert {path.name: path.read_bytes() for path in home.folder.iterdir()} == before
    home.file.unlink()
    home.init()
    assert (home.folder / "kek").read_bytes() == before["kek"]
    assert home.ring().ids


def test_init_makes_no_key_that_the_settings_do_not_name(home):
    """Another file, or an environment variable that is set: refused before anything is made."""
    status, output = home.run("init", "--kek-file", str(home.folder / "other"))
    assert status == 1 and "the settings take" in output
    home.name("env:THE_KEK")
    status, output = home.run("init", "--kek-file", str(home.folder / "kek"), THE_KEK="00" * 32)
    assert status == 1 and "leave out --kek-file" in output and "00" * 32 not in output
    status, output = home.run("init")
    assert status == 1 and "THE_KEK is not set" in output
    assert [path.name for path in home.folder.iterdir()] == ["counterfoil.yaml"]


def test_init_says_how_a_key_gets_into_the_environment(home):
    """Where the settings name a variable that is not set, the command that sets it is printed."""
    home.name("env:THE_KEK")
    status, output = home.run("init", "--kek-file", str(home.folder / "kek"))
    assert status == 0 and f'export THE_KEK="$(cat {home.folder / "kek"})"' in output
    assert home.run("list", THE_KEK=(home.folder / "kek").read_text())[0] == 0


def test_rotate_has_a_new_key_seal(home):
    """The new key seals, the one before still names; again, and the one between is on standby."""
    (first,) = home.init().ring().ids
    assert home.run("rotate")[0] == 0
    second = home.ring().sealing
    assert home.ring().naming == first != second
    assert home.run("rotate")[0] == 0
    third = home.ring().sealing
    assert [
        (key["id"], key["state"], key["seals"], key["names"]) for key in home.listed()[1]["keys"]
    ] == [
        (first, "active", False, True),
        (second, "standby", False, False),
        (third, "active", True, False),
    ]
    assert home.run("rotate", "--to", second)[0] == 0
    assert (home.ring().sealing, home.ring().naming) == (second, first)


def test_rotate_names_asks_first(home):
    """What becomes of pseudonyms is said, and nothing is done unless it is answered with yes."""
    (first,) = home.init().ring().ids
    before = home.file.read_bytes()
    for answer in ("n\n", ""):
        status, output = home.run("rotate", "--names", answer=answer)
        assert status == 1 and home.file.read_bytes() == before
        for word in ("pseudonyms", "tokens", "ETag", "opaque ids"):
            assert word in output
    assert home.run("rotate", "--names", answer="y\n")[0] == 0
    second = home.ring().naming
    assert home.ring().sealing == second != first
    status, output = home.run("rotate", "--names", "--to", first, "--yes")
    assert status == 0 and "pseudonyms" not in output
    assert home.ring().sealing == home.ring().naming == first


def test_a_retired_key_stays_so(home):
    """A key on standby is retired; what is active, what is retired and what is not there is refused."""
    (first,) = home.init().ring().ids
    assert home.run("rotate", "--names", "--yes")[0] == 0
    assert home.run("retire", first)[0] == 0
    before = home.file.read_bytes()
    for words, why in (
        (("retire", first), "is retired already"),
        (("rotate", "--to", first), "never active again"),
        (("retire", home.ring().sealing), "rotate --names"),
        (("retire", "canary" * 9), "no such key"),
    ):
        status, output = home.run(*words)
        assert status == 1 and output.startswith("counterfoil: ") and why in output
        assert output.count("\n") == 1 and "canary" not in output
    assert home.file.read_bytes() == before


def test_rewrap_puts_the_same_keys_under_another_key(home):
    """The keys are those of before; the settings' key opens them no more, the new one does."""
    home.init()
    home.run("rotate")
    before = home.ring()
    new = home.folder / "new"
    new.write_text("11" * 32)
    new.chmod(0o600)
    status, output = home.run("rewrap", "--new-kek", "file:new")
    assert status == 0 and "`key_encryption_key: file:new`" in output
    assert home.run("list")[0] == 1
    home.name("file:new")
    assert home.listed()[0] == 0
    after = home.ring(f"file:{new}")
    assert after.lost(before) == before.lost(after) == ()
    assert home.run("rewrap", "--new-kek", "env:OLD", OLD=(home.folder / "kek").read_text())[0] == 0
    home.name("file:kek")
    assert home.listed()[0] == 0


@pytest.mark.parametrize("spec", ["file:nowhere", "env:NO_SUCH_VARIABLE", "aa" * 32])
def test_rewrap_needs_a_key_that_is_there(home, spec):
    """Nothing is changed where the new key is none, and what may be a key itself is not repeated."""
    before = home.init().file.read_bytes()
    status, output = home.run("rewrap", "--new-kek", spec)
    assert status == 1 and home.file.read_bytes() == before
    assert "aa" * 32 not in output


def test_list_shows_no_more_than_it_says(home):
    """Ids, dates, states and what each does, for people and for programs."""
    home.init()
    home.run("rotate")
    status, output = home.run("list")
    lines = [line.split() for line in output.splitlines()]
    keys = home.ring().keys
    assert status == 0 and lines == [
        ["id", "created", "state"],
        [keys[0].id, keys[0].created, "active", "names"],
        [keys[1].id, keys[1].created, "active", "seals"],
    ]
    status, told = home.listed()
    assert status == 0 and told.keys() == {"keys", "in_force", "refused", "stale"}
    assert all(key.keys() == {"id", "created", "state", "seals", "names"} for key in told["keys"])


def test_without_settings_or_keyring_it_is_said(home):
    """No traceback: one line that says what there is not, and status 1."""
    for verb, *words in (
        ("list",),
        ("rotate",),
        ("retire", "x"),
        ("rewrap", "--new-kek", "file:x"),
    ):
        status, output = home.run(verb, *words)
        assert status == 1 and output.startswith("counterfoil: ") and output.count("\n") == 1
        assert "keys init" in output
