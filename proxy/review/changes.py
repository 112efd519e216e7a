"""What a difference of two versions is told as: who gains or loses what, in which rows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a change is to who it is about."""

    GAINS_ROWS = "gains rows"
    GAINS = "gains"
    LOSES_ROWS = "loses rows"
    LOSES = "loses"
    CHANGES = "sees otherwise"
    UNDECIDED = "undecided"


class Turn(StrEnum):
    """Which way a cell turns: to a form that is preferred to what it was, or away from one."""

    MORE = "more"
    LESS = "less"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One difference, of all fields and reports that it is about."""

    kind: Kind
    principal: str
    also: tuple[str, ...] = ()
    """Principals that the same requester must be beside; a tool is one through which it asks."""
    members: tuple[str, ...] = ()
    """Principals for whom it is the same, as they hold this one."""
    person: str = ""
    """What people.csv says otherwise of the principal."""
    reports: tuple[str, ...]
    action: str
    fields: tuple[str, ...]
    """Empty for an action that gives no cells."""
    was: str
    now: str
    where: str
    """The condition of the rows, of the version that gives more; `true`: every row."""
    when: str
    """The condition of access of that version; `true`: always."""
    otherwise: str = ""
    """The condition of the rows in which the other version gives the same; '' where it never does."""
    otherwise_when: str = ""
    """The condition of access of the other version, likewise."""
    witness: tuple[tuple[str, str], ...] = ()
    """A row and requester of which it is true: names of conditions -> values as written."""
