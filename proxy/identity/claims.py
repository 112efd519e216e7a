"""Verified claims -> what they say of a subject: RFC 9068 (access tokens), 8693 §4.1 (`act`), 7662.

Each check is strict about types: a claim of another type is no claim. `iss`, `aud`, `exp` and
`sub` are required. Refused is what is signed and yet no access token for the one who presents it: ID
tokens, tokens bound to a key (`cnf`) otherwise than by its certificate, claims that are elsewhere.

The tool is the client to which the token was given. Where a token says who acts for its subject (`act`),
that is the tool: its `client_id`, else its `sub`; and where it names a client as well, both must be the
same, for there is one tool whom the policy judges. Actors before that one, nested in it, are no more than
information (RFC 8693 §4.1). An actor lends nothing to the user, as no tool does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final
from unicodedata import is_normalized

from proxy.identity.people import Claimed
from proxy.identity.refused import Refused
from proxy.identity.strict import Real
from proxy.identity.subjects import Issuer
from proxy.subject import AttributeType
from proxy.values import Scalar, Type, Value, number, scalar

_MOST_NAME: Final = 256
_MOST_GROUPS: Final = 512
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999: no instant beyond can be written."""

_ID_TOKEN: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})
_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_ABSENT: Final = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What a token says of its subject, and when it counts: `since` ≤ now < `expires`."""

    claimed: Claimed
    id: str | None
    """Its `jti`."""
    since: float
    expires: float
    bound: str = ""
    """The certificate that it counts with alone, as `Certificate.confirmation` has it; '' for any or none."""


def read_claims(claims: dict[str, Any], issuer: Issuer) -> Verified:
    """What verified claims say; raises Refused. Times are for the caller to compare."""
    if claims.get("iss") != issuer.issuer:
        raise Refused("unknown-issuer")
    _refuse_other_kinds(claims, issuer)
    audiences = _audiences(_required(claims, "aud"))
    expires = _instant(_required(claims, "exp")) + issuer.skew
    since = max(
        (_instant(claims[name]) - issuer.skew for name in ("nbf", "iat") if name in claims),
        default=0.0,
    )
    name = _name(_required(claims, "sub"))
    client = _client(claims, issuer)
    if not issuer.typed and client in audiences:  # whom a token is for does not hand it on
        raise Refused("id-token")
    meant = issuer.audience.intersection(audiences)
    if not meant:
        raise Refused("wrong-audience")
    return Verified(
        claimed=Claimed(
            user=None if name == client else _principal("user", name, issuer),
            tool=None if client is None else _principal("tool", client, issuer),
            groups=_groups(claims, issuer),
            attributes=dict(_attributes(claims, issuer)),
            audiences=meant,
        ),
        id=_id(claims),
        since=since,
        expires=expires,
        bound=_bound(claims),
    )


def _bound(claims: dict[str, Any]) -> str:
    """The certificate that the token is bound to (RFC 8705 §3.1); '' for none."""
    if "cnf" not in claims:
        return ""
    confirmation = claims["cnf"]
    if not isinstance(confirmation, dict) or confirmation.keys() != {"x5t#S256"}:
        raise Refused("bound-token")
    thumbprint = confirmation["x5t#S256"]
    if not isinstance(thumbprint, str) or _THUMBPRINT.match(thumbprint) is None:
        raise Refused("bound-token")
    return thumbprint


def _required(claims: dict[str, Any], name: str) -> Any:
    value = claims.get(name, _ABSENT)
    if value is _ABSENT:
        raise Refused("missing-claim")
    return value


def _refuse_other_kinds(claims: dict[str, Any], issuer: Issuer) -> None:
    """Refuse what is signed by the issuer and yet no access token for the one who presents it."""
    if not _ID_TOKEN.isdisjoint(claims):
        raise Refused("id-token")
    # Keycloak and Cognito say in a claim of their own what kind of token it is.
    if claims.get("typ", "Bearer") != "Bearer" or claims.get("token_use", "access") != "access":
        raise Refused("id-token")
    # Claims that are elsewhere (OIDC Core §5.6.2) are not absent: without them a deny could be missed.
    elsewhere = claims.get("_claim_names", {})
    wanted = {each.name for each in issuer.attributes.values()} | {issuer.groups}
    if not isinstance(elsewhere, dict) or not wanted.isdisjoint(elsewhere):
        raise Refused("distributed-claim")
    if "hasgroups" in claims and issuer.groups is not None and issuer.groups not in claims:
        raise Refused("distributed-claim")


def _id(claims: dict[str, Any]) -> str | None:
    given = claims.get("jti")
    if given is not None and not isinstance(given, str):
        raise Refused("wrong-type")
    return given or None


def _audiences(audience: Any) -> list[str]:
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        raise Refused("wrong-type")
    return named


def _instant(value: Any) -> float:
    """A NumericDate (RFC 7519 §2)."""
    seconds: int | Fraction | None = None
    if isinstance(value, Real):
        seconds = number(value.text)
    elif isinstance(value, int) and not isinstance(value, bool):
        seconds = value
    if seconds is None or not 0 <= seconds <= _LAST_SECOND:
        raise Refused("wrong-type")
    return float(seconds)


def _client(claims: dict[str, Any], issuer: Issuer) -> str | None:
    """Through whom the subject asks: the client to which the token was given, or the actor."""
    named = [_name(claims[name]) for name in issuer.client_claims if name in claims]
    if "act" in claims:
        named.append(_actor(claims["act"], issuer))
    if issuer.typed and not named:  # RFC 9068 §2.2; else the tool would be judged by no line
        raise Refused("missing-claim")
    if len(set(named)) > 1:
        raise Refused("client-mismatch")
    if issuer.clients is not None and not issuer.clients.issuperset(named or ("",)):
        raise Refused("client-refused")
    return named[0] if named else None


def _actor(act: Any, issuer: Issuer) -> str:
    if not isinstance(act, dict) or not isinstance(act.get("act", {}), dict):
        raise Refused("wrong-type")
    if act.get("iss", issuer.issuer) != issuer.issuer:
        raise Refused("foreign-actor")
    return _name(act["client_id"] if "client_id" in act else _required(act, "sub"))


def _name(value: Any) -> str:
    """A name that a line of policy can hold: visible characters, no blank, no comma."""
    if not isinstance(value, str):
        raise Refused("wrong-type")
    if not _is_plain(value) or " " in value or "," in value:
        raise Refused("unsafe-name")
    return value


def _is_plain(name: str) -> bool:
    """Visible, bounded, and in the one form (NFC) in which policy lines write names."""
    return 0 < len(name) <= _MOST_NAME and name.isprintable() and is_normalized("NFC", name)


def _principal(kind: str, name: str, issuer: Issuer) -> str:
    """The typed principal: nothing that a token says can make it a role, or another issuer's."""
    full = issuer.prefix + name
    if full.startswith(issuer.realm.others):
        raise Refused("foreign-prefix")
    return f"{kind}:{full}"


def _groups(claims: dict[str, Any], issuer: Issuer) -> tuple[str, ...] | None:
    """The groups, each once; None without the claim. Names may hold blanks and commas within."""
    listed = claims.get(issuer.groups) if issuer.groups is not None else None
    if listed is None:
        return None
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise Refused("wrong-type")
    if len(listed) > _MOST_GROUPS:
        raise Refused("too-many-groups")
    for name in listed:
        if not _is_plain(name) or name != name.strip():
            raise Refused("unsafe-name")
    return tuple(dict.fromkeys(_principal("group", name, issuer) for name in listed))


def _attributes(claims: dict[str, Any], issuer: Issuer) -> Iterable[tuple[str, Value]]:
    """The attributes that the token has; one of another type than declared is a reason to refuse."""
    for name, claim in issuer.attributes.items():
        given = claims.get(claim.name)
        if given is not None:
            yield name, _attribute(given, claim.type)


def _attribute(given: Any, declared: AttributeType) -> Value:
    if not declared.many:
        return _scalar(given, declared.type)
    if not isinstance(given, list):
        raise Refused("wrong-type")
    return tuple(_scalar(each, declared.type) for each in given)


def _scalar(given: Any, type_: Type) -> Scalar:
    """A JSON value as one of `type_`: its own kind, or a text that writes it; numbers exactly."""
    value: Scalar | None = None
    if isinstance(given, str):
        value = scalar(given, type_) if given.isprintable() else None
    elif isinstance(given, bool):
        value = given if type_ is Type.BOOLEAN else None
    elif isinstance(given, int):
        value = scalar(str(given), type_) if type_.is_number else None
    elif isinstance(given, Real):
        value = number(given.text) if type_ is Type.DECIMAL else None
    if value is None:
        raise Refused("wrong-type")
    return value
