"""What one requester gains and loses on one report: both versions' forms, held against each other.

Is there a row, and are there attributes and circumstances, to which the one version gives this form
and the other that? Where the solver finds some, both versions are asked about them before it is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction

from proxy.policy.conditions.tree import quoted
from proxy.policy.lines import GIVES_CELLS, Action
from proxy.policy.preference import Place, order
from proxy.report import Report
from proxy.review import formulas as logic
from proxy.review.cells import ABSENT
from proxy.review.changes import Change, Kind, Turn
from proxy.review.facts import Unmodelled
from proxy.review.formulas import Formula
from proxy.review.sides import MAY, Side, Texts, Who
from proxy.review.solver import SECONDS, Assignment, Solver, Undecided
from proxy.review.walk import Fixed
from proxy.snapshot import Snapshot
from proxy.treatments import Treatment
from proxy.values import Scalar, Value

Certain = tuple[Fixed, Fixed]
"""Attributes that are certain, then and now."""
Versions = Sequence[Mapping[str, Formula]]
"""When each form of a field is given, or none, then and now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """On what two versions are compared, and how long one question to the solver may take."""

    old: Snapshot
    new: Snapshot
    report: str
    action: str
    seconds: float = SECONDS

    def solver(self) -> Solver:
        """One for both versions. A tool may be asked to act whatever the action is."""
        purposes = dict.fromkeys((*self.old.policy.purposes, *self.new.policy.purposes))
        action = None if self.action == Action.ACT else self.action
        return Solver(purposes=purposes, action=action, seconds=self.seconds)


class Scale:
    """Which forms are preferred to which, by their texts."""

    def __init__(self, report: Report | None, treatments: Iterable[Treatment]) -> None:
        """As the report prefers them; a form that is none of `treatments` is not compared."""
        place = order(report) if report else None
        self._places: dict[str, Place] = {MAY: (-math.inf,), ABSENT: (math.inf,)}
        if place is not None:
            self._places |= {str(each): place(each) for each in treatments}

    def turn(self, was: str, now: str) -> Turn:
        """Which way it is from one form to another."""
        return Turn.MORE if self._places[now] < self._places[was] else Turn.LESS

    def turned(self, forms: Versions, turn: Turn) -> Formula:
        """When a cell turns this way."""
        return logic.some(
            *(
                logic.every(before, after)
                for was, before in forms[0].items()
                for now, after in forms[1].items()
                if was != now and self.turn(was, now) is turn
            )
        )


class Pair:
    """Both versions, for one requester, report and action."""

    def __init__(self, question: Question, who: Who, covers: Sequence[Cover] = ()) -> None:
        """`covers` are other requesters, which this one is too: where these have a change, it is theirs."""
        self.who = who
        self.old = Side(question.old, who, question.report, question.action)
        self.new = Side(question.new, who, question.report, question.action)
        self._question = question
        self._covers = covers
        self._solver = question.solver()
        columns = [column for side in (self.old, self.new) for column in side.columns]
        treatments = [choice.treatment for column in columns for choice in column.choices]
        self._scale = Scale(self.new.report or self.old.report, treatments)

    # ── every change ──

    def changes(self) -> Iterator[Change]:
        """One change for each field, pair of forms, and whether the row was or is seen at all."""
        old, new = self.old, self.new
        access = old.rulings == new.rulings and old.fixed == new.fixed
        if old.action not in GIVES_CELLS:
            if not access:
                yield from self._asked((MAY,))
            return
        alike: dict[tuple[object, ...], list[str]] = {}
        for field in dict.fromkeys((*new.fields, *old.fields)):
            types = [s.report.types.get(field) if s.report else None for s in (old, new)]
            rules = (old.rules(field), new.rules(field))
            if not access or rules[0] != rules[1] or types[0] != types[1]:
                covered = [each.rules(field) for each in self._covers]
                alike.setdefault((*rules, *types, *covered), []).append(field)
        for fields in alike.values():
            yield from self._asked(tuple(fields))

    def _asked(self, fields: tuple[str, ...]) -> Iterator[Change]:
        try:
            questions = [*self._questions(fields[0])]
        except Unmodelled:
            yield self._change(Kind.UNDECIDED, fields, "?", "?")
            return
        for kind, was, now, formula in questions:
            right = self._right(fields[0], kind, was, now)
            try:
                found = self._solver.find(formula, right)
            except Undecided:
                yield self._change(Kind.UNDECIDED, fields, was, now)
                continue
            if found is not None:
                yield self._change(
                    kind, fields, was, now, self._solver.plainer(found, formula, right)
                )

    def _questions(self, field: str) -> Iterator[tuple[Kind, str, str, Formula]]:
        forms = self._forms(self._solver, field)
        seen = [self._seen(side) for side in (self.old, self.new)]
        own = {turn: self._own(field, turn) for turn in Turn}
        for was, before in forms[0].items():
            for now, after in forms[1].items():
                if was == now:
                    continue
                both = logic.every(before, after, own[self._scale.turn(was, now)])
                if was == ABSENT and field != MAY:
                    yield Kind.GAINS_ROWS, was, now, logic.every(both, logic.no(seen[0]))
                    yield Kind.GAINS, was, now, logic.every(both, seen[0])
                elif now == ABSENT and field != MAY:
                    yield Kind.LOSES_ROWS, was, now, logic.every(both, logic.no(seen[1]))
                    yield Kind.LOSES, was, now, logic.every(both, seen[1])
                elif MAY in (was, now):
                    yield (Kind.GAINS if now == MAY else Kind.LOSES), was, now, both
                else:
                    yield Kind.CHANGES, was, now, both

    def _seen(self, side: Side) -> Formula:
        """When a version gives some cell of the row."""
        solver, fixed = self._solver, side.fixed
        cells = [given for f in side.fields for given in side.forms(solver, f, fixed).values()]
        return logic.every(side.permits(solver, fixed), logic.some(*cells))

    def _own(self, field: str, turn: Turn) -> Formula:
        """Where no cover has the change."""
        fixed = (self.old.fixed, self.new.fixed)
        return logic.no(*(each.turned(self._solver, field, turn, fixed) for each in self._covers))

    def _right(self, field: str, kind: Kind, was: str, now: str) -> Callable[[Assignment], bool]:
        def right(at: Assignment) -> bool:
            texts = texts_of(at)
            before, after = self.old.given(at, texts), self.new.given(at, texts)
            rows = {Kind.GAINS_ROWS: not before, Kind.LOSES_ROWS: not after}
            return (
                (field == MAY or rows.get(kind, True))
                and before.get(field, ABSENT) == was
                and after.get(field, ABSENT) == now
                and not self.covered(at, field, self._scale.turn(was, now))
            )

        return right

    def _change(
        self, kind: Kind, fields: tuple[str, ...], was: str, now: str, at: Assignment | None = None
    ) -> Change:
        giving, form = (self.old, was) if now == ABSENT else (self.new, now)
        other = self.new if giving is self.old else self.old
        when, where, otherwise, otherwise_when = giving.allowed(), "true", "", other.allowed()
        if fields == (MAY,):
            fields, otherwise = (), "true"
        else:
            where, otherwise = giving.where(fields[0], form), other.where(fields[0], form)
        if otherwise_when == "false" or (otherwise, otherwise_when) == (where, when):
            otherwise = ""
        principal, *also = [*self.who.names, *([self.who.tool] if self.who.tool else [])]
        return Change(
            kind=kind,
            principal=principal,
            also=tuple(also),
            person=self._person(),
            reports=(self._question.report,),
            action=self._question.action,
            fields=fields,
            was=was,
            now=now,
            where=where,
            when=when,
            otherwise=otherwise,
            otherwise_when=otherwise_when if otherwise else "",
            witness=_shown(at) if at is not None else (),
        )

    def _person(self) -> str:
        names = dict.fromkeys((*self.new.fixed, *self.old.fixed))
        told = [_otherwise(f"sub.{n}", self.old.fixed.get(n), self.new.fixed.get(n)) for n in names]
        return "; ".join(filter(None, told))

    # ── which way a cell turns ──

    def turned(
        self, solver: Solver, field: str, turn: Turn, fixed: Certain | None = None
    ) -> Formula:
        """When the field's cell turns this way; `fixed` are other attributes, then and now."""
        return self._scale.turned(self._forms(solver, field, fixed), turn)

    def turns(self, at: Assignment, field: str, turn: Turn, fixed: Certain | None = None) -> bool:
        """Whether it does there."""
        then, now = fixed or (self.old.fixed, self.new.fixed)
        texts = texts_of(at)
        before = self.old.given(at, texts, then).get(field, ABSENT)
        after = self.new.given(at, texts, now).get(field, ABSENT)
        return before != after and self._scale.turn(before, after) is turn

    def covered(self, at: Assignment, field: str, turn: Turn) -> bool:
        """Whether a cover has the change there."""
        fixed = (self.old.fixed, self.new.fixed)
        return any(each.turns(at, field, turn, fixed) for each in self._covers)

    def _forms(self, solver: Solver, field: str, fixed: Certain | None = None) -> Versions:
        """In each version, when the requester is given each form of the field, or none."""
        found: list[dict[str, Formula]] = []
        for side, own in zip((self.old, self.new), fixed or (None, None), strict=True):
            certain = side.fixed if own is None else own
            permitted = side.permits(solver, certain)
            given = {MAY: logic.TRUE} if field == MAY else side.forms(solver, field, certain)
            forms = {name: logic.every(permitted, each) for name, each in given.items()}
            found.append({**forms, ABSENT: logic.no(*forms.values())})
        return found


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cover:
    """A requester whose changes are told, for those who are it and more."""

    pair: Pair
    fields: frozenset[str] | None = None
    """Those that have changes; None: any may."""

    def rules(self, field: str) -> object:
        """What decides about a field; equal where nothing differs."""
        name = self._answering(field)
        return name and (self.pair.old.rules(name), self.pair.new.rules(name))

    @property
    def is_of_tool(self) -> bool:
        """Whether it is about a tool's right to act, not about who asks."""
        return self.pair.old.action == Action.ACT

    def turned(self, solver: Solver, field: str, turn: Turn, fixed: Certain) -> Formula:
        """When the cell turns this way for whoever has these attributes."""
        name = self._answering(field)
        if name is None:
            return logic.FALSE
        each = (self.pair.turned(solver, name, turn, certain) for certain in self._certain(fixed))
        return logic.every(*each)

    def turns(self, at: Assignment, field: str, turn: Turn, fixed: Certain) -> bool:
        """Whether it does there."""
        name = self._answering(field)
        return name is not None and all(
            self.pair.turns(at, name, turn, certain) for certain in self._certain(fixed)
        )

    def _answering(self, field: str) -> str | None:
        """What answers to a field: where a tool may not act, all fields are lost."""
        name = MAY if self.is_of_tool else field
        return name if self.fields is None or name in self.fields else None

    def _certain(self, fixed: Certain) -> tuple[Certain, ...]:
        """Its own; else those of who has more, where a change must be one with those of then and of now."""
        own = (self.pair.old.fixed, self.pair.new.fixed)
        if any(own):
            return (own,)
        then, now = fixed
        return ((then, then),) if then == now else ((then, then), (now, now))


# ── in words ──


def texts_of(at: Assignment) -> Texts:
    """The row as its report writes it."""
    return {name: written(value) for name, value in at.row.items()}


def _otherwise(name: str, was: Value | None, now: Value | None) -> str:
    """What of an attribute is otherwise; '' where it is the same."""
    if was == now:
        return ""
    if isinstance(was, tuple) and isinstance(now, tuple):
        more = tuple(each for each in now if each not in was)
        less = tuple(each for each in was if each not in now)
        told = [f"with {', '.join(map(_literal, more))}"] if more else []
        told += [f"without {', '.join(map(_literal, less))}"] if less else []
        return f"{name} now {' and '.join(told) or 'in another order'}"
    return f"{name} now {_literal(now)}, was {_literal(was)}"


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
            return quoted(value)
        case bool() | int() | Fraction():
            return written(value) or ""
        case datetime() if not value.microsecond:
            return f"'{written(value)}'".replace(".000000Z", "Z")
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
