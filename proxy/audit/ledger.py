"""What the writer needs to know of where its log is written, wherever that is.

embedded.py    an SQLite file of this machine
postgres/      a PostgreSQL database that several machines share
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.evidence.layout import Attachment


class NotWritten(Exception):
    """Nothing was written, as far as can be told; the text may be shown to an operator."""

    def __init__(self, why: str, *, passing: bool) -> None:
        """`passing`: whether a later write may succeed."""
        self.passing = passing
        super().__init__(why)


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """A log that was just opened for writing."""

    number: int
    name: str
    opened: str
    """The access id of its `opened` record."""
    size: int
    """How many leaves it has."""
    head: int
    """The number of the newest of them."""
    unresolved: int
    """How many accesses of dead processes were found open."""
    by_hand: bool = False
    """Whether it is of what operators do, each for a moment: the next of them goes on with it."""


class Ledger(Protocol):
    """One log, open for writing; not for two threads at once. Its methods raise NotWritten."""

    epoch: Epoch
    size: int
    """How many entries it has."""
    head: int
    """The number of the newest of them, among those of all logs."""

    def append(self, entries: Sequence[bytes], named: Sequence[Attachment] = ()) -> int:
        """Make entries durable, and the attachments that they name, all or none; the index of the first."""

    def settle(self, index: int) -> None:
        """Note that the accesses that began before that entry have all ended."""

    def seal(self, at: str) -> None:
        """Close it for good."""

    def stay(self) -> None:
        """See whether it could be written."""

    @property
    def untidy(self) -> bool:
        """Whether so much was written that it is time to `tidy`."""

    def tidy(self) -> None:
        """After a `settle`: put in order what writing left."""

    def close(self) -> None:
        """Close it."""
