"""The evidence bundle proves itself by the commands of its own README, with nothing of the program that wrote it."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.audit.checkpoint import VerifierKey
from proxy.exposure import checker
from tests.exposure.shop import CANARY, open_shop

QUESTION = ("--where", f"shop == 'S2' or code == '{CANARY}-1'", "--fields", "net")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    with open_shop(tmp_path_factory.mktemp("shop") / "home", many=2000) as at:
        _published(at)
        yield at


def _published(shop):
    """Wait until a checkpoint covers all."""
    log = shop.proxy.app.policy._log
    for _ in range(400):
        if not log.unpublished:
            return
        time.sleep(0.02)
    raise AssertionError("never published")


@pytest.fixture(scope="module")
def bundle(shop, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "out.zip"
    shop.log("exposure", *QUESTION, "--bundle", path)
    return path


@pytest.fixture
def folder(bundle, tmp_path):
    with zipfile.ZipFile(bundle) as packed:
        packed.extractall(tmp_path)
    return tmp_path


def check(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As somebody runs it who has no Counterfoil: Python alone, without what is installed beside it."""
    command = [sys.executable, "-I", "-S", "check.py", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_commands_of_the_readme_are_all_that_is_needed(shop, folder):
    """Each of them, as it stands there."""
    text = (folder / "README.md").read_text()
    commands = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(commands) == 3
    script = "set -e\n" + "".join(commands) + "cat rows.csv; (cd attachments; sha256sum *)\n"
    ran = subprocess.run(
        ["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    found = [a for a, (_, rows, _) in shop.asked.items() if rows]
    assert ran.stdout.count("PROVED: ") == 2
    assert ran.stdout.count(f"PROVED: {len(found)} accesses") == 2
    for access, (_, rows, surely) in shop.asked.items():
        known = 0 if surely == "possible" else len(rows)
        if rows:
            assert f"{access} records: " in ran.stdout
            assert f" rows on record: {len(rows)}  in evidence: {known}\n" in ran.stdout
    for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", ran.stdout, re.MULTILINE):
        assert digest == name
    first = min(found)
    rows = list(csv.reader(io.StringIO((folder / "rows.csv").read_text())))
    assert rows[0] == ["day", "shop", "code", "city", "given"]
    assert len(rows) - 1 == len(shop.asked[first][1])


def test_every_file_is_held_to_its_proof(folder):
    """Whatever byte of a record, a proof, an attachment or the registry is another, the check says so."""
    names = sorted(
        p for p in folder.rglob("*") if p.parent.name in ("records", "attachments", "registry")
    )
    assert {p.suffix for p in names} == {".json", ".tlog-proof", ""}
    by_kind = {(p.parent.name, p.suffix): p for p in names}
    assert len(by_kind) == 5
    for path in by_kind.values():
        whole = path.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 3):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            ran = check(folder)
            assert ran.returncode != 0 and "PROVED: " not in ran.stdout, (path, at)
        path.unlink()
        assert check(folder).returncode != 0
        path.write_bytes(whole)
    assert check(folder).returncode == 0


def test_what_is_malformed_is_said_and_not_shown_as_a_fault_of_the_check(folder):
    """Whatever stands in the place of a file, or beside it, the check says that nothing is proved, in one line."""
    names = ["exposure.csv", "registry/checkpoint", "registry/0.json", "keys/registry.vkey"]
    names += [
        str(next((folder / "records").glob(each)).relative_to(folder)) for each in ("*f", "*n")
    ]
    for name in names:
        path = folder / name
        whole = path.read_bytes()
        for content in (b"", b"\xff" * 9, b"[" * 100_000, None):
            path.unlink()
            if content is None:
                path.mkdir()
            else:
                path.write_bytes(content)
            assert_not_proved(check(folder), name)
        path.rmdir()
        assert_not_proved(check(folder), name)
        path.write_bytes(whole)
    for name in ("zz.json", "a-b.json"):
        (folder / "records" / name).write_text("{}")
        assert_not_proved(check(folder), name)
        (folder / "records" / name).unlink()
    for key in ("x", "a+b+c", "a+00+AA=", "\u00e9"):
        assert_not_proved(check(folder, "--vkey", key), key)
    assert check(folder).returncode == 0


def assert_not_proved(ran: subprocess.CompletedProcess[str], what: str) -> None:
    assert ran.returncode == 1 and "PROVED: " not in ran.stdout, what
    assert ran.stderr.startswith("NOT PROVED: ") and ran.stderr.count("\n") == 1, ran.stderr


def test_another_key_proves_nothing(folder):
    """The key that was kept is taken, not the bundle's own."""
    name = (folder / "keys/registry.vkey").read_text().split("+")[0]
    public = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    ran = check(folder, "--vkey", str(VerifierKey(name=name, public=public)))
    assert ran.returncode == 1 and "NOT PROVED" in ran.stderr


def test_the_same_question_gives_the_same_bytes(shop, bundle, tmp_path):
    """As long as the log says no more than it did; of a copy, to ask is not on record."""
    shutil.copytree(shop.proxy.home.folder, tmp_path / "copy")
    made = [tmp_path / name for name in ("one.zip", "again.zip")]
    for path in made:
        shop.log("exposure", *QUESTION, "--bundle", path, "--log", tmp_path / "copy" / "access.db")
    assert made[0].read_bytes() == made[1].read_bytes()
    assert made[0].stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(bundle) as before, zipfile.ZipFile(made[0]) as now:
        for name in before.namelist():
            if name.endswith((".json", "exposure.csv")):
                assert now.read(name) == before.read(name)


def test_no_confidential_value_is_in_it_but_what_was_asked(folder):
    """The question is repeated, and nothing else tells of what the report hides."""
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_bytes().replace(f"{CANARY}-1".encode(), b"")
            assert b"canary" not in text, path


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_says_who_and_what_it_does_not_show(shop, folder):
    """In words; of one file that fetches nothing; well-formed."""
    text = (folder / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert not {name for name, _ in page.attributes} & {"src", "href", "onclick"}
    assert "script" not in text and "url(" not in text
    for word in (
        "user:alice",
        "user:mike",
        "confirmed",
        "round(100)",
        "What this does not show",
        "2 subjects were given such rows",
        "shop/days",
    ):
        assert word in page.text, word  # fmt: skip
    table = list(csv.DictReader(io.StringIO((folder / "exposure.csv").read_text())))
    assert {one["access"] for one in table} == {p.stem[:32] for p in (folder / "records").iterdir()}


def _piece(*columns: tuple[str, str]) -> bytes:
    """The evidence of a row of which these fields are kept, as the layout has it."""
    head = json.dumps({
        "rows": 1, "key": "k", "width": 0, "forms": [{"clear": ["=net"]}],
        "columns": [{"field": f, "type": "text", "width": 0, "values": [v]} for f, v in columns],
    }).encode()  # fmt: skip
    piece = b"\0" + len(head).to_bytes(4, "big") + head
    return len(piece).to_bytes(4, "big") + piece


def test_rows_of_which_other_fields_are_kept(tmp_path, monkeypatch, capsys):
    """Each value stands below its field's name, and none is a formula."""
    evidence = _piece(("shop", "=S1"), ("day", "=D1"))
    evidence += _piece(("day", "=D2")) + _piece(("day", "=\n=1+1"), ("=x", "=\uff1d1"))
    record = {"access": "aa", "evidence": [base64.b64encode(evidence).decode()]}
    (tmp_path / "records").mkdir()
    (tmp_path / "records/aa-0.json").write_text(json.dumps(record))
    monkeypatch.chdir(tmp_path)
    checker.print_rows("aa")
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [
        ["shop", "day", "'=x", "given"],
        ["S1", "D1", "", "'=net clear"],
        ["", "D2", "", "'=net clear"],
        ["", "'\n=1+1", "'\uff1d1", "'=net clear"],
    ]


def test_a_table_of_very_many_fields_is_read(tmp_path, monkeypatch):
    (tmp_path / "exposure.csv").write_text(f"access,fields\r\naa,{'x' * 200_000}\r\n")
    monkeypatch.chdir(tmp_path)
    assert checker.told() == {"aa"}


# ── Ed25519 of the checker ──

RFC_8032 = [
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "-",
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "72",
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    "af82",
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
]
"""RFC 8032 §7.1: public key, message, signature."""


@pytest.mark.parametrize(
    ("public", "message", "signature"),
    [*zip(RFC_8032[::3], RFC_8032[1::3], RFC_8032[2::3], strict=True)],
)
def test_published_signatures_are_taken(public, message, signature):
    """And none with another bit anywhere."""
    parts = [bytes.fromhex(each) for each in (public, signature, message.strip("-"))]
    assert checker.is_signature(*parts)
    for place, part in enumerate(parts):
        for at in range(0, len(part), 7):
            other = list(parts)
            other[place] = part[:at] + bytes([part[at] ^ 1]) + part[at + 1 :]
            assert not checker.is_signature(*other)


@settings(max_examples=15)
@given(
    st.binary(max_size=80), st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64)
)
def test_signatures_of_others_are_taken(message, secret, noise):
    """Whatever OpenSSL signs; never noise, nor a scalar beyond the group's order."""
    key = Ed25519PrivateKey.from_private_bytes(secret)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    assert checker.is_signature(public, signature, message)
    assert not checker.is_signature(public, noise, message)
    s = int.from_bytes(signature[32:], "little") + checker.ORDER
    assert not checker.is_signature(public, signature[:32] + s.to_bytes(32, "little"), message)
