"""`listen` of counterfoil.yaml: where the proxy is reached, by whose certificates, behind which balancers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated

import msgspec

from proxy.hosts import is_host

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Clients(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`listen.clients`: which certificates of clients count. Their files are looked at each second."""

    authority: str
    """PEM file with the certificates of the authorities that issue them, and no others."""
    revoked: str | None = None
    """PEM file with the newest list (CRL) of each authority; where one is missing or has ended, none of that
    authority's certificates is good."""
    required: bool = False
    """Whether TLS fails without a certificate, at health checks too. Behind `client_certificate` of
    `listen.balancers` it is the balancer's own that is asked for."""


class Balancers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`listen.balancers`: load balancers in front, whose word on the client counts; nobody else's does."""

    addresses: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Their addresses or networks: `10.0.0.7`, `10.1.0.0/24`."""
    proxy_protocol: bool = False
    """Each connection of theirs begins with a PROXY header, version 1 or 2, before TLS. They end no TLS then,
    and the fields of a request are its client's: neither of the two below goes with it."""
    forwarded_for: bool = False
    """The client's address is the last one in `X-Forwarded-For` that is not in `addresses`; of more than 64
    none is, and the request is refused (400)."""
    client_certificate: bool = False
    """The client's certificate is the one in `Client-Cert` (RFC 9440), where there is one. They must take out
    such a field that a client sent, and have seen that the client holds the key."""

    @property
    def networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The same, parsed."""
        return tuple(map(ipaddress.ip_network, self.addresses))


class Listen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`listen`: where the proxy is reached."""

    host: str = "127.0.0.1"
    """The address to listen on. Without a certificate it must be a loopback address."""
    port: Port = 8443
    """The TCP port; 0 lets the system choose one, which is printed at the start."""
    certificate: str | None = None
    """PEM file with the server's certificate chain. A new one is taken with its key, in a second or two."""
    key: str | None = None
    """PEM file with its private key."""
    names: tuple[str, ...] = ()
    """The hosts of which requests may be, as `Host` has them without port: `reports.example.com`, `10.0.0.7`,
    `[2001:db8::7]`, `*.example.com` (one label for the star); others are 421. Left out: those that the
    certificate names, `host` itself, `localhost`, `127.0.0.1` and `[::1]`. Health checks may be of any."""
    clients: Clients | None = None
    """Client certificates; left out, none is asked for."""
    balancers: Balancers | None = None
    """Load balancers that are believed; left out, none is."""


def listening_faults(listen: Listen) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """What is wrong with it: where, what, and what to do."""
    if (listen.certificate is None) != (listen.key is None):
        yield (), "`certificate` and `key` go together", "give both or none"
    elif listen.certificate is None and not is_loopback(listen.host):
        yield (
            (),
            "without a certificate the proxy listens on a loopback address only",
            "give `certificate` and `key`, or listen on 127.0.0.1",
        )
    if listen.clients is not None and listen.certificate is None:
        hint = "give `certificate` and `key`"
        yield ("clients",), "without TLS no client shows a certificate", hint
    for number, name in enumerate(listen.names):
        if not is_host(name):
            hint = "write it without scheme and port: `reports.example.com`, `10.0.0.7`, `[2001:db8::7]`"
            yield ("names", number), f"`{name}` is no host", hint
    balancers = listen.balancers
    for number, address in enumerate(balancers.addresses if balancers else ()):
        if not is_network(address):
            hint = "write `10.0.0.7` or `10.1.0.0/24`"
            yield (
                ("balancers", "addresses", number),
                f"`{address}` is no address or network",
                hint,
            )
    for name in ("forwarded_for", "client_certificate"):
        if balancers and balancers.proxy_protocol and getattr(balancers, name):
            yield (
                ("balancers", name),
                f"`{name}` does not go with `proxy_protocol`",
                "balancers pass connections on, or end TLS and say in fields who the client is: give one",
            )
    if balancers and (balancers.forwarded_for or balancers.client_certificate) and not listen.names:
        yield (
            ("balancers",),
            "balancers that end TLS are known to clients by names of their own",
            "give `names`: those, as clients write them",
        )
    if balancers and balancers.client_certificate and listen.clients is None:
        yield (
            ("balancers", "client_certificate"),
            "no client certificate counts without `listen.clients`",
            "give `clients: {authority: …}`",
        )


def is_network(text: str) -> bool:
    """Whether it is an address or a network."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether it is this machine alone that can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
