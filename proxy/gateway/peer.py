"""Who is at the other end of a request: its address, and its certificate.

As the connection has them or, of one from a load balancer that is listed, as that says in fields of the
request. From anybody else such fields mean nothing.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from aiohttp import web
from multidict import istr

from proxy.gateway.forwarding import (
    Networks,
    NotRead,
    client_certificate,
    forwarded_for,
    listed,
)
from proxy.identity.certificates import Certificate

_FORWARDED_FOR: Final = istr("X-Forwarded-For")
_CLIENT_CERT: Final = istr("Client-Cert")


@lru_cache(maxsize=256)
def _parsed(der: bytes) -> Certificate:
    """A balancer sends a client's certificate with each of its requests."""
    return Certificate.parse(der)


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """The client of a connection, or of a request."""

    address: str
    certificate: Certificate | None = None
    unread: bool = False
    """Whether a balancer's word of it could not be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Balancers:
    """The load balancers in front, and which of their fields count."""

    addresses: Networks = ()
    forwarded_for: bool = False
    client_certificate: bool = False

    def client(self, direct: Peer, request: web.BaseRequest) -> Peer:
        """The client of a request that came from `direct`."""
        if not (self.forwarded_for or self.client_certificate):
            return direct
        if not listed(direct.address, self.addresses):
            return direct
        address, certificate = direct.address, direct.certificate
        try:
            if self.forwarded_for:
                values = request.headers.getall(_FORWARDED_FOR, ())
                address = forwarded_for(values, self.addresses) or address
            if self.client_certificate:  # the balancer's own is not the client's
                der = client_certificate(request.headers.getall(_CLIENT_CERT, ()))
                certificate = None if der is None else _parsed(der)
        except NotRead:
            return Peer(address=direct.address, unread=True)
        return Peer(address=address, certificate=certificate)


def presented(session: ssl.SSLObject | None) -> Certificate | None:
    """The certificate by which a client made itself known to TLS."""
    der = session.getpeercert(binary_form=True) if session is not None else None
    return None if der is None else Certificate.parse(der)
