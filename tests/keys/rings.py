"""Keyrings for tests, of keys that are known."""

from __future__ import annotations

from proxy.keys import Keyring, MasterKey
from proxy.keys.kek import LocalKek

SECRET = bytes(range(32))
KEK = LocalKek(SECRET)


def master(id_: str = "k1", *, state: str = "active", secret: bytes = b"\x07" * 32) -> MasterKey:
    return MasterKey(id=id_, created="2026-11-23T22:58:40Z", state=state, secret=secret)


def three() -> Keyring:
    """A key that names, one that is retired, and one that seals."""
    return Keyring(
        [
            master("one", secret=b"\x01" * 32),
            master("two", state="retired", secret=b"\x02" * 32),
            master("three", secret=b"\x03" * 32),
        ],
        sealing="three",
        naming="one",
    )


def seen(keyring: Keyring) -> tuple[object, ...]:
    """All that a keyring is, as far as it can be seen."""
    derived = [keyring.derive("p", key_id=key.id) for key in keyring.keys]
    keys = [(key.id, key.created, key.state) for key in keyring.keys]
    return keys, derived, keyring.sealing, keyring.naming
