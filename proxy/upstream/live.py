"""A store as it is known while the proxy runs: its place, its breaker, its credential, and how it has been.

It outlives policies: a reload that changes nothing of the store changes nothing of this.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Self

import aiohttp

from proxy.client_tls import context_of
from proxy.credentials import SYSTEM, Basic, Bearer, ClientCredentials, Credential
from proxy.report import Store
from proxy.upstream import tokens
from proxy.upstream.breaker import Breaker, Trial
from proxy.upstream.exchange import Prepared
from proxy.upstream.kept import Kept, Lasting
from proxy.upstream.room import Room
from proxy.upstream.secret import Secrets

_LOGGER: Final = logging.getLogger("counterfoil")
_PREPARED: Final = 100
"""Forms for which requests are kept prepared."""

Outcome = Literal["answered", "failed", "suspended", "crowded"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("answered", "failed", "suspended", "crowded")
"""How requests come out: `failed` says nothing of an error that the store itself answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How long a store is waited for, and how often it is asked; in seconds and numbers."""

    connect: float
    first_byte: float
    total: float
    connections: int
    retries: int = 2
    failures: int = 5
    suspend: float = 5
    workers: int = 1
    """Among how many processes a store's own `connections` are divided."""

    def of(self, store: Store) -> Self:
        """With what the catalogue says of a store.

        PROMISE 4 (bounded memory): of what it says of all workers together, this one has its share.
        """
        if not store.limits:
            return self
        values = {name: getattr(self, name) for name in self.__slots__} | dict(store.limits)
        if any(name == "connections" for name, _ in store.limits):
            values["connections"] = max(1, int(values["connections"]) // self.workers)
        return type(self)(**values)


class Live:
    """One store."""

    def __init__(
        self,
        store: Store,
        limits: Limits,
        secrets: Secrets,
        connector: Callable[[bool], aiohttp.BaseConnector],
    ) -> None:
        """`connector` makes one for a token endpoint, which may be on this machine or not."""
        self.store = store
        self.limits = limits
        self.timeout = aiohttp.ClientTimeout(
            total=limits.total,
            connect=limits.first_byte,
            sock_connect=limits.connect,
            sock_read=limits.first_byte,
        )
        self.room = Room(limits.connections)
        self.breaker = Breaker(failures=limits.failures, suspend=limits.suspend)
        self.credential = _kept(store, secrets, connector)
        self.retrying = 0
        self.retried = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.last_answer = self.last_failure = 0.0
        """When; 0 where there was none."""
        self._prepared: dict[str, tuple[str | None, Prepared]] = {}
        self._context: ssl.SSLContext | None = None

    def inherit(self, other: Live) -> None:
        """Go on counting where the store was known otherwise; what it is asked with is new."""
        self.retried = other.retried
        self.outcomes = other.outcomes
        self.last_answer, self.last_failure = other.last_answer, other.last_failure

    @property
    def idle(self) -> bool:
        """Whether no request to it is under way, or waits to be."""
        return not self.room.running and not self.room.waiting

    async def close(self) -> None:
        """Fetch no more credentials."""
        if self.credential is not None:
            await self.credential.close()

    # ── what is presented ──

    async def authorization(self) -> str | None:
        """What goes into `Authorization`; raises Unavailable."""
        if self.credential is None:
            return None
        return self.credential.ready() or await self.credential.get()

    async def prepared(self, media_type: str, coding: str, authorization: str | None) -> Prepared:
        """What requests for a form have in common; made anew with another authorization."""
        found = self._prepared.get(media_type)
        if found is not None and found[0] == authorization:
            return found[1]
        if len(self._prepared) >= _PREPARED:  # catalogues have come and gone
            self._prepared.clear()
        headers = {"Accept": media_type, "Accept-Encoding": coding}
        if authorization is not None:
            headers["Authorization"] = authorization
        if self._context is None and self.store.tls != SYSTEM:
            self._context = await asyncio.to_thread(context_of, self.store.tls)
        made = Prepared(self.store.url, headers, self._context)
        self._prepared[media_type] = (authorization, made)
        return made

    # ── how it went ──

    def answered(self, trial: Trial) -> None:
        """The head of an answer has come."""
        self.outcomes["answered"] += 1
        self.last_answer = time.time()
        if trial.answered():
            _LOGGER.info("store %s answers again, and is asked as before", self.store.name)

    def failed(self, trial: Trial) -> None:
        """There was no answer, or it broke off."""
        self.outcomes["failed"] += 1
        self.last_failure = time.time()
        now = time.monotonic()
        if trial.failed(now):
            _LOGGER.error(
                "store %s fails, and is not asked for %d s at a time until it answers: whoever asks"
                " for a report of it gets 503 meanwhile",
                self.store.name,
                round(self.breaker.refuses(now)),
            )


def _kept(
    store: Store, secrets: Secrets, connector: Callable[[bool], aiohttp.BaseConnector]
) -> Kept | None:
    credential: Credential | None = store.credential
    if credential is None:
        return None

    async def make() -> Lasting:
        match credential:
            case Bearer():
                token, seconds = await secrets.read(credential.token)
                return Lasting(_bearer(token), seconds)
            case Basic():
                password, seconds = await secrets.read(credential.password)
                return Lasting(_basic(credential.user, password), seconds)
            case ClientCredentials():
                secret, _ = await secrets.read(credential.secret)
                token, seconds = await tokens.fetch(
                    credential, secret, lambda: connector(credential.loopback)
                )
                return Lasting(_bearer(token), seconds)

    first = None
    match credential:
        case Bearer() if credential.token.value is not None:
            first = _bearer(credential.token.value)
        case Basic() if credential.password.value is not None:
            first = _basic(credential.user, credential.password.value)
        case _:
            pass
    return Kept(make, of=f"store {store.name}", first=first)


def _bearer(token: str) -> str:
    return f"Bearer {token}"


def _basic(user: str, password: str) -> str:
    """RFC 7617 §2."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
