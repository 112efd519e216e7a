"""Tokens that are good for one request: which `jti` of an issuer were presented, until they expire."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Awaitable, Callable

import msgspec

from proxy.identity.refused import Refused, Unavailable


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """A token that is taken for a request, as other processes are told of it."""

    issuer: str
    digest: bytes
    """Of its `jti`."""
    until: float
    """When it expires."""
    now: float
    most: int
    """How many of the issuer's are remembered."""


Elsewhere = Callable[[Spending], Awaitable[None]]
"""Takes a token in all other processes of the server; raises Refused and Unavailable, as `spend` does."""


async def nowhere_else(_: Spending) -> None:
    """There is no other process."""


class Spent:
    """The tokens of one issuer that were presented; it knows no clock."""

    def __init__(self) -> None:
        self._by: dict[bytes, object] = {}
        self._ending: list[tuple[float, bytes]] = []
        """A heap: which is forgotten next, and when."""

    def spend(self, spending: Spending, *, by: object) -> bool:
        """Take the token for the request `by`, which may ask again, as nobody else may until it expires.

        Whether it is the first time. Raises Refused where another request has it, and Unavailable where
        as many as may be are remembered: one that is forgotten before its time could be presented again.
        """
        while self._ending and self._ending[0][0] <= spending.now:
            _, ended = heapq.heappop(self._ending)
            del self._by[ended]
        digest = spending.digest
        if digest in self._by:
            if self._by[digest] is not by:
                raise Refused("token-replayed")
            return False
        if len(self._by) >= spending.most:
            raise Unavailable("too-many-tokens")
        self._by[digest] = by
        heapq.heappush(self._ending, (spending.until, digest))
        return True


def digest_of(jti: str) -> bytes:
    """What is remembered of a `jti`."""
    return hashlib.sha256(jti.encode("utf-8", "surrogatepass")).digest()[:16]
