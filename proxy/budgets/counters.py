"""What of each subject's budgets is spent: counters that are charged all together, or none of them.

A counter of a subject begins at what the access log says was released to it in the window: so nothing is
forgotten over a restart, or while a limit was not in force. From then on it is charged before each record of
a release, by all who release. `Unknown` says what the log is to be asked for.

    declare    from now on all that is released by this process is charged to these counters
    charge     add to all of them, unless one of them would be over what is most
    begin      … with what the log says, in so far as that is more than what is known
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.errors import CounterfoilError
from proxy.policy.limits import Per, Window


class BudgetsUnavailable(CounterfoilError):
    """What is spent cannot be known: nothing that is limited may be released."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """Some more of what a counter counts."""

    counter: str
    per: Per
    amount: int
    """Of different reports 1: it is counted where `report` is not among them yet."""
    report: str = ""
    """Where different reports are counted: which one."""
    most: int | None = None
    """How much there may be in all; None where this subject has no limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """All was charged: how much of each counter is spent before and after."""

    now: float
    """Seconds since the epoch, by the clock that the windows go by."""
    amounts: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Over:
    """Nothing was charged: this counter would be over what is most."""

    now: float
    counter: str
    window: Window


@dataclass(frozen=True, kw_only=True, slots=True)
class Begin:
    """A counter of which the log has to say how much was released since `start`."""

    counter: str
    start: int
    since: float
    """As of when it is counted without a gap; kept with what the log says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unknown:
    """Nothing was charged: of these counters it is not known yet what is spent."""

    begin: tuple[Begin, ...]


Charged = Spent | Over | Unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """What the log says of one counter of a subject."""

    begin: Begin
    per: Per
    amount: int
    reports: Collection[str] = ()
    """Where different reports are counted: which."""


class Counters(Protocol):
    """Where it is counted. Every method raises BudgetsUnavailable."""

    async def declare(self, counters: Collection[str]) -> None:
        """Count these without a gap from now on, whoever else does so already."""

    async def charge(
        self, subject: str, charges: Sequence[Charge], *, keep: bool = True
    ) -> Charged:
        """Charge a subject, by its opaque id; without `keep`, say what would become of it."""

    async def begin(self, subject: str, begun: Sequence[Begun]) -> None:
        """Let counters begin at what the log says, or at what they have where that is more."""

    async def claim(self, name: str, seconds: float) -> bool:
        """Whether nobody claimed the name within so many seconds before; then it is claimed."""

    async def close(self) -> None:
        """Let go of it."""
