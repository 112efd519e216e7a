"""What counterfoil.yaml may say: its keys, their types, what they stand for; and a worker's share of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from proxy.front import Listen, Port

Positive = Annotated[int, msgspec.Meta(ge=1)]


class KeyringFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`keyring`: the sealed file of master keys, and what opens it."""

    file: str
    """The keyring file, made with mode 0600."""
    key_encryption_key: str
    """`env:NAME`, `file:PATH` or, from systemd, `credential:NAME`: 32 bytes in base64 or hex; `vault:URL`:
    a key in a Vault or OpenBao, see Keys."""


class DatabaseOfLog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`database`: the PostgreSQL database that holds the access log, of all replicas together.

    It needs `counterfoil[postgres]`, and PostgreSQL 13 or newer; see Auditing.
    """

    url: str
    """`postgresql://ROLE@HOST:PORT/DATABASE`, or `postgresql://ROLE@/DATABASE?host=/run/postgresql` for a
    socket; without a password. To another machine it goes through TLS, and the certificate must be good."""
    password: str | None = None
    """`env:NAME` or `file:PATH`: the role's password; left out, where the server asks none."""
    authorities: str | None = None
    """PEM file of the authorities by which the server's certificate may be signed; left out, the system's."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`limits`: what one request may take."""

    source_bytes: Positive = 8 << 30
    """Most bytes of one answer of a store, compressed and decompressed."""
    compression_ratio: Positive = 200
    """Most times that a compressed answer of a store may be as large decompressed, beyond its first MiB."""
    record_bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 30)] = 1 << 20
    """Most bytes of one record; at most 1 GiB."""
    record_fields: Positive = 1024
    """Most fields of one record."""
    sheet_bytes: Positive = 64 << 20
    """Most bytes that are unpacked of one workbook (XLSX); reading it takes four times as much memory."""
    sheet_cells: Positive = 2_000_000
    """Most cells of a sheet (XLSX): its rows times its columns, up to the last of each; each takes some
    hundred bytes of memory. Most texts that a workbook's cells share, too."""
    sheet_ratio: Positive = 200
    """How many times larger a part of a workbook (XLSX) may be than what it is packed to."""
    row_group_bytes: Positive = 128 << 20
    """Arrow: most bytes of one record batch, of which a row takes 16 at least. Parquet: most bytes of the
    pages of one row group that are read at once; of each column that an answer needs, the largest page and
    the dictionary."""
    expansion: Positive = 1000
    """Arrow and Parquet: how many times its own bytes a document may become once it is decompressed."""
    stall_seconds: Positive = 30
    """How long a client may leave what is sent to it untaken before its connection is cut."""
    header_bytes: Positive = 16 << 10
    """Most bytes of a request line or of one header field; of a whole head, four times as many."""
    head_seconds: Positive = 15
    """How long a client may take for TLS, and again for the head of a request."""
    connections: Positive = 4096
    """Most connections of clients; more are closed at once."""
    connections_per_address: Positive = 1024
    """Most of one address, of IPv6 one network of 64 bits; `listen.balancers` are not held to it."""
    requests_per_address: Positive = 512
    """Most requests that one address may have running."""
    requests_per_minute_per_address: Positive = 60_000
    """Most requests that one address may begin in a minute, malformed ones among them. Of what one of
    `listen.balancers` passes on and cannot be read, the address is its own."""
    requests_per_subject: Positive = 128
    """Most requests that one subject may have running, three quarters of them for reports of one store."""
    requests_per_minute_per_subject: Positive = 12_000
    """Most requests that one subject may begin in a minute."""
    sort_bytes: Positive = 32 << 20
    """Most bytes of cells of an answer that is sorted, see `ordered_by`; it takes five times as much."""
    sorts: Positive = 4
    """Most answers that are sorted at once, of which one subject may have a quarter, and one store's reports
    three quarters."""
    group_bytes: Positive = 8 << 20
    """Most bytes of the values by which one answer's rows are counted, see `suppress`; a group counts as 200
    more. It takes some times as much."""
    counts: Positive = 16
    """Most answers at once whose rows are counted, of which one subject may have a quarter, and one store's
    reports three quarters."""
    spool_bytes: Positive = 4 << 30
    """Most bytes of one document that is put aside, in a file without a name, because it can only be read
    as a whole, or because its rows are counted first."""
    spools_bytes: Positive = 16 << 30
    """Most bytes of all that is put aside at once."""
    kept_view_bytes: Positive = 256 << 20
    """Most bytes of an answer that is kept for HEAD, for `If-None-Match` and for the ranges that readers of
    Parquet ask for. Of a larger one HEAD tells no size, and whoever asks for a range is given all of it."""
    kept_bytes: Positive = 2 << 30
    """Most bytes of all answers that are kept."""
    kept_seconds: Positive = 60
    """How long an answer is kept."""
    keep_alive_seconds: Positive = 60
    """How long an idle connection is kept."""
    drain_seconds: Positive = 20
    """How long running answers may go on after SIGTERM."""


class StoreLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`stores`: how long stores are waited for, and how often they are asked."""

    connect_seconds: Positive = 5
    """To connect."""
    first_byte_seconds: Positive = 30
    """From asking until the head of an answer is there, retries included; and between two reads."""
    total_seconds: Positive = 3600
    """For a whole answer."""
    connections: Positive = 512
    """Most requests to one store at once; some times what one subject may have running. As many more wait
    for their turn, no longer than for a head; all others are refused at once (503)."""
    retries: Annotated[int, msgspec.Meta(ge=0, le=5)] = 2
    """How often a request is sent again of which nothing has come yet: where the store cannot be connected
    to, or 502, 503 or 504 is the answer, without a `Retry-After`."""
    failures: Positive = 5
    """After how many failures in a row a store is left alone: no connection, no answer in time, an answer
    that breaks off, or 502, 503, 504. So it is, too, once more than half of its last requests failed, four
    times as many."""
    suspend_seconds: Positive = 5
    """For how long at first; its reports are 503 with `Retry-After` meanwhile. Then one request goes to it;
    if it fails, the store is left alone for twice as long, up to a minute."""


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `commands`: a program that prints a secret, for `credential: command:NAME` of a store.

    It is said here, and not in the policies: for it runs as the server does.
    """

    run: Annotated[
        tuple[str, ...], msgspec.Meta(min_length=1, examples=["[/usr/bin/vault, read, …]"])
    ]
    """The program and its arguments, without a shell; in the folder of counterfoil.yaml. It prints the
    secret on one line, up to 8192 bytes, and ends with status 0. What else it says is not kept."""
    environment: tuple[str, ...] = ()
    """The variables that it is given beside `PATH`, `HOME`, `LANG`, `LC_ALL` and `TMPDIR`."""
    timeout_seconds: Positive = 10
    """How long it may take."""
    every_seconds: Positive = 300
    """How long what it prints counts; it is run anew before, and when the store answers 401."""


class Reveal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`reveal`: how many sealed cells may be asked back."""

    cells: Positive = 500
    """Most cells of one request."""
    body_bytes: Positive = 1 << 20
    """Most bytes of one request."""
    cells_per_minute: Positive = 1_000
    """Most cells that one subject may ask for in a minute, those that are not given back too."""
    cells_per_hour: Positive = 10_000
    """Most cells that it may ask for in an hour."""


class Metrics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`metrics`: where a monitoring system reads `/metrics`.

    It presents the certificate of `listen`; without one it must be on a loopback address.
    """

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: Port
    """The TCP port; another one than that of `listen`."""
    token: str
    """`env:NAME` or `file:PATH`: the bearer token that a reader presents, 32 or more characters; read at
    the start."""


class Retain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`retain`: a place for signed checkpoints of the access log that its operator cannot rewrite."""

    folder: str | None = None
    """A folder that is there: a mount of another machine's disk, or one that is written once."""
    url: str | None = None
    """Or an HTTP endpoint that takes a checkpoint as the body of a POST."""
    token: str | None = None
    """`env:NAME` or `file:PATH`: the bearer token for `url`."""
    witness: str | None = None
    """Or a witness, such as `counterfoil log witness` runs: the address under which it takes checkpoints."""
    key: str | None = None
    """The verifier key of the witness, which it prints at its start."""
    every_seconds: Positive = 60
    """Seconds between two checkpoints of one log."""


class Alarms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`alarms`: what somebody should look at now; each is in the server's log and the metrics in any case."""

    webhook: str | None = None
    """An HTTPS address (on a loopback address HTTP too) that takes each alarm as JSON by POST, see Alarms."""
    token: str | None = None
    """`env:NAME` or `file:PATH`: the bearer token for it; read at the start, as is `secret`."""
    secret: str | None = None
    """`env:NAME` or `file:PATH`: the secret, 32 or more characters, that alarms are signed with for it."""
    names: bool = False
    """Whether alarms, in the server's log too, name subjects; left out, they have the access log's ids."""
    refusals: Positive = 20
    """Of how many refusals of one subject's requests, or of one address's without a valid token, an alarm
    tells; of several `workers` each has its share, rounded up …"""
    refusals_seconds: Positive = 300
    """… within how many seconds."""


class Budgets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`budgets`: where it is counted what is spent of limits.yaml, for several servers; see Limits."""

    valkey: str
    """`valkeys://host:port/number` over TLS, or `valkey://…` on a loopback address: one primary, no cluster.
    Needs the extra `valkey`."""
    password: str | None = None
    """`env:NAME` or `file:PATH`: its password; read at the start."""


class Traces(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`traces`: where OpenTelemetry spans of accesses are sent, see Traces. Needs `counterfoil[otel]`."""

    endpoint: str
    """An HTTPS address (on a loopback address HTTP too) that takes OTLP in protobuf by POST, with its path:
    `https://collector.example.com:4318/v1/traces`."""
    token: str | None = None
    """`env:NAME` or `file:PATH`: the bearer token for it; read at the start."""
    one_in: Positive = 1
    """One of so many requests is traced."""
    trusted: tuple[str, ...] = ()
    """Addresses or networks of clients (`10.0.0.7`, `10.1.0.0/24`) whose `traceparent` counts: their trace
    goes on, or is not taken where they do not take it. That of all others means nothing. A client is whom
    `listen.balancers` say it is."""

    @property
    def networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """`trusted`, parsed."""
        return tuple(map(ipaddress.ip_network, self.trusted))


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`retention`: how long entries of the access log are kept at least."""

    months: Positive = 36
    """`counterfoil log prune` removes entries that are older; nothing is removed by itself."""


class Logging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`logging`: what the process says of itself on stderr. Accesses are on record in the access log."""

    format: Literal["text", "json"] = "text"
    """Lines for people, or one JSON object a line: `time` (RFC 3339), `level`, `logger`, `message`, and where
    there is one, `access`, the id of an access. What is wrong with this very file is always said in text."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is said."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """counterfoil.yaml. Relative paths are relative to the file's own folder."""

    policies: str
    """The folder of the policy files."""
    log: str
    """The access log's file; its index and its directory of names lie beside it."""
    database: DatabaseOfLog | None = None
    """The database that holds the access log; then `log` is a copy of it, which each machine keeps for
    itself, to query, verify and publish it. Left out, the file itself is the log."""
    keyring: KeyringFile
    """The keys of pseudonyms, encryption and keyed digests."""
    spool: str | None = None
    """The folder in which large documents are put aside; left out, the system's for temporary files."""
    policies_must_be: Literal["sealed", "committed"] | None = None
    """Take the policy files only as `policies/.lock` has them (`sealed`, by `counterfoil policy seal`), or
    as the git commit has them that the folder is checked out at; left out, as they are."""
    listen: Listen = Listen()
    """Where the proxy is reached."""
    metrics: Metrics | None = None
    """Where the metrics are read; left out, nowhere."""
    traces: Traces | None = None
    """Where spans of accesses are sent; left out, none are made."""
    logging: Logging = Logging()
    """What the process says of itself."""
    heartbeat_seconds: Positive = 60
    """After how long without an event the access log says that it is alive: so that whoever reads it can tell
    a quiet hour from one that was cut out."""
    verify_seconds: Positive = 86_400
    """How often the server verifies the access log itself, for the first time a minute after its start: in a
    process of its own, of about 130 MiB, that takes no time from others. See Alarms."""
    retain: tuple[Retain, ...] = ()
    """Where signed checkpoints of the access log are kept, out of its operator's reach."""
    retention: Retention = Retention()
    """How long the access log is kept."""
    budgets: Budgets | None = None
    """Where it is counted what is spent of limits.yaml; left out, beside the access log, for this server."""
    alarms: Alarms = Alarms()
    """Who is told what somebody should look at now."""
    limits: Limits = Limits()
    """What one request may take."""
    reveal: Reveal = Reveal()
    """How many sealed cells may be asked back."""
    stores: StoreLimits = StoreLimits()
    """How long stores are waited for, and how often they are asked; `limits` of a store may say otherwise."""
    commands: dict[str, Command] = {}
    """By name: programs that print secrets for stores."""
    threads: Positive = 2
    """Threads that decode, transform and encode, of each worker."""
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    """Processes that share the port, each with a log of its own in the access log. What is said of all
    requests together (`connections…`, `requests_per_…`, `sorts`, `counts`, `spools_bytes`, `kept_bytes`,
    `cells_per_minute`, `cells_per_hour`) is divided among them: each has its share, rounded down, and at
    least 1. Where a share is less than what one request may take (`spool_bytes`, `kept_view_bytes`, `cells`),
    that is lowered to it, and said at the start. A core each is as many as pay."""


def share(settings: Settings) -> Settings:
    """What each of the workers may take: its part of what all may take together.

    PROMISE 4 (bounded memory): more workers are no more of what is bounded.
    """

    def of(all_together: int) -> int:
        return max(1, all_together // settings.workers)

    limits, reveal, stores = settings.limits, settings.reveal, settings.stores
    spools, kept = of(limits.spools_bytes), of(limits.kept_bytes)
    minute, hour = of(reveal.cells_per_minute), of(reveal.cells_per_hour)
    return msgspec.structs.replace(
        settings,
        limits=msgspec.structs.replace(
            limits,
            connections=of(limits.connections),
            connections_per_address=of(limits.connections_per_address),
            requests_per_address=of(limits.requests_per_address),
            requests_per_minute_per_address=of(limits.requests_per_minute_per_address),
            requests_per_subject=of(limits.requests_per_subject),
            requests_per_minute_per_subject=of(limits.requests_per_minute_per_subject),
            sorts=of(limits.sorts),
            counts=of(limits.counts),
            spools_bytes=spools,
            spool_bytes=min(limits.spool_bytes, spools),
            kept_bytes=kept,
            kept_view_bytes=min(limits.kept_view_bytes, kept),
        ),
        reveal=msgspec.structs.replace(
            reveal,
            cells=min(reveal.cells, minute, hour),
            cells_per_minute=minute,
            cells_per_hour=hour,
        ),
        stores=msgspec.structs.replace(stores, connections=of(stores.connections)),
    )


def lowered(settings: Settings) -> Iterator[tuple[str, int, int]]:
    """What one request may take that is more than a worker's share: its name, what is set, the share."""
    part = share(settings)
    for section, name in (
        ("limits", "spool_bytes"),
        ("limits", "kept_view_bytes"),
        ("reveal", "cells"),
    ):
        whole, own = (getattr(getattr(each, section), name) for each in (settings, part))
        if own < whole:
            yield name, whole, own
