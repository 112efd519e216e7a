"""What the proxy presents to stores: kinds of credentials, where their secrets are, and TLS.

Nothing of a client's is ever among them. No value is in a repr; none is in a message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Secret:
    """Where a secret is: `env:NAME`, `file:PATH` or `command:NAME`, and what was there."""

    kind: str
    place: str
    """A variable's name, a file's whole path, or a command's name in counterfoil.yaml."""
    value: str | None = field(default=None, repr=False)
    """As it was when the catalogue was read; None of a command, which is run when it is needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bearer:
    """A token (RFC 6750)."""

    token: Secret


@dataclass(frozen=True, kw_only=True, slots=True)
class Basic:
    """A user and a password (RFC 7617)."""

    user: str
    password: Secret


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """How a store is known, and the proxy by it: PEM texts."""

    authority: str | None = None
    """Certificates of the only authorities that count; None: those of the system."""
    certificate: str | None = None
    """The proxy's own, with those between it and its authority; None: it presents none."""
    key: str | None = field(default=None, repr=False)


SYSTEM: Final = Tls()
"""The authorities of the system, and no certificate of the proxy's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientCredentials:
    """A token that is asked for in the proxy's own name (RFC 6749 §4.4)."""

    token_url: str
    client: str
    secret: Secret
    form: bool = False
    """Whether client and secret go into the form (§2.3.1) rather than into `Authorization`."""
    scope: str = ""
    audience: str = ""
    resource: str = ""
    loopback: bool = False
    """Whether the catalogue allows the token endpoint to be on this machine."""
    tls: Tls = SYSTEM


Credential = Bearer | Basic | ClientCredentials
