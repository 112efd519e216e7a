"""Grants and lockdowns, asked of the running server: `counterfoil grant`, `revoke`, `lockdown`.

    POST   /-/grants          {"subject": "user:alice", "report": "sales/store-daily",
                               "role": "role:analyst", "seconds": 7200, "reason": "…"}
    DELETE /-/grants/ID
    POST   /-/lockdowns       {"reports": "sales/*", "reason": "…"}
    DELETE /-/lockdowns/ID

Each is an access like any other: identified, decided by the policy (actions `grant` and `lockdown`, on
every report that it is about), on record before anything is written, refused on record too. To somebody
who may not, what there is and what there is not look alike. The answer comes when the new policy is in
force: its id is that of its event, and stands in grants.csv or lockdown.csv.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web

from proxy import stated
from proxy.access import Receipt
from proxy.gateway import Gateway
from proxy.gateway.answers import EVENT_HEADER
from proxy.gateway.bodies import NOT_THE_TYPE, json_body
from proxy.gateway.record import Access
from proxy.gateway.standing import context_of
from proxy.plan import Context, Deny
from proxy.policy import granting
from proxy.policy.decide import refusal
from proxy.policy.granting import GRANTS_FILE, LOCKDOWN_FILE, NothingToGrant
from proxy.policy.index import Policy
from proxy.policy.lines import Action
from proxy.reasons import Reason
from proxy.reload import NotChanged, PolicyInForce
from proxy.snapshot import Snapshot
from proxy.subject import Subject

PREFIX: Final = "/-/"

_LOGGER: Final = logging.getLogger("counterfoil")
_MOST_BODY: Final = 16 << 10
_ONE: Final = re.compile(r"/-/(grants|lockdowns)/([0-9a-f]{32})\Z")
_GRANTEE: Final = re.compile(r"(?:user|tool):\S")

_FILES: Final = {"grants": GRANTS_FILE, "lockdowns": LOCKDOWN_FILE}
_ACTIONS: Final = {"grants": Action.GRANT, "lockdowns": Action.LOCKDOWN}

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
_Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=stated.MOST_REASON)]
_Seconds = Annotated[int, msgspec.Meta(ge=stated.SHORTEST, le=stated.LONGEST)]
_ALLOWED: Final = {
    "subject": "`subject` is a user or a tool: `user:…` or `tool:…`.",
    "report": "`report` is the id of a report.",
    "role": "`role` is a role: `role:…`.",
    "seconds": f"`seconds` is a whole number from {stated.SHORTEST} to {stated.LONGEST}.",
    "reports": "`reports` is an id, `prefix/*` or `set:…`.",
    "reason": f"`reason` is a text of 1 to {stated.MOST_REASON} characters.",
}
"""Member -> what it may be."""


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `counterfoil grant` asks for."""

    subject: _Name
    report: _Name
    role: _Name
    seconds: _Seconds
    reason: _Reason


class Lockdown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `counterfoil lockdown` asks for."""

    reports: _Name
    reason: _Reason


class Changed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is answered."""

    id: str
    policy: str
    """The version that is in force since."""
    until: str = ""
    warnings: tuple[str, ...] = ()
    """Why a grant may give less than its role does to others."""
    pending: int = 0
    """How many workers have not taken it yet; the others have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Change:
    """A change that may be made: of which file, how, and what is said of it."""

    kind: str
    edit: Callable[[Policy, str], str]
    """Raises NotChanged, NothingToGrant or _Denied."""
    parameters: dict[str, str]
    status: int
    id: str
    until: str = ""
    warnings: tuple[str, ...] = ()


class _Denied(Exception):
    """The policy that is to be changed does not allow it (any more)."""

    def __init__(self, deny: Deny) -> None:
        self.deny = deny
        super().__init__()


class Control:
    """Answers what is asked under `/-/`, but for the health checks."""

    def __init__(self, *, gateway: Gateway, policy: PolicyInForce) -> None:
        self._gateway = gateway
        self._recorder = gateway.recorder
        self._policy = policy

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Identify, decide, record, write, put in force, answer; or refuse, on record."""
        access = self._gateway.access(request, request.method)
        return await self._recorder.answered(access, self._attempt(request, access))

    async def _attempt(self, request: web.BaseRequest, access: Access) -> web.Response:
        try:
            decided = await self._decide(request, access)
            if isinstance(decided, Deny):
                return await self._recorder.refuse(access, decided)
            return await self._change(access, decided)
        except _Denied as exc:
            return await self._recorder.refuse(access, exc.deny)
        except NothingToGrant:
            detail = "The role gives nothing on this report."
            return await self._recorder.refuse(access, _not_changed("nothing-to-grant", detail))
        except NotChanged as exc:
            _LOGGER.error("access %s: %s", access.id, exc, extra={"access": access.id})
            return await self._recorder.refuse(access, _not_changed("not-changed", f"{exc}."))

    async def _change(self, access: Access, change: _Change) -> web.Response:
        async def record() -> Receipt:
            access.parameters = change.parameters
            return await self._recorder.record(access, "change")

        # Shielded: who goes away in the middle does not leave it half done.
        receipt, pending = await asyncio.shield(
            asyncio.ensure_future(self._policy.change(_FILES[change.kind], change.edit, record))
        )
        version = self._gateway.snapshot.version
        return web.Response(
            status=change.status,
            body=msgspec.json.encode(
                Changed(
                    id=change.id,
                    policy=version,
                    until=change.until,
                    warnings=change.warnings,
                    pending=pending,
                )
            ),
            headers={
                "Content-Type": "application/json",
                "Cache-Control": "private, no-store",
                "Server": "counterfoil",
                EVENT_HEADER: receipt.access,
            },
        )

    async def _decide(self, request: web.BaseRequest, access: Access) -> _Change | Deny:
        snapshot = self._gateway.snapshot
        access.policy = snapshot.version
        subject = await self._gateway.askers.identify(snapshot, request, access)
        if isinstance(subject, Deny):
            return subject
        path, one = request.raw_path, _ONE.match(request.raw_path)
        kind = one[1] if one else path.removeprefix(PREFIX)
        access.path = path if path.isascii() else ""
        if kind not in _FILES:
            return Deny(reason=Reason.NOT_FOUND, cause="unknown-report")
        method = hdrs.METH_DELETE if one else hdrs.METH_POST
        if request.method != method:
            return Deny(reason=Reason.METHOD, cause="method", allow=(method,))
        access.action = _ACTIONS[kind]
        context = context_of(subject, request, access)
        if one:
            return self._end(kind, one[2], subject, context, access)
        asked = await _body(request, Grant if kind == "grants" else Lockdown)
        match asked:
            case Deny():
                return asked
            case Grant():
                return self._grant(asked, subject, context, access)
            case _:
                return self._lockdown(asked, subject, context, access)

    def _grant(
        self, asked: Grant, subject: Subject, context: Context, access: Access
    ) -> _Change | Deny:
        policy = self._gateway.snapshot.policy
        deny = self._may(policy, asked.report, subject, context, access)
        if deny is not None:
            return deny
        if not _GRANTEE.match(asked.subject):
            detail = "A grant is for a user or a tool: `user:…` or `tool:…`."
            return Deny(reason=Reason.BAD_CHANGE, cause="not-a-grantee", detail=detail)
        if asked.subject in (subject.user, subject.tool):
            return _not_changed("own-grant", "Nobody grants anything to themself.")
        if granting.unwritable(asked.subject) or not asked.role.startswith("role:"):
            detail = "A name is written as a token has it, a role as `role:…`."
            return Deny(reason=Reason.BAD_CHANGE, cause="not-a-name", detail=detail)
        now = context.now
        until = now.replace(microsecond=0) + timedelta(seconds=asked.seconds)

        def edit(policy: Policy, text: str) -> str:
            self._still(policy, asked.report, subject, context, access)
            block = granting.grant(
                policy, id_=access.id, to=asked.subject, report=asked.report, role=asked.role,
                by=subject.name, reason=asked.reason, now=now, until=until,
            )  # fmt: skip
            return granting.with_block(text, block, now=now)

        stamp = granting.second(until)
        return _Change(
            kind="grants",
            edit=edit,
            parameters={
                "to": access.keyring.opaque(asked.subject),
                "role": stated.plain(asked.role),
                "until": stamp,
                "reason": stated.plain(asked.reason),
            },
            status=201,
            id=access.id,
            until=stamp,
            warnings=tuple(_lacking(self._gateway.snapshot, asked, now)),
        )

    def _lockdown(
        self, asked: Lockdown, subject: Subject, context: Context, access: Access
    ) -> _Change | Deny:
        deny = self._may(self._gateway.snapshot.policy, asked.reports, subject, context, access)
        if deny is not None:
            return deny

        def edit(policy: Policy, text: str) -> str:
            self._still(policy, asked.reports, subject, context, access)
            block = granting.lockdown(
                id_=access.id, pattern=asked.reports, by=subject.name, reason=asked.reason,
                now=context.now,
            )  # fmt: skip
            return granting.with_block(text, block, now=context.now)

        parameters = {"reason": stated.plain(asked.reason)}
        return _Change(kind="lockdowns", edit=edit, parameters=parameters, status=201, id=access.id)

    def _end(
        self, kind: str, id_: str, subject: Subject, context: Context, access: Access
    ) -> _Change | Deny:
        """The end of a grant or lockdown, for those who could have made it."""
        text = self._policy.text(_FILES[kind])
        block = next((block for block in granting.blocks(text) if block.id == id_), None)
        if block is None:
            return Deny(reason=Reason.NOT_FOUND, cause="unknown-change")
        policy = self._gateway.snapshot.policy
        deny = self._may(policy, block.report, subject, context, access)
        if deny is not None:
            return deny

        def edit(policy: Policy, text: str) -> str:
            self._still(policy, block.report, subject, context, access)
            return granting.without_block(text, id_, now=context.now)

        return _Change(kind=kind, edit=edit, parameters={"ends": id_}, status=200, id=id_)

    def _may(
        self, policy: Policy, pattern: str, subject: Subject, context: Context, access: Access
    ) -> Deny | None:
        """Why not, of the first report that the pattern covers and the policy refuses."""
        reports = policy.covered(pattern)
        if not reports:
            return Deny(reason=Reason.NOT_FOUND, cause="unknown-report")
        access.about = pattern
        if access.action == Action.GRANT and reports != (pattern,):
            return Deny(reason=Reason.NOT_FOUND, cause="not-one-report")
        context = msgspec.structs.replace(context, action=access.action)
        for report in map(policy.report, reports):
            deny = refusal(policy, subject=subject, report=report, context=context)
            if deny is not None:
                return deny
        return None

    def _still(
        self, policy: Policy, pattern: str, subject: Subject, context: Context, access: Access
    ) -> None:
        """Raise _Denied unless the very policy that is changed allows it."""
        deny = self._may(policy, pattern, subject, context, access)
        if deny is not None:
            raise _Denied(deny)


def _lacking(snapshot: Snapshot, asked: Grant, now: datetime) -> Iterator[str]:
    """What the role's lines ask of a requester that the grantee has not, or may not have."""
    realm = snapshot.identities.realm_of(asked.subject)
    known = snapshot.identities.subject_of(asked.subject, now=now.timestamp())
    if realm is None or known is None:
        yield "No issuer has a subject of that name."
        return
    read = granting.attributes(snapshot.policy, asked.report, asked.role)
    for name in sorted(read - known.attributes.keys()):
        if name not in realm.attributes:
            yield f"The role's lines read `sub.{name}`, which the subject's issuer does not give."
        elif realm.attributes[name][1].reads_claim:
            yield f"The role's lines read `sub.{name}`, which the subject's token must hold."
        else:
            yield f"The role's lines read `sub.{name}`, which people.csv does not give the subject."


async def _body(request: web.BaseRequest, type_: type[Grant | Lockdown]) -> Grant | Lockdown | Deny:
    """What is asked for, strictly as its type says."""
    raw = await json_body(request, most=_MOST_BODY, reason=Reason.BAD_CHANGE)
    if isinstance(raw, Deny):
        return raw
    with contextlib.suppress(*NOT_THE_TYPE):
        asked = msgspec.json.decode(raw, type=type_)
        if stated.plain(asked.reason):
            return asked
    return Deny(reason=Reason.BAD_CHANGE, cause="not-the-type", detail=_misfits(raw, type_))


def _misfits(raw: bytes, type_: type[Grant | Lockdown]) -> str:
    """What is wrong with a body, in words that hold nothing of it."""
    fields = {field.name: field.type for field in msgspec.structs.fields(type_)}
    try:
        members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except NOT_THE_TYPE:
        members = {}
    if members.keys() != fields.keys():
        return f"Its members are {', '.join(fields)}, and no others."
    return (
        " ".join(
            _ALLOWED[name] for name, member in members.items() if not _fits(member, fields[name])
        )
        or _ALLOWED["reason"]
    )


def _fits(member: msgspec.Raw, type_: object) -> bool:
    try:
        msgspec.json.decode(member, type=type_)
    except NOT_THE_TYPE:
        return False
    return True


def _not_changed(cause: str, detail: str) -> Deny:
    return Deny(reason=Reason.NOT_CHANGED, cause=cause, detail=detail)
