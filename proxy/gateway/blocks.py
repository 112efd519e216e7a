"""The blocks of one requester's view, made ahead of their release by at most a few.

A short source is worked off at once, in the event loop; a longer one by threads (pipeline.py), which the
loop gives the pieces that the network brings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Final, Self

import msgspec

from proxy.codings import Coding
from proxy.errors import SourceRefused
from proxy.gateway.pipeline import Pipeline
from proxy.gateway.view import Block, Cutter, View

_FIRST_PIECE: Final = 1 << 16
"""The source's first piece is small, so that the first rows leave early; pieces then grow."""
_GROWTH: Final = 4
"""To how many times the one before: some short ones cost as much as a long one."""
INLINE: Final = 1 << 16
"""A source up to this size is worked off at once: a trip to a thread costs more."""
_CODED_AT_ONCE: Final = 1 << 14
"""Bytes of the answer up to which a block is coded at once."""


class Blocks:
    """All blocks of a view, in order."""

    def __init__(
        self, pieces: Pieces, view: View, *, executor: Executor, coding: Coding | None = None
    ) -> None:
        """`coding` is put on the finished blocks."""
        self._pieces = pieces
        self._coding = coding
        self._view = view
        self._executor = executor
        self._ready: list[Block] = []
        """All of a short answer, until it is taken."""
        self._queue: asyncio.Queue[Block | Exception]
        """Of a longer one."""
        self._pipeline: Pipeline | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin: a short source is worked off at once, a longer one in threads."""
        piece = await self._pieces.next()
        short = self._pieces.ended and sum(map(len, piece)) <= INLINE
        if short and not self._view.expands:
            await self._make_at_once(piece)
        else:
            self._queue = asyncio.Queue()  # bounded by the pipeline
            self._pipeline = Pipeline(
                self._view, executor=self._executor, coding=self._coding, give=self._give
            )
            self._reader = asyncio.create_task(self._read(piece, self._pipeline))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; nothing is left running."""
        if self._reader is not None and self._pipeline is not None:
            self._reader.cancel()
            try:
                with suppress(asyncio.CancelledError):
                    await self._reader
            finally:
                try:
                    await self._pipeline.stop()
                finally:
                    # PROMISE 4 (bounded memory): it holds these blocks as they hold it, and beside them the
                    # source, the coder and all that was made, which are not to wait for a collection.
                    self._pipeline = self._reader = None

    async def take(self) -> list[Block]:
        """The next block and all that are ready; raises what the source or the decoder raised."""
        taken, self._ready = self._ready, []
        if taken:
            return taken
        item = await self._queue.get()
        while True:
            if isinstance(item, Exception):
                if not taken:
                    raise item
                # Finished blocks first: the failure is met again at the next call.
                self._queue.put_nowait(item)
                break
            taken.append(item)
            if self._queue.empty():
                break
            item = self._queue.get_nowait()
        if self._pipeline is not None:
            self._pipeline.taken(len(taken))
        return taken

    def _give(self, finished: list[Block | Exception]) -> None:
        for item in finished:
            self._queue.put_nowait(item)

    async def _make_at_once(self, piece: list[bytes]) -> None:
        """Fill `_ready`; where there are blocks before a failure, as of a longer one they come first."""
        cutter = Cutter(self._view)
        blocks: list[Block] = []
        try:
            short = self._view.short(piece)
            if short is not None:
                blocks = cutter.all(short)
            else:
                for work in chain(self._view.records(*piece), self._view.rest()):
                    for part in self._view.parts(work):
                        blocks += cutter.add(part)
                    if self._view.full:
                        break
                blocks += cutter.end()
        except SourceRefused as failure:
            if not blocks:
                raise
            self._queue = asyncio.Queue()
            self._queue.put_nowait(failure)
        if self._coding is None:
            self._ready = blocks
        else:
            run = partial(asyncio.get_running_loop().run_in_executor, self._executor)
            self._ready = [await coded(block, self._coding, run) for block in blocks]

    async def _read(self, piece: list[bytes], pipeline: Pipeline) -> None:
        """Hand the pipeline what the network gives, and what goes wrong with it."""
        try:
            while await pipeline.put(piece, last=self._pieces.ended) and not self._pieces.ended:
                piece = await self._pieces.next()
        except Exception as failure:  # noqa: BLE001 - every failure must reach the one who releases
            await pipeline.put(failure, last=True)


async def coded(
    block: Block, coding: Coding, run: Callable[[Callable[[], bytes]], Awaitable[bytes]]
) -> Block:
    """The next block of an answer with its content coding; `run` calls a function in a thread."""
    work = partial(coding.block, block.data, last=block.last)
    data = work() if len(block.data) <= _CODED_AT_ONCE else await run(work)
    return msgspec.structs.replace(block, data=data, coding=coding.coding)


class Pieces:
    """What the network gives, regrouped into pieces that grow from small to `most_at_once`.

    Where it gives nothing for a while, what has come is not held for that: a piece is then what there is, if
    that is not very little.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[bytes | None]],
        *,
        most_at_once: int,
        most: int,
        here: bytes | None = None,
    ) -> None:
        """`read` gives the next bytes, none after the end, None for a pause; over `most` in all is refused.

        `here` are all of them, where they are here already.
        """
        self._read = read
        self._here = here
        self._most_at_once = most_at_once
        self._left = most
        self._size = self._first = min(_FIRST_PIECE, most_at_once)
        self.ended = False

    async def next(self) -> list[bytes]:
        """The next piece, as it came; sets `ended` with the last one. Raises SourceRefused beyond the limit.

        Whoever works on it puts it together, in a thread, with what is left of the one before.
        """
        held: list[bytes] = []
        size = 0
        here, self._here = self._here, None
        if here is not None:
            self.ended = True
            self._take(here)
            return [here] if here else held
        while size <= self._size:
            part = await self._read()
            if part is None:
                if size <= self._first:
                    continue
                break
            if not part:
                self.ended = True
                break
            held.append(part)
            size += len(part)
            self._take(part)
        self._size = min(self._size * _GROWTH, self._most_at_once)
        return held

    def _take(self, part: bytes) -> None:
        self._left -= len(part)
        if self._left < 0:
            raise SourceRefused("source-too-long", "the store's answer is over the byte limit")
