"""What a look at an access log has found, and how bad that is.

WHOLE          nothing is wrong
GAPS           what happened is not known for sure: accesses without an end, entries that nothing proves
CONTRADICTED   a checkpoint that somebody retained is not of this log: history was rewritten
INVALID        entries, hashes, roots, signatures or the registry do not fit together
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from proxy.audit.checkpoint import Checkpoint


class Grade(IntEnum):
    """How bad it is; also the exit status of `counterfoil log verify`."""

    WHOLE = 0
    GAPS = 10
    CONTRADICTED = 30
    INVALID = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    grade: Grade
    log: str
    index: int | None = None
    """Of the first entry that is concerned."""
    text: str

    def __str__(self) -> str:
        place = self.log if self.index is None else f"{self.log}, entry {self.index}"
        return f"{place}: {self.text}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """Entries of a log that are gone, of which the hashes stay and prove the others."""

    log: str
    first: int
    last: int
    where: str
    """The record that says so."""

    def __str__(self) -> str:
        return f"{self.log}, entries {self.first} to {self.last}: pruned, on record in {self.where}"


@dataclass(kw_only=True)
class Verified:
    """What was looked at, and what was found."""

    findings: list[Finding] = field(default_factory=list)
    entries: int = 0
    checkpoints: list[Checkpoint] = field(default_factory=list)
    """Of each log, the registry first: the newest that is signed and fits."""
    unpublished: int = 0
    """Entries that no checkpoint covers yet."""
    pruned: list[Pruned] = field(default_factory=list)
    """Entries that are gone, as a record says."""
    unresolved: int = 0
    """Accesses of which the end is not known."""
    attachments: int = 0
    """What records name beside the log, and was looked at."""

    @property
    def grade(self) -> Grade:
        """The worst of what was found."""
        return max((each.grade for each in self.findings), default=Grade.WHOLE)

    def add(self, grade: Grade, log: str, text: str, index: int | None = None) -> None:
        """Take note of a finding."""
        self.findings.append(Finding(grade=grade, log=log, index=index, text=text))
