"""PROMISE 4 (bounded memory): what was worked off is let go of, while the store is waited for."""

from __future__ import annotations

import asyncio
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from proxy.gateway.blocks import Blocks, Pieces
from proxy.gateway.parts import Part
from proxy.gateway.view import View


class _Records:
    """All that was read of a piece."""


def _batches(_: _Records) -> list:
    return []


class _Watched(View):
    """A view that notes which records are still held when the next piece comes."""

    expands = True
    full = False

    def __init__(self) -> None:
        self.read: list[weakref.ref[_Records]] = []
        self.held: list[int] = []

    def records(self, *_):
        self.held.append(sum(each() is not None for each in self.read))
        records = _Records()
        self.read.append(weakref.ref(records))
        return [partial(_batches, records), partial(_batches, records)]

    def parts(self, _):
        return [Part(records=b"x", rows=1, cells={})]

    def add(self, part):
        return part.records

    def rest(self):
        return iter(())

    def finish(self):
        return b""

    def block(self, data, _, *, last):
        return data, last


async def test_records_that_are_done_are_not_held_until_the_next_come():
    async def source():
        for _ in range(3):
            yield b"x" * 200_000
            await asyncio.sleep(0.2)

    view = _Watched()
    pieces = Pieces(partial(anext, source(), b""), most_at_once=1 << 17, most=1 << 30)
    with ThreadPoolExecutor(2) as executor:
        async with Blocks(pieces, view, executor=executor) as blocks:
            assert (await blocks.take())[-1][1]
    assert len(view.held) > 2 and not any(view.held)


async def test_a_piece_is_what_has_come_when_the_source_pauses():
    """Growing pieces are not waited for where nothing comes; what is very little is."""

    async def source():
        for step in (70_000, 300_000, 100_000, None, 30_000, None, 40_000, 300_000, 1_200_000):
            yield None if step is None else b"x" * step

    pieces = Pieces(partial(anext, source(), b""), most_at_once=1 << 20, most=1 << 30)
    sizes = []
    while not pieces.ended:
        sizes.append(sum(map(len, await pieces.next())))
    assert sizes == [70_000, 300_000, 100_000, 1_570_000, 0]
