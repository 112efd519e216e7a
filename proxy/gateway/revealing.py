"""Sealed and tokenised values, asked back: `counterfoil reveal`.

    POST /-/reveal   {"report": "sales/store-daily", "field": "buyer_email",
                      "cells": [{"cell": "cf1.5f3a90c1.r7.q83vEjRW…",
                                 "row": {"date": "2026-01-01", "store_id": "2191", "sku": "SKU-0124"}}, …]}

                 ->  {"cells": [{"type": "text", "value": "anna.0042@buyers.example"}, null, …]}

`row` says what the row's key fields are, as far as the file has them; other members are not looked at.
Values are answered in the order in which they are asked, as texts with their type, to the character as the
store wrote them. `null` is a cell that is not revealed. It does not say why: altered, moved from elsewhere,
under another key, or not granted in its row. The record counts each.

Of tokens, which do not say where they belong, `given_for` is the purpose for which they were given; `key`
may say under which key, and `form` in which form, as the policy writes it, where a field has several.

An access like any other: identified, decided (action `reveal`; row by row by the `reveal` lines), counted
against the subject's allowance, on record before anything is released.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web

from proxy.gateway import PURPOSE_HEADER, Gateway
from proxy.gateway.allowance import Allowance
from proxy.gateway.answers import Head, release
from proxy.gateway.bodies import NOT_THE_TYPE, json_body
from proxy.gateway.record import Access
from proxy.gateway.standing import Outdated, Standing, context_of
from proxy.gateway.view import Block
from proxy.plan import Context, Deny, Permit
from proxy.policy.decide import decide
from proxy.policy.lines import Action
from proxy.reasons import Reason
from proxy.snapshot import Snapshot
from proxy.treatments import Site, detokenise
from proxy.unsealing import Asked, Back, Revealed, StandIn, unseal

PATH: Final = "/-/reveal"

_LOGGER: Final = logging.getLogger("counterfoil")
_AT_ONCE: Final = 32
_AT_ONCE_EACH: Final = 2
"""Most requests that are read and worked off at once, in all and for one subject."""
_JSON: Final = Head("application/json")

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked."""

    cells: int
    """Most of one request."""
    body_bytes: int
    per_minute: int
    per_hour: int
    """Most cells of one subject."""


class _Cell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    cell: Annotated[str, msgspec.Meta(min_length=1)]
    row: dict[str, msgspec.Raw] = {}


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    report: _Name
    field: _Name
    cells: Annotated[list[_Cell], msgspec.Meta(min_length=1)]
    form: str = ""
    key: str = ""
    given_for: str = ""


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    cells: tuple[Back | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Granted:
    """A reveal that may be made, cell by cell as the plan says."""

    permit: Permit
    context: Context
    field: str
    asked: list[Asked]
    stand_in: StandIn | None


class Reveals:
    """Answers what is asked at `/-/reveal`."""

    def __init__(self, *, gateway: Gateway, bounds: Bounds, executor: Executor) -> None:
        self._gateway = gateway
        self._recorder = gateway.recorder
        self._bounds = bounds
        self._executor = executor
        self._allowance = Allowance(
            spans=((float(bounds.per_minute), 60.0), (float(bounds.per_hour), 3600.0))
        )
        self._running: Counter[str] = Counter()

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """1 identify; 2 read; 3 decide; 4 open, row by row; 5 record, durably; 6 release. Or refuse."""
        access = self._gateway.access(request, request.method)
        access.action, access.path = Action.REVEAL, PATH
        try:
            return await self._recorder.answered(access, self._attempt(request, access))
        except Outdated:
            deny = Deny(reason=Reason.CHANGING, cause="policy-changing")
            return await self._recorder.refuse(access, deny)

    async def _attempt(self, request: web.BaseRequest, access: Access) -> web.Response:
        snapshot = self._gateway.snapshot
        access.policy = snapshot.version
        stated = request.headers.getall(PURPOSE_HEADER, ())
        purpose = access.stated(stated, snapshot.catalogue.purposes)
        subject = await self._gateway.askers.identify(snapshot, request, access)  # 1
        if isinstance(subject, Deny):
            return await self._recorder.refuse(access, subject)
        if request.method != hdrs.METH_POST:
            deny = Deny(reason=Reason.METHOD, cause="method", allow=(hdrs.METH_POST,))
            return await self._recorder.refuse(access, deny)
        name = subject.name
        if self._running.total() >= _AT_ONCE or self._running[name] >= _AT_ONCE_EACH:
            deny = Deny(reason=Reason.BUSY, cause="too-many-requests")
            return await self._recorder.refuse(access, deny)
        self._running[name] += 1
        try:
            asked = await self._read(request)  # 2
            if isinstance(asked, Deny):
                return await self._recorder.refuse(access, asked)
            context = context_of(subject, request, access, purpose=purpose or "")
            granted = self._decide(snapshot, access, asked, context, purpose)  # 3
            if isinstance(granted, Deny):
                return await self._recorder.refuse(access, granted)
            standing = Standing(
                permit=granted.permit,
                context=context,
                decided=snapshot,
                policy=lambda: self._gateway.snapshot,
                request=request,
                access=access,
                askers=self._gateway.askers,
            )
            if access.trace is not None:
                access.trace.enter("transform")
            return await self._answer(granted, access, standing)  # 4, 5, 6
        finally:
            self._running[name] -= 1
            if not self._running[name]:
                del self._running[name]

    async def _read(self, request: web.BaseRequest) -> _Request | Deny:
        """What is asked, strictly as its type says."""
        raw = await json_body(request, most=self._bounds.body_bytes, reason=Reason.BAD_REVEAL)
        if isinstance(raw, Deny):
            return raw
        try:
            asked = msgspec.json.decode(raw, type=_Request)
        except NOT_THE_TYPE:
            detail = (
                "It has the members `report`, `field` and `cells`, which is a list of objects with"
                " `cell` and `row`; it may have `form`, `key` and `given_for`."
            )
            return Deny(reason=Reason.BAD_REVEAL, cause="not-the-type", detail=detail)
        if len(asked.cells) > self._bounds.cells:
            detail = f"At most {self._bounds.cells} cells are revealed at once."
            return Deny(reason=Reason.BAD_REVEAL, cause="too-many-cells", detail=detail)
        return asked

    def _decide(
        self,
        snapshot: Snapshot,
        access: Access,
        asked: _Request,
        context: Context,
        purpose: str | None,
    ) -> _Granted | Deny:
        """In the order of a read: nothing of a report is told before a grant on it."""
        subject, report = access.subject, snapshot.catalogue.reports.get(asked.report)
        assert subject is not None
        if report is None:
            return Deny(reason=Reason.NOT_FOUND, cause="unknown-report")
        access.report = report
        decision = decide(snapshot.policy, subject=subject, report=report, context=context)
        if isinstance(decision, Deny) and decision.reason is not Reason.PURPOSE:
            return decision
        if purpose is None:
            return Deny(reason=Reason.PURPOSE_UNKNOWN, cause="unknown-purpose")
        if isinstance(decision, Deny):
            return decision
        columns = {column.field.name for column in decision.plan.columns if column.choices}
        if asked.field not in columns:
            return Deny(reason=Reason.NOT_FOUND, cause="no-such-field", lines=decision.lines)
        stand_in = _stand_in(snapshot, asked)
        if isinstance(stand_in, Deny):
            return stand_in
        try:
            cells = [Asked(cell=each.cell, row=_row(each.row)) for each in asked.cells]
        except ValueError:
            detail = "The members of `row` are texts, numbers, `true`, `false` or `null`."
            return Deny(reason=Reason.BAD_REVEAL, cause="not-a-row", detail=detail)
        wait = self._allowance.take(subject.name, len(cells), time.monotonic())
        if wait:
            return Deny(reason=Reason.REVEALED_OFTEN, cause="too-many-cells", after=wait)
        access.permit = decision
        return _Granted(
            permit=decision, context=context, field=asked.field, asked=cells, stand_in=stand_in
        )

    async def _answer(self, granted: _Granted, access: Access, standing: Standing) -> web.Response:
        meter = self._gateway.meter(access, granted.permit)
        over = await meter.check(granted.permit.plan)
        if over is not None:
            return await self._recorder.refuse(access, over)
        work = partial(
            unseal,
            granted.permit.plan,
            field=granted.field,
            asked=granted.asked,
            context=granted.context,
            subject=granted.permit.subject.name,
            keyring=access.keyring,
            stand_in=granted.stand_in,
        )
        found: Revealed = await asyncio.get_running_loop().run_in_executor(self._executor, work)
        await standing.hold()
        data = msgspec.json.encode(_Answer(cells=found.values))
        given = sum(each is not None for each in found.values)
        block = Block(
            data=data,
            evidence=found.evidence,
            rows=given,
            bytes=len(data),
            cells={granted.field: {"clear": given} if given else {}},
            last=True,
            digest=access.keyring.mac("audit-digest").hexdigest(data),
        )
        over = await meter.take(rows=block.rows, bytes_=block.bytes, cells=block.cells)
        if over is not None:
            return await self._recorder.refuse(access, over)
        access.unrevealed, access.keys = dict(found.causes), found.keys
        # PROMISE 2 (no record, no data)
        receipt = await self._recorder.record(
            access, "complete", block=block, evidence=block.evidence, ended="whole"
        )
        return release(receipt, block, _JSON)


def _stand_in(snapshot: Snapshot, asked: _Request) -> StandIn | Deny | None:
    """How cells without a seal are turned back; None where the field has none."""
    forms = snapshot.policy.tokens(asked.report, asked.field)
    if asked.form:
        forms = tuple(form for form in forms if str(form) == asked.form)
        if not forms:
            detail = "The field is not given in the `form` that is named."
            return Deny(reason=Reason.BAD_REVEAL, cause="no-such-form", detail=detail)
    if len(forms) > 1:
        detail = "The field is tokenised in more than one form: name one in `form`."
        return Deny(reason=Reason.BAD_REVEAL, cause="which-form", detail=detail)
    if not forms:
        return None
    if asked.given_for and asked.given_for not in snapshot.catalogue.purposes:
        return Deny(reason=Reason.PURPOSE_UNKNOWN, cause="unknown-purpose")
    form, key_id = forms[0], asked.key or None

    def turned_back(cell: str, site: Site) -> str:
        return detokenise(form, cell, replace(site, purpose=asked.given_for), key_id=key_id)

    return turned_back


def _row(members: Mapping[str, msgspec.Raw]) -> dict[str, str | None]:
    """The plain texts of a row's members, numbers to the character; raises ValueError."""
    return {name: _plain(bytes(member)) for name, member in members.items()}


def _plain(token: bytes) -> str | None:
    match token[:1]:
        case b'"':
            text: str = msgspec.json.decode(token, type=str)
            return text
        case b"n":
            return None
        case b"{" | b"[":
            raise ValueError("no value")
        case _:
            return token.decode("ascii")
