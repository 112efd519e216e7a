"""What the settings say, as each part of the proxy takes it; nothing here runs yet."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial

import aiohttp

from proxy.alarms.webhook import Webhook
from proxy.audit.checkpoint import VerifierKey
from proxy.audit.log import AccessLog
from proxy.audit.retaining import FolderSink, Sink, UrlSink, WitnessSink
from proxy.budgets.counters import Counters
from proxy.budgets.embedded import Embedded
from proxy.codings import Limits as CodingLimits
from proxy.config import Config
from proxy.errors import CounterfoilError
from proxy.formats.base import Limits as FormatLimits
from proxy.front import Listen
from proxy.gateway.making import Bounds
from proxy.gateway.peer import Balancers
from proxy.gateway.rates import Limits as RateLimits
from proxy.gateway.rates import Rates
from proxy.gateway.revealing import Bounds as RevealBounds
from proxy.gateway.tracing import Tracer
from proxy.hosts import LOCAL, Hosts, shown
from proxy.keys import Keyring
from proxy.keys import file as keyring_file
from proxy.keys.kek import kek_of
from proxy.settings import Limits, Reveal
from proxy.spool import Spools
from proxy.tls import TlsInForce
from proxy.traces.exporting import Exporter
from proxy.upstream import Stores
from proxy.upstream.live import Limits as StoreLimits
from proxy.upstream.secret import Command


def keyring(config: Config) -> Keyring:
    """As its file has it now; raises KeyringError."""
    kek = kek_of(config.key_encryption_key, config.environment)
    return keyring_file.read(config.keyring, kek)


def stores(config: Config, executor: Executor, *, workers: int) -> Stores:
    """The client side, whose limits so many `workers` share."""
    settings = config.settings
    return Stores(
        StoreLimits(
            connect=settings.stores.connect_seconds,
            first_byte=settings.stores.first_byte_seconds,
            total=settings.stores.total_seconds,
            connections=settings.stores.connections,
            retries=settings.stores.retries,
            failures=settings.stores.failures,
            suspend=settings.stores.suspend_seconds,
            workers=workers,
        ),
        coded=CodingLimits(
            bytes=settings.limits.source_bytes, ratio=settings.limits.compression_ratio
        ),
        executor=executor,
        commands={
            name: Command(
                name=name,
                argv=each.run,
                seconds=each.every_seconds,
                timeout=each.timeout_seconds,
                environment=each.environment,
                folder=config.folder,
            )
            for name, each in settings.commands.items()
        },
        environment=config.environment,
    )


def bounds(config: Config) -> Bounds:
    """What a request may take."""
    limits, spool = config.settings.limits, config.settings.spool
    folder = None if spool is None else config.path(spool)
    return Bounds(
        source_bytes=limits.source_bytes,
        requests_per_subject=limits.requests_per_subject,
        sort_bytes=limits.sort_bytes,
        sorts=limits.sorts,
        group_bytes=limits.group_bytes,
        counts=limits.counts,
        formats=FormatLimits(
            record_bytes=limits.record_bytes,
            fields=limits.record_fields,
            sheet_bytes=limits.sheet_bytes,
            sheet_cells=limits.sheet_cells,
            sheet_ratio=limits.sheet_ratio,
            row_group_bytes=limits.row_group_bytes,
            expansion=limits.expansion,
        ),
        spools=Spools(most=limits.spools_bytes, most_each=limits.spool_bytes, folder=folder),
        kept=Spools(most=limits.kept_bytes, most_each=limits.kept_view_bytes, folder=folder),
        kept_seconds=limits.kept_seconds,
    )


def rates(limits: Limits) -> Rates:
    """How much may be asked in a minute, and at once."""
    return Rates(
        limits=RateLimits(
            subject_per_minute=limits.requests_per_minute_per_subject,
            address_per_minute=limits.requests_per_minute_per_address,
            address_at_once=limits.requests_per_address,
        )
    )


def balancers(listen: Listen) -> Balancers:
    """The load balancers whose word counts."""
    told = listen.balancers
    if told is None:
        return Balancers()
    return Balancers(
        addresses=told.networks,
        forwarded_for=told.forwarded_for,
        client_certificate=told.client_certificate,
    )


def serves(listen: Listen, tls: TlsInForce) -> Callable[[str], bool]:
    """Whether requests may be of a host; where none is listed, of the certificate's and this machine's."""
    if listen.names:
        return Hosts(listen.names).__contains__
    own = Hosts((*LOCAL, shown(listen.host)))
    return lambda host: host in own or host in tls.hosts


def reveal_bounds(reveal: Reveal) -> RevealBounds:
    """How much may be asked back."""
    return RevealBounds(
        cells=reveal.cells,
        body_bytes=reveal.body_bytes,
        per_minute=reveal.cells_per_minute,
        per_hour=reveal.cells_per_hour,
    )


def counters(config: Config, log: AccessLog, *, workers: int) -> Counters:
    """Where it is counted what is spent of budgets: shared by all workers, or by all servers."""
    budgets = config.settings.budgets
    if budgets is not None:
        try:
            from proxy.budgets.valkey import Valkey  # noqa: PLC0415 - an extra
        except ImportError as exc:
            raise CounterfoilError(
                "`budgets` needs a client: pip install 'counterfoil[valkey]'"
            ) from exc
        return Valkey(budgets.valkey, password=config.budgets_password(budgets))
    shared = log.path.with_name(f"{log.path.stem}-budgets{log.path.suffix}")
    return Embedded(shared if workers > 1 else None)


def tracing(config: Config, log: AccessLog) -> tuple[Exporter | None, Tracer | None]:
    """What sends traces, and what begins them, where the settings ask for any."""
    traces = config.settings.traces
    if traces is None:
        return None, None
    try:
        from proxy.traces.otlp import encode  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise CounterfoilError(
            "`traces` needs what encodes them: pip install 'counterfoil[otel]'"
        ) from exc
    exporter = Exporter(
        traces.endpoint,
        token=config.traces_token(traces),
        encode=partial(encode, instance=log.opened),
    )
    return exporter, Tracer(one_in=traces.one_in, trusted=traces.networks, over=exporter.put)


def webhook(config: Config) -> Webhook | None:
    """Who is told of alarms."""
    url = config.settings.alarms.webhook
    if url is None:
        return None
    return Webhook(url, token=config.alarms_token(), secret=config.alarms_secret())


def sinks(config: Config, session: aiohttp.ClientSession) -> list[Sink]:
    """The places that are given checkpoints; raises CounterfoilError."""
    found: list[Sink] = []
    for each in config.settings.retain:
        every = each.every_seconds
        if each.folder is not None:
            found.append(FolderSink(config.path(each.folder), every=every))
        elif each.url is not None:
            token = config.retain_token(each)
            found.append(UrlSink(session, each.url, token=token, every=every))
        elif each.witness is not None and each.key is not None:
            key = VerifierKey.parse(each.key)
            found.append(WitnessSink(session, each.witness, key=key, every=every))
    return found
