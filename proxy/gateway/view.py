"""One requester's view of a report, made block by block: decode → transform → encode.

PROMISE 4 (bounded memory): at most one piece of the source, its records as columns, and a bounded queue
of finished blocks are held, whatever the size of the report.

PROMISE 1, framing: blocks are cut from the answer's own bytes at a fixed size, so that their number and
lengths say nothing of what was dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from hmac import HMAC
from typing import Final, Self

from proxy.errors import SourceRefused
from proxy.formats.base import Decoder, Encoder
from proxy.transform import Transform

BLOCK: Final = 1 << 18
"""Bytes of the answer in one block."""
_FIRST_PIECE: Final = 1 << 16
"""The source's first piece is small, so that the first rows leave early; pieces then double."""
_INLINE: Final = 1 << 16
"""A source up to this size is worked off at once: a trip to a thread costs more."""
_QUEUED_BLOCKS: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Some bytes of the answer, and how much of it exists when they are released (never too little)."""

    data: bytes
    rows: int
    bytes: int
    """Of the answer up to and with this block."""
    cells: dict[str, dict[str, int]]
    last: bool
    digest: str = ""
    """Of the whole answer, with its last block."""


class View:
    """The pure part: source bytes in, the requester's bytes out."""

    def __init__(
        self, decoder: Decoder, transform: Transform, encoder: Encoder, digest: HMAC
    ) -> None:
        self._decoder = decoder
        self._transform = transform
        self._encoder = encoder
        self._digest = digest

    def feed(self, piece: bytes) -> bytes:
        """Take the next bytes of the source; raises SourceRefused."""
        return self._digested(
            [self._encoder.feed(self._transform.apply(b)) for b in self._decoder.feed(piece)]
        )

    def finish(self) -> bytes:
        """The source has ended; raises SourceRefused where it may not end here."""
        parts = [self._encoder.feed(self._transform.apply(b)) for b in self._decoder.finish()]
        return self._digested([*parts, self._encoder.finish()])

    def _digested(self, parts: list[bytes]) -> bytes:
        out = parts[0] if len(parts) == 1 else b"".join(parts)
        if out:
            self._digest.update(out)
        return out

    def block(self, data: bytes, end: int, *, last: bool) -> Block:
        """A block as the view stands now."""
        return Block(
            data=data,
            rows=self._transform.rows,
            bytes=end,
            cells={field: dict(counts) for field, counts in self._transform.cells.items()},
            last=last,
            digest=self._digest.hexdigest() if last else "",
        )

    @property
    def undeclared(self) -> frozenset[str]:
        """Columns that the store gives and the catalogue does not declare (they are never passed)."""
        return self._decoder.undeclared


class Blocks:
    """The view's blocks, made ahead of their release by at most a few."""

    def __init__(self, pieces: Pieces, view: View, *, executor: Executor) -> None:
        self._pieces = pieces
        self._view = view
        self._executor = executor
        self._queue: asyncio.Queue[Block | Exception] = asyncio.Queue(_QUEUED_BLOCKS)
        self._maker: asyncio.Task[None] | None = None
        self._pending = bytearray()
        self._cut_off = 0

    async def __aenter__(self) -> Self:
        """Begin: a short source is worked off at once, a longer one in a task of its own."""
        piece = await self._pieces.next()
        if self._pieces.ended and len(piece) <= _INLINE:
            self._pending += self._view.feed(piece)
            self._pending += self._view.finish()
            blocks = list(self._cut(everything=True))
            self._queue = asyncio.Queue()
            for block in blocks:
                self._queue.put_nowait(block)
        else:
            self._maker = asyncio.create_task(self._make(piece))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; nothing is left running."""
        if self._maker is not None and not self._maker.done():
            self._maker.cancel()
            with suppress(asyncio.CancelledError):
                await self._maker

    async def take(self) -> list[Block]:
        """The next block and all that are ready; raises what the source or the decoder raised."""
        taken: list[Block] = []
        item = await self._queue.get()
        while True:
            if isinstance(item, Exception):
                if not taken:
                    raise item
                # Finished blocks first: the failure is met again at the next call.
                self._queue.put_nowait(item)
                return taken
            taken.append(item)
            if self._queue.empty():
                return taken
            item = self._queue.get_nowait()

    async def _make(self, piece: bytes) -> None:
        try:
            await self._produce(piece)
        except Exception as exc:  # noqa: BLE001 - every failure must reach the one who releases
            await self._queue.put(exc)

    async def _produce(self, piece: bytes) -> None:
        loop = asyncio.get_running_loop()
        while True:
            last = self._pieces.ended
            # The network is read on while a thread works.
            ahead = None if last else asyncio.ensure_future(self._pieces.next())
            try:
                made = await loop.run_in_executor(self._executor, self._work, piece, last)
                for block in made:
                    await self._queue.put(block)
                if ahead is None:
                    return
                piece = await ahead
            finally:
                if ahead is not None and not ahead.done():
                    ahead.cancel()
                    with suppress(asyncio.CancelledError):
                        await ahead

    def _work(self, piece: bytes, last: bool) -> list[Block]:  # noqa: FBT001 - for an executor
        self._pending += self._view.feed(piece)
        if last:
            self._pending += self._view.finish()
        return list(self._cut(everything=last))

    def _cut(self, *, everything: bool) -> Iterator[Block]:
        """Whole blocks of what is pending, always keeping some: the last block is never empty."""
        start = 0
        while len(self._pending) - start > BLOCK:
            self._cut_off += BLOCK
            data = bytes(memoryview(self._pending)[start : start + BLOCK])
            yield self._view.block(data, self._cut_off, last=False)
            start += BLOCK
        del self._pending[:start]
        if everything:
            self._cut_off += len(self._pending)
            yield self._view.block(bytes(self._pending), self._cut_off, last=True)


class Pieces:
    """What the network gives, regrouped into pieces that double from small to `most_at_once`."""

    def __init__(self, source: AsyncIterator[bytes], *, most_at_once: int, most: int) -> None:
        """Over `most` bytes in all the source is refused."""
        self._source = aiter(source)
        self._most_at_once = most_at_once
        self._left = most
        self._size = min(_FIRST_PIECE, most_at_once)
        self.ended = False

    async def next(self) -> bytes:
        """The next piece; sets `ended` with the last one. Raises SourceRefused beyond the limit."""
        held = bytearray()
        while len(held) <= self._size:
            part = await anext(self._source, None)
            if part is None:
                self.ended = True
                break
            held += part
            self._left -= len(part)
            if self._left < 0:
                raise SourceRefused("source-too-long", "the store's answer is over the byte limit")
        self._size = min(self._size * 2, self._most_at_once)
        return bytes(held)
