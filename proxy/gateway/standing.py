"""Whether a permit still stands while its answer goes out.

It ends with its token (of which its issuer is asked again, where it has to be), with the next flip of a time
condition, and with a policy that no longer gives the same (DESIGN.md §4).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from proxy.access import Ended
from proxy.gateway.askers import Askers
from proxy.gateway.record import Access
from proxy.plan import Context, Deny, Permit
from proxy.policy.decide import decide
from proxy.snapshot import Snapshot
from proxy.subject import Subject


def context_of(
    subject: Subject, request: web.BaseRequest, access: Access, *, purpose: str = ""
) -> Context:
    """What conditions may look at, as of the access's own instant; `purpose` is a catalogued one."""
    now = datetime.fromtimestamp(access.now, UTC)
    return Context(
        attributes=subject.attributes,
        now=now,
        date=now.date(),
        ip=access.address,
        purpose=purpose,
        tool=(subject.tool or "").removeprefix("tool:"),
        action=access.action,
        method=request.method,
    )


class Outdated(Exception):
    """A permit ended before anything was released."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A permit, and all that it takes to say whether it still stands."""

    permit: Permit
    context: Context
    decided: Snapshot
    """By which both were found."""
    policy: Callable[[], Snapshot]
    """Gives the snapshot in force."""
    request: web.BaseRequest
    access: Access
    askers: Askers
    """Say whether certificate and token are still good."""

    async def hold(self) -> None:
        """See to it that it stands before anything is released; raises Outdated."""
        if await self.ended() is not None:
            raise Outdated

    async def ended(self) -> Ended | None:
        """Why an answer ends here; None where the same plan goes on.

        What is recorded of the access from here on names the policy that was asked.
        """
        now, current = time.time(), self.policy()
        decided, permit, access = self.decided, self.permit, self.access
        withdrawn = self.askers.vouched(access.certificate, now) != ""
        until = min(permit.valid_until, permit.subject.vouched)
        if current is decided and now < until and not withdrawn:
            return None
        if withdrawn:
            return "expired"
        flips = any({"now", "date"} & predicate.reads for predicate in permit.plan.predicates)
        if now >= permit.valid_until and flips:
            return "expired"
        changed: Ended = "expired" if current is decided else "policy-changed"
        access.policy, access.permit = current.version, None
        # Its issuer may be trusted no longer, its key withdrawn, its claims read in another way, its
        # line of people.csv another one, or at its end.
        subject = await self.askers.verified(current, self.request, access, now)
        if isinstance(subject, Deny):
            return "expired" if now >= permit.subject.expires else changed
        if (subject.user, subject.tool) != (permit.subject.user, permit.subject.tool):
            return changed
        report = current.catalogue.reports.get(permit.report.id)
        if report != permit.report:
            return changed
        context = _at(self.context, datetime.fromtimestamp(now, UTC), subject)
        again = decide(current.policy, subject=subject, report=report, context=context)
        if not isinstance(again, Permit) or not _gives_as(again, permit):
            return changed
        access.subject, access.permit = subject, again
        return None


def _at(context: Context, now: datetime, subject: Subject) -> Context:
    """The same request's context at another instant, with what is then known of the subject."""
    return msgspec.structs.replace(context, attributes=subject.attributes, now=now, date=now.date())


def _gives_as(again: Permit, permit: Permit) -> bool:
    """Whether both give the same rows and cells: by plans, and by the attributes that these read."""
    before, now = permit.subject.attributes, again.subject.attributes
    return again.plan.gives_as(permit.plan) and all(
        before.get(name) == now.get(name) for name in permit.plan.attributes
    )
