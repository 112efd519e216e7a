"""Conditions as terms of z3: whether a value is known, and what it then is.

Kleene's third value is "it is not known". Numbers are reals, exact; days and instants are integers;
texts are z3's texts, ordered by code point. What z3 has no theory of (`lower`, `upper`, an address in a
text, the bound of numbers) is a function of which no more is said than is true of the real one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, Final

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
from proxy.review.constants import (
    FIRST,
    TICK,
    constant,
    is_bounded,
    number_of,
    real,
    text_constant,
    version_of,
)
from proxy.subject import AttributeType
from proxy.values import DIGITS, Scalar, Type, Value, calendar_date, instant

_DAY: Final = timedelta(days=1) // TICK
_LAST_DAY: Final = date.max.toordinal()
_LAST_TICK: Final = (datetime.max.replace(tzinfo=UTC) - FIRST) // TICK
_MOST_DAYS: Final = timedelta.max.days
_LAST_CHARACTER: Final = "\U0002ffff"
"""z3's last one; the first of Unicode's planes that are in use are below."""

Formula = Any
"""A Boolean expression of z3, which ships no types."""

TRUE: Final[Formula] = z3.BoolVal(val=True)
FALSE: Final[Formula] = z3.BoolVal(val=False)

Fixed = Mapping[str, Value | None]
"""Attributes of the requester that are certain; None: certainly unknown."""


class Unmodelled(Exception):
    """A condition cannot be written as a formula."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """A value that may be unknown. Of kind None: unknown whatever is assigned."""

    kind: Kind | None
    known: Formula
    value: Any
    many: bool = False
    divides: int | None = None
    """Of a number: what its denominator certainly divides."""
    most: Fraction | None = None
    """Of a number: what it certainly does not exceed, either way."""


_UNKNOWN: Final = Term(kind=None, known=FALSE, value=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Application:
    """A function of z3's that stands for a real one."""

    argument: Any
    result: Any
    real: Callable[[Any], Any]


class Facts:
    """What is said of all rows and requesters: the variables and functions that terms are made of."""

    def __init__(self, *, purposes: Iterable[str], action: str | None) -> None:
        self.action = action
        self.purposes = ("", *purposes)
        self.variables: dict[tuple[str, str, str], Term] = {}
        self.axioms: list[Formula] = []
        self.applications: dict[str, Application] = {}
        self.addresses: dict[str, tuple[Any, Any]] = {}
        self.tested: dict[str, list[Term]] = {}
        self.texts: set[str] = set()
        """All that are written out."""
        self.decimals: list[Any] = []
        """Numbers that cells write: not any real one is."""
        self.members: dict[str, Formula] = {}
        """What the requester is, or is not: by its name."""

    def variable(self, where: str, name: str, type_: str, make: Callable[[str], Term]) -> Term:
        """The one variable of a name and type."""
        key = (where, name, type_)
        if key not in self.variables:
            self.variables[key] = make(f"{where}.{name}:{type_}")
        return self.variables[key]

    def member(self, name: str) -> Formula:
        """Whether the requester is a member of what has this name."""
        return self.members.setdefault(name, z3.Bool(f"member {name}"))

    def assume(self, *formulas: Formula) -> None:
        """Say what is true of every row and requester."""
        self.axioms.extend(formulas)

    def applied(self, name: str, argument: Any, sort: Any, real: Callable[[Any], Any]) -> Any:
        """`name(argument)`, of which it is known what the real function gives once it is asked."""
        result = z3.Function(name, argument.sort(), sort)(argument)
        self.applications.setdefault(
            f"{name} {argument.sexpr()}",
            Application(argument=argument, result=result, real=real),
        )
        return result

    def addressed(self, argument: Any) -> tuple[Any, Any]:
        """The version (0: none) and number of the address that a text writes."""
        key = argument.sexpr()
        if key not in self.addresses:
            version = self.applied("version", argument, z3.IntSort(), version_of)
            numbered = self.applied("number", argument, z3.IntSort(), number_of)
            self.assume(
                z3.Or(version == 0, version == 4, version == 6),
                numbered >= 0,
                numbered < z3.If(version == 4, z3.IntVal(1 << 32), z3.IntVal(1 << 128)),
            )
            self.addresses[key] = (version, numbered)
        return self.addresses[key]

    def literal(self, text: str) -> Any:
        """A text; raises Unmodelled where z3 has not all of its characters."""
        if any(character > _LAST_CHARACTER for character in text):
            raise Unmodelled
        self.texts.add(text)
        return text_constant(text)

    def tests(self, attribute: Term, item: Term) -> None:
        """Remember that the item is looked for in a list."""
        self.tested.setdefault(str(attribute.value), []).append(item)


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
                return _written(value)
            case Text(value):
                return _known(Kind.TEXT, self._facts.literal(value))
            case Constant(value):
                return _known(Kind.BOOLEAN, z3.BoolVal(value))
            case Name():
                return self._name(node)
            case Call():
                return self._call(node)
            case Negation(operand):
                return self._strict(lambda a: replace(a, value=-a.value), operand)
            case Arithmetic(sign, left, right):
                return self._strict(lambda a, b: self._sum(sign, a, b), left, right)
            case Comparison(relation, left, right):
                return self._strict(lambda a, b: _compared(relation, a, b), left, right)
            case Membership(item, options, negated):
                return _negated(self._membership(item, options), negated)
            case Not(operand):
                inner = self.term(operand)
                return inner if inner.kind is None else replace(inner, value=z3.Not(inner.value))
            case And(terms):
                return _joined([self.term(each) for each in terms])
            case Or(terms):
                return _negated(_joined([_negated(self.term(each), True) for each in terms]), True)
            case Items():
                raise AssertionError("a list stands only after `in`")  # the check saw to it

    def _strict(self, apply: Callable[..., Term], *operands: Node) -> Term:
        """Unknown where an operand is."""
        terms = [self.term(each) for each in operands]
        if any(each.kind is None for each in terms):
            return _UNKNOWN
        result = apply(*terms)
        return replace(result, known=z3.And(result.known, *(each.known for each in terms)))

    # ── names ──

    def _name(self, node: Name) -> Term:
        facts, name = self._facts, node.name
        match node.where:
            case "row":
                type_ = (self._scope.fields or {}).get(name)
                if type_ is None:
                    return _UNKNOWN
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
            self._facts.assume(value >= 1, value <= _LAST_DAY)
        elif kind is Kind.DATETIME:
            self._facts.assume(value >= 0, value <= _LAST_TICK)
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
            return _UNKNOWN
        if isinstance(value, tuple):
            inside = z3.EmptySet(SORT[kind]())
            for each in value:
                inside = z3.SetAdd(inside, self._scalar(each))
            return Term(kind=kind, known=TRUE, value=inside, many=True)
        return _known(kind, self._scalar(value))

    def _scalar(self, value: Scalar) -> Any:
        return self._facts.literal(value) if isinstance(value, str) else constant(value)

    def _environment(self, name: str) -> Term:
        facts = self._facts
        if name in ("now", "date"):
            now = facts.variable("env", "now", "", self._now)
            if name == "now":
                return now
            return _known(Kind.DATE, now.value / _DAY + 1)
        if name == "action" and facts.action is not None:
            return _known(Kind.TEXT, facts.literal(facts.action))
        return facts.variable("env", name, "", lambda key: self._told(key, name))

    def _now(self, key: str) -> Term:
        value = z3.Int(key)
        self._facts.assume(value >= 0, value <= _LAST_TICK)
        return _known(Kind.DATETIME, value)

    def _told(self, key: str, name: str) -> Term:
        value = z3.String(key)
        among = {"purpose": self._facts.purposes, "method": ("GET", "HEAD")}.get(name)
        if among is not None:
            self._facts.assume(z3.Or([value == self._facts.literal(each) for each in among]))
        return _known(Kind.TEXT, value)

    # ── operators ──

    def _membership(self, item_: Node, options: Node) -> Term:
        item = self.term(item_)
        if isinstance(options, Items):
            among = [self.term(each) for each in options.items]
            if item.kind is None:
                return _UNKNOWN
            equal = [z3.And(each.known, each.value == item.value) for each in among if each.kind]
            found = z3.Or(*equal) if equal else FALSE
            all_known = z3.And(*(each.known for each in among))
            return Term(
                kind=Kind.BOOLEAN, known=z3.And(item.known, z3.Or(found, all_known)), value=found
            )
        listed = self.term(options)
        if listed.kind is None:
            return _UNKNOWN
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
                quotient = self._bounded(a / b, None, None, sure=_quotient_is_bounded(left, right))
                return replace(quotient, known=z3.And(b != 0, quotient.known))
            case Kind.NUMBER, _:
                value = {"+": a + b, "-": a - b, "*": a * b}[sign]
                return self._bounded(value, *_bounds(sign, left, right))
            case Kind.DATE, Kind.DATE:
                return _known(Kind.NUMBER, z3.ToReal(a - b))
            case kind, _:
                first, last, unit = (
                    (1, _LAST_DAY, 1) if kind is Kind.DATE else (0, _LAST_TICK, _DAY)
                )
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
                return _known(Kind.DATETIME, constant(at))
            case "date", (Text(text),):
                day = calendar_date(text)
                assert day is not None  # as above
                return _known(Kind.DATE, constant(day))
            case "present", (argument,):
                return _known(Kind.BOOLEAN, self.term(argument).known)
            case "ip_in", (argument, Text(text)):
                return self._strict(lambda a: self._within(a, text), argument)
            case "length", (argument,):
                return self._strict(
                    lambda a: _known(Kind.NUMBER, z3.ToReal(z3.Length(a.value))), argument
                )
            case "days", (argument,):
                return self._strict(_days, argument)
            case ("lower" | "upper") as name, (argument,):
                return self._strict(lambda a: self._cased(name, a.value), argument)
            case name, (left, right):
                test = {"starts": z3.PrefixOf, "ends": z3.SuffixOf, "contains": _holds}[name]
                return self._strict(
                    lambda a, b: _known(Kind.BOOLEAN, test(b.value, a.value)), left, right
                )
            case _:
                raise Unmodelled

    def _cased(self, name: str, text: Any) -> Term:
        """Each character becomes one to three (Unicode, SpecialCasing.txt)."""
        cases = {"lower": str.lower, "upper": str.upper}[name]
        cased = self._facts.applied(name, text, z3.StringSort(), cases)
        before, after = z3.Length(text), z3.Length(cased)
        self._facts.assume(after >= before, after <= 3 * before)
        return _known(Kind.TEXT, cased)

    def _within(self, place: Term, text: str) -> Term:
        net = network(text)
        assert net is not None  # the check saw to it
        version, numbered = self._facts.addressed(place.value)
        low = net.prefix << net.shift
        inside = z3.And(version == net.version, numbered >= low, numbered < low + (1 << net.shift))
        return Term(kind=Kind.BOOLEAN, known=version != 0, value=inside)


# ── pieces ──

SORT: Final[Mapping[Kind, Callable[[], Any]]] = {
    Kind.TEXT: z3.StringSort, Kind.NUMBER: z3.RealSort, Kind.BOOLEAN: z3.BoolSort,
    Kind.DATE: z3.IntSort, Kind.DATETIME: z3.IntSort,
}  # fmt: skip


def _known(kind: Kind, value: Any) -> Term:
    return Term(kind=kind, known=TRUE, value=value)


def _written(value: int | Fraction) -> Term:
    exact = Fraction(value)
    return replace(_known(Kind.NUMBER, real(exact)), divides=exact.denominator, most=abs(exact))


def _bounds(sign: str, left: Term, right: Term) -> tuple[int | None, Fraction | None]:
    """What the denominator of a sum or product divides, and what it does not exceed."""
    known = left.divides is not None and right.divides is not None
    within = left.most is not None and right.most is not None
    if sign == "*":
        return (
            left.divides * right.divides if known else None,  # type: ignore[operator]  # known
            left.most * right.most if within else None,  # type: ignore[operator]  # as above
        )
    return (
        math.lcm(left.divides, right.divides) if known else None,  # type: ignore[arg-type]  # as above
        left.most + right.most if within else None,  # type: ignore[operator]  # as above
    )


def _quotient_is_bounded(left: Term, right: Term) -> bool:
    if left.divides is None or right.divides is None or left.most is None or right.most is None:
        return False
    both = left.divides * right.divides
    return left.most * both <= BOUND and right.most * both <= BOUND


def _negated(term: Term, negated: bool) -> Term:  # noqa: FBT001
    if term.kind is None or not negated:
        return term
    return replace(term, value=z3.Not(term.value))


def _joined(terms: Sequence[Term]) -> Term:
    """Kleene's `and`."""
    true = [z3.And(each.known, each.value) if each.kind else FALSE for each in terms]
    false = [z3.And(each.known, z3.Not(each.value)) if each.kind else FALSE for each in terms]
    value = z3.And(*true)
    return Term(kind=Kind.BOOLEAN, known=z3.Or(value, *false), value=value)


def _compared(relation: str, left: Term, right: Term) -> Term:
    a, b = left.value, right.value
    result = {
        "==": lambda: a == b, "!=": lambda: a != b, "<": lambda: a < b, "<=": lambda: a <= b,
        ">": lambda: b < a, ">=": lambda: b <= a,
    }[relation]()  # fmt: skip
    return _known(Kind.BOOLEAN, result)


def _days(count: Term) -> Term:
    whole = z3.IsInt(count.value)
    few = z3.And(count.value <= _MOST_DAYS, count.value >= -_MOST_DAYS)
    return Term(kind=Kind.DAYS, known=z3.And(whole, few), value=z3.ToInt(count.value))


def _holds(part: Any, text: Any) -> Any:
    return z3.Contains(text, part)


# ── formulas of formulas ──


def every(*formulas: Formula) -> Formula:
    """All of them."""
    return z3.And(*formulas) if formulas else TRUE


def some(*formulas: Formula) -> Formula:
    """One of them at least."""
    return z3.Or(*formulas) if formulas else FALSE


def no(*formulas: Formula) -> Formula:
    """None of them."""
    return z3.Not(some(*formulas))


def one_at_most(*formulas: Formula) -> Formula:
    """No two of them."""
    return z3.AtMost(*formulas, 1) if len(formulas) > 1 else TRUE
