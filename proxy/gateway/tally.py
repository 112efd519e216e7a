"""What is counted while requests go by: plain integers, looked at when somebody reads the metrics.

What they are counted by is bounded and nobody's to choose: reports by the catalogue's id, reasons and
endings by their tables. No subject, no value, no part of a request.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from proxy.access import AccessEvent

NO_REPORT: Final = "(none)"
"""What is about no report of the catalogue; no id of a report looks so."""


def _zeros() -> defaultdict[str, int]:
    return defaultdict(int)  # twice as fast as a Counter


@dataclass(slots=True)
class Count:
    """Of one report."""

    decisions: defaultdict[str, int] = field(default_factory=_zeros)
    """By the reason of a refusal; '' where it is permitted."""
    endings: defaultdict[str, int] = field(default_factory=_zeros)
    """Of answers, as `AccessEvent.ended` has them."""
    rows: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Tally:
    """Counts since the start, of one thread."""

    reports: dict[str, Count] = field(default_factory=dict)
    unrecorded: int = 0
    """Requests that got no answer but 503, for no record could be made."""

    def recorded(self, report: str, event: AccessEvent) -> None:
        """A durable record of an access."""
        count = self.reports.get(report)
        if count is None:
            count = self.reports[report] = Count()
        if event.part == 0:
            count.decisions[event.reason] += 1
        if event.ended:
            count.endings[event.ended] += 1
            count.rows += event.rows
            count.bytes += event.bytes

    def coalesced(self, reason: str) -> None:
        """A refusal that shares its record with others."""
        self.reports.setdefault(NO_REPORT, Count()).decisions[reason] += 1
