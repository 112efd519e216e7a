"""How many connections there may be, and what became of those that are not served.

PROMISE 4 (bounded memory): there are at most so many at once, and so many of one address. What is not
served is counted by its cause, and told once a minute for each: nobody outside can fill the operator's log.
"""

from __future__ import annotations

import logging
import resource
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Final

_LOGGER: Final = logging.getLogger("counterfoil")
_QUIET_SECONDS: Final = 60.0

CAUSES: Final = {
    "too-many": "there are as many as `limits.connections` allows",
    "too-many-of-address": "its address has as many as `limits.connections_per_address` allows",
    "tls-failed": "no TLS connection came about",
    "no-proxy-header": "a load balancer's connection began with no PROXY header that can be read",
    "slow-head": "the head of its request did not come in time",
    "no-descriptor": "this process may open no more files",
}
"""Why a connection is closed without an answer."""


@dataclass(slots=True)
class Slot:
    """The place of one connection."""

    _connections: Connections
    address: str = ""
    _left: bool = False

    def leave(self) -> None:
        """The connection is over; once is enough, and twice is once."""
        if not self._left:
            self._left = True
            self._connections._leave(self.address)  # noqa: SLF001 - a part of it


@dataclass(slots=True, kw_only=True)
class Connections:
    """The connections of one listener."""

    most: int
    most_each: int
    causes: Mapping[str, str] = field(default_factory=lambda: CAUSES)
    """Why one may be closed, for whoever reads the operator's log."""
    open: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By cause, since the start."""
    _of: Counter[str] = field(default_factory=Counter)
    _told: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Cause -> when it was told last, and how many there were by then."""

    def enter(self) -> Slot | None:
        """A place for a connection; None where there is none left."""
        if self.open >= self.most:
            self.refuse("too-many")
            return None
        self.open += 1
        return Slot(self)

    def identify(self, slot: Slot, address: str) -> bool:
        """Whether its address may have one more."""
        key = network_of(address)
        if self._of[key] >= self.most_each:
            self.refuse("too-many-of-address")
            return False
        self._of[key] += 1
        slot.address = key
        return True

    def refuse(self, cause: str) -> None:
        """One is closed without an answer: count it, and tell of it unless that was told just now."""
        self.refused[cause] += 1
        now = time.monotonic()
        before, number = self._told.get(cause, (-_QUIET_SECONDS, 0))
        if now - before >= _QUIET_SECONDS:
            new = self.refused[cause] - number
            self._told[cause] = (now, self.refused[cause])
            _LOGGER.warning("%d connection(s) closed: %s", new, self.causes[cause])

    def _leave(self, key: str) -> None:
        self.open -= 1
        if key:
            self._of[key] -= 1
            if not self._of[key]:
                del self._of[key]


def make_room(connections: int, others: int) -> int:
    """How many of so many connections there can be beside `others` files: all, where the system allows it.

    This process may open as many files from now on as the system allows. PROMISE 4 (bounded memory): whoever
    opens connections takes no descriptor that an answer needs, for a store, the log or a spool.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + others
    if soft != resource.RLIM_INFINITY:
        soft = max(soft, needed) if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            connections = max(1, soft // 2, soft - others)
            _LOGGER.warning(
                "this process may open %d files, and `limits.connections` and `stores.connections` ask"
                " for %d: it takes %d connections; raise `ulimit -n`, or lower them",
                soft,
                needed,
                connections,
            )
    return connections


def network_of(address: str) -> str:
    """By what an address is counted: of IPv6 its network of 64 bits, since all of it is one host's to use."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
