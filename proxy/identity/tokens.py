"""A bearer token -> a subject: RFC 6750, 7515 (JWS), 7519 (JWT), 8725 (best practices), 9068 (at+jwt).

A token is a compact JWS of at most `MOST` characters, signed by a key of its issuer with an algorithm
that the issuer may use and the key is for. What this proxy does not understand or cannot check
is refused, not ignored: `crit`, keys that the token brings along (`jku`, `jwk`, `x5u`, `x5c`),
nested and encrypted tokens, ID tokens, tokens bound to a key (`cnf`) or to an actor (`act`).

Each check is strict about types: a claim of another type is no claim. `iss`, `aud`, `exp` and
`sub` are required.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Self
from unicodedata import is_normalized

import jwt

from proxy.identity.jwks import ALGORITHMS
from proxy.identity.people import Claimed
from proxy.identity.strict import Malformed, Real, decode_base64url, parse_object
from proxy.identity.subjects import Issuer
from proxy.subject import AttributeType
from proxy.values import Scalar, Type, Value, number, scalar

MOST: Final = 16 << 10
"""Characters of a token."""
_MOST_NAME: Final = 256
_MOST_GROUPS: Final = 512
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999: no instant beyond can be written."""

_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_REFUSED_HEADERS: Final = frozenset(
    {"crit", "jku", "jwk", "x5u", "x5c", "b64", "cty", "enc", "zip", "epk"}
)
_ID_TOKEN: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})
_BINDING: Final = frozenset({"cnf", "act"})
_ABSENT: Final = object()

_JWS: Final = jwt.PyJWS(algorithms=ALGORITHMS)


class Refused(Exception):
    """The token is not accepted; `cause` is a fixed slug, never a part of the token."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(cause)


def bearer(authorization: str) -> str:
    """The token of an Authorization header field (RFC 6750 §2.1); raises Refused."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Refused("scheme-refused")
    return token.lstrip(" ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Unverified:
    """What a token claims, before anything of it is believed."""

    token: str
    algorithm: str
    kid: str | None
    issuer: str
    claims: dict[str, Any]
    payload: bytes

    @classmethod
    def parse(cls, token: str) -> Self:
        """The parts of a token that is well formed and of a kind that can be verified here."""
        if len(token) > MOST:
            raise Refused("token-too-large")
        parts = token.split(".")
        if len(parts) != 3:
            raise Refused("token-malformed")
        try:
            header = parse_object(decode_base64url(parts[0]))
            payload = decode_base64url(parts[1])
            claims = parse_object(payload)
            decode_base64url(parts[2])
        except Malformed:
            raise Refused("token-malformed") from None
        if not _REFUSED_HEADERS.isdisjoint(header):
            raise Refused("header-refused")
        typ = header.get("typ", "JWT")
        if not isinstance(typ, str) or typ.lower() not in _TYPES:
            raise Refused("token-type")
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise Refused("algorithm-refused")
        if kid is not None and not isinstance(kid, str):
            raise Refused("token-malformed")
        issuer = claims.get("iss", _ABSENT)
        if not isinstance(issuer, str):
            raise Refused("missing-claim" if issuer is _ABSENT else "wrong-type")
        return cls(
            token=token,
            algorithm=algorithm,
            kid=kid,
            issuer=issuer,
            claims=claims,
            payload=payload,
        )


def check_signature(presented: Unverified, key: jwt.PyJWK) -> None:
    """Raise Refused unless `key` signed exactly what was parsed."""
    try:
        verified = _JWS.decode_complete(presented.token, key=key, algorithms=[presented.algorithm])
    except (jwt.PyJWTError, ValueError, TypeError):
        raise Refused("bad-signature") from None
    if verified["payload"] != presented.payload:
        raise Refused("bad-signature")


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What a token says of its subject, and when it counts: `since` ≤ now < `expires`."""

    claimed: Claimed
    since: float
    expires: float


def read_claims(claims: dict[str, Any], issuer: Issuer) -> Verified:
    """What verified claims say; raises Refused. Times are for the caller to compare."""
    if claims.get("iss") != issuer.issuer:
        raise Refused("unknown-issuer")
    _refuse_other_kinds(claims, issuer)
    _check_audience(_required(claims, "aud"), issuer)
    expires = _instant(_required(claims, "exp")) + issuer.skew
    since = max(
        (_instant(claims[name]) - issuer.skew for name in ("nbf", "iat") if name in claims),
        default=0.0,
    )
    name = _name(_required(claims, "sub"))
    client = _client(claims)
    return Verified(
        claimed=Claimed(
            user=None if name == client else _principal("user", name, issuer),
            tool=None if client is None else _principal("tool", client, issuer),
            groups=_groups(claims, issuer),
            attributes=dict(_attributes(claims, issuer)),
        ),
        since=since,
        expires=expires,
    )


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
    if not _BINDING.isdisjoint(claims):
        raise Refused("bound-token")
    # Claims that are elsewhere (OIDC Core §5.6.2) are not absent: without them a deny could be missed.
    elsewhere = claims.get("_claim_names", {})
    wanted = {each.name for each in issuer.attributes.values()} | {issuer.groups}
    if not isinstance(elsewhere, dict) or not wanted.isdisjoint(elsewhere):
        raise Refused("distributed-claim")
    if "hasgroups" in claims and issuer.groups is not None and issuer.groups not in claims:
        raise Refused("distributed-claim")


def _check_audience(audience: Any, issuer: Issuer) -> None:
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        raise Refused("wrong-type")
    if issuer.audience.isdisjoint(named):
        raise Refused("wrong-audience")


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


def _client(claims: dict[str, Any]) -> str | None:
    """The client to which the token was given (`azp`, RFC 9068 `client_id`)."""
    named = [_name(claims[name]) for name in ("azp", "client_id") if name in claims]
    if not named:
        return None
    if named[0] != named[-1]:
        raise Refused("client-mismatch")
    return named[0]


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
