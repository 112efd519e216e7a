"""Report -> bytes from its store, with the proxy's own credential and nothing of the client's.

No redirect is followed, nothing but a framed 200 of the declared media type passes, and a store's name may
not resolve to this machine (unless the catalogue says so), to a link-local or to a metadata address. A
content coding is asked for where the catalogue says so; whatever a store puts on is taken off, within
limits. A connection on which a store has spoken unasked is not used again: what it said would pass for the
answer to the next request.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from proxy import addresses, codings
from proxy.codings import Decoding
from proxy.errors import SourceRefused, StoreTimeout, StoreUnavailable
from proxy.report import Store

_READ_BUFFER: Final = 1 << 19
_INLINE: Final = 4 << 10
"""Coded bytes up to which the first steps are done at once: a trip to a thread costs more."""
_DECODED_AT_ONCE: Final = 1 << 18
"""Decoded bytes that are made in one trip to a thread, and held."""

_LENGTH: Final = re.compile(r"[0-9]{1,18}\Z")
_ASKED: Final = {False: codings.IDENTITY, True: f"{codings.ZSTD}, {codings.GZIP}"}
"""`Accept-Encoding`, by whether a store is to compress."""


def _refused_address(host: str, *, loopback: bool) -> bool:
    """Whether a store may not be at this address."""
    address = addresses.literal(host)
    return address is None or addresses.refused(address, loopback=loopback) is not None


class _GuardedResolver(AbstractResolver):
    """Resolves as the system does and refuses names that lead where no store is (THREATS E49)."""

    def __init__(self, *, loopback: bool) -> None:
        self._inner = aiohttp.ThreadedResolver()
        self._loopback = loopback

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`; raises OSError where any of them is refused."""
        found = await self._inner.resolve(host, port, family)
        if any(_refused_address(each["host"], loopback=self._loopback) for each in found):
            raise OSError(None, "the store's name resolves to a refused address")
        return found

    async def close(self) -> None:
        """Close the inner resolver."""
        await self._inner.close()


class _Connector(aiohttp.TCPConnector):
    """A pool that gives no connection on which something has come in since its last answer."""

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None


class Stores:
    """The client side: one connection pool for ordinary stores and one for those on this machine."""

    def __init__(
        self,
        *,
        connect: float,
        first_byte: float,
        total: float,
        most: int,
        coded: codings.Limits | None = None,
        executor: Executor | None = None,
    ) -> None:
        """`connect`, `first_byte` and `total` are deadlines in seconds, `most` connections a store.

        Where all of them are in use, a request waits for one no longer than for a first byte. Coded answers
        are decoded in `executor`, else in that of the loop.
        """
        self._coded = coded or codings.Limits()
        self._executor = executor
        self._timeout = aiohttp.ClientTimeout(
            total=total, connect=first_byte, sock_connect=connect, sock_read=first_byte
        )
        self._most = most
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        """Open the pools on the running loop."""
        for loopback in (False, True):
            connector = _Connector(
                limit=0,
                limit_per_host=self._most,
                resolver=_GuardedResolver(loopback=loopback),
                use_dns_cache=False,
            )
            self._sessions[loopback] = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=_READ_BUFFER,
                trust_env=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close them."""
        for session in self._sessions.values():
            await session.close()

    @asynccontextmanager
    async def fetch(
        self, store: Store, target: str, media_type: str, accepts: Callable[[str], bool]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """GET `target` (path and query, made from the catalogue) and give the body's pieces.

        Raises StoreUnavailable, StoreTimeout or SourceRefused; also while the pieces are read.
        """
        headers = {"Accept": media_type, "Accept-Encoding": _ASKED[store.compression]}
        if store.credential is not None:
            headers["Authorization"] = f"Bearer {store.credential}"
        url = URL(store.url + target, encoded=True)
        try:
            response = await self._sessions[store.loopback].get(
                url, headers=headers, allow_redirects=False
            )
        except TimeoutError as exc:
            raise StoreTimeout("store-timeout", "the store did not answer in time") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise StoreUnavailable("store-unreachable", "the store cannot be reached") from exc
        try:
            _check_head(response, accepts)
            decoding = Decoding.of(response.headers.getall("Content-Encoding", []), self._coded)
            pieces = _pieces(response)
            yield pieces if decoding is None else _decoded(pieces, decoding, self._executor)
        finally:
            response.close() if not response.content.at_eof() else response.release()


def _check_head(response: aiohttp.ClientResponse, accepts: Callable[[str], bool]) -> None:
    """Take nothing but a framed 200 of the declared media type."""
    if response.status != 200:
        raise StoreUnavailable(
            f"store-status-{response.status // 100}xx", f"the store answered {response.status}"
        )
    headers = response.headers
    if len(headers.getall("Content-Type", ())) != 1 or not accepts(headers["Content-Type"]):
        raise SourceRefused("wrong-media-type", "the answer is not of the declared media type")
    if "Content-Range" in headers:
        raise SourceRefused("partial-answer", "the answer is a part that was not asked for")
    codings, lengths = headers.getall("Transfer-Encoding", ()), headers.getall("Content-Length", ())
    chunked = len(codings) == 1 and codings[0].lower() == "chunked" and not lengths
    measured = len(lengths) == 1 and _LENGTH.match(lengths[0]) is not None and not codings
    if not (chunked or measured):
        # Without a frame a cut body looks like a whole one; of two, nobody knows which one counts.
        raise SourceRefused("unframed-answer", "the answer has neither length nor chunks")


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_any():
            yield piece
    except TimeoutError as exc:
        raise StoreTimeout("store-timeout", "the store stopped answering") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise StoreUnavailable("store-cut-off", "the store's answer broke off") from exc


async def _decoded(
    pieces: AsyncIterator[bytes], decoding: Decoding, executor: Executor | None
) -> AsyncIterator[bytes]:
    """The pieces without their content coding; what takes long is done in `executor`."""
    loop = asyncio.get_running_loop()
    async for piece in pieces:
        steps = decoding.feed(piece)
        if len(piece) <= _INLINE:
            made = list(islice(steps, 2))
            for step in made:
                yield step
            if len(made) < 2:
                continue
        while some := await loop.run_in_executor(executor, _some, steps):
            for step in some:
                yield step
    decoding.finish()


def _some(steps: Iterator[bytes]) -> list[bytes]:
    """As many steps as are decoded in one trip to a thread."""
    made, size = [], 0
    for step in steps:
        made.append(step)
        size += len(step)
        if size >= _DECODED_AT_ONCE:
            break
    return made
