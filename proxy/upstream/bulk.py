"""The rest of a long body, past aiohttp's parser: received where it stays, and not moved again.

On its way from the socket to its reader each byte is moved twice, in the thread of the event loop. Of a
body whose length is known nothing is left to parse once its head is: its bytes are counted. How much of it is
held, how long it is waited for and what its reader is told stays aiohttp's business.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

import numpy as np
from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import StreamReader

LEAST: Final = 8 << 20
"""Bytes that are still to come where it pays: the connection is not used again."""
_CHUNK: Final = 1 << 20
_ROOM: Final = 1 << 18
"""Bytes that a socket is asked for at least, where so many are to come."""


def take_over(protocol: ResponseHandler, body: StreamReader, length: int) -> None:
    """Receive the rest of a body, which has that length, if it is long."""
    left = length - body.total_bytes
    if left >= LEAST and protocol.transport is not None:
        protocol.transport.set_protocol(_Bulk(protocol, body, left))


class _Bulk(asyncio.BufferedProtocol):
    """Stands before aiohttp's protocol, which is told of all but the bytes."""

    def __init__(self, protocol: ResponseHandler, body: StreamReader, left: int) -> None:
        self._protocol = protocol
        self._body = body
        self._left = left
        self._chunk = memoryview(b"")

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where the next bytes go: none but the body's."""
        if len(self._chunk) < min(_ROOM, self._left):
            self._chunk = np.empty(_CHUNK, np.uint8).data
        return self._chunk[: self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """So many have come."""
        piece, self._chunk = self._chunk[:nbytes], self._chunk[nbytes:]
        self._left -= nbytes
        self._protocol.start_timeout()
        self._body.feed_data(cast("bytes", piece))  # like bytes to all that put pieces together
        if not self._left:
            self._end()

    def _end(self) -> None:
        protocol = self._protocol
        protocol._parser = None  # noqa: SLF001 - it waits for a body, and would miss it
        protocol.force_close()
        self._body.feed_eof()
        if protocol.transport is not None:
            protocol.transport.pause_reading()  # what a store says beyond is nobody's

    def eof_received(self) -> None:
        """The store says no more."""
        self._protocol.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing can come any more."""
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """More is to be sent than the transport likes to hold."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Enough of it was taken."""
        self._protocol.resume_writing()
