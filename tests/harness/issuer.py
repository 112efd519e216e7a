"""An issuer of tokens with real keys."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

NAME = "https://id.test.invalid"
AUDIENCE = "counterfoil"


class Issuer:
    """Signs ES256 tokens; `jwks` is its public key set."""

    def __init__(self, name: str = NAME) -> None:
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        self.jwks = json.dumps({"keys": [{**public, "kid": "k1", "alg": "ES256", "use": "sig"}]})

    def token(
        self,
        subject: str,
        *,
        groups: tuple[str, ...] = (),
        tool: str | None = "app",
        lifetime: float = 600,
        **claims: Any,
    ) -> str:
        now = time.time()
        payload: dict[str, Any] = {
            "iss": self.name,
            "aud": AUDIENCE,
            "sub": subject,
            "iat": int(now),
            "exp": int(now + lifetime),
            "groups": list(groups),
            **claims,
        }
        if tool is not None:
            payload["azp"] = tool
        payload = {name: value for name, value in payload.items() if value is not None}
        typ = "JWT" if tool is None else "at+jwt"  # RFC 9068 §2.2: an access token names its client
        return jwt.encode(payload, self.key, algorithm="ES256", headers={"kid": "k1", "typ": typ})
