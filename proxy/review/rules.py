"""What decides the form of a field's cells for one requester, without what makes no difference.

What needs no row is folded in, as a request does it: a grant whose time is over gives nothing. A form
that a preferred one always forestalls is left out, and conditions are compared by a text in which the
order of a list, of `and` and of `or` is always the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

from proxy.plan import Column, Plan, Predicate, Truth
from proxy.policy.conditions import Scope
from proxy.policy.conditions.syntax import parse
from proxy.policy.conditions.tree import (
    And,
    Arithmetic,
    Call,
    Comparison,
    Items,
    Membership,
    Negation,
    Node,
    Not,
    Or,
    canonical,
)
from proxy.review.then import Given, bound_to

Key = tuple[object, ...]

Bound = tuple[Truth | Predicate, ...]
"""A plan's predicates by number; a truth where that is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """One form, for the rows in which no form before it is given."""

    name: str
    rows: tuple[Predicate, ...]
    """Where one of these is true; empty: everywhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How the form of a field's cells is chosen."""

    forms: tuple[Form, ...] = ()
    """Most preferred first; empty: the field is absent."""
    denies: tuple[Predicate, ...] = ()
    """What hides a cell unless it is false."""
    key: Key = ()
    """Equal where the rules are, to who has the same attributes."""

    @property
    def conditions(self) -> tuple[Predicate, ...]:
        """All conditions on the row."""
        return (*self.denies, *(rows for form in self.forms for rows in form.rows))

    @property
    def attributes(self) -> frozenset[str]:
        """The names of `sub.*` that they read."""
        return frozenset().union(*(rows.attributes for rows in self.conditions))


def bound_for(given: Given) -> Bound:
    """The plan's predicates, with all that needs no row folded in."""
    return tuple([bound_to(rows, given.unknown, given.context) for rows in given.plan.predicates])


def rules_of(plan: Plan, bound: Bound, scope: Scope) -> Mapping[str, Rules]:
    """The rules of each field that may be given, in the catalogue's order."""
    found = {}
    for column in plan.columns:
        denies = [bound[number] for number in column.denies]
        forms = () if True in denies or None in denies else tuple(_forms(column, bound))
        if forms:
            hiding = tuple([rows for rows in denies if not isinstance(rows, bool | None)])
            found[column.field.name] = Rules(
                forms=forms, denies=hiding, key=_key(forms, hiding, scope)
            )
    return found


def _forms(column: Column, bound: Bound) -> Iterator[Form]:
    met: set[str] = set()
    for name, choices in groupby(column.choices, key=lambda choice: str(choice.treatment)):
        places = [bound[choice.when] for choice in choices]
        if True in places:
            yield Form(name=name, rows=())
            return
        rows = {ordered(each.text): each for each in places if not isinstance(each, bool | None)}
        new = tuple([each for text, each in rows.items() if text not in met])
        met.update(rows)
        if new:
            yield Form(name=name, rows=new)


def _key(forms: Iterable[Form], denies: Iterable[Predicate], scope: Scope) -> Key:
    def alike(predicates: Iterable[Predicate]) -> frozenset[object]:
        return frozenset([_meaning(each, scope) for each in predicates])

    return (*((form.name, alike(form.rows)) for form in forms), alike(denies))


def _meaning(predicate: Predicate, scope: Scope) -> object:
    """Equal where the text is, and the types of all that it reads."""
    types = [(name, (scope.fields or {}).get(name)) for name in sorted(predicate.fields)]
    attributes = [(name, scope.attributes.get(name)) for name in sorted(predicate.attributes)]
    return ordered(predicate.text), *types, *attributes


@lru_cache(maxsize=4096)
def ordered(text: str) -> str:
    """A condition's text with what has no order in one order, each once."""
    return canonical(_ordered(parse(text)))


def _ordered(node: Node) -> Node:
    match node:
        case Items(items):
            return Items(_each_once(items))
        case And(terms) | Or(terms):
            distinct = _each_once(terms)
            return replace(node, terms=distinct) if len(distinct) > 1 else distinct[0]
        case Membership(item, options, negated):
            return Membership(_ordered(item), _ordered(options), negated)
        case Comparison(relation, left, right):
            return Comparison(relation, _ordered(left), _ordered(right))
        case Arithmetic(sign, left, right):
            return Arithmetic(sign, _ordered(left), _ordered(right))
        case Call(function, arguments):
            return Call(function, tuple(map(_ordered, arguments)))
        case Negation(operand) | Not(operand):
            return replace(node, operand=_ordered(operand))
        case _:
            return node


def _each_once(nodes: Iterable[Node]) -> tuple[Node, ...]:
    distinct = {canonical(node): node for node in map(_ordered, nodes)}
    return tuple([distinct[text] for text in sorted(distinct)])
