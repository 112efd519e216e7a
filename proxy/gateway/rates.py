"""How much one subject, and one address, may ask: so many requests a minute, so many at once.

Whoever asks for more is told when to ask again (429, `Retry-After`), on record.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from proxy.gateway.allowance import Allowance
from proxy.plan import Deny
from proxy.reasons import Reason

_MINUTE: Final = 60.0
RATES: Final = frozenset({"subject-rate", "address-rate", "address-busy"})
"""The causes of what is refused here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What the settings allow."""

    subject_per_minute: int
    address_per_minute: int
    address_at_once: int


@dataclass(slots=True, kw_only=True)
class Rates:
    """What has been asked, in bounded memory."""

    limits: Limits
    _subjects: Allowance = field(init=False)
    _addresses: Allowance = field(init=False)
    _running: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._subjects = Allowance(spans=((self.limits.subject_per_minute, _MINUTE),))
        self._addresses = Allowance(spans=((self.limits.address_per_minute, _MINUTE),))

    def begin(self, network: str) -> Deny | None:
        """A request from the network begins, until its `end`; why it may not be, where it may not."""
        after = self._addresses.take(network, 1, time.monotonic())
        if after:
            return Deny(reason=Reason.BUSY, cause="address-rate", after=after)
        running = self._running.get(network, 0)
        if running >= self.limits.address_at_once:
            return Deny(reason=Reason.BUSY, cause="address-busy")
        self._running[network] = running + 1
        return None

    def end(self, network: str) -> None:
        """One that was allowed to begin is over."""
        left = self._running[network] - 1
        if left:
            self._running[network] = left
        else:
            del self._running[network]

    def asked(self, subject: str) -> Deny | None:
        """One more request of the subject; why it may not be, where it may not."""
        after = self._subjects.take(subject, 1, time.monotonic())
        return Deny(reason=Reason.BUSY, cause="subject-rate", after=after) if after else None
