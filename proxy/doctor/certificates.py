"""The certificates of `listen`: what the server takes at its start, and what clients will make of it."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from proxy import documents, listening
from proxy.config import Config
from proxy.doctor.finding import Finding, Patient, State
from proxy.errors import CounterfoilError
from proxy.identity.certificates import Authorities, hosts_named
from proxy.tls import Files, TlsInForce

_SOON: Final = 21 * 86400.0
"""Seconds before the end of a certificate from which on somebody should look."""
_LISTS_SOON: Final = 86400.0
_MOST_BYTES: Final = 16 << 20
_BAD: Final = (
    OSError,
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


async def certificates(patient: Patient) -> Iterable[Finding]:
    """The server's certificate with its chain and key, and the authorities of clients."""
    config, listen = patient.config, patient.config.settings.listen
    if listen.certificate is None or listen.key is None:
        text = "none: the proxy is reached from this machine alone"
        return [_finding("listen", State.OK, text)]
    where, key = config.path(listen.certificate), config.path(listen.key)
    found = [*_private(key)]
    clients = await asyncio.to_thread(_clients, config, time.time())
    found += clients
    try:
        # Without the files of clients, which have been looked at; then with them, as at the start.
        await TlsInForce(Files(certificate=where, key=key, hosts=not listen.names)).open()
    except CounterfoilError as exc:
        command = f"openssl x509 -in {quote(str(where))} -noout -text"
        found.append(_finding(str(where), State.FAIL, str(exc), "put the files right", command))
        return found
    found += _chain(where, time.time())
    try:
        await listening.tls(config).open()
    except CounterfoilError as exc:
        if all(each.state is not State.FAIL for each in clients):
            fix = "put the files right"
            found.append(_finding("listen.clients", State.FAIL, str(exc), fix))
    return found


def _clients(config: Config, now: float) -> list[Finding]:
    """The authorities of clients and their lists, each file for itself."""
    clients = config.settings.listen.clients
    if clients is None:
        return []
    path = config.path(clients.authority)
    command = f"openssl x509 -in {quote(str(path))} -noout -text"
    try:
        text = documents.read_file(path, most=_MOST_BYTES)
        Authorities(text)
        authorities = x509.load_pem_x509_certificates(text)
    except OSError as exc:
        return [_unread(path, "authority", exc)]
    except CounterfoilError as exc:
        fix = "put the certificates of the authorities of clients there, in PEM, and no others"
        return [_finding(str(path), State.FAIL, f"of `listen.clients`, {exc}", fix, command)]
    found = [*_authorities(path, authorities, now)]
    if clients.revoked is None:
        return found
    path = config.path(clients.revoked)
    command = f"openssl crl -in {quote(str(path))} -noout -text"
    try:
        ends = Authorities(text, documents.read_file(path, most=_MOST_BYTES)).lists_end
    except OSError as exc:
        return [*found, _unread(path, "revoked", exc)]
    except CounterfoilError as exc:
        fix = "put the newest list (CRL) of each authority of `authority` there, in PEM"
        return [
            *found,
            _finding(str(path), State.FAIL, f"of `listen.clients`, {exc}", fix, command),
        ]
    return [*found, *(() if ends is None else _lists(ends - now))]


def _unread(path: Path, name: str, exc: OSError) -> Finding:
    text = f"`{name}` of `listen.clients` cannot be read: {exc.strerror}"
    fix = "put the file there, and let the proxy's user read it"
    return _finding(str(path), State.FAIL, text, fix)


def _authorities(
    path: Path, authorities: Sequence[x509.Certificate], now: float
) -> Iterator[Finding]:
    """Whose clients count, and until when; one that was renewed with its key goes on as the same."""
    what = str(path)
    lasting = {_identity(each): 0.0 for each in authorities}
    for each in authorities:
        if each.not_valid_before_utc.timestamp() <= now:
            until = each.not_valid_after_utc.timestamp()
            lasting[_identity(each)] = max(until, lasting[_identity(each)])
    good = max(lasting.values()) > now
    renew = "put a renewed certificate of it there, or take it out where no client needs it"
    look = f"openssl x509 -in {quote(what)} -noout -subject -dates"
    for (name, _), until in lasting.items():
        day = datetime.fromtimestamp(until, UTC).date()
        text = ""
        if not until:
            text = f"the authority {name} is not valid yet: its clients are refused"
        elif until <= now:
            text = f"the authority {name} has ended on {day}: its clients are refused"
        elif until - now < _SOON:
            text = f"the authority {name} ends on {day}, in {int((until - now) // 86400)} days"
        if text:
            state = State.WARN if good else State.FAIL
            yield _finding(what, state, text, renew, look)
    if min(lasting.values()) - now >= _SOON:
        day = datetime.fromtimestamp(min(lasting.values()), UTC).date()
        yield _finding(what, State.OK, f"clients' authorities count until {day} at least")


def _identity(authority: x509.Certificate) -> tuple[str, bytes]:
    key = authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return authority.subject.rfc4514_string(), key


def _private(key: Path) -> Iterator[Finding]:
    """Whether everybody may read the key; its group may, as Debian's `ssl-cert` does."""
    try:
        mode = key.stat().st_mode
    except OSError:
        return  # told of with the certificate
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        text = "everybody may read the server's private key, or others change it"
        yield _finding(
            str(key), State.FAIL, text, "make it the proxy's own", f"chmod 600 {quote(str(key))}"
        )


def _chain(path: Path, now: float) -> Iterator[Finding]:
    what = str(path)
    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
    except _BAD:
        yield _finding(what, State.FAIL, "the chain has a certificate that cannot be read")
        return
    good = True
    names = hosts_named(chain[0])
    if not names:
        good = False
        text = "the certificate has no `subjectAltName`: no client takes it for any host's"
        yield _finding(what, State.FAIL, text, "have one issued for the names that clients use")
    if not _for_servers(chain[0]):
        good = False
        text = "the certificate is not for servers: its `extendedKeyUsage` lacks `serverAuth`"
        yield _finding(what, State.FAIL, text, "have one issued with `serverAuth`")
    for above, below in zip(chain[1:], chain, strict=False):
        if not _issued(below, by=above):
            good = False
            text = "the chain is not in order: a certificate is not issued by the one after it"
            fix = "the server's own first, then each one's issuer"
            yield _finding(what, State.FAIL, text, fix)
            break
    ends = min(each.not_valid_after_utc.timestamp() for each in chain)
    begins = max(each.not_valid_before_utc.timestamp() for each in chain)
    day = datetime.fromtimestamp(ends, UTC).date()
    renew = "have it renewed, and put there with its key: the proxy takes both without a restart"
    look = f"openssl x509 -in {quote(str(path))} -noout -dates"
    if not begins <= now < ends:
        text = f"the chain is not valid now (until {day})"
        yield _finding(what, State.FAIL, text, renew, look)
    elif ends - now < _SOON:
        text = f"ends on {day}, in {int((ends - now) // 86400)} days"
        yield _finding(what, State.WARN, text, renew, look)
    elif good:
        yield _finding(what, State.OK, f"for {', '.join(names[:4])}, until {day}")


def _for_servers(certificate: x509.Certificate) -> bool:
    """RFC 5280 §4.2.1.12: one that does not say what it is for is for anything."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    except _BAD:
        return False
    return (
        ExtendedKeyUsageOID.SERVER_AUTH in usage
        or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage
    )


def _issued(certificate: x509.Certificate, *, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except _BAD:
        return False
    return True


def _lists(left: float) -> Iterator[Finding]:
    """What of clients' authorities has revoked: how long the first of the lists counts."""
    what, fix = "listen.clients.revoked", "put the authority's newest list there"
    if left <= 0:
        text = "a list has ended: the certificates of its authority's clients are refused"
        yield _finding(what, State.FAIL, text, fix)
    elif left < _LISTS_SOON:
        yield _finding(what, State.WARN, f"a list ends in {left / 3600:.1f} hours", fix)
    else:
        yield _finding(what, State.OK, f"the first list ends in {left / 86400:.0f} days")


def _finding(what: str, state: State, text: str, fix: str = "", command: str = "") -> Finding:
    return Finding(
        check="certificates", what=what, state=state, text=text, fix=fix, command=command
    )
