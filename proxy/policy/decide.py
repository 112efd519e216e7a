"""The decision: subject, report, context -> permit with a plan, or denial. Pure: it knows no clock.

The requester may do the action if some allow line applies and no deny line does; through a tool,
if the tool may also `act`; and if at least one field has a cell rule. Whatever goes wrong denies.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Final

from proxy.plan import Context, Decision, Deny, Permit, Reason
from proxy.policy.index import Policy, Slice
from proxy.policy.lines import Action
from proxy.report import Report
from proxy.subject import Subject

_LOG: Final = logging.getLogger(__name__)


def decide(policy: Policy, *, subject: Subject, report: Report, context: Context) -> Decision:
    """Whether `subject` may do `context.action` on `report` now, and what it then sees.

    An unknown and a forbidden report are the same refusal. Never raises.
    """
    try:
        part = policy.slice(subject, report.id, context.action)
        verdict = part.verdict(context)
        if not verdict.cause and part.plan is not None:
            valid_until = subject.expires
            for condition in part.timed:
                flip = condition.next_flip(context)
                if flip is not None:
                    valid_until = min(valid_until, flip.timestamp())
            return Permit(
                subject=subject,
                report=report,
                plan=part.plan,
                lines=verdict.lines,
                valid_until=valid_until,
            )
        if _permitted_for_some_purpose(policy, part, context):
            return Deny(reason=Reason.PURPOSE, cause="purpose-required", lines=verdict.lines)
        return Deny(reason=Reason.NOT_FOUND, cause=verdict.cause, lines=verdict.lines)
    except Exception as error:  # noqa: BLE001 - a decision that cannot be made is a denial
        _tell(error, policy, report)
        return Deny(reason=Reason.NOT_FOUND, cause="policy-error")


def holds_some_grant(policy: Policy, *, subject: Subject, report: Report, context: Context) -> bool:
    """Whether `subject` may read `report` now, or could for some catalogued purpose.

    Only such a requester is told what is wrong with its method, form or parameters. Never raises.
    """
    try:
        part = policy.slice(subject, report.id, Action.READ)
        reading = dataclasses.replace(context, action=str(Action.READ))
        return not part.verdict(reading).cause or _permitted_for_some_purpose(policy, part, reading)
    except Exception as error:  # noqa: BLE001 - as above
        _tell(error, policy, report)
        return False


def _permitted_for_some_purpose(policy: Policy, part: Slice, context: Context) -> bool:
    """Whether a catalogued purpose, all else equal, would turn a denial into a permit."""
    return "purpose" in part.reads and any(
        not part.verdict(dataclasses.replace(context, purpose=purpose)).cause
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
