"""An entry of `stores` -> a store, with what the proxy presents to it; every fault noted in its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from proxy import addresses
from proxy.catalogue.entries import OAuthEntry, StoreEntry, TlsEntry
from proxy.catalogue.parameters import Note
from proxy.client_tls import fault_of
from proxy.credentials import (
    SYSTEM,
    Basic,
    Bearer,
    ClientCredentials,
    Credential,
    Secret,
    Tls,
)
from proxy.documents import nearest, read_file
from proxy.report import Store

_MOST_CREDENTIAL: Final = 8192
_MOST_PEM: Final = 1 << 20
_KINDS: Final = ("env", "file", "command")
_CREDENTIAL = re.compile(r"[\x21-\x7e]+\Z")
_WORDS = re.compile(r"[\x20-\x7e]*\Z")
_USER = re.compile(r"[\x20-\x39\x3b-\x7e]+\Z")


class StoreReader:
    """Makes stores; `files` are those that their credentials are in, from the folder.

    Without a folder nothing beside the text is looked for, and stores have no credentials.
    """

    def __init__(
        self,
        folder: Path | None,
        environment: Mapping[str, str],
        commands: frozenset[str],
        closed: frozenset[Path],
    ) -> None:
        self.files: set[str] = set()
        self._folder = folder
        self._environment = environment
        self._commands = commands
        self._closed = closed

    def store(self, name: str, entry: StoreEntry, fault: Note) -> Store:
        """The store, as far as it can be made."""
        wrong = addresses.fault_of(entry.url, loopback=entry.loopback)
        if wrong is not None:
            hint = "write it as `https://reports.example.com/api`"
            if wrong == addresses.LOOPBACK:
                hint = "add that beside the `url`"
            fault(wrong, "url", hint=hint)
        limits = {
            "connect": entry.limits.connect_seconds,
            "first_byte": entry.limits.first_byte_seconds,
            "total": entry.limits.total_seconds,
            "connections": entry.limits.connections,
            "retries": entry.limits.retries,
            "failures": entry.limits.failures,
            "suspend": entry.limits.suspend_seconds,
        }
        return Store(
            name=name,
            url=entry.url.removesuffix("/"),
            credential=self._credential(entry, fault),
            tls=self._tls(entry.tls, entry.url, fault, "tls"),
            limits=tuple((key, value) for key, value in limits.items() if value is not None),
            loopback=entry.loopback,
            compression=entry.compression,
        )

    def _credential(self, entry: StoreEntry, fault: Note) -> Credential | None:
        kinds = {"credential": entry.credential, "basic": entry.basic, "oauth": entry.oauth}
        given = [kind for kind, value in kinds.items() if value is not None]
        if len(given) > 1:
            hint = "keep one of them"
            fault("`credential`, `basic` and `oauth` exclude each other", given[1], hint=hint)
            return None
        if entry.credential is not None:
            token = self._secret(entry.credential, fault, "credential")
            return None if token is None else Bearer(token=token)
        if entry.basic is not None:
            if not _USER.match(entry.basic.user):
                hint = "give a user of ASCII characters without a colon"
                fault("such a user cannot be presented", "basic", "user", hint=hint)
            password = self._secret(entry.basic.password, fault, "basic", "password")
            return None if password is None else Basic(user=entry.basic.user, password=password)
        if entry.oauth is not None:
            return self._oauth(entry.oauth, fault)
        return None

    def _oauth(self, entry: OAuthEntry, fault: Note) -> Credential | None:
        wrong = addresses.fault_of(entry.token_url, loopback=entry.loopback)
        if wrong is not None:
            hint = "write it as `https://id.example.com/oauth2/token`"
            if wrong == addresses.LOOPBACK:
                hint = "add that beside the `token_url`"
            fault(wrong, "oauth", "token_url", hint=hint)
        elif entry.token_url.startswith("http:") and not addresses.is_local(entry.token_url):
            hint = "write `https://…`"
            message = "a token endpoint is asked over https, or on this machine"
            fault(message, "oauth", "token_url", hint=hint)
        for name in ("client", "scope", "audience", "resource"):
            value = getattr(entry, name)
            if not _WORDS.match(value) or (name == "client" and not value):
                hint = "give it as the token endpoint knows it, in ASCII"
                fault(f"`{name}` is empty or not plain text", "oauth", name, hint=hint)
        secret = self._secret(entry.secret, fault, "oauth", "secret")
        tls = self._tls(entry.tls, entry.token_url, fault, "oauth", "tls")
        if secret is None:
            return None
        return ClientCredentials(
            token_url=entry.token_url,
            client=entry.client,
            secret=secret,
            form=entry.authentication == "form",
            scope=entry.scope,
            audience=entry.audience,
            resource=entry.resource,
            loopback=entry.loopback,
            tls=tls,
        )

    def _secret(self, reference: str, fault: Note, *path: str) -> Secret | None:
        """What a reference refers to; no message repeats more than the name."""
        kind, _, place = reference.partition(":")
        if kind not in _KINDS or not place:
            hint = "put the credential itself there, never into this file"
            message = "a credential is written as `env:NAME`, `file:PATH` or `command:NAME`"
            fault(message, *path, hint=hint)
            return None
        if self._folder is None:
            return None
        if kind == "command":
            if place not in self._commands:
                hint = nearest(place, self._commands)
                fault(f"counterfoil.yaml has no command `{place}`", *path, hint=hint)
            return Secret(kind=kind, place=place)
        if kind == "env":
            found = self._environment.get(place)
            if found is None:
                hint = "set it where the proxy is started, or write `file:PATH`"
                fault(f"the environment variable `{place}` is not set", *path, hint=hint)
                return None
        else:
            found = self._content(place, _MOST_CREDENTIAL, fault, *path)
            if found is None:
                return None
            found = found.removesuffix("\n").removesuffix("\r")
            place = str(self._folder / place)
        if not _CREDENTIAL.match(found):
            hint = "put the token alone there, without blanks, on one line"
            message = "the credential is empty or has characters that no token has"
            fault(message, *path, hint=hint)
            return None
        return Secret(kind=kind, place=place, value=found)

    def _tls(self, entry: TlsEntry, url: str, fault: Note, *path: str) -> Tls:
        if entry == TlsEntry():
            return SYSTEM
        if url.startswith("http:"):
            fault("`tls` is for `https`", *path, hint="write `https://…`, or take it out")
        if (entry.certificate is None) != (entry.key is None):
            fault("`certificate` and `key` go together", *path, hint="give both or none")
            return SYSTEM
        if self._folder is None:
            return SYSTEM
        names = {"authority": entry.authority, "certificate": entry.certificate, "key": entry.key}
        found = {
            member: self._content(place, _MOST_PEM, fault, *path, member)
            for member, place in names.items()
            if place is not None
        }
        if None in found.values():
            return SYSTEM
        tls = Tls(**found)
        wrong = fault_of(tls)
        if wrong is not None:
            fault(wrong, *path, hint="give PEM files, the key that of the certificate")
        return tls

    def _content(self, place: str, most: int, fault: Note, *path: str) -> str | None:
        """The text of a credential's file."""
        assert self._folder is not None
        self.files.add(place)
        try:
            file = self._folder / place
            if file.resolve() in self._closed:
                raise OSError(None, "it opens the proxy's own doors")
            raw = read_file(file, most=most)
        except OSError as exc:
            hint = "name a file from the folder of policies that the proxy may read"
            message = f"the credential's file cannot be read: {exc.strerror}"
            fault(message, *path, hint=hint)
            return None
        return raw.decode("latin-1")
