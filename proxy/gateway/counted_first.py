"""An answer of more than one block, put aside until it is known how much of rows and cells it holds.

So a budget of rows or cells is charged with all of an answer or with nothing, before its first byte. Were it
charged as blocks are made, how far an answer goes would tell how many of the store's records were read with
what is given: of rows and cells that are not.

PROMISE 4 (bounded memory): what is put aside is in spools, whose number and size are bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Self, TypeVar

from proxy.codings import Coding
from proxy.errors import SpoolFull, SpoolsFull, TooLargeToCount
from proxy.gateway.blocks import coded
from proxy.gateway.streamed import Ahead
from proxy.gateway.view import Block
from proxy.spool import Spools
from proxy.transform import Counts

T = TypeVar("T")

_AT_ONCE = 4
"""Blocks that are held for one answer while it is released."""


class CountedFirst:
    """A whole answer, as it was made; each of its blocks counts as all that it holds."""

    def __init__(self, spools: Spools, executor: Executor) -> None:
        self.rows = 0
        self.cells: Counts = {}
        self.size = 0
        """Bytes without content coding."""
        self._digest = ""
        self._data = spools.open()
        self._evidence = spools.open()
        self._lengths: list[tuple[int, int]] = []
        """Of the data and the evidence of each block."""
        self._executor = executor

    @classmethod
    async def of(
        cls, ready: list[Block], blocks: Ahead, spools: Spools, executor: Executor
    ) -> Self:
        """The answer that begins with the blocks that are `ready`; none has a content coding.

        Raises TooLargeToCount where there will never be room for it, SpoolsFull where there is none now,
        and what making its blocks raises.
        """
        whole = cls(spools, executor)
        try:
            while True:
                for block in ready:
                    await whole._add(block)
                if ready[-1].last:
                    return whole
                ready = await blocks.take()
        except SpoolsFull:
            whole.close()
            raise
        except (SpoolFull, OSError):  # the disk may have less room than we may take
            whole.close()
            raise TooLargeToCount from None
        except BaseException:  # its traceback may hold the spools for long
            whole.close()
            raise

    async def _add(self, block: Block) -> None:
        await self.run(partial(self._data.write, block.data))
        if block.evidence:
            await self.run(partial(self._evidence.write, block.evidence))
        self._lengths.append((len(block.data), len(block.evidence)))
        self.rows, self.cells, self.size = block.rows, block.cells, block.bytes
        self._digest = block.digest

    def close(self) -> None:
        """Let go of it."""
        self._data.close()
        self._evidence.close()

    def again(self, coding: Coding | None) -> Again:
        """Its blocks, with that content coding."""
        return Again(self, coding)

    async def read(self, number: int, at: int, evidence_at: int) -> Block:
        """The block of that number, whose data and evidence begin there."""
        length, evidence = self._lengths[number]
        last = number == len(self._lengths) - 1
        return Block(
            data=await self.run(partial(self._data.read, at, length)),
            rows=self.rows,
            bytes=at + length,
            cells=self.cells,
            last=last,
            digest=self._digest if last else "",
            evidence=await self.run(partial(self._evidence.read, evidence_at, evidence)),
        )

    async def run(self, work: Callable[[], T]) -> T:
        """Do it in a thread: it may wait for a disk."""
        run: Callable[..., Awaitable[T]] = asyncio.get_running_loop().run_in_executor
        return await run(self._executor, work)


class Again:
    """The blocks of an answer that was put aside, in their order."""

    def __init__(self, whole: CountedFirst, coding: Coding | None) -> None:
        self._whole = whole
        self._coding = coding
        self._number = self._at = self._evidence_at = 0

    async def take(self) -> list[Block]:
        """The next blocks; the first one alone, so that nobody waits for others."""
        blocks = [await self._next()]
        while self._number > 1 and not blocks[-1].last and len(blocks) < _AT_ONCE:
            blocks.append(await self._next())
        return blocks

    async def _next(self) -> Block:
        block = await self._whole.read(self._number, self._at, self._evidence_at)
        self._number += 1
        self._at += len(block.data)
        self._evidence_at += len(block.evidence)
        if self._coding is not None:
            block = await coded(block, self._coding, self._whole.run)
        return block
