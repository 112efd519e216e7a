"""What one version of the policy gives one requester on one report: in words, as formulas, and as it is."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from proxy.batch import PLAIN, Batch
from proxy.few import Cells, Few
from proxy.plan import Column, Context, Plan, Truth
from proxy.policy.conditions import Scope
from proxy.policy.conditions.syntax import parse
from proxy.policy.conditions.tree import (
    And,
    Comparison,
    Constant,
    Membership,
    Node,
    Not,
    Or,
    Relation,
    canonical,
    quoted,
)  # fmt: skip
from proxy.policy.index import Slice
from proxy.policy.lines import GIVES_CELLS, Action, Effect
from proxy.policy.rules import Requester
from proxy.report import Report
from proxy.review import formulas as logic
from proxy.review.cells import ABSENT
from proxy.review.formulas import Formula
from proxy.review.solver import Assignment, Solver
from proxy.review.walk import Fixed
from proxy.snapshot import Snapshot
from proxy.subject import Person, Source
from proxy.values import Type, Value

MAY: Final = "may"
"""Stands for a field, and for its form, where an action gives no cells."""
ANY_TOOL: Final = "tool:"
"""A tool of which no line speaks."""

Texts = Mapping[str, str | None]
"""A row as its report writes it."""


# ── who ──


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Some time, in seconds since the epoch; what people.csv says of somebody is the same all through it."""

    begin: float = -math.inf
    end: float = math.inf
    matters: bool = True
    """Whether that is something else in the two versions."""

    @property
    def text(self) -> str:
        """The condition that it is now."""
        parts = []
        if self.begin > -math.inf:
            parts.append(f"env.now >= time('{_instant(self.begin)}')")
        if self.end < math.inf:
            parts.append(f"env.now < time('{_instant(self.end)}')")
        return " and ".join(parts) or "true"


ALWAYS: Final = Span()


def _instant(seconds: float) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    said = at.isoformat(timespec="microseconds" if at.microsecond else "seconds")
    return said.replace("+00:00", "Z")


def spans(old: Snapshot, new: Snapshot, principal: str) -> tuple[Span, ...]:
    """The times, from now on, between which a line of people.csv ends in either version."""
    was, now = (snapshot.identities.people.get(principal) for snapshot in (old, new))
    last = datetime.max.replace(tzinfo=UTC).timestamp()
    ends = {each.until for each in (was, now) if each and time.time() < each.until < last}
    bounds = (-math.inf, *sorted(ends), math.inf)
    return tuple(Span(begin=a, end=b, matters=was != now) for a, b in itertools.pairwise(bounds))


@dataclass(frozen=True, kw_only=True, slots=True)
class Who:
    """A requester, as far as it matters: the principals that it is at once, and when."""

    names: tuple[str, ...]
    tool: str | None = None
    """Through which it asks."""
    span: Span = ALWAYS


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What is certain of a requester: its principals, and what people.csv alone decides."""

    names: tuple[str, ...]
    attributes: Fixed


def known_of(snapshot: Snapshot, who: Who) -> Known:
    """The requester's principals, and the attributes that no token can change, in one version."""
    single = next((name for name in who.names if name.startswith(("user:", "tool:"))), "")
    realm = snapshot.identities.realm_of(single) if single else None
    if realm is None:
        return Known(names=who.names, attributes={})
    person: Person | None = snapshot.identities.people.get(single)
    if person is not None and person.until < who.span.end:
        person = None
    groups: Iterable[str] = ()
    claimed = len(who.names) > 1 and realm.groups is Source.CLAIM_ELSE_PEOPLE
    # A tool that acts alone is in no group.
    if person and single.startswith("user:") and realm.groups and not claimed:
        groups = (person.groups or ()) if realm.groups.reads_people else ()
    fixed: dict[str, Value | None] = {}
    for name, (_, source) in realm.attributes.items():
        listed = person.attributes.get(name) if person else None
        if source is Source.PEOPLE or (source is Source.PEOPLE_ELSE_CLAIM and listed is not None):
            fixed[name] = listed
    return Known(names=(*who.names, *groups), attributes=fixed)


def may_claim_groups(snapshot: Snapshot, user: str, span: Span) -> bool:
    """Whether the user's token can bring groups that count."""
    realm = snapshot.identities.realm_of(user)
    if realm is None or realm.groups is None or not realm.groups.reads_claim:
        return False
    person = snapshot.identities.people.get(user)
    listed = person is not None and person.until >= span.end and person.groups is not None
    return not (listed and realm.groups is Source.PEOPLE_ELSE_CLAIM)


def is_tool(tool: str) -> str:
    """The condition that somebody asks through a tool."""
    return f"env.tool == {quoted(_bare(tool))}"


def scopes(snapshot: Snapshot, report: Report | None) -> tuple[Scope, Scope]:
    """What `when` conditions, and the row conditions of a report, can name."""
    attributes = snapshot.identities.attributes
    elsewhere: dict[str, Type] = {}
    for each in snapshot.catalogue.reports.values():
        elsewhere.update(each.types)
    types = report.types if report else {}
    return (
        Scope(fields=None, elsewhere={}, attributes=attributes),
        Scope(fields=types, elsewhere=elsewhere, attributes=attributes),
    )


# ── what it is given ──


@dataclass(frozen=True, kw_only=True, slots=True)
class Ruling:
    """The conditions under which one action is allowed, and those under which it is denied."""

    allows: tuple[str, ...]
    denies: tuple[str, ...]


class Side:
    """What one version gives one requester on one report."""

    def __init__(self, snapshot: Snapshot, who: Who, report: str, action: str) -> None:
        """Take the lines about the requester."""
        self.report = snapshot.catalogue.reports.get(report)
        known = known_of(snapshot, who)
        self.fixed = known.attributes
        self.action = action
        self.part: Slice | None = None
        self.plan: Plan | None = None
        rulings: list[Ruling] = []
        if self.report is not None:
            self.part = snapshot.policy.alone(known.names, report, action, through=who.tool)
            standing = self.part.standing
            asked = self._ruling(standing.asking, action)
            rulings.append(asked)
            if standing.acting is not None:
                rulings.append(self._ruling(standing.acting, Action.ACT))
            if asked.allows and action in GIVES_CELLS:
                self.plan = self.part.plan
        self.rulings = tuple(rulings)
        """Of who asks, and of the tool through which it does."""
        self.when, self.rows = scopes(snapshot, self.report)
        self._who = who
        self._columns = {c.field.name: c for c in self.plan.columns} if self.plan else {}

    def _ruling(self, requester: Requester, action: str) -> Ruling:
        assert self.part is not None
        rules = [
            rule
            for rule in self.part.access
            if rule.action == action and requester.holds(rule.principal, rule.effect)
        ]
        return Ruling(
            allows=tuple(sorted({r.when.text for r in rules if r.effect is Effect.ALLOW})),
            denies=tuple(sorted({r.when.text for r in rules if r.effect is Effect.DENY})),
        )

    @property
    def columns(self) -> Sequence[Column]:
        """The fields that are given in some form, with what decides about their cells."""
        return [column for column in self._columns.values() if column.choices]

    @property
    def fields(self) -> Sequence[str]:
        """The names of the fields that are given in some form."""
        return [column.field.name for column in self.columns]

    def rules(self, field: str) -> tuple[object, ...]:
        """What decides about a field; equal where nothing differs."""
        column = self._columns.get(field)
        if column is None or self.plan is None or not column.choices:
            return ()
        texts = [each.text for each in self.plan.predicates]
        forms = tuple((str(choice.treatment), texts[choice.when]) for choice in column.choices)
        return (forms, frozenset(texts[number] for number in column.denies))

    @property
    def _reads_tool(self) -> bool:
        read = self.part.reads if self.part else frozenset()
        predicates = self.plan.predicates if self.plan else ()
        return "tool" in read.union(*(each.reads for each in predicates))

    # ── in words ──

    def allowed(self) -> str:
        """The condition under which access is allowed."""
        span = self._who.span
        parts: list[Node] = [parse(span.text)] if span.matters else []
        for ruling in self.rulings:
            parts.append(_either(map(parse, ruling.allows)))
            parts.extend(_negated(parse(text)) for text in ruling.denies)
        return canonical(_all(parts)) if self.rulings else "false"

    def where(self, field: str, form: str) -> str:
        """The rows of a form; '' where there are none."""
        column = self._columns.get(field)
        if self.plan is None or column is None:
            return ""
        texts = [each.text for each in self.plan.predicates]
        given = [parse(texts[c.when]) for c in column.choices if str(c.treatment) == form]
        if not given:
            return ""
        hidden = [_negated(parse(texts[number])) for number in column.denies]
        return canonical(_all([_either(given), *hidden]))

    # ── as formulas ──

    def permits(self, solver: Solver, fixed: Fixed) -> Formula:
        """When the access rules allow it."""
        parts = []
        for ruling in self.rulings:
            allowed = [solver.truth(text, self.when, fixed).true for text in ruling.allows]
            parts.append(logic.some(*allowed))
            parts += [solver.truth(text, self.when, fixed).false for text in ruling.denies]
        if not parts:
            return logic.FALSE
        told = [self._who.span.text]
        if self._who.tool and self._who.tool != ANY_TOOL and self._reads_tool:
            told.append(is_tool(self._who.tool))
        parts += [solver.truth(text, self.when, fixed).true for text in told]
        return logic.every(*parts)

    def forms(self, solver: Solver, field: str, fixed: Fixed) -> dict[str, Formula]:
        """When a field is given in each form, where access is allowed."""
        column = self._columns.get(field)
        if column is None or self.plan is None:
            return {}
        texts = [each.text for each in self.plan.predicates]
        truths = [solver.truth(texts[c.when], self.rows, fixed) for c in column.choices]
        spared = [solver.truth(texts[n], self.rows, fixed).false for n in column.denies]
        found: dict[str, Formula] = {}
        before: list[Formula] = []
        for choice, truth in zip(column.choices, truths, strict=True):
            given = logic.every(truth.true, logic.no(*before), *spared)
            before.append(truth.true)
            name = str(choice.treatment)
            found[name] = logic.some(found[name], given) if name in found else given
        return found

    # ── as they are ──

    def given(self, at: Assignment, texts: Texts, fixed: Fixed | None = None) -> Mapping[str, str]:
        """Field -> form of one row, as the policy itself decides; `may` for an action without cells.

        `fixed` are attributes that are certain, instead of those of this requester.
        """
        context = _with(at.context(action=self.action), self.fixed if fixed is None else fixed)
        span = self._who.span
        if self.part is None or not span.begin <= context.now.timestamp() < span.end:
            return {}
        if self._who.tool is not None:
            context = msgspec.structs.replace(context, tool=_bare(self._who.tool) or context.tool)
        # Whether there are cells is seen below; an action that gives none needs no rule about them.
        if self.part.verdict(context).cause not in ("", "no-cell-rule"):
            return {}
        if self.action not in GIVES_CELLS:
            return {MAY: MAY}
        plan = self.plan
        if plan is None:
            return {}
        truths = [self._of_row(each.bind(context), plan, texts) for each in plan.predicates]
        found = {}
        for name, column in self._columns.items():
            form = _form(column, truths)
            if form != ABSENT:
                found[name] = form
        return found

    @staticmethod
    def _of_row(bound: Truth | Callable[[Batch], Cells], plan: Plan, texts: Texts) -> Truth:
        if not callable(bound):
            return bound
        cells = {name: Few([texts.get(name)]) for name in plan.report.fields}
        batch = Batch(cells, height=1, lexis=PLAIN, types=plan.report.types, few=True)
        return next(iter(bound(batch)))  # type: ignore[no-any-return]  # Boolean, of one row


def _bare(tool: str) -> str:
    """A tool's name as `env.tool` gives it."""
    return tool.partition(":")[2]


def _with(context: Context, fixed: Fixed) -> Context:
    certain = {name: value for name, value in fixed.items() if value is not None}
    others = {name: value for name, value in context.attributes.items() if name not in fixed}
    return msgspec.structs.replace(context, attributes={**others, **certain})


def _form(column: Column, truths: Sequence[Truth]) -> str:
    if any(truths[number] is not False for number in column.denies):
        return ABSENT
    for choice in column.choices:
        if truths[choice.when] is True:
            return str(choice.treatment)
    return ABSENT


# ── conditions put together for a reader ──


def _all(nodes: Iterable[Node]) -> Node:
    """`and`, as short as it can be told at a look."""
    terms: list[Node] = []
    for node in nodes:
        terms += node.terms if isinstance(node, And) else (node,)
    if Constant(value=False) in terms:
        return Constant(value=False)
    terms = [*dict.fromkeys(term for term in terms if term != Constant(value=True))]
    if len(terms) > 1:
        return And(tuple(terms))
    return terms[0] if terms else Constant(value=True)


def _either(nodes: Iterable[Node]) -> Node:
    """`or`, likewise."""
    return _negated(_all(map(_negated, nodes)))


def _negated(node: Node) -> Node:
    """What is true where `node` is false, and unknown where it is."""
    match node:
        case Constant(value):
            return Constant(not value)
        case Not(operand):
            return operand
        case Comparison(relation, left, right):
            return Comparison(_OPPOSITE[relation], left, right)
        case Membership(item, options, negated):
            return Membership(item, options, not negated)
        case And(terms):
            return Or(tuple(each for term in terms for each in _terms(_negated(term))))
        case Or(terms):
            return _all(map(_negated, terms))
        case _:
            return Not(node)


def _terms(node: Node) -> tuple[Node, ...]:
    return node.terms if isinstance(node, Or) else (node,)


_OPPOSITE: Final[Mapping[Relation, Relation]] = {
    "==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">",
}  # fmt: skip
