"""A store's document as it comes: bytes without their content coding, and what they tell of the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from itertools import islice
from typing import Final

import aiohttp
from aiohttp import hdrs

from proxy.codings import Decoding
from proxy.errors import StoreTimeout, StoreUnavailable
from proxy.upstream.breaker import Trial
from proxy.upstream.exchange import Answer
from proxy.upstream.live import Live

_INLINE: Final = 4 << 10
"""Coded bytes up to which the first steps are done at once: a trip to a thread costs more."""
_LONG: Final = 1.0
"""Seconds for which an answer is not read since a requester takes it slowly: no store waits for ever, and
whoever does that shall not shut it for others."""
_DECODED_AT_ONCE: Final = 1 << 18
"""Decoded bytes that are made in one trip to a thread, and held."""

_PAUSE: Final = 0.05
"""Seconds without a byte after which whoever reads is told, and may work on what it has meanwhile."""

Read = Callable[[], Awaitable[bytes | None]]
"""The next bytes of a document; none after its end; None where it pauses."""


class Source:
    """A store's document as it comes."""

    def __init__(
        self,
        answer: Answer,
        decoding: Decoding | None,
        executor: Executor | None,
        live: Live,
        trial: Trial,
    ) -> None:
        self._body = _Body(answer, live, trial)
        self.read: Read = self._body.read
        """Raises StoreUnavailable, StoreTimeout or SourceRefused."""
        self._plain = decoding is None
        if decoding is None and hdrs.CONTENT_LENGTH in answer.headers:
            answer.hasten(int(answer.headers[hdrs.CONTENT_LENGTH]))
        if decoding is not None:
            self.read = partial(anext, _decoded(self._body.read, decoding, executor), b"")

    def here(self, most: int) -> bytes | None:
        """All of it, where that has come, is `most` bytes or fewer, and nothing was read; None where not."""
        return self._body.here(most) if self._plain else None

    def end(self) -> None:
        """No more of it is read."""
        self._body.end()


class _Body:
    """The bytes of an answer, and what they tell of the store. It holds nothing that holds it."""

    __slots__ = (
        "_answer", "_left", "_live", "_loop", "_measured", "_read", "_slow", "_taken", "_trial",
    )  # fmt: skip

    def __init__(self, answer: Answer, live: Live, trial: Trial) -> None:
        self._answer = answer
        self._live = live
        self._trial: Trial | None = trial
        self._read = False
        self._measured = hdrs.CONTENT_LENGTH in answer.headers
        self._loop = asyncio.get_running_loop()
        self._left = self._loop.time()
        """Since when nobody reads, while nobody does."""
        self._slow = False
        """Whether nobody did for long."""
        self._taken = 0
        """Bytes that were read."""

    def end(self) -> None:
        self._answer.end()
        self._live.room.leave()
        if self._trial is not None and self._read:
            self._trial.succeeded()

    def here(self, most: int) -> bytes | None:
        body = self._answer.body
        if self._read or not body.is_eof() or body.total_bytes > most or body.exception():
            return None
        self._read = True
        return body.read_nowait()

    async def read(self) -> bytes | None:
        if self._loop.time() - self._left > _LONG:
            self._slow = True
        here = self._answer.body.total_bytes > self._taken
        try:
            # To watch for a pause takes time, and there is none where bytes are here already.
            piece = await (self._next() if here else self._next_or_pause())
        except TimeoutError as exc:
            self._failed()
            raise StoreTimeout("store-timeout", "the store stopped answering") from exc
        except (aiohttp.ClientError, OSError) as exc:
            self._failed()
            raise StoreUnavailable("store-cut-off", "the store's answer broke off") from exc
        if piece is not None:
            self._read = True
            self._taken += len(piece)
        self._left = self._loop.time()
        return piece

    async def _next(self) -> bytes:
        # By its length it comes as the network gives it; of chunks, which may be many, all at once.
        body = self._answer.body
        return (await body.readchunk())[0] if self._measured else await body.readany()

    async def _next_or_pause(self) -> bytes | None:
        pause = asyncio.timeout(_PAUSE)
        try:
            async with pause:
                return await self._next()
        except TimeoutError:
            if pause.expired():
                return None
            raise

    def _failed(self) -> None:
        if self._trial is not None and not self._slow:
            self._live.failed(self._trial)
        self._trial = None


async def _decoded(
    read: Read, decoding: Decoding, executor: Executor | None
) -> AsyncGenerator[bytes | None]:
    """The pieces without their content coding; what takes long is done in `executor`."""
    loop = asyncio.get_running_loop()
    while (piece := await read()) != b"":
        if piece is None:
            yield None
            continue
        steps = decoding.feed(piece)
        if len(piece) <= _INLINE:
            made = list(islice(steps, 2))
            for step in filter(None, made):  # nothing would be the end
                yield step
            if len(made) < 2:
                continue
        while some := await loop.run_in_executor(executor, _some, steps):
            for step in filter(None, some):
                yield step
    decoding.finish()


def _some(steps: Iterator[bytes]) -> list[bytes]:
    """As many steps as are decoded in one trip to a thread."""
    made, size = [], 0
    for step in steps:
        made.append(step)
        size += len(step)
        if size >= _DECODED_AT_ONCE:
            break
    return made
