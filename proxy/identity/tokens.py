"""A bearer token in its form: RFC 6750, 7515 (JWS), 7519 (JWT), 8725 (best practices).

A token is a compact JWS of at most `MOST` characters, signed by a key of its issuer with an algorithm
that the issuer may use and the key is for. What this proxy does not understand or cannot check
is refused, not ignored: `crit`, keys that the token brings along (`jku`, `jwk`, `x5u`, `x5c`),
nested and encrypted tokens. Its length is looked at before anything else of it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Self

import jwt

from proxy.identity.jwks import ALGORITHMS
from proxy.identity.refused import Refused
from proxy.identity.strict import Malformed, decode_base64url, parse_object

MOST: Final = 16 << 10
"""Characters of a token."""

_ACCESS_TOKEN: Final = frozenset({"at+jwt", "application/at+jwt"})
_TYPES: Final = _ACCESS_TOKEN | {"jwt", "application/jwt"}
_REFUSED_HEADERS: Final = frozenset(
    {"crit", "jku", "jwk", "x5u", "x5c", "b64", "cty", "enc", "zip", "epk"}
)
_ABSENT: Final = object()

_JWS: Final = jwt.PyJWS(algorithms=ALGORITHMS)


_OPAQUE: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*\Z")
"""RFC 6750 §2.1, `b64token`."""


def bearer(authorization: str) -> str:
    """The token of an Authorization header field (RFC 6750 §2.1); raises Refused."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Refused("scheme-refused")
    return token.lstrip(" ")


def is_opaque(token: str) -> bool:
    """Whether it may mean something to its issuer alone: it has the parts of no JWS and no JWE."""
    return len(token) <= MOST and token.count(".") not in (2, 4) and bool(_OPAQUE.match(token))


@dataclass(frozen=True, kw_only=True, slots=True)
class Unverified:
    """What a token claims, before anything of it is believed."""

    token: str
    algorithm: str
    kid: str | None
    typed: bool
    """Whether it says that it is an access token (RFC 9068 §2.1)."""
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
            typed=typ.lower() in _ACCESS_TOKEN,
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
