"""The key-encryption key (KEK): where it comes from, and what it is asked for.

It seals one thing, the key of a keyring file (file.py). So it may as well be somewhere else:

    env:NAME        32 bytes in an environment variable, as base64 or hex
    file:PATH       … in a file of mode 0600
    credential:NAME … in a credential that systemd hands over (systemd.exec(5), LoadCredential=)
    vault:URL       a key of a Vault's or OpenBao's transit engine, which never leaves it (transit.py)
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from proxy.errors import KeyringError, ValueRefused
from proxy.keys.primitives import KEY_BYTES, LABEL, Aead, Unpicklable, hkdf, prefixed
from proxy.keys.private import MADE_ONCE, read_private
from proxy.keys.transit import TransitKek

_HEX: Final = re.compile(r"[0-9a-fA-F]{64}\Z")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_BOUND: Final = prefixed(LABEL.encode(), b"keyring-file")


class Kek(Protocol):
    """What seals the key of a keyring file."""

    def wrap(self, key: bytes) -> str:
        """The key, sealed, as a text of one line; raises KeyringError."""

    def unwrap(self, wrapped: str) -> bytes:
        """The key; raises KeyringError where the text was altered, or sealed by another KEK."""


class LocalKek(Unpicklable):
    """32 bytes in memory: AES-256-GCM-SIV under a key derived from them; as base64."""

    __slots__ = ("_aead",)

    def __init__(self, secret: bytes) -> None:
        """Raises KeyringError unless it is 32 bytes."""
        if len(secret) != KEY_BYTES:
            raise KeyringError("a key-encryption key is 32 bytes")
        self._aead = Aead(hkdf(secret, salt=b"", info=_BOUND, length=KEY_BYTES), "")

    def wrap(self, key: bytes) -> str:
        """The key, sealed."""
        (sealed,) = self._aead.seal([key], [_BOUND])
        return base64.b64encode(sealed).decode()

    def unwrap(self, wrapped: str) -> bytes:
        """The key; raises KeyringError."""
        try:
            return self._aead.open(base64.b64decode(wrapped, validate=True), _BOUND)
        except (ValueRefused, ValueError):
            raise KeyringError("it does not open under this key-encryption key") from None


def kek_of(spec: str, environment: Mapping[str, str]) -> Kek:
    """The KEK that `env:NAME`, `file:PATH`, `credential:NAME` or `vault:URL` names.

    Raises KeyringError; its text names the place, never what stands there.
    """
    kind, _, place = spec.partition(":")
    match kind:
        case "env" if place:
            written = environment.get(place)
            if written is None:
                raise KeyringError(
                    f"the environment variable {place} is not set: it holds the key-encryption key"
                )
        case "file" if place:
            raw = read_private(Path(place), "key file", hint=MADE_ONCE + ", with --kek-file")
            written = raw.decode("ascii", "replace")
        case "credential" if _NAME.match(place):
            folder = environment.get("CREDENTIALS_DIRECTORY")
            if not folder:
                raise KeyringError(
                    f"no credential {place} was handed over: CREDENTIALS_DIRECTORY is not set"
                    " (systemd sets it for a unit with LoadCredential=)"
                )
            # In a folder of this unit's own; what more than its owner may read it is the unit's user.
            raw = read_private(Path(folder) / place, "credential", group=True)
            written = raw.decode("ascii", "replace")
        case "vault":
            return TransitKek(place, environment)
        case _:  # it may be a key itself: not repeated
            raise KeyringError(
                "a key-encryption key is named as `env:NAME`, `file:PATH`,"
                " `credential:NAME` or `vault:URL`"
            )
    return LocalKek(_bytes(written.strip(), spec))


def _bytes(written: str, spec: str) -> bytes:
    if _HEX.match(written):
        return bytes.fromhex(written)
    try:
        key = base64.b64decode(written.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyringError(f"{spec} does not hold 32 bytes as base64 or hex")
    return key
