"""Long answers worked off in threads are what one step after the other gives, whatever happens on the way."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

import msgspec
import pytest
from polars.exceptions import PanicException

from proxy.errors import SourceRefused
from proxy.gateway import view as view_module
from proxy.gateway.blocks import Blocks
from proxy.gateway.parts import Part
from proxy.gateway.view import Block, Cutter, View

FAILURES = (SourceRefused("bent", "bent"), ValueError("wrong"), MemoryError(), PanicException("p"))
LONGEST = 40.0
"""Seconds after which an answer hangs."""


class Script(msgspec.Struct, frozen=True):
    """What a source holds, and where it fails; works are the bytes of their parts."""

    pieces: list[list[list[bytes]]]
    rest: list[list[bytes]]
    fails: str
    """Which step fails …"""
    at: int
    """… at which call."""
    failure: BaseException
    full: int
    """After so many parts nothing more is given."""


def scripted(chance: random.Random) -> Script:
    def works(most: int) -> list[list[bytes]]:
        return [
            [chance.randbytes(chance.choice((0, 1, 30, 400))) for _ in range(chance.randrange(4))]
            for _ in range(chance.randrange(most))
        ]

    return Script(
        pieces=[works(6) for _ in range(chance.randrange(1, 8))],
        rest=works(6),
        fails=chance.choice(("", "next", "records", "rest", "parts", "add", "finish", "coding")),
        at=chance.choice((0, 0, 1, 2, 5, 20)),
        failure=chance.choice(FAILURES),
        full=chance.choice((10**6, 10**6, 0, 3, 10)),
    )


class Steps:
    """Counts the calls of each step, fails where it is to, and sees who is at work at once."""

    def __init__(self, script: Script, *, most_pause: float) -> None:
        self.script = script
        self.ended = False
        self._most_pause = most_pause
        self._chance = random.Random(0)
        self._lock = Lock()
        self._busy: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.calls: dict[str, int] = {}

    @contextmanager
    def step(self, name: str, kind: str, at: int | None = None) -> Iterator[None]:
        """`at`: which call it is in the order of the source, where calls are not in that order."""
        assert not self.ended
        with self._lock:
            number = self.calls.get(name, 0) if at is None else at
            self.calls[name] = self.calls.get(name, 0) + 1
            self._busy[kind] = self._busy.get(kind, 0) + 1
            self.most[kind] = max(self.most.get(kind, 0), self._busy[kind])
            pause = self._chance.random() * self._most_pause
        try:
            if pause > self._most_pause / 2:
                time.sleep(pause)
            if self.script.fails == name and self.script.at == number:
                raise self.script.failure
            yield
        finally:
            with self._lock:
                self._busy[kind] -= 1


class Scripted(View):
    """A view of what a script says."""

    expands = True

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self._added = 0
        self._numbers = iter(range(10**6))

    @property
    def full(self):
        return self._added >= self.steps.script.full

    def short(self, _):
        return None

    def records(self, *blocks):
        with self.steps.step("records", "find"):
            return [_numbered(next(self._numbers), work) for work in blocks]

    def rest(self):
        for work in self.steps.script.rest:
            with self.steps.step("rest", "find"):
                found = _numbered(next(self._numbers), work)
            yield found

    def parts(self, work):
        number, datas = work()
        with self.steps.step("parts", "make", number):
            return [Part(records=data, rows=1, cells={}) for data in datas]

    def add(self, part):
        with self.steps.step("add", "hand on"):
            self._added += 1
            return part.records

    def finish(self):
        with self.steps.step("finish", "hand on"):
            return b"end"

    def block(self, data, end, *, last):
        return Block(data=data, rows=self._added, bytes=end, cells={}, last=last)


def _numbered(number, work):
    return lambda: (number, work)


class Chained:
    """A coding in which each byte depends on all before."""

    coding = "chained"

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._state = 0

    def block(self, data: bytes, *, last: bool) -> bytes:
        with self._steps.step("coding", "hand on"):
            out = bytearray()
            for each in data + (b"last" if last else b""):
                self._state = (self._state * 31 + each) & 0xFF
                out.append(self._state)
            return bytes(out)


class Network:
    """Gives the pieces, late at times."""

    def __init__(self, steps: Steps, *, most_pause: float) -> None:
        self._steps = steps
        self._left = list(steps.script.pieces)
        self._most_pause = most_pause
        self._chance = random.Random(1)
        self.ended = False

    async def next(self):
        await asyncio.sleep(self._chance.choice((0, self._most_pause)))
        number = len(self._steps.script.pieces) - len(self._left)
        if number and self._steps.script.fails == "next" and number >= self._steps.script.at:
            raise OSError("cut off")
        piece = self._left.pop(0)
        self.ended = not self._left
        return piece


def short(script: Script) -> Script:
    """What is worked off at once: one piece, and nothing that fails but the source."""
    failure = FAILURES[0]
    return msgspec.structs.replace(script, pieces=script.pieces[:1], failure=failure)


def reference(script: Script) -> tuple[list[Block], BaseException | None]:
    """The same, one step after the other."""
    steps = Steps(script, most_pause=0)
    made, coding = Scripted(steps), Chained(steps)
    cutter = Cutter(made)
    given: list[Block] = []

    def coded(blocks):
        for block in blocks:
            data = coding.block(block.data, last=block.last)
            given.append(msgspec.structs.replace(block, data=data, coding="chained"))

    def works():
        for number, piece in enumerate(script.pieces):
            if number and script.fails == "next" and number >= script.at:
                raise OSError("cut off")
            yield from made.records(*piece)
        yield from made.rest()

    try:
        for work in works():
            for part in made.parts(work):
                coded(cutter.add(part))
            if made.full:
                break
        coded(cutter.end())
    except BaseException as failure:  # noqa: BLE001 - it is what is compared
        return given, failure
    return given, None


class Executor(ThreadPoolExecutor):
    """At times there is no further thread: then what was put in is done all the same, or refused."""

    def __init__(self, threads: int, chance: random.Random | None = None) -> None:
        super().__init__(threads)
        self._chance = chance

    def submit(self, fn, /, *args, **kwargs) -> Future:
        if self._chance is not None and self._chance.random() < 0.1:
            if self._chance.random() < 0.5:
                super().submit(fn, *args, **kwargs)
            raise RuntimeError("can't start new thread")
        return super().submit(fn, *args, **kwargs)


async def _taken(blocks: Blocks, chance: random.Random, leaves_after: int):
    """What is taken, and what ended it; None for an answer that was left."""
    given: list[Block] = []
    while len(given) < leaves_after:
        try:
            given += await blocks.take()
        except Exception as failure:  # noqa: BLE001 - it is what is compared
            return given, failure
        if given[-1].last:
            return given, None
        await asyncio.sleep(chance.choice((0, 0, 0.001)))
    return given, ...


async def _one(seed: int, executor: Executor) -> None:
    chance = random.Random(seed)
    script = scripted(chance)
    expected, failure = reference(script)
    steps = Steps(script, most_pause=0.002)
    made, coding = Scripted(steps), Chained(steps)
    leaves_after = chance.choice((10**6, 10**6, 10**6, 0, 1, 5))
    pieces = Network(steps, most_pause=0.002)
    async with Blocks(pieces, made, executor=executor, coding=coding) as blocks:
        given, ended = await _taken(blocks, chance, leaves_after)
    steps.ended = True  # nothing is at work after it
    assert steps.most.get("find", 0) <= 1
    assert steps.most.get("make", 0) <= 2
    assert steps.most.get("hand on", 0) <= 1
    assert given == expected[: len(given)], seed
    if isinstance(ended, RuntimeError) and "thread" in str(ended):
        return
    if ended is not ...:
        assert len(given) == len(expected), seed
        if failure is None or isinstance(failure, Exception):
            assert type(ended) is type(failure), seed
        else:
            assert isinstance(ended, RuntimeError), seed
            assert type(failure).__name__ in str(ended), seed


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("scarce", [False, True], ids=["enough", "scarce"])
async def test_answers_in_threads_are_those_without(
    monkeypatch: pytest.MonkeyPatch, threads: int, scarce: bool
) -> None:
    """Many answers at once, which fail, are full, are left or wait anywhere: each as alone, none hangs."""
    monkeypatch.setattr(view_module, "BLOCK", 64)
    with Executor(threads, random.Random(7) if scarce else None) as executor:
        async with asyncio.timeout(LONGEST):
            for start in range(0, 120, 12):
                await asyncio.gather(*(_one(seed, executor) for seed in range(start, start + 12)))


@pytest.mark.parametrize("seed", range(100))
async def test_short_answers_are_those_of_long_ones(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """What is worked off at once is what threads give: blocks and failures, and where nothing more counts."""
    monkeypatch.setattr(view_module, "BLOCK", 64)
    chance = random.Random(seed)
    script = short(scripted(chance))
    expected, failure = reference(script)
    steps = Steps(script, most_pause=0)
    made = Scripted(steps)
    made.expands = False
    given: list[Block] = []
    ended: Exception | None = None
    with ThreadPoolExecutor(1) as executor:
        try:
            pieces = Network(steps, most_pause=0)
            async with Blocks(pieces, made, executor=executor, coding=Chained(steps)) as blocks:
                given, ended = await _taken(blocks, chance, 10**6)
        except SourceRefused as refused:  # nothing comes before it
            ended = refused
    if script.fails != "coding":  # which has no failure of a source
        assert given == expected
        assert type(ended) is type(failure)


async def test_who_goes_away_leaves_nothing_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is cancelled anywhere ends at once, and no step of it is at work afterwards."""
    monkeypatch.setattr(view_module, "BLOCK", 64)
    with Executor(2) as executor:
        for seed in range(60):
            chance = random.Random(seed)
            steps = Steps(scripted(chance), most_pause=0.004)

            async def answer(steps: Steps = steps, chance: random.Random = chance) -> None:
                pieces = Network(steps, most_pause=0.002)
                try:
                    async with Blocks(
                        pieces, Scripted(steps), executor=executor, coding=Chained(steps)
                    ) as blocks:
                        await _taken(blocks, chance, 10**6)
                finally:
                    steps.ended = True

            task = asyncio.create_task(answer())
            await asyncio.sleep(chance.random() * 0.02)
            task.cancel()
            async with asyncio.timeout(LONGEST):
                await asyncio.wait([task])
            assert not any(steps._busy.values())


async def test_a_slow_client_bounds_what_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody takes, no more is made than the blocks that may wait and the portions in hand."""
    monkeypatch.setattr(view_module, "BLOCK", 64)
    works = [[b"x" * 64] for _ in range(1000)]
    script = Script([[*works]], [], "", 0, ValueError(), 10**6)
    steps = Steps(script, most_pause=0)
    with Executor(2) as executor:
        async with Blocks(
            Network(steps, most_pause=0), Scripted(steps), executor=executor
        ) as blocks:
            made = -1
            while made != steps.calls.get("parts", 0):
                made = steps.calls.get("parts", 0)
                await asyncio.sleep(0.1)
            assert made <= 16 + 5
            rest = []
            while not rest or not rest[-1].last:
                rest += await blocks.take()
    assert steps.calls["parts"] == 1000
