"""The composition root: builds the parts, starts them, reloads the policy, and stops everything."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import Final, Self

import aiohttp.http_parser
from aiohttp import web

from proxy.audit.log import AccessLog
from proxy.codings import Limits as CodingLimits
from proxy.config import Config, Metrics
from proxy.errors import CounterfoilError
from proxy.formats.base import Limits as FormatLimits
from proxy.gateway import Gateway
from proxy.gateway.control import Control
from proxy.gateway.making import Bounds
from proxy.gateway.server import Server
from proxy.keys import Keyring, kek_from
from proxy.metrics import Watched
from proxy.metrics.listener import PATH, Listener
from proxy.reload import PolicyInForce
from proxy.review.specification import failures
from proxy.spool import Spools
from proxy.upstream import Stores
from proxy.versions import Versions

_LOGGER: Final = logging.getLogger("counterfoil")
_BURST_SECONDS: Final = 10
_YOUNG: Final = 5_000
"""New objects after which the garbage collector looks for rings; 64 requests under way hold fewer."""


class App:
    """The running proxy; an asynchronous context manager."""

    def __init__(self, config: Config) -> None:
        self._config = config
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
        keyring = Keyring.open(
            config.path(settings.keyring.file),
            kek_from(config.key_encryption_key, config.environment),
        )
        tls = self._tls()
        log = await AccessLog.open(config.path(settings.log))
        self._stack.push_async_callback(log.close)
        self.policy = PolicyInForce(
            folder=config.path(settings.policies),
            environment=config.environment,
            log=log,
            keyring=keyring,
            versions=Versions.beside(log.path),
            must_be=settings.policies_must_be,
            expectations=failures,
        )
        await self.policy.start()
        executor = ThreadPoolExecutor(settings.threads, thread_name_prefix="counterfoil-view")
        self._stack.callback(executor.shutdown)
        stores = await self._stack.enter_async_context(
            Stores(
                connect=settings.stores.connect_seconds,
                first_byte=settings.stores.first_byte_seconds,
                total=settings.stores.total_seconds,
                most=settings.stores.connections,
                coded=CodingLimits(
                    bytes=settings.limits.source_bytes, ratio=settings.limits.compression_ratio
                ),
                executor=executor,
            )
        )
        limits = settings.limits
        spool = None if settings.spool is None else config.path(settings.spool)
        self.gateway = Gateway(
            policy=self.policy,
            log=log,
            stores=stores,
            keyring=keyring,
            bounds=Bounds(
                source_bytes=limits.source_bytes,
                requests_per_subject=limits.requests_per_subject,
                sort_bytes=limits.sort_bytes,
                sorts=limits.sorts,
                formats=FormatLimits(
                    record_bytes=limits.record_bytes,
                    fields=limits.record_fields,
                    sheet_bytes=limits.sheet_bytes,
                    sheet_cells=limits.sheet_cells,
                    sheet_ratio=limits.sheet_ratio,
                    row_group_bytes=limits.row_group_bytes,
                    expansion=limits.expansion,
                ),
                spools=Spools(
                    most=limits.spools_bytes,
                    most_each=limits.spool_bytes,
                    folder=spool,
                ),
                kept=Spools(most=limits.kept_bytes, most_each=limits.kept_view_bytes, folder=spool),
                kept_seconds=limits.kept_seconds,
            ),
            executor=executor,
        )
        self._stack.push_async_callback(self.gateway.close)
        for work in (self._close_bursts(), self.policy.watch()):
            self._stack.push_async_callback(_cancel, asyncio.create_task(work))
        runner = web.ServerRunner(
            Server(
                self.gateway,
                Control(gateway=self.gateway, policy=self.policy, keyring=keyring),
                stall=limits.stall_seconds,
                access_log=None,
                keepalive_timeout=limits.keep_alive_seconds,
                max_line_size=limits.header_bytes,
                max_field_size=limits.header_bytes,
                lingering_time=1.0,
                auto_decompress=False,
            ),
            shutdown_timeout=limits.drain_seconds,
        )
        if settings.metrics is not None:
            watched = Watched(policy=self.policy, gateway=self.gateway, log=log)
            await self._serve_metrics(settings.metrics, watched, tls)
        listen = settings.listen
        self.url = await self._listen(runner, listen.host, listen.port, tls)
        gc.freeze()  # a full collection would stop every request to look at what never goes
        gc.set_threshold(
            _YOUNG
        )  # what a request makes goes with it: to look for rings is mostly in vain

    async def _serve_metrics(
        self, metrics: Metrics, watched: Watched, tls: ssl.SSLContext | None
    ) -> None:
        token = self._config.metrics_token(metrics)
        runner = web.ServerRunner(Listener(watched, token=token, access_log=None))
        url = await self._listen(runner, metrics.host, metrics.port, tls)
        self.metrics_url = f"{url}{PATH}"

    async def _listen(
        self, runner: web.ServerRunner, host: str, port: int, tls: ssl.SSLContext | None
    ) -> str:
        """Serve there; gives the URL, without a path."""
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, host, port, ssl_context=tls, backlog=1024)
        try:
            await site.start()
        except OSError as exc:
            raise CounterfoilError(f"cannot listen on {host}:{port}: {exc.strerror}") from exc
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if tls else 'http'}://{shown}:{runner.addresses[0][1]}"

    def _tls(self) -> ssl.SSLContext | None:
        listen = self._config.settings.listen
        if listen.certificate is None or listen.key is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(
                self._config.path(listen.certificate),
                self._config.path(listen.key),
                password=lambda: b"",  # nobody is there to be asked for one
            )
        except (OSError, ssl.SSLError) as exc:
            raise CounterfoilError(
                "the server's certificate or key cannot be loaded (both in PEM, the key of this"
                " certificate and without a pass phrase): see `listen`"
            ) from exc
        return context

    async def _close_bursts(self) -> None:
        while True:
            await asyncio.sleep(_BURST_SECONDS)
            await self.gateway.recorder.close_bursts()

    async def reload(self) -> bool:
        """PROMISE 3 (all or nothing): take the folder's policy whole, or keep the last good one, loudly."""
        return await self.policy.reload()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def serve(config: Config) -> None:
    """Run until SIGINT or SIGTERM; SIGHUP takes the policy files anew."""
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
