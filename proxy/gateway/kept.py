"""Whole views, kept for a while: what validators and ranges are answered from.

A view is kept for the requester who asked for it, with all on which it depends in its key: so that one that
is found is the one that would be made, but for what the store has changed since. Only views that come out the
same each time can be told apart by a validator: none that encrypts, none whose conditions look at the time.

PROMISE 4 (bounded memory): the bytes are in spools, whose number and time are bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from proxy.codings import Coding
from proxy.gateway.blocks import coded
from proxy.gateway.view import BLOCK, Block
from proxy.keys import Keyring
from proxy.plan import Context, Permit
from proxy.spool import Spool
from proxy.transform import Counts

_MOST: Final = 256
_MOST_EACH: Final = 8
"""Views that are kept, and of one requester."""
_AT_ONCE: Final = 4
"""Blocks of a kept view that are held for one request."""
_SMALL: Final = 1 << 16
"""Bytes that are read at once: a trip to a thread costs more."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Whole:
    """A view from its first byte to its last, and what it holds."""

    spool: Spool
    evidence: Spool
    """Which rows it holds."""
    rows: int
    cells: Counts
    digest: str
    etag: str

    @property
    def size(self) -> int:
        """In bytes."""
        return self.spool.size


def key_of(permit: Permit, context: Context, keyring: Keyring, *rest: Hashable) -> Hashable:
    """All on which a repeatable view depends; `rest` is what was asked for, and in which form.

    A keyring is only ever equal to itself.
    """
    attributes: Mapping[str, Hashable] = context.attributes
    return (
        permit.subject.name,
        permit.plan,
        keyring,
        tuple((name, attributes.get(name)) for name in sorted(permit.plan.attributes)),
        (context.ip, context.purpose, context.tool, context.action),
        *rest,
    )


@dataclass(slots=True, kw_only=True, eq=False)
class _Place:
    """Where a view is kept, or will be once it is made."""

    subject: str
    whole: Whole | None = None
    begun: float = 0.0
    made: float = 0.0
    """When the view began to be made, and when it was: monotonic seconds."""
    failure: Exception | None = None
    """Why it could not be made: for all who wait for it; whoever asks later has another place."""
    making: asyncio.Lock


class KeptViews:
    """The views of all requesters; a view goes when it is old, or when newer ones need its place."""

    def __init__(self, *, seconds: float) -> None:
        """`seconds`: how long a view is kept."""
        self._seconds = seconds
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()

    async def get(
        self, key: Hashable, subject: str, make: Callable[[], Awaitable[Whole]], *, anew: bool
    ) -> Whole:
        """The view that is kept under the key, or else the one that is made; raises what `make` raises.

        `anew`: one that is made after this call. Who asks for a view while it is made waits for it, and is
        told of its failure: else each would ask a store that is slow to fail in turn.
        """
        asked = time.monotonic()
        self._drop_old()
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place(subject=subject, making=asyncio.Lock())
        try:
            async with place.making:
                if place.failure is not None:
                    raise place.failure
                old = place.begun < asked if anew else place.made < asked - self._seconds
                if place.whole is None or old:
                    place.begun, place.whole = time.monotonic(), None
                    place.whole = await self._make(place, make)
                    place.made = time.monotonic()
                    # Whether it is asked for again or not:
                    asyncio.get_running_loop().call_later(self._seconds, self._drop_old)
                whole = place.whole
        except BaseException:
            if place.whole is None and self._places.get(key) is place:
                del self._places[key]
            raise
        self._places[key] = place
        self._places.move_to_end(key)
        self._make_room(subject)
        return whole

    @staticmethod
    async def _make(place: _Place, make: Callable[[], Awaitable[Whole]]) -> Whole:
        try:
            return await make()
        except Exception as exc:
            place.failure = exc
            raise

    def drop_one(self) -> bool:
        """Let go of the oldest view of whoever has most bytes here; False where none is kept."""
        bytes_: Counter[str] = Counter()
        for place in self._places.values():
            if place.whole is not None:
                bytes_[place.subject] += place.whole.size
        if not bytes_:
            return False
        ((subject, _),) = bytes_.most_common(1)
        del self._places[self._of(subject)[0]]
        return True

    def close(self) -> None:
        """Let go of all."""
        self._places.clear()

    def _drop_old(self) -> None:
        least = time.monotonic() - self._seconds
        old = [key for key, place in self._places.items() if place.whole and place.made <= least]
        for key in old:
            del self._places[key]

    def _of(self, subject: str) -> list[Hashable]:
        """The keys of a requester's views, oldest first."""
        return [
            key for key, place in self._places.items() if place.subject == subject and place.whole
        ]

    def _make_room(self, subject: str) -> None:
        own = self._of(subject)
        for key in own[: max(0, len(own) - _MOST_EACH)]:
            del self._places[key]
        while len(self._places) > _MOST:
            self._places.popitem(last=False)


class KeptBlocks:
    """Some bytes of a kept view as blocks, each of which counts as all that the view holds."""

    def __init__(self, whole: Whole, span: range, coding: Coding | None = None) -> None:
        """`span`: which bytes; at least one. `coding` is put on all of them."""
        self._whole = whole
        self._coding = coding
        self._left = span
        self._start = span.start
        self._told = False
        """Whether a block has said which rows there are."""

    async def take(self) -> list[Block]:
        """The first block; then some at once, for each time they are taken makes a record of its own."""
        blocks = [await self._next()]
        while blocks[0].bytes > BLOCK and self._left and len(blocks) < _AT_ONCE:
            blocks.append(await self._next())
        return blocks

    async def _next(self) -> Block:
        span, self._left = self._left[:BLOCK], self._left[BLOCK:]
        read = partial(self._whole.spool.read, span.start, len(span))
        data = read() if len(span) <= _SMALL else await asyncio.to_thread(read)
        evidence, self._told = b"" if self._told else await self._evidence(), True
        block = Block(
            data=data,
            rows=self._whole.rows,
            bytes=span.stop - self._start,
            cells=self._whole.cells,
            last=not self._left,
            digest="" if self._left else self._whole.digest,
            evidence=evidence,
        )
        if self._coding is not None:
            block = await coded(block, self._coding, asyncio.to_thread)
        return block

    async def _evidence(self) -> bytes:
        spool = self._whole.evidence
        read = partial(spool.read, 0, spool.size)
        return read() if spool.size <= _SMALL else await asyncio.to_thread(read)
