"""Who asks: a bearer token -> a subject, by `policies/subjects.yaml` (only this package knows JWT).

subjects.py   the file: issuers, prefixes, claims -> groups and attributes
people.py     what a token says and what people.csv says, each where it counts
strict.py     JSON and base64url in one reading only
jwks.py       the issuers' keys, from files and URLs
tokens.py     the checks on one token, without I/O and without a clock
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from proxy.identity import subjects
from proxy.identity.jwks import FileKeys, KeySet, UrlKeys
from proxy.identity.people import Claimed, People, whole
from proxy.identity.subjects import Issuer
from proxy.identity.tokens import (
    MOST,
    Refused,
    Unverified,
    bearer,
    check_signature,
    read_claims,
)
from proxy.plan import Deny
from proxy.reasons import Reason
from proxy.subject import AttributeType, Realm, Subject
from proxy.values import Value

__all__ = ["Identities"]

_MOST_REMEMBERED: Final = 8192
_MOST_HEADER: Final = MOST + 16
_EMPTY: Final[Mapping[str, Value]] = MappingProxyType({})


class _Remembered(NamedTuple):
    """A token that was verified: its subject from `since` on, and the keys that were in force then."""

    subject: Subject
    since: float
    source: FileKeys | UrlKeys
    keys: KeySet


class Identities:
    """The issuers whose tokens count, and what people.csv says of their subjects.

    Verified tokens are remembered with their subjects, in bounded number, until they or their line
    of people.csv expire or their issuer's keys change; of tokens that are refused nothing is kept.
    Another people.csv is another object, so no subject outlives the one that it was made from.
    """

    def __init__(self, issuers: tuple[Issuer, ...], people: People = MappingProxyType({})) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._people = people
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self.realms: tuple[Realm, ...] = tuple(issuer.realm for issuer in issuers)
        """The subjects of each issuer, and what people.csv may say of them."""
        self.attributes: Mapping[str, AttributeType] = MappingProxyType(
            {name: type_ for realm in self.realms for name, (type_, _) in realm.attributes.items()}
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

    def knowing(self, people: People) -> Identities:
        """The same issuers, with what `people` says of their subjects."""
        return Identities(tuple(self._issuers.values()), people)

    def subject_of(
        self,
        name: str,
        *,
        groups: tuple[str, ...] | None = None,
        attributes: Mapping[str, Value] = _EMPTY,
        tool: str | None = None,
        now: float,
        expires: float = math.inf,
    ) -> Subject | None:
        """Who `user:NAME`, or a tool that acts alone, would be at `now` with a good token.

        `groups` (None: no such claim) and `attributes` are what the token says. None where no
        issuer has subjects of that name.
        """
        user = name if name.startswith("user:") else None
        realm = self.realm_of(name)
        if realm is None:
            return None
        claimed = Claimed(
            user=user,
            tool=tool if user else name,
            groups=groups,
            attributes=attributes,
        )
        return whole(claimed, realm=realm, people=self._people, now=now, expires=expires)

    def realm_of(self, name: str) -> Realm | None:
        """The issuer that has subjects of that name, `user:NAME` or `tool:NAME`."""
        bare = name.partition(":")[2]
        return next((realm for realm in self.realms if realm.holds(bare)), None)

    @property
    def people(self) -> People:
        """What people.csv says, by subject."""
        return self._people

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
            subject, since, source, keys = remembered
            if now >= source.refresh_at:
                await source.look_for(None, now)
            if source.keys is keys and since <= now < subject.expires:
                if digest in self._remembered:
                    self._remembered.move_to_end(digest)
                return subject
            self._remembered.pop(digest, None)
        try:
            return await self._verify(bearer(authorization), digest, now)
        except Refused as exc:
            return _deny(exc.cause)

    async def _verify(self, token: str, digest: bytes, now: float) -> Subject:
        """Verify a token in full.

        1 parse; 2 choose the issuer; 3 find the key; 4 check the signature; 5 read the claims;
        6 compare times; 7 add what people.csv says; 8 remember.
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
        if now >= verified.expires:
            raise Refused("token-expired")
        subject = whole(  # 7
            verified.claimed,
            realm=issuer.realm,
            people=self._people,
            now=now,
            expires=verified.expires,
        )
        self._remembered[digest] = _Remembered(subject, verified.since, issuer.source, keys)  # 8
        self._remembered.move_to_end(digest)
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return subject

    async def close(self) -> None:
        """End fetches of keys that are under way."""
        for source in self.fetched().values():
            await source.close()


def _deny(cause: str) -> Deny:
    return Deny(reason=Reason.UNAUTHENTICATED, cause=cause)
