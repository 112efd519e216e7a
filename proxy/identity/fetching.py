"""One request to an identity provider: a plain, small 200 over https, or nothing.

Redirects are not followed, no proxy of the environment is used, no cookie is kept. Plain http is for
this machine alone, and no address that only machines of a cloud answer at is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from proxy import addresses
from proxy.identity.strict import Malformed

_SECONDS: Final = 5.0
_URL: Final = re.compile(
    r"https?://[A-Za-z0-9\-._\[\]:]+(?:/[A-Za-z0-9\-._~!$&'()*+,=:@/%]*)?(?:\?[^#\s]*)?\Z"
)
_MOST_URL: Final = 2048


def refused_url(url: str) -> str | None:
    """Why an identity provider may not be asked at `url`; None where it may."""
    malformed = "not a URL"
    if len(url) > _MOST_URL or _URL.match(url) is None:
        return malformed
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return malformed
    if not host:
        return malformed
    address = addresses.literal(host)
    if address is not None and addresses.refused(address, loopback=True):
        return "no identity provider is at such an address"
    if parts.scheme == "https":
        return None
    # Of other names for this machine (`x.localhost`) only a resolver knows what they mean.
    if host.lower() == "localhost" or (address is not None and address.is_loopback):
        return None
    return "identity providers are asked over https, or on this machine"


def is_local(url: str) -> bool:
    """Whether `url`, which is well formed, is on this machine."""
    return _is_local(urlsplit(url).hostname or "")


def _is_local(host: str) -> bool:
    address = addresses.literal(host)
    return address.is_loopback if address is not None else addresses.is_loopback_name(host)


async def fetch(
    url: str,
    *,
    most: int,
    form: Mapping[str, str] | None = None,
    authorization: str | None = None,
    heard: Callable[[Mapping[str, str]], None] | None = None,
) -> bytes:
    """The body of the answer to a GET, or with `form` a POST; raises where it is no plain, small 200.

    `heard` is told the header of whatever is answered.
    """
    headers = {
        "Accept": "application/json, application/jwk-set+json",
        "Accept-Encoding": "identity",
    }
    if authorization is not None:
        headers["Authorization"] = authorization
    async with (
        aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        ) as session,
        session.request(
            "GET" if form is None else "POST", url, data=form, allow_redirects=False
        ) as response,
    ):
        if heard is not None:
            heard(response.headers)
        if response.status != 200:
            raise Malformed(f"it answers {response.status}")
        if "Content-Encoding" in response.headers:
            raise Malformed("it answers in a coding that it was not asked for")
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > most:
                raise Malformed(f"it answers with more than {most} bytes")
        return bytes(body)


def why(exc: Exception) -> str:
    """Why nothing was had, for the server's log: never a part of an answer, nor of a URL's query."""
    match exc:
        case Malformed():
            return str(exc)
        case TimeoutError():
            return f"no answer within {_SECONDS:g} seconds"
        case aiohttp.ClientConnectorError() | aiohttp.ClientConnectorCertificateError():
            return str(exc)  # host, port and what the system or TLS says
        case _:
            return type(exc).__name__
