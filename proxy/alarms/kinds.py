"""The kinds of alarms, as one table; the documentation's is generated from it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, NamedTuple

from proxy.access import new_access_id

HOUR: Final = 3_600
_MOST_PATTERNS: Final = 12
"""Of so many there is a command where an alarm is about no report: of more it says how many are left."""


class Words(NamedTuple):
    """What an alarm says."""

    title: str
    do: str
    """What to do."""


class KindRow(NamedTuple):
    """One row of the table."""

    slug: str
    severity: Literal["low", "medium", "high"]
    title: str
    do: str
    """What to do."""
    again: int
    """Seconds within which the same is told once."""
    of_address: Words | None = None
    """Where it is about an address: those who asked from there have shown no valid token."""


class Kind(Enum):
    """What an alarm is about."""

    BUDGET = KindRow(
        "budget-nearly-spent",
        "medium",
        "A subject has spent 80 % of a budget",
        "Look at what it asked for: `counterfoil log query --subject SUBJECT`. Raise the limit in"
        " limits.yaml, or lock the report down.",
        7 * 24 * HOUR,
    )
    FIRST = KindRow(
        "first-access",
        "low",
        "A subject got a report for the first time",
        "If nobody expected it, ask its owner and look at `counterfoil log query --subject SUBJECT`.",
        24 * HOUR,
    )
    UNUSUAL = KindRow(
        "unusual-volume",
        "high",
        "A subject is given far more rows today than it used to be",
        "Look at what it is given: `counterfoil log query --subject SUBJECT`. If it is not meant to be,"
        " lock the report down before you ask.",
        24 * HOUR,
    )
    REFUSALS = KindRow(
        "many-refusals",
        "medium",
        "Many requests of a subject are refused",
        "Look at what it tries: `counterfoil log query --subject SUBJECT --outcome deny`.",
        HOUR,
        Words(
            "Many requests of an address are refused, none with a valid token",
            "Look at what it tries: `counterfoil log query --outcome deny --since 1h --limit 10000 --json`"
            " has the `address` and the `cause` of each. Mend its client's token, or turn the address away"
            " before this server: at a firewall, or at the load balancer. `counterfoil lockdown` does not"
            " help: without a valid token nothing is given.",
        ),
    )
    DRIFT = KindRow(
        "drift",
        "medium",
        "A store gives other fields than the catalogue declares",
        "Declare them in reports.yaml, or have the store mended; `counterfoil policy status` counts them.",
        24 * HOUR,
    )
    POLICY = KindRow(
        "policy-refused",
        "high",
        "The policy files are not taken; the last good policy stays in force",
        "Run `counterfoil policy check` and mend what it tells of.",
        HOUR,
    )
    EVIDENCE = KindRow(
        "evidence-failing",
        "high",
        "The access log's proof is not published, or not kept where it should be",
        "See the server's log, and the places in `retain`; then run `counterfoil log verify`.",
        HOUR,
    )
    VERIFIER = KindRow(
        "verifier-failed",
        "high",
        "The access log is not whole, or could not be verified",
        "Touch nothing; run `counterfoil log verify --vkey … --retained …`, which names what is wrong and"
        " where, and see docs/auditing.md.",
        24 * HOUR,
    )
    LOG = KindRow(
        "log-lost",
        "high",
        "The access log cannot be written: nothing is released",
        "Make room on its disk and see the server's log; what was in hand is on record at the next start.",
        HOUR,
    )

    @property
    def slug(self) -> str:
        """Its name."""
        return self.value.slug


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """One alarm; it holds no value of a report."""

    kind: Kind
    subject: str = ""
    """Its opaque id, as in the access log."""
    name: str = ""
    """Its name, which is told only where the settings say so."""
    report: str = ""
    reports: tuple[str, ...] = ()
    """Where it is about no report: patterns of those that a lockdown would be about."""
    facts: Mapping[str, int | str] = field(default_factory=dict)
    """What is known of it: numbers, and words of our own."""
    about: str = ""
    """What tells it from others of its kind, beside the subject and the report."""
    id: str = field(default_factory=new_access_id)

    @property
    def same(self) -> str:
        """The name under which it is told once in a while."""
        # These are of several reports, whichever of them is named: that may be another one soon.
        report = "" if self.kind in (Kind.BUDGET, Kind.UNUSUAL) else self.report
        return f"{self.kind.slug}\n{self.subject}\n{report}\n{self.about}"

    @property
    def words(self) -> Words:
        """What it says: of an address, where its facts name one."""
        row = self.kind.value
        if row.of_address is not None and "address" in self.facts:
            return row.of_address
        return Words(row.title, row.do)

    @property
    def lockdowns(self) -> tuple[str, ...]:
        """Commands, to be pasted, that stop all access to what it is about, or to the first of that.

        None where it is about an address: that has none, and everybody else would lose theirs.
        """
        patterns = (self.report,) if self.report else self.reports[:_MOST_PATTERNS]
        reason = shlex.quote(f"alarm {self.kind.slug} {self.id}")
        return tuple(f"counterfoil lockdown {shlex.quote(p)} --reason {reason}" for p in patterns)

    @property
    def unlocked(self) -> int:
        """How many patterns of reports the commands leave open: no pattern of the policy's covers all."""
        return 0 if self.report else max(0, len(self.reports) - _MOST_PATTERNS)


def everything(reports: Iterable[str]) -> tuple[str, ...]:
    """Patterns that cover all of these reports."""
    return tuple(
        sorted({f"{report.split('/')[0]}/*" if "/" in report else report for report in reports})
    )
