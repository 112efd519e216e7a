r"""What a load balancer says of the client: PROXY protocol, X-Forwarded-For, Client-Cert (RFC 9440). Pure.

Each is read in one way or not at all. Whether it counts, from which address, is not known here.

    PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n       version 1, a line of at most 107 bytes
    \r\n\r\n\0\r\nQUIT\n   0x21 0x11 length addresses …   version 2 (haproxy's proxy-protocol.txt §2.2)
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Networks = Sequence[IPv4Network | IPv6Network]

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_LONGEST_LINE: Final = 107
_MOST_V2: Final = 2048
"""Bytes after the sixteenth: addresses, and what a balancer may add (which is not read)."""
_LINE: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [\x20-\x7e]*)?|(TCP[46]) (\S+) (\S+) (\d{1,5}) (\d{1,5}))\r\n\Z"
)
_MOST_ADDRESSES: Final = 64
"""Of X-Forwarded-For: a client may write some, and each takes its time to be read."""
_BYTES: Final = re.compile(r":([A-Za-z0-9+/]+={0,2}):\Z")


class NotRead(Exception):
    """It is not what a balancer sends."""


async def read_header(receive: Callable[[int], Awaitable[bytes]]) -> str | None:
    """Read the PROXY header and no byte more; the client's address, None where it tells none.

    `receive` gives up to so many bytes, none at the end. Raises NotRead.
    """
    head = await _exactly(receive, len(_SIGNATURE))
    if head == _SIGNATURE:
        head += await _exactly(receive, 4)
        more = int.from_bytes(head[14:16], "big")
        if more > _MOST_V2:
            raise NotRead
        return parse_v2(head + await _exactly(receive, more))
    if not head.startswith(b"PROXY "):
        raise NotRead
    while not head.endswith(b"\n"):
        if len(head) >= _LONGEST_LINE:
            raise NotRead
        head += await _exactly(receive, 1)
    return parse_v1(head)


async def _exactly(receive: Callable[[int], Awaitable[bytes]], count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = await receive(count - len(found))
        if not piece:
            raise NotRead
        found += piece
    return found


def parse_v1(line: bytes) -> str | None:
    """A whole header of version 1; None: the connection's own address stands. Raises NotRead."""
    found = _LINE.match(line)
    if found is None or len(line) > _LONGEST_LINE:
        raise NotRead
    if found[1] is None:
        return None
    kind = IPv4Address if found[1] == b"TCP4" else IPv6Address
    try:
        source, _ = (kind(each.decode()) for each in (found[2], found[3]))
    except ValueError:
        raise NotRead from None
    if any(int(port) > 65535 or str(int(port)).encode() != port for port in (found[4], found[5])):
        raise NotRead
    return _plain(source)


def parse_v2(header: bytes) -> str | None:
    """A whole header of version 2; None: the connection's own address stands. Raises NotRead."""
    if header[:12] != _SIGNATURE or len(header) < 16:
        raise NotRead
    command, family, body = header[12], header[13], header[16:]
    if len(body) != int.from_bytes(header[14:16], "big"):
        raise NotRead
    if command == 0x20:  # LOCAL: the balancer asks for itself
        return None
    if command != 0x21:
        raise NotRead
    match family:
        case 0x11 if len(body) >= 12:
            return _plain(IPv4Address(body[:4]))
        case 0x21 if len(body) >= 36:
            return _plain(IPv6Address(body[:16]))
        case 0x00:  # UNSPEC, as UNKNOWN of version 1: what addresses there are say nothing
            return None
        case _:
            raise NotRead


def forwarded_for(values: Sequence[str], trusted: Networks) -> str | None:
    """The client, by fields X-Forwarded-For: the last address that is no balancer's; None without a field.

    Raises NotRead.
    """
    if not values:
        return None
    stated = ",".join(values).split(",", _MOST_ADDRESSES)
    if len(stated) > _MOST_ADDRESSES:
        raise NotRead
    addresses = [_address(each.strip(" \t")) for each in stated]
    for address in reversed(addresses):
        if not listed(address, trusted):
            return address
    return addresses[0]


def client_certificate(values: Sequence[str]) -> bytes | None:
    """The DER of the field Client-Cert (RFC 9440 §2.2); None without one. Raises NotRead."""
    if not values:
        return None
    found = _BYTES.match(values[0].strip(" \t")) if len(values) == 1 else None
    if found is None:
        raise NotRead
    try:
        return base64.b64decode(found[1], validate=True)
    except binascii.Error:
        raise NotRead from None


def listed(address: str, networks: Networks) -> bool:
    """Whether the address is in one of the networks."""
    try:
        known = ip_address(address)
    except ValueError:
        return False
    return any(known in network for network in networks)


def _address(text: str) -> str:
    try:
        return _plain(ip_address(text))
    except ValueError:
        raise NotRead from None


def _plain(address: IPv4Address | IPv6Address) -> str:
    """In the one form in which addresses are compared and recorded."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise NotRead
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return str(address)
