"""Certificates for development: an authority, a server's, clients'; X.509 (RFC 5280), EC P-256.

    ca.crt                        trust this one: curl --cacert ca.crt
    ca.crl                        what it has revoked: nothing
    server.{crt,key}              for localhost, 127.0.0.1 and ::1
    client-NAME.{crt,key}         for a client; its name is URI:urn:counterfoil:tool:NAME

The authority signs these and no more, for its key is never written down; of names of servers, it may sign
for this machine's own alone. What is there is made anew, all of it, before it ends.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.errors import CounterfoilError

_VALID: Final = timedelta(days=397)
_RENEW: Final = timedelta(days=14)
_LOOPBACK: Final = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("::1")),
)
_CLIENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def client_name(name: str) -> str:
    """A client's name, as its certificate and `tools` of subjects.yaml have it."""
    return f"URI:urn:counterfoil:tool:{name}"


def certify(folder: Path, *, now: datetime, clients: Iterable[str] = ()) -> bool:
    """Make all of it unless what is there goes on being good; tell whether it was made.

    Clients that have certificates there have new ones then. Raises CounterfoilError.
    """
    clients = tuple(clients)
    for name in clients:
        if _CLIENT.match(name) is None:
            raise CounterfoilError(
                f"`{name}` is no client's name: write letters, digits, `.`, `_` and `-`"
            )
    there = {path.stem.removeprefix("client-") for path in folder.glob("client-*.crt")}
    names = sorted(there | {*clients})
    leaves = ["server", *(f"client-{name}" for name in names)]
    if all(_is_good(folder, leaf, now) for leaf in leaves):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    for name, content, mode in _made(names, now):
        path = folder / name
        path.unlink(missing_ok=True)
        write_missing(path, content, mode)
    return True


def _made(clients: Iterable[str], now: datetime) -> Iterator[tuple[str, bytes, int]]:
    """Each file, its content and its mode; the authority's own last: without it none is taken for good."""
    authority = ec.generate_private_key(ec.SECP256R1())
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
    wanted: list[tuple[str, str, tuple[x509.GeneralName, ...], x509.ObjectIdentifier]] = [
        ("server", "localhost", _LOOPBACK, ExtendedKeyUsageOID.SERVER_AUTH)
    ]
    for client in clients:
        uri = x509.UniformResourceIdentifier(client_name(client).removeprefix("URI:"))
        wanted.append((f"client-{client}", client, (uri,), ExtendedKeyUsageOID.CLIENT_AUTH))
    for name, common, names, purpose in wanted:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        leaf = (
            _certificate(subject, issuer, key, authority, now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(authority, hashes.SHA256())
        )
        yield f"{name}.key", pem(key), 0o600
        yield f"{name}.crt", leaf.public_bytes(serialization.Encoding.PEM), 0o644
    revoked = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer)
        .last_update(now - timedelta(minutes=5))
        .next_update(now + _VALID)
        .sign(authority, hashes.SHA256())
    )
    yield "ca.crl", revoked.public_bytes(serialization.Encoding.PEM), 0o644
    yield "ca.crt", ca.public_bytes(serialization.Encoding.PEM), 0o644


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    authority: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.CertificateBuilder:
    """Begin a certificate: all that a CA's and a leaf have in common."""
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


def _is_good(folder: Path, name: str, now: datetime) -> bool:
    """Tell whether a certificate and its key are the authority's and have a while to live."""
    try:
        authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        leaf = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
        private = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
        leaf.verify_directly_issued_by(authority)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    lasts = min(authority.not_valid_after_utc, leaf.not_valid_after_utc)
    return private.public_key() == leaf.public_key() and lasts - now > _RENEW


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The private key, in PEM and open."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def write_missing(path: Path, content: bytes, mode: int = 0o600) -> bool:
    """Write a file that is not there yet, whole or not at all; tell whether it was missing."""
    if path.exists():
        return False
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, mode)
    Path(scratch).replace(path)
    return True
