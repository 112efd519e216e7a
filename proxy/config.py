"""counterfoil.yaml -> settings; the one place where paths and the environment are read for them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from proxy import documents
from proxy.documents import Document
from proxy.errors import CounterfoilError, Fault, Faulty

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_TOKEN = re.compile(r"[\x21-\x7e]{32,}\Z")
_MOST_TOKEN = 4 << 10
Positive = Annotated[int, msgspec.Meta(ge=1)]


class Listen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`listen`: where the proxy is reached."""

    host: str = "127.0.0.1"
    """The address to listen on. Without a certificate it must be a loopback address."""
    port: Port = 8443
    """The TCP port; 0 lets the system choose one, which is printed at the start."""
    certificate: str | None = None
    """PEM file with the server's certificate chain."""
    key: str | None = None
    """PEM file with its private key."""


class KeyringFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`keyring`: the sealed file of master keys, and what opens it."""

    file: str
    """The keyring file, made with mode 0600."""
    key_encryption_key: str
    """`env:NAME` or `file:PATH`: 32 bytes in base64 or hex."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`limits`: what one request may take."""

    source_bytes: Positive = 8 << 30
    """Most bytes of one answer of a store, compressed and decompressed."""
    compression_ratio: Positive = 200
    """Most times that a compressed answer of a store may be as large decompressed, beyond its first MiB."""
    record_bytes: Positive = 1 << 20
    """Most bytes of one record."""
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
    """Most bytes of a request line or of one header field."""
    requests_per_subject: Positive = 128
    """Most requests that one subject may have running."""
    sort_bytes: Positive = 32 << 20
    """Most bytes of cells of an answer that is sorted, see `ordered_by`; it takes five times as much."""
    sorts: Positive = 4
    """Most answers that are sorted at once, of which one subject may have a quarter."""
    spool_bytes: Positive = 4 << 30
    """Most bytes of one document that is put aside, in a file without a name, because it can only be read
    as a whole."""
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
    """`stores`: deadlines towards the stores."""

    connect_seconds: Positive = 5
    """To connect."""
    first_byte_seconds: Positive = 30
    """Between two reads, the first included."""
    total_seconds: Positive = 3600
    """For a whole answer."""
    connections: Positive = 512
    """Most connections to one store; some times what one subject may have running."""


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


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """counterfoil.yaml. Relative paths are relative to the file's own folder."""

    policies: str
    """The folder of the policy files."""
    log: str
    """The access log's file; its index and its directory of names lie beside it."""
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
    limits: Limits = Limits()
    """What one request may take."""
    stores: StoreLimits = StoreLimits()
    """Deadlines towards the stores."""
    threads: Positive = 2
    """Threads that decode, transform and encode."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Settings with the folder that their relative paths start from."""

    settings: Settings
    folder: Path
    environment: Mapping[str, str]

    def path(self, relative: str) -> Path:
        """A path of the settings, absolute."""
        return self.folder / relative

    @property
    def key_encryption_key(self) -> str:
        """The keyring's key specification, with its path made absolute."""
        kind, _, rest = self.settings.keyring.key_encryption_key.partition(":")
        return f"file:{self.path(rest)}" if kind == "file" else f"{kind}:{rest}"

    def metrics_token(self, metrics: Metrics) -> str:
        """The token that readers of the metrics present; raises CounterfoilError, which never repeats it."""
        kind, _, rest = metrics.token.partition(":")
        if kind == "env":
            token = self.environment.get(rest, "")
        else:
            try:
                raw = documents.read_file(self.path(rest), most=_MOST_TOKEN)
            except OSError as exc:
                raise CounterfoilError(
                    f"the token of `metrics` cannot be read: {exc.strerror}"
                ) from exc
            token = raw.decode("latin-1").removesuffix("\n").removesuffix("\r")
        if not _TOKEN.match(token):
            raise CounterfoilError(
                "the token of `metrics` must have 32 or more characters of ASCII, and no blank:"
                " `openssl rand -hex 32` makes one"
            )
        return token


def load(file: Path, environment: Mapping[str, str]) -> Config:
    """Read counterfoil.yaml; raises Faulty with all of its faults."""
    try:
        text = file.read_bytes()
    except OSError as exc:
        raise Faulty([Fault(file=str(file), message=f"cannot be read: {exc.strerror}")]) from exc
    document = documents.load(text, Settings, file=str(file))
    faults = list(_faults(document))
    if faults:
        raise Faulty(faults)
    return Config(settings=document.value, folder=file.resolve().parent, environment=environment)


def _faults(document: Document[Settings]) -> list[Fault]:
    settings, faults = document.value, []

    def fault(path: tuple[str, ...], message: str, hint: str) -> None:
        line, column = document.place(*path)
        faults.append(
            Fault(file=document.file, line=line, column=column, message=message, hint=hint)
        )

    listen = settings.listen
    if (listen.certificate is None) != (listen.key is None):
        fault(("listen",), "`certificate` and `key` go together", "give both or none")
    elif listen.certificate is None and not _is_loopback(listen.host):
        fault(
            ("listen",),
            "without a certificate the proxy listens on a loopback address only",
            "give `certificate` and `key`, or listen on 127.0.0.1",
        )
    metrics = settings.metrics
    if metrics is not None and listen.certificate is None and not _is_loopback(metrics.host):
        fault(
            ("metrics",),
            "without a certificate the metrics are served on a loopback address only",
            "give `certificate` and `key` in `listen`, or listen on 127.0.0.1",
        )
    sources = {("keyring", "key_encryption_key"): settings.keyring.key_encryption_key}
    if metrics is not None:
        sources["metrics", "token"] = metrics.token
    for path, source in sources.items():
        kind, _, rest = source.partition(":")
        if kind not in ("env", "file") or not rest:
            fault(path, f"`{path[-1]}` names no source", "write `env:NAME` or `file:PATH`")
    return faults


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
