"""What an issuer says of itself: OpenID Connect Discovery 1.0 §4.

{"issuer": "https://id.example.com", "jwks_uri": "https://id.example.com/jwks", …}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

from proxy.identity.fetching import is_local, refused_url
from proxy.identity.strict import Malformed, parse_object

MOST_BYTES: Final = 256 << 10


def location(issuer: str) -> str:
    """Where the metadata of `issuer` are (§4.1)."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """What of an issuer's metadata counts here."""

    jwks_uri: str
    introspection: str | None

    @classmethod
    def parse(cls, raw: bytes, *, issuer: str) -> Self:
        """Raises Malformed where they are another issuer's (§4.3), or lead to where nobody may be asked."""
        said = parse_object(raw)
        if said.get("issuer") != issuer:
            raise Malformed("they are those of another issuer")
        keys = _place(said.get("jwks_uri"), issuer)
        if keys is None:
            raise Malformed("they do not say where the keys are")
        return cls(jwks_uri=keys, introspection=_place(said.get("introspection_endpoint"), issuer))


def _place(said: Any, issuer: str) -> str | None:
    """An endpoint that may be asked; an issuer elsewhere leads to nothing on this machine."""
    if said is None:
        return None
    if not isinstance(said, str) or refused_url(said) is not None:
        raise Malformed("they name a place that may not be asked")
    if is_local(said) and not is_local(issuer):
        raise Malformed("they name a place that may not be asked")
    return said
