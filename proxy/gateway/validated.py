"""HEAD, conditional requests and ranges, answered from the requester's own view as a whole.

The validator is that of this view's bytes, under a key of its own: it tells nothing of the store's document,
and nobody can make it (DESIGN.md §6). Each answer is authorised and recorded like any other; a range counts
on record as all that the view holds, for nobody knows which cells some bytes of it are.

A view with a content coding has a validator of its own. HEAD tells of the view without one, and ranges are of
that, unless it is not accepted so: then there are none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from msgspec.structs import replace

from proxy.budgets.spending import Meter
from proxy.codings import IDENTITY, Coding
from proxy.errors import SpoolFull, SpoolsFull
from proxy.gateway.answers import Head, bare, release
from proxy.gateway.conditional import Wanted
from proxy.gateway.kept import KeptBlocks, Whole
from proxy.gateway.recorder import Recorder
from proxy.gateway.standing import Standing
from proxy.gateway.streamed import Ahead, Streamed
from proxy.gateway.view import Block
from proxy.keys import Keyring
from proxy.plan import Deny, Permit
from proxy.reasons import Reason
from proxy.spool import Spool, Spools

CHANGED: Final = Deny(reason=Reason.PRECONDITION, cause="if-match")
"""The answer has none of the validators that it has to have."""

_DIGITS: Final = 32


class TooLarge(Exception):
    """A view is too large to be kept."""


def etag_of(permit: Permit, media_type: str, block: Block, keyring: Keyring) -> str:
    """The validator of an answer that ends with `block`."""
    key = keyring.mac("etag", permit.report.id, permit.subject.name)
    return f'"{key.hexdigest(f"{media_type} {block.digest}".encode())[:_DIGITS]}"'


def with_coding(etag: str, coding: str) -> str:
    """The validator of the same answer with a content coding."""
    return etag if coding == IDENTITY or not etag else f'{etag[:-1]}-{coding}"'


async def put_aside(
    blocks: Ahead,
    spools: Spools,
    validator: Callable[[Block], str],
    make_room: Callable[[], bool],
    run: Callable[..., Awaitable[None]],
) -> Whole:
    """A view as a whole; raises TooLarge, and what making its blocks raises.

    `make_room` lets go of another one that is kept, and says whether there was one. `run` calls a function
    in a thread.
    """
    spool, evidence = spools.open(), spools.open()
    try:
        while True:
            for block in await blocks.take():
                await _write(spool, block.data, make_room, run)
                await _write(evidence, block.evidence, make_room, run)
                if block.last:
                    return Whole(
                        spool=spool,
                        evidence=evidence,
                        rows=block.rows,
                        cells=block.cells,
                        digest=block.digest,
                        etag=validator(block),
                    )
    except BaseException:  # its traceback may hold the spool for long
        spool.close()
        evidence.close()
        raise


async def _write(
    spool: Spool, data: bytes, make_room: Callable[[], bool], run: Callable[..., Awaitable[None]]
) -> None:
    while True:
        try:
            return await run(spool.write, data)
        except SpoolsFull:
            if not make_room():
                raise TooLarge from None
        except (SpoolFull, OSError):  # the disk may have less room than we may take
            raise TooLarge from None


async def answer(
    whole: Whole,
    wanted: Wanted,
    *,
    head: Head,
    coding: Coding | None,
    recorder: Recorder,
    standing: Standing,
    meter: Meter,
) -> web.StreamResponse:
    """What is wanted of the view (RFC 9110 §13.2.2: the order in which conditions are looked at).

    `head` is that of the answer without a validator; `coding` is put on a whole answer.
    """
    access, size = standing.access, whole.size
    head = replace(head, etag=whole.etag, ranges=True, length=size)
    if coding is not None and coding.always:
        head = _coded(head, whole, coding.coding)
    named = wanted.part(whole.etag) if head.ranges else None
    tags = [head.etag]
    if coding is not None and named is None:  # a range is none of the coded answer
        tags.append(with_coding(whole.etag, coding.coding))
    if all(wanted.fails(tag) for tag in tags):
        return await recorder.refuse(access, CHANGED)
    had = next((tag for tag in reversed(tags) if wanted.has(tag)), None)
    if had is not None:
        access.status = 304
        receipt = await recorder.record(access, "complete", ended="whole")
        return bare(receipt, replace(head, status=304, etag=had, length=None))
    if wanted.head:
        return bare(await recorder.record(access, "complete", ended="whole"), head)
    span = range(size) if named is None else named.of(size)
    if span is None:
        deny = Deny(reason=Reason.RANGE, cause="range", size=size)
        return await recorder.refuse(access, deny)
    if named is not None:
        access.status, access.span = 206, f"{span.start}-{span.stop - 1}/{size}"
        head = replace(head, status=206, span=access.span, length=len(span))
        coding = None
    blocks = KeptBlocks(whole, span, coding)
    ready = await blocks.take()
    await standing.hold()
    over = await meter.take(rows=whole.rows, bytes_=len(span), cells=whole.cells)
    if over is not None:
        access.status, access.span = 200, ""
        return await recorder.refuse(access, over)
    if ready[0].coding != IDENTITY:
        head = _coded(head, whole, ready[0].coding)
    if ready[0].last:
        receipt = await recorder.record(
            access, "complete", block=ready[0], evidence=ready[0].evidence, ended="whole"
        )
        return release(receipt, ready[0], head)
    streamed = Streamed(blocks, recorder=recorder, standing=standing, meter=meter)
    return await streamed.send(ready, head)


def _coded(head: Head, whole: Whole, coding: str) -> Head:
    """The head of the answer with a content coding: of that there are no parts, and its size is not known."""
    etag = with_coding(whole.etag, coding)
    return replace(head, coding=coding, etag=etag, ranges=False, length=None)
