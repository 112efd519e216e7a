"""The policy in force: its lines by principal and report, and the slice that applies to a request.

A decision looks at a slice: the lines about one set of principals and one report. It is found by a
few look-ups, kept in bounded number, and decided by Casbin once for each combination of what its
`when` conditions say; so that a decision met before is those conditions and one look-up, with 10
lines or 100,000.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.plan import Context, Line, Plan, Truth
from proxy.policy.conditions import Condition
from proxy.policy.lines import (
    ANYONE,
    WITHOUT_CELLS,
    AccessRule,
    Action,
    CellRule,
    Effect,
    patterns,
)  # fmt: skip
from proxy.policy.merge import merge
from proxy.policy.piecemeal import Containers
from proxy.policy.revealing import Carried, carried, tokenising, tokens
from proxy.policy.rules import Decider, Requester, Roles, Truths
from proxy.report import Report
from proxy.subject import Subject
from proxy.treatments.tokens import Tokenise

SUBJECTS: Final = 8_192
"""How many requesters' principals are remembered."""
SLICES: Final = 2_048
"""How many slices are remembered, each with its enforcer and plan."""
VERDICTS: Final = 256
"""How many verdicts of one slice are remembered."""


class Disagreement(Exception):
    """Casbin and our own reading of the same lines differ: nothing may be decided."""


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """The principals of a request that lines of the policy name; one object for equal ones."""

    asking: Requester
    """The user, or the tool that acts alone."""
    acting: Requester | None
    """The tool through which a user asks: it must hold `act`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a slice says under some truth of its conditions."""

    cause: str
    """Why not: a slug; '' where it permits."""
    lines: tuple[Line, ...]
    """The access rules that applied."""


class Policy:
    """One version of the policy, never changed; a new version is a new object."""

    def __init__(
        self,
        *,
        version: str,
        reports: Mapping[str, Report],
        purposes: Iterable[str] = (),
        access: Sequence[AccessRule],
        cells: Sequence[CellRule],
        reveals: Sequence[CellRule] = (),
        members: Iterable[tuple[str, str]] = (),
        sets: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Index the rules; `members` are the links of `g` lines, `sets` those of `g2` lines."""
        self.version = version
        self.purposes = tuple(purposes)
        self.access: Sequence[AccessRule] = (lines := list(access))
        """The `p` lines."""
        self.cells: Sequence[CellRule] = (rows := list(cells))
        """The `p2` lines, but for …"""
        self.reveals: Sequence[CellRule] = (back := list(reveals))
        """… those whose treatment is `reveal`: they give no cell to a reader."""
        self._reports = dict(reports)
        self._members = list(members)
        self._roles = Roles(self._members)
        self._sets = Roles(links := list(sets))
        self.report_sets = frozenset(of for _, of in links)
        """The sets that `g2` lines fill."""
        self._access: dict[tuple[str, str], list[AccessRule]] = defaultdict(list)
        self._cells: dict[tuple[str, str], list[CellRule]] = defaultdict(list)
        for rule in access:
            self._access[rule.principal, rule.report].append(rule)
        for row in cells:
            self._cells[row.principal, row.report].append(row)
        self._reveals: dict[tuple[str, str], list[CellRule]] = defaultdict(list)
        for row in reveals:
            self._reveals[row.principal, row.report].append(row)
        self._carried = carried(self._reports.values(), cells, reveals, self.covering)
        self.denials = sum(rule.effect is Effect.DENY for rule in lines)
        self.denials += sum(row.treatment is None for row in rows)
        """How many of its lines deny."""
        self._named = frozenset(
            principal for principal, _ in itertools.chain(self._access, self._cells, self._reveals)
        )
        self._tokenising = tokenising(rows)
        self.pieces: Containers = (
            self._access, self._cells, self._reveals, lines, rows, back, self._tokenising,
            self._members,
        )  # fmt: skip
        """What to free piece by piece (`piecemeal.let_go`) once the policy itself is gone."""
        # Caches that held the policy would keep it, once it is replaced, until a full garbage collection.
        weak = weakref.proxy(self)
        self._standing = functools.lru_cache(SUBJECTS)(
            functools.partial(Policy._find_standing, weak)
        )
        self.tokens = functools.lru_cache(SLICES)(functools.partial(Policy._tokens, weak))
        """The tokens in which a report's field is given to anybody."""
        self._same = functools.lru_cache(SLICES)(_standing)
        self._slice = functools.lru_cache(SLICES)(functools.partial(Policy._cut, weak))

    def slice(self, subject: Subject, report: str, action: str) -> Slice:
        """The lines that can apply where `subject` asks to do `action` on the report of that id."""
        return self._slice(self.standing(subject), report, action)

    def alone(
        self, names: Iterable[str], report: str, action: str, *, through: str | None = None
    ) -> Slice:
        """The lines that can apply to what these principals, roles among them, are together.

        `through` is the tool that asks for them.
        """
        principals = self._principals(names)
        if through is None:
            return self._slice(self._same(principals, principals, None), report, action)
        of_tool = self._principals([through])
        return self._slice(self._same(principals, principals | of_tool, of_tool), report, action)

    def standing(self, subject: Subject) -> Standing:
        """As which principals a subject asks."""
        return self._standing(subject.user, subject.groups, subject.tool)

    def report(self, name: str) -> Report:
        """The report of an id; raises KeyError."""
        return self._reports[name]

    def covering(self, report: str) -> frozenset[str]:
        """What lines can call a report: its id, the prefixes that it is under, the sets that it is in."""
        return self._sets.closure(patterns(report))

    def covered(self, pattern: str) -> tuple[str, ...]:
        """The ids of the reports that a line with this pattern is about."""
        return tuple([report for report in self._reports if pattern in self.covering(report)])

    def cells_to(self, action: str) -> Sequence[CellRule]:
        """The `p2` lines that count where an action is asked that gives cells: a `deny` counts always."""
        if action != Action.REVEAL:
            return self.cells
        return [*(row for row in self.cells if row.treatment is None), *self.reveals]

    def _tokens(self, report: str, field: str) -> tuple[Tokenise, ...]:
        return tokens(self._tokenising, report, field)

    def roles(self, role: str) -> frozenset[str]:
        """A role, and the roles that it holds."""
        return self._roles.closure([role])

    @property
    def principals(self) -> frozenset[str]:
        """Every principal that a line names, and every role that one holds."""
        return self._named.union(*self._members)

    @property
    def given_roles(self) -> frozenset[str]:
        """The roles that a `g` line gives to somebody."""
        return frozenset(of for _, of in self._members)

    def are(self, subject: Subject) -> frozenset[str]:
        """Every principal that a subject is, its tool among them, whether or not a line names it."""
        names = [subject.user, *subject.groups, subject.tool]
        return self._roles.closure(name for name in names if name) | {ANYONE}

    def holders(self, role: str) -> frozenset[str]:
        """The users, groups and tools that are members of a role, directly or through others."""
        return frozenset(
            member
            for member, _ in self._members
            if not member.startswith("role:") and role in self._roles.closure([member])
        )

    def _find_standing(
        self, user: str | None, groups: tuple[str, ...], tool: str | None
    ) -> Standing:
        """Who matches: a tool never lends its grants to a user, and its denials always apply."""
        of_tool = self._principals([tool] if tool else [])
        if user is None:
            return self._same(of_tool, of_tool, None)
        of_user = self._principals([user, *groups])
        if tool is None:
            return self._same(of_user, of_user, None)
        return self._same(of_user, of_user | of_tool, of_tool)

    def _principals(self, names: Iterable[str]) -> frozenset[str]:
        return (self._roles.closure(names) | {ANYONE}) & self._named

    def _cut(self, standing: Standing, report: str, action: str) -> Slice:
        """Gather a slice: principals × names of the report, one look-up each."""
        principals = sorted(standing.asking.denies)
        names = sorted(self.covering(report))
        keys = [(principal, name) for principal in principals for name in names]
        return Slice(
            report=self._reports[report],
            action=action,
            standing=standing,
            access=[rule for key in keys for rule in self._access.get(key, ())],
            cells=[rule for key in keys for rule in self._cells.get(key, ())],
            reveals=[rule for key in keys for rule in self._reveals.get(key, ())],
            carried=self._carried.get(report, {}),
            sets=self._sets,
        )


def _standing(
    allows: frozenset[str], denies: frozenset[str], acting: frozenset[str] | None
) -> Standing:
    return Standing(
        asking=Requester(allows, denies),
        acting=None if acting is None else Requester(acting, denies),
    )


class Slice:
    """The lines about one set of principals and one report, for one action."""

    def __init__(
        self,
        *,
        report: Report,
        action: str,
        standing: Standing,
        access: Iterable[AccessRule],
        cells: Iterable[CellRule],
        reveals: Iterable[CellRule],
        carried: Carried,
        sets: Roles,
    ) -> None:
        self._report = report
        self._action = action
        self.standing = standing
        actions = (action,) if standing.acting is None else (action, Action.ACT)
        self._access = sorted((r for r in access if r.action in actions), key=_place)
        self._decider = Decider(self._access, sets)
        if action == Action.REVEAL:
            cells = [*(row for row in cells if row.treatment is None), *reveals]
        self._cells = sorted(
            (r for r in cells if standing.asking.holds(r.principal, _effect(r))), key=_place
        )
        self._carried = carried
        self.plan: Plan | None = merge(report, self._cells, carried)
        """Of all its lines, whatever the time."""
        whens = {rule.when.text: rule.when for rule in self._access}
        self._fixed: dict[str, Truth] = {t: t == "true" for t in whens if t in ("true", "false")}
        self._whens: tuple[Condition, ...] = tuple(
            [when for text, when in whens.items() if text not in self._fixed]
        )
        self.reads: frozenset[str] = frozenset().union(*(when.reads for when in self._whens))
        """What of `env.*` its `when` conditions look at."""
        rows = {r.rows[report.id].text: r.rows[report.id] for r in self._cells} if self.plan else {}
        used = {predicate.text for predicate in self.plan.predicates} if self.plan else set()
        self.timed: tuple[Condition, ...] = tuple(
            [
                condition
                for condition in (*self._whens, *(rows[text] for text in sorted(used)))
                if condition.reads & {"now", "date"}
            ]
        )
        """The conditions, of lines and of rows, whose truth time alone can change."""
        self.ending: tuple[Condition, ...] = tuple([r for r in rows.values() if r.is_timed])
        """The row conditions that time alone may end."""
        self._merged = functools.lru_cache(VERDICTS)(
            functools.partial(Slice._without, weakref.proxy(self))
        )
        self._judge = functools.lru_cache(VERDICTS)(
            functools.partial(Slice._judged, weakref.proxy(self))
        )

    def verdict(self, context: Context) -> Verdict:
        """What the lines say in this context; raises Disagreement rather than choose."""
        return self.verdict_where(tuple([when.holds(context) for when in self._whens]), context)

    def plan_at(self, context: Context) -> Plan | None:
        """The plan without the lines whose row condition is over, or does not hold yet.

        Such a line gives no cell at this time and hides none: it is as if it were not there.
        """
        if not self.ending:
            return self.plan
        over = tuple([rows.text for rows in self.ending if rows.is_over(context)])
        return self._merged(over) if over else self.plan

    def _without(self, over: tuple[str, ...]) -> Plan | None:
        id_ = self._report.id
        left = [r for r in self._cells if r.rows[id_].text not in over]
        return merge(self._report, left, self._carried)

    def _gives_nothing(self, plan: Plan | None) -> bool:
        return plan is None and self._action not in WITHOUT_CELLS

    @property
    def access(self) -> tuple[AccessRule, ...]:
        """Its access rules, those of `act` too where a tool asks for a user."""
        return tuple(self._access)

    @property
    def whens(self) -> tuple[Condition, ...]:
        """Its `when` conditions whose truth depends on the requester or the circumstances."""
        return self._whens

    def verdict_where(self, truths: tuple[Truth, ...], context: Context) -> Verdict:
        """What the lines say in this context where `whens` have these truths."""
        found = self._judge(truths)
        if self.ending and not found.cause and self._gives_nothing(self.plan_at(context)):
            return Verdict(cause="no-cell-rule", lines=found.lines)
        return found

    def _judged(self, truths: tuple[Truth, ...]) -> Verdict:
        known = zip((when.text for when in self._whens), truths, strict=True)
        table = Truths({**self._fixed, **dict(known)})
        standing = self.standing
        asked = self._ruling(standing.asking, self._action, table)
        if asked.cause:
            return asked
        if standing.acting is not None:
            acted = self._ruling(standing.acting, Action.ACT, table)
            if acted.cause:
                cause = "tool-may-not-act" if acted.cause == "no-allow-line" else acted.cause
                return Verdict(cause=cause, lines=acted.lines)
            asked = Verdict(cause="", lines=(*asked.lines, *acted.lines))
        if self._gives_nothing(self.plan):
            return Verdict(cause="no-cell-rule", lines=asked.lines)
        return asked

    def _ruling(self, requester: Requester, action: str, table: Truths) -> Verdict:
        """Casbin's decision on one action, with the lines that explain it."""
        applied = [
            rule
            for rule in self._access
            if rule.action == action
            and requester.holds(rule.principal, rule.effect)
            and table.applies(rule.when.text, rule.effect)
        ]
        denying = [rule for rule in applied if rule.effect is Effect.DENY]
        permitted = self._decider.permits(requester, self._report.id, action, table)
        if permitted != (bool(applied) and not denying):
            raise Disagreement
        if permitted:
            return Verdict(cause="", lines=_lines(applied))
        if not denying:
            return Verdict(cause="no-allow-line", lines=())
        # A line about the user's own principals, or about anyone, explains more than the tool's.
        own = self.standing.asking.allows
        of_tool = all(rule.principal not in own for rule in denying)
        return Verdict(cause="tool-denied" if of_tool else "deny-line", lines=_lines(denying))


def _effect(rule: CellRule) -> Effect:
    return Effect.DENY if rule.treatment is None else Effect.ALLOW


def _place(rule: AccessRule | CellRule) -> tuple[str, int]:
    return rule.line.file, rule.line.line


def _lines(rules: Iterable[AccessRule]) -> tuple[Line, ...]:
    return tuple([rule.line for rule in rules])
