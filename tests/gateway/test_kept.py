"""Views that are kept: for so long, for so many, and one made at a time."""

from __future__ import annotations

import asyncio
import gc

import pytest

from proxy.errors import SpoolFull, SpoolsFull
from proxy.gateway.kept import KeptViews, Whole
from proxy.spool import Spools


def whole(spools: Spools, data: bytes) -> Whole:
    spool = spools.open()
    spool.write(data)
    return Whole(spool=spool, rows=1, cells={}, digest="", etag='"e"')


async def test_a_view_is_made_once_for_all_who_wait_and_goes_with_its_time():
    spools = Spools(most=100, most_each=100)
    views = KeptViews(seconds=0.2)
    made = []

    async def make():
        await asyncio.sleep(0.02)
        made.append(whole(spools, b"x" * 60))
        return made[-1]

    found = await asyncio.gather(*(views.get("k", "u", make, anew=False) for _ in range(5)))
    assert len(made) == 1
    assert set(found) == set(made)
    again = await views.get("k", "u", make, anew=False)
    assert again is made[0]
    made.clear()
    del found, again
    with pytest.raises(SpoolsFull):
        spools.take(50)
    await asyncio.sleep(0.3)
    gc.collect()
    spools.take(100)


async def test_one_that_cannot_be_made_leaves_nothing_behind():
    views = KeptViews(seconds=60)
    spools = Spools(most=100, most_each=10)

    async def fails():
        raise SpoolFull

    async def works():
        return whole(spools, b"y")

    await views.get("k", "u", works, anew=False)
    with pytest.raises(SpoolFull):
        await views.get("k", "u", fails, anew=True)
    with pytest.raises(SpoolFull):
        await views.get("k", "u", fails, anew=False)


async def test_no_requester_has_more_than_its_share():
    views = KeptViews(seconds=60)
    spools = Spools(most=1000, most_each=10)

    async def make():
        return whole(spools, b"12345")

    for number in range(40):
        await views.get(number, "u", make, anew=False)
    spools.take(1000 - 8 * 5)
    with pytest.raises(SpoolsFull):
        spools.take(1)


@pytest.mark.parametrize("size", [10, 2 << 20])
def test_a_spool_gives_what_was_written_and_gives_back_its_room(tmp_path, size):
    """Within its bounds, in memory or in a file without a name."""
    spools = Spools(most=size + 5, most_each=size + 3, folder=tmp_path)
    with pytest.raises(SpoolFull):
        spools.open().write(b"z" * (size + 4))
    spool = spools.open()
    spool.write(b"a" * size)
    spool.write(b"bcd")
    assert spool.read(size - 1, 3) == b"abc"
    assert spool.size == size + 3
    assert not list(tmp_path.iterdir())
    with pytest.raises(SpoolsFull):
        spools.open().write(b"123")
    spool.close()
    spool.close()
    spools.open().write(b"123")
