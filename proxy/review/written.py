"""What the lints look at: a policy without faults, and where in its files each thing is said."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

from proxy.catalogue.entries import CatalogueFile
from proxy.documents import Document, load
from proxy.errors import Fault
from proxy.plan import Line
from proxy.policy import grammar
from proxy.policy.index import Policy
from proxy.policy.lines import ANYONE, AccessRule, Action, CellRule, Effect
from proxy.policy.preference import order
from proxy.policy.reading import place
from proxy.policy.source import RULE_FILES
from proxy.policy.syntax import read
from proxy.report import By, Parameter, Report
from proxy.review.proofs import Prover
from proxy.snapshot import Snapshot

Rule = AccessRule | CellRule
R = TypeVar("R", bound=Rule)

_MOST_BESIDE: Final = 50
"""Lines about the same, up to which each is held against each."""
_REMEMBERED: Final = 1_024
"""Lists of lines about the same that are kept: most lines stand near others of their principal."""


class Link(NamedTuple):
    """A `g` or `g2` line."""

    line: Line
    member: str
    of: str


def effect_of(rule: Rule) -> Effect:
    """Whether a line gives or takes."""
    if isinstance(rule, AccessRule):
        return rule.effect
    return Effect.DENY if rule.treatment is None else Effect.ALLOW


class Written:
    """One policy without faults."""

    def __init__(
        self, snapshot: Snapshot, files: Mapping[str, bytes], beside: Iterable[str] = ()
    ) -> None:
        """`files` are those of the snapshot, others do no harm; `beside` are names of what is not read."""
        self.policy: Policy = snapshot.policy
        self.prover = Prover(snapshot)
        self._reports = snapshot.catalogue.reports
        self._catalogue = files["reports.yaml"]
        documents = [files[name] for name in ("reports.yaml", "subjects.yaml") if name in files]
        self.unread = [
            name for name in beside if not any(name.encode() in text for text in documents)
        ]
        """Files beside those of the policy that look like one, and that it does not name."""
        self._records = {
            place(record): record
            for name in RULE_FILES
            if name in files
            for record in read(name, files[name])[0]
        }
        self._access: dict[tuple[str, str], list[AccessRule]] = defaultdict(list)
        self._cells: dict[tuple[str, str], list[CellRule]] = defaultdict(list)
        self._giving: dict[str, list[CellRule]] = defaultdict(list)
        for rule in self.policy.access:
            self._access[rule.principal, rule.report].append(rule)
        for row in self.cell_rules:
            self._cells[row.principal, row.report].append(row)
            if row.treatment is not None:
                self._giving[row.report].append(row)
        self.held_with = functools.cache(self._held_with)
        """What whoever is a principal is too, as far as the `g` lines tell of all its holders."""
        self.given = functools.cache(self._find_given)
        """The principals whose own lines give cells of a report to those who do an action."""
        self._access_of = functools.lru_cache(_REMEMBERED)(self._find_access)
        self._cells_of = functools.lru_cache(_REMEMBERED)(self._find_cells)
        self.over = functools.cache(self._find_over)
        """The patterns that cover all that a pattern covers."""
        self.preference = functools.cache(lambda report: order(self._reports[report]))
        """The order of forms on a report."""

    @property
    def parameters(self) -> Iterator[tuple[Report, Parameter]]:
        """Those by which stores filter, each with its report."""
        for report in self._reports.values():
            for parameter in report.parameters.values():
                if parameter.by is By.FILTER:
                    yield report, parameter

    @property
    def rules(self) -> Iterator[Rule]:
        """The `p` lines, then the `p2` lines."""
        yield from self.policy.access
        yield from self.cell_rules

    @property
    def cell_rules(self) -> Iterator[CellRule]:
        """The `p2` lines, those that reveal last."""
        yield from self.policy.cells
        yield from self.policy.reveals

    def fault(self, line: Line, cell: int, message: str, hint: str) -> Fault:
        """What is said of a line, at one of its cells."""
        return self._records[line].fault(message, hint, cell=cell)

    def fault_of_parameter(self, report: str, name: str, message: str, hint: str) -> Fault:
        """What is said of a parameter, at its name."""
        return self._document.fault(
            message, "reports", report, "parameters", name, hint=hint, key=True
        )

    @functools.cached_property
    def _document(self) -> Document[CatalogueFile]:
        return load(self._catalogue, CatalogueFile, file="reports.yaml")

    @functools.cached_property
    def links(self) -> tuple[Link, ...]:
        """The `g` and `g2` lines."""
        return tuple(
            Link(place(record), *map(grammar.principal if kind == "g" else str, record.cells[1:]))
            for record in self._records.values()
            if (kind := record.cells[0]) in ("g", "g2")
        )

    @functools.cached_property
    def holders(self) -> Mapping[str, frozenset[str]]:
        """Role -> the users, groups and tools that hold it, directly or through others."""
        found: dict[str, set[str]] = defaultdict(set)
        for link in self.links:
            if link.of.startswith("role:") and not link.member.startswith("role:"):
                for role in self.policy.roles(link.member) - {link.member}:
                    found[role].add(link.member)
        return {role: frozenset(members) for role, members in found.items()}

    @functools.cached_property
    def repeats(self) -> Mapping[Line, Line]:
        """Lines that say what an earlier one says -> that one."""
        first: dict[object, Line] = {}
        said = [(rule.line, _said(rule)) for rule in self.rules]
        said += [(link.line, (link.member, link.of)) for link in self.links]
        earlier = [(line, first.setdefault(what, line)) for line, what in said]
        return {line: before for line, before in earlier if line != before}

    # ── lines that apply beside others ──

    def held_by(self, principal: str) -> frozenset[str]:
        """What whoever is a principal is too, whoever may come to hold it: its roles, and anyone."""
        return self.policy.roles(principal) | {ANYONE}

    def _held_with(self, principal: str) -> frozenset[str]:
        holders = self.holders.get(principal)
        common = (
            frozenset.intersection(*map(self.policy.roles, holders)) if holders else frozenset()
        )
        return self.held_by(principal) | common

    def access_beside(
        self, rule: AccessRule, effect: Effect, also: frozenset[str]
    ) -> list[AccessRule]:
        """The lines of an effect about whom a rule is `also` about, and on all that it covers."""
        found = self._access_of(effect, rule.action, self.over(rule.report), also)
        return found.beside(rule.when.text)

    def cells_beside(
        self, row: CellRule, report: str, effect: Effect, also: frozenset[str]
    ) -> list[CellRule]:
        """The lines of an effect about whom a rule is `also` about, and on a report.

        A line that reveals gives nothing beside one that gives cells; a denial counts for both.
        """
        action = None if effect is Effect.DENY else row.action
        return self._cells_of(effect, report, action, also).beside(row.rows[report].text)

    def _find_access(
        self, effect: Effect, action: Action, patterns: frozenset[str], principals: frozenset[str]
    ) -> _Lines[AccessRule]:
        return _Lines(
            (rule, rule.when.text)
            for pattern in patterns
            for principal in principals
            for rule in self._access.get((principal, pattern), ())
            if rule.effect is effect and rule.action is action
        )

    def _find_cells(
        self, effect: Effect, report: str, action: Action | None, principals: frozenset[str]
    ) -> _Lines[CellRule]:
        return _Lines(
            (row, row.rows[report].text)
            for pattern in self.policy.covering(report)
            for principal in principals
            for row in self._cells.get((principal, pattern), ())
            if effect_of(row) is effect and action in (None, row.action)
        )

    def allowing(self, principal: str, report: str, action: Action) -> list[AccessRule]:
        """The lines by which whoever is a principal may do an action on a report."""
        return [
            rule
            for pattern in self.policy.covering(report)
            for name in self.held_by(principal)
            for rule in self._access.get((name, pattern), ())
            if rule.action is action and rule.effect is Effect.ALLOW
        ]

    def _find_given(self, report: str, action: Action) -> frozenset[str]:
        return frozenset(
            row.principal
            for pattern in self.policy.covering(report)
            for row in self._giving.get(pattern, ())
            if row.fields[report] and row.action is action
        )

    def _find_over(self, pattern: str) -> frozenset[str]:
        return frozenset.intersection(*map(self.policy.covering, self.policy.covered(pattern)))


def _said(rule: Rule) -> object:
    """What a line says; equal where that is the same."""
    if isinstance(rule, AccessRule):
        return (rule.principal, rule.report, rule.action, rule.when.text, rule.effect)
    rows = tuple((report, rows.text) for report, rows in sorted(rule.rows.items()))
    fields = tuple(sorted(rule.fields.items()))
    return (rule.principal, rule.report, rows, fields, rule.treatment, rule.action)


class _Lines(Generic[R]):
    """The lines about the same, in their order."""

    def __init__(self, lines: Iterable[tuple[R, str]]) -> None:
        """Each comes with its condition."""
        found = sorted(lines, key=lambda each: (each[0].line.file, each[0].line.line))
        self._all: list[R] = [rule for rule, _ in found]
        self._by_text: dict[str, list[R]] = defaultdict(list)
        for rule, text in found:
            self._by_text[text].append(rule)

    def beside(self, text: str) -> list[R]:
        """All; of many those alone that have no condition, or that one."""
        if len(self._all) <= _MOST_BESIDE:
            return self._all
        return [
            rule for each in dict.fromkeys(("true", text)) for rule in self._by_text.get(each, ())
        ]
