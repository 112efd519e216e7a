"""Tokens that are no JWTs: their issuer is asked what they mean (RFC 7662).

    POST /introspect           token=…&token_type_hint=access_token
    200 {"active": true, "sub": "alice", "client_id": "bi", "aud": "counterfoil", "exp": 1790000600}

What is answered counts for `most_seconds` and no longer than the token, as does that it is not active.
One question serves all who present the token meanwhile. How many are asked about at once is bounded, and
what is remembered too; tokens themselves are not.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from base64 import b64encode
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus

from proxy.identity.fetching import fetch, why
from proxy.identity.refused import Unavailable
from proxy.identity.sources import Fetches, RemoteKeys
from proxy.identity.strict import Malformed, parse_object

_LOGGER: Final = logging.getLogger("counterfoil")

_MOST_BYTES: Final = 64 << 10
_MOST_REMEMBERED: Final = 8192
_MOST_AT_ONCE: Final = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """As what the proxy asks, and where."""

    issuer: str
    id: str
    secret: str = field(repr=False)
    file: str | None
    """The file that the secret is in, from the folder of subjects.yaml."""
    url: str | None
    """None: where the issuer says."""
    most_seconds: int

    @property
    def authorization(self) -> str:
        """RFC 6749 §2.3.1: both are form-encoded before they are joined."""
        joined = f"{quote_plus(self.id)}:{quote_plus(self.secret)}"
        return f"Basic {b64encode(joined.encode()).decode()}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was said of a token."""

    claims: dict[str, Any] | None
    """None: it is not active."""
    until: float
    """When this counts no more."""
    since: float


class Introspector:
    """Asks one issuer; `now` is in seconds since the epoch, given by the caller."""

    def __init__(self, client: Client, source: RemoteKeys | None) -> None:
        """`source` knows what the issuer says of itself, where the client has no URL."""
        self.client = client
        self.fetches: Fetches = Counter()
        self.source = source
        self._remembered: OrderedDict[bytes, Answer] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[Answer | None]] = {}
        self._failing = False

    async def ask(self, token: str, now: float) -> Answer:
        """What the issuer says of `token`; raises Unavailable where it says nothing."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._remembered.get(digest)
        if known is not None and known.since <= now < known.until:
            self._remembered.move_to_end(digest)
            return known
        task = self._running.get(digest)
        if task is None:
            if len(self._running) >= _MOST_AT_ONCE:
                raise Unavailable("introspection-busy")
            task = asyncio.create_task(self._asked(token, digest, now))
            self._running[digest] = task
        # One question serves all who wait; none of them, gone, may end it for the others.
        answer = await asyncio.shield(task)
        if answer is None:
            raise Unavailable("introspection-unavailable")
        return answer

    async def close(self) -> None:
        """End questions that are under way."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _asked(self, token: str, digest: bytes, now: float) -> Answer | None:
        """None where there is no answer: what is not answered is not known."""
        try:
            url = await self._url(now)
            raw = await fetch(
                url,
                most=_MOST_BYTES,
                form={"token": token, "token_type_hint": "access_token"},
                authorization=self.client.authorization,
            )
            answer = self._read(raw, now)
        except Exception as exc:  # noqa: BLE001 - whatever is wrong there
            self.fetches["introspection", False] += 1
            if not self._failing:
                issuer = self.client.issuer
                _LOGGER.warning("%s does not say whether tokens are good: %s", issuer, why(exc))
            self._failing = True
            return None
        else:
            self.fetches["introspection", True] += 1
            self._failing = False
            self._remembered[digest] = answer
            if len(self._remembered) > _MOST_REMEMBERED:
                self._remembered.popitem(last=False)
            return answer
        finally:
            del self._running[digest]

    async def _url(self, now: float) -> str:
        if self.client.url is not None:
            return self.client.url
        assert self.source is not None
        metadata = await self.source.describe(now)
        if metadata is None or metadata.introspection is None:
            raise Malformed("the issuer names no place to ask")
        return metadata.introspection

    def _read(self, raw: bytes, now: float) -> Answer:
        claims = parse_object(raw)
        active = claims.get("active")
        if not isinstance(active, bool):
            raise Malformed("not an answer")
        return Answer(
            claims=claims if active else None,
            since=now,
            until=now + self.client.most_seconds,
        )
