"""Traces over OTLP/HTTP: some at once, in their order; where an answer is lost, they come twice.

A receiver that cannot take them now (429, 502, 503, 504, no connection) is asked again, later each time; what
it refuses otherwise is dropped, and so are the oldest of more than may wait. The newest go last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import aiohttp

from proxy.errors import where
from proxy.gateway.tracing import Trace

Encode = Callable[[Sequence[Trace]], bytes]

_LOGGER: Final = logging.getLogger("counterfoil")
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_EVERY: Final = 1.0
"""Seconds between two looks at what waits."""
_AT_ONCE: Final = 256
_MOST: Final = 4096
"""Traces that wait; some ten megabytes where each has many steps."""
_FIRST_SECONDS: Final = 1.0
_LAST_SECONDS: Final = 60.0
_CLOSING_SECONDS: Final = 3.0
_LATER: Final = frozenset({429, 502, 503, 504})
"""Statuses by which a receiver says that it may take the same later (OTLP, "Failures")."""


class Exporter:
    """One receiver."""

    def __init__(self, url: str, *, token: str | None, encode: Encode) -> None:
        self._url = url
        self._encode = encode
        self._headers = {"Content-Type": "application/x-protobuf"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._waiting: deque[Trace] = deque()
        self.failure = ""
        """Why it does not take them now."""
        self.dropped = 0
        """How many went without having been taken."""

    def put(self, trace: Trace) -> None:
        """Send it when it is its turn; never waits."""
        if len(self._waiting) >= _MOST:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(trace)

    async def run(self) -> None:
        """Go on until cancelled; then try once more for a moment."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            try:
                pause = _FIRST_SECONDS
                while True:
                    await asyncio.sleep(_EVERY)
                    while self._waiting and not await self._sent(session):
                        await asyncio.sleep(pause)
                        pause = min(2 * pause, _LAST_SECONDS)
                    pause = _FIRST_SECONDS
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CLOSING_SECONDS):
                        while self._waiting and await self._sent(session):
                            pass

    async def _sent(self, session: aiohttp.ClientSession) -> bool:
        """Whether the oldest are gone: taken, or refused for good."""
        some = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
        taken, failure, later = False, "", True
        try:
            body = await asyncio.to_thread(self._encode, some)
            async with session.post(
                self._url, data=body, headers=self._headers, allow_redirects=False
            ) as answer:
                taken, later = 200 <= answer.status < 300, answer.status in _LATER
                failure = "" if taken else f"it answered {answer.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            failure = type(exc).__name__
        except Exception as exc:  # noqa: BLE001 - what cannot be put into words now, cannot be later
            failure, later = where(exc), False
        finally:
            if not taken and later:
                self._back(some)
        if failure and not self.failure:
            _LOGGER.warning("the receiver of traces does not take them: %s", failure)
        self.failure = failure
        if not taken and not later:
            self.dropped += len(some)
        return taken or not later

    def _back(self, some: list[Trace]) -> None:
        """Before those that came meanwhile, as many as may wait."""
        room = max(0, _MOST - len(self._waiting))
        self.dropped += max(0, len(some) - room)
        self._waiting.extendleft(reversed(some[len(some) - min(room, len(some)) :]))
