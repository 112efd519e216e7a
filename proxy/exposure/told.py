"""What was found, in words and as plain values: for a terminal, a file, a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from proxy.access import written
from proxy.exposure.search import Exposed
from proxy.exposure.where import Where


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """What was asked, as texts; '' where something was not."""

    where: str
    fields: tuple[str, ...]
    report: str
    since: str
    until: str

    @classmethod
    def of(
        cls,
        where: Where | None,
        fields: frozenset[str],
        report: str,
        since: datetime | None,
        until: datetime | None,
    ) -> Self:
        """The same as values."""
        return cls(
            where=where.text if where else "",
            fields=tuple(sorted(fields)),
            report=report,
            since=written(since) if since else "",
            until=written(until) if until else "",
        )


_NAMES: Final = (
    "access", "log", "index", "started", "at", "subject", "principal", "groups", "tool", "address",
    "report", "format", "action", "purpose", "outcome", "status", "policy",
)  # fmt: skip
"""What is said of an access."""


def flat(exposed: Exposed) -> dict[str, object]:
    """One access and what it gave, in one object."""
    said = {name: getattr(exposed.access, name) for name in _NAMES}
    return said | {
        "certainty": exposed.certainty,
        "rows": exposed.rows,
        "fields": exposed.fields,
        "possible": exposed.possible,
        "possible_fields": exposed.possible_fields,
        "wrong": exposed.wrong,
    }


def summary(found: Sequence[Exposed]) -> str:
    """How many accesses there are, and by how many."""
    if not found:
        return "no access is on record that may have given such rows"
    surely = Counter(each.certainty for each in found)
    people = len({each.access.principal or each.access.subject for each in found})
    by = ", ".join(
        f"{surely[word]} {word}" for word in ("confirmed", "assumed", "possible") if surely[word]
    )
    one = len(found) == 1
    subjects = f"{people} {'subject' if people == 1 else 'subjects'}"
    return f"{len(found)} access{'' if one else 'es'} by {subjects}: {by}"


def in_words(fields: Mapping[str, Mapping[str, int]], named: Collection[str]) -> str:
    """`net_sales round(100)`; where no field was asked for, how many fields there are of each form."""
    if named:
        return ", ".join(f"{field} {'/'.join(forms)}" for field, forms in fields.items())
    counted = Counter(form for forms in fields.values() for form in forms)
    return ", ".join(f"{form} {count}" for form, count in sorted(counted.items()))
