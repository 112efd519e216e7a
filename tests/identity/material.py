"""Real keys and tokens, also such as no library would make."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

NOW = 1_790_000_000.0
ISSUER = "https://id.example.com"
KINDS = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}


@cache
def key(kind: str, name: str = "k") -> Any:
    """A private key, made once for each `name`."""
    match kind:
        case "RSA":
            return rsa.generate_private_key(65537, 2048)
        case "RSA1024":
            return rsa.generate_private_key(65537, 1024)
        case "EC":
            return ec.generate_private_key(ec.SECP256R1())
        case "EC384":
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def public(private: Any, **more: Any) -> dict[str, Any]:
    """The JSON Web Key of its public half."""
    match private:
        case rsa.RSAPrivateKey():
            algorithm: Any = jwt.algorithms.RSAAlgorithm
        case ec.EllipticCurvePrivateKey():
            algorithm = jwt.algorithms.ECAlgorithm
        case _:
            algorithm = jwt.algorithms.OKPAlgorithm
    return {**json.loads(algorithm.to_jwk(private.public_key())), **more}


def pem(private: Any) -> bytes:
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def jwks(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


def claims(**more: Any) -> dict[str, Any]:
    """The claims of a good token; None leaves one out."""
    all_ = {
        "iss": ISSUER,
        "aud": "counterfoil",
        "sub": "alice",
        "exp": int(NOW) + 600,
        "azp": "bi",
        **more,
    }
    return {name: value for name, value in all_.items() if value is not None}


def token(
    payload: dict[str, Any] | None = None,
    *,
    algorithm: str = "ES256",
    private: Any = None,
    kid: str | None = "k",
    header: dict[str, Any] | None = None,
) -> str:
    """A signed token; `header` is added to what signing needs."""
    headers = {"typ": "at+jwt", **({} if kid is None else {"kid": kid}), **(header or {})}
    private = key(KINDS[algorithm]) if private is None else private
    return raw_token(
        json.dumps({"alg": algorithm, **headers}).encode(),
        json.dumps(claims() if payload is None else payload).encode(),
        algorithm=algorithm,
        private=private,
    )


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw_token(
    header: bytes, payload: bytes, *, algorithm: str = "ES256", private: Any = None
) -> str:
    """A token of exactly these bytes, rightly signed."""
    signer = jwt.PyJWS().get_algorithm_by_name(algorithm)
    private = key(KINDS[algorithm]) if private is None else private
    signed = f"{b64(header)}.{b64(payload)}"
    return f"{signed}.{b64(signer.sign(signed.encode(), private))}"
