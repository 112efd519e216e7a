"""A client certificate -> who presents it, while it is good: RFC 5280 (X.509, CRLs), RFC 8705 (binding).

TLS has verified that the client holds the key, and the chain. What is looked at here is looked at again
with each request, for a connection may outlive its certificate: who issued it, since when and until when,
that it is for clients (`clientAuth`), and that its authority has not revoked it. The common name means
nothing; names are URIs and DNS names in `subjectAltName` (RFC 6125 §2.3).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from proxy.errors import CounterfoilError

MOST: Final = 16 << 10
"""Bytes of a certificate."""
_MOST_NAMES: Final = 32
_MOST_KNOWN: Final = 4096
_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_UNDERSTOOD: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
"""Extensions that may be critical (RFC 5280 §4.2)."""
_BAD: Final = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
"""What `cryptography` raises of what it cannot read, some of it only when that is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """What a client presents; equal to another one with the same bytes."""

    thumbprint: str
    """SHA-256 over the DER, in hex."""
    names: tuple[str, ...] = field(compare=False)
    """`URI:spiffe://example.com/bi`, `DNS:bi.example.com`, as `subjectAltName` has them."""
    since: float = field(compare=False)
    until: float = field(compare=False)
    fault: str = field(compare=False)
    """Why it can be nobody's, whoever issued it; '' where it may be good."""
    x509: x509.Certificate | None = field(compare=False, repr=False)

    @classmethod
    def parse(cls, der: bytes) -> Self:
        """Read it. Never raises: one that cannot be read is one with a fault."""
        try:
            certificate = x509.load_der_x509_certificate(der) if len(der) <= MOST else None
            if certificate is None:
                raise ValueError("too large")
            names = tuple(_names(certificate))
            fault = _fault(certificate)
            since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        except _BAD:
            hashed = hashes.Hash(hashes.SHA256())
            hashed.update(der)
            return cls(
                thumbprint=hashed.finalize().hex(),
                names=(),
                since=0,
                until=0,
                fault="certificate-malformed",
                x509=None,
            )
        return cls(
            thumbprint=certificate.fingerprint(hashes.SHA256()).hex(),
            names=names,
            since=since.timestamp(),
            until=until.timestamp(),
            fault=fault,
            x509=certificate,
        )

    @property
    def confirmation(self) -> str:
        """What `cnf` has as `x5t#S256` in a token that is bound to it (RFC 8705 §3.1)."""
        return base64.urlsafe_b64encode(bytes.fromhex(self.thumbprint)).decode().rstrip("=")


def _names(certificate: x509.Certificate) -> Iterable[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return
    listed = extension.value
    if len(list(listed)) > _MOST_NAMES:
        raise ValueError("too many names")
    for kind, of in (("URI", x509.UniformResourceIdentifier), ("DNS", x509.DNSName)):
        for value in listed.get_values_for_type(of):
            # A wildcard names many, and one client is not many.
            if value.isprintable() and "*" not in value:
                yield f"{kind}:{value.lower() if kind == 'DNS' else value}"


def _fault(certificate: x509.Certificate) -> str:
    """Why nobody can be known by it."""
    extensions = certificate.extensions
    if any(each.critical and each.oid not in _UNDERSTOOD for each in extensions):
        return "certificate-malformed"
    try:
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return "certificate-usage"
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        return "certificate-usage"
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "certificate-usage"
    except x509.ExtensionNotFound:
        pass
    return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Revoked:
    """What one authority has revoked, as its newest list says."""

    serials: frozenset[int]
    until: float


class Authorities:
    """Who may issue clients' certificates, and what they have revoked.

    A list of what is revoked, once there is one, is needed from each authority whose certificates are
    presented; one that has ended (`nextUpdate`) says nothing any more, and none of its certificates is good.
    """

    def __init__(self, authorities: bytes, revoked: bytes | None = None) -> None:
        """Read PEM files; raises CounterfoilError."""
        try:
            self._authorities = x509.load_pem_x509_certificates(authorities)
        except _BAD as exc:
            raise CounterfoilError("`authority` has no certificate in PEM") from exc
        if not all(map(_may_issue, self._authorities)):
            raise CounterfoilError("`authority` has a certificate that may not issue others")
        try:
            # One that was renewed with its key has signed what the one before it has.
            self._same = [
                [other for other in self._authorities if _is(other, each)]
                for each in self._authorities
            ]
        except _BAD as exc:
            raise CounterfoilError("`authority` has a key of a kind that is not known") from exc
        self._revoked = None if revoked is None else _read_lists(revoked, self._authorities)
        self._issuers: dict[str, int | None] = {}

    @property
    def lists_end(self) -> float | None:
        """When the first of the lists of what is revoked ends; None without such lists."""
        if self._revoked is None:
            return None
        return min(each.until for each in self._revoked.values())

    def fault(self, certificate: Certificate, now: float) -> str:
        """Why the certificate is not good at `now`; '' where it is."""
        if certificate.fault:
            return certificate.fault
        if now < certificate.since:
            return "certificate-not-yet-valid"
        if now >= certificate.until:
            return "certificate-expired"
        issuer = self._issuer(certificate)
        if issuer is None or certificate.x509 is None:
            return "certificate-issuer"
        if not any(_lasts(each, now) for each in self._same[issuer]):
            return "certificate-issuer"
        if self._revoked is not None:
            revoked = self._revoked.get(issuer)
            if revoked is None or now >= revoked.until:
                return "revocations-stale"
            if certificate.x509.serial_number in revoked.serials:
                return "certificate-revoked"
        return ""

    def _issuer(self, certificate: Certificate) -> int | None:
        """Which of the authorities signed it; looked for once, for a bounded number of certificates."""
        known = self._issuers.get(certificate.thumbprint, -1)
        if known != -1:
            return known
        found = None
        for number, authority in enumerate(self._authorities):
            if certificate.x509 is not None and _signed(certificate.x509, authority):
                found = number
                break
        if len(self._issuers) >= _MOST_KNOWN:
            self._issuers.clear()
        self._issuers[certificate.thumbprint] = found
        return found


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (*_BAD, InvalidSignature):
        return False
    return True


def _is(one: x509.Certificate, other: x509.Certificate) -> bool:
    return one.subject == other.subject and one.public_key() == other.public_key()


def _lasts(authority: x509.Certificate, now: float) -> bool:
    since, until = authority.not_valid_before_utc, authority.not_valid_after_utc
    return since.timestamp() <= now < until.timestamp()


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        extensions = certificate.extensions
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (*_BAD, x509.ExtensionNotFound):
        return False


def _read_lists(text: bytes, authorities: Iterable[x509.Certificate]) -> Mapping[int, _Revoked]:
    """The newest list of each authority; raises CounterfoilError where one is not to be understood."""
    found: dict[int, tuple[float, _Revoked]] = {}
    blocks = _CRL.findall(text)
    if not blocks or text.count(b"-----BEGIN") != len(blocks):
        raise CounterfoilError("`revoked` has no list (CRL) in PEM")
    for block in blocks:
        try:
            listed = x509.load_pem_x509_crl(block)
            # A list that says that it is a part of one, or another's, is not what it looks like (§5.2).
            if any(each.critical for each in listed.extensions):
                raise CounterfoilError("`revoked` has a list of a kind that is not understood")
            signer = next(
                (
                    number
                    for number, each in enumerate(authorities)
                    if each.subject == listed.issuer
                    and listed.is_signature_valid(each.public_key())  # type: ignore[arg-type]
                ),
                None,
            )
            ends, since = listed.next_update_utc, listed.last_update_utc.timestamp()
            serials = frozenset(each.serial_number for each in listed)
        except (*_BAD, InvalidSignature) as exc:
            raise CounterfoilError("`revoked` has a list that cannot be read") from exc
        if signer is None:
            raise CounterfoilError("`revoked` has a list that no authority of `authority` signed")
        if ends is None:
            raise CounterfoilError("`revoked` has a list that does not say when the next one comes")
        if signer not in found or found[signer][0] < since:
            found[signer] = (since, _Revoked(serials=serials, until=ends.timestamp()))
    return MappingProxyType({signer: revoked for signer, (_, revoked) in found.items()})


@dataclass(frozen=True, kw_only=True, slots=True)
class OfServer:
    """What is to be known of the server's own certificate."""

    ends: float
    hosts: tuple[str, ...]

    @classmethod
    def parse(cls, chain: bytes) -> Self:
        """The first certificate of a PEM file; raises CounterfoilError."""
        try:
            own = x509.load_pem_x509_certificate(chain)
            return cls(ends=own.not_valid_after_utc.timestamp(), hosts=hosts_named(own))
        except _BAD as exc:
            raise CounterfoilError("the server's certificate cannot be read: see `listen`") from exc


def hosts_named(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names and addresses in its `subjectAltName`, by which it is a server's (RFC 9525 §6.1)."""
    try:
        listed = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (*_BAD, x509.ExtensionNotFound):
        return ()
    addresses = map(str, listed.get_values_for_type(x509.IPAddress))
    return (*listed.get_values_for_type(x509.DNSName), *addresses)
