"""The certificates in force: the server's own, whose clients' count, and which of these are revoked.

The files are looked at each second. Either part is taken whole or not at all: a certificate with its key,
and the authorities of clients with what these have revoked. Whatever goes wrong, the last good part stays,
and the log and the metrics say so. A connection keeps the server's certificate that it began with; a
client's is looked at with each request, by the authorities that are in force then.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy import documents
from proxy.errors import CounterfoilError
from proxy.hosts import Hosts, shown
from proxy.identity.certificates import Authorities, OfServer
from proxy.watching import Look, changes, look

_LOGGER: Final = logging.getLogger("counterfoil")

PARTS: Final = ("certificate", "clients")
"""What may not be taken."""
_MOST_BYTES: Final = 16 << 20
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, by forward secrecy and with authentication alone (RFC 9325 §4.2); those of 1.3 are all such."""
_AGAIN_SECONDS: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Where everything is."""

    certificate: Path
    key: Path
    authority: Path | None = None
    """Of clients' certificates; None where none are asked for."""
    revoked: Path | None = None
    demanded: bool = False
    """Whether a connection needs a client's certificate."""
    hosts: bool = False
    """Whether it is the certificate's names by which the server is known, so that it must have some."""

    @property
    def all(self) -> tuple[Path, ...]:
        """Each file that there is to be."""
        named = (self.certificate, self.key, self.authority, self.revoked)
        return tuple(each for each in named if each is not None)


class TlsInForce:
    """Holds what is in force; takes what changes from the files. Without files there is no TLS."""

    def __init__(self, files: Files | None) -> None:
        """`open` is called before anything else."""
        self._files = files
        self.context: ssl.SSLContext | None = None
        """That of the next connection."""
        self.plain: ssl.SSLContext | None = None
        """One that asks for no client's certificate."""
        self.authorities: Authorities | None = None
        """Of clients' certificates; None where none count."""
        self.ends: float | None = None
        """When the server's certificate does."""
        self.hosts = Hosts(())
        """Those that the server's certificate names."""
        self.untaken: dict[str, str] = {}
        """Part -> why its files are not in force."""
        self._seen: Look = {}
        self._clients: tuple[bytes, bytes | None] | None = None
        self._stale_told = -_AGAIN_SECONDS

    async def open(self) -> None:
        """Read the files; raises CounterfoilError."""
        if self._files is None:
            return
        self._seen = await look(self._files.all)
        await asyncio.to_thread(self._take_clients, self._files)
        await asyncio.to_thread(self._take_certificate, self._files)

    async def watch(self) -> None:
        """Take what changes, until cancelled."""
        files = self._files
        if files is None:
            return
        async for _ in changes(lambda: files.all, seen=self._seen, due=self._due, told=False):
            await self.reload()

    async def reload(self) -> bool:
        """Take what the files have now, or keep the last good parts, loudly; True where all is in force."""
        if self._files is None:
            return True
        self._tell_of_stale()
        taken = [
            await self._taken("clients", self._take_clients, self._files),
            await self._taken("certificate", self._take_certificate, self._files),
        ]
        if all(taken):
            _LOGGER.info("certificates read anew")
        return all(taken)

    async def _taken(self, part: str, take: Callable[[Files], None], files: Files) -> bool:
        try:
            await asyncio.to_thread(take, files)
        except CounterfoilError as exc:
            if self.untaken.get(part) != str(exc):
                _LOGGER.error("not taken, the last good one stays in force: %s", exc)
            self.untaken[part] = str(exc)
            return False
        if self.untaken.pop(part, None) is not None:
            _LOGGER.info("the files of `listen` are in force again: %s", part)
        return True

    def _take_clients(self, files: Files) -> None:
        if files.authority is None:
            return
        try:
            authority = documents.read_file(files.authority, most=_MOST_BYTES)
        except OSError as exc:
            raise _unread("`authority` of `listen.clients`", exc) from exc
        try:
            revoked = None
            if files.revoked is not None:
                revoked = documents.read_file(files.revoked, most=_MOST_BYTES)
        except OSError as exc:
            raise _unread("`revoked` of `listen.clients`", exc) from exc
        if (authority, revoked) == self._clients:
            return
        try:
            authorities = Authorities(authority, revoked)
        except CounterfoilError as exc:
            raise CounterfoilError(f"the files of `listen.clients` cannot be used: {exc}") from exc
        self._clients = (authority, revoked)
        self.authorities = authorities

    def _take_certificate(self, files: Files) -> None:
        # OpenSSL does not tell which of the two it is that it cannot read.
        certificate = _content("certificate", files.certificate)
        _content("key", files.key)
        context, plain = _context(files), _context(files)
        if self._clients is not None:
            try:
                # PEM is ASCII; what stands between its blocks may be anything.
                authority = self._clients[0].decode("ascii", "backslashreplace")
                context.load_verify_locations(cadata=authority)
            except ssl.SSLError as exc:
                raise CounterfoilError("the authority of `listen.clients` cannot be used") from exc
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.verify_mode = ssl.CERT_REQUIRED if files.demanded else ssl.CERT_OPTIONAL
            # Whoever is resumed is not verified anew, by OpenSSL.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        own = OfServer.parse(certificate)
        hosts = Hosts(map(shown, own.hosts))
        if files.hosts and not hosts:
            raise CounterfoilError(
                "the server's certificate names no host (`subjectAltName`): have one issued for those that"
                " clients use, or list them in `names` of `listen`"
            )
        # Both are made anew: one that is given another key of another kind goes on with the one before, too.
        self.context, self.plain = context, plain
        self.ends, self.hosts = own.ends, hosts

    def _due(self) -> bool:
        self._tell_of_stale()
        return False

    def _tell_of_stale(self) -> None:
        """Say, now and then, that all certificates are refused for want of a newer list."""
        until = None if self.authorities is None else self.authorities.lists_end
        now = time.time()
        if until is not None and now >= until and now >= self._stale_told + _AGAIN_SECONDS:
            self._stale_told = now
            _LOGGER.error(
                "clients' certificates are refused: a list in `revoked` of `listen.clients` has ended;"
                " put the newer one there"
            )


def _context(files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(
            files.certificate,
            files.key,
            password=lambda: b"",  # nobody is there to be asked for one
        )
    except (OSError, ssl.SSLError) as exc:
        raise CounterfoilError(
            "the server's certificate or key cannot be loaded (both in PEM, the key of this"
            " certificate and without a pass phrase): see `listen`"
        ) from exc
    return context


def _content(what: str, file: Path) -> bytes:
    try:
        return documents.read_file(file, most=_MOST_BYTES)
    except OSError as exc:
        raise _unread(f"`{what}` of `listen`, {file},", exc) from exc


def _unread(what: str, exc: OSError) -> CounterfoilError:
    return CounterfoilError(f"{what} cannot be read: {exc.strerror}")
