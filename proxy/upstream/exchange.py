"""One GET over aiohttp's pool of connections, its head as it was prepared.

A report of some records spends a fourth of its time in `ClientSession`, which makes anew for each request
what never changes for a store: URL, headers, cookies, redirects, timers. Here a request's head is made once
for a store and a form; the pool, the parser and the flow control are aiohttp's. As there, an idle connection
that the store has closed meanwhile is no failure: the request is sent once more, on a new connection, for
others that were idle as long may be closed as well.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader
from aiohttp.tracing import Trace
from multidict import CIMultiDictProxy
from yarl import URL

from proxy.upstream.bulk import take_over

_TARGET: Final = re.compile(r"/[\x21-\x7e]*\Z")
"""What a request line can hold; a target that the catalogue made is never anything else."""
_PLAIN: Final = re.compile(r"[\x20-\x7e]*\Z")
_ANEW: Final = ContextVar("anew", default=False)
"""Whether no idle connection will do."""


class Prepared:
    """All of a request to a store but its target."""

    def __init__(
        self, url: str, headers: Mapping[str, str], context: ssl.SSLContext | None = None
    ) -> None:
        """On the running loop. `url` is the store's, with the path that leads its targets.

        `context` is that of its TLS; None: certificates count by the system's authorities.
        """
        whole = URL(url, encoded=True)
        self.request = aiohttp.ClientRequest(
            hdrs.METH_GET,
            whole,
            headers=headers,
            skip_auto_headers=frozenset(
                {hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE}
            ),
            loop=asyncio.get_running_loop(),
            ssl=context or True,
        )
        """What the pool knows the store's connections by."""
        lines = [f"{name}: {value}" for name, value in self.request.headers.items()]
        if not all(map(_PLAIN.match, lines)):
            raise ValueError("a header of a store's requests is not plain ASCII")
        self._path = whole.raw_path_qs.rstrip("/")
        if self._path and not _TARGET.match(self._path):
            raise ValueError("the path of a store's URL is not visible ASCII")
        self._tail = " HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines)

    def head(self, target: str, parent: str = "") -> bytes:
        """The bytes that ask for `target`, in the trace whose `traceparent` is `parent`."""
        if not _TARGET.match(target):
            raise ValueError("a target is visible ASCII from its slash on")
        if not parent:
            return f"GET {self._path}{target}{self._tail}\r\n".encode("ascii")
        if not _PLAIN.match(parent):
            raise ValueError("a header of a store's requests is not plain ASCII")
        return f"GET {self._path}{target}{self._tail}traceparent: {parent}\r\n\r\n".encode("ascii")


class Deadline:
    """When an answer is given up. To move it to later costs nothing: its timer looks when it goes off."""

    __slots__ = ("_at", "_handle", "_loop", "_protocol")

    def __init__(self, protocol: ResponseHandler) -> None:
        """Of the answer that the protocol waits for; never, until it is moved."""
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._at: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def move(self, at: float | None) -> None:
        """In the loop's time, not before where it is now; None: never."""
        self._at = at
        if self._handle is None and at is not None:
            self._handle = self._loop.call_at(at, self._look)

    def cancel(self) -> None:
        """The answer is there, or given up already."""
        if self._handle is not None:
            self._handle.cancel()

    def _look(self) -> None:
        self._handle = None
        if self._at is None:
            return
        if self._loop.time() < self._at:
            self.move(self._at)
        else:
            self._protocol._on_read_timeout()  # noqa: SLF001 - as its own timer does


class Answer:
    """The head of an answer, and its body as it comes; `end` when no more of it is read."""

    __slots__ = ("_connection", "_deadline", "body", "headers", "status")

    def __init__(
        self,
        message: RawResponseMessage,
        body: StreamReader,
        connection: Connection,
        deadline: Deadline,
    ) -> None:
        self.status: int = message.code
        self.headers: CIMultiDictProxy[str] = message.headers
        self.body = body
        self._connection = connection
        self._deadline = deadline

    def hasten(self, length: int) -> None:
        """Have the body, which has that length, come in faster, if it is long."""
        if self._connection.protocol is not None:
            take_over(self._connection.protocol, self.body, length)

    def end(self) -> None:
        """Give the connection back to the pool where the body was read to its end, else close it."""
        self._deadline.cancel()
        if self.body.is_eof():
            self._connection.release()
        else:
            self._connection.close()


class Pool(aiohttp.TCPConnector):
    """Gives no connection on which something has come in since its last answer."""

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        if _ANEW.get():
            return None
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None


async def get(
    pool: Pool,
    prepared: Prepared,
    target: str,
    *,
    limits: aiohttp.ClientTimeout,
    buffer: int,
    head_by: float | None = None,
    parent: str = "",
) -> Answer:
    """Ask, and wait for the answer's head; at most `buffer` bytes of the body are held twice over.

    The head has to be there `head_by`, in the loop's time, however it comes.
    Raises TimeoutError, aiohttp.ClientError or OSError; so does reading the body, until `end`.
    """
    head = prepared.head(target, parent)
    ends = None if limits.total is None else asyncio.get_running_loop().time() + limits.total
    try:
        return await _ask(pool, prepared, head, limits, ends, head_by, buffer)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as failure:
        if isinstance(failure, aiohttp.ClientConnectorError):
            raise
        # An idle connection that was closed under way; to read twice does no harm.
        before = _ANEW.set(True)
        try:
            return await _ask(pool, prepared, head, limits, ends, head_by, buffer)
        finally:
            _ANEW.reset(before)


async def _ask(
    pool: Pool,
    prepared: Prepared,
    head: bytes,
    limits: aiohttp.ClientTimeout,
    ends: float | None,
    head_by: float | None,
    buffer: int,
) -> Answer:
    """`ends`: when all of it is over, in the loop's time; `head_by`: when its head has to be there."""
    connection = await pool.connect(prepared.request, [], limits)
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None:
        connection.close()
        raise aiohttp.ServerDisconnectedError
    deadline = Deadline(protocol)
    try:
        deadline.move(ends if head_by is None or (ends is not None and ends < head_by) else head_by)
        protocol.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=limits.sock_read,
            read_bufsize=buffer,
        )
        transport.write(head)
        while True:
            protocol.start_timeout()  # an interim answer ends the one before
            message, body = await protocol.read()
            if message.code >= 200 or message.code == 101:
                break
        deadline.move(ends)
        return Answer(message, body, connection, deadline)
    except BaseException as failure:
        deadline.cancel()
        connection.close()
        if isinstance(failure, HttpProcessingError):
            raise aiohttp.ClientPayloadError("the answer is no HTTP") from failure
        raise
