"""The tree of a condition: what the parser makes and the compilers read; and its canonical text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from typing import Final, Literal

from proxy.values import DIGITS

Where = Literal["row", "sub", "env"]
Sign = Literal["+", "-", "*", "/"]
Relation = Literal["==", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True, kw_only=True, slots=True)
class _At:
    """Where a node stands in the text; equal nodes may stand in different places."""

    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Number(_At):
    """An exact number that is not negative."""

    value: int | Fraction


@dataclass(frozen=True, slots=True)
class Text(_At):
    """A text in single quotes."""

    value: str


@dataclass(frozen=True, slots=True)
class Constant(_At):
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True, slots=True)
class Name(_At):
    """`row.NAME`, `sub.NAME` or `env.NAME`."""

    where: Where
    name: str


@dataclass(frozen=True, slots=True)
class Items(_At):
    """`[a, b]`; never empty."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Call(_At):
    """`function(a, b)`."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Negation(_At):
    """`-a`."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Arithmetic(_At):
    """`a + b` and its like."""

    sign: Sign
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Comparison(_At):
    """`a < b` and its like."""

    relation: Relation
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Membership(_At):
    """`a in b`, or with `negated` `a not in b`."""

    item: Node
    options: Node
    negated: bool


@dataclass(frozen=True, slots=True)
class Not(_At):
    """`not a`."""

    operand: Node


@dataclass(frozen=True, slots=True)
class And(_At):
    """`a and b and c`; no term is an `And`."""

    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or(_At):
    """`a or b or c`; no term is an `Or`."""

    terms: tuple[Node, ...]


Node = (
    Number | Text | Constant | Name | Items | Call | Negation | Arithmetic | Comparison
    | Membership | Not | And | Or
)  # fmt: skip


def children(node: Node) -> tuple[Node, ...]:
    """The operands of `node`, from left to right."""
    match node:
        case Items(items):
            return items
        case Call(_, arguments):
            return arguments
        case Negation(operand) | Not(operand):
            return (operand,)
        case Arithmetic(_, left, right) | Comparison(_, left, right):
            return (left, right)
        case Membership(item, options, _):
            return (item, options)
        case And(terms) | Or(terms):
            return terms
        case Number() | Text() | Constant() | Name():
            return ()


def names(node: Node) -> Iterator[Name]:
    """Every name that `node` reads."""
    if isinstance(node, Name):
        yield node
    for child in children(node):
        yield from names(child)


_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def quoted(text: str) -> str:
    """`text` as a literal of the language."""
    return "'" + text.replace("'", "''") + "'"


class Binding(IntEnum):
    """How strongly a part of a text holds together."""

    OR = 1
    AND = 2
    NOT = 3
    COMPARISON = 4
    SUM = 5
    PRODUCT = 6
    NEGATION = 7
    ATOM = 8


def canonical(node: Node, least: int = Binding.OR) -> str:
    """The one text of a tree; `least` is the weakest binding that needs no parentheses here."""
    binding, text = _written(node)
    return text if binding >= least else f"({text})"


def _written(node: Node) -> tuple[int, str]:
    """How strongly the text of `node` binds, and the text."""
    match node:
        case Number(value):
            return Binding.ATOM, _decimal(value)
        case Text(value):
            return Binding.ATOM, quoted(value)
        case Constant(value):
            return Binding.ATOM, "true" if value else "false"
        case Name(where, name) if _IDENTIFIER.match(name):
            return Binding.ATOM, f"{where}.{name}"
        case Name(where, name):
            return Binding.ATOM, f"{where}[{quoted(name)}]"
        case Items(items):
            return Binding.ATOM, f"[{', '.join(map(canonical, items))}]"
        case Call(function, arguments):
            return Binding.ATOM, f"{function}({', '.join(map(canonical, arguments))})"
        case Negation(operand):
            return Binding.NEGATION, "-" + canonical(operand, Binding.NEGATION)
        case Arithmetic(sign, left, right):
            binding = Binding.SUM if sign in "+-" else Binding.PRODUCT
            return binding, f"{canonical(left, binding)} {sign} {canonical(right, binding + 1)}"
        case Comparison(relation, left, right):
            text = f"{canonical(left, Binding.SUM)} {relation} {canonical(right, Binding.SUM)}"
            return Binding.COMPARISON, text
        case Membership(item, options, negated):
            word = "not in" if negated else "in"
            text = f"{canonical(item, Binding.SUM)} {word} {canonical(options, Binding.SUM)}"
            return Binding.COMPARISON, text
        case Not(operand):
            return Binding.NOT, "not " + canonical(operand, Binding.NOT)
        case And(terms):
            return Binding.AND, " and ".join(canonical(term, Binding.NOT) for term in terms)
        case Or(terms):
            return Binding.OR, " or ".join(canonical(term, Binding.AND) for term in terms)


def _decimal(value: int | Fraction) -> str:
    whole, rest = divmod(value, 1)
    digits = str(int(rest * 10**DIGITS)).rjust(DIGITS, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
