"""Conditions as terms: the walk along a checked tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import z3

from proxy.policy.conditions import Scope
from proxy.policy.conditions.address import network
from proxy.policy.conditions.check import KIND, Kind
from proxy.policy.conditions.evaluate import BOUND
from proxy.policy.conditions.tree import (
    And,
    Arithmetic,
    Call,
    Comparison,
    Constant,
    Items,
    Membership,
    Name,
    Negation,
    Node,
    Not,
    Number,
    Or,
    Text,
)
from proxy.review.constants import constant, is_bounded, real
from proxy.review.facts import Facts, Unmodelled
from proxy.review.formulas import FALSE, TRUE
from proxy.review.terms import (
    DAY,
    LAST_DAY,
    LAST_TICK,
    SORT,
    UNKNOWN,
    Term,
    bounds,
    certain,
    compared,
    conjunction,
    contains,
    days,
    negation,
    quotient_is_bounded,
    written,
)
from proxy.subject import AttributeType
from proxy.values import DIGITS, Scalar, Type, Value, calendar_date, instant

Fixed = Mapping[str, Value | None]
"""Attributes of the requester that are certain; None: certainly unknown."""


class Writer:
    """Trees -> terms."""

    def __init__(self, facts: Facts, scope: Scope, fixed: Fixed) -> None:
        self._facts = facts
        self._scope = scope
        self._fixed = fixed

    def term(self, node: Node) -> Term:
        """What a node of a checked tree gives; raises Unmodelled."""
        match node:
            case Number(value):
                return written(value)
            case Text(value):
                return certain(Kind.TEXT, self._facts.literal(value))
            case Constant(value):
                return certain(Kind.BOOLEAN, z3.BoolVal(value))
            case Name():
                return self._name(node)
            case Call():
                return self._call(node)
            case Negation(operand):
                return self._strict(lambda a: replace(a, value=-a.value), operand)
            case Arithmetic(sign, left, right):
                return self._strict(lambda a, b: self._sum(sign, a, b), left, right)
            case Comparison(relation, left, right):
                return self._strict(lambda a, b: compared(relation, a, b), left, right)
            case Membership(item, options, negated):
                found = self._membership(item, options)
                return negation(found) if negated else found
            case Not(operand):
                return negation(self.term(operand))
            case And(terms):
                return conjunction([self.term(each) for each in terms])
            case Or(terms):
                return negation(conjunction([negation(self.term(each)) for each in terms]))
            case Items():
                raise AssertionError("a list stands only after `in`")  # the check saw to it

    def _strict(self, apply: Callable[..., Term], *operands: Node) -> Term:
        """Unknown where an operand is."""
        terms = [self.term(each) for each in operands]
        if any(each.kind is None for each in terms):
            return UNKNOWN
        result = apply(*terms)
        return replace(result, known=z3.And(result.known, *(each.known for each in terms)))

    # ── names ──

    def _name(self, node: Name) -> Term:
        facts, name = self._facts, node.name
        match node.where:
            case "row":
                type_ = (self._scope.fields or {}).get(name)
                if type_ is None:
                    return UNKNOWN
                return facts.variable("row", name, type_, lambda key: self._field(key, type_))
            case "sub":
                declared = self._scope.attributes[name]
                if name in self._fixed:
                    return self._certain(self._fixed[name], declared)
                type_name = f"{declared.type}{' list' if declared.many else ''}"
                return facts.variable(
                    "sub", name, type_name, lambda key: self._attribute(key, declared)
                )
            case "env":
                return self._environment(name)

    def _field(self, key: str, type_: Type) -> Term:
        kind, known = KIND[type_], z3.Bool(f"{key}?")
        if type_.is_number:
            whole = type_ is Type.INTEGER
            value = z3.ToReal(z3.Int(key)) if whole else z3.Real(key)
            most = Fraction(10**DIGITS)
            self._facts.assume(value < real(most), value > -real(most))
            if not whole:
                self._facts.decimals.append(value)
            return Term(
                kind=kind, known=known, value=value, divides=1 if whole else 10**DIGITS, most=most
            )
        value = z3.Const(key, SORT[kind]())
        if kind is Kind.DATE:
            self._facts.assume(value >= 1, value <= LAST_DAY)
        elif kind is Kind.DATETIME:
            self._facts.assume(value >= 0, value <= LAST_TICK)
        return Term(kind=kind, known=known, value=value)

    def _attribute(self, key: str, declared: AttributeType) -> Term:
        kind = KIND[declared.type]
        if not declared.many and declared.type.is_number:  # of any size, unlike what a cell writes
            whole = declared.type is Type.INTEGER
            number = z3.ToReal(z3.Int(key)) if whole else z3.Real(key)
            known = z3.Bool(f"{key}?")
            return Term(kind=kind, known=known, value=number, divides=1 if whole else None)
        if not declared.many:
            return self._field(key, declared.type)
        value = z3.Const(key, z3.SetSort(SORT[kind]()))
        return Term(kind=kind, known=z3.Bool(f"{key}?"), value=value, many=True)

    def _certain(self, value: Value | None, declared: AttributeType) -> Term:
        kind = KIND[declared.type]
        if value is None:
            return UNKNOWN
        if isinstance(value, tuple):
            inside = z3.EmptySet(SORT[kind]())
            for each in value:
                inside = z3.SetAdd(inside, self._scalar(each))
            return Term(kind=kind, known=TRUE, value=inside, many=True)
        return certain(kind, self._scalar(value))

    def _scalar(self, value: Scalar) -> Any:
        return self._facts.literal(value) if isinstance(value, str) else constant(value)

    def _environment(self, name: str) -> Term:
        facts = self._facts
        if name in ("now", "date"):
            now = facts.variable("env", "now", "", self._now)
            if name == "now":
                return now
            return certain(Kind.DATE, now.value / DAY + 1)
        if name == "action" and facts.action is not None:
            return certain(Kind.TEXT, facts.literal(facts.action))
        return facts.variable("env", name, "", lambda key: self._told(key, name))

    def _now(self, key: str) -> Term:
        value = z3.Int(key)
        self._facts.assume(value >= 0, value <= LAST_TICK)
        return certain(Kind.DATETIME, value)

    def _told(self, key: str, name: str) -> Term:
        value = z3.String(key)
        among = {"purpose": self._facts.purposes, "method": ("GET", "HEAD")}.get(name)
        if among is not None:
            self._facts.assume(z3.Or([value == self._facts.literal(each) for each in among]))
        return certain(Kind.TEXT, value)

    # ── operators ──

    def _membership(self, item_: Node, options: Node) -> Term:
        item = self.term(item_)
        if isinstance(options, Items):
            among = [self.term(each) for each in options.items]
            if item.kind is None:
                return UNKNOWN
            equal = [z3.And(each.known, each.value == item.value) for each in among if each.kind]
            found = z3.Or(*equal) if equal else FALSE
            all_known = z3.And(*(each.known for each in among))
            return Term(
                kind=Kind.BOOLEAN, known=z3.And(item.known, z3.Or(found, all_known)), value=found
            )
        listed = self.term(options)
        if listed.kind is None:
            return UNKNOWN
        some = listed.value != z3.EmptySet(SORT[listed.kind]())
        if item.kind is None:
            return Term(kind=Kind.BOOLEAN, known=z3.And(listed.known, z3.Not(some)), value=FALSE)
        self._facts.tests(listed, item)
        return Term(
            kind=Kind.BOOLEAN,
            known=z3.And(listed.known, z3.Or(z3.Not(some), item.known)),
            value=z3.And(some, z3.IsMember(item.value, listed.value)),
        )

    def _sum(self, sign: str, left: Term, right: Term) -> Term:
        a, b = left.value, right.value
        match left.kind, right.kind:
            case Kind.NUMBER, _ if sign == "/":
                quotient = self._bounded(a / b, None, None, sure=quotient_is_bounded(left, right))
                return replace(quotient, known=z3.And(b != 0, quotient.known))
            case Kind.NUMBER, _:
                value = {"+": a + b, "-": a - b, "*": a * b}[sign]
                return self._bounded(value, *bounds(sign, left, right))
            case Kind.DATE, Kind.DATE:
                return certain(Kind.NUMBER, z3.ToReal(a - b))
            case kind, _:
                first, last, unit = (1, LAST_DAY, 1) if kind is Kind.DATE else (0, LAST_TICK, DAY)
                moved = a + b * unit if sign == "+" else a - b * unit
                return Term(kind=kind, known=z3.And(moved >= first, moved <= last), value=moved)

    def _bounded(
        self, value: Any, divides: int | None, most: Fraction | None, *, sure: bool = False
    ) -> Term:
        """A number as `evaluate` keeps it: unknown beyond `BOUND`, in numerator or denominator."""
        if divides is not None and most is not None:
            sure = sure or (divides <= BOUND and most * divides <= BOUND)
        known = TRUE
        if not sure:
            known = self._facts.applied("bounded", value, z3.BoolSort(), is_bounded)
            far = z3.Or(value > real(BOUND), value < -real(BOUND))
            self._facts.assume(z3.Implies(far, z3.Not(known)))
            if divides is not None and divides <= BOUND:
                near = Fraction(BOUND, divides)
                within = z3.And(value <= real(near), value >= -real(near))
                self._facts.assume(z3.Implies(within, known))
        return Term(kind=Kind.NUMBER, known=known, value=value, divides=divides, most=most)

    def _call(self, node: Call) -> Term:
        match node.function, node.arguments:
            case "time", (Text(text),):
                at = instant(text)
                assert at is not None  # the check saw to it
                return certain(Kind.DATETIME, constant(at))
            case "date", (Text(text),):
                day = calendar_date(text)
                assert day is not None  # as above
                return certain(Kind.DATE, constant(day))
            case "present", (argument,):
                return certain(Kind.BOOLEAN, self.term(argument).known)
            case "ip_in", (argument, Text(text)):
                return self._strict(lambda a: self._within(a, text), argument)
            case "length", (argument,):
                return self._strict(
                    lambda a: certain(Kind.NUMBER, z3.ToReal(z3.Length(a.value))), argument
                )
            case "days", (argument,):
                return self._strict(days, argument)
            case ("lower" | "upper") as name, (argument,):
                return self._strict(lambda a: self._cased(name, a.value), argument)
            case name, (left, right):
                test = {"starts": z3.PrefixOf, "ends": z3.SuffixOf, "contains": contains}[name]
                return self._strict(
                    lambda a, b: certain(Kind.BOOLEAN, test(b.value, a.value)), left, right
                )
            case _:
                raise Unmodelled

    def _cased(self, name: str, text: Any) -> Term:
        """Each character becomes one to three (Unicode, SpecialCasing.txt)."""
        cases = {"lower": str.lower, "upper": str.upper}[name]
        cased = self._facts.applied(name, text, z3.StringSort(), cases)
        before, after = z3.Length(text), z3.Length(cased)
        self._facts.assume(after >= before, after <= 3 * before)
        return certain(Kind.TEXT, cased)

    def _within(self, place: Term, text: str) -> Term:
        net = network(text)
        assert net is not None  # the check saw to it
        version, numbered = self._facts.addressed(place.value)
        low = net.prefix << net.shift
        inside = z3.And(version == net.version, numbered >= low, numbered < low + (1 << net.shift))
        return Term(kind=Kind.BOOLEAN, known=version != 0, value=inside)
