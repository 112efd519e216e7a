"""JSON Web Key Sets (RFC 7517, RFC 7518 §6, RFC 8037): the keys that can verify tokens.

Of a set, the public keys that can verify are used and the rest is skipped: symmetric and private
keys, other curves, RSA below 2048 bits, another `use`, two keys that one `kid` cannot tell apart.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Final

import jwt

from proxy.identity.strict import Malformed, parse_object

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA")
MOST_BYTES: Final = 1 << 20
_MOST_KEYS: Final = 100
_RSA_BITS: Final = range(2048, 8193)

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+\Z")
_PUBLIC: Final[Mapping[str, tuple[str, ...]]] = {
    "RSA": ("n", "e"),
    "EC": ("crv", "x", "y"),
    "OKP": ("crv", "x"),
}
_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    "RSA": ("RS256", "PS256"),
    "EC": ("ES256",),
    "OKP": ("EdDSA",),
}
_CURVES: Final = {"EC": "P-256", "OKP": "Ed25519"}


class KeySet:
    """The usable keys of one set, by key id and algorithm."""

    def __init__(self, raw: bytes) -> None:
        """Take the good keys of the set; raises Malformed where it is no set or has none."""
        self.raw = raw
        listed = parse_object(raw).get("keys")
        if not isinstance(listed, list) or len(listed) > _MOST_KEYS:
            raise Malformed("not a key set")
        self._by_id: dict[tuple[str, str], jwt.PyJWK] = {}
        self._ids: set[str] = set()
        ambiguous: set[tuple[str, str]] = set()
        good: list[dict[str, jwt.PyJWK]] = []
        for entry in listed:
            keys = _usable(entry)
            if keys:
                good.append(keys)
            kid = entry.get("kid") if isinstance(entry, dict) else None
            if not isinstance(kid, str):
                continue
            for algorithm, key in keys.items():
                self._ids.add(kid)
                if self._by_id.setdefault((kid, algorithm), key) is not key:
                    ambiguous.add((kid, algorithm))
        for twice in ambiguous:
            del self._by_id[twice]
        if not good:
            raise Malformed("no usable key in the set")
        self.skipped = len(listed) - len(good)
        """How many of its entries are no key that may verify here."""
        self._only = good[0] if len(good) == 1 else {}

    def knows(self, kid: str | None) -> bool:
        """Whether `kid` names a key; None names the only key of a set of one."""
        return bool(self._only) if kid is None else kid in self._ids

    def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key `kid`, prepared for `algorithm`; None where it is unknown or of another kind."""
        if kid is None:
            return self._only.get(algorithm)
        return self._by_id.get((kid, algorithm))


def _usable(entry: object) -> dict[str, jwt.PyJWK]:
    """A key's forms by algorithm; none where the entry is no public key that may verify."""
    if not isinstance(entry, dict):
        return {}
    kty, use, operations = entry.get("kty"), entry.get("use", "sig"), entry.get("key_ops")
    if not isinstance(kty, str) or kty not in _PUBLIC or use != "sig" or "d" in entry:
        return {}
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return {}
    if kty in _CURVES and entry.get("crv") != _CURVES[kty]:
        return {}
    public = {name: entry.get(name) for name in _PUBLIC[kty]}
    numbers = [value for name, value in public.items() if name != "crv"]
    if not all(isinstance(value, str) and _BASE64URL.match(value) for value in numbers):
        return {}
    named = entry.get("alg")
    try:
        if kty == "RSA" and _bits(str(public["n"])) not in _RSA_BITS:
            return {}
        return {
            algorithm: jwt.PyJWK({"kty": kty, **public}, algorithm=algorithm)
            for algorithm in _FOR[kty]
            if named is None or named == algorithm
        }
    except (jwt.PyJWTError, ValueError):
        return {}


def _bits(number: str) -> int:
    try:
        raw = urlsafe_b64decode(number + "=" * (-len(number) % 4))
    except binascii.Error:
        return 0
    return int.from_bytes(raw, "big").bit_length()
