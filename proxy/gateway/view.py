"""One requester's view of a report, made block by block: decode → transform → encode.

PROMISE 4 (bounded memory): a few pieces of the source, their records as columns, and a bounded queue of
finished blocks are held, whatever the size of the report.

PROMISE 1, framing: blocks are cut from the answer's own bytes at a fixed size, so that their number and
lengths say nothing of what was dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from hmac import HMAC
from itertools import chain
from typing import Any, Final, Self, TypeVar

import msgspec

from proxy.batch import Batch
from proxy.codings import IDENTITY, Coding
from proxy.errors import SourceRefused
from proxy.formats.base import Decoder, Encoder, Work
from proxy.gateway.parts import Failing, Part, summed, until
from proxy.transform import Counts, Transform

BLOCK: Final = 1 << 18
"""Bytes of the answer in one block."""
_FIRST_PIECE: Final = 1 << 16
"""The source's first piece is small, so that the first rows leave early; pieces then double."""
_INLINE: Final = 1 << 16
"""A source up to this size is worked off at once: a trip to a thread costs more."""
_CODED_INLINE: Final = 1 << 14
"""Bytes of the answer up to which a block is coded at once."""
_QUEUED_BLOCKS: Final = 16
_AT_ONCE: Final = 2
"""Pieces of which parts are made at once: memory is bounded by it."""

T = TypeVar("T")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Some bytes of the answer, and how much of it exists when they are released (never too little)."""

    data: bytes
    """As it is sent."""
    rows: int
    bytes: int
    """Of the answer up to and with this block, without content coding."""
    cells: Counts
    last: bool
    digest: str = ""
    """Of the whole answer without content coding, with its last block."""
    coding: str = IDENTITY
    """The content coding that the data has."""


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """What the source goes through, made for one request."""

    decoder: Decoder
    transform: Transform
    encoder: Encoder[Any]
    digest: HMAC
    """Takes the answer's bytes."""


class View:
    """The pure part: source bytes in, the requester's bytes out.

    `records`, `rest`, `add` and `finish` go in the order of the source; `parts` depends on its work alone.
    """

    def __init__(self, steps: Steps) -> None:
        self._decoder = steps.decoder
        self._transform = steps.transform
        self._encoder = steps.encoder
        self._digest = steps.digest
        self._rows = 0
        self._cells: Counts = {}
        self._failure: SourceRefused | None = None

    @property
    def full(self) -> bool:
        """Whether nothing that is still to come of the source would be given."""
        return False

    @property
    def expands(self) -> bool:
        """Whether a short source may be much work."""
        return self._decoder.expands

    @property
    def adds_lightly(self) -> bool:
        """Whether parts are bytes, and `add` costs no more than one look at them."""
        return self._encoder.joins_lightly

    def records(self, piece: bytes) -> list[Work]:
        """The records that the next bytes of the source complete; raises SourceRefused."""
        works = self._decoder.cut(piece)
        self._encoder.source_types = self._decoder.source_types
        return works

    def rest(self) -> Iterator[Work]:
        """The records that are left at the source's end, found one by one; raises SourceRefused."""
        for work in self._decoder.finish():
            self._encoder.source_types = self._decoder.source_types
            yield work
        self._encoder.source_types = self._decoder.source_types

    def close(self) -> None:
        """Let go of what is held beside memory."""
        self._decoder.close()

    def parts(self, work: Work) -> list[Part]:
        """What the requester gets of some records, up to what cannot be given; raises SourceRefused."""
        made: list[Part] = []
        for batch in work():
            try:
                made.append(self.part(batch))
            except SourceRefused as failure:
                return made + until(failure, batch, self._transform.released(batch), self.part)
        return made

    def part(self, batch: Batch) -> Part:
        """What the requester gets of some records; raises SourceRefused where a cell has no place."""
        given = self._transform.apply(batch)
        return Part(
            records=self._encoder.encode(given.batch), rows=given.batch.height, cells=given.cells
        )

    def add(self, part: Part) -> bytes:
        """The next bytes of the answer; raises SourceRefused, and again ever after."""
        if isinstance(part, Failing):
            self._failure = part.failure
        if self._failure is not None:
            raise SourceRefused(self._failure.cause, str(self._failure))
        self._count(part)
        return self._digested(self._encoder.join(part.records))

    def finish(self) -> bytes:
        """The end of the answer."""
        return self._digested(self._encoder.finish())

    def _count(self, part: Part) -> None:
        self._rows += part.rows
        self._cells = summed(self._cells, part.cells) if self._cells else part.cells

    def _digested(self, out: bytes) -> bytes:
        if out:
            self._digest.update(out)
        return out

    def block(self, data: bytes, end: int, *, last: bool) -> Block:
        """A block as the view stands now."""
        return Block(
            data=data,
            rows=self._rows,
            bytes=end,
            cells=self._cells,
            last=last,
            digest=self._digest.hexdigest() if last else "",
        )

    @property
    def undeclared(self) -> frozenset[str]:
        """Columns that the store gives and the catalogue does not declare (they are never passed)."""
        return self._decoder.undeclared

    @property
    def vanished(self) -> frozenset[str] | None:
        """Columns that the catalogue declares and the store does not give; None where nobody knows."""
        return self._decoder.vanished

    @property
    def compared(self) -> bool:
        """Whether the two above are known."""
        return self._decoder.compared


class Blocks:
    """The view's blocks, made ahead of their release by at most a few."""

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
        self._maker: asyncio.Task[None] | None = None
        self._pending = bytearray()
        self._cut_off = 0

    async def __aenter__(self) -> Self:
        """Begin: a short source is worked off at once, a longer one in a task of its own."""
        piece = await self._pieces.next()
        if self._pieces.ended and len(piece) <= _INLINE and not self._view.expands:
            await self._make_at_once(piece)
        else:
            self._queue = asyncio.Queue(_QUEUED_BLOCKS)
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
                return taken
            taken.append(item)
            if self._queue.empty():
                return taken
            item = self._queue.get_nowait()

    async def _make_at_once(self, piece: bytes) -> None:
        """Fill `_ready`; where there are blocks before a failure, as of a longer one they come first."""
        try:
            for work in chain(self._view.records(piece), self._view.rest()):
                for part in self._view.parts(work):
                    self._pending += self._view.add(part)
            blocks = self._end()
        except SourceRefused as failure:
            blocks = list(self._cut(everything=False))
            if not blocks:
                raise
            self._queue = asyncio.Queue(1)
            self._queue.put_nowait(failure)
        self._ready = [await self._coded(block) for block in blocks]

    async def _make(self, piece: bytes) -> None:
        try:
            await self._produce(piece)
        except Exception as exc:  # noqa: BLE001 - every failure must reach the one who releases
            await self._queue.put(exc)

    async def _produce(self, piece: bytes) -> None:
        """Find the records of each piece in turn; make what becomes of them, two pieces at once."""
        parts: deque[asyncio.Future[list[Part]]] = deque()
        try:
            try:
                await self._work_off(piece, parts)
            except Exception:
                # What came before a failure does not depend on it.
                await self._hand_on(parts, at_most=0)
                raise
            await self._hand_on(parts, at_most=0)
            for block in await self._run(self._end):
                await self._queue.put(await self._coded(block))
        finally:
            for part in parts:
                if not part.cancel() and not part.cancelled():
                    part.exception()  # of what comes after a failure nobody is told

    async def _work_off(self, piece: bytes, parts: deque[asyncio.Future[list[Part]]]) -> None:
        while True:
            # The network is read on while threads work.
            ahead = None if self._pieces.ended else asyncio.ensure_future(self._pieces.next())
            try:
                works = deque(await self._run(partial(self._view.records, piece)))
                while works:  # one that is done is held no longer: it may hold all that was read
                    await self._begin(works.popleft(), parts)
                await self._hand_on(parts, at_most=_AT_ONCE - 1)
                if ahead is None:
                    rest = self._view.rest()
                    while (work := await self._run(partial(next, rest, None))) is not None:
                        await self._begin(work, parts)
                        if self._view.full:
                            return
                    return
                while parts and not ahead.done():  # what is ready does not wait for the store
                    await asyncio.wait((ahead, parts[0]), return_when=asyncio.FIRST_COMPLETED)
                    if parts[0].done():
                        await self._hand_on(parts, at_most=len(parts) - 1)
                if self._view.full:
                    if ahead.done():
                        ahead.exception()  # a failure after the last row wanted is nobody's matter
                    return
                piece = await ahead
            finally:
                if ahead is not None and not ahead.done():
                    ahead.cancel()
                    with suppress(asyncio.CancelledError):
                        await ahead

    async def _begin(self, work: Work, parts: deque[asyncio.Future[list[Part]]]) -> None:
        """Make parts of some records, once there is room for them."""
        await self._hand_on(parts, at_most=_AT_ONCE - 1)
        parts.append(self._run(partial(self._view.parts, work)))

    async def _hand_on(self, parts: deque[asyncio.Future[list[Part]]], *, at_most: int) -> None:
        """Queue the blocks of the parts in their order, until no more than `at_most` are in hand."""
        while len(parts) > at_most:
            made = await parts[0]
            del parts[0]
            for part in made:
                short = self._view.adds_lightly and len(part.records) <= BLOCK
                blocks = self._add(part) if short else await self._run(partial(self._add, part))
                for block in blocks:
                    await self._queue.put(await self._coded(block))

    async def _coded(self, block: Block) -> Block:
        """The next block as it is sent."""
        if self._coding is None:
            return block
        return await coded(block, self._coding, self._run)

    def _run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _add(self, part: Part) -> list[Block]:
        self._pending += self._view.add(part)
        return list(self._cut(everything=False))

    def _end(self) -> list[Block]:
        self._pending += self._view.finish()
        return list(self._cut(everything=True))

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


async def coded(
    block: Block, coding: Coding, run: Callable[[Callable[[], bytes]], Awaitable[bytes]]
) -> Block:
    """The next block of an answer with its content coding; `run` calls a function in a thread."""
    work = partial(coding.block, block.data, last=block.last)
    data = work() if len(block.data) <= _CODED_INLINE else await run(work)
    return msgspec.structs.replace(block, data=data, coding=coding.coding)


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
        held: list[bytes] = []  # a buffer that grows would be copied many times over
        size = 0
        while size <= self._size:
            part = await anext(self._source, None)
            if part is None:
                self.ended = True
                break
            held.append(part)
            size += len(part)
            self._left -= len(part)
            if self._left < 0:
                raise SourceRefused("source-too-long", "the store's answer is over the byte limit")
        self._size = min(self._size * 2, self._most_at_once)
        return b"".join(held)
