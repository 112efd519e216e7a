"""The files that settings, catalogue and issuers name, and who may read or change them."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Final, NamedTuple

from proxy import documents
from proxy.catalogue.entries import CatalogueFile, StoreEntry, TlsEntry
from proxy.config import Config
from proxy.doctor.finding import Finding, State
from proxy.errors import Faulty
from proxy.identity.entries import SubjectsFile

_OPEN: Final = stat.S_IRWXO | stat.S_IWGRP
"""What nobody may do with a secret; its group may read it, as Debian's `ssl-cert` does."""

_RENEW: Final = "take that away, and put another secret there: this one may be known"
_LOOK: Final = "take that away, once it is seen to be what it should be"


class Named(NamedTuple):
    """A file, what names it, and whether what it holds is a secret."""

    path: Path
    by: str
    secret: bool = False


def exposed(config: Config, seen: Collection[Path]) -> Iterator[Finding]:
    """A fault for each secret that others may read, and for all else that they may change.

    Of what is `seen` it is known already who may change it.
    """
    told = {_told_as(each) for each in seen} | {each.resolve() for each in seen}
    for each in (*_of_settings(config), *_of_policies(config)):
        path = _told_as(each.path)
        mode = _mode(path)
        if mode is None or not stat.S_ISREG(mode):
            continue  # what misses it tells so; a device's mode is the system's, /dev/null's too
        if each.secret and mode & _OPEN:
            text = f"others may read or change the secret that {each.by} names"
            yield _fault(path, text, _RENEW, "chmod g-w,o=")
        elif mode & stat.S_IWOTH and path not in told:
            told.add(path)
            text = f"anybody on this machine may change what {each.by} names"
            yield _fault(path, text, _LOOK, "chmod o-w")
        for folder in sorted({path.parent, path.resolve().parent} - told):
            told.add(folder)
            mode = _mode(folder) or 0
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                text = (
                    f"anybody on this machine may put another file there for what {each.by} names"
                )
                yield _fault(folder, text, _LOOK, "chmod o-w")


def _told_as(path: Path) -> Path:
    """Without the `..` by which policies name what lies beside them."""
    return path.parent.resolve() / path.name


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return None


def _fault(path: Path, text: str, fix: str, command: str) -> Finding:
    return Finding(
        check="files",
        what=str(path),
        state=State.FAIL,
        text=text,
        fix=fix,
        command=f"{command} {quote(str(path))}",
    )


def _of_settings(config: Config) -> Iterator[Named]:
    settings = config.settings
    listen, database = settings.listen, settings.database
    yield Named(config.keyring, "`keyring.file`", secret=True)
    sources = {
        "keyring.key_encryption_key": settings.keyring.key_encryption_key,
        "metrics.token": None if settings.metrics is None else settings.metrics.token,
        "alarms.token": settings.alarms.token,
        "alarms.secret": settings.alarms.secret,
        "budgets.password": None if settings.budgets is None else settings.budgets.password,
        "database.password": None if database is None else database.password,
        "traces.token": None if settings.traces is None else settings.traces.token,
        **{f"retain[{n}].token": each.token for n, each in enumerate(settings.retain)},
    }
    for name, source in sources.items():
        yield from _secret(config.folder, source, f"`{name}`")
    files = {"listen.certificate": listen.certificate}
    if listen.clients is not None:
        files["listen.clients.authority"] = listen.clients.authority
        files["listen.clients.revoked"] = listen.clients.revoked
    if database is not None:
        files["database.authorities"] = database.authorities
    for name, file in files.items():
        if file is not None:
            yield Named(config.path(file), f"`{name}`")
    for name, command in settings.commands.items():
        program = shutil.which(command.run[0], path=config.environment.get("PATH"))
        for word in (program or command.run[0], *command.run[1:]):
            path = config.path(word)
            with suppress(OSError, ValueError):  # a word need not be a path
                if path.is_file():
                    yield Named(path, f"`commands.{name}`")


def _of_policies(config: Config) -> Iterator[Named]:
    folder = config.path(config.settings.policies)
    with suppress(OSError, Faulty):  # told by `policies`
        text = documents.read_file(folder / "reports.yaml", most=documents.MOST_BYTES)
        catalogue = documents.load(text, CatalogueFile, file="reports.yaml").value
        for name, store in catalogue.stores.items():
            yield from _of_store(folder, name, store)
    with suppress(OSError, Faulty):
        text = documents.read_file(folder / "subjects.yaml", most=documents.MOST_BYTES)
        for issuer in documents.load(text, SubjectsFile, file="subjects.yaml").value.issuers:
            of = f"of issuer {issuer.issuer}"
            if issuer.keys.file is not None:
                yield Named(folder / issuer.keys.file, f"`keys` {of}")
            if issuer.introspection is not None:
                yield from _secret(folder, issuer.introspection.secret, f"`introspection` {of}")


def _of_store(folder: Path, name: str, store: StoreEntry) -> Iterator[Named]:
    of = f"of store {name}"
    yield from _secret(folder, store.credential, f"`credential` {of}")
    yield from _tls(folder, store.tls, f"`tls` {of}")
    if store.basic is not None:
        yield from _secret(folder, store.basic.password, f"`basic` {of}")
    if store.oauth is not None:
        yield from _secret(folder, store.oauth.secret, f"`oauth` {of}")
        yield from _tls(folder, store.oauth.tls, f"`oauth.tls` {of}")


def _tls(folder: Path, tls: TlsEntry, by: str) -> Iterator[Named]:
    for file in (tls.authority, tls.certificate):
        if file is not None:
            yield Named(folder / file, by)
    if tls.key is not None:
        yield Named(folder / tls.key, by, secret=True)


def _secret(folder: Path, source: str | None, by: str) -> Iterator[Named]:
    kind, _, place = (source or "").partition(":")
    if kind == "file":
        yield Named(folder / place, by, secret=True)
