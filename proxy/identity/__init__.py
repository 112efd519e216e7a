"""Who asks: a bearer token, a certificate, or both -> a subject, by `policies/subjects.yaml`.

Only this package knows JWT.

subjects.py   the file: issuers, prefixes, claims -> groups and attributes; entries.py: its keys
people.py     what a token says and what people.csv says, each where it counts
strict.py     JSON and base64url in one reading only
jwks.py       sets of keys; sources.py: from files, URLs, and by discovery.py
tokens.py     the checks on one token's form and signature, claims.py: on its claims; without I/O or a clock
introspection.py   what tokens mean that are no JWTs
single_use.py      which tokens were presented, where each is good for one request
shown.py      what comes with a token
fetching.py   one request to an identity provider
certificates.py    a client certificate, and whether it is good; tools.py: which tool's it is
refused.py    why a token is not accepted
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from proxy.identity import subjects
from proxy.identity.certificates import Certificate
from proxy.identity.claims import Verified, read_claims
from proxy.identity.introspection import Client
from proxy.identity.jwks import KeySet
from proxy.identity.people import Claimed, People, whole
from proxy.identity.refused import Refused, Unavailable
from proxy.identity.shown import Shown
from proxy.identity.single_use import Elsewhere, Spending, digest_of, nowhere_else
from proxy.identity.sources import Fetches, FileKeys, RemoteKeys
from proxy.identity.subjects import Issuer
from proxy.identity.tokens import MOST, Unverified, bearer, check_signature, is_opaque
from proxy.identity.tools import Tools, Unknown
from proxy.plan import Deny
from proxy.reasons import Reason
from proxy.subject import AttributeType, Realm, Subject
from proxy.values import Value

__all__ = ["Elsewhere", "Identities"]

_MOST_REMEMBERED: Final = 8192
_MOST_HEADER: Final = MOST + 16
_EMPTY: Final[Mapping[str, Value]] = MappingProxyType({})


class _Remembered(NamedTuple):
    """A token that was verified: its subject from `since` on, and the keys that were in force then."""

    subject: Subject
    since: float
    until: float
    """When it must be looked at anew, though the subject may go on."""
    source: FileKeys | RemoteKeys
    keys: KeySet | None
    """None: no key, but its issuer says that it is good."""


class Identities:
    """The issuers whose tokens count, and what people.csv says of their subjects.

    Verified tokens are remembered with their subjects, in bounded number, until they or their line
    of people.csv expire or their issuer's keys change; of tokens that are refused nothing is kept.
    Another people.csv is another object, so no subject outlives the one that it was made from.
    """

    def __init__(
        self,
        issuers: tuple[Issuer, ...],
        people: People = MappingProxyType({}),
        tools: Tools | None = None,
    ) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._asks = next((each for each in issuers if each.introspector is not None), None)
        """The issuer that says what tokens mean which are no JWTs."""
        self._people = people
        self._tools = tools or Tools.of(())
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self.realms: tuple[Realm, ...] = tuple(issuer.realm for issuer in issuers)
        """The subjects of each issuer, and what people.csv may say of them."""
        self.attributes: Mapping[str, AttributeType] = MappingProxyType(
            {name: type_ for realm in self.realms for name, (type_, _) in realm.attributes.items()}
        )
        """The attributes that conditions may name, `sub.*`."""
        self.audiences: frozenset[str] = frozenset[str]().union(*(i.audience for i in issuers))
        """The audiences that a token can have here."""

    @classmethod
    def load(
        cls,
        text: bytes,
        *,
        file: str,
        folder: Path | None,
        environment: Mapping[str, str] | None = None,
        previous: Identities | None = None,
        closed: frozenset[Path] = frozenset(),
    ) -> Self:
        """The issuers that `text` writes; raises Faulty with all that is wrong with it.

        Files of keys are found from `folder`; without one they are not looked for, and no token is good,
        as a review needs none. Secrets are looked for where there is an `environment`, too, and never in
        a file that is `closed`. What
        `previous` has fetched is taken over, so that a reload during an outage of an identity provider
        locks nobody out.
        """
        before = () if previous is None else previous.issuers
        issuers, tools = subjects.read(
            text,
            file=file,
            folder=folder,
            environment=environment,
            previous=before,
            closed=closed,
        )
        return cls(issuers, tools=tools)

    def knowing(self, people: People) -> Identities:
        """The same issuers, with what `people` says of their subjects."""
        return Identities(self.issuers, people, self._tools)

    @property
    def issuers(self) -> tuple[Issuer, ...]:
        """All of them."""
        return tuple(self._issuers.values())

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
            audiences=None,
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

    @property
    def secrets(self) -> frozenset[str]:
        """The files of secrets that were read, by their names from the folder."""
        return frozenset(each.file for each in self.clients if each.file is not None)

    @property
    def clients(self) -> tuple[Client, ...]:
        """As whom the proxy asks issuers."""
        askers = (issuer.introspector for issuer in self.issuers)
        return tuple(each.client for each in askers if each is not None)

    def remote(self) -> Iterator[RemoteKeys]:
        """The keys that are fetched."""
        for issuer in self.issuers:
            if isinstance(issuer.source, RemoteKeys):
                yield issuer.source

    def keep_fresh(self, now: float) -> None:
        """Fetch what is due, in the background: called each second."""
        for source in self.remote():
            source.keep_fresh(now)

    @property
    def able(self) -> bool:
        """Whether a token of some issuer can be told to be good."""
        return any(each.source.keys is not None or each.introspector for each in self.issuers)

    def fetches(self) -> Iterator[tuple[str, Fetches]]:
        """Issuer -> how many requests to it ended how."""
        for issuer in self.issuers:
            for each in (issuer.source, issuer.introspector):
                if each is not None and not isinstance(each, FileKeys):
                    yield issuer.issuer, each.fetches

    async def verify(
        self,
        authorization: str | None,
        now: float,
        certificate: Certificate | None = None,
        *,
        by: object = None,
        elsewhere: Elsewhere = nowhere_else,
    ) -> Subject | Deny:
        """Who presents this Authorization header field at `now` (seconds since the epoch).

        `certificate` is a good one that came with it. It says which tool asks, the token on whose behalf;
        alone it is a tool that acts for itself.
        `by` stands for the request: it may present a token that is good for one request again; `elsewhere`
        takes such a token in other processes.
        """
        try:
            tool = None if certificate is None else self._tools.of_certificate(certificate)
        except Unknown as exc:
            return _deny(exc.cause)
        if authorization is None and certificate is not None:
            return self._alone(tool, certificate, now)
        if not authorization:
            return _deny("token-missing")
        if len(authorization) > _MOST_HEADER:
            return _deny("token-too-large")
        if not authorization.isascii():
            return _deny("token-malformed")
        # Remembered by its digest: no credential is kept in memory for longer than its request.
        shown = Shown(certificate, tool, by, elsewhere)
        digest = hashlib.sha256(f"{shown.thumbprint} {authorization}".encode()).digest()
        remembered = self._remembered.get(digest)
        if remembered is not None:
            source, keys = remembered.source, remembered.keys
            if keys is not None and now >= source.refresh_at:
                await source.look_for(None, now)
            same = keys is None or source.keys is keys
            if same and remembered.since <= now < min(remembered.until, remembered.subject.expires):
                if digest in self._remembered:
                    self._remembered.move_to_end(digest)
                return remembered.subject
            self._remembered.pop(digest, None)
        try:
            token = bearer(authorization)
            if self._asks is not None and is_opaque(token):
                return await self._introspected(self._asks, token, digest, now, shown)
            return await self._verify(token, digest, now, shown)
        except Unavailable as exc:
            return Deny(reason=Reason.IDENTITY, cause=exc.cause)
        except (Refused, Unknown) as exc:
            return _deny(exc.cause)

    def _alone(self, tool: str | None, certificate: Certificate, now: float) -> Subject | Deny:
        """A tool that presents its certificate and no token."""
        realm = None if tool is None else self.realm_of(tool)
        if tool is None or realm is None:
            return _deny("certificate-unknown")
        claimed = Claimed(user=None, tool=tool, attributes=_EMPTY, audiences=None)
        expires = certificate.until
        return whole(claimed, realm=realm, people=self._people, now=now, expires=expires)

    async def _verify(self, token: str, digest: bytes, now: float, shown: Shown) -> Subject:
        """Verify a token in full.

        1 parse; 2 choose the issuer; 3 find the key; 4 check the signature; 5 read the claims;
        6 hold them against the certificate, compare times; 7 is it good for this request;
        8 add what people.csv says; 9 remember.
        """
        presented = Unverified.parse(token)  # 1
        issuer = self._issuers.get(presented.issuer)  # 2
        if issuer is None:
            raise Refused("unknown-issuer")
        if issuer.typed and not presented.typed:
            raise Refused("token-type")
        if presented.algorithm not in issuer.algorithms:
            raise Refused("algorithm-refused")
        keys = await issuer.source.look_for(presented.kid, now)  # 3
        if keys is None:
            raise Unavailable("keys-unavailable")
        key = keys.find(presented.kid, presented.algorithm)
        if key is None:
            known = keys.knows(presented.kid)
            raise Refused("algorithm-refused" if known else "unknown-key")
        check_signature(presented, key)  # 4
        verified = read_claims(presented.claims, issuer)  # 5
        if issuer.single_use is not None and verified.id is None:
            raise Refused("missing-claim")
        return await self._known(  # 6 to 9
            verified,
            issuer,
            digest,
            now=now,
            once=verified.id or "",
            until=math.inf,
            keys=keys,
            shown=shown,
        )

    async def _introspected(
        self, issuer: Issuer, token: str, digest: bytes, now: float, shown: Shown
    ) -> Subject:
        """Who presents a token that means something to its issuer alone."""
        assert issuer.introspector is not None
        answer = await issuer.introspector.ask(token, now)
        if answer.claims is None:
            raise Refused("token-inactive")
        # Of a refresh token, too, its issuer may say that it is active; but not that it is a bearer's.
        kind = answer.claims.get("token_type")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise Refused("token-type")
        if issuer.single_use is not None and "exp" not in answer.claims:
            raise Refused("missing-claim")  # it would be forgotten while it is still good
        claims = {"iss": issuer.issuer, "exp": int(answer.until), **answer.claims}
        return await self._known(
            read_claims(claims, issuer),
            issuer,
            digest,
            now=now,
            once=hashlib.sha256(token.encode()).hexdigest(),  # with whichever certificate it comes
            until=answer.until,
            keys=None,
            shown=shown,
        )

    async def _known(
        self,
        verified: Verified,
        issuer: Issuer,
        digest: bytes,
        *,
        now: float,
        once: str,
        until: float,
        keys: KeySet | None,
        shown: Shown,
    ) -> Subject:
        if verified.bound and verified.bound != shown.confirmation:
            raise Refused("bound-token")
        claimed = self._tools.through(verified.claimed, shown.tool)
        if now < verified.since:
            raise Refused("token-not-yet-valid")
        if now >= verified.expires:
            raise Refused("token-expired")
        if issuer.single_use is not None:
            spending = Spending(
                issuer=issuer.issuer,
                digest=digest_of(once),
                until=verified.expires,
                now=now,
                most=issuer.single_use,
            )
            if issuer.spent.spend(spending, by=shown.by):
                await shown.elsewhere(spending)
        subject = whole(
            claimed,
            realm=issuer.realm,
            people=self._people,
            now=now,
            expires=min(verified.expires, shown.until),
            vouched=until,
        )
        if issuer.single_use is None:
            self._remembered[digest] = _Remembered(
                subject, verified.since, until, issuer.source, keys
            )
            self._remembered.move_to_end(digest)
            if len(self._remembered) > _MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        return subject

    async def close(self) -> None:
        """End requests to identity providers that are under way."""
        for issuer in self.issuers:
            if isinstance(issuer.source, RemoteKeys):
                await issuer.source.close()
            if issuer.introspector is not None:
                await issuer.introspector.close()


def _deny(cause: str) -> Deny:
    return Deny(reason=Reason.UNAUTHENTICATED, cause=cause)
