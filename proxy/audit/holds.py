"""Legal holds: what must not be pruned, as records of the log say. They are the only place of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final

from proxy.access import NO_EVENT, AccessEvent, decode
from proxy.audit.store import Files, failing_as_unavailable, read_only

_HOLD: Final = '"step":"hold"'
ENDS: Final = "ends"
"""The member of a record's parameters that names the hold that it ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """What is kept, and why. A record is covered where it fits each condition that there is."""

    name: str
    reason: str
    subjects: tuple[str, ...] = ()
    """Opaque ids."""
    reports: tuple[str, ...] = ()
    """Ids, or `prefix/*`."""
    since: str = ""
    until: str = ""
    """RFC 3339, UTC: a record is covered from `since` on and before `until`."""
    id: str = ""
    """That of its record."""
    at: str = ""
    by: str = ""
    """The opaque id of whoever holds."""

    @classmethod
    def of(cls, event: AccessEvent) -> Hold:
        """What a record says."""
        said = event.parameters
        return cls(
            name=said.get("name", ""),
            reason=said.get("reason", ""),
            subjects=tuple(said.get("subjects", "").split()),
            reports=tuple(said.get("reports", "").split()),
            since=said.get("since", ""),
            until=said.get("until", ""),
            id=event.access,
            at=event.at,
            by=event.subject,
        )

    @property
    def parameters(self) -> dict[str, str]:
        """What a record says of it."""
        said = {
            "name": self.name,
            "reason": self.reason,
            "subjects": " ".join(self.subjects),
            "reports": " ".join(self.reports),
            "since": self.since,
            "until": self.until,
        }
        return {name: text for name, text in said.items() if text}

    def of_all(self, people: Iterable[set[str]]) -> Hold:
        """The same, of all ids of each who has one of its ids: another key may name them since."""
        own = frozenset(self.subjects)
        more = {id_ for ids in people if not own.isdisjoint(ids) for id_ in ids - own}
        return replace(self, subjects=(*self.subjects, *sorted(more)))

    def covers(self, *, subject: str, report: str, at: str) -> bool:
        """Whether a record of these is kept."""
        return (
            (not self.subjects or subject in self.subjects)
            and (not self.reports or any(_fits(each, report) for each in self.reports))
            and self.since <= at
            and (not self.until or at < self.until)
        )


def _fits(pattern: str, report: str) -> bool:
    if pattern.endswith("/*"):
        return report.startswith(pattern[:-1]) or report == pattern
    # A lockdown is on record with a pattern itself.
    return report == pattern or (report.endswith("/*") and pattern.startswith(report[:-1]))


def in_force(files: Files) -> Mapping[str, Hold]:
    """Id -> hold, of all that no record ends. Raises LogUnavailable."""
    found: dict[str, Hold] = {}
    for event in _records(files):
        if ended := event.parameters.get(ENDS):
            found.pop(ended, None)
        else:
            found[event.access] = Hold.of(event)
    return found


def _records(files: Files) -> Iterator[AccessEvent]:
    with (
        failing_as_unavailable(files.leaves),
        closing(sqlite3.connect(read_only(files.leaves), uri=True, timeout=5.0)) as connection,
    ):
        rows = connection.execute(
            "SELECT entry FROM leaf WHERE instr(entry, CAST(? AS BLOB)) ORDER BY number", (_HOLD,)
        )
        for (entry,) in rows:
            try:
                event = decode(entry)
            except NO_EVENT:
                continue  # which verification tells of
            if event.step == "hold":
                yield event
