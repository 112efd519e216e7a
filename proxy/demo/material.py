"""What the demo needs on disk, made once and kept: certificates, keys, a token, policies, settings.

    certs/dev/ca.crt            trust this one: curl --cacert certs/dev/ca.crt
    certs/dev/server.{crt,key}  for localhost and 127.0.0.1, X.509 (RFC 5280), EC P-256
    .demo/counterfoil.yaml      the proxy's settings; edit it
    .demo/policies/             policy.csv, reports.yaml, …: edit them; jwks.json (RFC 7517)
    .demo/issuer.key            signs the tokens of the demo's people
    .demo/kek, keyring.json     the key-encryption key, and the keyring that it opens
    .demo/store-token           the proxy's own credential at the report store

None of it is committed, secrets have mode 0600, and what is there is never overwritten, but for
certificates that are about to expire. The development CA signs one certificate, may sign for this
machine's own names alone, and its key is never written down.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.errors import CounterfoilError
from proxy.keys import KEY_BYTES, Keyring, kek_from

PORT: Final = 8443
STORE_PORT: Final = 8701

_POLICIES: Final = Path(__file__).with_name("policies")
_MODEL: Final = Path(__file__).parents[1] / "policy" / "model.conf"
_VALID: Final = timedelta(days=397)
_RENEW: Final = timedelta(days=14)
_LOOPBACK: Final = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("::1")),
)

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
    _certify(material, now)
    _make_keys(material)
    _write_missing(material.store_token, secrets.token_urlsafe(32).encode())
    _write_missing(material.settings, _SETTINGS.format(port=port).encode())
    for source in (*sorted(_POLICIES.iterdir()), _MODEL):
        text = source.read_text("utf-8").replace(
            f"127.0.0.1:{STORE_PORT}", f"127.0.0.1:{store_port}"
        )
        _write_missing(material.policies / source.name, text.encode())
    return material


def _make_keys(material: Material) -> None:
    """Make the issuer's key with its key set, and the keyring with the key that opens it."""
    if _write_missing(material.issuer_key, _pem(ec.generate_private_key(ec.SECP256R1()))):
        (material.policies / "jwks.json").unlink(missing_ok=True)
    key = serialization.load_pem_private_key(material.issuer_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    _write_missing(material.policies / "jwks.json", json.dumps({"keys": [_jwk(key)]}).encode())

    keyring, kek = material.folder / "keyring.json", material.folder / "kek"
    if keyring.exists() and not kek.exists():
        raise CounterfoilError(f"{kek} is gone and {keyring} cannot be opened: remove both")
    _write_missing(kek, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
    if not keyring.exists():
        Keyring.create(keyring, kek_from(f"file:{kek}", {}))


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


def _certify(material: Material, now: datetime) -> None:
    """Make a CA and the certificate that it signs, unless those that are there go on being good."""
    certificate, key = material.certificates / "server.crt", material.certificates / "server.key"
    if _are_good(material.ca, certificate, key, now):
        return
    material.certificates.mkdir(parents=True, exist_ok=True)
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Counterfoil development CA")])
    named = x509.NameConstraints(
        permitted_subtrees=[
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_network("127.0.0.0/8")),
            x509.IPAddress(ipaddress.ip_network("::1/128")),
        ],
        excluded_subtrees=None,
    )
    ca = (
        _certificate(issuer, issuer, authority, authority, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(named, critical=True)
        .sign(authority, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    leaf = (
        _certificate(subject, issuer, server, authority, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_LOOPBACK), critical=False)
        .sign(authority, hashes.SHA256())
    )
    for path, content, mode in (
        (key, _pem(server), 0o600),
        (certificate, leaf.public_bytes(serialization.Encoding.PEM), 0o644),
        (material.ca, ca.public_bytes(serialization.Encoding.PEM), 0o644),
    ):
        path.unlink(missing_ok=True)
        _write_missing(path, content, mode)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    authority: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.CertificateBuilder:
    """Begin a certificate: all that a CA's and a server's have in common."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # a clock may be a little behind
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
            critical=False,
        )
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _are_good(ca: Path, certificate: Path, key: Path, now: datetime) -> bool:
    """Tell whether the three belong together and have a while to live."""
    try:
        authority = x509.load_pem_x509_certificate(ca.read_bytes())
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        leaf.verify_directly_issued_by(authority)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    lasts = min(authority.not_valid_after_utc, leaf.not_valid_after_utc)
    return private.public_key() == leaf.public_key() and lasts - now > _RENEW


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_missing(path: Path, content: bytes, mode: int = 0o600) -> bool:
    """Write a file that is not there yet, whole or not at all; tell whether it was missing."""
    if path.exists():
        return False
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, mode)
    Path(scratch).replace(path)
    return True
