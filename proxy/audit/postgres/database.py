"""Where the database of the access log is, and as whom it is asked."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

_ROLE: Final = re.compile(r"[^\x00-\x1f\x7f]{1,63}\Z")
PORT: Final = 5432


@dataclass(frozen=True, kw_only=True, slots=True)
class Database:
    """`postgresql://ROLE@HOST:PORT/NAME`, or `postgresql://ROLE@/NAME?host=/run/postgresql` for a socket.

    Its text holds no password.
    """

    role: str
    host: str
    """A name, an address, or the folder of a socket."""
    port: int
    name: str
    password: str | None = field(default=None, repr=False)
    authorities: Path | None = None
    """PEM file of the authorities that the server's certificate may be signed by; else the system's."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises ValueError, which never repeats what was given."""
        try:
            parts = urlsplit(url)
            port = parts.port or PORT
            query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            raise ValueError("it is no address") from None
        if parts.password is not None:
            raise ValueError("it holds a password")
        if parts.scheme not in ("postgresql", "postgres") or parts.fragment:
            raise ValueError("it is no address of a database")
        hosts = [parts.hostname] if parts.hostname else query.pop("host", [])
        if query or len(hosts) != 1 or not hosts[0]:
            raise ValueError("it names no host, or more than that")
        role, name = unquote(parts.username or ""), unquote(parts.path[1:])
        if not _ROLE.match(role) or not _ROLE.match(name):
            raise ValueError("it names no role, or no database")
        if hosts[0].startswith("/") == bool(parts.hostname):
            raise ValueError("`host=` is for the folder of a socket")
        return cls(role=role, host=hosts[0], port=port, name=name)

    def __str__(self) -> str:
        """As messages name it."""
        return f"the database {self.name} at {self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether no wire is between."""
        if self.host.startswith("/"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def tls(self) -> ssl.SSLContext | bool:
        """How a connection is encrypted: always, to another machine. Raises OSError or ssl.SSLError."""
        if self.authorities is None and self.is_local:
            return False
        return ssl.create_default_context(cafile=self.authorities)
