"""IP addresses and networks as numbers (RFC 4632, RFC 4291), for `ip_in`.

An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) is the IPv4 address: a rule must not depend on
which socket the requester came through.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

_MAPPED: Final = IPv6Network("::ffff:0:0/96")


class Network(NamedTuple):
    """A prefix: the addresses of `version` whose number shifted right by `shift` is `prefix`."""

    version: int
    shift: int
    prefix: int


@lru_cache(maxsize=1024)
def address(text: str) -> tuple[int, int] | None:
    """The version and number of the address that `text` writes, or None."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.version, int(found)


def network(text: str) -> Network | None:
    """The network that `text` writes as ADDRESS/LENGTH with no bit set beyond LENGTH, or None.

    A network of IPv4-mapped addresses is none either: it would never match.
    """
    try:
        found = ip_network(text, strict=True)
    except ValueError:
        return None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        return None
    shift = found.max_prefixlen - found.prefixlen
    return Network(found.version, shift, int(found.network_address) >> shift)


def within(text: str, net: Network) -> bool | None:
    """Whether the address `text` is in `net`; None where it is no address."""
    found = address(text)
    if found is None:
        return None
    version, value = found
    return version == net.version and value >> net.shift == net.prefix
