"""Row conditions bound to a request: a checked tree -> what a request's context makes of it.

Binding evaluates all that needs no row and folds it in (`false and X` is false). What remains is a
test of columns (`columns.py`): of a field against constants where that is all, else of any function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from proxy.plan import Context, Truth
from proxy.policy.conditions.check import Scope
from proxy.policy.conditions.columns import (
    Among,
    Compared,
    Distinct,
    Joined,
    Negated,
    OfCells,
    Presence,
    Search,
    Test,
)
from proxy.policy.conditions.evaluate import RELATIONS, Evaluate, function, member, options
from proxy.policy.conditions.tree import (
    And,
    Call,
    Comparison,
    Membership,
    Name,
    Node,
    Not,
    Or,
    Relation,
    Text,
    names,
)
from proxy.values import Type

Bound = Truth | Test
Bind = Callable[[Context], Bound]


def binder(node: Node, scope: Scope) -> Bind:
    """What binds `node`, a Boolean part of a checked tree."""
    order = fields(node, scope)
    if not order:
        whole = function(node, scope, ())
        return lambda context: whole(context, ())
    match node:
        case And(terms):
            return _joining(False, [binder(term, scope) for term in _constant_first(terms, scope)])
        case Or(terms):
            return _joining(True, [binder(term, scope) for term in _constant_first(terms, scope)])
        case Not(operand):
            return _negating(binder(operand, scope))
        case Membership(item, choices, negated) if not fields(choices, scope):
            among = _among(item, options(choices, scope), scope)
            return _negating(among) if negated else among
        case Comparison(relation, left, right) if not fields(right, scope):
            return _against(relation, left, function(right, scope, ()), scope)
        case Comparison(relation, left, right) if not fields(left, scope):
            return _against(_TURNED[relation], right, function(left, scope, ()), scope)
        case Name():
            return _against("==", node, lambda _context, _row: True, scope)
        case Call("starts" | "ends" | "contains" as name, (Name("row", field), Text(text))) if (
            scope.fields or {}
        ).get(field) is Type.TEXT:
            search: Test = Search(field, name, text)
            return lambda _context: search
        case Call("present", (Name(_, field),)):
            presence: Test = Presence(field, (scope.fields or {})[field])
            return lambda _context: presence
        case _:
            whole = function(node, scope, order)
            return lambda context: Distinct(order, _closed(whole, context))


def fields(node: Node, scope: Scope) -> tuple[str, ...]:
    """The fields of this report that `node` reads, sorted."""
    here = scope.fields or {}
    return tuple(sorted({n.name for n in names(node) if n.where == "row" and n.name in here}))


_TURNED: Final[Mapping[Relation, Relation]] = {
    "==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<=",
}  # fmt: skip


def _constant_first(terms: Iterable[Node], scope: Scope) -> list[Node]:
    return sorted(terms, key=lambda term: bool(fields(term, scope)))


def _closed(whole: Evaluate, context: Context) -> OfCells:
    return lambda cells: whole(context, cells)


def _joining(decisive: bool, terms: list[Bind]) -> Bind:  # noqa: FBT001
    """Kleene's `or` where True is decisive, `and` where False is."""

    def bind(context: Context) -> Bound:
        unknown = False
        tests: list[Test] = []
        for term in terms:
            bound = term(context)
            if bound is decisive:
                return decisive
            if bound is None:
                unknown = True
            elif not isinstance(bound, bool):
                tests.append(bound)
        if not tests:
            return None if unknown else not decisive
        return tests[0] if len(tests) == 1 and not unknown else Joined(decisive, tests, unknown)

    return bind


def _negating(inner: Bind) -> Bind:
    def bind(context: Context) -> Bound:
        bound = inner(context)
        if bound is None:
            return None
        return (not bound) if isinstance(bound, bool) else Negated(bound)

    return bind


def _against(relation: Relation, node: Node, constant: Evaluate, scope: Scope) -> Bind:
    """`node RELATION constant`, where only `node` reads the row."""
    compare = RELATIONS[relation]
    if isinstance(node, Name):
        field, type_ = node.name, (scope.fields or {})[node.name]

        def compared(context: Context) -> Bound:
            against = constant(context, ())
            return None if against is None else Compared(field, type_, relation, against)

        return compared
    order = fields(node, scope)
    value = function(node, scope, order)

    def computed(context: Context) -> Bound:
        against = constant(context, ())
        if against is None:
            return None

        def test(cells: Sequence[str | None]) -> Truth:
            found = value(context, cells)
            return None if found is None else compare(found, against)

        return Distinct(order, test)

    return computed


def _among(node: Node, choices: Evaluate, scope: Scope) -> Bind:
    """`node in choices`, where only `node` reads the row."""
    field = node.name if isinstance(node, Name) else None
    type_ = (scope.fields or {})[field] if field is not None else None
    order = fields(node, scope)
    value = function(node, scope, order)

    def bind(context: Context) -> Bound:
        found = choices(context, ())
        if found is None:
            return None
        known, doubtful = found
        if not known:
            return None if doubtful else False
        if field is not None and type_ is not None:
            return Among(field, type_, known, doubtful)

        def test(cells: Sequence[str | None]) -> Truth:
            item = value(context, cells)
            return None if item is None else member(item, known, doubtful)

        return Distinct(order, test)

    return bind
