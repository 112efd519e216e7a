"""Who asks: a user, the tool through which it asks, or a tool that acts alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

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
    expires: float
    """When the identity ends, in seconds since the epoch."""

    def __post_init__(self) -> None:
        if self.user is None and self.tool is None:
            raise ValueError("a subject is a user, a tool, or both")
        if self.user is not None and not self.user.startswith("user:"):
            raise ValueError("a user principal starts with `user:`")
        if self.tool is not None and not self.tool.startswith("tool:"):
            raise ValueError("a tool principal starts with `tool:`")
        if not all(group.startswith("group:") for group in self.groups):
            raise ValueError("a group principal starts with `group:`")

    @property
    def name(self) -> str:
        """The principal that answers for the access: the user, or the tool that acts alone."""
        return self.user or self.tool or ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttributeType:
    """The declared type of an attribute `sub.*`: a scalar of `type`, or with `many` a list of them."""

    type: Type
    many: bool = False
