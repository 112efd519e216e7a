"""A store's document read twice: its rows are counted in groups, and only then is any of them given.

PROMISE 4 (bounded memory): the document is put aside while it is counted, and only the columns are decoded
by which rows are counted. What is too large for either is refused before anything is released.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Final, TypeVar

from proxy.errors import SpoolFull, SpoolsFull, TooLargeToCount
from proxy.formats.base import Decoder, Work
from proxy.gateway.blocks import Pieces
from proxy.spool import Spool
from proxy.treatments.groups import Groups, Tally

_INLINE: Final = 1 << 16
"""Bytes that are worked off at once: a trip to a thread costs more."""
_AT_ONCE: Final = 1 << 20
"""Bytes that are read back at once."""

T = TypeVar("T")


class Counted:
    """A document that is counted and put aside."""

    def __init__(
        self,
        decoder: Decoder,
        spool: Spool,
        executor: Executor,
        failed: Callable[[Decoder], None],
    ) -> None:
        """`failed` is told of the decoder where the document is not read to its end."""
        self._failed = failed
        self._decoder = decoder
        self._spool = spool
        self._executor = executor

    async def groups(self, pieces: Pieces, tally: Tally) -> Groups:
        """The groups that may be given, at the document's end; `tally` is of no use afterwards.

        Raises SourceRefused: TooLargeToCount among others, and SpoolsFull.
        """
        try:
            while True:
                piece = await pieces.next()
                inline = sum(map(len, piece)) <= _INLINE and not self._decoder.expands
                await self._done(partial(self._take, piece, tally), inline=inline)
                del piece  # while the next one is awaited
                if pieces.ended:
                    return await self._done(partial(self._end, tally), inline=inline)
        except BaseException:
            self._failed(self._decoder)
            raise

    async def again(self) -> AsyncIterator[bytes]:
        """The document's bytes."""
        size = self._spool.size
        for start in range(0, size, _AT_ONCE):
            read = partial(self._spool.read, start, _AT_ONCE)
            yield await self._done(read, inline=size <= _INLINE)

    def close(self) -> None:
        """Let go of what is put aside."""
        self._decoder.close()
        self._spool.close()

    async def _done(self, work: Callable[[], T], *, inline: bool) -> T:
        """What `work` gives; when this is cancelled, it has ended: nothing is let go of under its feet."""
        if inline:
            return work()
        ahead = asyncio.get_running_loop().run_in_executor(self._executor, work)
        try:
            return await asyncio.shield(ahead)
        except asyncio.CancelledError:
            await asyncio.wait((ahead,))
            raise

    def _take(self, piece: list[bytes], tally: Tally) -> None:
        try:
            for block in piece:
                self._spool.write(block)
            works = deque(self._decoder.cut(*piece))
            while works:  # one that is done is held no longer
                _count(works.popleft(), tally)
        except SpoolsFull:
            raise
        except SpoolFull:
            raise TooLargeToCount from None
        except OSError:  # the disk may have less room than we may take
            raise SpoolsFull from None

    def _end(self, tally: Tally) -> Groups:
        for work in self._decoder.finish():
            _count(work, tally)
        self._decoder.close()
        return tally.groups()


def _count(work: Work, tally: Tally) -> None:
    for batch in work():
        tally.count(batch)
