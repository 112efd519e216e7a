"""Who asks: whoever is at the other end, the certificate and the token.

A request may be looked at more than once: decided anew before its first byte, and held against another
policy between two blocks. Its token is presented once all the same (`Access.itself`).
"""

from __future__ import annotations

from aiohttp import hdrs, web

from proxy.gateway.peer import Balancers, Peer
from proxy.gateway.rates import Rates
from proxy.gateway.record import Access
from proxy.identity import Elsewhere
from proxy.identity.certificates import Certificate
from proxy.plan import Deny
from proxy.reasons import Reason
from proxy.snapshot import Snapshot
from proxy.subject import Subject
from proxy.tls import TlsInForce


class Askers:
    """Tells who asks, by the policy and the certificates in force."""

    def __init__(
        self, *, rates: Rates, tls: TlsInForce, balancers: Balancers, elsewhere: Elsewhere
    ) -> None:
        """`elsewhere` takes a token that is good for one request in the other processes, too."""
        self.rates = rates
        self._tls = tls
        self._balancers = balancers
        self._elsewhere = elsewhere

    def client(self, request: web.BaseRequest) -> Peer:
        """Who is at the other end."""
        direct = getattr(request.protocol, "peer", None)
        if not isinstance(direct, Peer):  # a connection that the listener did not make
            direct = Peer(address=request.remote or "")
        return self._balancers.client(direct, request)

    def vouched(self, certificate: Certificate | None, now: float) -> str:
        """Why a client's certificate is not good (any more); '' where it is, or where there is none."""
        if certificate is None:
            return ""
        authorities = self._tls.authorities
        return "certificate-issuer" if authorities is None else authorities.fault(certificate, now)

    async def identify(
        self, snapshot: Snapshot, request: web.BaseRequest, access: Access
    ) -> Subject | Deny:
        """Who asks, noted in `access`."""
        if access.unread:
            return Deny(reason=Reason.MALFORMED, cause="forwarded-client")
        subject = await self.verified(snapshot, request, access, access.now)
        if isinstance(subject, Subject):
            access.subject, access.opaque = subject, access.keyring.opaque(subject.name)
            if access.trace is not None:
                access.trace.enter("decide")
            return self.rates.asked(subject.name) or subject
        return subject

    async def verified(
        self, snapshot: Snapshot, request: web.BaseRequest, access: Access, now: float
    ) -> Subject | Deny:
        """Whose certificate and token they are at `now`, by the issuers of `snapshot`."""
        fault = self.vouched(access.certificate, now)
        if fault:
            return Deny(reason=Reason.UNAUTHENTICATED, cause=fault)
        presented = request.headers.getall(hdrs.AUTHORIZATION, ())
        if len(presented) > 1:
            return Deny(reason=Reason.UNAUTHENTICATED, cause="token-twice")
        return await snapshot.identities.verify(
            presented[0] if presented else None,
            now,
            access.certificate,
            by=access.itself,
            elsewhere=self._elsewhere,
        )
