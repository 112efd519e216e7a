"""Why an access is refused, as one table: what the record says, and what the requester is told."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class ReasonRow(NamedTuple):
    """One row of the table of reasons: what the requester is told."""

    slug: str
    status: int
    title: str
    advice: str
    """What a legitimate user can do; it tells an attacker nothing."""


class Reason(Enum):
    """Why an access was refused; the documentation's table of problems is generated from this one."""

    MALFORMED = ReasonRow(
        "malformed-request",
        400,
        "The request is malformed",
        "Send a plain HTTP/1.1 request for a catalogued path.",
    )
    MISDIRECTED = ReasonRow(
        "misdirected-request",
        421,
        "This host's name is none of the proxy's",
        "Use the address that you were given. Operators list in `listen.names` what it is reached by.",
    )
    UNAUTHENTICATED = ReasonRow(
        "unauthenticated",
        401,
        "A valid token is needed",
        "Sign in again and send the access token as `Authorization: Bearer …`.",
    )
    IDENTITY = ReasonRow(
        "identity-unavailable",
        503,
        "Whether the token is good cannot be told now",
        "Try again in a moment, with the same token; if it persists, tell the operator.",
    )
    NOT_FOUND = ReasonRow(
        "not-found",
        404,
        "No such report for you",
        "Check the path; if it is right, ask the report's owner for access and quote the event id.",
    )
    METHOD = ReasonRow(
        "method-not-allowed",
        405,
        "That method is not for this path",
        "Use one that `Allow` names: GET or HEAD for a report.",
    )
    NOT_ACCEPTABLE = ReasonRow(
        "not-acceptable",
        406,
        "The report is not available in that form",
        "Ask for a form that is offered at this path, or leave out Accept and Accept-Encoding.",
    )
    PRECONDITION = ReasonRow(
        "precondition-failed",
        412,
        "The report is not what it was",
        "Ask for it without `If-Match`.",
    )
    RANGE = ReasonRow(
        "range-not-satisfiable",
        416,
        "The report has no such bytes",
        "Ask for a range within the size that `Content-Range` tells.",
    )
    PARAMETER = ReasonRow(
        "bad-parameter",
        400,
        "A parameter is unknown, missing or malformed",
        "Use the report's declared parameters, each once.",
    )
    PARAMETER_FORBIDDEN = ReasonRow(
        "parameter-forbidden",
        403,
        "A parameter looks at a field hidden from you",
        "Leave out what filters, sorts or groups by fields that you do not see in clear in all your rows.",
    )
    PURPOSE_UNKNOWN = ReasonRow(
        "unknown-purpose",
        400,
        "The purpose is not a catalogued one",
        "Send one of the catalogued purposes in `Counterfoil-Purpose`, or none.",
    )
    PURPOSE = ReasonRow(
        "purpose-required",
        403,
        "This report needs a stated purpose",
        "Send the purpose that you act for in `Counterfoil-Purpose`.",
    )
    BAD_CHANGE = ReasonRow(
        "bad-change",
        400,
        "The change of the policy is malformed",
        "Send it with `counterfoil grant`, `revoke` or `lockdown`.",
    )
    NOT_CHANGED = ReasonRow(
        "not-changed",
        409,
        "The policy was not changed",
        "See to the reason that is given, and ask again.",
    )
    BAD_REVEAL = ReasonRow(
        "bad-reveal",
        400,
        "What is to be revealed is not asked for as it must be",
        "Ask with `counterfoil reveal`.",
    )
    REVEALED_OFTEN = ReasonRow(
        "too-many-reveals",
        429,
        "Too many cells were asked for in a short time",
        "Wait as long as `Retry-After` says, and ask for fewer cells.",
    )
    BUDGET_SPENT = ReasonRow(
        "budget-spent",
        429,
        "You have been given as much as you may in this time",
        "Wait as long as `Retry-After` says, ask for less, or ask the report's owner for a larger limit.",
    )
    BUDGETS_UNAVAILABLE = ReasonRow(
        "budgets-unavailable",
        503,
        "It is not known how much you have been given",
        "Nothing that is limited is released uncounted. Try again later; the operator has been told.",
    )
    TOO_LARGE = ReasonRow(
        "request-too-large",
        431,
        "The request is too large",
        "Send a shorter target and fewer, smaller headers.",
    )
    BODY = ReasonRow(
        "body-not-allowed",
        413,
        "No such body is taken here",
        "Send GET without a body. What is asked under `/-/` is JSON of a stated length, and not too long.",
    )
    BUSY = ReasonRow(
        "too-many-requests",
        429,
        "Too many requests at once",
        "Try again later, with fewer at once.",
    )
    CHANGING = ReasonRow(
        "policy-changing",
        503,
        "The policy changes while it is asked",
        "Try again in a moment.",
    )
    STORE_UNAVAILABLE = ReasonRow(
        "store-unavailable",
        502,
        "The report store gives no answer",
        "Try again later; if it persists, tell the operator and quote the event id.",
    )
    STORE_REFUSED = ReasonRow(
        "store-answer-refused",
        502,
        "The report store's answer is not the declared report",
        "Tell the operator and quote the event id.",
    )
    TOO_LARGE_TO_SORT = ReasonRow(
        "too-large-to-sort",
        413,
        "The report has too many rows to sort them for you",
        "Ask for a smaller part of the report, by its parameters.",
    )
    TOO_LARGE_TO_COUNT = ReasonRow(
        "too-large-to-count",
        413,
        "The report is too large to count its rows for you",
        "Tell the operator and quote the event id: a limit must be raised, or the report divided.",
    )
    STORE_TIMEOUT = ReasonRow(
        "store-timeout",
        504,
        "The report store did not answer in time",
        "Try again later, or ask for a smaller part of the report.",
    )
    STORE_NOT_ASKED = ReasonRow(
        "store-not-asked",
        503,
        "The report store is not asked at the moment",
        "It has failed, or has too much to do. Try again after the time that `Retry-After` says.",
    )
    LOG_UNAVAILABLE = ReasonRow(
        "access-log-unavailable",
        503,
        "The access cannot be recorded",
        "Nothing is released without a record. Try again later; the operator has been told.",
    )
    STOPPING = ReasonRow(
        "stopping",
        503,
        "The proxy is stopped",
        "Try again in a moment: nothing of the report was released.",
    )
    INTERNAL = ReasonRow("internal-error", 500, "Something went wrong here",
        "Tell the operator and quote the event id.")  # fmt: skip

    @property
    def slug(self) -> str:
        """The stable name: last part of the problem's `type`, and `reason` in the event."""
        return self.value.slug

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value.status
