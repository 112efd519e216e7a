"""Views that are kept: for so long, for so many, and one made at a time."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from types import SimpleNamespace

import pytest

from proxy import spool
from proxy.errors import SourceRefused, SpoolFull, SpoolsFull
from proxy.gateway.kept import KeptViews, Whole
from proxy.gateway.validated import TooLarge, put_aside
from proxy.gateway.view import Block
from proxy.spool import Spools


def whole(spools: Spools, data: bytes) -> Whole:
    put = spools.open()
    put.write(data)
    return Whole(spool=put, evidence=spools.open(), rows=1, cells={}, digest="", etag='"e"')


async def directly(work, *arguments):
    work(*arguments)


class _Given:
    """Blocks of these bytes, or what is raised in place of one."""

    def __init__(self, parts):
        self._parts = parts

    async def take(self):
        data = self._parts.pop(0)
        if isinstance(data, Exception):
            raise data
        return [Block(data=data, rows=1, bytes=0, cells={}, last=not self._parts)]


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


async def test_a_view_is_kept_from_when_it_is_made():
    """One that takes longer to make than it is kept is made once all the same, for all its ranges."""
    spools = Spools(most=100, most_each=10)
    views = KeptViews(seconds=0.1)
    made = []

    async def make():
        await asyncio.sleep(0.2)
        made.append(whole(spools, b"y"))
        return made[-1]

    await asyncio.gather(*(views.get("k", "u", make, anew=False) for _ in range(3)))
    await views.get("k", "u", make, anew=False)
    assert len(made) == 1


async def test_all_who_wait_for_a_view_are_told_why_it_cannot_be_made():
    """A store that fails, or a view that is too large, is asked for once, however many wait; then anew."""
    views = KeptViews(seconds=60)
    spools = Spools(most=100, most_each=10)
    made = []

    async def make():
        made.append(None)
        await asyncio.sleep(0.02)
        if len(made) == 1:
            raise TooLarge
        return whole(spools, b"y")

    waiting = (views.get("k", "u", make, anew=anew) for anew in (True, False) * 3)
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in found] == [TooLarge] * 6
    assert (await views.get("k", "u", make, anew=False)).size == 1
    assert len(made) == 2


async def test_who_goes_away_while_it_makes_a_view_leaves_that_to_the_next():
    views = KeptViews(seconds=60)
    spools = Spools(most=100, most_each=10)

    async def make():
        await asyncio.sleep(0.02)
        return whole(spools, b"y")

    first, *others = (asyncio.create_task(views.get("k", "u", make, anew=True)) for _ in range(4))
    await asyncio.sleep(0.01)
    first.cancel()
    others[0].cancel()
    found = await asyncio.gather(first, *others, return_exceptions=True)
    assert [isinstance(each, Whole) for each in found] == [False, False, True, True]


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


async def test_room_is_taken_from_whoever_has_most_of_it():
    """One requester's views never keep another's from being kept."""
    spools = Spools(most=100, most_each=50)
    views = KeptViews(seconds=60)

    async def large():
        return whole(spools, b"x" * 50)

    async def small():
        return await put_aside(_Given([b"y" * 20]), spools, lambda _: "", views.drop_one, directly)

    await views.get("one", "greedy", large, anew=False)
    await views.get("two", "greedy", large, anew=False)
    found = await views.get("three", "modest", small, anew=False)
    assert await views.get("three", "modest", large, anew=False) is found
    spools.take(30)
    with pytest.raises(SpoolsFull):
        spools.take(1)
    assert views.drop_one() and views.drop_one() and not views.drop_one()
    spools.take(10)
    with pytest.raises(TooLarge):
        await put_aside(_Given([b"z" * 45]), spools, lambda _: "", views.drop_one, directly)


@pytest.mark.parametrize("failure", [SourceRefused("x", "x"), None, OSError(28, "full")])
async def test_a_view_that_is_not_made_gives_its_room_back_at_once(failure, monkeypatch):
    """Whatever fails, and before any collection of garbage: also a disk that is full earlier than we think."""
    spools = Spools(most=100, most_each=50)
    monkeypatch.setattr(
        spool,
        "tempfile",
        SimpleNamespace(SpooledTemporaryFile=lambda *_, **__: Path("/dev/full").open("w+b")),  # noqa: SIM115
    )

    async def run(work, data):
        if isinstance(failure, OSError) and data == b"last":
            raise failure
        work(data)

    given = _Given(
        [b"x" * 30, failure if isinstance(failure, SourceRefused) else b"last", b"x" * 30]
    )
    gc.disable()
    try:
        with pytest.raises(
            SourceRefused if isinstance(failure, SourceRefused) else TooLarge
        ) as told:
            await put_aside(given, spools, lambda _: "", lambda: False, run)
        spools.take(100)
        assert told.value.__traceback__ is not None
    finally:
        gc.enable()


@pytest.mark.parametrize("size", [10, 2 << 20])
def test_a_spool_gives_what_was_written_and_gives_back_its_room(tmp_path, size):
    """Within its bounds, in memory or in a file without a name."""
    spools = Spools(most=size + 5, most_each=size + 3, folder=tmp_path)
    with pytest.raises(SpoolFull):
        spools.open().write(b"z" * (size + 4))
    put = spools.open()
    put.write(b"a" * size)
    put.write(b"bcd")
    assert put.read(size - 1, 3) == b"abc"
    assert put.size == size + 3
    assert not list(tmp_path.iterdir())
    with pytest.raises(SpoolsFull):
        spools.open().write(b"123")
    put.close()
    put.close()
    spools.open().write(b"123")
