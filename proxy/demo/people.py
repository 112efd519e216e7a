"""The demo's people and the tokens that its identity provider would give them (RFC 9068, ES256)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

import jwt

ISSUER: Final = "https://id.demo.counterfoil.invalid"
AUDIENCE: Final = "counterfoil"
TOOL: Final = "demo-cli"
"""The client through which the demo's people ask: `tool:demo-cli` in the policy."""
LIFETIME: Final = 8 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Somebody whom the demo's identity provider knows."""

    about: str
    groups: tuple[str, ...] = ()


PEOPLE: Final = {
    "alice": Person(about="analyst", groups=("sales-analysts",)),
    "sam": Person(about="owner of two stores", groups=("store-owners",)),
    "erin": Person(about="investigator", groups=("investigators",)),
    "ada": Person(about="admin", groups=("admins",)),
    "otto": Person(about="auditor", groups=("auditors",)),
    "cole": Person(
        about="contractor, to whom the policy gives nothing yet", groups=("contractors",)
    ),
    "nora": Person(about="nobody in particular"),
}


def token(name: str, *, key: bytes, key_id: str, now: float) -> str:
    """Sign an access token for one of PEOPLE, good for eight hours.

    `key` is the issuer's private key (PEM), `now` in seconds since the epoch. Raises KeyError.
    """
    person = PEOPLE[name]
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": name,
        "iat": int(now),
        "exp": int(now) + LIFETIME,
        "jti": secrets.token_hex(8),
        "azp": TOOL,
        "client_id": TOOL,
        "groups": list(person.groups),
    }
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": key_id, "typ": "at+jwt"})
