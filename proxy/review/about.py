"""The lines of two versions about one report, and whom their difference touches."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence

from proxy.policy.lines import ANYONE, GIVES_CELLS, AccessRule, Action, CellRule
from proxy.policy.preference import order
from proxy.report import Report
from proxy.review.pairs import Question
from proxy.review.sides import Who, known_of
from proxy.review.walk import Fixed
from proxy.snapshot import Snapshot


class Lines:
    """The lines of one version, by what they call reports; and who is what."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Look through them once."""
        policy = snapshot.policy
        self.snapshot = snapshot
        self._access: dict[str, list[AccessRule]] = defaultdict(list)
        for rule in policy.access:
            self._access[rule.report].append(rule)
        self._given: dict[str, dict[str, list[CellRule]]] = {}
        for action in GIVES_CELLS:
            by_pattern = self._given[action] = defaultdict(list)
            for row in policy.cells_to(action):
                by_pattern[row.report].append(row)
        self.principals = policy.principals
        self.roles = functools.cache(policy.roles)
        """A principal, and the roles that it holds."""
        self.known = functools.cache(self._known)
        """What a requester is, and the attributes of it that are certain."""
        self.held_by: dict[str, set[str]] = defaultdict(set)
        """Role -> the kinds of principals that hold it."""
        for principal in self.principals:
            kind = principal.partition(":")[0]
            for role in self.roles(principal) if kind != "role" else ():
                self.held_by[role].add(kind)

    def closure(self, names: Iterable[str]) -> frozenset[str]:
        """The principals, all roles that they hold, and `anyone`."""
        return frozenset([ANYONE]).union(*map(self.roles, names))

    def _known(self, who: Who) -> tuple[frozenset[str], Fixed]:
        known = known_of(self.snapshot, who)
        return self.closure(known.names), known.attributes

    def about(self, report: str, action: str) -> Rules:
        """Those that count where `action` is asked on a report."""
        declared = self.snapshot.catalogue.reports.get(report)
        names = sorted(self.snapshot.policy.covering(report)) if declared else []
        access = [rule for name in names for rule in self._access[name]]
        if all(rule.action != action for rule in access):
            return Rules(declared, [], [])
        given = self._given.get(action, {})
        cells = [row for name in names for row in given.get(name, ())]
        return Rules(
            declared,
            [rule for rule in access if rule.action in (action, Action.ACT)],
            cells,
        )


class Rules:
    """The lines of one version that count where one action is asked on one report."""

    def __init__(
        self, report: Report | None, access: Sequence[AccessRule], cells: Sequence[CellRule]
    ) -> None:
        """`report` None: there is none, and no line about it."""
        self.report = report
        self.access = access
        self.said = frozenset([(r.principal, r.action, r.when.text, r.effect) for r in access])
        """What each access rule says."""
        self.gives = frozenset(
            [(r.principal, self.rows(r), self.named(r), str(r.treatment)) for r in cells]
        )
        """What each cell rule says."""
        self.principals = frozenset([r.principal for r in access] + [r.principal for r in cells])
        conditions = [rule.when for rule in access]
        conditions += [row.rows[report.id] for row in cells if report]
        self.attributes = frozenset().union(*(each.attributes for each in conditions))
        self.reads = frozenset().union(*(each.reads for each in conditions))
        self.fields: tuple[str, ...] = tuple(report.fields) if report else ()
        self._of = {name: [row for row in cells if name in self.named(row)] for name in self.fields}

    def rows(self, row: CellRule) -> str:
        """The condition of a line's rows."""
        return row.rows[self.report.id].text if self.report else ""

    def named(self, row: CellRule) -> frozenset[str]:
        """The fields that a line names."""
        return row.fields[self.report.id] if self.report else frozenset()

    def denying(self, field: str) -> list[CellRule]:
        """The lines that hide the field's cells."""
        return [row for row in self._of.get(field, ()) if row.treatment is None]

    def giving(self, field: str) -> list[CellRule]:
        """The lines that give the field in some form, most preferred first."""
        if self.report is None:
            return []
        place = order(self.report)
        found = [
            (place(r.treatment), self.rows(r), r) for r in self._of.get(field, ()) if r.treatment
        ]
        return [row for _, _, row in sorted(found, key=lambda each: each[:2])]

    def of(self, field: str) -> frozenset[tuple[str, str, str]]:
        """What decides about a field; equal where nothing differs."""
        rows = self._of.get(field, ())
        return frozenset([(row.principal, self.rows(row), str(row.treatment)) for row in rows])


class About:
    """Both versions' lines where one action is asked on one report, and whom their difference touches."""

    def __init__(self, question: Question, lines: tuple[Lines, Lines]) -> None:
        """Find what is not the same."""
        self.question = question
        self.lines = lines
        self.rules = tuple([each.about(question.report, question.action) for each in lines])
        old, new = self.rules
        unlike = [*(old.said ^ new.said), *(old.gives ^ new.gives)]
        self.changed = frozenset([principal for principal, *_ in unlike])
        """The principals with a line that is not in both."""
        declared = [(r.report.types, r.report.prefer) if r.report else None for r in self.rules]
        self._declared = declared[0] != declared[1]
        self.named = old.principals | new.principals
        self._attributes = old.attributes | new.attributes
        self.principals = sorted(lines[0].principals | lines[1].principals)
        self.moved = frozenset([each for each in self.principals if self._moves([each], [each])])
        """The principals that are no more what they were, or are more."""

    def _moves(self, old: Iterable[str], new: Iterable[str]) -> bool:
        were, are = (
            lines.closure(names) for lines, names in zip(self.lines, (old, new), strict=True)
        )
        return were & self.named != are & self.named

    @property
    def concerns_all(self) -> bool:
        """Whether any field may be given otherwise, though the lines about it are the same."""
        old, new = self.rules
        return bool(self.moved) or self._declared or old.said != new.said

    @property
    def differs(self) -> bool:
        """Whether anything is not the same but what people.csv says."""
        return bool(self.changed or self.moved) or self._declared

    def touches(self, who: Who) -> bool:
        """Whether a requester may get something else by what it is alone."""
        (were, _), (are, _) = (lines.known(who) for lines in self.lines)
        changed = not self.changed.isdisjoint(were | are)
        return changed or self._declared or self.tells_otherwise(who)

    def tells_otherwise(self, who: Who) -> bool:
        """Whether the requester is another, or has other attributes, to these lines."""
        (were, then), (are, now) = (lines.known(who) for lines in self.lines)
        unlike = {n for n in {*then, *now} if (n in then, then.get(n)) != (n in now, now.get(n))}
        return were & self.named != are & self.named or not unlike.isdisjoint(self._attributes)

    def tools(self) -> list[str]:
        """The tools that lines speak of, through which a user may ask."""
        return [
            each
            for each in self.principals
            if each.startswith("tool:")
            and any(lines.roles(each) & self.named for lines in self.lines)
        ]

    def kinds(self, role: str) -> frozenset[str]:
        """The kinds of principals that hold a role in either version."""
        return frozenset().union(*(lines.held_by.get(role, ()) for lines in self.lines))

    def parts(self, kind: str) -> list[str]:
        """The groups, or roles, that tell requesters apart: those with a line, or no more what they were.

        What any other group gives is what its roles do.
        """
        known = self.named | self.moved
        return [each for each in self.principals if each.startswith(kind) and each in known]

    def exclusive(self) -> list[str]:
        """The roles that users hold, and no group: somebody with two of them is a user that is known."""
        return [
            role
            for role in self.parts("role:")
            if "user" in self.kinds(role) and "group" not in self.kinds(role)
        ]
