"""The body of a request under `/-/`: JSON, of a known and bounded length, in time."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from aiohttp import web

from proxy.plan import Deny
from proxy.reasons import Reason

_SECONDS: Final = 10.0
NOT_THE_TYPE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `msgspec` raises of a body that is not of its type; the last one where it is nested too deep."""


async def json_body(request: web.BaseRequest, *, most: int, reason: Reason) -> bytes | Deny:
    """The bytes of a body that says it is JSON, at most `most`; where it is none, `reason` is why not."""
    if request.content_type != "application/json" or request.content_length is None:
        return Deny(reason=reason, cause="not-json", detail="Send JSON, with its length.")
    if request.content_length > most:
        return Deny(reason=Reason.BODY, cause="body-too-large")
    try:
        return await asyncio.wait_for(request.content.readexactly(request.content_length), _SECONDS)
    except (asyncio.IncompleteReadError, TimeoutError, OSError):  # or the client has gone
        return Deny(reason=Reason.MALFORMED, cause="body-cut-off")
