"""The condition language, interpreted directly: slow, plain, and written from its definition alone.

It shares the tree and the scalar values (proxy/values.py) with the compilers, and nothing else.
Unknown is an exception here, so that whatever does not say otherwise is unknown with its parts.
"""

from __future__ import annotations

import ipaddress
import operator
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

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
    Not,
    Number,
    Or,
    Text,
)
from proxy.values import Type, calendar_date, instant, scalar

COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Unknown(Exception):
    """The third value."""


def truth(node, scope, context, row):
    """True, False, or None for unknown; `row` maps fields to texts or None."""
    try:
        return Interpreter(scope, context, row).value(node)
    except Unknown:
        return None


class Interpreter:
    def __init__(self, scope, context, row):
        self.scope, self.context, self.row = scope, context, row

    def value(self, node):
        match node:
            case Number(value) | Text(value) | Constant(value):
                return value
            case Name("env", name):
                return self.known(getattr(self.context, name))
            case Name("sub", name):
                return self.attribute(name)
            case Name("row", name):
                return self.cell(name)
            case Negation(operand):
                return -self.value(operand)
            case Arithmetic(sign, left, right):
                return self.arithmetic(sign, self.value(left), self.value(right))
            case Comparison(relation, left, right):
                return COMPARE[relation](self.value(left), self.value(right))
            case Membership(item, options, negated):
                equal = self.any_of(
                    [lambda o=o: self.value(item) == o() for o in self.options(options)]
                )
                return not equal if negated else equal
            case Not(operand):
                return not self.value(operand)
            case Or(terms):
                return self.any_of([lambda t=t: self.value(t) for t in terms])
            case And(terms):  # De Morgan holds in Kleene's logic
                return not self.any_of([lambda t=t: not self.value(t) for t in terms])
            case Call("present", (argument,)):
                try:
                    self.value(argument)
                except Unknown:
                    return False
                return True
            case Call(function, arguments):
                return self.call(function, [self.value(argument) for argument in arguments])
        raise AssertionError(node)

    def any_of(self, thunks):
        unknown = False
        for thunk in thunks:
            try:
                if thunk():
                    return True
            except Unknown:
                unknown = True
        if unknown:
            raise Unknown
        return False

    def options(self, node):
        if isinstance(node, Items):
            return [lambda i=i: self.value(i) for i in node.items]
        return [lambda v=v: v for v in self.value(node)]

    def known(self, value):
        if isinstance(value, str):
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise Unknown from None
        return value

    def attribute(self, name):
        declared = self.scope.attributes[name]
        if name not in self.context.attributes:
            raise Unknown
        held = self.context.attributes[name]
        if declared.many and not isinstance(held, tuple):
            raise Unknown
        for value in held if declared.many else (held,):
            fits = {
                Type.TEXT: isinstance(value, str),
                Type.INTEGER: isinstance(value, int) and not isinstance(value, bool),
                Type.DECIMAL: isinstance(value, int | Fraction) and not isinstance(value, bool),
                Type.BOOLEAN: isinstance(value, bool),
                Type.DATE: isinstance(value, date) and not isinstance(value, datetime),
                Type.DATETIME: isinstance(value, datetime) and value.tzinfo is UTC,
            }[declared.type]
            if not fits:
                raise Unknown
            self.known(value)
        return held

    def cell(self, name):
        text = self.row.get(name) if name in self.scope.fields else None
        value = None if text is None else scalar(text, self.scope.fields[name])
        if value is None:
            raise Unknown
        return value

    def arithmetic(self, sign, left, right):
        try:
            if isinstance(right, timedelta):
                return left + right if sign == "+" else left - right
            if isinstance(right, date):
                return left.toordinal() - right.toordinal()
            left, right = Fraction(left), Fraction(right)
            result = {
                "+": operator.add,
                "-": operator.sub,
                "*": operator.mul,
                "/": operator.truediv,
            }[sign](left, right)
        except (OverflowError, ZeroDivisionError):
            raise Unknown from None
        if max(abs(result.numerator), result.denominator) > 10**72:
            raise Unknown
        return result

    def call(self, function, values):
        match function, values:
            case "days", [count]:
                if Fraction(count).denominator != 1 or abs(count) > 999_999_999:
                    raise Unknown
                return timedelta(days=int(count))
            case "time", [text]:
                return instant(text)
            case "date", [text]:
                return calendar_date(text)
            case "lower", [text]:
                return text.lower()
            case "upper", [text]:
                return text.upper()
            case "length", [text]:
                return len(text)
            case "starts", [text, part]:
                return text[: len(part)] == part
            case "ends", [text, part]:
                return text[len(text) - len(part) :] == part if len(part) <= len(text) else False
            case "contains", [text, part]:
                return text.find(part) >= 0
            case "ip_in", [text, network]:
                try:
                    address = ipaddress.ip_address(text)
                except ValueError:
                    raise Unknown from None
                mapped = getattr(address, "ipv4_mapped", None)
                return (mapped or address) in ipaddress.ip_network(network)
        raise AssertionError(function)
