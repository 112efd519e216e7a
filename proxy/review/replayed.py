"""What a replay finds: which accesses would have been refused, allowed or changed, and whose they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.review.cells import FieldChange


class Kind(StrEnum):
    """What would be different."""

    REFUSED = "refused"
    ALLOWED = "allowed"
    CHANGED = "changed"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What would be different about some accesses to a report."""

    kind: Kind
    report: str
    why: str = ""
    """Of a refusal the reason and the cause, of what is undecided what it hangs on."""
    fields: tuple[FieldChange, ...] = ()


@dataclass(kw_only=True, slots=True)
class Tally:
    """How many accesses of one subject a difference is about."""

    difference: Difference
    subject: str
    """Its opaque id."""
    principal: str
    """Its name; '' where it was erased."""
    count: int = 0
    first: str = ""
    last: str = ""
    access: str = ""
    """The id of the last one."""


@dataclass(kw_only=True, slots=True)
class Replayed:
    """What a replay found."""

    accesses: int = 0
    unchanged: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Refusals that are not decided again, by reason."""
    tallies: list[Tally] = field(default_factory=list)
    """Most accesses first."""
    unkept: int = 0
    """Accesses whose policy version of then is not kept: their forms are those on record."""
