"""The requester's view of a report: fetched, decoded, transformed and encoded, whole or as it comes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec

from proxy import transform
from proxy.codings import Coding
from proxy.formats import FORMATS
from proxy.formats.base import Format, Reading
from proxy.formats.base import Limits as FormatLimits
from proxy.gateway.conditional import Wanted
from proxy.gateway.kept import KeptViews, Whole, key_of
from proxy.gateway.paging import Page, PagedView
from proxy.gateway.sorting import SortedView, tells_of_hidden
from proxy.gateway.validated import TooLarge, etag_of, put_aside
from proxy.gateway.view import Blocks, Pieces, Steps, View
from proxy.keys import Keyring
from proxy.plan import Context, Permit
from proxy.report import Dialect, Ordering, Variant
from proxy.spool import Spools
from proxy.upstream import Stores

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What a request may take, in bytes, seconds and numbers."""

    source_bytes: int
    requests_per_subject: int
    sort_bytes: int
    sorts: int
    formats: FormatLimits
    spools: Spools
    """Of documents that can only be read as a whole."""
    kept: Spools
    """Of views that are kept …"""
    kept_seconds: float
    """… for so long."""


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """A permitted request: what to ask the store for, and what may be given of its answer."""

    permit: Permit
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


class SortsFull(Exception):
    """No further view may be sorted now, or none of this requester's."""


class Maker:
    """Makes views; keeps some of them for a while."""

    def __init__(
        self,
        *,
        stores: Stores,
        keyring: Keyring,
        bounds: Bounds,
        executor: Executor,
        seen: Callable[[View, Granted], None],
    ) -> None:
        """`seen` is told of each view, once it is known what its store's document was like."""
        self._stores = stores
        self._keyring = keyring
        self._bounds = bounds
        self._executor = executor
        self._seen = seen
        self._kept = KeptViews(seconds=bounds.kept_seconds)
        self._sorting: Counter[str] = Counter()
        """By requester; one that is kept is sorted no more."""

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
        Raises SortsFull, SourceRefused and StoreUnavailable, and what `use` raises.
        """
        if not granted.sorted_here:
            return await self._made(granted, use, coding)
        name, most = granted.permit.subject.name, self._bounds.sorts
        if self._sorting.total() >= most or self._sorting[name] >= max(1, most // 4):
            raise SortsFull
        self._sorting[name] += 1
        try:
            return await self._made(granted, use, coding)
        finally:
            self._sorting[name] -= 1
            if not self._sorting[name]:
                del self._sorting[name]

    async def _made(
        self, granted: Granted, use: Callable[[Blocks], Awaitable[T]], coding: Coding | None
    ) -> T:
        dialect = granted.variant.stored
        stored = FORMATS[dialect.format]
        view = self._view(granted, stored)
        store = granted.permit.report.store
        accepts = partial(stored.accepts, dialect=dialect)
        try:
            async with self._stores.fetch(
                store, granted.target, stored.asked(dialect), accepts
            ) as source:
                pieces = Pieces(
                    source, most_at_once=stored.block_size, most=self._bounds.source_bytes
                )
                async with Blocks(pieces, view, executor=self._executor, coding=coding) as blocks:
                    return await use(blocks)
        finally:
            self._seen(view, granted)
            view.close()

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
                    lambda block: etag_of(permit, media_type, block, self._keyring),
                    self._kept.drop_one,
                    partial(asyncio.get_running_loop().run_in_executor, self._executor),
                ),
            )

        key = key_of(permit, granted.context, granted.dialect, granted.variant, granted.target,
                     granted.page, granted.order)  # fmt: skip
        try:
            anew = wanted.span is None
            return await self._kept.get(key, permit.subject.name, make, anew=anew)
        except TooLarge:
            return None

    def _view(self, granted: Granted, stored: Format) -> View:
        permit, given = granted.permit, FORMATS[granted.dialect.format]
        bound = transform.bind(
            permit.plan,
            context=granted.context,
            subject=permit.subject.name,
            keyring=self._keyring,
        )
        steps = Steps(
            decoder=stored.decoder(
                Reading(
                    report=permit.report,
                    dialect=granted.variant.stored,
                    reads=permit.plan.reads,
                    limits=self._bounds.formats,
                    spools=self._bounds.spools,
                )
            ),
            transform=bound,
            encoder=given.encoder(bound.columns, granted.dialect),
            digest=self._keyring.mac("audit-digest").start(),
        )
        if granted.sorted_here:
            return SortedView(
                steps,
                lexis=stored.lexis,
                plan=permit.plan,
                asked=granted.order,
                page=granted.page,
                most=self._bounds.sort_bytes,
            )
        if granted.page is not None:
            return PagedView(steps, page=granted.page)
        return View(steps)
