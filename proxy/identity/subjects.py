"""subjects.yaml -> issuers: whose tokens count, with which keys, and what their claims mean.

    issuers:
      - issuer: https://id.example.com
        prefix: ""                          # user:alice; with `ext/` it is user:ext/alice
        audience: [counterfoil]
        keys: {file: jwks.json}             # or {url: https://id.example.com/jwks.json}
        algorithms: [ES256]                 # of RS256, PS256, ES256, EdDSA; all where left out
        skew: 30                            # seconds by which clocks may differ
        groups: {claim: groups}
        attributes:
          stores: {claim: stores, type: text, many: true}
          region: {type: text, source: people}     # from people.csv; `claim` where left out

Each issuer has its own prefix, before the names of its users, tools and groups; a name that would
read as another issuer's is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec

from proxy.documents import Document, load, read_file
from proxy.errors import Fault, Faulty
from proxy.identity.jwks import ALGORITHMS, MOST_BYTES, FileKeys, KeySet, UrlKeys
from proxy.identity.strict import Malformed
from proxy.subject import COLUMNS, AttributeType, Realm, Source
from proxy.values import Type

_PREFIX = re.compile(r"(?:[A-Za-z0-9._-]{1,64}/)*\Z")
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_URL = re.compile(
    r"https?://[A-Za-z0-9\-._\[\]:]+(?:/[A-Za-z0-9\-._~!$&'()*+,=:@/%]*)?(?:\?[^#\s]*)?\Z"
)
_MOST_SKEW: Final = 300

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class KeysEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an issuer's JSON Web Key Set is: exactly one of the two."""

    file: Text | None = None
    """A file, relative to the folder of subjects.yaml."""
    url: Text | None = None
    """`https://…`; plain http only to this machine."""


class GroupsEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the user's groups are listed."""

    claim: Text | None = None
    """A claim that is a list of texts; left out where `source` is `people`."""
    source: Source = Source.CLAIM
    """Whether they come from the claim or from people.csv; where from both, which of them counts."""


class AttributeEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An attribute of the subject, `sub.NAME` in conditions."""

    claim: Text | None = None
    """The claim that gives it; left out where `source` is `people`."""
    type: Type
    """What its value must be; a token with another one is refused."""
    many: bool = False
    """Whether it is a list."""
    source: Source = Source.CLAIM
    """Whether it comes from the claim or from people.csv; where from both, which of them counts."""


class IssuerEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `issuers`."""

    issuer: Text
    """The exact value of `iss`."""
    prefix: str
    """What stands before the names of its users, tools and groups: empty, or ends with `/`."""
    audience: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)]
    """The values of `aud` that mean this proxy."""
    keys: KeysEntry
    """The keys that its tokens are signed with."""
    algorithms: Annotated[
        tuple[Literal["RS256", "PS256", "ES256", "EdDSA"], ...], msgspec.Meta(min_length=1)
    ] = ALGORITHMS
    """How its tokens may be signed."""
    skew: Annotated[int, msgspec.Meta(ge=0, le=_MOST_SKEW)] = 30
    """Seconds by which the issuer's clock may differ."""
    groups: GroupsEntry | None = None
    """Left out, its users are in no group."""
    attributes: dict[str, AttributeEntry] = {}
    """By name, `sub.NAME` in conditions: what its tokens, or people.csv, say of its users."""


class SubjectsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `subjects.yaml`."""

    issuers: Annotated[tuple[IssuerEntry, ...], msgspec.Meta(min_length=1)]
    """At least one: whose tokens count."""


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
    source: FileKeys | UrlKeys
    algorithms: frozenset[str]
    skew: int
    groups: str | None
    """The claim that lists groups."""
    attributes: Mapping[str, Claim]
    """Attribute -> the claim that gives it; without those that no claim gives."""
    realm: Realm
    """Its subjects, and what people.csv may say of them."""


def read(
    text: bytes, *, file: str, folder: Path | None, fetched: Mapping[str, UrlKeys]
) -> tuple[Issuer, ...]:
    """The issuers that `text` writes; raises Faulty with all that is wrong with them.

    `fetched` are sources of keys by their URL, to go on with.
    """
    document = load(text, SubjectsFile, file=file)
    faults: list[Fault] = []
    entries = document.value.issuers
    issuers = []
    for number, entry in enumerate(entries):
        faults += _faults(document, number)
        source = _source(document, number, folder, fetched, faults)
        if source is None:
            continue
        issuers.append(
            Issuer(
                issuer=entry.issuer,
                prefix=entry.prefix,
                audience=frozenset(entry.audience),
                source=source,
                algorithms=frozenset(entry.algorithms),
                skew=entry.skew,
                groups=entry.groups.claim if entry.groups else None,
                attributes={
                    name: Claim(name=each.claim, type=AttributeType(type=each.type, many=each.many))
                    for name, each in entry.attributes.items()
                    if each.claim is not None
                },
                realm=_realm(entry, entries),
            )
        )
    if faults:
        raise Faulty(faults)
    return tuple(issuers)


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


def _faults(document: Document[SubjectsFile], number: int) -> list[Fault]:
    """What is wrong with issuer `number`, by itself and beside those before it."""
    entries = document.value.issuers
    entry, earlier = entries[number], entries[:number]
    here = ("issuers", number)
    faults = []
    if any(each.issuer == entry.issuer for each in earlier):
        faults.append(
            document.fault(
                f"the issuer `{entry.issuer}` is named twice",
                *here,
                "issuer",
                hint="write what counts for it in one place",
            )
        )
    if not _PREFIX.match(entry.prefix):
        faults.append(
            document.fault(
                f"`{entry.prefix}` is not a prefix",
                *here,
                "prefix",
                hint="empty, or such as `partner/`",
            )
        )
    if any(each.prefix == entry.prefix for each in earlier):
        faults.append(
            document.fault(
                f"two issuers share the prefix `{entry.prefix}`"
                if entry.prefix
                else "two issuers have no prefix",
                *here,
                "prefix",
                hint="a name must tell whose it is: give each a prefix of its own",
            )
        )
    if entry.groups is not None:
        faults += _source_faults(document, entry.groups, *here, "groups")
    for name, attribute in entry.attributes.items():
        at = (*here, "attributes", name)
        faults += _source_faults(document, attribute, *at)
        if attribute.source is Source.CLAIM_AND_PEOPLE:
            faults.append(
                document.fault(
                    "an attribute comes from one place: only groups add up",
                    *at,
                    "source",
                    hint="write `claim-else-people` or `people-else-claim`",
                )
            )
        if attribute.source.reads_people and name in COLUMNS:
            faults.append(
                document.fault(
                    f"people.csv has a column `{name}` of its own",
                    *at,
                    key=True,
                    hint="name the attribute in another way",
                )
            )
        if not _ATTRIBUTE.match(name):
            faults.append(
                document.fault(
                    f"`{name}` is not an attribute's name",
                    *at,
                    key=True,
                    hint="such as `cost_centre`",
                )
            )
        for each in earlier:
            other = each.attributes.get(name)
            if other and (other.type, other.many) != (attribute.type, attribute.many):
                faults.append(
                    document.fault(
                        f"`{name}` has another type at another issuer",
                        *at,
                        "type",
                        hint="a condition reads it as one type: write the same `type` and `many`",
                    )
                )
                break
    return faults


def _source_faults(
    document: Document[SubjectsFile], entry: GroupsEntry | AttributeEntry, *at: str | int
) -> list[Fault]:
    """A fault unless the claim is named exactly where it counts."""
    if entry.source.reads_claim and entry.claim is None:
        hint = "name the claim, or write `source: people`"
        return [document.fault("missing key `claim`", *at, hint=hint)]
    if not entry.source.reads_claim and entry.claim is not None:
        return [
            document.fault(
                f"the claim counts for nothing with `source: {entry.source}`",
                *at,
                "claim",
                hint="leave it out, or say which counts first: `claim-else-people`,"
                " `people-else-claim`",
            )
        ]
    return []


def _source(
    document: Document[SubjectsFile],
    number: int,
    folder: Path | None,
    fetched: Mapping[str, UrlKeys],
    faults: list[Fault],
) -> FileKeys | UrlKeys | None:
    """The source of an issuer's keys; None where it cannot be used, with the fault added."""
    entry = document.value.issuers[number].keys
    here = ("issuers", number, "keys")
    if (entry.file is None) == (entry.url is None):
        faults.append(
            document.fault(
                "expected either `file` or `url`",
                *here,
                hint="write `keys: {file: jwks.json}` or `keys: {url: https://…}`",
            )
        )
        return None
    if entry.url is not None:
        why = _refused_url(entry.url)
        if why is None:
            return fetched.get(entry.url) or UrlKeys(entry.url)
        hint = "such as `https://id.example.com/jwks.json`"
        faults.append(document.fault(why, *here, "url", hint=hint))
        return None
    if folder is None:
        return FileKeys(keys=None, file=str(entry.file))
    try:
        raw = read_file(folder / str(entry.file), most=MOST_BYTES)
        return FileKeys(keys=KeySet(raw), file=str(entry.file))
    except OSError as exc:
        message = f"the keys cannot be read: {exc.strerror}"
        hint = "name a file from the folder of policies that the proxy may read"
    except Malformed as exc:
        message = f"the keys cannot be used: {exc}"
        hint = "put the issuer's JSON Web Key Set there: public keys, of its `algorithms`"
    faults.append(document.fault(message, *here, "file", hint=hint))
    return None


def _refused_url(url: str) -> str | None:
    """Why keys may not be fetched from `url`; None where they may."""
    malformed = "not a URL"
    if _URL.match(url) is None:
        return malformed
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return malformed
    if not host:
        return malformed
    if parts.scheme == "https":
        return None
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return None if local else "keys are fetched over https, or from this machine"
