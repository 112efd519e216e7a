"""The keyring's file: it comes back whole or not at all, whatever is done to it."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.errors import KeyringError
from proxy.keys import Keyring
from proxy.keys.file import create, edit, read
from proxy.keys.kek import LocalKek
from tests.keys.rings import KEK, master, seen, three

OTHER = LocalKek(b"\xff" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring.json"


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_a_created_keyring_opens_again(path: Path) -> None:
    """A keyring comes back whole, and its file is the owner's alone."""
    assert seen(create(path, KEK)) == seen(read(path, KEK))
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    for number, keyring in enumerate([three(), Keyring([master()]), three().rotated(names=True)]):
        other = path.with_name(str(number))
        create(other, KEK, keyring)
        assert seen(read(other, KEK)) == seen(keyring)


def test_create_never_overwrites(path: Path) -> None:
    """An existing file, a dangling link too, is left as it is and nothing stays behind."""
    create(path, KEK)
    before = path.read_bytes()
    with pytest.raises(KeyringError, match="exists"):
        create(path, KEK)
    assert path.read_bytes() == before
    link = path.with_name("link")
    link.symlink_to(path.with_name("nowhere"))
    with pytest.raises(KeyringError, match="exists"):
        create(link, KEK)
    assert sorted(each.name for each in path.parent.iterdir()) == ["keyring.json", "link"]


def test_create_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """A folder that is not there is told, not made."""
    with pytest.raises(KeyringError, match="cannot be written"):
        create(tmp_path / "none" / "keyring.json", KEK)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_a_keyring_open_to_others_is_refused(path: Path, mode: int) -> None:
    """A file that its group or the world can touch is not opened."""
    create(path, KEK)
    path.chmod(mode)
    with pytest.raises(KeyringError, match="open to others"):
        read(path, KEK)


@pytest.mark.parametrize(
    ("mode", "good"), [(0o777, False), (0o707, False), (0o1777, True), (0o770, True)]
)
def test_a_folder_that_everybody_may_write_to_is_refused(path: Path, mode: int, good: bool) -> None:
    """Who may write there could put another file in the place, unless only owners may (sticky)."""
    create(path, KEK)
    path.parent.chmod(mode)
    if good:
        assert read(path, KEK).ids
    else:
        with pytest.raises(KeyringError, match="everybody may write"):
            read(path, KEK)


def test_another_kek_is_refused_without_detail(path: Path) -> None:
    """Another KEK gives one message that tells nothing of key or file."""
    create(path, KEK)
    with pytest.raises(KeyringError, match="does not open under this key") as caught:
        read(path, OTHER)
    assert caught.value.__cause__ is None


def test_no_byte_of_the_file_can_be_another(path: Path) -> None:
    """One byte changed in any way, left out or put in, anywhere: the file is not opened."""
    create(path, KEK, three())
    raw = path.read_bytes()
    assert seen(read(put(path, raw), KEK)) == seen(three())
    altered = [
        raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :]
        for at in range(len(raw))
        for flip in (0x01, 0x02, 0x20)
    ]
    altered += [raw[:at] + raw[at + 1 :] for at in range(len(raw))]
    altered += [raw[:at] + b" " + raw[at:] for at in range(len(raw) + 1)]
    for content in altered:
        with pytest.raises(KeyringError):
            read(put(path, content), KEK)


def _swap(document: dict) -> None:
    document["keys"] = document["keys"][::-1]


def _drop(document: dict) -> None:
    del document["keys"][1]


def _drop_its_secret_too(document: dict) -> None:
    del document["keys"][1]
    sealed = base64.b64decode(document["sealed"])
    document["sealed"] = base64.b64encode(sealed[:44] + sealed[76:]).decode()


def _twice(document: dict) -> None:
    document["keys"].append(document["keys"][0])


def _revive(document: dict) -> None:
    document["keys"][1]["state"] = "standby"


def _turn(document: dict) -> None:
    document["seals"], document["names"] = document["names"], document["seals"]


def _rename(document: dict) -> None:
    document["keys"][1]["id"] = "four"


def _redate(document: dict) -> None:
    document["keys"][1]["created"] = "2020-01-01T00:00:00Z"


def _unseal(document: dict) -> None:
    document["sealed"] = ""


def _unkey(document: dict) -> None:
    document["key"] = "!"


@pytest.mark.parametrize(
    "change",
    [_swap, _drop, _drop_its_secret_too, _twice, _revive, _turn, _rename, _redate, _unseal, _unkey],
)
def test_what_the_file_says_is_bound(path: Path, change: Callable[[dict], None]) -> None:
    """Entries, their order and states, who seals and names: none is another, in the file's own form."""
    create(path, KEK, three())
    document = json.loads(path.read_bytes())
    change(document)
    with pytest.raises(KeyringError):
        read(put(path, json.dumps(document, indent=2).encode() + b"\n"), KEK)


def test_nothing_of_an_older_file_fits_a_newer_one(path: Path) -> None:
    """Any one part of a file is of no use in another of the same keyring, even of the same keys."""
    create(path, KEK, three())
    older = json.loads(path.read_bytes())
    edit(path, KEK, lambda keyring: keyring)
    newer = json.loads(path.read_bytes())
    for name in ("key", "sealed"):
        assert older[name] != newer[name]
        mixed = newer | {name: older[name]}
        with pytest.raises(KeyringError, match="altered"):
            read(put(path, json.dumps(mixed, indent=2).encode() + b"\n"), KEK)
    assert seen(read(put(path, json.dumps(older, indent=2).encode() + b"\n"), KEK)) == seen(three())


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"version":2,"key":"","seals":"","names":"","keys":[],"sealed":""}',
        '{"version":1,"key":"","seals":"","names":"","keys":[],"sealed":""}',
        '{"version":1,"key":"","seals":"","names":"","keys":[],"sealed":"","more":1}',
        '{"version":1,"keys":[{"id":"a"}]}',
        '{"version":1,"keys":' + "[" * 100_000,
        "\xff",
    ],
)
def test_what_is_no_keyring_is_refused(path: Path, content: str) -> None:
    """A file of another form is a KeyringError, whatever is in it."""
    with pytest.raises(KeyringError):
        read(put(path, content.encode("latin-1")), KEK)


def test_special_files_are_refused(tmp_path: Path) -> None:
    """A folder, a FIFO, a file that is missing or too large: an error at once, never a wait."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    large = put(tmp_path / "large", b" " * (1 << 20) + b"x")
    for wrong in (tmp_path, fifo, large, tmp_path / "missing"):
        with pytest.raises(KeyringError):
            read(wrong, KEK)


def test_two_admins_at_once_lose_nothing(path: Path) -> None:
    """However many edit the file at once, each change is in it, one after the other."""
    create(path, KEK)

    def rotate() -> None:
        for _ in range(5):
            edit(path, KEK, lambda keyring: keyring.rotated())

    admins = [threading.Thread(target=rotate) for _ in range(6)]
    for admin in admins:
        admin.start()
    for admin in admins:
        admin.join()
    assert len(read(path, KEK).ids) == 31
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_refused_edit_leaves_the_file(path: Path) -> None:
    """What a change raises is raised, and not a byte is another."""
    create(path, KEK, three())
    before = path.read_bytes()
    with pytest.raises(KeyringError, match="retired"):
        edit(path, KEK, lambda keyring: keyring.retired("two"))
    with pytest.raises(KeyringError, match="open under this key"):
        edit(path, OTHER, lambda keyring: keyring.rotated())
    assert path.read_bytes() == before


def test_an_edit_through_a_link_keeps_the_link(path: Path) -> None:
    """A link to the file, which a deployment may have made, stays one."""
    create(path, KEK)
    link = path.with_name("link")
    link.symlink_to(path)
    made = edit(link, KEK, lambda keyring: keyring.rotated())
    assert link.is_symlink()
    assert seen(read(path, KEK)) == seen(made)


def test_a_rewrapped_keyring_is_the_same_under_another_kek(path: Path) -> None:
    """The same keys, opened by the new KEK and no longer by the old one."""
    create(path, KEK, three())
    edit(path, KEK, lambda keyring: keyring, under=OTHER)
    assert seen(read(path, OTHER)) == seen(three())
    with pytest.raises(KeyringError, match="open under this key"):
        read(path, KEK)


def test_no_key_is_in_the_file_or_its_errors(path: Path) -> None:
    """Neither the file nor what is said of it holds a master key, in any of the usual forms."""
    secret = b"canary-of-a-master-key-000000000"
    create(path, KEK, Keyring([master(secret=secret)]))
    raw = path.read_bytes()
    said = [raw.decode()]
    for content in (raw, raw[:-2], raw.replace(b"k1", b"k2")):
        with pytest.raises(KeyringError) as caught:
            read(put(path, content), OTHER)
        said.append(repr(caught.value))
    forms = (secret.decode(), secret.hex(), base64.b64encode(secret).decode()[:40])
    assert not [form for form in forms for text in said if form in text]
