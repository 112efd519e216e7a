"""The requester's view of a report: fetched, decoded, transformed and encoded, whole or as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final, TypeVar

import msgspec
from polars.exceptions import PanicException

from proxy import transform
from proxy.codings import Coding
from proxy.evidence.witness import Witness
from proxy.formats import FORMATS
from proxy.formats.base import Decoder, Reading
from proxy.formats.base import Limits as FormatLimits
from proxy.gateway.blocks import INLINE, Blocks, Pieces
from proxy.gateway.conditional import Wanted
from proxy.gateway.counted_first import CountedFirst
from proxy.gateway.counting import Counted
from proxy.gateway.kept import KeptViews, Whole, key_of
from proxy.gateway.paging import Page, PagedView
from proxy.gateway.pipeline import plain
from proxy.gateway.sorting import SortedView, tells_of_hidden
from proxy.gateway.tracing import Trace
from proxy.gateway.turns import Turns
from proxy.gateway.validated import TooLarge, etag_of, put_aside
from proxy.gateway.view import Block, Steps, View
from proxy.keys import Keyring
from proxy.plan import Context, Permit, Plan
from proxy.report import Dialect, Ordering, Variant
from proxy.spool import Spools
from proxy.treatments.groups import Counting, Groups, Tally
from proxy.upstream import Stores

T = TypeVar("T")
_READINGS: Final = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What a request may take, in bytes, seconds and numbers."""

    source_bytes: int
    requests_per_subject: int
    sort_bytes: int
    sorts: int
    group_bytes: int
    counts: int
    formats: FormatLimits
    spools: Spools
    """Of documents that can only be read as a whole, or are read twice."""
    kept: Spools
    """Of views that are kept …"""
    kept_seconds: float
    """… for so long."""


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """A permitted request: what to ask the store for, and what may be given of its answer."""

    permit: Permit
    keyring: Keyring
    """The keys of its forms."""
    trace: Trace | None
    context: Context
    variant: Variant
    dialect: Dialect
    """How the answer is written."""
    codings: tuple[str, ...]
    """The content codings that it may have, most preferred first."""
    target: str
    page: Page | None
    order: tuple[Ordering, ...]
    """The order that was asked for."""
    grouped: bool
    """Whether the store was asked for groups of rows, which have other fields than its rows."""

    @property
    def sorted_here(self) -> bool:
        """Whether the store's order is none that the requester may know."""
        return tells_of_hidden(self.permit.plan)


class Maker:
    """Makes views; keeps some of them for a while."""

    def __init__(
        self,
        *,
        stores: Stores,
        bounds: Bounds,
        executor: Executor,
        seen: Callable[[View | Decoder, Granted], None],
    ) -> None:
        """`seen` is told of each view, once it is known what its store's document was like.

        Where there was none yet, of what has read the document so far.
        """
        self._stores = stores
        self._bounds = bounds
        self._executor = executor
        self._seen = seen
        self._readings = lru_cache(_READINGS)(partial(_reading, bounds))
        self._kept = KeptViews(seconds=bounds.kept_seconds)
        self._sorts = Turns(bounds.sorts, cause="too-many-sorted")
        self._counts = Turns(bounds.counts, cause="too-many-counted")

    def close(self) -> None:
        """Let go of what is kept."""
        self._kept.close()

    async def made(
        self,
        granted: Granted,
        use: Callable[[Blocks], Awaitable[T]],
        coding: Coding | None = None,
    ) -> T:
        """What `use` does with the requester's view, which is fetched and made meanwhile.

        `coding` is put on its blocks.
        Raises NoTurn, SourceRefused and StoreUnavailable, and what `use` raises.
        """
        try:
            if not (granted.sorted_here or granted.permit.plan.counting is not None):
                return await self._made(granted, use, coding)
            whose = granted.permit.subject.name, granted.permit.report.store.name
            with ExitStack() as turns:
                if granted.sorted_here:  # one that is kept is sorted no more
                    turns.enter_context(self._sorts.taken(*whose))
                if granted.permit.plan.counting is not None:
                    turns.enter_context(self._counts.taken(*whose))
                return await self._made(granted, use, coding)
        except PanicException as failure:
            raise plain(failure) from None

    async def _made(
        self, granted: Granted, use: Callable[[Blocks], Awaitable[T]], coding: Coding | None
    ) -> T:
        dialect = granted.variant.stored
        stored = FORMATS[dialect.format]
        store = granted.permit.report.store
        accepts = partial(stored.accepts, dialect=dialect)
        trace = granted.trace
        parent = "" if trace is None else trace.fetch(store.name)
        source = await self._stores.fetch(
            store, granted.target, stored.asked(dialect), accepts, parent
        )
        if trace is not None:
            trace.enter("transform")
        try:
            pieces = Pieces(
                source.read,
                most_at_once=stored.block_size,
                most=self._bounds.source_bytes,
                here=source.here(INLINE),
            )
            counting = granted.permit.plan.counting
            if counting is None:
                return await self._viewed(granted, pieces, None, use, coding)
            with closing(self._counted(granted, counting)) as counted:
                types, most = granted.permit.report.types, self._bounds.group_bytes
                groups = await counted.groups(pieces, Tally(counting, types, most=most))
                again = Pieces(
                    partial(anext, counted.again(), b""),
                    most_at_once=stored.block_size,
                    most=self._bounds.source_bytes,
                )
                return await self._viewed(granted, again, groups, use, coding)
        finally:
            source.end()

    async def _viewed(
        self,
        granted: Granted,
        pieces: Pieces,
        groups: Groups | None,
        use: Callable[[Blocks], Awaitable[T]],
        coding: Coding | None,
    ) -> T:
        """What `use` does with the view of a document that comes in pieces."""
        view = self._view(granted, groups)
        try:
            async with Blocks(pieces, view, executor=self._executor, coding=coding) as blocks:
                return await use(blocks)
        finally:
            self._seen(view, granted)
            view.close()

    def _counted(self, granted: Granted, counting: Counting) -> Counted:
        """What counts the document's rows before they are given."""
        stored = granted.variant.stored
        reading = self._readings(granted.permit.plan, stored, frozenset(counting.by))
        return Counted(
            FORMATS[stored.format].decoder(reading),
            self._bounds.spools.open(),
            self._executor,
            lambda decoder: self._seen(decoder, granted),
        )

    async def whole(self, granted: Granted, wanted: Wanted) -> Whole | None:
        """The requester's view as a whole; None where it is too large to be kept.

        A range is one of a view that is kept; whether there is anything new is looked up.
        """
        permit = granted.permit
        media_type = FORMATS[granted.dialect.format].media_type

        async def make() -> Whole:
            return await self.made(
                granted,
                lambda blocks: put_aside(
                    blocks,
                    self._bounds.kept,
                    lambda block: etag_of(permit, media_type, block, granted.keyring),
                    self._kept.drop_one,
                    partial(asyncio.get_running_loop().run_in_executor, self._executor),
                ),
            )

        key = key_of(permit, granted.context, granted.keyring, granted.dialect, granted.variant,
                     granted.target, granted.page, granted.order)  # fmt: skip
        try:
            anew = wanted.span is None
            return await self._kept.get(key, permit.subject.name, make, anew=anew)
        except TooLarge:
            return None

    async def counted(self, ready: list[Block], blocks: Blocks) -> CountedFirst:
        """The answer that begins with `ready`, put aside as a whole; raises TooLargeToCount."""
        return await CountedFirst.of(ready, blocks, self._bounds.spools, self._executor)

    def _view(self, granted: Granted, groups: Groups | None) -> View:
        permit, given = granted.permit, FORMATS[granted.dialect.format]
        stored = FORMATS[granted.variant.stored.format]
        bound = transform.bind(
            permit.plan,
            context=granted.context,
            subject=permit.subject.name,
            keyring=granted.keyring,
            groups=groups,
        )
        steps = Steps(
            decoder=stored.decoder(self._readings(permit.plan, granted.variant.stored)),
            transform=bound,
            encoder=given.encoder(bound.columns, granted.dialect),
            digest=granted.keyring.mac("audit-digest").start(),
            witness=_witness(permit.plan, granted.keyring),
        )
        if granted.sorted_here:
            return SortedView(
                steps,
                lexis=FORMATS[granted.variant.stored.format].lexis,
                plan=permit.plan,
                asked=granted.order,
                page=granted.page,
                most=self._bounds.sort_bytes,
            )
        if granted.page is not None:
            return PagedView(steps, page=granted.page)
        return View(steps)


def _reading(
    bounds: Bounds, plan: Plan, stored: Dialect, counted: frozenset[str] | None = None
) -> Reading:
    """What is read of a store's document: what the plan needs, or only the fields that are `counted` by."""
    return Reading(
        report=plan.report,
        dialect=stored,
        reads=plan.reads if counted is None else counted,
        limits=bounds.formats,
        spools=bounds.spools,
        beside=frozenset(plan.report.found_by) if counted is None else frozenset(),
    )


@lru_cache(maxsize=64)
def _witness(plan: Plan, keyring: Keyring) -> Witness | None:
    """What takes down which rows of the plan's report are given."""
    return Witness.of(plan.report, keyring)
