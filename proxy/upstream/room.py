"""How many requests one store has at once: it takes from no other store what it does not give back."""

from __future__ import annotations

import asyncio


class Crowded(Exception):
    """As many wait already as there may be."""


class Room:
    """PROMISE 4 (bounded memory): so many requests under way, and as many that wait to be."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = asyncio.Semaphore(most)
        self.running = 0
        self.waiting = 0

    async def enter(self, seconds: float) -> None:
        """Take a place, in turn; to be left. Raises Crowded at once, or TimeoutError."""
        if self.waiting or self.running >= self._most:
            if self.waiting >= self._most:
                raise Crowded
            self.waiting += 1
            try:
                async with asyncio.timeout(seconds):
                    await self._free.acquire()
            finally:
                self.waiting -= 1
        else:
            await self._free.acquire()  # without waiting
        self.running += 1

    def leave(self) -> None:
        """Give the place to the next."""
        self.running -= 1
        self._free.release()
