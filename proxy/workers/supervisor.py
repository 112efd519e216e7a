"""The supervisor: starts the workers, stops them together, and starts anew what dies, loudly.

It holds the port that they share, and serves nothing there itself. It is where all of them are reached at
once: a signal, a change of grants or lockdowns that one of them was asked for, the metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

import msgspec

from proxy import listening
from proxy.config import Config
from proxy.errors import CounterfoilError
from proxy.identity.refused import Refused, Unavailable
from proxy.identity.single_use import Spent
from proxy.metrics.listener import PATH, read_at
from proxy.metrics.workers import merged
from proxy.settings import lowered, share
from proxy.workers.channel import Channel, Unanswered
from proxy.workers.worker import CHANGE, SPENDING, SPREAD_SECONDS, Begin

_LOGGER: Final = logging.getLogger("counterfoil")
_METRICS_SECONDS: Final = 5.0
_RELOAD_SECONDS: Final = 60.0
_BEGIN_SECONDS: Final = 60.0
_LONG: Final = 10.0
"""Seconds after which a worker that dies is started anew at once; before that, after a pause."""
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_PATIENCE: Final = 20.0
"""Seconds beyond `drain_seconds` after which a worker that does not end is killed."""


@dataclass(eq=False, kw_only=True, slots=True)
class _Worker:
    """One process."""

    number: int
    process: asyncio.subprocess.Process
    channel: Channel
    started: asyncio.Event = field(default_factory=asyncio.Event)
    since: float = field(default_factory=time.monotonic)


class Supervisor:
    """Runs the workers of one server."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._count = config.settings.workers
        self._workers: dict[int, _Worker] = {}
        self._starts = dict.fromkeys(range(self._count), 0)
        self._stopping = asyncio.Event()
        self._begin: Begin
        self._spent: defaultdict[str, Spent] = defaultdict(Spent)
        """By issuer: each worker knows the tokens that were presented to it, this one those of all."""
        self._reloads: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until SIGINT or SIGTERM; raises CounterfoilError where the workers cannot be started."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        async with contextlib.AsyncExitStack() as stack:
            self._prepare(stack)
            keeping: list[asyncio.Task[None]] = []
            stack.push_async_callback(self._stop, keeping)
            for number in range(self._count):  # the first alone: it makes what is not there yet
                worker = await self._start(number)
                await self._first(worker)
                keeping.append(asyncio.create_task(self._keep(worker)))
            await self._tell(stack)
            await self._stopping.wait()
            _LOGGER.info("stopping: running answers may end")

    def _prepare(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self._config.settings
        listen = settings.listen
        held = stack.enter_context(listening.reserve(listen.host, listen.port))
        port = held.getsockname()[1]
        for name, whole, part in lowered(settings):
            _LOGGER.warning(
                "`%s` is %d and not %d: no more is the share of each of %d workers",
                name, part, whole, self._count,
            )  # fmt: skip
        own = msgspec.structs.replace(
            share(settings), listen=msgspec.structs.replace(listen, port=port), metrics=None
        )
        self._begin = Begin(
            number=0, workers=self._count, settings=own, folder=str(self._config.folder)
        )
        encrypted = listen.certificate is not None
        self._url = listening.url(listen.host, port, encrypted=encrypted)

    async def _tell(self, stack: contextlib.AsyncExitStack) -> None:
        """All is up: say where, and serve the metrics of all."""
        _LOGGER.info("counterfoil listens on %s with %d workers", self._url, self._count)
        metrics = self._config.settings.metrics
        if metrics is not None:
            token = self._config.metrics_token(metrics)
            tls = listening.tls(self._config)
            await tls.open()
            watching = asyncio.create_task(tls.watch())
            stack.callback(watching.cancel)
            read = read_at(
                metrics.host, metrics.port, self._exposed, token=token, tls=lambda: tls.plain
            )
            port = await stack.enter_async_context(read)
            url = listening.url(metrics.host, port, encrypted=tls.plain is not None)
            _LOGGER.info("metrics are read at %s%s", url, PATH)

    # ── one worker's life ──

    async def _start(self, number: int) -> _Worker:
        ours, its = socket.socketpair()
        with its:
            # -P: nothing is imported from the folder that it happens to be started in.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "proxy.workers.worker", str(its.fileno()),
                pass_fds=[its.fileno()],
            )  # fmt: skip
        worker: _Worker

        async def started(_: bytes) -> bytes:
            worker.started.set()
            return b""

        async def spread(data: bytes) -> bytes:
            return b"%d" % await self._spread(data, beside=number)

        handlers = {"started": started, "spread": spread, "spend": self._spend}
        channel = await Channel.over(ours, handlers)
        worker = _Worker(number=number, process=process, channel=channel)
        self._workers[number] = worker
        self._starts[number] += 1
        begin = msgspec.structs.replace(self._begin, number=number)
        with contextlib.suppress(Unanswered):  # it died, which is noticed where it is waited for
            await channel.call("begin", msgspec.json.encode(begin), within=_BEGIN_SECONDS)
        return worker

    async def _first(self, worker: _Worker) -> None:
        """Wait until it serves. Raises CounterfoilError where it does not: it has said why."""
        started = asyncio.create_task(worker.started.wait())
        ended = asyncio.create_task(worker.process.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        done, rest = await asyncio.wait(
            (started, ended, stopping), return_when=asyncio.FIRST_COMPLETED
        )
        for task in rest:
            task.cancel()
        if ended in done and started not in done and stopping not in done:
            raise CounterfoilError(f"worker {worker.number} could not be started")

    async def _keep(self, worker: _Worker) -> None:
        """Start it anew whenever it dies."""
        number, pause = worker.number, 0.0
        while True:
            status = await worker.process.wait()
            await worker.channel.close()
            if self._stopping.is_set():
                return
            lived = time.monotonic() - worker.since
            pause = 0.0 if lived > _LONG else min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
            _LOGGER.error(
                "worker %d (process %d) %s; it is started anew in %g s",
                number, worker.process.pid, _ended(status), pause,
            )  # fmt: skip
            if await self._stops_within(pause):
                return
            while True:
                try:
                    worker = await self._start(number)
                    break
                except OSError as exc:
                    pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
                    _LOGGER.error("worker %d could not be started: %s", number, exc.strerror)
                    if await self._stops_within(pause):
                        return

    async def _stops_within(self, seconds: float) -> bool:
        """Whether the server is to stop, after so long at the most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    async def _stop(self, keeping: list[asyncio.Task[None]]) -> None:
        """Have all end, and wait for it."""
        self._stopping.set()
        for worker in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        patience = self._config.settings.limits.drain_seconds + _PATIENCE
        ends = [asyncio.create_task(worker.process.wait()) for worker in self._workers.values()]
        if ends:
            await asyncio.wait(ends, timeout=patience)
        for worker in self._workers.values():
            if worker.process.returncode is None:
                _LOGGER.error("worker %d does not end, and is killed", worker.number)
                worker.process.kill()
                await worker.process.wait()
        if keeping:
            await asyncio.wait(keeping)
        for worker in self._workers.values():
            await worker.channel.close()

    # ── all of them at once ──

    def _reload(self) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(
                *(self._ask(worker, "reload", b"", _RELOAD_SECONDS) for worker in self._alive())
            )

        if (
            len(self._reloads) < 2
        ):  # one that runs, and one that waits and will see all there is now
            task = asyncio.create_task(all_of_them())
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)

    async def _spread(self, data: bytes, *, beside: int) -> int:
        """Have all other workers take a change; how many have not."""
        name = CHANGE.decode(data).name
        others = [worker for worker in self._alive() if worker.number != beside]
        taken = await asyncio.gather(
            *(self._ask(worker, "take", data, SPREAD_SECONDS) for worker in others)
        )
        for worker, said in zip(others, taken, strict=True):
            # A process that has died decides nothing any more; the next one begins with what there is.
            if said is None and worker.process.returncode is None:
                _LOGGER.error("worker %d has not taken the new `%s` yet", worker.number, name)
        return sum(
            said is None and worker.process.returncode is None
            for worker, said in zip(others, taken, strict=True)
        )

    async def _spend(self, data: bytes) -> bytes:
        """Take a token that is good for one request, which no worker may take again; why not, where not."""
        spending = SPENDING.decode(data)
        try:
            self._spent[spending.issuer].spend(spending, by=object())
        except (Refused, Unavailable) as exc:
            return exc.cause.encode()
        return b""

    async def _exposed(self) -> bytes:
        """The metrics of all."""
        workers = self._alive()
        texts = await asyncio.gather(
            *(self._ask(worker, "metrics", b"", _METRICS_SECONDS) for worker in workers)
        )
        said = {
            worker.number: text
            for worker, text in zip(workers, texts, strict=True)
            if text is not None
        }
        return await asyncio.to_thread(merged, said, dict(self._starts))

    def _alive(self) -> list[_Worker]:
        return [w for w in self._workers.values() if w.process.returncode is None]

    @staticmethod
    async def _ask(worker: _Worker, name: str, data: bytes, within: float) -> bytes | None:
        try:
            return await worker.channel.call(name, data, within=within)
        except Unanswered as exc:
            _LOGGER.warning("worker %d: %s", worker.number, exc)
            return None


def _ended(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


async def serve(config: Config) -> None:
    """Run until SIGINT or SIGTERM; SIGHUP has all workers take policy files and keyring anew."""
    await Supervisor(config).run()
