"""What an event is about, what was done and how it came out, in the numbers and words of OCSF 1.8. Pure.

The schema has `Modified` among what a control does to an activity, and no disposition that fits masking (11
`Corrected` is of corrupt files): there `disposition_id` is 99, and `disposition` says `Modified`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from proxy.access import AccessEvent
from proxy.reasons import Reason

DATASTORE: Final = 6005
ENTITY: Final = 3004
LIFECYCLE: Final = 6002


class Activity(NamedTuple):
    """What an event is about: a class of the schema, and an activity of that class."""

    class_uid: int
    class_name: str
    id: int
    name: str

    @classmethod
    def datastore(cls, id_: int, name: str) -> Activity:
        """One of class 6005."""
        return cls(DATASTORE, "Datastore Activity", id_, name)


_CHANGE: Final = Activity(ENTITY, "Entity Management", 3, "Update")
_READ: Final = Activity.datastore(1, "Read")
_UNKNOWN: Final = Activity.datastore(0, "Unknown")
STEPS: Final = {
    "opened": Activity(LIFECYCLE, "Application Lifecycle", 3, "Start"),
    "alive": Activity(LIFECYCLE, "Application Lifecycle", 99, "Alive"),
    "policy-loaded": _CHANGE,
    "policy-refused": _CHANGE,
    "keys-loaded": _CHANGE,
    "keys-refused": _CHANGE,
    "change": _CHANGE,
    "prune": Activity(LIFECYCLE, "Application Lifecycle", 99, "Prune"),
    "hold": Activity(LIFECYCLE, "Application Lifecycle", 99, "Hold"),
    "operated": Activity(LIFECYCLE, "Application Lifecycle", 99, "Operated"),
    "drift": Activity.datastore(99, "Drift"),
    "burst": _UNKNOWN,
}
"""Steps that are no access to a report, or to none that is known; all others are told by their action."""
KEYRING: Final = frozenset({"keys-loaded", "keys-refused"})
"""Steps that are about the keyring, and not about the policy."""
ACTIONS: Final = {
    "read": _READ,
    "download": _READ,
    "reveal": Activity.datastore(10, "Decrypt"),
    "grant": _CHANGE,
    "lockdown": _CHANGE,
    "": _UNKNOWN,
}
"""Any other action is `Other`, by its own name."""


class Outcome(NamedTuple):
    """What the control did: `action_id` and `disposition_id` of the profile, with their captions."""

    action_id: int
    action: str
    disposition_id: int
    disposition: str


def _denied(id_: int, caption: str) -> Outcome:
    return Outcome(2, "Denied", id_, caption)


ALLOWED: Final = Outcome(1, "Allowed", 1, "Allowed")
MODIFIED: Final = Outcome(4, "Modified", 99, "Modified")
_BLOCKED: Final = _denied(2, "Blocked")
_REJECTED: Final = _denied(25, "Rejected")
_UNAUTHORIZED: Final = _denied(26, "Unauthorized")
_FAILED: Final = _denied(27, "Error")
REASONS: Final = {
    Reason.UNAUTHENTICATED: _BLOCKED,
    Reason.BUSY: _BLOCKED,
    Reason.REVEALED_OFTEN: _BLOCKED,
    Reason.BUDGET_SPENT: _BLOCKED,
    Reason.NOT_FOUND: _UNAUTHORIZED,
    Reason.PARAMETER_FORBIDDEN: _UNAUTHORIZED,
    Reason.PURPOSE: _UNAUTHORIZED,
    Reason.MALFORMED: _REJECTED,
    Reason.MISDIRECTED: _REJECTED,
    Reason.METHOD: _REJECTED,
    Reason.NOT_ACCEPTABLE: _REJECTED,
    Reason.PRECONDITION: _REJECTED,
    Reason.RANGE: _REJECTED,
    Reason.PARAMETER: _REJECTED,
    Reason.PURPOSE_UNKNOWN: _REJECTED,
    Reason.BAD_CHANGE: _REJECTED,
    Reason.BAD_REVEAL: _REJECTED,
    Reason.NOT_CHANGED: _REJECTED,
    Reason.TOO_LARGE: _REJECTED,
    Reason.BODY: _REJECTED,
    Reason.TOO_LARGE_TO_SORT: _REJECTED,
    Reason.TOO_LARGE_TO_COUNT: _REJECTED,
    Reason.IDENTITY: _FAILED,
    Reason.CHANGING: _FAILED,
    Reason.STOPPING: _FAILED,
    Reason.STORE_UNAVAILABLE: _FAILED,
    Reason.STORE_REFUSED: _FAILED,
    Reason.STORE_TIMEOUT: _FAILED,
    Reason.STORE_NOT_ASKED: _FAILED,
    Reason.LOG_UNAVAILABLE: _FAILED,
    Reason.BUDGETS_UNAVAILABLE: _FAILED,
    Reason.INTERNAL: _FAILED,
}
_REASONS: Final = {reason.slug: outcome for reason, outcome in REASONS.items()}
_REVOKED: Final = (24, "Access Revoked")
_ERROR: Final = (27, "Error")
_ENDS: Final = {
    "expired": _REVOKED,
    "policy-changed": _REVOKED,
    "store-failed": _ERROR,
    "log-failed": _ERROR,
    "internal-error": _ERROR,
    "stopped": _ERROR,
    "budget-spent": _REVOKED,
    "budget-failed": _ERROR,
}
"""Dispositions of what broke off. The action stays what was done with all that went out before."""
_OUTCOMES: Final = {
    "opened": Outcome(3, "Observed", 17, "Logged"),
    "alive": Outcome(3, "Observed", 17, "Logged"),
    "prune": Outcome(3, "Observed", 17, "Logged"),
    "hold": Outcome(3, "Observed", 17, "Logged"),
    "operated": Outcome(3, "Observed", 17, "Logged"),
    "drift": Outcome(3, "Observed", 15, "Detected"),
    "policy-refused": _REJECTED,
    "keys-refused": _REJECTED,
}

STATUSES: Final = ("Unknown", "Success", "Failure")
SEVERITIES: Final = ("Unknown", "Informational", "Low", "Medium")
_NOT_TAKEN: Final = frozenset({"policy-refused", "keys-refused"})
_LOW: Final = frozenset({"change", "prune", "hold", "operated"})
_MEDIUM: Final = frozenset({"burst", "drift", "unresolved"}) | _NOT_TAKEN


def activity(event: AccessEvent) -> Activity:
    """What `event` is about."""
    found = STEPS.get(event.step) or ACTIONS.get(event.action)
    return found or Activity.datastore(99, event.action)


def grades(event: AccessEvent) -> tuple[int, int]:
    """`status_id` and `severity_id`."""
    if event.step == "unresolved":
        status = 0
    elif event.decision == "deny" or event.step in _NOT_TAKEN:
        status = 2
    else:
        status = 1 if event.ended in ("", "whole") else 2
    if event.step in _MEDIUM or _REASONS.get(event.reason) is _FAILED:
        return status, 3
    return status, 2 if status == 2 or event.step in _LOW else 1


def outcome(event: AccessEvent) -> Outcome:
    """What was done: allowed, modified or denied, and with what disposition."""
    if event.decision == "deny":
        return _REASONS.get(event.reason, _BLOCKED)
    if fixed := _OUTCOMES.get(event.step):
        return fixed
    treated = any(form != "clear" for forms in event.fields.values() for form in forms)
    done = MODIFIED if treated else ALLOWED
    if ending := _ENDS.get(event.ended):
        return done._replace(disposition_id=ending[0], disposition=ending[1])
    return done
