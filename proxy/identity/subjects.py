"""subjects.yaml -> issuers: whose tokens count, with which keys, and what their claims mean.

    issuers:
      - issuer: https://id.example.com      # its keys are where it says itself (Discovery)
        prefix: ""                          # user:alice; with `ext/` it is user:ext/alice
        audience: [counterfoil]
        keys: {file: jwks.json}             # or {url: https://id.example.com/jwks.json}
        algorithms: [ES256]                 # of RS256, PS256, ES256, EdDSA; all where left out
        token_type: at+jwt                  # or jwt
        skew: 30                            # seconds by which clocks may differ
        groups: {claim: groups}
        attributes:
          stores: {claim: stores, type: text, many: true}
          region: {type: text, source: people}     # from people.csv; `claim` where left out

`tools` beside `issuers` says which certificates are which tool's (tools.py).

Each issuer has its own prefix, before the names of its users, tools and groups; a name that would
read as another issuer's is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.documents import Document, load, read_file
from proxy.errors import Fault, Faulty
from proxy.identity.entries import IssuerEntry, SubjectsFile
from proxy.identity.fetching import refused_url
from proxy.identity.introspection import Client, Introspector
from proxy.identity.jwks import MOST_BYTES, KeySet
from proxy.identity.single_use import Spent
from proxy.identity.sources import FileKeys, RemoteKeys
from proxy.identity.strict import Malformed
from proxy.identity.subject_faults import issuer_faults, tool_faults
from proxy.identity.tools import Tools
from proxy.subject import AttributeType, Realm

_SECRET = re.compile(r"[\x20-\x7e]{1,1024}\Z")
_MOST_SECRET: Final = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """An attribute of the subject, and the claim that gives it."""

    name: str
    type: AttributeType


@dataclass(frozen=True, kw_only=True, slots=True)
class Issuer:
    """One issuer of tokens."""

    issuer: str
    prefix: str
    audience: frozenset[str]
    source: FileKeys | RemoteKeys
    algorithms: frozenset[str]
    typed: bool
    """Whether only tokens count that say of themselves that they are access tokens (RFC 9068)."""
    client_claims: tuple[str, ...]
    """The claims that name the client."""
    clients: frozenset[str] | None
    """The clients whose tokens count; None: any."""
    skew: int
    single_use: int | None
    """Where each token is good for one request: how many are remembered."""
    spent: Spent
    """Those that were presented, where each is good for one request."""
    introspector: Introspector | None
    groups: str | None
    """The claim that lists groups."""
    attributes: Mapping[str, Claim]
    """Attribute -> the claim that gives it; without those that no claim gives."""
    realm: Realm
    """Its subjects, and what people.csv may say of them."""


def read(
    text: bytes,
    *,
    file: str,
    folder: Path | None,
    environment: Mapping[str, str] | None,
    previous: Iterable[Issuer],
    closed: frozenset[Path] = frozenset(),
) -> tuple[tuple[Issuer, ...], Tools]:
    """The issuers and tools that `text` writes; raises Faulty with all that is wrong with them.

    What was fetched and presented goes on with the issuers of `previous` that are there still. Files that
    are `closed` hold no secret of theirs.
    """
    document = load(text, SubjectsFile, file=file)
    issuers = _Reader(
        document, folder, environment, {each.issuer: each for each in previous}, closed
    ).issuers()
    return issuers, Tools.of(document.value.tools)


class _Reader:
    """Checks what types cannot say, and notes each fault."""

    def __init__(
        self,
        document: Document[SubjectsFile],
        folder: Path | None,
        environment: Mapping[str, str] | None,
        previous: Mapping[str, Issuer],
        closed: frozenset[Path],
    ) -> None:
        self._document = document
        self._folder = folder
        self._environment = environment
        self._previous = previous
        self._closed = closed
        self._faults: list[Fault] = []

    def _fault(self, message: str, *path: str | int, hint: str) -> None:
        self._faults.append(self._document.fault(message, *path, hint=hint))

    def issuers(self) -> tuple[Issuer, ...]:
        """All of them; raises Faulty."""
        entries = self._document.value.issuers
        made = []
        for number, entry in enumerate(entries):
            self._faults += issuer_faults(self._document, number)
            before = self._previous.get(entry.issuer)
            source = self._source(number, entry)
            introspector = self._introspector(number, entry, source)
            if source is None:
                continue
            made.append(
                Issuer(
                    issuer=entry.issuer,
                    prefix=entry.prefix,
                    audience=frozenset(entry.audience),
                    source=source,
                    algorithms=frozenset(entry.algorithms),
                    typed=entry.token_type == "at+jwt",  # noqa: S105 - the name of a type
                    client_claims=entry.client_claims,
                    clients=None if entry.clients is None else frozenset(entry.clients),
                    skew=entry.skew,
                    single_use=entry.single_use,
                    spent=before.spent if before is not None else Spent(),
                    introspector=introspector,
                    groups=entry.groups.claim if entry.groups else None,
                    attributes={
                        name: Claim(
                            name=each.claim, type=AttributeType(type=each.type, many=each.many)
                        )
                        for name, each in entry.attributes.items()
                        if each.claim is not None
                    },
                    realm=_realm(entry, entries),
                )
            )
        self._faults += tool_faults(
            self._document, tuple(_realm(entry, entries) for entry in entries)
        )
        if self._faults:
            raise Faulty(self._faults)
        return tuple(made)

    def _source(self, number: int, entry: IssuerEntry) -> FileKeys | RemoteKeys | None:
        """The source of an issuer's keys; None where it cannot be used, with the fault added."""
        keys, here = entry.keys, ("issuers", number, "keys")
        if keys.file is not None and keys.url is not None:
            hint = "write `keys: {file: jwks.json}`, or `keys: {url: https://…}`, or neither"
            self._fault("the keys are either in a `file` or at a `url`", *here, hint=hint)
            return None
        if keys.file is not None:
            return self._file(keys.file, *here)
        if keys.url is not None:
            if not self._may_be_asked(keys.url, *here, "url", example="/jwks.json"):
                return None
        else:
            if not self._may_be_asked(entry.issuer, "issuers", number, "issuer", example=""):
                return None
            if "?" in entry.issuer:
                hint = "say where its keys are: `keys: {url: https://…}`"
                message = "an issuer with a query cannot say where its keys are"
                self._fault(message, "issuers", number, "issuer", hint=hint)
                return None
        before = self._previous.get(entry.issuer)
        if before is not None and isinstance(before.source, RemoteKeys):
            return before.source.going_on(keys)
        return RemoteKeys(entry.issuer, keys)

    def _may_be_asked(self, url: str, *path: str | int, example: str) -> bool:
        why = refused_url(url)
        if why is not None:
            self._fault(why, *path, hint=f"such as `https://id.example.com{example}`")
        return why is None

    def _file(self, name: str, *here: str | int) -> FileKeys | None:
        if self._folder is None:
            return FileKeys(keys=None, file=name)
        try:
            raw = read_file(self._folder / name, most=MOST_BYTES)
            return FileKeys(keys=KeySet(raw), file=name)
        except OSError as exc:
            message = f"the keys cannot be read: {exc.strerror}"
            hint = "name a file from the folder of policies that the proxy may read"
        except Malformed as exc:
            message = f"the keys cannot be used: {exc}"
            hint = "put the issuer's JSON Web Key Set there: public keys, of its `algorithms`"
        self._fault(message, *here, "file", hint=hint)
        return None

    def _introspector(
        self, number: int, entry: IssuerEntry, source: FileKeys | RemoteKeys | None
    ) -> Introspector | None:
        asked, here = entry.introspection, ("issuers", number, "introspection")
        if asked is None:
            return None
        if any(each.introspection for each in self._document.value.issuers[:number]):
            hint = "a token that is no JWT does not say whose it is: ask one of them"
            self._fault("two issuers are asked what tokens mean", *here, hint=hint)
            return None
        secret = self._secret(asked.secret, *here, "secret")
        if asked.url is not None:
            if not self._may_be_asked(asked.url, *here, "url", example="/introspect"):
                return None
        elif source is not None and (not isinstance(source, RemoteKeys) or source.entry.url):
            hint = "write `url: https://…`, or let the issuer say where its keys are, too"
            self._fault("nobody says where to ask what tokens mean", *here, hint=hint)
            return None
        if secret is None or source is None:
            return None
        client = Client(
            issuer=entry.issuer,
            id=asked.client,
            secret=secret,
            file=asked.secret.removeprefix("file:") if asked.secret.startswith("file:") else None,
            url=asked.url,
            most_seconds=asked.most_seconds,
        )
        tells = source if asked.url is None and isinstance(source, RemoteKeys) else None
        before = self._previous.get(entry.issuer)
        known = before.introspector if before is not None else None
        if known is not None and known.client == client and known.source is tells:
            return known
        return Introspector(client, tells)

    def _secret(self, reference: str, *path: str | int) -> str | None:
        """What `env:NAME` or `file:PATH` refers to; no message repeats more than the name.

        Without a folder and an environment nothing is looked for.
        """
        kind, _, place = reference.partition(":")
        if kind not in ("env", "file") or not place:
            hint = "put the secret itself there, never into this file"
            self._fault("a secret is written as `env:NAME` or `file:PATH`", *path, hint=hint)
            return None
        if self._folder is None or self._environment is None:
            return ""
        if kind == "env":
            found = self._environment.get(place)
            why = "" if found is not None else "no such variable"
        else:
            found, why = _content(self._folder / place, self._closed)
        if found is not None and not _SECRET.match(found):
            found, why = None, "it is empty, or not one line of ASCII"
        if found is None:
            hint = (
                "set the variable where the proxy is started, or put the secret alone into the file"
            )
            self._fault(f"the secret cannot be read: {why}", *path, hint=hint)
        return found


def _content(path: Path, closed: frozenset[Path]) -> tuple[str | None, str]:
    """The text of a file, without the line end of its only line; or why it cannot be read."""
    try:
        if path.resolve() in closed:
            return None, "it opens the proxy's own doors"
        raw = read_file(path, most=_MOST_SECRET)
    except OSError as exc:
        return None, str(exc.strerror)
    return raw.decode("latin-1").removesuffix("\n").removesuffix("\r"), ""


def _realm(entry: IssuerEntry, entries: Iterable[IssuerEntry]) -> Realm:
    return Realm(
        prefix=entry.prefix,
        others=tuple(
            each.prefix
            for each in entries
            if each.prefix != entry.prefix and each.prefix.startswith(entry.prefix)
        ),
        groups=entry.groups.source if entry.groups else None,
        attributes={
            name: (AttributeType(type=each.type, many=each.many), each.source)
            for name, each in entry.attributes.items()
        },
    )
