"""What leaves: each of these needs the receipt of a record.

PROMISE 2 (no record, no data): nothing else makes an answer to an access, but for the 503 that says that
no record can be made (`recorder.Recorder.unrecorded`).
"""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web
from multidict import istr

from proxy import problems
from proxy.access import Receipt
from proxy.codings import IDENTITY
from proxy.gateway.view import Block
from proxy.plan import Deny, Reason

EVENT_HEADER: Final = istr("Counterfoil-Event")


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer says of itself before its first byte."""

    media_type: str
    negotiated: bool
    """Whether `Accept` could have chosen another form."""


def release(receipt: Receipt, block: Block, head: Head) -> web.Response:
    """An answer of one block, whose `complete` record is durable."""
    return web.Response(body=block.data, headers=_report_headers(receipt, block, head))


async def begin(
    receipt: Receipt, request: web.BaseRequest, first: Block, head: Head
) -> web.StreamResponse:
    """The head of a longer answer, whose `intent` is durable."""
    response = web.StreamResponse(headers=_report_headers(receipt, first, head))
    response.enable_chunked_encoding()
    await response.prepare(request)
    return response


def refuse(receipt: Receipt, deny: Deny) -> web.Response:
    """A refusal on record."""
    response = web.Response(
        status=problems.status(deny),
        body=problems.body(deny, receipt.access),
        headers={**_headers(receipt, problems.MEDIA_TYPE), **problems.headers(deny)},
    )
    if deny.reason in (Reason.MALFORMED, Reason.BODY, Reason.TOO_LARGE):
        response.force_close()
    return response


def abort(request: web.BaseRequest) -> None:
    """Break the connection, so that a cut answer can never be taken for a whole one."""
    if request.transport is not None:
        request.transport.abort()


def _report_headers(receipt: Receipt, first: Block, head: Head) -> dict[str, str]:
    """The header of a report that begins with a block."""
    headers = _headers(receipt, head.media_type)
    headers["Vary"] = "Accept, Accept-Encoding" if head.negotiated else "Accept-Encoding"
    if first.coding != IDENTITY:
        headers["Content-Encoding"] = first.coding
    return headers


def _headers(receipt: Receipt, media_type: str) -> dict[str, str]:
    return {
        "Content-Type": media_type,
        EVENT_HEADER: receipt.access,
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
        "Server": "counterfoil",
    }
