"""Alarms over HTTP: JSON by POST, at least once, in their order, signed where there is a secret.

    Authorization: Bearer …                    where there is a token
    Counterfoil-Timestamp: 1795989520          seconds since the epoch
    Counterfoil-Signature: sha256=5f3a…        HMAC-SHA-256 of `TIMESTAMP.BODY`, in hex

A receiver answers 2xx once it has an alarm; anything else, and it is sent again, later each time. One that is
refused for what it holds (400, 413, 422) lets all others go first, which a receiver may well take. An alarm
that was taken and not answered comes again with the same `id`. What is not sent when the process dies is not
sent: what goes on is raised again by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import time
from collections import deque
from typing import Final

import aiohttp

_LOGGER: Final = logging.getLogger("counterfoil")
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_MOST: Final = 256
"""Alarms that wait; of more, the oldest go."""
_FIRST_SECONDS: Final = 0.5
_LAST_SECONDS: Final = 60.0
_CLOSING_SECONDS: Final = 3.0
_FOR_WHAT_IT_HOLDS: Final = frozenset({400, 413, 422})
"""Answers to an alarm that say nothing of the others."""


class Webhook:
    """One receiver."""

    def __init__(self, url: str, *, token: str | None, secret: bytes | None) -> None:
        self._url = url
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._secret = secret
        self._waiting: deque[bytes] = deque()
        self._refused = 0
        """How many in a row were refused, each for what it holds, and wait again behind all others."""
        self._more = asyncio.Event()
        self.failure = ""
        """Why it does not take them now."""
        self.dropped = 0
        """How many went without having been sent."""

    @property
    def waiting(self) -> int:
        """How many alarms it has not taken yet."""
        return len(self._waiting)

    def put(self, body: bytes) -> None:
        """Send it when it is its turn; never waits."""
        if len(self._waiting) >= _MOST:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(body)
        self._more.set()

    async def run(self) -> None:
        """Go on until cancelled; then try once more for a moment."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            try:
                await self._send_all(session)
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CLOSING_SECONDS):
                        while self._waiting and (await self._sent(session) or self._others):
                            pass

    async def _send_all(self, session: aiohttp.ClientSession) -> None:
        pause = _FIRST_SECONDS
        while True:
            if not self._waiting:
                self._more.clear()
                await self._more.wait()
            if await self._sent(session):
                pause = _FIRST_SECONDS
            elif not self._others:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_SECONDS)
                self._refused = 0

    @property
    def _others(self) -> bool:
        """Whether some of what waits was not refused for what it holds: that need not wait any longer."""
        return 0 < self._refused < len(self._waiting)

    async def _sent(self, session: aiohttp.ClientSession) -> bool:
        """Whether the oldest one is taken."""
        body = self._waiting[0]
        failure, refused = "", 0
        try:
            async with session.post(
                self._url, data=body, headers=self._signed(body), allow_redirects=False
            ) as answer:
                if not 200 <= answer.status < 300:
                    failure = f"it answered {answer.status}"
                    if answer.status in _FOR_WHAT_IT_HOLDS:
                        refused = self._refused + 1
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            failure = type(exc).__name__
        if failure and not self.failure:
            _LOGGER.warning("the webhook for alarms does not take them: %s", failure)
        self.failure, self._refused = failure, refused
        if (refused or not failure) and self._waiting and self._waiting[0] is body:
            self._waiting.popleft()
            if refused:
                self._waiting.append(body)
        return not failure

    def _signed(self, body: bytes) -> dict[str, str]:
        if self._secret is None:
            return self._headers
        now = str(int(time.time()))
        mac = hmac.new(self._secret, now.encode() + b"." + body, hashlib.sha256).hexdigest()
        return {
            **self._headers,
            "Counterfoil-Timestamp": now,
            "Counterfoil-Signature": f"sha256={mac}",
        }
