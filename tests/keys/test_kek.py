"""The key-encryption key: where it comes from, and that it opens what it sealed and nothing else."""

from __future__ import annotations

import base64
import os
import pickle
from pathlib import Path

import pytest

from proxy.errors import KeyringError
from proxy.keys.kek import Kek, LocalKek, kek_of

KEK = bytes(range(32))


def opens(kek: Kek, secret: bytes) -> bool:
    """Whether the KEK is that one."""
    key = os.urandom(32)
    return kek.unwrap(LocalKek(secret).wrap(key)) == key


@pytest.mark.parametrize(
    "written",
    [
        KEK.hex(),
        KEK.hex().upper(),
        base64.b64encode(KEK).decode(),
        base64.urlsafe_b64encode(KEK).decode(),
        f"  {KEK.hex()}\n",
    ],
)
def test_kek_is_read_as_hex_or_base64(tmp_path: Path, written: str) -> None:
    """32 bytes as hex or base64, from the environment or a private file."""
    assert opens(kek_of("env:KEK", {"KEK": written}), KEK)
    file = tmp_path / "kek"
    file.write_text(written)
    file.chmod(0o600)
    assert opens(kek_of(f"file:{file}", {}), KEK)


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600])
def test_kek_is_a_credential_that_systemd_hands_over(tmp_path: Path, mode: int) -> None:
    """By its name in the unit's own folder, with the mode that an access list gives it."""
    tmp_path.chmod(0o700)
    file = tmp_path / "kek"
    file.write_text(KEK.hex())
    file.chmod(mode)
    assert opens(kek_of("credential:kek", {"CREDENTIALS_DIRECTORY": str(tmp_path)}), KEK)


@pytest.mark.parametrize("mode", [0o404, 0o460, 0o444])
def test_kek_is_no_credential_that_others_may_touch(tmp_path: Path, mode: int) -> None:
    """Nor one of a name that leads elsewhere, nor one that nobody handed over."""
    file = tmp_path / "kek"
    file.write_text(KEK.hex())
    file.chmod(mode)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    with pytest.raises(KeyringError, match="open to others"):
        kek_of("credential:kek", environment)
    for name in ("../kek", "", ".", "..", str(file)):
        with pytest.raises(KeyringError, match="is named as"):
            kek_of(f"credential:{name}", environment)
    with pytest.raises(KeyringError, match="CREDENTIALS_DIRECTORY is not set"):
        kek_of("credential:kek", {})


def test_kek_base64_of_either_alphabet() -> None:
    """Standard and URL-safe base64 are both read, with every character of their alphabets."""
    key = bytes([0xFB, 0xEF, 0xBE] * 10 + [0xFF, 0xFF])
    for written in (base64.b64encode(key), base64.urlsafe_b64encode(key)):
        assert opens(kek_of("env:K", {"K": written.decode()}), key)


@pytest.mark.parametrize(
    ("spec", "environment"),
    [
        ("env:KEK", {}),
        ("env:KEK", {"KEK": ""}),
        ("env:KEK", {"KEK": "canary"}),
        ("env:KEK", {"KEK": "canarycanary" * 4}),
        ("env:KEK", {"KEK": KEK.hex()[:-2]}),
        ("env:KEK", {"KEK": "\u00e9" * 64}),
        ("env:", {"": KEK.hex()}),
        ("file:", {}),
        ("file:/nonexistent/kek", {}),
        (KEK.hex(), {}),
        ("", {}),
    ],
)
def test_wrong_kek_is_refused_untold(spec: str, environment: dict[str, str]) -> None:
    """What is no KEK is refused by the name of its place, never by what stands there."""
    with pytest.raises(KeyringError) as caught:
        kek_of(spec, environment)
    text = str(caught.value)
    assert "canary" not in text
    assert KEK.hex() not in text


def test_kek_file_open_to_others_is_refused(tmp_path: Path) -> None:
    """A key file that others can read is refused."""
    file = tmp_path / "kek"
    file.write_text(KEK.hex())
    file.chmod(0o644)
    with pytest.raises(KeyringError, match="open to others"):
        kek_of(f"file:{file}", {})


def test_a_wrapped_key_opens_under_its_kek_alone() -> None:
    """What is wrapped comes back; one character of it, or the KEK, another: refused, and nothing shown."""
    kek, key = LocalKek(KEK), b"canary-of-the-key-of-the-file-00"
    wrapped = kek.wrap(key)
    assert kek.unwrap(wrapped) == key
    assert kek.wrap(key) != wrapped
    altered = [wrapped[:at] + "é" + wrapped[at + 1 :] for at in range(len(wrapped))]
    altered += [
        wrapped[:at] + ("A" if wrapped[at] != "A" else "B") + wrapped[at + 1 :] for at in range(80)
    ]
    for wrong in (*altered, "", wrapped[:-4]):
        with pytest.raises(KeyringError):
            kek.unwrap(wrong)
    with pytest.raises(KeyringError):
        LocalKek(b"\x01" * 32).unwrap(wrapped)
    with pytest.raises(KeyringError, match="32 bytes"):
        LocalKek(b"short")
    assert "canary" not in wrapped + repr(kek)
    with pytest.raises(TypeError, match="keys"):
        pickle.dumps(kek)
