"""What a policy's lines say of giving sealed cells back: what these must carry, and which forms there are.

A line whose treatment is `reveal` gives no cell to a reader. It lets a sealed cell of its fields be given
back, to those who may `reveal`, where its condition holds for the cell's row and no `deny` hides it. The
row is not at hand by then, so the cell carries what such conditions look at. That is found here, once for
each policy, from lines alone: no row and no requester has a part in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from proxy.policy.lines import CellRule
from proxy.report import Report
from proxy.treatments.tokens import Tokenise

Carried = Mapping[str, tuple[str, ...]]
"""Field -> the other fields that its sealed cells carry, in the catalogue's order."""


def carried(
    reports: Iterable[Report],
    cells: Iterable[CellRule],
    reveals: Iterable[CellRule],
    covering: Callable[[str], frozenset[str]],
) -> Mapping[str, Carried]:
    """For each report with `reveal` lines: what the conditions of these, and of `deny` lines, look at.

    `cells` are all other lines.
    """
    revealing = _by_pattern(reveals)
    if not revealing:
        return {}
    denying = _by_pattern(rule for rule in cells if rule.treatment is None)
    found: dict[str, Carried] = {}
    for report in reports:
        names = covering(report.id)
        looked: dict[str, set[str]] = {}
        for rule in (rule for name in names for rule in revealing.get(name, ())):
            for field in rule.fields[report.id]:
                looked.setdefault(field, set()).update(rule.looks_at(report.id))
        for rule in (rule for name in names for rule in denying.get(name, ())) if looked else ():
            for field in rule.fields[report.id] & looked.keys():
                looked[field] |= rule.looks_at(report.id)
        if looked:
            found[report.id] = {
                field: tuple(name for name in report.fields if name in others - {field})
                for field, others in looked.items()
            }
    return found


def tokenising(rules: Iterable[CellRule]) -> list[CellRule]:
    """The lines that give tokens, which can be turned back and say nothing of where they belong."""
    return [rule for rule in rules if isinstance(rule.treatment, Tokenise)]


def tokens(rules: Iterable[CellRule], report: str, field: str) -> tuple[Tokenise, ...]:
    """The tokens in which any of these lines gives a field."""
    found = {
        rule.treatment
        for rule in rules
        if isinstance(rule.treatment, Tokenise) and field in rule.fields.get(report, ())
    }
    return tuple(sorted(found, key=str))


def _by_pattern(rules: Iterable[CellRule]) -> Mapping[str, list[CellRule]]:
    found: dict[str, list[CellRule]] = defaultdict(list)
    for rule in rules:
        found[rule.report].append(rule)
    return found
