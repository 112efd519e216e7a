"""Refusals of unauthenticated requests, coalesced beyond a rate per address; of too many, per subject.

Nobody outside may fill the access log. Beyond the rate, one `burst` record is made durable *before* the
first of the coalesced refusals is answered; the others refer to it, and a second record closes it with
their count.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Final, Self

from proxy.access import Receipt
from proxy.gateway.connections import network_of

_MOST_NAMES: Final = 4096
_ELSEWHERE: Final = "elsewhere"
"""Stands for everyone beyond those that are told apart."""


@dataclass(slots=True, kw_only=True)
class Burst:
    """Coalesced refusals of one address or subject; `receipt` proves the record that announced them."""

    address: str
    subject: str = ""
    """Its opaque id."""
    receipt: Receipt
    count: int = 0


@dataclass(slots=True)
class _Allowance:
    left: float
    seen: float


@dataclass(slots=True, kw_only=True)
class Bursts:
    """A token bucket per address or subject; knows no clock."""

    CAPACITY: ClassVar[float] = 40.0
    PER_SECOND: ClassVar[float] = 10.0
    capacity: float = CAPACITY
    per_second: float = PER_SECOND
    open: dict[str, Burst] = field(default_factory=dict)
    _allowances: OrderedDict[str, _Allowance] = field(default_factory=OrderedDict)

    @classmethod
    def among(cls, workers: int) -> Self:
        """The share of one of so many processes."""
        return cls(capacity=max(1.0, cls.CAPACITY / workers), per_second=cls.PER_SECOND / workers)

    def key(self, address: str) -> str:
        """The name under which an address is counted."""
        return self.bounded(network_of(address))

    def bounded(self, name: str) -> str:
        """The name under which an address or a subject is counted: memory stays bounded."""
        if name in self._allowances or len(self._allowances) < _MOST_NAMES:
            return name
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
