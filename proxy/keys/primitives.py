"""The primitives that keys are used with: HKDF, HMAC, AES-256-GCM-SIV and Ed25519.

AES-GCM-SIV (RFC 8452) rather than AES-GCM: one key may seal more than 2**32 cells with random nonces,
and a repeated nonce would tell no more than that two plaintexts with equal associated data are equal.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from operator import add
from typing import Final, NoReturn

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy.errors import ValueRefused

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
LABEL: Final = "counterfoil/v1"
"""Begins whatever keys are derived for, or bound to."""


def prefixed(*parts: bytes) -> bytes:
    """The parts as one byte string that tells them apart: each behind its length (32 bits)."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def text_bytes(text: str) -> bytes:
    """UTF-8; a lone surrogate, which no valid document holds, is encoded too, not raised on."""
    return text.encode("utf-8", "surrogatepass")


class Unpicklable:
    """Secrets stay in the process that opened them."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} holds keys and is not pickled or copied")


RunningMac = HMAC
"""A MAC of data that comes in parts: `update(part)`…, then once `finalize()`."""


class Mac(Unpicklable):
    """HMAC-SHA-256 under one key; the key schedule is done once."""

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        self._keyed = HMAC(key, SHA256())

    def digest(self, data: bytes) -> bytes:
        """The 32 bytes of the MAC over `data`."""
        running = self._keyed.copy()
        running.update(data)
        return running.finalize()

    def hexdigest(self, data: bytes) -> str:
        """The MAC over `data` as 64 hex digits."""
        return self.digest(data).hex()

    def start(self) -> RunningMac:
        """One that has seen no data yet."""
        return self._keyed.copy()


class Aead(Unpicklable):
    """AES-256-GCM-SIV under one derived key; sealed = nonce (12) ‖ ciphertext ‖ tag (16)."""

    __slots__ = ("_cipher", "key_id")

    def __init__(self, key: bytes, key_id: str) -> None:
        self.key_id = key_id
        self._cipher = AESGCMSIV(key)

    def seal(self, plaintexts: Sequence[bytes], associated: Sequence[bytes]) -> list[bytes]:
        """Seal each plaintext with its associated data.

        The nonces come from one draw of the system's random source.
        """
        if len(plaintexts) != len(associated):
            raise ValueError("each plaintext has its associated data")
        drawn = os.urandom(NONCE_BYTES * len(plaintexts))
        nonces = [drawn[at : at + NONCE_BYTES] for at in range(0, len(drawn), NONCE_BYTES)]
        sealed = map(self._cipher.encrypt, nonces, plaintexts, associated)
        return list(map(add, nonces, sealed))

    def seal_alike(
        self, plaintexts: Sequence[bytes], associated: Sequence[bytes], nonces: Mac
    ) -> list[bytes]:
        """The same with nonces that `nonces` makes of plaintext and associated data.

        Equal ones are sealed alike; of others the nonces differ, as with drawn ones.
        """
        drawn = [
            nonces.digest(prefixed(bound, plaintext))[:NONCE_BYTES]
            for plaintext, bound in zip(plaintexts, associated, strict=True)
        ]
        return list(map(add, drawn, map(self._cipher.encrypt, drawn, plaintexts, associated)))

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """The plaintext; raises ValueRefused where one bit of either, or the key, is another."""
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise ValueRefused("the sealed value is cut short")
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
        except InvalidTag:
            raise ValueRefused("the sealed value was altered or moved") from None


class Signer(Unpicklable):
    """Ed25519 (RFC 8032) under one derived key."""

    __slots__ = ("_key", "key_id", "public")

    def __init__(self, key: bytes, key_id: str) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("an Ed25519 key is made of 32 bytes")
        self.key_id = key_id
        self._key = Ed25519PrivateKey.from_private_bytes(key)
        self.public: bytes = self._key.public_key().public_bytes_raw()
        """The 32 bytes with which everybody verifies."""

    @staticmethod
    def draw() -> bytes:
        """A fresh secret to make one of."""
        return os.urandom(KEY_BYTES)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the signature."""
        return self._key.sign(message)


def is_signature(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a public key's holder has signed the message (Ed25519, RFC 8032 §5.1.7)."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def hkdf(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA-256, extract and expand (RFC 5869 §2)."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)
