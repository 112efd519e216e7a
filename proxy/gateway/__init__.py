"""The policy enforcement point (PEP): the life of a request, from its target to its last block.

PROMISE 2 (no record, no data): `record` is the one line that appends an event; `release`, `begin` and
`refuse` cannot be called without the `Receipt` that it returns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec
from aiohttp import hdrs, web
from multidict import istr

from proxy import problems, transform
from proxy.access import AccessEvent, Ended, Receipt, Step, new_access_id, timestamp
from proxy.audit.log import AccessLog
from proxy.catalogue import (
    BadParameter,
    MalformedTarget,
    parse_target,
)
from proxy.errors import (
    LogUnavailable,
    SourceRefused,
    StoreTimeout,
    StoreUnavailable,
    TooLargeToSort,
    where,
)
from proxy.formats import FORMATS
from proxy.formats.base import Format
from proxy.formats.base import Limits as FormatLimits
from proxy.gateway.bursts import Burst, Bursts
from proxy.gateway.drift import Alarm, Drift, Kind
from proxy.gateway.paging import Page, PagedView
from proxy.gateway.record import Access
from proxy.gateway.sorting import SortedView, asked_order, tells_of_hidden
from proxy.gateway.tally import NO_REPORT, Tally
from proxy.gateway.view import Block, Blocks, Pieces, Steps, View
from proxy.keys import Keyring
from proxy.plan import Context, Deny, Permit, Reason
from proxy.policy.decide import decide
from proxy.reload import PolicyInForce
from proxy.report import By, Ordering, Report, Variant
from proxy.snapshot import Snapshot
from proxy.subject import Subject
from proxy.upstream import Stores

EVENT_HEADER: Final = istr("Counterfoil-Event")
PURPOSE_HEADER: Final = istr("Counterfoil-Purpose")
_SUBJECTS: Final = 8192
"""How many subjects' opaque ids are remembered."""
_LOGGER: Final = logging.getLogger("counterfoil")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What a request may take, in bytes, seconds and numbers."""

    source_bytes: int
    requests_per_subject: int
    sort_bytes: int
    sorts: int
    formats: FormatLimits


class _Granted(msgspec.Struct, frozen=True, kw_only=True):
    """A permitted request: what to ask the store for, and what may be given of its answer."""

    permit: Permit
    context: Context
    variant: Variant
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
        self._log = log
        self._stores = stores
        self._keyring = keyring
        self._bounds = bounds
        self._executor = executor
        self.tally = Tally()
        """What is counted for the metrics."""
        self._bursts = Bursts()
        self._running: Counter[str] = Counter()
        self._sorting: Counter[str] = Counter()
        self._drift = Drift()
        self._alarms: set[asyncio.Future[None]] = set()
        self._opaque = lru_cache(_SUBJECTS)(keyring.opaque)

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in force."""
        return self._policy.snapshot

    @property
    def healthy(self) -> bool:
        """Whether an access could be recorded and served now."""
        return self._log.healthy

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

    @property
    def opened(self) -> str:
        """The id of the event with which this process opened the access log."""
        return self._log.opened

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The life of a request, step by step.

        1 take one snapshot; 2 identify; 3 route; 4 decide; 5 fetch; 6 decode, transform, encode;
        7 record, durably; 8 release. What cannot be recorded is neither released nor refused.
        """
        access = Access(address=request.remote or "", method=request.method)
        try:
            snapshot = self.snapshot  # 1
            decided = await self._decide(snapshot, request, access)  # 2, 3, 4
            match decided:
                case Deny():
                    return await self._refuse(access, decided)
                case _Granted():
                    return await self._answer(snapshot, request, access, decided)  # 5, 6, 7, 8
        except LogUnavailable as exc:
            return self.unrecorded(access, exc)
        except asyncio.CancelledError:
            if not access.parts:  # the proxy stops, and nothing of this access is on record yet
                deny = Deny(reason=Reason.INTERNAL, cause="stopped")
                await asyncio.shield(self.refuse(access, deny))
            raise
        except Exception as exc:  # noqa: BLE001 - whatever went wrong is refused and recorded
            _LOGGER.error("access %s: %s", access.id, where(exc))
            return await self.refuse(access, Deny(reason=Reason.INTERNAL, cause="internal-error"))

    # ── 2, 3, 4: who asks for what, and may it ────────────────────────────────────────────────────

    async def _decide(
        self, snapshot: Snapshot, request: web.BaseRequest, access: Access
    ) -> _Granted | Deny:
        """The order of answers is DESIGN.md §3.4: nothing of a report is told before a grant on it."""
        access.policy = snapshot.version
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
        access.report, access.variant = report, variant

        stated = request.headers.getall(PURPOSE_HEADER, ())
        purpose = stated[0] if stated else ""
        catalogued = len(stated) < 2 and (not stated or purpose in snapshot.catalogue.purposes)
        access.purpose = purpose if catalogued else ""
        context = context_of(subject, request, access)
        decision = decide(snapshot.policy, subject=subject, report=report, context=context)
        if isinstance(decision, Deny) and decision.reason is not Reason.PURPOSE:
            return decision  # without a grant on the report, nothing more is told
        if request.method != hdrs.METH_GET:
            return Deny(reason=Reason.METHOD, cause="method", allow=(hdrs.METH_GET,))
        if not _acceptable(request, FORMATS[variant.format].media_type):
            return Deny(reason=Reason.NOT_ACCEPTABLE, cause="accept")
        try:
            asked = snapshot.catalogue.ask(target, by=subject.name)
        except BadParameter as exc:
            detail = f"Parameters of this report: {', '.join(report.parameters) or 'none'}."
            return Deny(reason=Reason.PARAMETER, cause=exc.cause, detail=detail)
        access.recorded(asked.parameters, report, self._keyring)
        if not catalogued:
            return Deny(reason=Reason.PURPOSE_UNKNOWN, cause="unknown-purpose")
        if isinstance(decision, Deny):
            return decision
        hidden = _selects_on_hidden(asked.parameters, report, decision)
        if hidden:
            detail = f"Not for you: {', '.join(hidden)}."
            return Deny(reason=Reason.PARAMETER_FORBIDDEN, cause="hidden-field", detail=detail)
        if self._running[subject.name] >= self._bounds.requests_per_subject:
            return Deny(reason=Reason.BUSY, cause="too-many-requests")
        if tells_of_hidden(decision.plan) and self._sorts_enough(subject.name):
            return Deny(reason=Reason.BUSY, cause="too-many-sorted")
        access.permit = decision
        return _Granted(
            permit=decision,
            context=context,
            variant=variant,
            target=asked.target,
            page=Page.of(report, asked.parameters),
            order=asked_order(report, asked.parameters),
            grouped=any(report.parameters[name].by is By.GROUP for name in asked.parameters),
        )

    def _sorts_enough(self, name: str) -> bool:
        """Whether no further answer may be sorted now, or none of one subject's."""
        most = self._bounds.sorts
        return self._sorting.total() >= most or self._sorting[name] >= max(1, most // 4)

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
        self, snapshot: Snapshot, request: web.BaseRequest, access: Access, granted: _Granted
    ) -> web.StreamResponse:
        name = granted.permit.subject.name
        format_ = FORMATS[granted.variant.format]
        view = self._view(granted, format_)
        self._running[name] += 1
        self._sorting[name] += granted.sorted_here
        try:
            async with self._stores.fetch(
                granted.permit.report.store, granted.target, format_.media_type, format_.accepts
            ) as source:
                pieces = Pieces(
                    source, most_at_once=format_.block_size, most=self._bounds.source_bytes
                )
                async with Blocks(pieces, view, executor=self._executor) as blocks:
                    ready = await blocks.take()
                    if ready[0].last:
                        receipt = await self.record(
                            access, "complete", block=ready[0], ended="whole"
                        )
                        return release(receipt, ready[0], format_.media_type)
                    return await self._stream(
                        snapshot, request, access, granted, blocks, ready, format_.media_type
                    )
        except (SourceRefused, StoreUnavailable) as exc:
            _LOGGER.warning("access %s: %s: %s", access.id, granted.permit.report.id, exc)
            return await self._refuse(access, _store_failure(exc))
        finally:
            self._running[name] -= 1
            self._sorting[name] -= granted.sorted_here
            if not self._running[name]:
                del self._running[name], self._sorting[name]
            self._tell_of_drift(view, granted)

    def _view(self, granted: _Granted, format_: Format) -> View:
        permit, variant = granted.permit, granted.variant
        bound = transform.bind(
            permit.plan,
            context=granted.context,
            subject=permit.subject.name,
            keyring=self._keyring,
        )
        steps = Steps(
            decoder=format_.decoder(
                permit.report, variant, permit.plan.reads, self._bounds.formats
            ),
            transform=bound,
            encoder=format_.encoder(bound.columns, variant),
            digest=self._keyring.mac("audit-digest").start(),
        )
        if granted.sorted_here:
            return SortedView(
                steps,
                lexis=format_.lexis,
                plan=permit.plan,
                asked=granted.order,
                page=granted.page,
                most=self._bounds.sort_bytes,
            )
        if granted.page is not None:
            return PagedView(steps, page=granted.page)
        return View(steps)

    async def _stream(
        self,
        snapshot: Snapshot,
        request: web.BaseRequest,
        access: Access,
        granted: _Granted,
        blocks: Blocks,
        ready: list[Block],
        media_type: str,
    ) -> web.StreamResponse:
        """An answer of more than one block: each record is durable before the blocks that it covers."""
        step: Step = "outcome" if ready[-1].last else "intent"
        receipt = await self.record(
            access, step, block=ready[-1], ended="whole" if ready[-1].last else None
        )
        covered = ready[-1]
        ended: Ended | None = None
        response: web.StreamResponse | None = None
        try:
            response = await begin(receipt, request, media_type)
            while True:
                for block in ready:
                    await response.write(block.data)  # the server ends it where nobody takes it
                if covered.last:
                    return response
                ready = await blocks.take()
                ended = await self._cut_short(snapshot, request, access, granted)
                if ended is not None:
                    break
                step = "outcome" if ready[-1].last else "progress"
                await self.record(
                    access, step, block=ready[-1], ended="whole" if ready[-1].last else None
                )
                covered = ready[-1]
        except (SourceRefused, StoreUnavailable) as exc:
            _LOGGER.warning("access %s: %s: %s", access.id, granted.permit.report.id, exc)
            ended = "store-failed"
        except ConnectionError:
            ended = "client-gone"
        except LogUnavailable as exc:
            _LOGGER.error("access %s: the access log failed: %s", access.id, exc)
            ended = "log-failed"
        except asyncio.CancelledError:
            ended = "stopped"
            raise
        except Exception as exc:  # noqa: BLE001 - whatever went wrong ends the stream and is recorded
            _LOGGER.error("access %s: %s", access.id, where(exc))
            ended = "store-failed"
        finally:
            if ended is not None:
                abort(request)
                if not covered.last:
                    # What the records say already covers all that was released.
                    with suppress(LogUnavailable):
                        await asyncio.shield(
                            self.record(access, "outcome", block=covered, ended=ended)
                        )
        return response if response is not None else web.Response(status=503)

    async def _cut_short(
        self, snapshot: Snapshot, request: web.BaseRequest, access: Access, granted: _Granted
    ) -> Ended | None:
        """Between blocks: does the permit still stand? The same plan goes on, anything else is cut.

        What is recorded from here on names the policy that was asked.
        """
        now = time.time()
        current = self.snapshot
        permit = granted.permit
        if current is snapshot and now < permit.valid_until:
            return None
        flips = any({"now", "date"} & predicate.reads for predicate in permit.plan.predicates)
        if now >= permit.valid_until and flips:
            return "expired"
        changed: Ended = "expired" if current is snapshot else "policy-changed"
        access.policy, access.permit = current.version, None
        # Its issuer may be trusted no longer, its key withdrawn, its claims read in another way, its
        # line of people.csv another one, or at its end.
        token = request.headers.get(hdrs.AUTHORIZATION)
        subject = await current.identities.verify(token, now)
        if isinstance(subject, Deny):
            return "expired" if now >= permit.subject.expires else changed
        if (subject.user, subject.tool) != (permit.subject.user, permit.subject.tool):
            return changed
        report = current.catalogue.reports.get(permit.report.id)
        if report != permit.report:
            return changed
        context = _at(granted.context, datetime.fromtimestamp(now, UTC), subject)
        again = decide(current.policy, subject=subject, report=report, context=context)
        if not isinstance(again, Permit) or not _gives_as(again, permit):
            return changed
        access.subject, access.permit = subject, again
        return None

    def _tell_of_drift(self, view: View, granted: _Granted) -> None:
        """One alarm, in both logs, for what a store gives otherwise than the catalogue declares."""
        if granted.grouped:
            return
        current = self.snapshot.catalogue.reports
        for alarm in self._drift.notice(view, granted.permit.report, granted.variant, current):
            _LOGGER.warning("drift: %s", alarm)
            # Not waited for: what a requester is not given shall not delay what it is.
            task = asyncio.ensure_future(self._record_drift(alarm))
            self._alarms.add(task)
            task.add_done_callback(self._alarms.discard)

    async def _record_drift(self, alarm: Alarm) -> None:
        event = AccessEvent(
            access=new_access_id(),
            step="drift",
            at=timestamp(time.time()),
            report=alarm.report,
            cause=alarm.kind,
            policy=self.snapshot.version,
            count=alarm.count,
        )
        try:
            await self._log.append(event)
        except LogUnavailable as exc:
            _LOGGER.error("drift of %s is not on record: %s", alarm.report, exc)

    # ── records and refusals ──────────────────────────────────────────────────────────────────────

    async def record(
        self,
        access: Access,
        step: Step,
        *,
        deny: Deny | None = None,
        block: Block | None = None,
        ended: Ended | None = None,
    ) -> Receipt:
        """PROMISE 2 (no record, no data): the one line that appends an access's event."""
        event = access.event(step, deny=deny, block=block, ended=ended)
        receipt = await self._log.append(event, principal=access.principal)
        self.tally.recorded(access.report.id if access.report else NO_REPORT, event)
        return receipt

    async def refuse(self, access: Access, deny: Deny) -> web.Response:
        """Refuse whatever happens: with a record, or with 503 where none can be made."""
        try:
            return await self._refuse(access, deny)
        except LogUnavailable as exc:
            return self.unrecorded(access, exc)

    def unrecorded(self, access: Access, why: LogUnavailable) -> web.Response:
        """The one answer that has no record, for none can be made: it says just that."""
        _LOGGER.error("access %s: the access log failed: %s", access.id, why)
        self.tally.unrecorded += 1
        deny = Deny(reason=Reason.LOG_UNAVAILABLE, cause="log-unavailable")
        return web.Response(
            status=problems.status(deny),
            body=problems.body(deny, access.id),
            headers={EVENT_HEADER: access.id, "Server": "counterfoil", **problems.headers(deny)},
        )

    async def _refuse(self, access: Access, deny: Deny) -> web.Response:
        if access.subject is None:
            key = self._bursts.key(access.address)
            if self._bursts.exceeds(key, access.started):
                return await self._refuse_in_burst(key, deny)
        access.permit = None
        return refuse(await self.record(access, "refusal", deny=deny), deny)

    async def _refuse_in_burst(self, key: str, deny: Deny) -> web.Response:
        burst = self._bursts.open.get(key)
        if burst is None:
            opened = self._burst_event(new_access_id(), key)
            burst = Burst(address=key, receipt=await self._log.append(opened))
            burst = self._bursts.open.setdefault(key, burst)
        burst.count += 1
        self.tally.coalesced(deny.reason.slug)
        return refuse(burst.receipt, deny)

    def _burst_event(self, access: str, address: str, count: int = 0) -> AccessEvent:
        return AccessEvent(
            access=access,
            step="burst",
            part=1 if count else 0,
            at=timestamp(time.time()),
            address=address,
            decision="deny",
            count=count,
        )

    async def close(self) -> None:
        """Write what is still to be written, and stop fetching keys."""
        await self.close_bursts()
        if self._alarms:
            await asyncio.wait(self._alarms)
        await self.snapshot.identities.close()

    async def close_bursts(self) -> None:
        """Write the counts of the refusals that were coalesced since the last call."""
        for burst in self._bursts.close_all(time.monotonic()):
            if burst.count:
                event = self._burst_event(burst.receipt.access, burst.address, burst.count)
                with suppress(LogUnavailable):
                    await self._log.append(event)


# ── what leaves: each of these needs a receipt ────────────────────────────────────────────────────


def release(receipt: Receipt, block: Block, media_type: str) -> web.Response:
    """An answer of one block, whose `complete` record is durable."""
    return web.Response(body=block.data, headers=_headers(receipt, media_type))


async def begin(receipt: Receipt, request: web.BaseRequest, media_type: str) -> web.StreamResponse:
    """The head of a longer answer, whose `intent` is durable."""
    response = web.StreamResponse(headers=_headers(receipt, media_type))
    response.enable_chunked_encoding()
    await response.prepare(request)
    return response


def refuse(receipt: Receipt, deny: Deny) -> web.Response:
    """A refusal on record."""
    response = web.Response(
        status=problems.status(deny),
        body=problems.body(deny, receipt.access),
        headers={**_headers(receipt, problems.MEDIA_TYPE), **problems.headers(deny)},
    )
    if deny.reason in (Reason.MALFORMED, Reason.BODY, Reason.TOO_LARGE):
        response.force_close()
    return response


def abort(request: web.BaseRequest) -> None:
    """Break the connection, so that a cut answer can never be taken for a whole one."""
    if request.transport is not None:
        request.transport.abort()


def _headers(receipt: Receipt, media_type: str) -> dict[str, str]:
    return {
        "Content-Type": media_type,
        EVENT_HEADER: receipt.access,
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
        "Server": "counterfoil",
    }


def context_of(subject: Subject, request: web.BaseRequest, access: Access) -> Context:
    """What conditions may look at, as of the access's own instant."""
    now = datetime.fromtimestamp(access.now, UTC)
    return Context(
        attributes=subject.attributes,
        now=now,
        date=now.date(),
        ip=access.address,
        purpose=access.purpose,
        tool=(subject.tool or "").removeprefix("tool:"),
        action=access.action,
        method=request.method,
    )


def _at(context: Context, now: datetime, subject: Subject) -> Context:
    """The same request's context at another instant, with what is then known of the subject."""
    return replace(context, attributes=subject.attributes, now=now, date=now.date())


def _gives_as(again: Permit, permit: Permit) -> bool:
    """Whether both give the same rows and cells: by plans, and by the attributes that these read."""
    before, now = permit.subject.attributes, again.subject.attributes
    return again.plan.gives_as(permit.plan) and all(
        before.get(name) == now.get(name) for name in permit.plan.attributes
    )


def _selects_on_hidden(
    parameters: Mapping[str, str], report: Report, permit: Permit
) -> tuple[str, ...]:
    """Parameters by which the store would tell of what the requester may not see (DESIGN.md §4)."""
    return tuple(
        name
        for name, value in parameters.items()
        if permit.plan.hides(report.parameters[name], value)
    )


def _acceptable(request: web.BaseRequest, media_type: str) -> bool:
    """Whether `Accept` (RFC 9110 §12.5.1) admits the variant's media type."""
    stated = request.headers.getall(hdrs.ACCEPT, ())
    if not stated:
        return True
    essence = media_type.partition(";")[0]
    ranges = {"*/*", f"{essence.partition('/')[0]}/*", essence}
    for item in ",".join(stated).split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if name in ranges and not any(p.replace(" ", "") in ("q=0", "q=0.0") for p in parameters):
            return True
    return False


def _store_failure(exc: SourceRefused | StoreUnavailable) -> Deny:
    match exc:
        case TooLargeToSort():
            return Deny(reason=Reason.TOO_LARGE_TO_SORT, cause=exc.cause)
        case SourceRefused():
            return Deny(reason=Reason.STORE_REFUSED, cause=exc.cause)
        case StoreTimeout():
            return Deny(reason=Reason.STORE_TIMEOUT, cause=exc.cause)
        case StoreUnavailable():
            return Deny(reason=Reason.STORE_UNAVAILABLE, cause=exc.cause)
