"""A denial -> an RFC 9457 problem document: the one place where a refusal is put into words."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.plan import Deny
from proxy.reasons import Reason

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:counterfoil:problem:"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457 §3.1 with one extension member, `event`: the id to quote to the operator."""

    type: str
    title: str
    status: int
    detail: str
    event: str


def body(deny: Deny, event: str) -> bytes:
    """The document; it holds nothing of the request."""
    row = deny.reason.value
    return msgspec.json.encode(
        Problem(
            type=TYPE_PREFIX + row.slug,
            title=row.title,
            status=row.status,
            detail=f"{deny.detail} {row.advice}".strip(),
            event=event,
        )
    )


def headers(deny: Deny) -> dict[str, str]:
    """The header fields that a refusal of this kind carries (RFC 9110, RFC 6750 §3)."""
    fields = {"Content-Type": MEDIA_TYPE, "Cache-Control": "private, no-store"}
    match deny.reason:
        case Reason.UNAUTHENTICATED:
            challenge = 'Bearer realm="counterfoil"'
            if deny.cause != "token-missing":
                challenge += ', error="invalid_token"'
            fields["WWW-Authenticate"] = challenge
        case Reason.METHOD:
            fields["Allow"] = ", ".join(deny.allow)
        case Reason.RANGE:
            fields["Content-Range"] = f"bytes */{deny.size}"
        case (
            Reason.BUSY
            | Reason.REVEALED_OFTEN
            | Reason.BUDGET_SPENT
            | Reason.BUDGETS_UNAVAILABLE
            | Reason.CHANGING
            | Reason.STOPPING
            | Reason.IDENTITY
            | Reason.STORE_NOT_ASKED
            | Reason.LOG_UNAVAILABLE
        ):
            fields["Retry-After"] = str(deny.after)
        case _:
            pass
    return fields
