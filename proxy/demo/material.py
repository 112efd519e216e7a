"""What the demo needs on disk, made once and kept: certificates, keys, a token, policies, settings.

    certs/dev/ca.crt            trust this one: curl --cacert certs/dev/ca.crt
    certs/dev/server.{crt,key}  for localhost and 127.0.0.1, X.509 (RFC 5280), EC P-256
    .demo/counterfoil.yaml      the proxy's settings; edit it
    .demo/policies/             policy.csv, reports.yaml, …: edit them; jwks.json (RFC 7517)
    .demo/issuer.key            signs the tokens of the demo's people
    .demo/kek, keyring.json     the key-encryption key, and the keyring that it opens
    .demo/store-token           the proxy's own credential at the report store

None of it is committed, secrets have mode 0600, and what is there is never overwritten, but for
certificates that are about to expire (certificates.py).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.demo.certificates import certify, pem, write_missing
from proxy.errors import CounterfoilError
from proxy.keys import KEY_BYTES
from proxy.keys import file as keyring_file
from proxy.keys.kek import kek_of

PORT: Final = 8443
STORE_PORT: Final = 8701

_POLICIES: Final = Path(__file__).with_name("policies")
_MODEL: Final = Path(__file__).parents[1] / "policy" / "model.conf"

_SETTINGS: Final = """\
# Made by `counterfoil demo run`, once; paths start from this folder.
listen:
  host: 127.0.0.1
  port: {port}
  certificate: ../certs/dev/server.crt
  key: ../certs/dev/server.key
policies: policies
log: access.db
keyring: {{file: keyring.json, key_encryption_key: "file:kek"}}
limits: {{drain_seconds: 2}} # Ctrl-C waits no longer for answers that are under way
reveal: {{cells_per_minute: 10000}} # a day of the report at once
alarms: {{names: true}} # in the terminal: of people who are made up
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """Where everything lies under one folder, `root`."""

    root: Path

    @property
    def folder(self) -> Path:
        """All but the certificates."""
        return self.root / ".demo"

    @property
    def certificates(self) -> Path:
        """The development certificates."""
        return self.root / "certs" / "dev"

    @property
    def ca(self) -> Path:
        """The certificate that clients trust."""
        return self.certificates / "ca.crt"

    @property
    def settings(self) -> Path:
        """The proxy's settings."""
        return self.folder / "counterfoil.yaml"

    @property
    def policies(self) -> Path:
        """The policy folder."""
        return self.folder / "policies"

    @property
    def issuer_key(self) -> Path:
        """The private key of the demo's identity provider (PEM)."""
        return self.folder / "issuer.key"

    @property
    def store_token(self) -> Path:
        """The file of the store's bearer token."""
        return self.folder / "store-token"

    @property
    def key_id(self) -> str:
        """The id of the issuer's key in its key set; raises OSError where there is none yet."""
        key_set = json.loads((self.policies / "jwks.json").read_bytes())
        key_id: str = key_set["keys"][0]["kid"]
        return key_id


def prepare(
    root: Path, *, now: datetime, port: int = PORT, store_port: int = STORE_PORT
) -> Material:
    """Make what is missing under `root`; the ports are taken where the files are first made."""
    material = Material(root=root)
    for folder in (material.folder, material.policies):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    certify(material.certificates, now=now)
    _make_keys(material)
    write_missing(material.store_token, secrets.token_urlsafe(32).encode())
    write_missing(material.settings, _SETTINGS.format(port=port).encode())
    for source in (*sorted(_POLICIES.iterdir()), _MODEL):
        text = source.read_text("utf-8").replace(
            f"127.0.0.1:{STORE_PORT}", f"127.0.0.1:{store_port}"
        )
        write_missing(material.policies / source.name, text.encode())
    return material


def _make_keys(material: Material) -> None:
    """Make the issuer's key with its key set, and the keyring with the key that opens it."""
    if write_missing(material.issuer_key, pem(ec.generate_private_key(ec.SECP256R1()))):
        (material.policies / "jwks.json").unlink(missing_ok=True)
    key = serialization.load_pem_private_key(material.issuer_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    write_missing(material.policies / "jwks.json", json.dumps({"keys": [_jwk(key)]}).encode())

    keyring, kek = material.folder / "keyring.json", material.folder / "kek"
    if keyring.exists() and not kek.exists():
        raise CounterfoilError(f"{kek} is gone and {keyring} cannot be opened: remove both")
    write_missing(kek, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
    if not keyring.exists():
        keyring_file.create(keyring, kek_of(f"file:{kek}", {}))


def _jwk(key: ec.EllipticCurvePrivateKey) -> Mapping[str, str]:
    """Write the public half as a JSON Web Key (RFC 7518 §6.2), its id the thumbprint (RFC 7638)."""
    numbers = key.public_key().public_numbers()

    def encoded(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    required = {
        "crv": "P-256",
        "kty": "EC",
        "x": encoded(numbers.x.to_bytes(32, "big")),
        "y": encoded(numbers.y.to_bytes(32, "big")),
    }
    thumbprint = hashlib.sha256(json.dumps(required, separators=(",", ":")).encode()).digest()
    return {**required, "kid": encoded(thumbprint), "alg": "ES256", "use": "sig"}
