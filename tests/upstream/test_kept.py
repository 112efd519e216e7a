"""A credential that is made anew: in time, by one for all, and not again and again where it cannot be."""

from __future__ import annotations

import asyncio

import pytest

from proxy.upstream.kept import Kept, Lasting, Unavailable


class Maker:
    """Makes `v1`, `v2` … once it may; counts how often it was asked."""

    def __init__(self, seconds: float | None = 100) -> None:
        self.seconds = seconds
        self.asked = self.now = 0
        self.fails = False
        self.may = asyncio.Event()
        self.may.set()
        self.kept = Kept(self.make, of="store x", clock=lambda: self.now)

    async def make(self) -> Lasting:
        self.asked += 1
        number = self.asked
        await self.may.wait()
        if self.fails:
            raise Unavailable("it is away")
        return Lasting(f"v{number}", self.seconds)

    async def settle(self) -> None:
        task = self.kept._task
        if task is not None:
            await asyncio.wait([task])
            await asyncio.sleep(0)


async def test_one_is_made_for_all_who_wait():
    """Fifty requests at once ask once, and one that goes away takes nothing from the others."""
    maker = Maker()
    maker.may.clear()
    tasks = [asyncio.create_task(maker.kept.get()) for _ in range(50)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    maker.may.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == ["v1"] * 49 and maker.asked == 1


async def test_it_is_made_anew_before_its_end_and_nobody_waits():
    """From four fifths of its life on a new one is made beside the requests, which go on with the old one."""
    maker = Maker(seconds=100)
    assert await maker.kept.get() == "v1"
    maker.now = 79
    assert maker.kept.ready() == "v1" and maker.asked == 1
    maker.now = 81
    maker.may.clear()
    assert maker.kept.ready() == "v1" and maker.kept.ready() == "v1"
    maker.may.set()
    await maker.settle()
    assert maker.kept.ready() == "v2" and maker.asked == 2


async def test_an_outage_is_survived_to_the_end_and_no_longer():
    """While none can be had the old one serves; after its end there is none, and few try."""
    maker = Maker(seconds=100)
    await maker.kept.get()
    maker.fails = True
    for maker.now in range(81, 100):
        assert maker.kept.ready() == "v1"
        await maker.settle()
    assert maker.asked < 8  # pauses that grow, and not a try a request
    maker.now = 100
    assert maker.kept.ready() is None
    tried = maker.asked
    for _ in range(20):
        with pytest.raises(Unavailable):
            await maker.kept.get()
    assert maker.asked <= tried + 1
    maker.now, maker.fails = 200, False
    assert await maker.kept.get() == f"v{maker.asked}"
    assert maker.kept.failures == 0


async def test_what_a_store_refuses_is_made_anew_once():
    """Of many who are refused the same value one makes another; a store that refuses all is not fed for ever."""
    maker = Maker(seconds=None)
    assert await maker.kept.get() == "v1"
    others = await asyncio.gather(*(maker.kept.instead_of("v1") for _ in range(20)))
    assert others == ["v2"] * 20 and maker.asked == 2
    assert await maker.kept.instead_of("v1") == "v2"  # who is late needs no third
    assert await maker.kept.instead_of("v2") is None and maker.asked == 2
    maker.now = 6
    assert await maker.kept.instead_of("v2") == "v3"


async def test_one_that_comes_out_the_same_is_no_other():
    """A file that has not changed is not tried again."""

    async def make() -> Lasting:
        return Lasting("same")

    kept = Kept(make, of="store x", first="same", clock=lambda: 0)
    assert kept.ready() == "same"
    assert await kept.instead_of("same") is None
