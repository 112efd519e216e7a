"""Conditions as formulas for z3: what holds for every row and requester is proved, not sampled.

A node of a condition is a pair: whether its value is known (Kleene's third value is "it is not"), and
the value: numbers are reals, exact; days and instants are integers; texts are z3's texts, ordered by
code point. What z3 has no theory of (`lower`, `upper`, an address in a text, the bound of numbers) is a
function of which no more is said than is true of the real one. So

- where no assignment is found, there is none: whatever the real function does is among what was tried;
- an assignment that is found is a guess, for the caller to check by the language's own evaluator. A
  wrong guess is answered by what the real functions give there (`Found.refine`), and a new one is made.

Source: the decidable core is that of Cedar's analysis (Cutler et al., "Cedar", OOPSLA 2024, §5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import z3

from proxy.plan import Context
from proxy.policy.conditions import Scope
from proxy.policy.conditions.check import Kind
from proxy.policy.conditions.syntax import parse
from proxy.review.constants import (
    FIRST,
    TICK,
    address_text,
    constant,
    fraction,
    others,
    real,
    text_constant,
    text_of,
)
from proxy.review.facts import Facts
from proxy.review.formulas import FALSE, Formula
from proxy.review.terms import SORT, Term
from proxy.review.walk import Fixed, Writer
from proxy.review.witness import Values, plainer
from proxy.values import DIGITS, Scalar, Value

SECONDS: Final = 2.0
"""How long one question may take."""
_MOMENT: Final = 200
"""Milliseconds in which a value must be proved not to matter, to be left out."""
_WORTH: Final = ("env", "sub", "row")
"""What is left out of a witness first."""
_GUESSES: Final = 12
"""Wrong guesses before a question is given up."""

_NOTHING: Final[Fixed] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """When a condition is certainly true, and when certainly false; else it is unknown."""

    true: Formula
    false: Formula


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """One row and one requester: names of conditions -> values; None where there is none."""

    row: Mapping[str, Scalar | None]
    sub: Mapping[str, Value | None]
    env: Mapping[str, Scalar]
    members: frozenset[str] = frozenset()
    """What the requester is, of that which was asked about."""

    def context(self, *, action: str) -> Context:
        """The circumstances, for the evaluator; what no condition reads is as good as any."""
        now = self.env.get("now", FIRST + timedelta(days=738_000))
        assert isinstance(now, datetime)
        told = {name: str(self.env.get(name, "")) for name in ("ip", "purpose", "tool")}
        return Context(
            attributes={name: value for name, value in self.sub.items() if value is not None},
            now=now,
            date=now.date(),
            ip=told["ip"],
            purpose=told["purpose"],
            tool=told["tool"],
            action=str(self.env.get("action", action)),
            method=str(self.env.get("method", "GET")),
        )


class Undecided(Exception):
    """There was no answer in time, or no guess was right."""


class Solver:
    """Conditions as formulas over one row and one requester, and what can be true of them."""

    def __init__(
        self, *, purposes: Iterable[str], action: str | None, seconds: float = SECONDS
    ) -> None:
        self._seconds = seconds
        self._facts = Facts(purposes=purposes, action=action)
        self._written: dict[tuple[str, int, int], Truth] = {}
        self._kept: list[object] = []

    def truth(self, text: str, scope: Scope, fixed: Fixed = _NOTHING) -> Truth:
        """The canonical text of a condition that was checked in `scope`; raises Unmodelled."""
        key = (text, id(scope), id(fixed))
        found = self._written.get(key)
        if found is None:
            self._kept += (scope, fixed)  # so that their ids stay theirs
            term = Writer(self._facts, scope, fixed).term(parse(text))
            found = self._written[key] = Truth(
                true=z3.And(term.known, term.value) if term.kind else FALSE,
                false=z3.And(term.known, z3.Not(term.value)) if term.kind else FALSE,
            )
        return found

    def member(self, name: str) -> Formula:
        """Whether the requester is a member of what has this name."""
        return self._facts.member(name)

    def find(self, formula: Formula, right: Callable[[Assignment], bool]) -> Assignment | None:
        """What makes `formula` true, and is `right`; None: nothing does. Raises Undecided."""
        solver = z3.Solver()
        solver.set("timeout", int(self._seconds * 1000))
        solver.add(formula, *self._facts.axioms, *self._of_literals())
        for _ in range(_GUESSES):
            answer = self._guess(solver)
            if answer == z3.unsat:
                return None
            if answer != z3.sat:
                raise Undecided
            model = solver.model()
            try:
                assignment = self._assignment(model)
            except (ValueError, OverflowError, AttributeError, z3.Z3Exception) as exc:
                raise Undecided from exc
            if right(assignment):
                return assignment
            solver.add(*self._as_they_are(model))
        raise Undecided

    def plainer(
        self, at: Assignment, formula: Formula, right: Callable[[Assignment], bool]
    ) -> Assignment:
        """What makes `formula` true, and is `right`, in plain values and without what does not matter."""

        def assigned(values: Values) -> Assignment:
            parts: dict[str, dict[str, Any]] = {"row": {}, "sub": {}, "env": {}}
            for (where, name), value in values.items():
                parts[where][name] = value
            return replace(at, row=parts["row"], sub=parts["sub"], env=parts["env"])

        given = (("row", at.row), ("sub", at.sub), ("env", at.env))
        values = {(where, name): v for where, part in given for name, v in part.items()}
        found = plainer(
            values,
            lambda tried: right(assigned(tried)),
            {(where, name): type_ for where, name, type_ in self._facts.variables},
            texts=frozenset(self._facts.texts),
            purposes=self._facts.purposes,
        )
        left = dict(found)
        for place in sorted(found, key=lambda each: (_WORTH.index(each[0]), each)):
            without = {name: value for name, value in left.items() if name != place}
            if self._is_enough(without, formula) and right(assigned(without)):
                left = without
        return assigned(left)

    def _is_enough(self, values: Values, formula: Formula) -> bool:
        """Whether these values are proved to make `formula` true, whatever all others are."""
        terms = {(where, name): term for (where, name, _), term in self._facts.variables.items()}
        solver = z3.Solver()
        solver.set("timeout", _MOMENT)
        solver.add(z3.Not(formula), *self._facts.axioms, *self._of_literals())
        solver.add(*(_is(terms[place], value) for place, value in values.items()))
        return bool(solver.check() == z3.unsat)

    def _guess(self, solver: Any) -> Any:
        """Ask first for texts of which it is known how their cases are written, then for any."""
        cased = [
            a for name, a in self._facts.applications.items() if name.startswith(("lower", "upper"))
        ]
        if cased:
            texts = [text_constant(text) for text in self._all_texts()]
            for wishes in (
                [each.result == each.argument for each in cased],
                [z3.Or([each.argument == text for text in texts]) for each in cased],
            ):
                if solver.check(*wishes) == z3.sat:
                    return z3.sat
        return solver.check()

    def _all_texts(self) -> list[str]:
        """The texts that are written out, and how else their letters can be."""
        shapes = (str, str.lower, str.upper, str.title, str.swapcase)
        return sorted({shape(text) for text in self._facts.texts for shape in shapes})

    def _of_literals(self) -> list[Formula]:
        """What the real functions give for the texts that are written out."""
        return [
            z3.Implies(
                each.argument == text_constant(text), each.result == constant(each.real(text))
            )
            for each in self._facts.applications.values()
            if each.argument.sort() == z3.StringSort()
            for text in self._all_texts()
        ]

    def _as_they_are(self, model: Any) -> list[Formula]:
        """What the real functions give for what the guess asks them."""
        said = []
        for each in self._facts.applications.values():
            at = model.eval(each.argument, model_completion=True)
            told = each.real(text_of(at) if z3.is_string(at) else fraction(at))
            said.append(z3.Implies(each.argument == at, each.result == constant(told)))
        said += [
            z3.IsInt(value * real(10**DIGITS))
            for value in self._facts.decimals
            if 10**DIGITS % fraction(model.eval(value, model_completion=True)).denominator
        ]
        return said

    # ── the values of a guess ──

    def _assignment(self, model: Any) -> Assignment:
        found: dict[str, dict[str, Any]] = {"row": {}, "sub": {}, "env": {}}
        for (where, name, _), term in self._facts.variables.items():
            if not z3.is_true(model.eval(term.known, model_completion=True)):
                found[where].setdefault(name, None)
            elif term.many:
                found[where][name] = self._list(model, term)
            else:
                found[where][name] = self._value(model, term)
        members = [
            name
            for name, is_one in self._facts.members.items()
            if z3.is_true(model.eval(is_one, model_completion=True))
        ]
        return Assignment(
            row=found["row"], sub=found["sub"], env=found["env"], members=frozenset(members)
        )

    def _value(self, model: Any, term: Term) -> Scalar:
        at = model.eval(term.value, model_completion=True)
        match term.kind:
            case Kind.TEXT:
                pair = self._facts.addresses.get(term.value.sexpr())
                if pair is not None:
                    version, numbered = (model.eval(p, model_completion=True) for p in pair)
                    if version.as_long():
                        return str(address_text(version.as_long(), numbered.as_long()))
                return text_of(at)
            case Kind.NUMBER:
                exact = fraction(at)
                return int(exact) if exact.denominator == 1 else exact
            case Kind.BOOLEAN:
                return bool(z3.is_true(at))
            case Kind.DATE:
                return date.fromordinal(at.as_long())
            case _:
                return FIRST + int(at.as_long()) * TICK

    def _list(self, model: Any, term: Term) -> tuple[Scalar, ...]:
        """A list with the tested items that are in it, and another where it is of others alone."""
        inside: list[Scalar] = []
        outside: list[Scalar] = []
        for item in self._facts.tested.get(str(term.value), []):
            if z3.is_true(model.eval(item.known, model_completion=True)):
                value = self._value(model, item)
                member = z3.IsMember(item.value, term.value)
                (
                    inside if z3.is_true(model.eval(member, model_completion=True)) else outside
                ).append(value)
        assert term.kind is not None  # what is never known is in no model
        nothing = z3.EmptySet(SORT[term.kind]())
        empty = z3.is_true(model.eval(term.value == nothing, model_completion=True))
        if not inside and not empty:
            inside.append(next(each for each in others(term.kind) if each not in outside))
        return tuple(dict.fromkeys(inside))


def _is(term: Term, value: Value | None) -> Formula:
    """That a name has this value."""
    if value is None:
        return z3.Not(term.known)
    if not isinstance(value, tuple):
        return z3.And(term.known, term.value == constant(value))
    assert term.kind is not None  # it has a value
    listed = z3.EmptySet(SORT[term.kind]())
    for each in value:
        listed = z3.SetAdd(listed, constant(each))
    return z3.And(term.known, term.value == listed)
