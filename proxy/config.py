"""counterfoil.yaml -> settings; the one place where paths and the environment are read for them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from proxy import documents
from proxy.audit.checkpoint import VerifierKey
from proxy.audit.postgres.database import Database
from proxy.documents import Document
from proxy.errors import CounterfoilError, Fault, Faulty
from proxy.front import is_loopback, is_network, listening_faults
from proxy.settings import Budgets, Metrics, Retain, Settings, Traces

_TOKEN = re.compile(r"[\x21-\x7e]{32,}\Z")
_PLAIN = re.compile(r"[\x21-\x7e]+\Z")
_MOST_TOKEN = 4 << 10
_DATABASE = "write `postgresql://ROLE@HOST:PORT/DATABASE`, and `password: env:NAME` beside it"
_SOURCES = {"env": "NAME", "file": "PATH"}
_KEK = ("keyring", "key_encryption_key")
_KEK_SOURCES = {**_SOURCES, "credential": "NAME", "vault": "URL"}


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Settings with the folder that their relative paths start from."""

    settings: Settings
    folder: Path
    environment: Mapping[str, str]

    def path(self, relative: str) -> Path:
        """A path of the settings, absolute."""
        return self.folder / relative

    @property
    def keyring(self) -> Path:
        """The keyring's file."""
        return self.path(self.settings.keyring.file)

    @property
    def key_files(self) -> tuple[Path, ...]:
        """The files that the keyring is opened with: its own, and that of the key-encryption key."""
        kind, _, place = self.key_encryption_key.partition(":")
        return (self.keyring, Path(place)) if kind == "file" else (self.keyring,)

    @property
    def key_encryption_key(self) -> str:
        """The keyring's key specification, with its path made absolute."""
        return self.source(self.settings.keyring.key_encryption_key)

    @property
    def lent(self) -> Mapping[str, str]:
        """The environment without what opens the proxy's own doors.

        Whoever edits policies names the variables that stores are shown.
        """
        own = {source[4:] for _, source in _secrets(self.settings) if source.startswith("env:")}
        return {
            name: value
            for name, value in self.environment.items()
            if name not in own and not name.startswith(("VAULT_", "BAO_"))
        }

    @property
    def closed(self) -> frozenset[Path]:
        """The files that open them, for the same reason."""
        sources = [source for _, source in _secrets(self.settings)]
        files = [source.partition(":")[2] for source in sources if source.startswith("file:")]
        files.append(self.settings.keyring.file)
        handed_over = self.environment.get("CREDENTIALS_DIRECTORY")
        kind, _, name = self.settings.keyring.key_encryption_key.partition(":")
        if kind == "credential" and handed_over:
            files.append(f"{handed_over}/{name}")
        if self.settings.listen.key is not None:
            files.append(self.settings.listen.key)
        return frozenset(self.path(each).resolve() for each in files)

    def source(self, spec: str) -> str:
        """Where something is, `env:NAME` or `file:PATH`, with its path made absolute."""
        kind, _, rest = spec.partition(":")
        return f"file:{self.path(rest)}" if kind == "file" else spec

    @property
    def database(self) -> Database | None:
        """The database of the access log; raises CounterfoilError, which never repeats its password."""
        given = self.settings.database
        if given is None:
            return None
        password = None
        if given.password is not None:
            password = self._token("database", given.password, what="password")
            if not password:
                raise CounterfoilError("the password of `database` is empty")
        authorities = None if given.authorities is None else self.path(given.authorities)
        try:
            found = Database.parse(given.url)
        except ValueError as exc:
            raise CounterfoilError(f"`url` of `database`: {exc}") from None
        return dataclasses.replace(found, password=password, authorities=authorities)

    def metrics_token(self, metrics: Metrics) -> str:
        """The token that readers of the metrics present; raises CounterfoilError, which never repeats it."""
        token = self._token("metrics", metrics.token)
        if not _TOKEN.match(token):
            raise CounterfoilError(
                "the token of `metrics` must have 32 or more characters of ASCII, and no blank:"
                " `openssl rand -hex 32` makes one"
            )
        return token

    def retain_token(self, retain: Retain) -> str | None:
        """The token that a URL of `retain` is given; raises CounterfoilError, which never repeats it."""
        return None if retain.token is None else self._plain("retain", retain.token)

    def budgets_password(self, budgets: Budgets) -> str | None:
        """The password of the Valkey; raises CounterfoilError, which never repeats it."""
        if budgets.password is None:
            return None
        return self._plain("budgets", budgets.password, what="password")

    def traces_token(self, traces: Traces) -> str | None:
        """The token for the receiver of traces; raises CounterfoilError, which never repeats it."""
        return None if traces.token is None else self._plain("traces", traces.token)

    def alarms_token(self) -> str | None:
        """The token for the webhook; raises CounterfoilError, which never repeats it."""
        source = self.settings.alarms.token
        return None if source is None else self._plain("alarms", source)

    def alarms_secret(self) -> bytes | None:
        """What alarms are signed with; raises CounterfoilError, which never repeats it."""
        source = self.settings.alarms.secret
        if source is None:
            return None
        secret = self._token("alarms", source, what="secret")
        if not _TOKEN.match(secret):
            raise CounterfoilError(
                "the secret of `alarms` must have 32 or more characters of ASCII, and no blank:"
                " `openssl rand -hex 32` makes one"
            )
        return secret.encode()

    def _plain(self, of: str, source: str, *, what: str = "token") -> str:
        found = self._token(of, source, what=what)
        if not _PLAIN.match(found):
            raise CounterfoilError(
                f"the {what} of `{of}` must have characters of ASCII, and no blank"
            )
        return found

    def _token(self, of: str, source: str, *, what: str = "token") -> str:
        kind, _, rest = source.partition(":")
        if kind == "env":
            if rest not in self.environment:
                text = (
                    f"the {what} of `{of}` is missing: the environment variable `{rest}` is not set"
                )
                raise CounterfoilError(text)
            return self.environment[rest]
        try:
            raw = documents.read_file(self.path(rest), most=_MOST_TOKEN)
        except OSError as exc:
            text = f"the {what} of `{of}` cannot be read: {exc.strerror}"
            raise CounterfoilError(text) from exc
        return raw.decode("latin-1").removesuffix("\n").removesuffix("\r")


def load(file: Path, environment: Mapping[str, str]) -> Config:
    """Read counterfoil.yaml; raises Faulty with all of its faults."""
    try:
        text = documents.read_file(file, most=documents.MOST_BYTES)
    except OSError as exc:
        why = f"cannot be read: {exc.strerror}; name the file of the settings with --config"
        raise Faulty([Fault(file=str(file), message=why)]) from exc
    document = documents.load(text, Settings, file=str(file))
    faults = list(_faults(document))
    if faults:
        raise Faulty(faults)
    return Config(settings=document.value, folder=file.resolve().parent, environment=environment)


def _secrets(settings: Settings) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where the settings name a secret, and the source that they name."""
    yield _KEK, settings.keyring.key_encryption_key
    if settings.metrics is not None:
        yield ("metrics", "token"), settings.metrics.token
    alarms, budgets, database = settings.alarms, settings.budgets, settings.database
    traces = settings.traces
    named: list[tuple[tuple[str | int, ...], str | None]] = [
        (("alarms", "token"), alarms.token),
        (("alarms", "secret"), alarms.secret),
        (("budgets", "password"), None if budgets is None else budgets.password),
        (("database", "password"), None if database is None else database.password),
        (("traces", "token"), None if traces is None else traces.token),
        *((("retain", n, "token"), each.token) for n, each in enumerate(settings.retain)),
    ]
    for path, source in named:
        if source is not None:
            yield path, source


def _faults(document: Document[Settings]) -> list[Fault]:
    settings, faults = document.value, []

    def fault(path: tuple[str | int, ...], message: str, hint: str) -> None:
        line, column = document.place(*path)
        faults.append(
            Fault(file=document.file, line=line, column=column, message=message, hint=hint)
        )

    listen = settings.listen
    for at, message, hint in listening_faults(listen):
        fault(("listen", *at), message, hint)
    metrics = settings.metrics
    if metrics is not None and listen.certificate is None and not is_loopback(metrics.host):
        fault(
            ("metrics",),
            "without a certificate the metrics are served on a loopback address only",
            "give `certificate` and `key` in `listen`, or listen on 127.0.0.1",
        )
    reveal = settings.reveal
    if reveal.cells > min(reveal.cells_per_minute, reveal.cells_per_hour):
        fault(
            ("reveal",),
            "`cells` is more than may be asked for in a minute, or in an hour",
            "give a smaller `cells`, or a larger `cells_per_minute` and `cells_per_hour`",
        )
    if settings.budgets is not None:
        for message, hint in _not_a_valkey(settings.budgets.valkey):
            fault(("budgets", "valkey"), message, hint)
    alarms = settings.alarms
    for name, source in (("token", alarms.token), ("secret", alarms.secret)):
        if source is not None and alarms.webhook is None:
            fault(("alarms", name), f"`{name}` is for a `webhook`", "take it out")
    for message, hint in _not_an_address("webhook", alarms.webhook):
        fault(("alarms", "webhook"), message, hint)
    if settings.traces is not None:
        for message, hint in _not_an_address("endpoint", settings.traces.endpoint):
            fault(("traces", "endpoint"), message, hint)
        for number, network in enumerate(settings.traces.trusted):
            if not is_network(network):
                hint = "write `10.0.0.7` or `10.1.0.0/24`"
                fault(("traces", "trusted", number), f"`{network}` is no address or network", hint)
    for number, retain in enumerate(settings.retain):
        for message, hint in _not_retained(retain):
            fault(("retain", number), message, hint)
    database = settings.database
    if database is not None:
        try:
            Database.parse(database.url)
        except ValueError as exc:
            fault(("database", "url"), f"`url` is not right: {exc}", _DATABASE)
    for path, source in _secrets(settings):
        known = _KEK_SOURCES if path == _KEK else _SOURCES
        kind, _, rest = source.partition(":")
        if kind not in known or not rest:
            written = [f"`{each}:{what}`" for each, what in known.items()]
            hint = f"write {', '.join(written[:-1])} or {written[-1]}"
            fault(path, f"`{path[-1]}` names no source", hint)
    return faults


def _not_a_valkey(url: str) -> Iterator[tuple[str, str]]:
    """What is wrong with the address of a Valkey, and what to do."""
    parts = urlsplit(url)
    if parts.password or parts.username:
        yield "a password stands in `valkey`", "put it where `password` says"
    elif parts.scheme not in ("valkey", "valkeys") or not parts.hostname:
        yield "`valkey` is no address", "write `valkeys://host:6379/0`"
    elif parts.scheme == "valkey" and not is_loopback(parts.hostname):
        yield "`valkey` is not encrypted on its way", "write `valkeys://`, or a loopback address"


def _not_an_address(name: str, url: str | None) -> Iterator[tuple[str, str]]:
    """What is wrong with an address that something is sent to, and what to do."""
    parts = urlsplit(url or "https://host")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        yield f"`{name}` is no address", "write `https://host/path`"
    elif parts.scheme == "http" and not is_loopback(parts.hostname):
        yield f"`{name}` is not encrypted on its way", "write `https://`, or a loopback address"


def _not_retained(retain: Retain) -> Iterator[tuple[str, str]]:
    """What is wrong with a place for checkpoints, and what to do."""
    if [retain.folder, retain.url, retain.witness].count(None) != 2:
        yield "it is no place", "give one of `folder`, `url` and `witness`"
    if retain.token is not None and retain.url is None:
        yield "`token` is for a `url`", "take it out"
    for name, url in (("url", retain.url), ("witness", retain.witness)):
        yield from _not_an_address(name, url)
    if (retain.key is None) != (retain.witness is None):
        yield "`witness` and `key` go together", "the witness prints its key at its start"
    elif retain.key is not None:
        try:
            VerifierKey.parse(retain.key)
        except ValueError as exc:
            yield str(exc), "the witness prints its key at its start"
