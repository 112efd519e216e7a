"""Who asks: a user, the tool through which it asks, or a tool that acts alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from proxy.values import Type, Value

_NONE: Mapping[str, Value] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """An authenticated requester. Principals are typed: `user:alice`, `group:analysts`, `tool:bi`.

    A token can never name a `role:`; roles come from the policy's `g` lines alone.
    """

    user: str | None
    groups: tuple[str, ...] = ()
    tool: str | None = None
    attributes: Mapping[str, Value] = field(default_factory=lambda: _NONE, hash=False)
    audiences: frozenset[str] | None = None
    """What its token is good for, of the audiences that the catalogue and its issuer name; None where no
    token says so (a review asks about subjects, not tokens)."""
    expires: float
    """When the identity ends, in seconds since the epoch."""
    vouched: float = math.inf
    """Until when its issuer's word counts that it has not ended before."""
    name: str = field(init=False, compare=False, repr=False)
    """The principal that answers for the access: the user, or the tool that acts alone."""

    def __post_init__(self) -> None:
        if self.user is None and self.tool is None:
            raise ValueError("a subject is a user, a tool, or both")
        if self.user is not None and not self.user.startswith("user:"):
            raise ValueError("a user principal starts with `user:`")
        if self.tool is not None and not self.tool.startswith("tool:"):
            raise ValueError("a tool principal starts with `tool:`")
        if not all(group.startswith("group:") for group in self.groups):
            raise ValueError("a group principal starts with `group:`")
        object.__setattr__(self, "name", self.user or self.tool)


@dataclass(frozen=True, kw_only=True, slots=True)
class AttributeType:
    """The declared type of an attribute `sub.*`: a scalar of `type`, or with `many` a list of them."""

    type: Type
    many: bool = False


class Source(StrEnum):
    """Where an attribute, or the groups, of a subject come from: its token's claim or people.csv.

    `else`: the second counts only where the first says nothing at all.
    """

    CLAIM = "claim"
    PEOPLE = "people"
    CLAIM_ELSE_PEOPLE = "claim-else-people"
    PEOPLE_ELSE_CLAIM = "people-else-claim"
    CLAIM_AND_PEOPLE = "claim-and-people"
    """Groups alone: those of both."""

    @property
    def reads_claim(self) -> bool:
        """Whether a claim is looked at."""
        return self is not Source.PEOPLE

    @property
    def reads_people(self) -> bool:
        """Whether people.csv is looked at."""
        return self is not Source.CLAIM


COLUMNS: Final = ("subject", "groups", "valid-until")
"""The columns of people.csv that are no attributes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Realm:
    """The subjects of one issuer, known by the prefix of their names; what may be said of them."""

    prefix: str
    others: tuple[str, ...] = ()
    """The prefixes of other issuers that begin with this one's."""
    groups: Source | None = None
    """None: they are in no group."""
    attributes: Mapping[str, tuple[AttributeType, Source]]

    def holds(self, name: str) -> bool:
        """Whether `name`, a principal's without its kind, is of this issuer."""
        return name.startswith(self.prefix) and not name.startswith(self.others)


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """What people.csv says of one subject."""

    groups: tuple[str, ...] | None = None
    """None: nothing is said of them."""
    attributes: Mapping[str, Value]
    until: float = math.inf
    """When the line ends to mean anything, in seconds since the epoch."""
