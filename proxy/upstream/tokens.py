"""Tokens in the proxy's own name: the client credentials grant (RFC 6749 §4.4).

The endpoint is one that the catalogue names, over https or on this machine; no redirect is followed, and
neither its answer nor what was sent is ever in a message.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote_plus, urlencode

import aiohttp
import msgspec

from proxy.client_tls import context_of
from proxy.credentials import SYSTEM, ClientCredentials
from proxy.upstream.kept import Lasting, Unavailable

_SECONDS: Final = 10.0
_MOST: Final = 64 << 10
_LONGEST: Final = 24 * 3600.0
_UNTOLD: Final = 300.0
"""How long a token is kept of which nobody said how long it lasts."""
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}\Z")
_ERROR: Final = re.compile(r"[a-z_]{1,64}\Z")
_NO_ANSWER: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `msgspec` raises of what is none; the last one where it is nested too deep."""


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 6749 §5.1.

    {"access_token": "2YotnFZFEjr1zCsicMWpAA", "token_type": "Bearer", "expires_in": 3600}
    """

    access_token: str
    token_type: str
    expires_in: int | float | str | None = None
    """Some endpoints write it as a text."""


class _Error(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 6749 §5.2."""

    error: str


async def fetch(
    asked: ClientCredentials, secret: str, connector: Callable[[], aiohttp.BaseConnector]
) -> Lasting:
    """A new token; raises Unavailable."""
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    form = {"grant_type": "client_credentials"}
    form |= {
        name: value for name in ("scope", "audience", "resource") if (value := getattr(asked, name))
    }
    if asked.form:
        form |= {"client_id": asked.client, "client_secret": secret}
    else:
        both = f"{quote_plus(asked.client)}:{quote_plus(secret)}"  # §2.3.1
        headers["Authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
    try:
        status, body = await _post(asked, urlencode(form).encode(), headers, connector)
    except TimeoutError as exc:
        raise Unavailable(f"the token endpoint does not answer within {_SECONDS:g} s") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise Unavailable(f"the token endpoint cannot be reached ({type(exc).__name__})") from exc
    if status != 200:
        raise Unavailable(f"the token endpoint answers {status}{_error(body)}")
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except _NO_ANSWER as exc:
        raise Unavailable("the token endpoint's answer has no token") from exc
    if answer.token_type.lower() != "bearer" or not _TOKEN.match(answer.access_token):
        raise Unavailable("the token endpoint's answer has no bearer token")
    try:
        seconds = _seconds(answer.expires_in)
    except (ValueError, OverflowError):
        seconds = 0.0
    if not seconds > 0:
        raise Unavailable("the token endpoint gives a token that has ended")
    return Lasting(answer.access_token, min(seconds, _LONGEST))


async def _post(
    asked: ClientCredentials,
    form: bytes,
    headers: dict[str, str],
    connector: Callable[[], aiohttp.BaseConnector],
) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession(
            connector=connector(),
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        ) as session,
        session.post(
            asked.token_url,
            data=form,
            headers={**headers, "Content-Type": "application/x-www-form-urlencoded"},
            allow_redirects=False,
            ssl=True if asked.tls == SYSTEM else await asyncio.to_thread(context_of, asked.tls),
        ) as response,
    ):
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > _MOST:
                raise Unavailable(f"the token endpoint answers with more than {_MOST} bytes")
        return response.status, bytes(body)


def _seconds(told: float | str | None) -> float:
    """How long it lasts; raises ValueError and OverflowError where that is no number of seconds."""
    if told is None:
        return _UNTOLD
    return float(told if isinstance(told, str) else min(told, _LONGEST))


def _error(body: bytes) -> str:
    """The code of its error, which is a word of RFC 6749 or of its extensions."""
    try:
        code = msgspec.json.decode(body, type=_Error).error
    except _NO_ANSWER:
        return ""
    return f" ({code})" if _ERROR.match(code) else ""
