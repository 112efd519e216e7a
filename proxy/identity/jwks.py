"""The keys of an issuer: JSON Web Key Sets (RFC 7517, RFC 7518 §6, RFC 8037), from a file or a URL.

Of a set, the public keys that can verify are used and the rest is skipped: symmetric and private
keys, other curves, RSA below 2048 bits, another `use`, two keys that one `kid` cannot tell apart.

A set from a URL is fetched when it is first needed, again when it is older than `REFRESH`, and when
a token names an unknown key; but never twice within `COOL_DOWN` (`RETRY` as long as there are no keys
at all), however many requests ask. Requests wait for it only where the known keys will not do: there
are none, the key is not among them, or they are older than twice `REFRESH` because nobody asked.
While the identity provider cannot be reached the known keys serve on, at most for `MOST_AGE`. So a
key that was rotated out stops to count within twice `REFRESH`, or within `MOST_AGE` of an outage.
"""

from __future__ import annotations

import asyncio
import binascii
import logging
import math
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import jwt

from proxy.identity.strict import Malformed, parse_object

_LOGGER: Final = logging.getLogger("counterfoil")

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA")
REFRESH: Final = 300.0
"""Seconds after which a set from a URL is fetched anew."""
COOL_DOWN: Final = 60.0
"""Least seconds between two fetches."""
RETRY: Final = 5.0
"""Least seconds between two fetches while there are no keys."""
MOST_AGE: Final = 86_400.0
"""Seconds for which known keys outlive an identity provider that does not answer."""
MOST_BYTES: Final = 1 << 20
_MOST_KEYS: Final = 100
_SECONDS: Final = 5.0
_RSA_BITS: Final = range(2048, 8193)

_KID: Final = re.compile(r"[A-Za-z0-9._~+/=:@#|-]{1,256}\Z")
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


@dataclass(frozen=True, kw_only=True, slots=True)
class FileKeys:
    """A set that was read from a file; a reload of the policy reads it anew."""

    keys: KeySet | None
    """None where the file was not looked for: then no token of the issuer is good."""
    file: str
    """Where it is, from the folder of subjects.yaml."""
    refresh_at: float = math.inf

    async def look_for(self, kid: str | None, now: float) -> KeySet | None:  # noqa: ARG002
        """The set as it is."""
        return self.keys

    async def close(self) -> None:
        """Nothing is open."""


class UrlKeys:
    """A set that is fetched from a URL; `now` is in seconds since the epoch, given by the caller."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._name = url.partition("?")[0]  # a query may hold a secret
        self.keys: KeySet | None = None
        self.refresh_at = -math.inf
        """Before then, and with keys, there is nothing to do."""
        self._fetched = -math.inf
        self._asked = -math.inf
        self._failing = False
        self._running: asyncio.Task[None] | None = None

    async def look_for(self, kid: str | None, now: float) -> KeySet | None:
        """The set, fetched anew where that is needed and allowed; None where there is none."""
        # A clock that was set back makes ages negative: then everything counts as old.
        age = abs(now - self._fetched)
        if self.keys is not None and age > MOST_AGE:
            _LOGGER.error("the keys of %s are too old to be used", self._name)
            self.keys = None
        lacking = self.keys is None or (
            kid is not None and not self.keys.knows(kid) and _plausible(kid)
        )
        if lacking or age > REFRESH:
            self._start(now)
        neglected = age > 2 * REFRESH and not self._failing
        if self._running is not None and (lacking or neglected):
            # One fetch serves all who wait; none of them, gone, may end it for the others.
            await asyncio.shield(self._running)
        return self.keys

    async def close(self) -> None:
        """End a fetch that is under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def _start(self, now: float) -> None:
        pause = RETRY if self.keys is None else COOL_DOWN
        if self._running is None and abs(now - self._asked) >= pause:
            self._asked = now
            self._running = asyncio.create_task(self._run(now))

    async def _run(self, now: float) -> None:
        try:
            raw = await _fetch(self.url)
            if self.keys is None or self.keys.raw != raw:
                self.keys = KeySet(raw)
        except Exception as exc:  # noqa: BLE001 - whatever is wrong there, known keys serve on here
            self._failing = True
            why = type(exc).__name__
            _LOGGER.warning("the keys of %s cannot be fetched: %s", self._name, why)
        else:
            self._failing = False
            self._fetched = now
            self.refresh_at = now + REFRESH
        finally:
            self._running = None


def _plausible(kid: str) -> bool:
    """Whether a key may have that id: nobody is asked for one that is an attack in itself."""
    return _KID.match(kid) is not None and ".." not in kid


async def _fetch(url: str) -> bytes:
    """The body of a plain, small 200; raises where the answer is anything else."""
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    headers = {
        "Accept": "application/jwk-set+json, application/json",
        "Accept-Encoding": "identity",
    }
    async with (
        aiohttp.ClientSession(
            timeout=timeout,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        ) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        if response.status != 200 or "Content-Encoding" in response.headers:
            raise Malformed("not a plain answer")
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > MOST_BYTES:
                raise Malformed("too large")
        return bytes(body)
