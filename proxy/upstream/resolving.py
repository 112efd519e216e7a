"""Names of stores -> addresses, none of which may be where no store is (THREATS E49).

The addresses that are looked at are those that are connected to: nothing asks the system a second time. A
name is asked for once at a time, for all who want to connect there: the system answers in threads, and one
whose name servers do not answer takes no more than one of them.
"""

from __future__ import annotations

import asyncio
import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from proxy import addresses


class RefusedAddress(OSError):
    """A name leads to an address at which no store may be."""


def refused(host: str, *, loopback: bool) -> bool:
    """Whether a store may not be at this address."""
    address = addresses.literal(host)
    return address is None or addresses.refused(address, loopback=loopback) is not None


class GuardedResolver(AbstractResolver):
    """Resolves as the system does and refuses names that lead where no store is."""

    def __init__(self, *, loopback: bool) -> None:
        self._inner = aiohttp.ThreadedResolver()
        self._loopback = loopback
        self._asked: dict[tuple[str, int, int], asyncio.Task[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`; raises RefusedAddress where any of them is refused."""
        asked = host, port, int(family)
        task = self._asked.get(asked)
        if task is None:
            task = self._asked[asked] = asyncio.create_task(self._inner.resolve(host, port, family))
            task.add_done_callback(lambda done: self._answered(asked, done))
        found = await asyncio.shield(task)
        if any(refused(each["host"], loopback=self._loopback) for each in found):
            raise RefusedAddress(None, "the store's name resolves to a refused address")
        return found

    def _answered(
        self, asked: tuple[str, int, int], task: asyncio.Task[list[ResolveResult]]
    ) -> None:
        del self._asked[asked]
        if not task.cancelled():
            task.exception()  # those who wait are told

    async def close(self) -> None:
        """Close the inner resolver."""
        for task in tuple(self._asked.values()):
            task.cancel()
        await self._inner.close()
