"""`tools` of subjects.yaml: which certificates are which tool's.

    tools:
      - tool: bi                                      # tool:bi
        certificates: ["URI:spiffe://example.com/bi", "DNS:bi.example.com"]
        passes_on: [portal]                           # clients whose users' tokens it may present

A name is one of `subjectAltName`, exactly; the common name means nothing. A tool that is listed is known
by its certificate alone: a token that was given to it counts from nobody else. So a rule that names
`tool:bi`, or asks for `env.tool == 'bi'`, asks for its certificate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Final, Self

import msgspec

from proxy.identity.certificates import Certificate
from proxy.identity.people import Claimed
from proxy.subject import Realm

_TOOL: Final = re.compile(r"[^\s,]{1,256}\Z")
_NAME: Final = re.compile(
    r"(?:URI:[A-Za-z][A-Za-z0-9+.-]*:[^\s*]{1,1024}|DNS:[a-z0-9._-]{1,253})\Z"
)

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1100)]


class ToolEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `tools`."""

    tool: Text
    """Its principal, without `tool:`."""
    certificates: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)]
    """The names by which its certificates are known: `URI:…` or, in small letters, `DNS:…`."""
    passes_on: tuple[Text, ...] = ()
    """The clients, without `tool:`, whose users' tokens it may present; always those that it was given."""


class Unknown(Exception):
    """A certificate, or a token with it, is nobody's; `cause` is a fixed slug."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(cause)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """The tools that are known by their certificates."""

    names: Mapping[str, str]
    """Name in a certificate -> `tool:…`."""
    passes_on: Mapping[str, frozenset[str]]
    """Each of the tools -> the clients, `tool:…`, whose users' tokens it may present."""

    @classmethod
    def of(cls, entries: tuple[ToolEntry, ...]) -> Self:
        """Of entries without a fault."""
        return cls(
            names=MappingProxyType(
                {name: f"tool:{each.tool}" for each in entries for name in each.certificates}
            ),
            passes_on=MappingProxyType(
                {
                    f"tool:{each.tool}": frozenset(f"tool:{name}" for name in each.passes_on)
                    for each in entries
                }
            ),
        )

    def of_certificate(self, certificate: Certificate) -> str | None:
        """The tool whose certificate it is; None where it is no tool's. Raises Unknown where of two."""
        found = {self.names[name] for name in certificate.names if name in self.names}
        if len(found) > 1:
            raise Unknown("certificate-ambiguous")
        return next(iter(found), None)

    def through(self, claimed: Claimed, tool: str | None) -> Claimed:
        """What a token claims when `tool`, or with None no tool that is known here, presents it.

        Raises Unknown where the token was given to another one.
        """
        if tool is None:
            if claimed.tool in self.passes_on:
                raise Unknown("certificate-needed")
            return claimed
        if claimed.tool == tool:
            return claimed
        passed = claimed.tool is None or claimed.tool in self.passes_on[tool]
        if claimed.user is None or not passed:
            raise Unknown("client-mismatch")
        return replace(claimed, tool=tool)


def is_tool(name: str) -> bool:
    """Whether a line of policy can hold the name."""
    return _TOOL.match(name) is not None and name.isprintable()


def is_name(name: str) -> bool:
    """Whether it is a certificate's name."""
    return _NAME.match(name) is not None and name.isprintable()


def held(name: str, realms: tuple[Realm, ...]) -> bool:
    """Whether some issuer's tools may be named so."""
    return any(realm.holds(name) for realm in realms)
