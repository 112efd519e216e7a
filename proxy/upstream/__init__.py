"""Report -> bytes from its store, with the proxy's own credential and nothing of the client's.

No redirect is followed, nothing but a framed 200 of the declared media type passes, and a store's name may
not resolve to this machine (unless the catalogue says so), to a link-local or to a metadata address. A
content coding is asked for where the catalogue says so; whatever a store puts on is taken off, within
limits. A connection on which a store has spoken unasked is not used again: what it said would pass for the
answer to the next request.

Each store has its own place for so many requests, its own breaker and its own credential (`live`): one
that hangs takes nothing from the others.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from types import MappingProxyType
from typing import Final, Self

import aiohttp
from aiohttp import hdrs

from proxy import codings
from proxy.codings import Decoding
from proxy.errors import SourceRefused, StoreNotAsked, StoreTimeout, StoreUnavailable
from proxy.report import Store
from proxy.upstream import retrying
from proxy.upstream.breaker import Suspended
from proxy.upstream.exchange import Answer, Pool, get
from proxy.upstream.kept import Unavailable
from proxy.upstream.live import Limits, Live
from proxy.upstream.resolving import GuardedResolver, RefusedAddress
from proxy.upstream.room import Crowded
from proxy.upstream.secret import Command, Secrets
from proxy.upstream.source import Source

_READ_BUFFER: Final = 1 << 19
_CROWDED_SECONDS: Final = 5

_LENGTH: Final = re.compile(r"[0-9]{1,18}\Z")
_ASKED: Final = {False: codings.IDENTITY, True: f"{codings.ZSTD}, {codings.GZIP}"}
"""`Accept-Encoding`, by whether a store is to compress."""


class Stores:
    """The client side: one connection pool for ordinary stores and one for those on this machine."""

    def __init__(
        self,
        limits: Limits,
        *,
        coded: codings.Limits | None = None,
        executor: Executor | None = None,
        commands: Mapping[str, Command] = MappingProxyType({}),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`limits` are those of stores of which the catalogue says no others.

        Coded answers are decoded in `executor`, else in that of the loop. `commands` print secrets, and are
        given some of `environment`.
        """
        self._limits = limits
        self._coded = coded or codings.Limits()
        self._executor = executor
        self._secrets = Secrets(commands, environment)
        self._pools: dict[bool, Pool] = {}
        self._live: dict[str, Live] = {}
        self._replaced: list[Live] = []
        """Known otherwise now; requests that began before may be under way still."""
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Open the pools on the running loop."""
        for loopback in (False, True):
            self._pools[loopback] = Pool(
                limit=0,  # each store's own room bounds it
                resolver=GuardedResolver(loopback=loopback),
                use_dns_cache=False,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close them."""
        for live in (*self._live.values(), *self._replaced):
            await live.close()
        if self._closing:
            await asyncio.wait(self._closing)
        for pool in self._pools.values():
            await pool.close()

    def known(self, names: Iterable[str]) -> Iterator[Live]:
        """What is known of those stores of the catalogue that were asked for something."""
        return (self._live[name] for name in names if name in self._live)

    def let_go(self, but: Container[str]) -> None:
        """PROMISE 4 (bounded memory): forget, now and then, all others of which nothing is under way."""
        gone = [name for name, live in self._live.items() if name not in but and live.idle]
        for name in gone:
            self._close(self._live.pop(name))
        for live in self._replaced:
            if live.idle:
                self._close(live)
        self._replaced = [live for live in self._replaced if not live.idle]

    async def fetch(
        self,
        store: Store,
        target: str,
        media_type: str,
        accepts: Callable[[str], bool],
        parent: str = "",
    ) -> Source:
        """GET `target` (path and query, made from the catalogue); the answer is to be ended.

        `parent` is the `traceparent` that the store is asked with, where there is one.

        Raises StoreUnavailable, StoreTimeout, StoreNotAsked or SourceRefused; so does reading it.
        """
        live = self._of(store)
        await _enter(live)
        head_by = asyncio.get_running_loop().time() + live.limits.first_byte
        try:
            trial = live.breaker.begin(time.monotonic())
        except Suspended as exc:
            live.room.leave()
            live.outcomes["suspended"] += 1
            raise _suspended(exc.after) from None
        except BaseException:
            live.room.leave()
            raise
        told = False
        try:
            answer = await self._asked(live, target, media_type, head_by, parent)
            told = True
            try:
                if answer.status in retrying.AWAY:
                    live.failed(trial)
                else:
                    live.answered(trial)
                if answer.status not in (200, *retrying.AWAY):
                    trial.succeeded()  # to ask for what there is not is no fault of the store
                _check_head(answer, accepts)
                decoding = Decoding.of(
                    answer.headers.getall(hdrs.CONTENT_ENCODING, []), self._coded
                )
            except BaseException:
                answer.end()
                raise
        except BaseException as exc:
            live.room.leave()
            if isinstance(exc, TimeoutError | aiohttp.ClientError | OSError):
                live.failed(trial)
                raise _failure(exc) from exc
            if not told:
                trial.let_go()
            raise
        return Source(answer, decoding, self._executor, live, trial)

    async def _asked(
        self, live: Live, target: str, media_type: str, head_by: float, parent: str
    ) -> Answer:
        """The first answer that is none to be tried again; raises as `get` does, and StoreUnavailable."""
        loop = asyncio.get_running_loop()
        coding = _ASKED[live.store.compression]
        authorization = await _presented(live, head_by)
        renewed, attempt = False, 0
        while True:
            outcome: Answer | aiohttp.ClientError
            try:
                outcome = await get(
                    self._pools[live.store.loopback],
                    await live.prepared(media_type, coding, authorization),
                    target,
                    limits=live.timeout,
                    buffer=_READ_BUFFER,
                    head_by=head_by,
                    parent=parent,
                )
            except aiohttp.ClientError as exc:
                outcome = exc
            again = False
            if isinstance(outcome, Answer) and outcome.status == 401 and not renewed:
                renewed = True
                other = await _renewed(live, outcome, authorization, head_by)
                if other is not None:
                    authorization, again = other, True
            elif attempt < live.limits.retries and retrying.worth(outcome):
                pause = retrying.pause(attempt)
                attempt += 1
                if (
                    loop.time() + pause < head_by
                    and live.breaker.state == "closed"
                    and retrying.affordable(live.retrying, live.room.running)
                ):
                    if isinstance(outcome, Answer):
                        outcome.end()
                    live.retrying += 1
                    live.retried += 1
                    try:
                        await asyncio.sleep(pause)
                    finally:
                        live.retrying -= 1
                    again = True
            if again:
                continue
            if isinstance(outcome, Answer):
                return outcome
            raise outcome

    async def probe(self, store: Store) -> tuple[int, str | None]:
        """What the store answers at its root, without a credential: the status, and its `Date`.

        Nothing more of it is read. Raises StoreUnavailable or StoreTimeout, caused by what went wrong.
        """
        live = self._of(store)
        try:
            answer = await get(
                self._pools[store.loopback],
                await live.prepared("*/*", codings.IDENTITY, None),
                "/",
                limits=live.timeout,
                buffer=_READ_BUFFER,
                head_by=asyncio.get_running_loop().time() + live.limits.first_byte,
            )
        except TimeoutError as exc:
            raise StoreTimeout("store-timeout", "the store did not answer in time") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise StoreUnavailable("store-unreachable", "the store cannot be reached") from exc
        answer.end()
        return answer.status, answer.headers.get("Date")

    def _of(self, store: Store) -> Live:
        """What is known of a store; anew where the catalogue says something else of it now."""
        live = self._live.get(store.name)
        if live is not None and (live.store is store or live.store == store):
            live.store = store  # the very one, which is found at once the next time
            return live
        made = Live(store, self._limits.of(store), self._secrets, self._connector)
        if live is not None:
            made.inherit(live)
            self._replaced.append(live)  # requests may wait for its credential
        self._live[store.name] = made
        return made

    def _close(self, live: Live) -> None:
        task = asyncio.create_task(live.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _connector(self, loopback: bool) -> aiohttp.BaseConnector:  # noqa: FBT001 - as `pools` has it
        return aiohttp.TCPConnector(
            limit=1, resolver=GuardedResolver(loopback=loopback), use_dns_cache=False
        )


async def _enter(live: Live) -> None:
    """A place among the store's requests, unless it is left alone; raises StoreNotAsked, StoreTimeout."""
    after = live.breaker.refuses(time.monotonic())
    if after:
        live.outcomes["suspended"] += 1
        raise _suspended(after)
    try:
        await live.room.enter(live.limits.first_byte)
    except Crowded:
        live.outcomes["crowded"] += 1
        raise StoreNotAsked(
            "store-crowded", "as many requests wait for the store as may", after=_CROWDED_SECONDS
        ) from None
    except TimeoutError as exc:
        live.outcomes["crowded"] += 1
        raise StoreTimeout("store-timeout", "the store had no place in time") from exc


def _suspended(after: float) -> StoreNotAsked:
    return StoreNotAsked(
        "store-suspended", "the store has failed, and is left alone", after=max(1, math.ceil(after))
    )


async def _presented(live: Live, until: float) -> str | None:
    """What goes into `Authorization`; raises StoreUnavailable."""
    if live.credential is None:
        return None
    ready = live.credential.ready()
    if ready is not None:
        return ready
    try:
        async with asyncio.timeout_at(until):
            return await live.credential.get()
    except (Unavailable, TimeoutError) as exc:
        raise StoreUnavailable("store-credential", "the store's credential cannot be had") from exc


async def _renewed(live: Live, answer: Answer, refused: str | None, until: float) -> str | None:
    """Another authorization than the one that the store has refused; its answer is ended then."""
    if live.credential is None or refused is None:
        return None
    try:
        async with asyncio.timeout_at(until):
            other = await live.credential.instead_of(refused)
    except TimeoutError:
        return None
    except BaseException:
        answer.end()
        raise
    if other is not None:
        answer.end()
    return other


def _failure(exc: BaseException) -> StoreUnavailable:
    if isinstance(exc, TimeoutError):
        return StoreTimeout("store-timeout", "the store did not answer in time")
    if isinstance(exc, aiohttp.ClientConnectorError) and isinstance(exc.os_error, RefusedAddress):
        return StoreUnavailable("store-address", "the store's name leads where no store may be")
    return StoreUnavailable("store-unreachable", "the store cannot be reached")


def _check_head(answer: Answer, accepts: Callable[[str], bool]) -> None:
    """Take nothing but a framed 200 of the declared media type."""
    if answer.status != 200:
        raise StoreUnavailable(
            f"store-status-{answer.status // 100}xx", f"the store answered {answer.status}"
        )
    headers = answer.headers
    if len(headers.getall(hdrs.CONTENT_TYPE, ())) != 1 or not accepts(headers[hdrs.CONTENT_TYPE]):
        raise SourceRefused("wrong-media-type", "the answer is not of the declared media type")
    if hdrs.CONTENT_RANGE in headers:
        raise SourceRefused("partial-answer", "the answer is a part that was not asked for")
    codings, lengths = (
        headers.getall(hdrs.TRANSFER_ENCODING, ()),
        headers.getall(hdrs.CONTENT_LENGTH, ()),
    )
    chunked = len(codings) == 1 and codings[0].lower() == "chunked" and not lengths
    measured = len(lengths) == 1 and _LENGTH.match(lengths[0]) is not None and not codings
    if not (chunked or measured):
        # Without a frame a cut body looks like a whole one; of two, nobody knows which one counts.
        raise SourceRefused("unframed-answer", "the answer has neither length nor chunks")
