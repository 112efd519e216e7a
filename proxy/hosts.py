"""The hosts of which requests may be: names and addresses, as a `Host` field has them without its port."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

_FIELD: Final = re.compile(
    r"((?=[\-._~]*[A-Za-z0-9])[A-Za-z0-9\-._~]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?\Z"
)
"""RFC 9110 §7.2, without what no name of a server has."""
_NAME: Final = re.compile(r"(?:\*\.(?=[A-Za-z0-9]))?(?:[A-Za-z0-9\-._~]+|\[[0-9A-Fa-f:.]+\])\Z")
_EVERY: Final = "*."
LOCAL: Final = ("localhost", "127.0.0.1", "[::1]")
"""This machine's own."""


def host_of(field: str) -> str | None:
    """The host of a `Host` field, in lower case; None where it is not as RFC 9110 §7.2 has it."""
    matched = _FIELD.match(field)
    return None if matched is None else _alike(matched[1])


def is_host(name: str) -> bool:
    """Whether it can be one of `Hosts`."""
    return _NAME.match(name) is not None and (
        name.startswith(_EVERY) or host_of(name) == _alike(name)
    )


class Hosts:
    """Names, of which `*.example.com` is each with one label in place of the star (RFC 9525 §6.3)."""

    def __init__(self, names: Iterable[str]) -> None:
        """What is no host (`is_host`) is none that a request could be of."""
        named = frozenset(_alike(name) for name in names if is_host(name))
        self._exactly = frozenset(name for name in named if not name.startswith(_EVERY))
        self._above = frozenset(name[1:] for name in named if name.startswith(_EVERY))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._exactly or self._above)

    def __contains__(self, host: str) -> bool:
        """Whether it is one; `host` is of `host_of`."""
        if host in self._exactly:
            return True
        label, dot, above = host.partition(".")
        return bool(label) and dot + above in self._above


def shown(address: str) -> str:
    """An address as a `Host` field has it; another text as it is."""
    return f"[{address}]" if ":" in address else address


def _alike(host: str) -> str:
    """The one way to write it: RFC 5952 for an address of IPv6."""
    if host.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        except ValueError:
            pass  # then it is no address of anybody's
    return host.lower()
