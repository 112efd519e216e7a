"""A document that is counted and put aside: what is cancelled meanwhile leaves nothing in use."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from proxy.formats import FORMATS
from proxy.formats.base import Limits, Reading
from proxy.gateway.blocks import Pieces
from proxy.gateway.counting import Counted
from proxy.report import Dialect, FormatName
from proxy.spool import Spools
from proxy.treatments.groups import Counting, Tally
from tests.policy.example import DAILY

HEAD = b"date,store_id,store name,net_sales,margin,email\n"
LINE = b"2026-01-01,7,x,1,1,y\n"


class Waiting(Tally):
    """Tells when it counts, and goes on when it is told to."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def count(self, batch):
        self.begun.set()
        self.go_on.wait(30)
        super().count(batch)


def counted(executor, spools):
    reading = Reading(
        report=DAILY,
        dialect=Dialect(format=FormatName.CSV),
        reads=frozenset({"store_id"}),
        limits=Limits(),
        spools=spools,
    )
    decoder = FORMATS[FormatName.CSV].decoder(reading)
    return Counted(decoder, spools.open(), executor, lambda _: None)


def test_what_is_cancelled_ends_before_its_spool_is_let_go_of():
    """A thread that counts is waited for, so that it writes to no spool that is closed; all room is given back."""
    spools = Spools(most=1 << 20, most_each=1 << 20)
    tally = Waiting(Counting(least=2, by=("store_id",)), DAILY.types, most=1 << 20)

    async def source():
        yield HEAD + LINE * 20_000
        await asyncio.sleep(3600)

    async def run(executor):
        made = counted(executor, spools)
        pieces = Pieces(partial(anext, source(), b""), most_at_once=1 << 20, most=1 << 30)
        task = asyncio.ensure_future(made.groups(pieces, tally))
        await asyncio.to_thread(tally.begun.wait, 30)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        tally.go_on.set()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        made.close()

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(run(executor))
    spools.take(1 << 20)


def test_a_document_comes_again_as_it_was():
    """Byte for byte, whatever the pieces that it came in; and its groups are those of its rows."""
    body = HEAD + LINE * 9_000 + LINE.replace(b"7", b"8")
    for size in (1, 70_000, 1 << 22):

        async def source(size=size):
            for start in range(0, len(body), size if size > 1 else 997):
                yield body[start : start + (size if size > 1 else 997)]

        async def run(executor, source=source):
            spools = Spools(most=1 << 20, most_each=1 << 20)
            tally = Tally(Counting(least=2, by=("store_id",)), DAILY.types, most=1 << 20)
            made = counted(executor, spools)
            await made.groups(
                Pieces(partial(anext, source(), b""), most_at_once=1 << 20, most=1 << 30), tally
            )
            again = b"".join([piece async for piece in made.again()])
            made.close()
            return again

        with ThreadPoolExecutor(1) as executor:
            assert asyncio.run(run(executor)) == body
