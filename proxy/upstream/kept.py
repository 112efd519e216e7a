"""A header value that is made anew: before its end by one task, for all who wait for it.

    due     from then on the next request starts the making of a new one, and takes the old one
    ends    from then on requests wait for the new one

Whatever fails is tried again after a pause that grows, and not by each request; a value that still counts
goes on meanwhile. One that a store refuses (401) is made anew once, and not again for a while.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

_LOGGER: Final = logging.getLogger("counterfoil")
_EARLY: Final = 0.2
"""Of a value's life, what is left of it when a new one is made …"""
_EARLY_SECONDS: Final = 60.0
"""… at most."""
_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_AGAIN: Final = 5.0
"""After a store has refused a value, how long no other is made for that reason."""


class Unavailable(Exception):
    """A credential cannot be had; the text holds nothing of it."""


class Lasting(NamedTuple):
    """A value, and for how many seconds it counts; None: until it is refused."""

    value: str
    seconds: float | None = None


class Kept:
    """The newest value."""

    def __init__(
        self,
        make: Callable[[], Awaitable[Lasting]],
        *,
        of: str,
        first: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`make` raises Unavailable; `of` says whose it is; `first` is a value that is there already."""
        self._make = make
        self._clock = clock
        self._of = of
        self._value = first
        self._due = self._ends = float("inf")
        self._not_before = 0.0
        self._renewed = float("-inf")
        self._task: asyncio.Task[str] | None = None
        self.failures = 0
        """In a row."""

    def ready(self) -> str | None:
        """The value, where there is one that counts now."""
        value = self._value
        if value is None or self._due == float("inf"):
            return value
        now = self._clock()
        if now >= self._due:
            self._start(now)
        return value if now < self._ends else None

    async def get(self) -> str:
        """The value that counts; raises Unavailable."""
        value = self.ready()
        return value if value is not None else await self._made()

    async def instead_of(self, refused: str) -> str | None:
        """Another value than the one that a store has just refused; None where there is none."""
        now = self._clock()
        value = self._value
        if value == refused or value is None:
            if now < self._renewed + _AGAIN and self._task is None:
                return None
            self._renewed = now
            try:
                value = await self._made()
            except Unavailable:
                return None
        return value if value != refused else None

    async def close(self) -> None:
        """Make no more."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _made(self) -> str:
        task = self._start(self._clock())
        if task is None:
            raise Unavailable("it could not be had a moment ago")
        return await asyncio.shield(task)

    def _start(self, now: float) -> asyncio.Task[str] | None:
        """The task that makes a new one; None where it is too soon to try again."""
        if self._task is None and now >= self._not_before:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._done)
        return self._task

    async def _run(self) -> str:
        began = self._clock()
        value, seconds = await self._make()
        self._value = value
        if seconds is None:
            self._due = self._ends = float("inf")
        else:
            self._ends = began + seconds
            self._due = self._ends - min(_EARLY_SECONDS, _EARLY * seconds)
        return value

    def _done(self, task: asyncio.Task[str]) -> None:
        self._task = None
        if task.cancelled():
            return
        failure = task.exception()
        if failure is None:
            if self.failures:
                _LOGGER.info("the credential of %s is there again", self._of)
            self.failures = 0
            return
        self.failures += 1
        pause = min(_LONGEST_PAUSE, _PAUSE * 2 ** min(self.failures - 1, 6))
        self._not_before = self._clock() + pause
        if self.failures == 1:
            why = str(failure) if isinstance(failure, Unavailable) else type(failure).__name__
            _LOGGER.error("the credential of %s cannot be had: %s", self._of, why)
