"""Refusals of unauthenticated requests, coalesced beyond a rate per address.

Nobody outside may fill the access log. Beyond the rate, one `burst` record is made durable *before* the
first of the coalesced refusals is answered; the others refer to it, and a second record closes it with
their count.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Final

from proxy.access import Receipt

_MOST_ADDRESSES: Final = 4096
_ELSEWHERE: Final = "elsewhere"
"""Stands for every address beyond those that are told apart."""


@dataclass(slots=True, kw_only=True)
class Burst:
    """Coalesced refusals of one address; `receipt` proves the record that announced them."""

    address: str
    receipt: Receipt
    count: int = 0


@dataclass(slots=True)
class _Allowance:
    left: float
    seen: float


@dataclass(slots=True, kw_only=True)
class Bursts:
    """A token bucket per address; knows no clock."""

    capacity: float = 40.0
    per_second: float = 10.0
    open: dict[str, Burst] = field(default_factory=dict)
    _allowances: OrderedDict[str, _Allowance] = field(default_factory=OrderedDict)

    def key(self, address: str) -> str:
        """The name under which an address is counted: memory stays bounded.

        Of IPv6 it is the network of 64 bits, since all of it is one host's to use.
        """
        if ":" in address:
            address = _network(address)
        if address in self._allowances or len(self._allowances) < _MOST_ADDRESSES:
            return address
        return _ELSEWHERE

    def exceeds(self, key: str, now: float) -> bool:
        """Whether one more refusal of this address is over the rate; takes one token if not."""
        allowance = self._allowances.get(key)
        if allowance is None:
            allowance = self._allowances[key] = _Allowance(self.capacity, now)
        elapsed = max(0.0, now - allowance.seen)
        allowance.left = min(self.capacity, allowance.left + elapsed * self.per_second)
        allowance.seen = now
        if allowance.left < 1:
            return True
        allowance.left -= 1
        return False

    def close_all(self, now: float) -> Iterator[Burst]:
        """The bursts so far, which end here; addresses at full allowance are forgotten."""
        finished, self.open = list(self.open.values()), {}
        for key, allowance in list(self._allowances.items()):
            if allowance.left + (now - allowance.seen) * self.per_second >= self.capacity:
                del self._allowances[key]
        yield from finished


def _network(address: str) -> str:
    parsed = IPv6Address(address)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
