"""The policy enforcement point (PEP): the life of a request, from its target to its last block.

PROMISE 2 (no record, no data): `recorder.Recorder.record` is the one line that appends an access's event;
what leaves (`answers`) cannot be made without the `Receipt` that it returns.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from typing import Final

from aiohttp import hdrs, web
from msgspec.structs import replace
from multidict import istr

from proxy.alarms.noticed import Noticed
from proxy.audit.log import AccessLog
from proxy.budgets.spending import Budgets, Meter
from proxy.catalogue import BadParameter, MalformedTarget, parse_target
from proxy.codings import OFFERED, Coding
from proxy.errors import (
    SourceRefused,
    SpoolsFull,
    StoreNotAsked,
    StoreTimeout,
    StoreUnavailable,
    TooLargeToCount,
    TooLargeToSort,
)
from proxy.formats import FORMATS
from proxy.formats.base import Decoder
from proxy.gateway import validated
from proxy.gateway.accept import codings, negotiated
from proxy.gateway.answers import Head, bare
from proxy.gateway.askers import Askers
from proxy.gateway.conditional import Wanted
from proxy.gateway.drift import Drift, Kind
from proxy.gateway.making import Bounds, Granted, Maker
from proxy.gateway.paging import Page
from proxy.gateway.record import Access
from proxy.gateway.recorder import Recorder
from proxy.gateway.sending import Sending
from proxy.gateway.sorting import asked_order
from proxy.gateway.standing import Outdated, Standing, context_of
from proxy.gateway.tracing import Tracer
from proxy.gateway.turns import NoTurn, Running
from proxy.gateway.view import View
from proxy.plan import Deny, Permit
from proxy.policy.decide import decide
from proxy.reasons import Reason
from proxy.reload import PolicyInForce
from proxy.report import By, Report
from proxy.rotation import KeysInForce
from proxy.snapshot import Snapshot
from proxy.upstream import Stores
from proxy.upstream.live import Live

PURPOSE_HEADER: Final = istr("Counterfoil-Purpose")
_ATTEMPTS: Final = 3
"""How often a request is decided anew where its permit ended before its first block was ready."""
_METHODS: Final = (hdrs.METH_GET, hdrs.METH_HEAD)
_LOGGER: Final = logging.getLogger("counterfoil")


class Gateway:
    """Composes the stages."""

    def __init__(
        self,
        *,
        policy: PolicyInForce,
        keys: KeysInForce,
        log: AccessLog,
        stores: Stores,
        bounds: Bounds,
        askers: Askers,
        executor: Executor,
        budgets: Budgets,
        noticed: Noticed | None = None,
        tracer: Tracer | None = None,
        workers: int = 1,
    ) -> None:
        """`workers`: how many processes share the port, and what all may do together."""
        self.tracer = tracer
        self._policy = policy
        self._budgets = budgets
        self._executor = executor
        self._keys = keys
        self._bounds = bounds
        self.askers = askers
        self.recorder = Recorder(log, workers=workers, noticed=noticed)
        self._running = Running(bounds.requests_per_subject)
        self._stores = stores
        self._drift = Drift()
        self._maker = Maker(
            stores=stores,
            bounds=bounds,
            executor=executor,
            seen=self._tell_of_drift,
        )

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in force."""
        return self._policy.snapshot

    def _in_force(self) -> Snapshot:
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
    def keys_stale(self) -> str:
        """The cause for which the file's keyring is not in force, of `rotation.CAUSES`; '' where it is."""
        untaken = self._keys.untaken
        return untaken.cause if untaken is not None else ""

    @property
    def knows_keys(self) -> bool:
        """Whether a token of some issuer could be told to be good now."""
        return self.snapshot.identities.able

    @property
    def stores(self) -> Iterator[Live]:
        """What is known of the stores in force that were asked for something."""
        return self._stores.known(self.snapshot.catalogue.stores)

    def let_go(self) -> None:
        """Forget stores that are no longer catalogued, once no answer of theirs is under way."""
        self._stores.let_go(self.snapshot.catalogue.stores)

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

        1 take one snapshot, and the keys; 2 identify; 3 route; 4 decide; 5 fetch; 6 decode, transform,
        encode; 7 record, durably; 8 release. What cannot be recorded is neither released nor refused.
        """
        attempts = 0
        access = self.access(request, request.method)
        while True:
            try:
                return await self.recorder.answered(access, self._attempt(request, access))
            except Outdated:
                attempts += 1  # nothing is released, nothing on record: as if it were asked now
                if attempts == _ATTEMPTS:
                    deny = Deny(reason=Reason.CHANGING, cause="policy-changing")
                    return await self.recorder.refuse(access, deny)
                itself, access = access.itself, self.access(request, request.method)
                access.itself = itself

    def access(self, request: web.BaseRequest, method: str) -> Access:
        """What is known of a request when it begins, with the keys that it keeps to its end."""
        client = self.askers.client(request)
        return Access(
            address=client.address,
            certificate=client.certificate,
            unread=client.unread,
            method=method,
            keyring=self._keys.keyring,
            trace=None
            if self.tracer is None
            else self.tracer.begin(request, client.address, method),
        )

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
            request.headers.getall(PURPOSE_HEADER, ()), snapshot.catalogue.purposes
        )
        try:
            target = parse_target(request.raw_path)
        except MalformedTarget as exc:
            return Deny(reason=Reason.MALFORMED, cause=exc.cause)
        if request.body_exists and not request.content.at_eof():
            return Deny(reason=Reason.BODY, cause="body-on-a-read")

        subject = await self.askers.identify(snapshot, request, access)
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
        dialect = negotiated(request, variant, decision)
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
        access.recorded(asked.parameters, report)
        if purpose is None:
            return Deny(reason=Reason.PURPOSE_UNKNOWN, cause="unknown-purpose")
        if isinstance(decision, Deny):
            return decision
        hidden = _selects_on_hidden(asked.parameters, report, decision)
        if hidden:
            detail = f"Not for you: {', '.join(hidden)}."
            return Deny(reason=Reason.PARAMETER_FORBIDDEN, cause="hidden-field", detail=detail)
        busy = self._running.refuses(subject.name, report.store.name)
        if busy:
            return Deny(reason=Reason.BUSY, cause=busy)
        access.permit = decision
        shaping = {
            name: value for name, value in asked.parameters.items() if name in report.shaping
        }
        return Granted(
            permit=decision,
            keyring=access.keyring,
            trace=access.trace,
            context=context,
            variant=variant,
            dialect=dialect,
            codings=accepted,
            target=asked.target,
            page=Page.of(report, shaping) if shaping else None,
            order=asked_order(report, shaping) if shaping else (),
            grouped=bool(shaping)
            and any(report.parameters[name].by is By.GROUP for name in shaping),
        )

    def meter(self, access: Access, permit: Permit) -> Meter:
        """What charges the budgets of an access that is permitted."""
        return Meter(
            self._budgets,
            subject=permit.subject,
            report=permit.report.id,
            access=access.id,
            keyring=access.keyring,
            policy=self._in_force,
        )

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
            policy=self._in_force,
            request=request,
            access=access,
            askers=self.askers,
        )
        repeatable = granted.permit.plan.repeatable
        wanted = Wanted.of(request)
        meter = self.meter(access, granted.permit)
        sending = Sending(
            granted=granted,
            head=head,
            coding=coding,
            maker=self._maker,
            recorder=self.recorder,
            standing=standing,
            meter=meter,
            executor=self._executor,
        )
        store = granted.permit.report.store.name
        self._running.begin(name, store)
        try:
            over = await meter.check(granted.permit.plan)
            if over is not None:
                return await self.recorder.refuse(access, over)
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
                        meter=meter,
                    )
                if wanted.fails(""):  # it has no validator
                    return await self.recorder.refuse(access, validated.CHANGED)
                if wanted.head:
                    if coding is not None and coding.always:
                        head = replace(head, coding=coding.coding)
                    return bare(await self.recorder.record(access, "complete", ended="whole"), head)
            return await sending.made()
        except NoTurn as exc:
            return await self.recorder.refuse(access, Deny(reason=Reason.BUSY, cause=exc.cause))
        except (SourceRefused, StoreUnavailable) as exc:
            level = logging.DEBUG if isinstance(exc, StoreNotAsked) else logging.WARNING
            report = granted.permit.report.id
            extra = {"access": access.id}
            _LOGGER.log(level, "access %s: %s: %s", access.id, report, exc, extra=extra)
            return await self.recorder.refuse(access, _store_failure(exc))
        finally:
            self._running.end(name, store)

    def _tell_of_drift(self, view: View | Decoder, granted: Granted) -> None:
        """One alarm, in both logs, for what a store gives otherwise than the catalogue declares."""
        if granted.grouped:
            return
        current = self.snapshot.catalogue.reports
        for alarm in self._drift.notice(view, granted.permit.report, granted.variant, current):
            self.recorder.alarm(alarm, self.snapshot.version)

    async def close(self) -> None:
        """Write what is still to be written, and stop asking identity providers."""
        self._maker.close()
        await self.recorder.close()
        await self.snapshot.identities.close()


def _selects_on_hidden(
    parameters: Mapping[str, str], report: Report, permit: Permit
) -> tuple[str, ...]:
    """Parameters by which the store would tell of what the requester may not see (DESIGN.md §4)."""
    if permit.plan.free.issuperset(parameters):
        return ()
    return tuple(
        name
        for name, value in parameters.items()
        if permit.plan.hides(report.parameters[name], value)
    )


def _store_failure(exc: SourceRefused | StoreUnavailable) -> Deny:
    match exc:
        case TooLargeToSort():
            return Deny(reason=Reason.TOO_LARGE_TO_SORT, cause=exc.cause)
        case TooLargeToCount():
            return Deny(reason=Reason.TOO_LARGE_TO_COUNT, cause=exc.cause)
        case SpoolsFull():
            return Deny(reason=Reason.BUSY, cause=exc.cause)
        case SourceRefused():
            return Deny(reason=Reason.STORE_REFUSED, cause=exc.cause)
        case StoreTimeout():
            return Deny(reason=Reason.STORE_TIMEOUT, cause=exc.cause)
        case StoreNotAsked():
            return Deny(reason=Reason.STORE_NOT_ASKED, cause=exc.cause, after=exc.after)
        case StoreUnavailable():
            return Deny(reason=Reason.STORE_UNAVAILABLE, cause=exc.cause)
