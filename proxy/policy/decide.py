"""The decision: subject, report, context -> permit with a plan, or denial. Pure: it knows no clock.

The requester may do the action if its token is for the report, some allow line applies and no deny line
does; through a tool, if the tool may also `act`; and if at least one field has a cell rule. Whatever goes
wrong denies.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from proxy.plan import Context, Decision, Deny, Permit
from proxy.policy.index import Policy, Slice
from proxy.reasons import Reason
from proxy.report import Report
from proxy.subject import Subject

_LOG: Final = logging.getLogger(__name__)
OTHER_AUDIENCE: Final = "other-audience"
"""The cause on record where a token is for other reports: audiences themselves are not on record."""
_ELSEWHERE: Final = Deny(reason=Reason.NOT_FOUND, cause=OTHER_AUDIENCE)
"""The requester's token is for other reports: it is told no more than of a report that is not there."""


def decide(policy: Policy, *, subject: Subject, report: Report, context: Context) -> Decision:
    """Whether `subject` may do `context.action` on `report` now, and what it then sees.

    A denial is `Reason.PURPOSE` where a catalogued purpose would make it a permit, else it is that
    of an unknown report. So a requester who is denied otherwise holds no grant on the report, and
    may not be told anything about the rest of its request. Never raises.
    """
    if not report.opened_by(subject.audiences):
        return _ELSEWHERE
    try:
        part = policy.slice(subject, report.id, context.action)
        verdict, plan = part.verdict(context), part.plan_at(context)
        if not verdict.cause and plan is not None:
            valid_until = subject.expires
            for condition in part.timed:
                flip = condition.next_flip(context)
                if flip is not None:
                    valid_until = min(valid_until, flip.timestamp())
            return Permit(
                subject=subject,
                report=report,
                plan=plan,
                lines=verdict.lines,
                valid_until=valid_until,
            )
        if _permitted_for_some_purpose(policy, part, context):
            return Deny(reason=Reason.PURPOSE, cause="purpose-required", lines=verdict.lines)
        return Deny(reason=Reason.NOT_FOUND, cause=verdict.cause, lines=verdict.lines)
    except Exception as error:  # noqa: BLE001 - a decision that cannot be made is a denial
        _tell(error, policy, report)
        return Deny(reason=Reason.NOT_FOUND, cause="policy-error")


def refusal(policy: Policy, *, subject: Subject, report: Report, context: Context) -> Deny | None:
    """Why `subject` may not do an action that gives no cells; None where it may. Never raises."""
    if not report.opened_by(subject.audiences):
        return _ELSEWHERE
    try:
        verdict = policy.slice(subject, report.id, context.action).verdict(context)
    except Exception as error:  # noqa: BLE001 - as in `decide`
        _tell(error, policy, report)
        return Deny(reason=Reason.NOT_FOUND, cause="policy-error")
    if not verdict.cause:
        return None
    return Deny(reason=Reason.NOT_FOUND, cause=verdict.cause, lines=verdict.lines)


def _permitted_for_some_purpose(policy: Policy, part: Slice, context: Context) -> bool:
    """Whether a catalogued purpose, all else equal, would turn a denial into a permit."""
    return "purpose" in part.reads and any(
        not part.verdict(msgspec.structs.replace(context, purpose=purpose)).cause
        for purpose in policy.purposes
    )


def _tell(error: Exception, policy: Policy, report: Report) -> None:
    """Say that the policy failed, and where; an exception's own text could hold a value."""
    trace, place = error.__traceback__, "?"
    while trace is not None:
        place = f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
        trace = trace.tb_next
    _LOG.critical(
        "the policy could not decide and denied: %s at %s, report %s, policy %s",
        type(error).__name__,
        place,
        report.id,
        policy.version,
    )
