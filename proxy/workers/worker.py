"""One worker process: the whole proxy, on the port that it shares with the others.

It is told what to do by its supervisor (supervisor.py), and ends with it, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from proxy import process
from proxy.app import Among, App
from proxy.config import Config
from proxy.errors import CounterfoilError
from proxy.identity.refused import Refused, Unavailable
from proxy.identity.single_use import Spending
from proxy.settings import Settings
from proxy.workers.channel import Channel, Unanswered

_LOGGER: Final = logging.getLogger("counterfoil")
SPREAD_SECONDS: Final = 10.0
"""How long a change waits until all workers have taken it."""
_SAY_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 1.0
"""Between two looks at whether the log is lost: then another worker, with another log, may do better."""


class Begin(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told first."""

    number: int
    workers: int
    settings: Settings
    """With its own share of what all have together, and the port that they share."""
    folder: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the server's own that is in force in one worker, and is to be in all."""

    name: str
    content: bytes


SPENDING: Final = msgspec.msgpack.Decoder(Spending)
BEGIN: Final = msgspec.json.Decoder(Begin)
CHANGE: Final = msgspec.msgpack.Decoder(Change)


class _Worker:
    def __init__(self) -> None:
        self.told = asyncio.get_running_loop().create_future()
        self._ready = asyncio.Event()
        self._app: App
        self.channel: Channel
        self.handlers = {
            "begin": self._begin,
            "reload": self._reload,
            "take": self._take,
            "metrics": self._metrics,
        }

    def serves(self, app: App) -> None:
        """From now on calls are answered; what came before waits for it."""
        self._app = app
        self._ready.set()

    async def spread(self, name: str, content: bytes) -> int:
        """How many of the other workers have not taken a change."""
        data = msgspec.msgpack.encode(Change(name=name, content=content))
        try:
            said = await self.channel.call("spread", data, within=SPREAD_SECONDS + _SAY_SECONDS)
        except Unanswered:
            return 1
        return int(said)

    async def elsewhere(self, spending: Spending) -> None:
        """Take a token that is good for one request in all workers; raises Refused and Unavailable."""
        data = msgspec.msgpack.encode(spending)
        try:
            cause = await self.channel.call("spend", data, within=_SAY_SECONDS)
        except Unanswered:
            raise Unavailable("workers-unavailable") from None
        match cause.decode():
            case "":
                return
            case "token-replayed":
                raise Refused("token-replayed")
            case other:
                raise Unavailable(other)

    async def _begin(self, data: bytes) -> bytes:
        self.told.set_result(BEGIN.decode(data))
        return b""

    async def _reload(self, _: bytes) -> bytes:
        await self._ready.wait()
        return b"%d" % await self._app.reload()

    async def _take(self, data: bytes) -> bytes:
        await self._ready.wait()
        change = CHANGE.decode(data)
        await self._app.policy.take(change.name, change.content)
        return b""

    async def _metrics(self, _: bytes) -> bytes:
        await self._ready.wait()
        return await self._app.exposed()


async def _run(end: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    loop.add_signal_handler(
        signal.SIGHUP, lambda: None
    )  # a terminal's, to all; the supervisor says so
    worker = _Worker()
    worker.channel = await Channel.over(end, worker.handlers)
    begin: Begin = await worker.told
    process.speak(begin.settings.logging, name=f"worker {begin.number}")
    config = Config(settings=begin.settings, folder=Path(begin.folder), environment=os.environ)
    among = Among(workers=begin.workers, spread=worker.spread, elsewhere=worker.elsewhere)
    orphaned = asyncio.create_task(worker.channel.ended())
    orphaned.add_done_callback(lambda _: stop.set())
    async with App(config, among=among) as app:
        worker.serves(app)
        await worker.channel.call("started", app.url.encode(), within=_SAY_SECONDS)
        while not (stop.is_set() or app.log.lost):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)
        if app.log.lost:
            _LOGGER.error("the access log is lost to this worker, which ends: %s", app.log.failure)
    await worker.channel.close()


def main() -> None:
    """Run until told to stop; the socket to the supervisor is the descriptor that is named."""
    process.prepare()
    try:
        uvloop.run(_run(socket.socket(fileno=int(sys.argv[1]))))
    except CounterfoilError as exc:
        process.failed(exc)


if __name__ == "__main__":
    main()
