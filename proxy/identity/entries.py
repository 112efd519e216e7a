"""The shape of subjects.yaml, as types; the documentation of its keys is generated from them."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from proxy.identity.jwks import ALGORITHMS
from proxy.identity.tools import ToolEntry
from proxy.subject import Source
from proxy.values import Type

_MOST_SKEW: Final = 300
_DAY: Final = 86_400

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class KeysEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an issuer's JSON Web Key Set is.

    Without `file` and `url` it is where the issuer says itself (OpenID Connect Discovery:
    `ISSUER/.well-known/openid-configuration`).
    """

    file: Text | None = None
    """A file, relative to the folder of subjects.yaml."""
    url: Text | None = None
    """`https://…`; plain http only to this machine."""
    refresh_seconds: Annotated[int, msgspec.Meta(ge=1, le=_DAY)] = 300
    """After how long keys that are not in a file are fetched anew, in the background. A key that the issuer
    has taken out is good for that long at most, while the issuer answers."""
    cool_down_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 60
    """Least seconds between two fetches, however many tokens name keys that nobody knows; `refresh_seconds`
    where that is less."""
    outage_seconds: Annotated[int, msgspec.Meta(ge=1, le=7 * _DAY)] = _DAY
    """How long the known keys serve on after they should have been fetched anew, while the issuer does not
    answer."""


class IntrospectionEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it is asked what tokens mean that are no JWTs (RFC 7662).

    One issuer alone may have it, for such a token does not say whose it is.
    """

    client: Text
    """The id by which the proxy is registered there."""
    secret: Text
    """`env:NAME` or `file:PATH`: its secret."""
    url: Text | None = None
    """Where to ask, `https://…`; left out, where the issuer says so itself (Discovery)."""
    most_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 60
    """How long an answer counts, at most: so long a token is good after it was revoked."""


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
    """The values of `aud` that mean this proxy, or some of its stores or reports (their own `audience`)."""
    keys: KeysEntry = KeysEntry()
    """The keys that its tokens are signed with; left out, the issuer says where they are (Discovery)."""
    algorithms: Annotated[
        tuple[Literal["RS256", "PS256", "ES256", "EdDSA"], ...], msgspec.Meta(min_length=1)
    ] = ALGORITHMS
    """How its tokens may be signed."""
    token_type: Literal["at+jwt", "jwt"] = "at+jwt"  # noqa: S105 - the name of a type
    """`at+jwt`: its access tokens say in their header that they are some (RFC 9068), and name their client.
    `jwt`: they may have the header `typ: JWT` or none; then nothing sets them apart from ID tokens but their
    claims, so no value of `audience` may be the id of a client."""
    clients: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)] | None = None
    """The clients (tools) whose tokens count; left out, those of any: the policy says what they may do."""
    client_claims: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)] = ("azp", "client_id")
    """The claims that name the client. A token in which two of them differ is refused."""
    skew: Annotated[int, msgspec.Meta(ge=0, le=_MOST_SKEW)] = 30
    """Seconds by which the issuer's clock may differ."""
    single_use: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None = None
    """Each of its tokens is good for one request, told by its `jti`. The number is how many are remembered
    until they expire (each takes about 300 bytes, with `workers` twice; none outlives a restart, and each
    replica has its own); while there are as many, further tokens are refused. Left out, a token is good
    until it expires."""
    introspection: IntrospectionEntry | None = None
    """How tokens that are no JWTs are asked about; left out, they are refused."""
    groups: GroupsEntry | None = None
    """Left out, its users are in no group."""
    attributes: dict[str, AttributeEntry] = {}
    """By name, `sub.NAME` in conditions: what its tokens, or people.csv, say of its users."""


class SubjectsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `subjects.yaml`."""

    issuers: Annotated[tuple[IssuerEntry, ...], msgspec.Meta(min_length=1)]
    """At least one: whose tokens count."""
    tools: tuple[ToolEntry, ...] = ()
    """The tools that are known by their client certificates."""
