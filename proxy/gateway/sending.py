"""A permitted answer on its way out: charged to budgets, on record, then released, as one block or more."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from functools import partial

import msgspec
from aiohttp import web
from msgspec.structs import replace

from proxy.budgets.spending import Meter
from proxy.codings import Coding
from proxy.gateway.answers import Head, release
from proxy.gateway.blocks import Blocks, coded
from proxy.gateway.making import Granted, Maker
from proxy.gateway.recorder import Recorder
from proxy.gateway.standing import Standing
from proxy.gateway.streamed import Ahead, Streamed
from proxy.gateway.validated import etag_of, with_coding
from proxy.gateway.view import Block


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """How one answer is sent."""

    granted: Granted
    head: Head
    coding: Coding | None
    maker: Maker
    recorder: Recorder
    standing: Standing
    meter: Meter
    executor: Executor

    async def made(self) -> web.StreamResponse:
        """Make the answer and send it; raises NoTurn, SourceRefused, StoreUnavailable, Outdated."""
        if self.meter.counts_first(self.granted.permit.plan):
            return await self.maker.made(self.granted, self._counted)
        return await self.maker.made(self.granted, self._send, self.coding)

    async def _send(self, blocks: Blocks) -> web.StreamResponse:
        return await self._release(await blocks.take(), blocks)

    async def _counted(self, blocks: Blocks) -> web.StreamResponse:
        """All that it holds is known, and charged, before the first of its blocks is released."""
        ready: list[Block] = await blocks.take()
        if ready[0].last:
            if self.coding is not None:
                run = partial(asyncio.get_running_loop().run_in_executor, self.executor)
                ready = [await coded(ready[0], self.coding, run)]
            return await self._release(ready, blocks)
        whole = await self.maker.counted(ready, blocks)
        await self.standing.hold()
        over = await self.meter.take(rows=whole.rows, bytes_=whole.size, cells=whole.cells)
        if over is not None:
            return await self.recorder.refuse(self.standing.access, over)
        again = whole.again(self.coding)
        return await self._release(await again.take(), again)

    async def _release(self, ready: list[Block], blocks: Ahead) -> web.StreamResponse:
        await self.standing.hold()
        block, access, head = ready[0], self.standing.access, self.head
        if block.coding != head.coding:
            head = replace(head, coding=block.coding)
        if not block.last:
            answer = Streamed(
                blocks, recorder=self.recorder, standing=self.standing, meter=self.meter
            )
            return await answer.send(ready, head)
        over = await self.meter.take(rows=block.rows, bytes_=block.bytes, cells=block.cells)
        if over is not None:
            return await self.recorder.refuse(access, over)
        receipt = await self.recorder.record(
            access, "complete", block=block, evidence=block.evidence, ended="whole"
        )
        permit = self.granted.permit
        if permit.plan.repeatable:
            etag = etag_of(permit, head.media_type, block, self.granted.keyring)
            head = replace(head, etag=with_coding(etag, block.coding))
        return release(receipt, block, head)
