"""An authority that issues what a test needs, good or bad; PEM files."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
ANY = (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)
LOCAL = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
HOUR = timedelta(hours=1)
EDI = bytes.fromhex("3007a505a1030c0178")
"""A `subjectAltName` of one `ediPartyName`: OpenSSL takes it, and `cryptography` does not read it."""


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def dns(text: str) -> x509.GeneralName:
    return x509.DNSName(text)


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A certificate and its key."""

    certificate: x509.Certificate
    pem: bytes
    key: bytes

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def thumbprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """As NAME.crt and NAME.key."""
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        for path, content in zip(paths, (self.pem, self.key), strict=True):
            path.write_bytes(content)
            path.chmod(0o600)
        return paths


class Authority:
    """Signs what it is told to."""

    def __init__(self, name: str = "Test CA") -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.itself(until=24 * HOUR)
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def listening(self, folder: Path) -> str:
        """What `listen` of counterfoil.yaml says of a certificate of its own, which is written there."""
        certificate, key = self.issue(*LOCAL, usage=SERVER).write(folder, "server")
        return f", certificate: {certificate}, key: {key}"

    def itself(self, *, since: timedelta = -HOUR, until: timedelta = 24 * HOUR) -> x509.Certificate:
        """A certificate of its key, which may be renewed; times are from now on."""
        now = datetime.now(UTC)
        return (
            self._builder(self.name, self.key, now + since, now + until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def issue(
        self,
        *names: x509.GeneralName,
        common: str = "tool:root",
        usage: Sequence[x509.ObjectIdentifier] | None = CLIENT,
        since: timedelta = -HOUR,
        until: timedelta = HOUR,
        critical: x509.ObjectIdentifier | None = None,
        ca: bool = False,
        named: bytes | None = None,
        kind: type[ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = ec.EllipticCurvePrivateKey,
    ) -> Leaf:
        """A certificate of these names, or with that for a `subjectAltName`; times are from now on."""
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = ec.generate_private_key(
            ec.SECP256R1()
        )
        if kind is rsa.RSAPrivateKey:
            key = rsa.generate_private_key(65537, 2048)
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        builder = self._builder(subject, key, now + since, now + until).add_extension(
            x509.BasicConstraints(ca=ca, path_length=None), critical=True
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if named is not None:
            odd = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, named)
            builder = builder.add_extension(odd, critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        if critical is not None:
            builder = builder.add_extension(
                x509.UnrecognizedExtension(critical, b"\x05\x00"), critical=True
            )
        certificate = builder.sign(self.key, hashes.SHA256())
        return Leaf(
            certificate=certificate,
            pem=certificate.public_bytes(serialization.Encoding.PEM),
            key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def revoke(
        self,
        *leaves: Leaf,
        since: timedelta = -HOUR,
        until: timedelta = HOUR,
        partial: bool = False,
    ) -> bytes:
        """Its list of what is revoked, in PEM."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(now + since)
            .next_update(now + until)
        )
        for leaf in leaves:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(leaf.certificate.serial_number)
                .revocation_date(now - HOUR)
                .build()
            )
        if partial:
            builder = builder.add_extension(x509.DeltaCRLIndicator(1), critical=True)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
        since: datetime,
        until: datetime,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )


def trusting(authority: Authority, shown: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """A client that trusts the authority, and shows a certificate."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    if shown is not None:
        context.load_cert_chain(*shown)
    return context
