"""Conditions in words, for one request: what is left of them once its attributes and context are known.

    row.store_id in sub.stores and env.purpose != 'fun'      rows whose store_id is one of 2191, 2192
    row.store_id in sub.stores, and no token says stores     no row: sub.stores is unknown

An allow counts where its condition is true, a deny where it is not false.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from typing import Final

from proxy.plan import Context, Truth
from proxy.policy.conditions import Condition, Scope
from proxy.policy.conditions.bind import binder
from proxy.policy.conditions.evaluate import function
from proxy.policy.conditions.tree import (
    And,
    Call,
    Comparison,
    Constant,
    Items,
    Membership,
    Name,
    Node,
    Not,
    Number,
    Or,
    Relation,
    Text,
    canonical,
    children,
    names,
    quoted,
)  # fmt: skip
from proxy.policy.lines import Effect
from proxy.values import Value

EVERY: Final = "every row"
NONE: Final = "no row"
_MOST: Final = 12
"""Values of a list that are written out."""
_WHOSE: Final = "whose"
_FOR_WHICH: Final = "for which"

_RELATIONS: Final[dict[Relation, str]] = {
    "==": "is {}", "!=": "is not {}", "<": "is below {}", "<=": "is at most {}",
    ">": "is above {}", ">=": "is at least {}",
}  # fmt: skip
_OF_TIMES: Final[dict[Relation, str]] = {
    "==": "is {}", "!=": "is not {}", "<": "is before {}", "<=": "is {} or before",
    ">": "is after {}", ">=": "is {} or after",
}  # fmt: skip
_TURNED: Final[dict[Relation, Relation]] = {
    "==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<=",
}  # fmt: skip
_NEGATED: Final[dict[Relation, Relation]] = {
    "==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<",
}  # fmt: skip
_CALLS: Final = {
    "starts": ("starts with", "does not start with"), "ends": ("ends with", "does not end with"),
    "contains": ("contains", "does not contain"),
}  # fmt: skip


def rows_in_words(condition: Condition, context: Context, effect: Effect) -> str:
    """The rows for which a line counts: all, none and why, or which."""
    request = _Request(condition.meaning.scope, context)
    unknown = effect is Effect.DENY
    left = request.folded(condition.meaning.tree, unknown=unknown)
    if left is False:
        return f"{NONE}: {why_not(condition, context)}"
    if left is True:
        parts = request.parts(condition.meaning.tree) if unknown else ()
        doubted = [request.why_unknown(part) for part, truth in parts if truth is None]
        return ": ".join([EVERY, *(["; ".join(dict.fromkeys(doubted))] if doubted else [])])
    doubt = ", or where that is unknown" if unknown and not _is_presence(left) else ""
    return f"rows {request.phrase(left)}{doubt}"


def why_not(condition: Condition, context: Context) -> str:
    """Which part of a condition is false or unknown, of one that is not true for any row."""
    request = _Request(condition.meaning.scope, context)
    parts = [*request.parts(condition.meaning.tree)]
    # One false part makes all of it false, whatever else is unknown.
    told = [request.why_false(part) for part, truth in parts if truth is False]
    told = told or [request.why_unknown(part) for part, truth in parts if truth is None]
    return "; ".join(dict.fromkeys(told))


@dataclass(frozen=True, slots=True)
class _Request:
    """What is known of a request, where a condition of this scope is asked."""

    scope: Scope
    context: Context

    def truth(self, node: Node) -> Truth | Node:
        """Its truth; or itself, where it hangs on the row."""
        bound = binder(node, self.scope)(self.context)
        return bound if bound is None or isinstance(bound, bool) else node

    def parts(self, node: Node) -> Iterator[tuple[Node, Truth]]:
        """The largest parts whose truth is known without a row, or cannot be; each with it."""
        truth = self.truth(node)
        joined = isinstance(node, And) or (isinstance(node, Or | Not) and truth is node)
        if joined:
            for part in children(node):
                yield from self.parts(part)
        elif truth is None or isinstance(truth, bool):
            yield node, truth

    def folded(self, node: Node, *, unknown: bool) -> bool | Node:
        """What is left to ask of a row; `unknown` is what counts as the truth of what is unknown."""
        truth = self.truth(node)
        if truth is None or isinstance(truth, bool):
            return unknown if truth is None else truth
        match node:
            case And(terms) | Or(terms):
                decisive = isinstance(node, Or)
                left = [self.folded(term, unknown=unknown) for term in terms]
                if decisive in left:
                    return decisive
                rest = tuple([each for each in left if not isinstance(each, bool)])
                return type(node)(rest) if len(rest) > 1 else rest[0] if rest else not decisive
            case Not(operand):
                inner = self.folded(operand, unknown=not unknown)
                return not inner if isinstance(inner, bool) else Not(inner)
            case _:
                return node

    def why_false(self, node: Node) -> str:
        """Why a part is false: an empty list, or what it says beside what is so."""
        match node:
            case Membership(_, Name("sub"), False) if self._value(node.options) == ():
                return f"{canonical(node.options)} is empty"
            case _:
                pass
        return f"`{canonical(node)}` is false{self._known(node)}"

    def why_unknown(self, node: Node) -> str:
        """Why a part is unknown: what of it nothing says."""
        missing = [
            canonical(name) for name in _asked(node) if self._value(name) is None
        ]  # of the row's own fields nothing is known here
        if not missing:
            return f"`{canonical(node)}` is unknown"
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} unknown"

    def _known(self, node: Node) -> str:
        """What the names of `env.*` in a part stand for: `sub.*` is told once, for all lines."""
        told = [
            f"{canonical(name)} is {_shown(value)}"
            for name in _asked(node)
            if name.where == "env" and (value := self._value(name)) is not None
        ]
        return f": {', '.join(told)}" if told else ""

    def _value(self, node: Node) -> Value | None:
        """The value of what reads no row; None where it is unknown."""
        found: Value | None = function(node, self.scope, ())(self.context, ())
        return found

    # ── phrases ──

    def phrase(self, node: Node) -> str:
        """`whose region is North and for which …`: what a row must be."""
        joined, lead = "", ""
        word = "or" if isinstance(node, Or) else "and"
        for term in node.terms if isinstance(node, And | Or) else (node,):
            begins, text = self._part(term)
            joined += f" {word} " if joined else ""
            joined += text if begins == lead else f"{begins} {text}"
            lead = begins
        return joined

    def _part(self, node: Node) -> tuple[str, str]:
        """How a part begins, and how it goes on."""
        if isinstance(node, And | Or):
            parts = [self._part(term) for term in node.terms]
            if all(begins == _WHOSE for begins, _ in parts):
                word = " or " if isinstance(node, Or) else " and "
                return _WHOSE, f"({word.join(text for _, text in parts)})"
        told = self._of_a_field(node)
        return (_WHOSE, told) if told else (_FOR_WHICH, canonical(node))

    def _of_a_field(self, node: Node) -> str:
        """What a field must be; '' where it is not said of one field and what is known beside it."""
        match node:
            case Name("row", field):
                return f"{field} is true"
            case Not(Name("row", field)):
                return f"{field} is false"
            case Call("present", (Name("row", field),)):
                return f"{field} has a value"
            case Not(Call("present", (Name("row", field),))):
                return f"{field} has no value"
            case Call(name, (Name("row", field), Text(text))) if name in _CALLS:
                return f"{field} {_CALLS[name][0]} {_shown(text)}"
            case Not(Call(name, (Name("row", field), Text(text)))) if name in _CALLS:
                return f"{field} {_CALLS[name][1]} {_shown(text)}"
            case Not(Comparison(relation, left, right)):
                return self._of_a_field(Comparison(_NEGATED[relation], left, right))
            case Not(Membership(item, options, negated)):
                return self._of_a_field(Membership(item, options, not negated))
            case Comparison(relation, Name("row", field), right) if self._is_known(right):
                return f"{field} {self._compared(relation, right)}"
            case Comparison(relation, left, Name("row", field)) if self._is_known(left):
                return f"{field} {self._compared(_TURNED[relation], left)}"
            case Membership(Name("row", field), options, negated):
                return self._among(field, options, negated=negated)
            case _:
                return ""

    def _is_known(self, node: Node) -> bool:
        return not _reads_rows(node) and self._value(node) is not None

    def _compared(self, relation: Relation, node: Node) -> str:
        value = self._value(node)
        words = _OF_TIMES if isinstance(value, date) else _RELATIONS
        return words[relation].format(_shown(value)) if value is not None else ""

    def _among(self, field: str, options: Node, *, negated: bool) -> str:
        nodes = options.items if isinstance(options, Items) else ()
        if _reads_rows(options):
            return ""
        listed = [self._value(each) for each in nodes] if nodes else self._value(options)
        values = [value for value in listed if value is not None] if listed else []  # type: ignore[union-attr]
        some = ", ".join(map(_shown, values[:_MOST]))
        if len(values) > _MOST:
            some += f" and {len(values) - _MOST} more"
        if len(values) == 1:
            return f"{field} is {'not ' * negated}{some}"
        return f"{field} is {'none' if negated else 'one'} of {some}"


def _asked(node: Node) -> Iterator[Name]:
    """The names that are no row's, each once."""
    yield from dict.fromkeys(name for name in names(node) if name.where != "row")


def _is_presence(node: Node) -> bool:
    """Whether it is never unknown."""
    match node:
        case Call("present", _):
            return True
        case And() | Or() | Not():
            return all(map(_is_presence, children(node)))
        case _:
            return False


def _reads_rows(node: Node) -> bool:
    return any(name.where == "row" for name in names(node))


def _shown(value: Value) -> str:
    """A value as people write it; a text in quotes only where it would not be seen as one."""
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value)) or "empty"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return canonical(Constant(value))
    if isinstance(value, int | Fraction):
        return canonical(Number(value)) if value >= 0 else f"-{canonical(Number(-value))}"
    text = str(value)
    plain = text and text == text.strip() and not set(text) & set(",'()") and text.isprintable()
    return text if plain else quoted(text)
