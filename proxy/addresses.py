"""Where stores are: the URLs that may be written, and the addresses at which no store may be.

A literal address is judged once, as the catalogue is read; a name by all that it resolves to, at each
connection, by the same rule.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<base>(?:/[A-Za-z0-9\-._~]+)*)/?\Z"
)
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*\Z")
_NUMBER = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)\Z")
_METADATA: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "169.254.0.0/16",      # nearly all, and credentials of containers
            "fd00:ec2::/32",       # AWS
            "fd20:ce::254/128",    # Google
            "100.100.100.200/32",  # Alibaba
            "192.0.0.192/32",      # Oracle
            "168.63.129.16/32",    # Azure
        ),
    )
)  # fmt: skip
_NAT64: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48")))
"""RFC 6052 and 8215; of the latter an address is taken to have IPv4 in its last 32 bits."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def fault_of(url: str, *, loopback: bool) -> str | None:
    """What is wrong with a store's URL, in words that do not repeat it; None where it is right."""
    matched = _URL.match(url)
    if matched is None:
        return "a store's URL is `http(s)://host[:port][/base]`, without user, query or fragment"
    if matched["port"] and not 0 < int(matched["port"]) < 1 << 16:
        return "the port is out of range"
    if {".", ".."} & set(matched["base"].split("/")):
        return "dot segments are not allowed"
    host = matched["host"]
    address = literal(host)
    if address is not None:
        return refused(address, loopback=loopback)
    if host.startswith("["):
        return "the IPv6 address is malformed"
    if _NUMBER.match(host.rstrip(".").rpartition(".")[2]):
        return "an IPv4 address is written as four decimal numbers"
    if not _NAME.match(host):
        return "the host name is malformed"
    if is_loopback_name(host) and not loopback:
        return LOOPBACK
    return None


LOOPBACK: Final = "a store on this machine needs `loopback: true`"


def literal(host: str) -> Address | None:
    """The address that `host` writes (`[::1]`), out of its IPv6 wrapping; None for a name."""
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if any(address in each for each in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_loopback_name(host: str) -> bool:
    """Whether `host` names this machine (RFC 6761 §6.3)."""
    return host.lower() == "localhost" or host.lower().endswith(".localhost")


def is_local(url: str) -> bool:
    """Whether a URL, which has no fault, names this machine, or an address of it."""
    matched = _URL.match(url)
    host = matched["host"] if matched is not None else ""
    address = literal(host)
    return address.is_loopback if address is not None else is_loopback_name(host)


def refused(address: Address, *, loopback: bool) -> str | None:
    """Why no store may be at `address`; None where one may."""
    if any(address in each for each in _METADATA):
        return "an address of a cloud's metadata service is no store"
    if address.is_loopback:
        return None if loopback else LOOPBACK
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return "a link-local, multicast or unspecified address is no store"
    if address.is_reserved:
        return "a reserved address is no store"
    return None
