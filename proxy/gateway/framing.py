"""What aiohttp's parser lets through and RFC 9112 does not, or what two parsers could read in two ways."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from proxy.catalogue import MalformedTarget, parse_target
from proxy.gateway.control import PREFIX
from proxy.gateway.health import LIVE, READY
from proxy.hosts import host_of
from proxy.plan import Deny
from proxy.reasons import Reason


def is_check(request: web.BaseRequest) -> bool:
    """Whether it is a health check and nothing else, in HTTP/1.0 too; what is more is a request like any."""
    if request.raw_path not in (LIVE, READY):
        return False
    host = request.headers.get(hdrs.HOST)
    named = request.version == HttpVersion10 if host is None else host_of(host) is not None
    return (
        named
        and request.version in (HttpVersion10, HttpVersion11)
        and request.method in (hdrs.METH_GET, hdrs.METH_HEAD)
        and not request.body_exists
        and hdrs.TRANSFER_ENCODING not in request.headers
    )


def fault(request: web.BaseRequest, serves: Callable[[str], bool]) -> Deny | None:
    """Why a request is not as it must be; None where all is well.

    `serves`: whether it may be of a host. HTTP/1.0 is refused for its answers have no chunks: one
    that is cut looks like a whole one.
    """
    if request.version != HttpVersion11:
        return Deny(reason=Reason.MALFORMED, cause="http-version")
    host = host_of(request.headers.get(hdrs.HOST, ""))
    if host is None:
        return Deny(reason=Reason.MALFORMED, cause="host")
    if not serves(host):
        return Deny(reason=Reason.MISDIRECTED, cause="foreign-host")
    if hdrs.TRANSFER_ENCODING in request.headers:
        return Deny(reason=Reason.BODY, cause="body-on-a-read")
    if request.raw_path.startswith(PREFIX):  # the gateway itself parses what is a report's
        try:
            parse_target(request.raw_path)
        except MalformedTarget as exc:
            return Deny(reason=Reason.MALFORMED, cause=exc.cause)
    return None
