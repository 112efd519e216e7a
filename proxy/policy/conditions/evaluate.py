"""The meaning of a condition, value by value: a checked tree -> a plain Python function.

Kleene's three-valued logic: None is *unknown*. Unknown are a missing attribute, a null cell, a text
that is no value of its declared type, a division by zero, a number beyond `BOUND`, a day or time
beyond the calendar; and whatever is computed from an unknown, but for

    false and unknown = false      true or unknown = true      present(unknown) = false
    x in […] = the Kleene `or` of x == each      (hence false for an empty list, whatever x is)

Numbers are exact rationals; texts are ordered by code point; no function raises on data.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, Final

from proxy.plan import Context, Truth
from proxy.policy.conditions.address import network, within
from proxy.policy.conditions.check import Kind, Scope, Shape, shape
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
    Relation,
    Text,
    children,
)  # fmt: skip
from proxy.subject import AttributeType
from proxy.values import Scalar, Type, Value, calendar_date, instant, scalar

Row = Sequence[str | None]
"""The plain texts of the fields that a function reads, in its own order."""

Evaluate = Callable[[Context, Row], Any]
"""What a node gives: a value, a timedelta for `days()`, or None for unknown."""

BOUND: Final = 10**72
"""Largest numerator or denominator of a result; beyond is overflow, hence unknown."""

RELATIONS: Final[Mapping[Relation, Callable[[Any, Any], Any]]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def function(node: Node, scope: Scope, order: Sequence[str]) -> Evaluate:
    """The function that `node` of a checked tree means; `order` names the fields of its row."""
    return _Compiler(scope, order).compile(node)


def member(item: Scalar, known: frozenset[Scalar], doubtful: bool) -> Truth:  # noqa: FBT001
    """Whether `item` is among `known`; unknown where it is not but an option was `doubtful`."""
    return True if item in known else None if doubtful else False


def options(node: Node, scope: Scope, order: Sequence[str] = ()) -> Evaluate:
    """The options of a membership: None, or the known ones with whether there are unknown ones."""
    if isinstance(node, Items):
        parts = [function(item, scope, order) for item in node.items]
        if not any(_varies(item) for item in node.items):
            found = [part(None, ()) for part in parts]  # type: ignore[arg-type] # reads nothing
            fixed = (frozenset(found) - {None}, None in found)
            return lambda _context, _row: fixed

        def listed(context: Context, row: Row) -> tuple[frozenset[Scalar], bool]:
            found = [part(context, row) for part in parts]
            return frozenset(found) - {None}, None in found

        return listed
    read = function(node, scope, order)

    def attribute(context: Context, row: Row) -> tuple[frozenset[Scalar], bool] | None:
        found = read(context, row)
        return None if found is None else (frozenset(found), False)

    return attribute


def _varies(node: Node) -> bool:
    return isinstance(node, Name) or any(map(_varies, children(node)))


class _Compiler:
    def __init__(self, scope: Scope, order: Sequence[str]) -> None:
        self._scope = scope
        self._place = {name: index for index, name in enumerate(order)}

    def compile(self, node: Node) -> Evaluate:
        match node:
            case Number(value) | Text(value) | Constant(value):
                return _constant(value)
            case Name():
                return self._name(node)
            case Call():
                return self._call(node)
            case Negation(operand):
                negated = self.compile(operand)
                return lambda c, r: None if (a := negated(c, r)) is None else -a
            case Arithmetic():
                return self._arithmetic(node)
            case Comparison(relation, left, right):
                return _strict(RELATIONS[relation], self.compile(left), self.compile(right))
            case Membership():
                return self._membership(node)
            case Not(operand):
                inner = self.compile(operand)
                return lambda c, r: None if (a := inner(c, r)) is None else not a
            case And(terms):
                return _unless(False, [self.compile(term) for term in terms])
            case Or(terms):
                return _unless(True, [self.compile(term) for term in terms])
            case Items():
                raise AssertionError("a list stands only after `in`")  # the check saw to it

    def _name(self, node: Name) -> Evaluate:
        name = node.name
        match node.where:
            case "env":
                return _environment(name)
            case "sub":
                return _attribute(name, self._scope.attributes[name])
            case "row":
                type_ = (self._scope.fields or {}).get(name)
                if type_ is None:
                    return _constant(None)  # a field of another report
                place = self._place[name]
                if type_ is Type.TEXT:
                    return lambda _c, r: r[place]
                return lambda _c, r: None if (t := r[place]) is None else scalar(t, type_)

    def _arithmetic(self, node: Arithmetic) -> Evaluate:
        left, right = self.compile(node.left), self.compile(node.right)
        if shape(node.left, self._scope) == Shape(Kind.NUMBER):
            return _strict(_SUMS[node.sign], left, right)
        if shape(node.right, self._scope) == Shape(Kind.DATE):
            return _strict(lambda a, b: (a - b).days, left, right)
        return _strict(_forward if node.sign == "+" else _back, left, right)

    def _membership(self, node: Membership) -> Evaluate:
        item = self.compile(node.item)
        choices = options(node.options, self._scope, tuple(self._place))
        negated = node.negated

        def test(context: Context, row: Row) -> Truth:
            among = choices(context, row)
            if among is None:
                return None
            known, doubtful = among
            if not known and not doubtful:
                return negated
            value = item(context, row)
            if value is None:
                return None
            found = member(value, known, doubtful)
            return None if found is None else found is not negated

        return test

    def _call(self, node: Call) -> Evaluate:
        match node.function, node.arguments:
            case "time", (Text(text),):
                return _constant(instant(text))
            case "date", (Text(text),):
                return _constant(calendar_date(text))
            case "ip_in", (where, Text(text)):
                net, place = network(text), self.compile(where)
                assert net is not None  # the check saw to it
                return lambda c, r: None if (a := place(c, r)) is None else within(a, net)
            case "present", (argument,):
                inner = self.compile(argument)
                return lambda c, r: inner(c, r) is not None
            case name, (argument,):
                apply, inner = _OF_ONE[name], self.compile(argument)
                return lambda c, r: None if (a := inner(c, r)) is None else apply(a)
            case name, (left, right):
                return _strict(OF_TWO[name], self.compile(left), self.compile(right))
            case _:
                raise AssertionError("a function of no arguments")  # the check saw to it


# ---------------------------------------------------------------- pieces


def _constant(value: Value | None) -> Evaluate:
    return lambda _context, _row: value


def _strict(apply: Callable[[Any, Any], Any], left: Evaluate, right: Evaluate) -> Evaluate:
    """Unknown where a side is."""

    def both(context: Context, row: Row) -> Any:
        a = left(context, row)
        if a is None:
            return None
        b = right(context, row)
        return None if b is None else apply(a, b)

    return both


def _unless(decisive: bool, terms: list[Evaluate]) -> Evaluate:  # noqa: FBT001
    """`or` where True is decisive, `and` where False is."""

    def joined(context: Context, row: Row) -> Truth:
        unknown = False
        for term in terms:
            truth: Truth = term(context, row)
            if truth is decisive:
                return decisive
            if truth is None:
                unknown = True
        return None if unknown else not decisive

    return joined


_EXACT: Final[Mapping[Type, frozenset[type]]] = {
    Type.TEXT: frozenset({str}), Type.INTEGER: frozenset({int}),
    Type.DECIMAL: frozenset({int, Fraction}), Type.BOOLEAN: frozenset({bool}),
    Type.DATE: frozenset({date}), Type.DATETIME: frozenset({datetime}),
}  # fmt: skip
"""The very types of values: a bool is no integer here, and a datetime no date."""


def _are(values: tuple[object, ...], type_: Type) -> bool:
    """Whether `values`, which came from outside this package, are values of `type_`."""
    if not _EXACT[type_].issuperset(map(type, values)):
        return False
    match type_:
        case Type.TEXT:
            return all(map(_well_formed, values))  # type: ignore[arg-type] # they are str
        case Type.DATETIME:
            return all(value.tzinfo is UTC for value in values)  # type: ignore[attr-defined]
        case _:
            return True


def _well_formed(text: str) -> bool:
    """No lone surrogate: what UTF-8 cannot write is no text (RFC 3629)."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _attribute(name: str, declared: AttributeType) -> Evaluate:
    """Reads `sub.name`; a value that is not as declared is unknown."""
    type_ = declared.type

    def one(context: Context, _row: Row) -> Value | None:
        value = context.attributes.get(name)
        return value if _are((value,), type_) else None

    def many(context: Context, _row: Row) -> Value | None:
        value = context.attributes.get(name)
        return value if type(value) is tuple and _are(value, type_) else None

    return many if declared.many else one


def _environment(name: str) -> Evaluate:
    read = operator.attrgetter(name)
    if name in ("now", "date"):
        return lambda context, _row: read(context)
    return lambda context, _row: text if _well_formed(text := read(context)) else None


def _bounded(value: int | Fraction) -> int | Fraction | None:
    within_bound = abs(value.numerator) <= BOUND and value.denominator <= BOUND
    return value if within_bound else None


_SUMS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": lambda a, b: _bounded(a + b),
    "-": lambda a, b: _bounded(a - b),
    "*": lambda a, b: _bounded(a * b),
    "/": lambda a, b: None if b == 0 else _bounded(Fraction(a, b)),
}


def _days(count: int | Fraction) -> timedelta | None:
    if count.denominator != 1:
        return None
    try:
        return timedelta(days=count.numerator)
    except OverflowError:
        return None


def _forward(start: date, span: timedelta) -> date | None:
    try:
        return start + span
    except OverflowError:
        return None


def _back(start: date, span: timedelta) -> date | None:
    try:
        return start - span
    except OverflowError:
        return None


_OF_ONE: Final[Mapping[str, Callable[[Any], Any]]] = {
    "days": _days, "lower": str.lower, "upper": str.upper, "length": len,
}  # fmt: skip

OF_TWO: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "starts": str.startswith, "ends": str.endswith, "contains": operator.contains,
}  # fmt: skip
