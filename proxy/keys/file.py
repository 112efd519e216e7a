"""The keyring's file: JSON that a person may read, none of which may be altered.

    {"version": 1,
     "key": "…",
     "seals": "9c41e7b0", "names": "5f3a90c1",
     "keys": [{"id": "5f3a90c1", "created": "2026-11-23T22:58:40Z", "state": "active"}, …],
     "sealed": "…"}

`sealed` is all master keys in their order, as one AES-256-GCM-SIV ciphertext (RFC 8452) whose associated
data are all the rest of the file. Its key is drawn anew for each writing, and is in `key`, sealed by the
key-encryption key. So who seals or names, a state, an entry that is dropped, moved, or taken from an older
file: each is noticed, for the one tag is over all of them. A file that is not written, to the byte, as it
is here is not opened.

What cannot be noticed from the file alone is that a whole older one was put in its place. A running server
notices, for then a key that it holds is gone or no longer retired; one that starts, by the access log
(proxy/rotation.py).
"""

from __future__ import annotations

import base64
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from proxy import durable
from proxy.errors import KeyringError, ValueRefused
from proxy.keys.kek import Kek
from proxy.keys.primitives import KEY_BYTES, LABEL, Aead, prefixed
from proxy.keys.private import MADE_ONCE, read_private
from proxy.keys.ring import Keyring, MasterKey, State


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key as it stands in the file."""

    id: str
    created: str
    state: State


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A keyring file."""

    version: Literal[1]
    key: str
    seals: str
    names: str
    keys: tuple[_Entry, ...]
    sealed: str

    def text(self) -> bytes:
        """As it is written, and in no other way."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def bound(self) -> bytes:
        """The associated data: all of the file but what is sealed."""
        rest = msgspec.structs.replace(self, sealed="")
        return prefixed(LABEL.encode(), b"keyring", rest.text())


def read(path: Path, kek: Kek) -> Keyring:
    """The keyring of the file at `path`.

    Raises KeyringError where the file is open to others, is no keyring, was altered, or is sealed under
    another KEK.
    """
    raw = read_private(path, "keyring", hint=MADE_ONCE)
    try:
        file = msgspec.json.decode(raw, type=_File)
        if file.text() != raw:
            raise ValueRefused
        sealed = base64.b64decode(file.sealed, validate=True)
        if base64.b64encode(sealed).decode() != file.sealed:
            raise ValueRefused
    except msgspec.MsgspecError:
        raise KeyringError(f"the keyring {path} is not a keyring file") from None
    except (ValueRefused, ValueError):
        raise _altered(path) from None
    try:
        key = kek.unwrap(file.key)
    except KeyringError as exc:
        raise KeyringError(f"the keyring {path} cannot be opened: {exc}") from None
    try:
        secrets = Aead(key, "").open(sealed, file.bound())
    except (ValueRefused, ValueError):
        raise _altered(path) from None
    parts = [secrets[at : at + KEY_BYTES] for at in range(0, len(secrets), KEY_BYTES)]
    keys = [
        MasterKey(id=each.id, created=each.created, state=each.state, secret=secret)
        for each, secret in zip(file.keys, parts, strict=True)
    ]
    return Keyring(keys, sealing=file.seals, naming=file.names)


def create(path: Path, kek: Kek, keyring: Keyring | None = None) -> Keyring:
    """The keyring, or a fresh one, written to `path`: all of it or nothing, mode 0600.

    Raises KeyringError where `path` exists: a keyring that is overwritten is lost.
    """
    keyring = keyring or Keyring.generate()
    try:
        durable.write_new(path, _sealed(keyring, kek))
    except FileExistsError:
        raise KeyringError(f"the keyring {path} exists already; it is never overwritten") from None
    except OSError as exc:
        raise _unwritten(path, exc) from None
    return keyring


def edit(
    path: Path, kek: Kek, change: Callable[[Keyring], Keyring], *, under: Kek | None = None
) -> Keyring:
    """What `change` makes of the keyring at `path`, written in its place, if asked for `under` another KEK.

    One after another, whoever does it at once. Raises KeyringError, and what `change` raises; then the
    file is as it was.
    """
    with _turn(path):
        keyring = change(read(path, kek))
        content = _sealed(keyring, under or kek)
        try:
            durable.write(path, content, mode=durable.PRIVATE_FILE)
        except OSError as exc:
            raise _unwritten(path, exc) from None
    return keyring


def _sealed(keyring: Keyring, kek: Kek) -> bytes:
    key = os.urandom(KEY_BYTES)
    file = _File(
        version=1,
        key=kek.wrap(key),
        seals=keyring.sealing,
        names=keyring.naming,
        keys=tuple(
            _Entry(id=each.id, created=each.created, state=each.state) for each in keyring.keys
        ),
        sealed="",
    )
    secrets = b"".join(each.secret for each in keyring.keys)
    (sealed,) = Aead(key, "").seal([secrets], [file.bound()])
    return msgspec.structs.replace(file, sealed=base64.b64encode(sealed).decode()).text()


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Wait until nobody else edits a keyring in that folder, and keep others waiting."""
    folder = Path(os.path.realpath(path)).parent
    try:
        # The folder itself: the file is replaced, and another one for the lock would stay behind.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise KeyringError(f"the folder {folder} cannot be opened: {exc.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _altered(path: Path) -> KeyringError:
    return KeyringError(
        f"the keyring {path} was altered: it is not as it was written (put a copy of it back)"
    )


def _unwritten(path: Path, why: OSError) -> KeyringError:
    return KeyringError(f"the keyring {path} cannot be written: {why.strerror}")
