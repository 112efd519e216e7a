"""A long source worked off in threads: some records at once, the answer in order.

The event loop puts pieces in and takes finished blocks out, no more: while it reads a socket, threads go on
by themselves. A step of a thread is one portion of work:

    find     the records of the next piece, one step after the other
    make     what the requester gets of them, at most `_AT_ONCE` steps at once
    hand on  join it to the answer in the order of the source, cut blocks, tell the loop

PROMISE 4 (bounded memory): a piece that waits, `_AT_ONCE` portions in hand and `_QUEUED_BLOCKS` finished
blocks, and what one portion adds to these. A step ends with its portion, so that others have their turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from threading import Lock
from typing import Final

import msgspec

from proxy.codings import Coding
from proxy.formats.base import Work
from proxy.gateway.parts import Part
from proxy.gateway.view import Block, Cutter, View

_AT_ONCE: Final = 2
"""Portions that are made at once: memory is bounded by it."""
_QUEUED_BLOCKS: Final = 16
"""Finished blocks at which no further portion is begun."""


class _End:
    """The source has no more records."""


_END: Final = _End()
Found = Work | Exception | _End
Made = list[Part] | Exception | _End


def plain(failure: BaseException) -> Exception:
    """What an answer fails with: a panic of a library in Rust is none of Python's own exceptions."""
    if isinstance(failure, Exception):
        return failure
    return RuntimeError(type(failure).__name__).with_traceback(failure.__traceback__)


class Pipeline:
    """One source; `put`, `taken` and `stop` are the loop's, all else happens in threads."""

    def __init__(
        self,
        view: View,
        *,
        executor: Executor,
        coding: Coding | None,
        give: Callable[[list[Block | Exception]], None],
    ) -> None:
        """On the running loop, in which `give` is called with what is finished, in order.

        What comes last is the answer's last block, or the failure that ended it.
        """
        self._view = view
        self._cutter = Cutter(view)
        self._executor = executor
        self._coding = coding
        self._give = give
        self._loop = asyncio.get_running_loop()
        self._lock = Lock()
        """Held for what follows alone, never while work is done."""
        self._pieces: deque[list[bytes] | Exception] = deque()
        self._complete = False
        """Whether no further piece comes."""
        self._works: deque[Work] = deque()
        self._rest: Iterator[Work] | None = None
        self._finding = False
        self._exhausted = False
        """Whether there is nothing more to find: all was found, or something failed."""
        self._running = 0
        self._claimed = True
        """Whether the step that was begun last has a thread, or is to have none."""
        self._number = self._next = 0
        """Of the portion that is found next, and of the one that is handed on next."""
        self._made: dict[int, Made] = {}
        self._handing = False
        self._queued = 0
        self._stopped = False
        self._room: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None

    # ── in the loop ──

    async def put(self, piece: list[bytes] | Exception, *, last: bool) -> bool:
        """Hand in the next piece, or what there is instead, once there is room; False if none is wanted."""
        while self._pieces and not self._stopped:
            self._room = self._loop.create_future()
            await self._room
        if self._stopped:
            return False
        with self._lock:
            self._pieces.append(piece)
            self._complete = last
        self._spawn()
        return True

    def taken(self, count: int) -> None:
        """Blocks were taken out: there is room for more."""
        with self._lock:
            self._queued -= count
        self._spawn()

    async def stop(self) -> None:
        """End, and wait until no thread is at work."""
        with self._lock:
            self._stopped = True
            if self._running:
                self._idle = self._loop.create_future()
        cancelled = False
        while self._idle is not None and not self._idle.done():
            try:
                await asyncio.shield(self._idle)
            except asyncio.CancelledError:
                cancelled = True  # threads are at work on what the caller lets go of next
        if cancelled:
            raise asyncio.CancelledError

    def _has_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _is_idle(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    # ── in threads ──

    def _spawn(self) -> None:
        """Begin a step, if there is anything to find and not too much in hand."""
        with self._lock:
            if (
                self._stopped
                or self._exhausted
                or self._finding
                or self._running >= _AT_ONCE
                or self._number - self._next >= _AT_ONCE
                or self._queued >= _QUEUED_BLOCKS
                or not (self._works or self._pieces or self._complete)
            ):
                return
            self._finding = True
            self._claimed = False
            self._running += 1
        try:
            self._executor.submit(self._step)
        except RuntimeError as failure:  # the server stops, or there is no further thread to be had
            if self._claim():  # else it is done all the same, by a thread that was there
                with self._lock:
                    self._stopped = True
                self._tell(self._give, [failure])
                self._tell(self._has_room)
                self._leave()

    def _claim(self) -> bool:
        """Whether the step that was begun last is the caller's to do: one step is found at a time."""
        with self._lock:
            claimed, self._claimed = self._claimed, True
            return not claimed

    def _step(self) -> None:
        if not self._claim():
            return
        try:
            found = self._find()
            if found is not None:
                number, portion = found
                del found
                self._spawn()  # the next one may be found by now
                made = self._make(portion)
                del portion  # it may hold all that was read
                self._hand_on(number, made)
        finally:
            self._leave()
            self._spawn()

    def _find(self) -> tuple[int, Found] | None:
        """The next portion and its number; None where it has not come yet."""
        portion: Found | None
        try:
            portion = self._next_portion()
        except BaseException as failure:  # noqa: BLE001 - every failure must reach the one who releases
            portion = plain(failure)
        with self._lock:
            self._finding = False
            if portion is None:
                return None
            self._exhausted = not callable(portion)
            number, self._number = self._number, self._number + 1
            return number, portion

    def _next_portion(self) -> Found | None:
        while not self._works:
            with self._lock:
                piece = self._pieces.popleft() if self._pieces else None
                complete = self._complete
            if piece is not None:
                self._tell(self._has_room)
                if isinstance(piece, Exception):
                    raise piece
                self._works.extend(self._view.records(*piece))
            elif not complete:
                return None
            else:
                if self._rest is None:
                    self._rest = self._view.rest()
                work = next(self._rest, None)
                return _END if work is None else work
        return self._works.popleft()

    def _make(self, portion: Found) -> Made:
        if isinstance(portion, (Exception, _End)):
            return portion
        try:
            return self._view.parts(portion)
        except BaseException as failure:  # noqa: BLE001 - as above
            return plain(failure)

    def _hand_on(self, number: int, made: Made) -> None:
        """Join to the answer whatever is next in the order of the source, unless another thread does."""
        with self._lock:
            self._made[number] = made
            if self._handing:
                return
            self._handing = True
        while True:
            with self._lock:
                following = self._made.pop(self._next, None)
                if following is None or self._stopped:
                    self._handing = False
                    return
                self._next += 1
            finished, last = self._joined(following)
            del following
            with self._lock:
                self._queued += len(finished)
                self._stopped |= last
            if finished:
                self._tell(self._give, finished)
            if last:
                self._tell(self._has_room)

    def _joined(self, made: Made) -> tuple[list[Block | Exception], bool]:
        """The blocks that are finished with it, and whether the answer is."""
        finished: list[Block | Exception] = []
        try:
            if isinstance(made, Exception):
                raise made
            if isinstance(made, list):
                for part in made:
                    finished += map(self._coded, self._cutter.add(part))
                if not self._view.full:
                    return finished, False
            finished += map(self._coded, self._cutter.end())
        except BaseException as failure:  # noqa: BLE001 - as above
            finished.append(plain(failure))
        return finished, True

    def _coded(self, block: Block) -> Block:
        """The next block as it is sent."""
        if self._coding is None:
            return block
        data = self._coding.block(block.data, last=block.last)
        return msgspec.structs.replace(block, data=data, coding=self._coding.coding)

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            idle = self._idle if not self._running else None
        if idle is not None:
            self._tell(self._is_idle)

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(what, *arguments)
