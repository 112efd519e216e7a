"""Drift: what stores give otherwise than the catalogue declares; noticed answer by answer, told of once.

Undeclared fields are given to nobody. Their names may be data (a document that lost its header, objects
keyed by value): they are compared and counted, and go nowhere. Fields that vanished are the catalogue's
own, and are named.

An alarm is raised for each name once, as long as the catalogue declares the same fields of the report;
how many fields drift *now* is what the newest answer of each variant has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from proxy.formats.base import UNDECLARED_NAMES, Decoder
from proxy.gateway.view import View
from proxy.report import Report, Variant


class Kind(StrEnum):
    """In which way a field drifts; as it stands in the access log."""

    UNDECLARED = "undeclared-field"
    VANISHED = "vanished-field"


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """Fields of a report that were not told of before."""

    report: str
    kind: Kind
    count: int
    """With those that were told of before."""
    names: tuple[str, ...]
    """Of fields that vanished. None of the others."""

    def __str__(self) -> str:
        fields = "1 field" if self.count == 1 else f"{self.count} fields"
        if self.kind is Kind.UNDECLARED:
            return f"{self.report}: its store gives {fields} that the catalogue does not declare"
        named = ", ".join(f"`{name}`" for name in self.names)
        return f"{self.report}: its store lacks {named}, which the catalogue declares"


Counts = dict[Kind, int]


@dataclass(kw_only=True, slots=True)
class _Drifting:
    """What is known of a report that drifted."""

    declared: frozenset[str]
    told: dict[Kind, set[str]] = field(default_factory=lambda: {kind: set() for kind in Kind})
    newest: dict[str, Counts] = field(default_factory=dict)
    """By the variant's path, of its newest answer."""


_MOST: Final = {Kind.UNDECLARED: UNDECLARED_NAMES, Kind.VANISHED: 1 << 16}
"""Names that a report's alarms can be about: what a store makes up is bounded, what we declare is."""


class Drift:
    """All reports; memory is bounded by the catalogue."""

    def __init__(self) -> None:
        self._reports: dict[str, _Drifting] = {}

    def notice(
        self, view: View | Decoder, report: Report, variant: Variant, current: Mapping[str, Report]
    ) -> Sequence[Alarm]:
        """The alarms that an answer raises; `current` are the reports of the catalogue in force."""
        if not (view.undeclared or view.vanished or report.id in self._reports):
            return ()
        if not view.compared or not _declared_alike(current.get(report.id), report):
            return ()
        found = {Kind.UNDECLARED: view.undeclared, Kind.VANISHED: view.vanished or frozenset()}
        known = self._reports.get(report.id)
        if known is None or known.declared != report.fields.keys():
            known = self._reports[report.id] = _Drifting(declared=frozenset(report.fields))
        for path in known.newest.keys() - {each.path for each in report.variants}:
            del known.newest[path]
        counts = {kind: len(names) for kind, names in found.items()}
        if view.vanished is None and variant.path in known.newest:
            counts[Kind.VANISHED] = known.newest[variant.path][Kind.VANISHED]
        known.newest[variant.path] = counts
        alarms = []
        for kind, names in found.items():
            told = known.told[kind]
            new = sorted(names - told)[: _MOST[kind] - len(told)]
            if new:
                told.update(new)
                named = tuple(new) if kind is Kind.VANISHED else ()
                alarms.append(Alarm(report=report.id, kind=kind, count=len(told), names=named))
        return alarms

    def fields(self, current: Mapping[str, Report]) -> dict[str, Counts]:
        """Report -> how many of its fields drift now, for the reports of the catalogue in force."""
        found: dict[str, Counts] = {}
        for id_, known in self._reports.items():
            report = current.get(id_)
            if report is not None and known.declared == report.fields.keys():
                newest = [
                    known.newest[variant.path]
                    for variant in report.variants
                    if variant.path in known.newest
                ]
                if newest:
                    found[id_] = {kind: max(counts[kind] for counts in newest) for kind in Kind}
        return found


def _declared_alike(one: Report | None, other: Report) -> bool:
    return one is not None and one.fields.keys() == other.fields.keys()
