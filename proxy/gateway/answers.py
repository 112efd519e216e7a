"""What leaves: each of these needs the receipt of a record.

PROMISE 2 (no record, no data): nothing else makes an answer to an access, but for the 503 that says that
no record can be made (`recorder.Recorder.unrecorded`).
"""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from multidict import istr

from proxy import problems
from proxy.access import Receipt
from proxy.codings import IDENTITY
from proxy.gateway.view import Block
from proxy.plan import Deny
from proxy.reasons import Reason

EVENT_HEADER: Final = istr("Counterfoil-Event")
_SNIFFING: Final = istr("X-Content-Type-Options")


class Head(msgspec.Struct, frozen=True):
    """What an answer says of itself."""

    media_type: str
    vary: str = ""
    """The request's fields that chose it among others."""
    coding: str = IDENTITY
    """Its content coding."""
    status: int = 200
    etag: str = ""
    """Of the whole answer (RFC 9110 §8.8.3), where it is known."""
    ranges: bool = False
    """Whether parts of it can be asked for."""
    span: str = ""
    """Which part it is: `0-99/4096`."""
    length: int | None = None
    """In bytes, where it is known before the answer is."""


class _AtOnce(web.Response):
    """An answer of one block: what aiohttp sends of such a one, with fewer steps on the way.

    What is not as plain is left to it: a connection that ends with this answer, or content that is not sent.
    """

    _whole: AbstractStreamWriter | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Make the head."""
        keep = request.keep_alive if self.keep_alive is None else self.keep_alive
        body = self.body if request.method == hdrs.METH_GET else None
        if not keep or not isinstance(body, bytes) or not body or self.prepared:
            return await super().prepare(request)
        self._keep_alive = True
        writer = self._whole = self._payload_writer = request.writer
        headers = self.headers
        headers[hdrs.CONTENT_LENGTH] = str(len(body))
        headers[hdrs.DATE] = rfc822_formatted_time()
        await writer.write_headers(f"HTTP/1.1 {self.status} {self.reason}", headers)
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Send head and content together."""
        writer = self._whole
        if writer is None:
            await super().write_eof(data)
            return
        assert isinstance(self.body, bytes)
        self._whole = self._payload_writer = None
        self._eof_sent = True
        await writer.write_eof(self.body)


def release(receipt: Receipt, block: Block, head: Head) -> web.Response:
    """An answer of one block, whose `complete` record is durable."""
    return _AtOnce(status=head.status, body=block.data, headers=_headers(receipt, head))


def bare(receipt: Receipt, head: Head) -> web.StreamResponse:
    """An answer without content, to HEAD or because the requester has it, whose record is durable."""
    response = web.StreamResponse(status=head.status, headers=_headers(receipt, head))
    if head.length is not None:
        response.content_length = head.length
    return response


async def begin(receipt: Receipt, request: web.BaseRequest, head: Head) -> web.StreamResponse:
    """The head of a longer answer, whose `intent` is durable."""
    response = bare(receipt, head)
    if head.length is None:
        response.enable_chunked_encoding()
    await response.prepare(request)
    return response


def refuse(receipt: Receipt, deny: Deny) -> web.Response:
    """A refusal on record."""
    headers = {**_headers(receipt, _PROBLEM), **problems.headers(deny)}
    response = web.Response(
        status=deny.reason.status, body=problems.body(deny, receipt.access), headers=headers
    )
    if deny.reason in (Reason.MALFORMED, Reason.MISDIRECTED, Reason.BODY, Reason.TOO_LARGE):
        response.force_close()
    return response


def abort(request: web.BaseRequest) -> None:
    """Break the connection, so that a cut answer can never be taken for a whole one."""
    if request.transport is not None:
        request.transport.abort()


def _headers(receipt: Receipt, head: Head) -> dict[str, str]:
    headers: dict[str, str] = {
        hdrs.CONTENT_TYPE: head.media_type,
        EVENT_HEADER: receipt.access,
        hdrs.CACHE_CONTROL: "private, no-store",
        _SNIFFING: "nosniff",
        hdrs.SERVER: "counterfoil",
    }
    if head.vary:
        headers[hdrs.VARY] = head.vary
    if head.coding != IDENTITY:
        headers[hdrs.CONTENT_ENCODING] = head.coding
    if head.etag:
        headers[hdrs.ETAG] = head.etag
    if head.ranges:
        headers[hdrs.ACCEPT_RANGES] = "bytes"
    if head.span:
        headers[hdrs.CONTENT_RANGE] = f"bytes {head.span}"
    return headers


_PROBLEM: Final = Head(problems.MEDIA_TYPE)
