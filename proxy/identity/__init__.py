"""Who asks: a bearer token -> a subject, by `policies/subjects.yaml` (only this package knows JWT).

subjects.py   the file: issuers, prefixes, claims -> groups and attributes
strict.py     JSON and base64url in one reading only
jwks.py       the issuers' keys, from files and URLs
tokens.py     the checks on one token, without I/O and without a clock
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from proxy.identity import subjects
from proxy.identity.jwks import FileKeys, KeySet, UrlKeys
from proxy.identity.subjects import Issuer
from proxy.identity.tokens import (
    MOST,
    Refused,
    Unverified,
    Verified,
    bearer,
    check_signature,
    read_claims,
)
from proxy.plan import Deny, Reason
from proxy.subject import AttributeType, Subject

__all__ = ["Identities"]

_MOST_REMEMBERED: Final = 8192
_MOST_HEADER: Final = MOST + 16


class _Remembered(NamedTuple):
    """A token that was verified, and the keys that were in force then."""

    verified: Verified
    source: FileKeys | UrlKeys
    keys: KeySet


class Identities:
    """The issuers whose tokens count.

    Verified tokens are remembered, in bounded number, until they expire or their issuer's keys
    change; of tokens that are refused nothing is kept.
    """

    def __init__(self, issuers: tuple[Issuer, ...]) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self.attributes: Mapping[str, AttributeType] = MappingProxyType(
            {name: claim.type for issuer in issuers for name, claim in issuer.attributes.items()}
        )
        """The attributes that conditions may name, `sub.*`."""

    @classmethod
    def load(
        cls, text: bytes, *, file: str, folder: Path | None, previous: Identities | None = None
    ) -> Self:
        """The issuers that `text` writes; raises Faulty with all that is wrong with it.

        Key files are found from `folder`; without one they are not looked for, and no token is
        good, as a review needs none. What `previous` has fetched from URLs is taken over, so that a
        reload during an outage of an identity provider locks nobody out.
        """
        fetched = {} if previous is None else previous.fetched()
        return cls(subjects.read(text, file=file, folder=folder, fetched=fetched))

    @property
    def files(self) -> Mapping[str, bytes]:
        """The content of each key file that was read, by its name from the folder."""
        sources = (issuer.source for issuer in self._issuers.values())
        return {
            each.file: each.keys.raw for each in sources if isinstance(each, FileKeys) and each.keys
        }

    def fetched(self) -> dict[str, UrlKeys]:
        """The keys that come from URLs, by URL."""
        sources = (issuer.source for issuer in self._issuers.values())
        return {source.url: source for source in sources if isinstance(source, UrlKeys)}

    async def verify(self, authorization: str | None, now: float) -> Subject | Deny:
        """Who presents this Authorization header field at `now` (seconds since the epoch)."""
        if not authorization:
            return _deny("token-missing")
        if len(authorization) > _MOST_HEADER:
            return _deny("token-too-large")
        if not authorization.isascii():
            return _deny("token-malformed")
        # Remembered by its digest: no credential is kept in memory for longer than its request.
        digest = hashlib.sha256(authorization.encode()).digest()
        remembered = self._remembered.get(digest)
        if remembered is not None:
            verified, source, keys = remembered
            if now >= source.refresh_at:
                await source.look_for(None, now)
            if source.keys is keys and verified.since <= now < verified.subject.expires:
                if digest in self._remembered:
                    self._remembered.move_to_end(digest)
                return verified.subject
            self._remembered.pop(digest, None)
        try:
            return await self._verify(bearer(authorization), digest, now)
        except Refused as exc:
            return _deny(exc.cause)

    async def _verify(self, token: str, digest: bytes, now: float) -> Subject:
        """Verify a token in full.

        1 parse; 2 choose the issuer; 3 find the key; 4 check the signature; 5 read the claims;
        6 compare times; 7 remember.
        """
        presented = Unverified.parse(token)  # 1
        issuer = self._issuers.get(presented.issuer)  # 2
        if issuer is None:
            raise Refused("unknown-issuer")
        if presented.algorithm not in issuer.algorithms:
            raise Refused("algorithm-refused")
        keys = await issuer.source.look_for(presented.kid, now)  # 3
        if keys is None:
            raise Refused("keys-unavailable")
        key = keys.find(presented.kid, presented.algorithm)
        if key is None:
            known = keys.knows(presented.kid)
            raise Refused("algorithm-refused" if known else "unknown-key")
        check_signature(presented, key)  # 4
        verified = read_claims(presented.claims, issuer)  # 5
        if now < verified.since:  # 6
            raise Refused("token-not-yet-valid")
        if now >= verified.subject.expires:
            raise Refused("token-expired")
        self._remembered[digest] = _Remembered(verified, issuer.source, keys)  # 7
        self._remembered.move_to_end(digest)
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return verified.subject

    async def close(self) -> None:
        """End fetches of keys that are under way."""
        for source in self.fetched().values():
            await source.close()


def _deny(cause: str) -> Deny:
    return Deny(reason=Reason.UNAUTHENTICATED, cause=cause)
