"""The policy enforcement point (PEP): the life of a request, from its target to its last block.

PROMISE 2 (no record, no data): `recorder.Recorder.record` is the one line that appends an access's event;
what leaves (`answers`) cannot be made without the `Receipt` that it returns.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import lru_cache
from typing import Final

from aiohttp import hdrs, web
from multidict import istr

from proxy.audit.log import AccessLog
from proxy.catalogue import BadParameter, MalformedTarget, parse_target
from proxy.codings import OFFERED, Coding
from proxy.errors import (
    LogUnavailable,
    SourceRefused,
    SpoolsFull,
    StoreTimeout,
    StoreUnavailable,
    TooLargeToSort,
    where,
)
from proxy.formats import FORMATS
from proxy.gateway import validated
from proxy.gateway.accept import codings, preferred
from proxy.gateway.answers import Head, bare, release
from proxy.gateway.conditional import Wanted
from proxy.gateway.drift import Drift, Kind
from proxy.gateway.making import Bounds, Granted, Maker, SortsFull
from proxy.gateway.paging import Page
from proxy.gateway.record import Access
from proxy.gateway.recorder import Recorder
from proxy.gateway.sorting import asked_order
from proxy.gateway.standing import Outdated, Standing, context_of
from proxy.gateway.streamed import Streamed
from proxy.gateway.validated import etag_of, with_coding
from proxy.gateway.view import Blocks, View
from proxy.keys import Keyring
from proxy.plan import Decision, Deny, Permit
from proxy.policy.decide import decide
from proxy.reasons import Reason
from proxy.reload import PolicyInForce
from proxy.report import By, Dialect, Report, Variant
from proxy.snapshot import Snapshot
from proxy.subject import Subject
from proxy.upstream import Stores

PURPOSE_HEADER: Final = istr("Counterfoil-Purpose")
_ATTEMPTS: Final = 3
"""How often a request is decided anew where its permit ended before its first block was ready."""
_SUBJECTS: Final = 8192
"""How many subjects' opaque ids are remembered."""
_METHODS: Final = (hdrs.METH_GET, hdrs.METH_HEAD)
_LOGGER: Final = logging.getLogger("counterfoil")


class Gateway:
    """Composes the stages."""

    def __init__(
        self,
        *,
        policy: PolicyInForce,
        log: AccessLog,
        stores: Stores,
        keyring: Keyring,
        bounds: Bounds,
        executor: Executor,
    ) -> None:
        self._policy = policy
        self._keyring = keyring
        self._bounds = bounds
        self.recorder = Recorder(log)
        self._running: Counter[str] = Counter()
        self._drift = Drift()
        self._maker = Maker(
            stores=stores,
            keyring=keyring,
            bounds=bounds,
            executor=executor,
            seen=self._tell_of_drift,
        )
        self._opaque = lru_cache(_SUBJECTS)(keyring.opaque)

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in force."""
        return self._policy.snapshot

    @property
    def healthy(self) -> bool:
        """Whether an access could be recorded and served now."""
        return self.recorder.healthy

    @property
    def stale(self) -> str:
        """The cause for which the folder's policy is not in force, of `reload.CAUSES`; '' where it is."""
        refused = self._policy.refused
        return refused.cause if refused is not None else ""

    @property
    def running(self) -> int:
        """How many permitted requests are under way."""
        return self._running.total()

    @property
    def drifting(self) -> dict[str, dict[Kind, int]]:
        """Report -> how many of its fields are otherwise now than the catalogue declares."""
        return self._drift.fields(self.snapshot.catalogue.reports)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The life of a request, step by step.

        1 take one snapshot; 2 identify; 3 route; 4 decide; 5 fetch; 6 decode, transform, encode;
        7 record, durably; 8 release. What cannot be recorded is neither released nor refused.
        """
        attempts = 0
        while True:
            access = Access(address=request.remote or "", method=request.method)
            try:
                return await self._attempt(request, access)
            except Outdated:
                attempts += 1  # nothing is released, nothing on record: as if it were asked now
                if attempts == _ATTEMPTS:
                    deny = Deny(reason=Reason.CHANGING, cause="policy-changing")
                    return await self.recorder.refuse(access, deny)
            except LogUnavailable as exc:
                return self.recorder.unrecorded(access, exc)
            except asyncio.CancelledError:
                if not access.parts:  # the proxy stops, and nothing of this access is on record yet
                    deny = Deny(reason=Reason.INTERNAL, cause="stopped")
                    await asyncio.shield(self.recorder.refuse(access, deny))
                raise
            except Exception as exc:  # noqa: BLE001 - whatever went wrong is refused and recorded
                _LOGGER.error("access %s: %s", access.id, where(exc))
                deny = Deny(reason=Reason.INTERNAL, cause="internal-error")
                return await self.recorder.refuse(access, deny)

    async def _attempt(self, request: web.BaseRequest, access: Access) -> web.StreamResponse:
        snapshot = self.snapshot  # 1
        decided = await self._decide(snapshot, request, access)  # 2, 3, 4
        match decided:
            case Deny():
                return await self.recorder.refuse(access, decided)
            case Granted():
                return await self._answer(snapshot, request, access, decided)  # 5, 6, 7, 8

    # ── 2, 3, 4: who asks for what, and may it ────────────────────────────────────────────────────

    async def _decide(
        self, snapshot: Snapshot, request: web.BaseRequest, access: Access
    ) -> Granted | Deny:
        """The order of answers is DESIGN.md §3.4: nothing of a report is told before a grant on it."""
        access.policy = snapshot.version
        purpose = access.stated(
            request.headers.getall(PURPOSE_HEADER, ()), snapshot.catalogue.purposes, self._keyring
        )
        try:
            target = parse_target(request.raw_path)
        except MalformedTarget as exc:
            return Deny(reason=Reason.MALFORMED, cause=exc.cause)
        if request.body_exists and not request.content.at_eof():
            return Deny(reason=Reason.BODY, cause="body-on-a-read")

        subject = await self.identify(snapshot, request, access)
        if isinstance(subject, Deny):
            return subject

        route = snapshot.catalogue.route(target.path)
        if route is None:
            access.path = target.path
            return Deny(reason=Reason.NOT_FOUND, cause="unknown-report")
        report, variant = route.report, route.variant
        access.report, access.format = report, variant.offers[0].format

        context = context_of(subject, request, access, purpose=purpose or "")
        decision = decide(snapshot.policy, subject=subject, report=report, context=context)
        if isinstance(decision, Deny) and decision.reason is not Reason.PURPOSE:
            return decision  # without a grant on the report, nothing more is told
        if request.method not in _METHODS:
            return Deny(reason=Reason.METHOD, cause="method", allow=_METHODS)
        dialect = _negotiated(request, variant, decision)
        if isinstance(dialect, Deny):
            return dialect
        access.format = dialect.format
        accepted = codings(request)
        if not accepted:
            detail = f"Content codings offered here: {', '.join(OFFERED)}."
            return Deny(reason=Reason.NOT_ACCEPTABLE, cause="accept-encoding", detail=detail)
        try:
            asked = snapshot.catalogue.ask(target, by=subject.name)
        except BadParameter as exc:
            declared = ", ".join(report.parameters) or "none"
            help_ = exc.help(decision.plan.clear if isinstance(decision, Permit) else ())
            detail = f"{help_} Parameters of this report: {declared}.".lstrip()
            return Deny(reason=Reason.PARAMETER, cause=exc.cause, detail=detail)
        access.recorded(asked.parameters, report, self._keyring)
        if purpose is None:
            return Deny(reason=Reason.PURPOSE_UNKNOWN, cause="unknown-purpose")
        if isinstance(decision, Deny):
            return decision
        hidden = _selects_on_hidden(asked.parameters, report, decision)
        if hidden:
            detail = f"Not for you: {', '.join(hidden)}."
            return Deny(reason=Reason.PARAMETER_FORBIDDEN, cause="hidden-field", detail=detail)
        if self._running[subject.name] >= self._bounds.requests_per_subject:
            return Deny(reason=Reason.BUSY, cause="too-many-requests")
        access.permit = decision
        given = asked.parameters.items()
        shaping = {name: value for name, value in given if name in report.shaping}
        return Granted(
            permit=decision,
            context=context,
            variant=variant,
            dialect=dialect,
            codings=accepted,
            target=asked.target,
            page=Page.of(report, shaping) if shaping else None,
            order=asked_order(report, shaping) if shaping else (),
            grouped=any(report.parameters[name].by is By.GROUP for name in shaping),
        )

    async def identify(
        self, snapshot: Snapshot, request: web.BaseRequest, access: Access
    ) -> Subject | Deny:
        """Who asks, noted in `access`."""
        presented = request.headers.getall(hdrs.AUTHORIZATION, ())
        if len(presented) > 1:
            return Deny(reason=Reason.UNAUTHENTICATED, cause="token-twice")
        subject = await snapshot.identities.verify(presented[0] if presented else None, access.now)
        if isinstance(subject, Subject):
            access.subject, access.opaque = subject, self._opaque(subject.name)
        return subject

    # ── 5, 6, 7, 8: fetch, make the requester's view, record, release ─────────────────────────────

    async def _answer(
        self, snapshot: Snapshot, request: web.BaseRequest, access: Access, granted: Granted
    ) -> web.StreamResponse:
        name = granted.permit.subject.name
        given = FORMATS[granted.dialect.format]
        coding = Coding.of(granted.codings, compressed=given.compressed)
        negotiated = len(granted.variant.offers) > 1
        head = Head(
            given.media_type, vary="Accept, Accept-Encoding" if negotiated else "Accept-Encoding"
        )
        standing = Standing(
            permit=granted.permit,
            context=granted.context,
            decided=snapshot,
            policy=lambda: self.snapshot,
            request=request,
            access=access,
        )
        repeatable = granted.permit.plan.repeatable
        wanted = Wanted.of(request)

        async def send(blocks: Blocks) -> web.StreamResponse:
            ready = await blocks.take()
            await standing.hold()
            block = ready[0]
            coded = head._replace(coding=block.coding)
            if not block.last:
                answer = Streamed(blocks, recorder=self.recorder, standing=standing)
                return await answer.send(ready, coded)
            receipt = await self.recorder.record(access, "complete", block=block, ended="whole")
            if repeatable:
                etag = etag_of(granted.permit, head.media_type, block, self._keyring)
                coded = coded._replace(etag=with_coding(etag, block.coding))
            return release(receipt, block, coded)

        self._running[name] += 1
        try:
            if wanted is not None:
                whole = await self._maker.whole(granted, wanted) if repeatable else None
                await standing.hold()
                if whole is not None:
                    return await validated.answer(
                        whole,
                        wanted,
                        head=head,
                        coding=coding,
                        recorder=self.recorder,
                        standing=standing,
                    )
                if wanted.fails(""):  # it has no validator
                    return await self.recorder.refuse(access, validated.CHANGED)
                if wanted.head:
                    if coding is not None and coding.always:
                        head = head._replace(coding=coding.coding)
                    return bare(await self.recorder.record(access, "complete", ended="whole"), head)
            return await self._maker.made(granted, send, coding)
        except SortsFull:
            deny = Deny(reason=Reason.BUSY, cause="too-many-sorted")
            return await self.recorder.refuse(access, deny)
        except (SourceRefused, StoreUnavailable) as exc:
            _LOGGER.warning("access %s: %s: %s", access.id, granted.permit.report.id, exc)
            return await self.recorder.refuse(access, _store_failure(exc))
        finally:
            self._running[name] -= 1
            if not self._running[name]:
                del self._running[name]

    def _tell_of_drift(self, view: View, granted: Granted) -> None:
        """One alarm, in both logs, for what a store gives otherwise than the catalogue declares."""
        if granted.grouped:
            return
        current = self.snapshot.catalogue.reports
        for alarm in self._drift.notice(view, granted.permit.report, granted.variant, current):
            self.recorder.alarm(alarm, self.snapshot.version)

    async def close(self) -> None:
        """Write what is still to be written, and stop fetching keys."""
        self._maker.close()
        await self.recorder.close()
        await self.snapshot.identities.close()


def _negotiated(request: web.BaseRequest, variant: Variant, decision: Decision) -> Dialect | Deny:
    """How the answer is to be written, of what is offered and can hold what is granted."""
    mixed = decision.plan.mixed if isinstance(decision, Permit) else frozenset()
    offers = [each for each in variant.offers if not (mixed and FORMATS[each.format].typed)]
    if not offers:
        detail = f"Not in one type for you: {', '.join(sorted(mixed))}."
        return Deny(reason=Reason.NOT_ACCEPTABLE, cause="mixed-types", detail=detail)
    number = preferred(request, [FORMATS[each.format].media_type for each in offers])
    if number is None:
        offered = ", ".join(FORMATS[each.format].media_type.partition(";")[0] for each in offers)
        detail = f"Offered here: {offered}."
        return Deny(reason=Reason.NOT_ACCEPTABLE, cause="accept", detail=detail)
    return offers[number]


def _selects_on_hidden(
    parameters: Mapping[str, str], report: Report, permit: Permit
) -> tuple[str, ...]:
    """Parameters by which the store would tell of what the requester may not see (DESIGN.md §4)."""
    return tuple(
        name
        for name, value in parameters.items()
        if permit.plan.hides(report.parameters[name], value)
    )


def _store_failure(exc: SourceRefused | StoreUnavailable) -> Deny:
    match exc:
        case TooLargeToSort():
            return Deny(reason=Reason.TOO_LARGE_TO_SORT, cause=exc.cause)
        case SpoolsFull():
            return Deny(reason=Reason.BUSY, cause=exc.cause)
        case SourceRefused():
            return Deny(reason=Reason.STORE_REFUSED, cause=exc.cause)
        case StoreTimeout():
            return Deny(reason=Reason.STORE_TIMEOUT, cause=exc.cause)
        case StoreUnavailable():
            return Deny(reason=Reason.STORE_UNAVAILABLE, cause=exc.cause)
