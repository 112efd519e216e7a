"""Whether a permit still stands while its answer goes out.

It ends with its token, with the next flip of a time condition, and with a policy that no longer gives the
same (DESIGN.md §4).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from aiohttp import hdrs, web

from proxy.access import Ended
from proxy.gateway.record import Access
from proxy.plan import Context, Deny, Permit
from proxy.policy.decide import decide
from proxy.snapshot import Snapshot
from proxy.subject import Subject


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


async def cut_short(
    permit: Permit,
    context: Context,
    request: web.BaseRequest,
    access: Access,
    *,
    decided: Snapshot,
    current: Snapshot,
    now: float,
) -> Ended | None:
    """Why an answer ends here; None where the same plan goes on.

    `permit` and `context` are of the snapshot `decided`; `now` is in seconds since the epoch. What is
    recorded of the access from here on names the policy that was asked.
    """
    if current is decided and now < permit.valid_until:
        return None
    flips = any({"now", "date"} & predicate.reads for predicate in permit.plan.predicates)
    if now >= permit.valid_until and flips:
        return "expired"
    changed: Ended = "expired" if current is decided else "policy-changed"
    access.policy, access.permit = current.version, None
    # Its issuer may be trusted no longer, its key withdrawn, its claims read in another way, its line of
    # people.csv another one, or at its end.
    subject = await current.identities.verify(request.headers.get(hdrs.AUTHORIZATION), now)
    if isinstance(subject, Deny):
        return "expired" if now >= permit.subject.expires else changed
    if (subject.user, subject.tool) != (permit.subject.user, permit.subject.tool):
        return changed
    report = current.catalogue.reports.get(permit.report.id)
    if report != permit.report:
        return changed
    again = decide(
        current.policy,
        subject=subject,
        report=report,
        context=_at(context, datetime.fromtimestamp(now, UTC), subject),
    )
    if not isinstance(again, Permit) or not _gives_as(again, permit):
        return changed
    access.subject, access.permit = subject, again
    return None


def _at(context: Context, now: datetime, subject: Subject) -> Context:
    """The same request's context at another instant, with what is then known of the subject."""
    return replace(context, attributes=subject.attributes, now=now, date=now.date())


def _gives_as(again: Permit, permit: Permit) -> bool:
    """Whether both give the same rows and cells: by plans, and by the attributes that these read."""
    before, now = permit.subject.attributes, again.subject.attributes
    return again.plan.gives_as(permit.plan) and all(
        before.get(name) == now.get(name) for name in permit.plan.attributes
    )
