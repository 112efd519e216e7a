"""What a supervisor and a worker say to each other: calls and their answers, over a pair of sockets.

    length (4 bytes, big-endian) · frame (MessagePack)
    {"id": 3, "name": "take", "data": …}        a call
    {"id": 3, "name": "", "data": …}            its answer; `failed` where there is none

Both sides are one program of one version, started by each other: nobody else can write here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Self

import msgspec

from proxy.errors import CounterfoilError, where

_LOGGER: Final = logging.getLogger("counterfoil")

Handler = Callable[[bytes], Awaitable[bytes]]


class Unanswered(CounterfoilError):
    """The other side is gone, did not answer in time, or could not do it."""


class _Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: int
    name: str = ""
    data: bytes = b""
    failed: bool = False


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Frame)


class Channel:
    """One end; calls are answered at once, each in a task of its own, in the order of their arrival."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handlers: Mapping[str, Handler],
    ) -> None:
        """Use `Channel.over`."""
        self._reader = reader
        self._writer = writer
        self._handlers = handlers
        self._count = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._answers: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._run())

    @classmethod
    async def over(cls, end: socket.socket, handlers: Mapping[str, Handler]) -> Self:
        """The end of a pair of sockets."""
        end.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=end)
        return cls(reader, writer, handlers)

    async def call(self, name: str, data: bytes = b"", *, within: float) -> bytes:
        """Have the other side do something, and wait for its answer. Raises Unanswered."""
        self._count += 1
        number = self._count
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            if self._task.done():
                raise Unanswered(f"`{name}`: the other process is gone")
            self._send(_Frame(id=number, name=name, data=data))
            async with asyncio.timeout(within):
                return await answer
        except TimeoutError:
            raise Unanswered(f"`{name}`: no answer within {within:g} s") from None
        finally:
            del self._waiting[number]

    async def ended(self) -> None:
        """Wait until the other side is gone."""
        await asyncio.wait([self._task])

    async def close(self) -> None:
        """Leave."""
        self._task.cancel()
        await asyncio.wait([self._task])
        for task in self._answers:
            task.cancel()
        self._writer.close()

    async def _run(self) -> None:
        try:
            while True:
                size = int.from_bytes(await self._reader.readexactly(4))
                frame = _DECODER.decode(await self._reader.readexactly(size))
                if frame.name:
                    task = asyncio.create_task(self._answer(frame))
                    self._answers.add(task)
                    task.add_done_callback(self._answers.discard)
                    continue
                answer = self._waiting.get(frame.id)
                if answer is None or answer.done():
                    continue
                if frame.failed:
                    answer.set_exception(Unanswered(frame.data.decode()))
                else:
                    answer.set_result(frame.data)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(Unanswered("the other process is gone"))

    async def _answer(self, frame: _Frame) -> None:
        try:
            said = _Frame(id=frame.id, data=await self._handlers[frame.name](frame.data))
        except CounterfoilError as exc:
            said = _Frame(id=frame.id, data=str(exc).encode(), failed=True)
        except Exception as exc:  # noqa: BLE001 - the other side waits for it
            _LOGGER.error("`%s` failed: %s", frame.name, where(exc))
            said = _Frame(id=frame.id, data=type(exc).__name__.encode(), failed=True)
        self._send(said)

    def _send(self, frame: _Frame) -> None:
        data = _ENCODER.encode(frame)
        with contextlib.suppress(OSError):
            self._writer.write(len(data).to_bytes(4) + data)
