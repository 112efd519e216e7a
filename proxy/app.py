"""The composition root: builds the parts, starts them, reloads the policy, and stops everything."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

import aiohttp
import aiohttp.http_parser
from aiohttp import web

from proxy import fitted, listening
from proxy.alarms.kinds import Kind, everything
from proxy.alarms.noticed import Manners, Noticed
from proxy.alarms.raised import Alarms
from proxy.alarms.watching import Watching
from proxy.audit.log import AccessLog
from proxy.audit.retaining import TIMEOUT, Retaining
from proxy.audit.verifying import SelfVerifying
from proxy.budgets.spending import Budgets
from proxy.config import Config
from proxy.errors import CounterfoilError, where
from proxy.gateway import Gateway
from proxy.gateway.askers import Askers
from proxy.gateway.connections import Connections, make_room
from proxy.gateway.control import Control
from proxy.gateway.listener import Front, Listener, bind
from proxy.gateway.protocol import Patience
from proxy.gateway.revealing import Reveals
from proxy.gateway.server import Server
from proxy.identity.single_use import Elsewhere, nowhere_else
from proxy.metrics import exposition, readings
from proxy.metrics.listener import PATH, read_at
from proxy.metrics.watched import Watched
from proxy.reload import PolicyInForce, Spread, nobody_else
from proxy.review.specification import failures
from proxy.rotation import KeysInForce
from proxy.settings import Metrics
from proxy.versions import Versions

_LOGGER: Final = logging.getLogger("counterfoil")
_BURST_SECONDS: Final = 10
OTHER_FILES: Final = 256
"""The log's, the policy's, spools, threads; beside connections of clients and to stores."""
_FRESH_SECONDS: Final = 1
_HEAD: Final = 4
"""How many times the most bytes of a field a whole head may have."""
_YOUNG: Final = 5_000
"""New objects after which the garbage collector looks for rings; 64 requests under way hold fewer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Among:
    """How many processes share the port, and how they are told of a change that one of them makes."""

    workers: int = 1
    spread: Spread = nobody_else
    elsewhere: Elsewhere = nowhere_else
    """Takes a token that is good for one request in all of them."""


ALONE: Final = Among()


class App:
    """The running proxy; an asynchronous context manager."""

    def __init__(self, config: Config, *, among: Among = ALONE) -> None:
        self._config = config
        self._among = among
        self._stack = AsyncExitStack()
        self.url = ""
        """`http(s)://host:port`, once it listens."""
        self.metrics_url = ""
        """Where the metrics are; '' where they are nowhere."""

    async def __aenter__(self) -> Self:
        """Start; raises CounterfoilError where something needed is missing or wrong."""
        if aiohttp.http_parser.HttpRequestParser is aiohttp.http_parser.HttpRequestParserPy:
            raise CounterfoilError(
                "aiohttp's C parser is missing: install aiohttp with its extensions"
            )
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drain and stop; nothing is left running."""
        await self._stack.aclose()

    async def _start(self) -> None:
        config, settings = self._config, self._config.settings
        self.keys = KeysInForce(partial(fitted.keyring, config), paths=config.key_files)
        await self.keys.open()
        self.tls = listening.tls(config)
        await self.tls.open()
        log = await AccessLog.open(
            config.path(settings.log), keyring=self.keys.keyring, database=config.database
        )
        self._stack.push_async_callback(log.close)
        self.log = log
        await self.keys.start(log)
        self.policy = PolicyInForce(
            folder=config.path(settings.policies),
            environment=config.lent,
            commands=frozenset(settings.commands),
            closed=config.closed,
            log=log,
            opaque=self.keys.opaque,
            versions=Versions.beside(log.path),
            must_be=settings.policies_must_be,
            expectations=failures,
            spread=self._among.spread,
        )
        await self.policy.start()
        executor = ThreadPoolExecutor(settings.threads, thread_name_prefix="counterfoil-view")
        self._stack.callback(executor.shutdown)
        stores = await self._stack.enter_async_context(
            fitted.stores(config, executor, workers=self._among.workers)
        )
        limits = settings.limits
        listen = settings.listen
        balancers = fitted.balancers(listen)
        counters = fitted.counters(config, log, workers=self._among.workers)
        self._stack.push_async_callback(counters.close)
        webhook = fitted.webhook(config)
        self.alarms = Alarms(counters.claim, told=webhook, names=settings.alarms.names)

        def all_reports() -> tuple[str, ...]:
            return everything(self.policy.snapshot.catalogue.reports)

        noticed = Noticed(
            self.alarms,
            manners=Manners(
                refusals=settings.alarms.refusals, seconds=settings.alarms.refusals_seconds
            ).among(self._among.workers),
            log=log.up_to_date,
            keyring=lambda: self.keys.keyring,
            everything=all_reports,
        )
        budgets = Budgets(counters, log=log.up_to_date, nearly=noticed.nearly)
        exporter, tracer = fitted.tracing(config, log)
        bounds = fitted.bounds(config)
        await asyncio.to_thread(bounds.spools.try_out)
        self.gateway = Gateway(
            policy=self.policy,
            keys=self.keys,
            log=log,
            stores=stores,
            bounds=bounds,
            askers=Askers(
                rates=fitted.rates(limits),
                tls=self.tls,
                balancers=balancers,
                elsewhere=self._among.elsewhere,
            ),
            executor=executor,
            workers=self._among.workers,
            budgets=budgets,
            noticed=noticed,
            tracer=tracer,
        )
        self._stack.push_async_callback(self.gateway.close)
        retaining = await self._retaining(log)
        verifying = SelfVerifying(
            log.files,
            every=settings.verify_seconds,
            retained=[config.path(each.folder) for each in settings.retain if each.folder],
            keeps=lambda: log.keeps,
        )
        for work in (
            self._close_bursts,
            self._keep_issuers_fresh,
            self.policy.watch,
            self.keys.watch,
            self.tls.watch,
            retaining.run,
            verifying.run,
            *((webhook.run,) if webhook is not None else ()),
            *((exporter.run,) if exporter is not None else ()),
            self.alarms.run,
            noticed.run,
            Watching(
                self.alarms,
                state=lambda: self._wrong(log, retaining, verifying),
                log=log.up_to_date,
                looks=lambda: log.keeps,
                everything=all_reports,
                opaque=self.keys.opaque,
                server=socket.gethostname(),
            ).run,
            partial(log.beat, settings.heartbeat_seconds),
        ):
            self._stack.push_async_callback(_cancel, asyncio.create_task(kept_up(work)))
        self.connections = Connections(
            most=make_room(limits.connections, settings.stores.connections + OTHER_FILES),
            most_each=limits.connections_per_address,
        )
        server = Server(
            self.gateway,
            Control(gateway=self.gateway, policy=self.policy),
            Reveals(
                gateway=self.gateway,
                bounds=fitted.reveal_bounds(settings.reveal),
                executor=executor,
            ),
            held=self.connections,
            serves=fitted.serves(listen, self.tls),
            patience=Patience(
                stall=limits.stall_seconds,
                head=limits.head_seconds,
                head_bytes=_HEAD * limits.header_bytes,
            ),
            access_log=None,
            keepalive_timeout=limits.keep_alive_seconds,
            max_line_size=limits.header_bytes,
            max_field_size=limits.header_bytes,
            lingering_time=1.0,
            auto_decompress=False,
        )
        runner = web.ServerRunner(server, shutdown_timeout=limits.drain_seconds)
        self._watched = Watched(
            policy=self.policy,
            keys=self.keys,
            gateway=self.gateway,
            log=log,
            retaining=retaining,
            verifying=verifying,
            tls=self.tls,
            connections=self.connections,
            alarms=self.alarms,
            webhook=webhook,
            exporter=exporter,
        )
        if settings.metrics is not None:
            self.metrics_url = await self._serve_metrics(settings.metrics)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        listener = Listener(
            runner,
            await bind(listen.host, listen.port, shared=self._among.workers > 1),
            opened=server.opened,
            tls=lambda: self.tls.context,
            connections=self.connections,
            front=Front(
                balancers=balancers.addresses,
                proxy_protocol=listen.balancers is not None and listen.balancers.proxy_protocol,
                seconds=limits.head_seconds,
            ),
        )
        await listener.start()
        self.url = listening.url(listen.host, listener.port, encrypted=self.tls.plain is not None)
        gc.freeze()  # a full collection would stop every request to look at what never goes
        gc.set_threshold(_YOUNG)  # what a request makes goes with it: rings are rare

    def _wrong(
        self, log: AccessLog, retaining: Retaining, verifying: SelfVerifying
    ) -> dict[Kind, Mapping[str, int | str]]:
        """What alarms are raised of for as long as it is so."""
        found: dict[Kind, Mapping[str, int | str]] = {}
        if self.gateway.stale:
            found[Kind.POLICY] = {"cause": self.gateway.stale}
        if not log.healthy:
            found[Kind.LOG] = {}
        if log.publishing_failure or retaining.failures:
            failing = len(retaining.failures)
            found[Kind.EVIDENCE] = {"places that take no checkpoints": failing}
        if verifying.wrong:
            found[Kind.VERIFIER] = verifying.wrong
        return found

    async def exposed(self) -> bytes:
        """The metrics."""
        # Read where it is counted, at one instant; put into words where nobody waits for it.
        return await asyncio.to_thread(exposition, readings(self._watched))

    async def _serve_metrics(self, metrics: Metrics) -> str:
        token, tls = self._config.metrics_token(metrics), self.tls
        read = read_at(metrics.host, metrics.port, self.exposed, token=token, tls=lambda: tls.plain)
        port = await self._stack.enter_async_context(read)
        return listening.url(metrics.host, port, encrypted=tls.plain is not None) + PATH

    async def _retaining(self, log: AccessLog) -> Retaining:
        """What gives checkpoints to the places that the settings name; raises CounterfoilError."""
        session = await self._stack.enter_async_context(aiohttp.ClientSession(timeout=TIMEOUT))
        sinks = fitted.sinks(self._config, session)
        return Retaining(log.files, sinks, keeps=lambda: log.keeps)

    async def _close_bursts(self) -> None:
        while True:
            await asyncio.sleep(_BURST_SECONDS)
            await self.gateway.recorder.close_bursts()

    async def _keep_issuers_fresh(self) -> None:
        while True:
            self.gateway.snapshot.identities.keep_fresh(time.time())
            self.gateway.let_go()
            await asyncio.sleep(_FRESH_SECONDS)

    async def reload(self) -> bool:
        """PROMISE 3 (all or nothing): take each whole, or keep the last good one, loudly."""
        tls, keys = await self.tls.reload(), await self.keys.reload()
        return await self.policy.reload() and keys and tls


async def kept_up(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do what goes on until it is cancelled; where it fails, say so and go on with it.

    Nobody waits for it: a watch that ended, for want of a thread say, would leave an old policy in force.
    """
    while True:
        try:
            return await work()
        except Exception as exc:  # noqa: BLE001 - whatever it is, nobody else would say it
            _LOGGER.error("what is done beside requests failed, and begins anew: %s", where(exc))
        await asyncio.sleep(_FRESH_SECONDS)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def serve(config: Config) -> None:
    """Run until SIGINT or SIGTERM; SIGHUP takes policy files and keyring anew."""
    loop = asyncio.get_running_loop()
    stop, started = asyncio.Event(), asyncio.Event()
    reloads: set[asyncio.Task[bool]] = set()

    async def reloaded() -> bool:
        await started.wait()
        return await app.reload()

    def reload() -> None:
        if len(reloads) < 2:  # one that runs, and one that waits and will see all that there is now
            task = asyncio.create_task(reloaded())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    async with App(config) as app:
        started.set()
        _LOGGER.info(
            "counterfoil listens on %s with policy %s", app.url, app.gateway.snapshot.version[:12]
        )
        if app.metrics_url:
            _LOGGER.info("metrics are read at %s", app.metrics_url)
        await stop.wait()
        _LOGGER.info("stopping: running answers may end")
