"""The certificates of `listen`: what the server takes at its start, and what clients will make of it."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from proxy import listening
from proxy.doctor.finding import Finding, Patient, State
from proxy.errors import CounterfoilError

_SOON: Final = 21 * 86400.0
"""Seconds before the end of a certificate from which on somebody should look."""
_LISTS_SOON: Final = 86400.0
_BAD: Final = (
    OSError,
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
)


async def certificates(patient: Patient) -> Iterable[Finding]:
    """The server's certificate with its chain and key, and the authorities of clients."""
    config, listen = patient.config, patient.config.settings.listen
    if listen.certificate is None or listen.key is None:
        text = "none: the proxy is reached from this machine alone"
        return [_finding("listen", State.OK, text)]
    tls = listening.tls(config)
    where, key = config.path(listen.certificate), config.path(listen.key)
    found = [*_private(key)]
    try:
        await tls.open()
    except CounterfoilError as exc:
        command = f"openssl x509 -in {quote(str(where))} -noout -text"
        found.append(_finding(str(where), State.FAIL, str(exc), "put the files right", command))
    else:
        found += _chain(where, time.time())
        if tls.authorities is not None and tls.authorities.lists_end is not None:
            found += _lists(tls.authorities.lists_end - time.time())
    return found


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
    names = _names(chain[0])
    if not names:
        good = False
        text = "the certificate has no `subjectAltName`: no client takes it for any host's"
        yield _finding(what, State.FAIL, text, "have one issued for the names that clients use")
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


def _names(certificate: x509.Certificate) -> Sequence[str]:
    try:
        listed = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return ()
    addresses = map(str, listed.get_values_for_type(x509.IPAddress))
    return (*listed.get_values_for_type(x509.DNSName), *addresses)


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
