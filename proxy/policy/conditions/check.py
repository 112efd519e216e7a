"""Names and types of a condition: a tree and a scope -> the kind of its value, or every fault.

The kinds are the types of fields (integer and decimal are one kind: exact numbers), `days` (what
`days(n)` gives: only good for moving a date or time), and lists of a kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from proxy.policy.conditions.address import network
from proxy.policy.conditions.mistakes import BadCondition, Mistake, nearest
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
    canonical,
    quoted,
)  # fmt: skip
from proxy.subject import AttributeType
from proxy.values import Type, calendar_date, instant, number


class Kind(StrEnum):
    """What a value is; the values are how messages name them."""

    TEXT = "a text"
    NUMBER = "a number"
    BOOLEAN = "a Boolean"
    DATE = "a date"
    DATETIME = "a time"
    DAYS = "a number of days()"


class Shape(NamedTuple):
    """A kind, or with `many` a list of it."""

    kind: Kind
    many: bool = False

    def __str__(self) -> str:
        return f"a list of {self.kind.removeprefix('a ')}s" if self.many else str(self.kind)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """The names that a condition may use."""

    fields: Mapping[str, Type] | None
    """The report's fields (`rows`); None where there is no row (`when`)."""
    elsewhere: Mapping[str, Type]
    """Fields of other reports that the same policy line covers: unknown in every row here."""
    attributes: Mapping[str, AttributeType]
    """The declared attributes of subjects."""


KIND: Final[Mapping[Type, Kind]] = {
    Type.TEXT: Kind.TEXT, Type.INTEGER: Kind.NUMBER, Type.DECIMAL: Kind.NUMBER,
    Type.BOOLEAN: Kind.BOOLEAN, Type.DATE: Kind.DATE, Type.DATETIME: Kind.DATETIME,
}  # fmt: skip

ENVIRONMENT: Final[Mapping[str, Kind]] = {
    "now": Kind.DATETIME, "date": Kind.DATE, "ip": Kind.TEXT, "purpose": Kind.TEXT,
    "tool": Kind.TEXT, "action": Kind.TEXT, "method": Kind.TEXT,
}  # fmt: skip


class Function(NamedTuple):
    """One function; a parameter is a kind, `LITERAL` (a text written out) or None (anything)."""

    parameters: tuple[Kind | str | None, ...]
    gives: Kind
    usage: str


LITERAL: Final = "literal"

FUNCTIONS: Final[Mapping[str, Function]] = {
    "days": Function((Kind.NUMBER,), Kind.DAYS, "days(7)"),
    "time": Function((LITERAL,), Kind.DATETIME, "time('2026-12-24T18:00')"),
    "date": Function((LITERAL,), Kind.DATE, "date('2026-12-24')"),
    "lower": Function((Kind.TEXT,), Kind.TEXT, "lower(row.city)"),
    "upper": Function((Kind.TEXT,), Kind.TEXT, "upper(row.city)"),
    "starts": Function((Kind.TEXT, Kind.TEXT), Kind.BOOLEAN, "starts(row.city, 'Des ')"),
    "ends": Function((Kind.TEXT, Kind.TEXT), Kind.BOOLEAN, "ends(row.city, 'ville')"),
    "contains": Function((Kind.TEXT, Kind.TEXT), Kind.BOOLEAN, "contains(row.city, 'ing')"),
    "length": Function((Kind.TEXT,), Kind.NUMBER, "length(row.city)"),
    "ip_in": Function((Kind.TEXT, LITERAL), Kind.BOOLEAN, "ip_in(env.ip, '10.0.0.0/8')"),
    "present": Function((None,), Kind.BOOLEAN, "present(row.city)"),
}

_ORDERED: Final = frozenset({Kind.TEXT, Kind.NUMBER, Kind.DATE, Kind.DATETIME})

_SIDES: Final = "both sides must be of one type; see the types in reports.yaml and subjects.yaml"
_ALIKE: Final = "all items of a list are of one type"


def check(tree: Node, scope: Scope) -> None:
    """Raise BadCondition with every fault of `tree` in `scope`."""
    checker = _Checker(scope)
    checker.expect(tree, Kind.BOOLEAN, "a condition")
    if checker.mistakes:
        raise BadCondition(checker.mistakes)


def shape(node: Node, scope: Scope) -> Shape:
    """What a node of a checked tree gives."""
    found = _Checker(scope).shape(node)
    assert found is not None  # the tree was checked
    return found


def miswritten(node: Call) -> Mistake | None:
    """What is wrong with a literal that is given to a function: it can be judged now.

    All that a check sees of a literal but its kind, and of each one by itself (`form` relies on it).
    """
    match node:
        case Call("date", (Text(text, at=at),)) if calendar_date(text) is None:
            return Mistake(at, f"{quoted(text)} is no date", "write `date('2026-12-24')`")
        case Call("time", (Text(text, at=at),)) if instant(text) is None:
            hint = "write `time('2026-12-24T18:00')`, in UTC or with an offset as `+01:00`"
            return Mistake(at, f"{quoted(text)} is no time", hint)
        case Call("ip_in", (_, Text(text, at=at))) if network(text) is None:
            hint = "write the first address and the length, as in `'10.0.0.0/8'`"
            return Mistake(at, f"{quoted(text)} is no network", hint)
        case Call("days", (Number(value, at=at),)) if value.denominator != 1:
            return Mistake(at, "`days()` takes a whole number", "as in `days(7)`")
        case _:
            return None


class _Checker:
    """Walks a tree; the shape None means that a fault was noted below, and silences what follows."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.mistakes: list[Mistake] = []

    def _fault(self, at: int, message: str, hint: str = "") -> None:
        self.mistakes.append(Mistake(at, message, hint))

    def expect(self, node: Node, kind: Kind, role: str, hint: str = "") -> None:
        """Note a fault unless `node` gives a single `kind`."""
        found = self.shape(node)
        if found is not None and found != Shape(kind):
            if kind is Kind.BOOLEAN:
                hint = "compare it with something, as in `row.units > 5`"
                if isinstance(node, Name):
                    hint = f"compare it, or write `present({canonical(node)})`"
            self._fault(node.at, f"{role} must be {kind}, and this is {found}", hint)

    def shape(self, node: Node) -> Shape | None:
        """What `node` gives; None where a fault was noted."""
        match node:
            case Number():
                return Shape(Kind.NUMBER)
            case Text():
                return Shape(Kind.TEXT)
            case Constant():
                return Shape(Kind.BOOLEAN)
            case Name():
                return self._name(node)
            case Items(items):
                return self._items(items)
            case Call():
                return self._call(node)
            case Negation(operand):
                self.expect(operand, Kind.NUMBER, "what follows `-`", "as in `-5` or `-row.units`")
                return Shape(Kind.NUMBER)
            case Arithmetic():
                return self._arithmetic(node)
            case Comparison():
                self._comparison(node)
            case Membership():
                self._membership(node)
            case Not(operand):
                self.expect(operand, Kind.BOOLEAN, "what follows `not`")
            case And(terms) | Or(terms):
                word = "and" if isinstance(node, And) else "or"
                for term in terms:
                    self.expect(term, Kind.BOOLEAN, f"a side of `{word}`")
        return Shape(Kind.BOOLEAN)

    def _name(self, node: Name) -> Shape | None:
        scope, shown = self._scope, canonical(node)
        match node.where:
            case "env":
                if kind := ENVIRONMENT.get(node.name):
                    return Shape(kind)
                hint = nearest(node.name, list(ENVIRONMENT), "env.")
                self._fault(node.at, f"`{shown}` is not known", hint)
            case "sub":
                if declared := scope.attributes.get(node.name):
                    return Shape(KIND[declared.type], declared.many)
                hint = nearest(node.name, list(scope.attributes), "sub.")
                hint = hint or "declare it under attributes in subjects.yaml"
                self._fault(node.at, f"the attribute `{shown}` is not declared", hint)
            case "row" if scope.fields is None:
                hint = "conditions on rows stand in a p2 line"
                self._fault(node.at, f"there is no row here, hence no `{shown}`", hint)
            case "row":
                type_ = (scope.fields or {}).get(node.name) or scope.elsewhere.get(node.name)
                if type_ is not None:
                    return Shape(KIND[type_])
                known = [*(scope.fields or {}), *scope.elsewhere]
                hint = nearest(node.name, known, "row.")
                self._fault(node.at, f"the field `{shown}` is not declared", hint)
        return None

    def _items(self, items: tuple[Node, ...]) -> Shape | None:
        first: Shape | None = None
        for item in items:
            found = self.shape(item)
            if found is None:
                continue
            if found.many or found.kind is Kind.DAYS:
                hint = "write single values between `[` and `]`"
                self._fault(item.at, f"{found} cannot be in a list", hint)
            elif first is None:
                first = found
            elif found != first:
                message = f"the list began with {first}, and this is {found}"
                hint = _mismatch(item, found.kind, item, first.kind, otherwise=_ALIKE)
                self._fault(item.at, message, hint)
        return first and Shape(first.kind, many=True)

    def _call(self, node: Call) -> Shape | None:
        known = FUNCTIONS.get(node.function)
        if known is None:
            hint = nearest(node.function, list(FUNCTIONS))
            self._fault(node.at, f"there is no function `{node.function}`", hint)
            for argument in node.arguments:
                self.shape(argument)
            return None
        if len(node.arguments) != len(known.parameters):
            needs = f"{len(known.parameters)} argument" + "s" * (len(known.parameters) > 1)
            hint = f"as in `{known.usage}`"
            self._fault(
                node.at, f"`{node.function}` takes {needs}, not {len(node.arguments)}", hint
            )
            return Shape(known.gives)
        for wanted, argument in zip(known.parameters, node.arguments, strict=True):
            if isinstance(wanted, Kind):
                role, hint = f"this argument of `{node.function}`", f"as in `{known.usage}`"
                self.expect(argument, wanted, role, hint)
            elif wanted == LITERAL and not isinstance(argument, Text):
                message = f"`{node.function}` takes a text that is written out here"
                self._fault(argument.at, message, f"as in `{known.usage}`")
            elif wanted is None and isinstance(argument, Items):
                message = f"`{node.function}` takes a single value"
                self._fault(argument.at, message, f"as in `{known.usage}`")
            elif wanted is None and self.shape(argument) == Shape(Kind.DAYS):
                message = "`days()` is only added to a date or time, or taken from one"
                self._fault(argument.at, message, "as in `env.date - days(7)`")
        if wrong := miswritten(node):
            self.mistakes.append(wrong)
        return Shape(known.gives)

    def _arithmetic(self, node: Arithmetic) -> Shape | None:
        left, right = self.shape(node.left), self.shape(node.right)
        if left is None or right is None:
            return None
        day, time, span = Shape(Kind.DATE), Shape(Kind.DATETIME), Shape(Kind.DAYS)
        if left == right == Shape(Kind.NUMBER):
            return left
        if node.sign in "+-" and left in (day, time) and right == span:
            return left
        if node.sign == "-" and left == right == day:
            return Shape(Kind.NUMBER)
        hint = "it takes numbers"
        if left in (day, time) and right == Shape(Kind.NUMBER) and node.sign in "+-":
            hint = f"write `{node.sign} days({canonical(node.right)})`"
        elif left == span and right in (day, time):
            hint = "write the date first"
        elif left == right == time:
            hint = "only dates have a difference; compare with a time moved by `days()`"
        self._fault(node.at, f"`{node.sign}` does not take {left} and {right}", hint)
        return None

    def _comparison(self, node: Comparison) -> None:
        left, right = self.shape(node.left), self.shape(node.right)
        if left is None or right is None:
            return
        many, kinds = left.many or right.many, (left.kind, right.kind)
        if many or left != right or Kind.DAYS in kinds:
            if many:
                hint = "write `in`"
            elif Kind.DAYS in kinds:
                hint = _beside_days(node, left.kind, right.kind)
            else:
                hint = _mismatch(node.left, left.kind, node.right, right.kind)
            self._fault(node.at, f"`{node.relation}` does not compare {left} with {right}", hint)
        elif node.relation not in ("==", "!=") and left.kind not in _ORDERED:
            self._fault(node.at, f"`{node.relation}` has no order for {left}", "write `==` or `!=`")

    def _membership(self, node: Membership) -> None:
        item, options = self.shape(node.item), self.shape(node.options)
        word = "not in" if node.negated else "in"
        if options is not None and not options.many:
            hint = "write `!=`" if node.negated else "write `==`"
            self._fault(node.options.at, f"`{word}` needs a list, and this is {options}", hint)
        elif item is not None and item.many:
            message = f"what stands before `{word}` must be a single value"
            self._fault(node.item.at, message, f"as in `row.store_id {word} sub.stores`")
        elif item is not None and options is not None and item.kind != options.kind:
            hint = ""
            if isinstance(node.options, Items):
                hint = _mismatch(node.item, item.kind, node.options.items[0], options.kind)
            self._fault(node.at, f"`{word}` does not look for {item} in {options}", hint)


def _beside_days(node: Comparison, left: Kind, right: Kind) -> str:
    """How to write what a comparison with `days(n)` means."""
    span, other, kind = (
        (node.right, node.left, left) if right is Kind.DAYS else (node.left, node.right, right)
    )
    if kind is Kind.NUMBER and isinstance(span, Call):
        plain = canonical(span.arguments[0])
        written = f"{plain} {node.relation}" if span is node.left else f"{node.relation} {plain}"
        return f"a difference of dates is a plain number: write `{written}`"
    if kind not in (Kind.DATE, Kind.DATETIME):
        return "only a date or time is moved by `days()`: compare plain numbers"
    of_now = isinstance(other, Name) and other.where == "env"
    if kind is Kind.DATE:
        start: Node = Call("date", (Text("2026-12-24"),)) if of_now else Name("env", "date")
    else:
        start = Call("time", (Text("2026-12-24T18:00"),)) if of_now else Name("env", "now")
    moved = Arithmetic("+" if of_now else "-", start, span)
    sides = (moved, other) if span is node.left else (other, moved)
    return f"move a date or time by it, as in `{canonical(Comparison(node.relation, *sides))}`"


def _mismatch(
    left: Node, left_kind: Kind, right: Node, right_kind: Kind, *, otherwise: str = _SIDES
) -> str:
    """How to write the literal of two sides whose kinds differ."""
    for literal, other in ((right, left_kind), (left, right_kind)):
        match literal, other:
            case Text(text), Kind.DATE:
                return f"write `date({quoted(text)})`"
            case Text(text), Kind.DATETIME:
                return f"write `time({quoted(text)})`"
            case Text(text), Kind.NUMBER if number(text) is not None:
                return f"write `{text}` without quotes"
            case Text("true" | "false" as text), Kind.BOOLEAN:
                return f"write `{text}` without quotes"
            case Number(), Kind.TEXT:
                return f"write `{quoted(canonical(literal))}`"
            case _:
                pass
    if {left_kind, right_kind} == {Kind.DATE, Kind.DATETIME}:
        return "compare a date with `date('…')` or `env.date`, a time with `time('…')` or `env.now`"
    return otherwise
