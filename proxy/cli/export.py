"""`counterfoil log export`: the access log's events for a SIEM or an archive."""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import ssl
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

import click

from proxy import documents
from proxy.access import AccessEvent
from proxy.addresses import is_loopback_name, literal
from proxy.audit import Leaf, Reader, ocsf
from proxy.audit.export import Cursor, Export, Form, GaveUp
from proxy.audit.receivers import File, Http, Lines, Receiver, Refused, Syslog
from proxy.cli.log import Moment, kept_up, log_option, resolve_log_path, settings_option, visible
from proxy.cli.operated import note
from proxy.errors import CounterfoilError

_SECURE: Final = {"https": 443, "syslog+tls": 6514}
_PLAIN: Final = {"http": 80, "syslog+tcp": 601}
_TOKEN: Final = re.compile(r"[!-~]+\Z")
_MOST_TOKEN: Final = 64 << 10
_FILE: Final = click.Path(path_type=Path, dir_okay=False, exists=True)
GAVE_UP: Final = 10
REFUSED: Final = 20


@click.command()
@log_option
@settings_option
@click.option(
    "--to",
    "target",
    default="-",
    show_default=True,
    help="A file, https://host/path, syslog+tls://host[:6514], or - for standard output. On a loopback"
    " address http:// and syslog+tcp:// too.",
)
@click.option(
    "--as",
    "form",
    type=click.Choice(["ocsf", "json"]),
    default="ocsf",
    show_default=True,
    help="Records of OCSF 1.8, or the stored bytes.",
)
@click.option(
    "--cursor",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file that remembers how far the receiver has got; one for each receiver.",
)
@click.option(
    "--since",
    type=Moment(),
    help="Where the cursor is new: from then on. RFC 3339, a day, or 7d, 2h ago.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new records until SIGTERM.")
@click.option(
    "--token", help="env:NAME or file:PATH: the bearer token that an HTTP endpoint is given."
)
@click.option("--ca", type=_FILE, help="Trust the certificates of this authority, and no other's.")
@click.option("--certificate", type=_FILE, help="The certificate to present, with --key.")
@click.option("--key", type=_FILE)
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=300,
    show_default=True,
    help="For how many seconds a receiver is asked again that takes no records.",
)
@click.option(
    "--names", is_flag=True, help="With the names of subjects, as far as the directory has them."
)
def export(
    log_file: Path | None,
    settings: Path,
    *,
    target: str,
    form: str,
    cursor: Path | None,
    since: datetime | None,
    follow: bool,
    token: str | None,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    patience: float,
    names: bool,
) -> None:
    """Deliver the access log's events, each at least once and in their order.

    With --cursor it goes on where it stopped, however it stopped; a record that is delivered twice has
    the same `metadata.uid`. Exits with 0 where all were taken, 10 where some were not, for the receiver took
    none for as long as --patience says or the export was stopped, 20 where the receiver refuses them.

    Reads the log's file itself, outside enforcement: no policy decides this use of it, and it is on record as
    the operator's.
    """
    if math.isnan(patience):  # it is in any range, and never over
        raise click.BadParameter("write a number", param_hint="--patience")
    if names and form == "json":
        raise click.UsageError("--names is for --as ocsf: the stored bytes hold no names")
    if cursor is not None and os.path.realpath(cursor) == os.path.realpath(target):
        raise click.UsageError("--to and --cursor are the same file")
    logging.basicConfig(level=logging.WARNING, format="counterfoil: %(message)s")
    tls = _tls(ca, certificate, key)
    receiver = _receiver(target, tls, token=_token(token, os.environ))
    note("log export", settings, log_file)
    stop = threading.Event()
    with ExitStack() as held:
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, lambda *_: stop.set())
            held.callback(signal.signal, number, before)
        reader = held.enter_context(Reader(resolve_log_path(log_file, settings)))
        held.enter_context(closing(receiver))
        refresh = held.enter_context(kept_up(log_file, settings))
        place = held.enter_context(closing(Cursor(cursor))) if cursor is not None else None
        run = Export(
            reader, receiver, _form(form, reader if names else None), cursor=place, patience=patience,
            stop=stop, refresh=refresh,
        )  # fmt: skip
        status = 0
        try:
            if not run.run(since=since, follow=follow) and not follow:
                status = GAVE_UP
        except (GaveUp, Refused) as error:
            status = GAVE_UP if isinstance(error, GaveUp) else REFUSED
            click.echo(f"counterfoil: {visible(str(error))}", err=True)
        finally:
            last = f", up to {run.last.log}[{run.last.index}]" if run.last is not None else ""
            click.echo(f"{run.count} records to {visible(receiver.name + last)}", err=True)
    sys.exit(status)


def _form(form: str, reader: Reader | None) -> Form:
    if form == "json":
        return lambda leaf, _: leaf.entry

    def made(leaf: Leaf, event: AccessEvent) -> bytes:
        name = reader.principal(event.subject) if reader is not None else ""
        return ocsf.line(ocsf.record(leaf, event, name=name))

    return made


def _token(source: str | None, environment: Mapping[str, str]) -> str | None:
    """The token that `source` names; raises CounterfoilError, which never repeats it."""
    if source is None:
        return None
    kind, _, rest = source.partition(":")
    if kind not in ("env", "file") or not rest:
        raise CounterfoilError("--token names no source: write env:NAME or file:PATH")
    if kind == "env":
        token = environment.get(rest, "")
    else:
        try:
            token = (
                documents.read_file(Path(rest), most=_MOST_TOKEN).decode("latin-1").strip("\r\n")
            )
        except OSError as error:
            raise CounterfoilError(f"the token cannot be read: {error.strerror}") from None
    if not _TOKEN.match(token):
        raise CounterfoilError("the token must have characters of ASCII, and no blank")
    return token


def _tls(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key go together")
    try:
        context = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        said = getattr(error, "reason", None) or getattr(error, "strerror", None) or "not PEM"
        raise CounterfoilError(f"--ca, --certificate or --key cannot be loaded: {said}") from None
    return context


def _receiver(target: str, tls: ssl.SSLContext, *, token: str | None) -> Receiver:
    """What `--to` names. Raises CounterfoilError, which repeats no part of it that may be a secret."""
    scheme, found, _ = target.partition("://")
    if found:
        return _remote(scheme, target, tls, token=token)
    if token is not None:
        raise CounterfoilError("--token is for https://")
    return Lines() if target == "-" else File(Path(target))


def _remote(scheme: str, target: str, tls: ssl.SSLContext, *, token: str | None) -> Receiver:
    if scheme not in (*_SECURE, *_PLAIN):
        known = ", ".join(f"{each}://" for each in (*_SECURE, *_PLAIN))
        raise CounterfoilError(f"--to is no receiver: write a file's path, or one of {known}")
    try:
        parts = urlsplit(target)
        host, port = parts.hostname, parts.port or {**_SECURE, **_PLAIN}[scheme]
    except ValueError:
        host, port, parts = None, 0, SplitResult("", "", "", "", "")
    if not host or parts.username is not None or parts.fragment or not _TOKEN.match(target):
        raise CounterfoilError("--to is no address: write scheme://host[:port], without a user")
    address = literal(host)
    is_loopback = is_loopback_name(host) if address is None else address.is_loopback
    if scheme in _PLAIN and not is_loopback:
        raise CounterfoilError(
            f"--to is not encrypted on its way: {scheme}:// is for a loopback address alone"
        )
    context = tls if scheme in _SECURE else None
    if scheme.startswith("http"):
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Http(host, port, path, token=token, tls=context)
    if token is not None:
        raise CounterfoilError("--token is for https://")
    if parts.path.strip("/") or parts.query:
        raise CounterfoilError(f"--to is no address: {scheme}:// has no path")
    return Syslog(host, port, tls=context)
