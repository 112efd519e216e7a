"""Which entries are gone, and which records say so: what a log was pruned of, held together.

A record of pruning names a log and its entries, first and last of each run: `0-511 768-1023`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from proxy.access import AccessEvent
from proxy.audit.findings import Pruned

LOG: Final = "log"
ENTRIES: Final = "entries"
"""Members of a record's parameters."""

_RUN: Final = re.compile(r"([0-9]{1,13})-([0-9]{1,13})")


def written(runs: Iterable[tuple[int, int]]) -> str:
    """Runs [first, end) as a record has them."""
    return " ".join(f"{first}-{end - 1}" for first, end in runs)


def read(text: str) -> list[tuple[int, int]]:
    """What was written; what is no run is none."""
    found = []
    for word in text.split(" "):
        run = _RUN.fullmatch(word)
        if run is not None and int(run[1]) <= int(run[2]):
            found.append((int(run[1]), int(run[2]) + 1))
    return found


def joined(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same entries in as few runs as there can be, in their order."""
    found: list[tuple[int, int]] = []
    for first, end in sorted(runs):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((first, end))
    return found


class Gone:
    """What is found gone, and what records say of it."""

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._said: dict[str, list[tuple[int, int, str]]] = defaultdict(list)

    def add(self, log: str, first: int, end: int) -> None:
        """Entries [first, end) of a log are not there."""
        self._found[log].append((first, end))

    def said(self, event: AccessEvent, where: str) -> None:
        """A record of pruning."""
        for first, end in read(event.parameters.get(ENTRIES, "")):
            self._said[event.parameters.get(LOG, "")].append((first, end, where))

    def on_record(self) -> Iterator[Pruned]:
        """The runs that records name, and of which something is gone."""
        for log, runs in self._said.items():
            gone = joined(self._found.get(log, ()))
            for first, end, where in runs:
                for low, high in gone:
                    if max(first, low) < min(end, high):
                        yield Pruned(
                            log=log, first=max(first, low), last=min(end, high) - 1, where=where
                        )

    def unsaid(self) -> Iterator[tuple[str, int, int]]:
        """(log, first, end) of the runs that are gone and that no record names."""
        for log, runs in self._found.items():
            said = joined((first, end) for first, end, _ in self._said.get(log, ()))
            for first, end in joined(runs):
                at = first
                for low, high in said:
                    if high <= at or low >= end:
                        continue
                    if low > at:
                        yield log, at, low
                    at = max(at, high)
                if at < end:
                    yield log, at, end
