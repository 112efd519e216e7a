"""Which form of a cell is given where several are granted.

The order is total, fixed and documented: by the treatments' ranks (`clear` first, `redact` last),
finer before coarser of one kind, then by their text. It is a preference, not an order of
information: whether the last four digits or a pseudonym say more, nobody can tell. So two such
forms may not meet on one field unless the report declares which it prefers (meeting.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from proxy.report import Report
from proxy.treatments import TABLE, Treatment

Place = tuple[Any, ...]
"""Sorts preferred treatments first."""


def order(report: Report) -> Callable[[Treatment], Place]:
    """The order of preference on a report.

    `prefer` puts the treatments that it names into its own order, in the places that they hold
    together; all others keep theirs.
    """
    ranks = _ranks(report.prefer)

    def place(treatment: Treatment) -> Place:
        rank = ranks.get(treatment.name, treatment.rank)
        return (rank, treatment.name, treatment.fineness, str(treatment))

    return place


def _ranks(prefer: Sequence[str]) -> dict[str, int]:
    """The places of the preferred treatments, dealt out anew."""
    named = [name for name in dict.fromkeys(prefer) if name in TABLE]
    return dict(zip(named, sorted(TABLE[name].rank for name in named), strict=True))
