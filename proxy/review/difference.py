"""Who gains and who loses what between two versions of a policy: proved by a solver, shown by a witness.

Compared is what each principal that the files name is given by itself: each role, group, user (with
its line of people.csv) and tool. For each report and field the two versions' forms are held against
each other: is there a row, and a requester, to whom the one gives this form and the other that? Where
the solver finds one, both versions' own conditions are asked about it before it is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from fractions import Fraction
from typing import Final

from proxy.batch import PLAIN, Batch
from proxy.few import Cells, Few
from proxy.plan import Column, Context, Plan, Truth
from proxy.policy.conditions import Scope
from proxy.policy.index import Slice
from proxy.policy.lines import ANYONE, Action, Effect
from proxy.review import terms as logic
from proxy.review.cells import ABSENT
from proxy.review.solver import SECONDS, Assignment, Solver, Undecided
from proxy.review.terms import Fixed, Formula, Unmodelled
from proxy.snapshot import Snapshot
from proxy.subject import Person, Source
from proxy.values import Scalar, Value

_ACTIONS: Final = (Action.READ, Action.ACT, Action.GRANT, Action.LOCKDOWN)
_MAY: Final = "may"


class Kind(StrEnum):
    """What a change is to who it is about."""

    GAINS_ROWS = "gains rows"
    GAINS = "gains"
    LOSES_ROWS = "loses rows"
    LOSES = "loses"
    CHANGES = "sees otherwise"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One difference, of all fields and reports that it is about."""

    kind: Kind
    principal: str
    members: tuple[str, ...] = ()
    """Principals for whom it is the same, as they hold this one."""
    reports: tuple[str, ...]
    action: str
    fields: tuple[str, ...]
    """Empty for an action that gives no cells."""
    was: str
    now: str
    where: str
    """The condition of the rows, of the version that gives more; `true`: every row."""
    otherwise: str = ""
    """The condition under which the other version gives the same; '' where it never does."""
    witness: tuple[tuple[str, str], ...] = ()
    """A row and requester of which it is true: names of conditions -> values as written."""


def difference(old: Snapshot, new: Snapshot, *, seconds: float = SECONDS) -> tuple[Change, ...]:
    """Every change from `old` to `new`; a question takes at most so many seconds."""
    found: list[Change] = []
    reports = dict.fromkeys((*new.catalogue.reports, *old.catalogue.reports))
    for principal in sorted(_principals(old) | _principals(new)):
        for report in reports:
            for action in _ACTIONS:
                pair = _Pair(old, new, principal, report, action, seconds)
                found.extend(_by_fields(pair.changes()))
    return tuple(_by_reports(_by_principals(found, old, new)))


def _principals(snapshot: Snapshot) -> set[str]:
    return {*snapshot.policy.principals, *snapshot.identities.people, ANYONE}


class Side:
    """What one version gives one principal on one report."""

    def __init__(self, snapshot: Snapshot, principal: str, report: str, action: str) -> None:
        """Take the lines about the principal by itself."""
        self.report = snapshot.catalogue.reports.get(report)
        names, self.fixed = _known_of(snapshot, principal)
        self.part: Slice | None = None
        if self.report is not None:
            self.part = snapshot.policy.alone(names, report, action)
        self.action = action
        rules = [r for r in self.part.access if r.action == action] if self.part else []
        self.allows = tuple(sorted({r.when.text for r in rules if r.effect is Effect.ALLOW}))
        self.denies = tuple(sorted({r.when.text for r in rules if r.effect is Effect.DENY}))
        self.plan: Plan | None = None
        if self.part is not None and self.allows and action == Action.READ:
            self.plan = self.part.plan
        attributes = snapshot.identities.attributes
        elsewhere = {n: t for r in snapshot.catalogue.reports.values() for n, t in r.types.items()}
        self.when = Scope(fields=None, elsewhere={}, attributes=attributes)
        types = self.report.types if self.report else {}
        self.rows = Scope(fields=types, elsewhere=elsewhere, attributes=attributes)
        self._columns = {c.field.name: c for c in self.plan.columns} if self.plan else {}

    @property
    def fields(self) -> Sequence[str]:
        """The names of the fields that are given in some form."""
        return [name for name, column in self._columns.items() if column.choices]

    def rules(self, field: str) -> tuple[object, ...]:
        """What decides about a field; equal where nothing differs."""
        column = self._columns.get(field)
        if column is None or self.plan is None or not column.choices:
            return ()
        texts = [each.text for each in self.plan.predicates]
        forms = tuple((str(choice.treatment), texts[choice.when]) for choice in column.choices)
        return (forms, frozenset(texts[number] for number in column.denies))

    def where(self, field: str, form: str) -> str:
        """The rows of a form, in words."""
        column = self._columns.get(field)
        if self.plan is None or column is None:
            return ""
        conditions = [
            self.plan.predicates[c.when].text for c in column.choices if str(c.treatment) == form
        ]
        hidden = [f"not ({self.plan.predicates[number].text})" for number in column.denies]
        told = " or ".join(conditions)
        if not hidden or not told:
            return told
        first = [] if told == "true" else [f"({told})" if len(conditions) > 1 else told]
        return " and ".join([*first, *hidden])

    # ── as formulas ──

    def permits(self, solver: Solver) -> Formula:
        """When the access rules allow it."""
        allowed = [solver.truth(text, self.when, self.fixed).true for text in self.allows]
        spared = [solver.truth(text, self.when, self.fixed).false for text in self.denies]
        return logic.every(logic.some(*allowed), *spared)

    def forms(self, solver: Solver, field: str) -> dict[str, Formula]:
        """When a field is given in each form, where access is allowed."""
        column = self._columns.get(field)
        if column is None or self.plan is None:
            return {}
        texts = [each.text for each in self.plan.predicates]
        truths = [solver.truth(texts[c.when], self.rows, self.fixed) for c in column.choices]
        spared = [solver.truth(texts[n], self.rows, self.fixed).false for n in column.denies]
        found: dict[str, Formula] = {}
        before: list[Formula] = []
        for choice, truth in zip(column.choices, truths, strict=True):
            given = logic.every(truth.true, logic.no(*before), *spared)
            before.append(truth.true)
            name = str(choice.treatment)
            found[name] = logic.some(found[name], given) if name in found else given
        return found

    # ── as they are ──

    def given(self, at: Assignment, texts: Mapping[str, str | None]) -> Mapping[str, str]:
        """Field -> form of one row, as the policy itself decides; `may` for an action without cells."""
        if self.part is None:
            return {}
        context = at.context(action=self.action)
        if self.fixed:
            certain = {n: v for n, v in self.fixed.items() if v is not None}
            others = {n: v for n, v in context.attributes.items() if n not in self.fixed}
            context = replace(context, attributes={**others, **certain})
        allowed = any(self._holds(t, context) is True for t in self.allows)
        if not allowed or any(self._holds(t, context) is not False for t in self.denies):
            return {}
        if self.action != Action.READ:
            return {_MAY: _MAY}
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

    def _holds(self, text: str, context: Context) -> Truth:
        assert self.part is not None
        rule = next(rule for rule in self.part.access if rule.when.text == text)
        return rule.when.holds(context)

    @staticmethod
    def _of_row(
        bound: Truth | Callable[[Batch], Cells], plan: Plan, texts: Mapping[str, str | None]
    ) -> Truth:
        if not callable(bound):
            return bound
        cells = {name: Few([texts.get(name)]) for name in plan.report.fields}
        batch = Batch(cells, height=1, lexis=PLAIN, types=plan.report.types, few=True)
        return next(iter(bound(batch)))  # type: ignore[no-any-return]  # Boolean, of one row


def _form(column: Column, truths: Sequence[Truth]) -> str:
    if any(truths[number] is not False for number in column.denies):
        return ABSENT
    for choice in column.choices:
        if truths[choice.when] is True:
            return str(choice.treatment)
    return ABSENT


def _known_of(snapshot: Snapshot, principal: str) -> tuple[tuple[str, ...], Fixed]:
    """The principal with the groups, and the attributes, that people.csv alone gives it."""
    realm = snapshot.identities.realm_of(principal.partition(":")[2])
    if realm is None or not principal.startswith(("user:", "tool:")):
        return (principal,), {}
    person: Person | None = snapshot.identities.people.get(principal)
    if person is not None and person.until <= time.time():
        person = None
    groups = person.groups or () if person and realm.groups and realm.groups.reads_people else ()
    fixed: dict[str, Value | None] = {}
    for name, (_, source) in realm.attributes.items():
        listed = person.attributes.get(name) if person else None
        if source is Source.PEOPLE or (source is Source.PEOPLE_ELSE_CLAIM and listed is not None):
            fixed[name] = listed
    return (principal, *groups), fixed


class _Pair:
    """Both versions, for one principal, report and action."""

    def __init__(
        self, old: Snapshot, new: Snapshot, principal: str, report: str, action: str, seconds: float
    ) -> None:
        self.old = Side(old, principal, report, action)
        self.new = Side(new, principal, report, action)
        self._about = {"principal": principal, "reports": (report,), "action": action}
        purposes = dict.fromkeys((*old.policy.purposes, *new.policy.purposes))
        self._solver = Solver(purposes=purposes, action=action, seconds=seconds)

    def changes(self) -> Iterator[Change]:
        """One change for each field, pair of forms, and whether the row was or is seen at all."""
        old, new = self.old, self.new
        access = (old.allows, old.denies) == (new.allows, new.denies) and old.fixed == new.fixed
        if old.action != Action.READ:
            if not access:
                yield from self._asked((_MAY,))
            return
        alike: dict[tuple[object, ...], list[str]] = {}
        for field in dict.fromkeys((*new.fields, *old.fields)):
            types = [s.report.types.get(field) if s.report else None for s in (old, new)]
            rules = (old.rules(field), new.rules(field))
            if not access or rules[0] != rules[1] or types[0] != types[1]:
                alike.setdefault((*rules, *types), []).append(field)
        for fields in alike.values():
            yield from self._asked(tuple(fields))

    def _asked(self, fields: tuple[str, ...]) -> Iterator[Change]:
        try:
            questions = [*self._questions(fields[0])]
        except Unmodelled:
            yield self._change(Kind.UNDECIDED, fields, "?", "?")
            return
        for kind, was, now, formula in questions:
            try:
                found = self._solver.find(formula, self._right(fields[0], kind, was, now))
            except Undecided:
                yield self._change(Kind.UNDECIDED, fields, was, now)
                continue
            if found is not None:
                yield self._change(kind, fields, was, now, found)

    def _questions(self, field: str) -> Iterator[tuple[Kind, str, str, Formula]]:
        solver = self._solver
        permits = [side.permits(solver) for side in (self.old, self.new)]
        if field == _MAY:
            before, after = permits
            yield Kind.GAINS, ABSENT, _MAY, logic.every(after, logic.no(before))
            yield Kind.LOSES, _MAY, ABSENT, logic.every(before, logic.no(after))
            return
        seen, forms = [], []
        for side, permitted in zip((self.old, self.new), permits, strict=True):
            cells = [given for f in side.fields for given in side.forms(solver, f).values()]
            seen.append(logic.every(permitted, logic.some(*cells)))
            own = {n: logic.every(permitted, g) for n, g in side.forms(solver, field).items()}
            forms.append({**own, ABSENT: logic.no(*own.values())})
        for was, before in forms[0].items():
            for now, after in forms[1].items():
                both = logic.every(before, after)
                if was == now:
                    continue
                if was == ABSENT:
                    yield Kind.GAINS_ROWS, was, now, logic.every(both, logic.no(seen[0]))
                    yield Kind.GAINS, was, now, logic.every(both, seen[0])
                elif now == ABSENT:
                    yield Kind.LOSES_ROWS, was, now, logic.every(both, logic.no(seen[1]))
                    yield Kind.LOSES, was, now, logic.every(both, seen[1])
                else:
                    yield Kind.CHANGES, was, now, both

    def _right(self, field: str, kind: Kind, was: str, now: str) -> Callable[[Assignment], bool]:
        def right(at: Assignment) -> bool:
            texts = {name: written(value) for name, value in at.row.items()}
            before, after = self.old.given(at, texts), self.new.given(at, texts)
            rows = {Kind.GAINS_ROWS: not before, Kind.LOSES_ROWS: not after}
            return (
                rows.get(kind, True)
                and before.get(field, ABSENT) == was
                and after.get(field, ABSENT) == now
            )

        return right

    def _change(
        self, kind: Kind, fields: tuple[str, ...], was: str, now: str, at: Assignment | None = None
    ) -> Change:
        giving, form = (self.old, was) if now == ABSENT else (self.new, now)
        other = self.new if giving is self.old else self.old
        if fields == (_MAY,):
            where, fields = " or ".join(f"({t})" for t in giving.allows) or "true", ()
            where = giving.allows[0] if len(giving.allows) == 1 else where
        else:
            where = giving.where(fields[0], form)
        otherwise = other.where(fields[0], form) if fields and other.allows else ""
        return Change(
            kind=kind,
            fields=fields,
            was=was,
            now=now,
            where=where,
            otherwise="" if otherwise == where else otherwise,
            witness=_shown(at) if at is not None else (),
            **self._about,  # type: ignore[arg-type]  # three texts
        )


def _shown(at: Assignment) -> tuple[tuple[str, str], ...]:
    shown = [(name, _literal(value)) for name, value in at.row.items()]
    shown += [(f"sub.{name}", _literal(value)) for name, value in at.sub.items()]
    shown += [(f"env.{name}", _literal(value)) for name, value in at.env.items()]
    return tuple(sorted(shown))


def _literal(value: Value | None) -> str:
    """A value as conditions write it."""
    match value:
        case None:
            return "nothing"
        case tuple():
            return f"[{', '.join(map(_literal, value))}]"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case bool() | int() | Fraction():
            return written(value) or ""
        case _:
            return f"'{written(value)}'"


def written(value: Scalar | None) -> str | None:
    """A value as a report writes it."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.strftime(f"{value.year:04d}-%m-%dT%H:%M:%S.%fZ")
        case date():
            return value.isoformat()
        case _:
            sign, exact = "-" if value < 0 else "", abs(Fraction(value))
            whole, rest = divmod(exact, 1)
            digits = str(int(rest * 10**36)).rjust(36, "0").rstrip("0")
            return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


# ── what is one change to a reader ──


def _by_fields(changes: Iterable[Change]) -> list[Change]:
    """Fields together whose change is the same in the same rows."""
    grouped: dict[tuple[str, ...], Change] = {}
    for each in changes:
        key = (each.kind, each.was, each.now, each.where, each.otherwise)
        met = grouped.get(key)
        grouped[key] = each if met is None else replace(met, fields=(*met.fields, *each.fields))
    return [*grouped.values()]


def _by_principals(changes: Sequence[Change], old: Snapshot, new: Snapshot) -> list[Change]:
    """A change that a principal has through another one is told there."""
    same: dict[Change, list[str]] = {}
    for each in changes:
        same.setdefault(replace(each, principal="", witness=()), []).append(each.principal)
    told = []
    for each in changes:
        having = same[replace(each, principal="", witness=())]
        versions = _GIVING.get(each.kind, (0, 1))

        def through(member: str, other: str, versions: tuple[int, ...] = versions) -> bool:
            return member != other and all(other in _held(member, (old, new)[n]) for n in versions)

        if any(through(each.principal, other) for other in having):
            continue
        members = [other for other in having if through(other, each.principal)]
        told.append(replace(each, members=tuple(members)))
    return told


_GIVING: Final[Mapping[Kind, tuple[int, ...]]] = {
    Kind.GAINS: (1,), Kind.GAINS_ROWS: (1,), Kind.LOSES: (0,), Kind.LOSES_ROWS: (0,),
}  # fmt: skip
"""Which versions a principal must hold another one in, to have a change through it."""


def _held(principal: str, snapshot: Snapshot) -> frozenset[str]:
    names, _ = _known_of(snapshot, principal)
    return frozenset().union(*map(snapshot.policy.roles, names)) | {ANYONE}


def _by_reports(changes: Iterable[Change]) -> list[Change]:
    """Reports together where the same happens to the same."""
    grouped: dict[Change, Change] = {}
    for each in changes:
        key = replace(each, reports=(), witness=())
        met = grouped.get(key)
        grouped[key] = each if met is None else replace(met, reports=(*met.reports, *each.reports))
    return [*grouped.values()]
