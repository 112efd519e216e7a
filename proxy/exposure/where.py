"""A condition over what the log keeps of rows: a text -> what holds of the rows of a piece of evidence.

It is one of the policy's conditions, whose names are fields; `store_id in ['42']` may stand for
`row.store_id in ['42']`. What cannot be told is *unknown*, as the language has it: of a field that is not
kept, of a digest that is asked for anything but equality, of a cell without a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache, reduce
from typing import Final

import numpy as np
import numpy.typing as npt

from proxy.errors import KeyringError
from proxy.evidence.layout import digest_of, mac_of
from proxy.evidence.reading import Noted
from proxy.keys import Keyring
from proxy.plan import Context
from proxy.policy.conditions import BadCondition, Mistake, Scope
from proxy.policy.conditions.check import check
from proxy.policy.conditions.evaluate import Evaluate, function
from proxy.policy.conditions.syntax import parse
from proxy.policy.conditions.tree import (
    And,
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
    names,
)
from proxy.values import Type

Truths = npt.NDArray[np.int8]
"""Of each row one of these:"""
FALSE, UNKNOWN, TRUE = 0, 1, 2

_WORD: Final = re.compile(
    r"'(?:[^']|'')*'|(?:row|sub|env)\.\w+|(?:row|sub)\[\s*'(?:[^']|'')*'\s*\]|[0-9][0-9.]*"
    r"|(?P<word>[A-Za-z_]\w*)(?!\w|\s*\()"
)
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", "true", "false"})
_CONTEXT: Final = Context(
    attributes={}, now=datetime(1970, 1, 1, tzinfo=UTC), date=date(1970, 1, 1), ip="", purpose="",
    tool="", action="", method="",
)  # fmt: skip
"""Which no condition here looks at."""


class Where:
    """A condition that was parsed."""

    def __init__(self, text: str) -> None:
        """Raises BadCondition."""
        self.text = _named(text)
        self._tree = parse(self.text)
        read = set(names(self._tree))
        for name in read:
            if name.where != "row":
                hint = "ask for them by options of their own"
                raise BadCondition(
                    [Mistake(name.at, "a condition on rows names fields alone", hint)]
                )
        self.fields = frozenset(name.name for name in read)
        self.faults: dict[str, str] = {}
        """Report -> why some of it cannot be asked of what is kept of its rows."""
        self._compiled = lru_cache(256)(_compiled)

    def truths(self, noted: Noted, report: str, keyring: Keyring | None) -> Truths:
        """What holds of each row."""
        return self._truths(self._tree, _Kept(noted, report, keyring))

    def _truths(self, node: Node, kept: _Kept) -> Truths:
        match node:
            case And(terms):
                return reduce(np.minimum, [self._truths(term, kept) for term in terms])
            case Or(terms):
                return reduce(np.maximum, [self._truths(term, kept) for term in terms])
            case Not(operand):
                return (TRUE - self._truths(operand, kept)).astype(np.int8)
            case Constant(value):
                return np.full(kept.noted.rows, TRUE if value else FALSE, np.int8)
            case _:
                return self._atom(node, kept)

    def _atom(self, node: Node, kept: _Kept) -> Truths:
        """Once for each combination of values that there is."""
        noted = kept.noted
        order = tuple(sorted({name.name for name in names(node)}))
        if not noted.values.keys() >= set(order):
            return np.full(noted.rows, UNKNOWN, np.int8)
        try:
            test = self._compiled(node, order, tuple(noted.values[name].type for name in order))
        except BadCondition as exc:
            self.faults[kept.report] = str(exc)
            return np.full(noted.rows, UNKNOWN, np.int8)
        values = [kept.values(name, node) for name in order]
        codes = [noted.values[name].codes for name in order]
        if len(order) == 1:
            found = np.array([_truth(node, test, (each,)) for each in values[0]], np.int8)
            return found[codes[0]]
        if not order:
            return np.full(noted.rows, _truth(node, test, ()), np.int8)
        distinct, which = np.unique(np.stack(codes), axis=1, return_inverse=True)
        rows = [
            tuple([value[int(code)] for value, code in zip(values, column, strict=True)])
            for column in distinct.T
        ]
        return np.array([_truth(node, test, row) for row in rows], np.int8)[which.reshape(-1)]


class _Other:
    """A value that is none of those that the condition writes out."""


class _Hidden:
    """A value of which nothing is known but that there is one."""


_OTHER, _HIDDEN = _Other(), _Hidden()
Value = str | None | _Other | _Hidden


class _Kept:
    """What is kept of some rows, as far as keys at hand tell it."""

    def __init__(self, noted: Noted, report: str, keyring: Keyring | None) -> None:
        self.noted = noted
        self.report = report
        self._keyring = keyring

    def values(self, field: str, node: Node) -> list[Value]:
        """The distinct values of a field; of a digest the literal of `node` that it is one of."""
        kept = self.noted.values[field]
        known: Mapping[str, str] | None = None
        if any(each is not None and each[0] == "#" for each in kept.distinct):
            known = self._digests(field, kept.type, node)
        found: list[Value] = []
        for each in kept.distinct:
            if each is None:
                found.append(None)
            elif each[0] == "=":
                found.append(each[1:])
            else:
                found.append(_HIDDEN if known is None else known.get(each, _OTHER))
        return found

    def _digests(self, field: str, type_: Type, node: Node) -> Mapping[str, str] | None:
        """The digests of the literals that the field may be compared with; None without the key."""
        if self._keyring is None:
            return None
        try:
            mac = mac_of(self._keyring, self.report, field, key_id=self.noted.key)
        except KeyringError:
            return None
        of = Type.DECIMAL if type_ is Type.INTEGER else type_  # `5.0` is 5
        texts = [text for text in map(_literal, _options(node)) if text is not None]
        digests = [digest_of(mac, text, of) for text in texts]
        if None in digests:
            return None
        return {str(digest): text for digest, text in zip(digests, texts, strict=True)}


def _truth(node: Node, test: Evaluate, row: Sequence[Value]) -> int:
    texts: list[str | None] = []
    for value in row:
        match value:
            case _Hidden():
                return TRUE if _asks_whether_present(node) else UNKNOWN
            case _Other():
                return _of_another(node)
            case _:
                texts.append(value)
    truth = test(_CONTEXT, texts)
    return UNKNOWN if truth is None else TRUE if truth else FALSE


def _of_another(node: Node) -> int:
    """What holds of a value that none of the literals is."""
    match node:
        case Comparison("==" | "!=" as relation, left, right) if _is_plain(left, right):
            return TRUE if relation == "!=" else FALSE
        case Membership(Name(), Items(items), negated) if all(map(_is_literal, items)):
            return TRUE if negated else FALSE
        case _:
            return TRUE if _asks_whether_present(node) else UNKNOWN


def _asks_whether_present(node: Node) -> bool:
    match node:
        case Call("present", (Name(),)):
            return True
        case _:
            return False


def _is_plain(left: Node, right: Node) -> bool:
    """Whether a field is compared with a literal."""
    pair = (left, right) if isinstance(left, Name) else (right, left)
    return isinstance(pair[0], Name) and _is_literal(pair[1])


def _options(node: Node) -> Iterable[Node]:
    match node:
        case Comparison(_, left, right):
            return (left, right)
        case Membership(_, Items(items), _):
            return items
        case _:
            return ()


def _is_literal(node: Node) -> bool:
    return _literal(node) is not None


def _literal(node: Node) -> str | None:
    """The text of the value that is written out; None where it is none."""
    match node:
        case Text(value) | Call("date" | "time", (Text(value),)):
            return value
        case Number() | Constant() | Negation(Number()):
            return canonical(node)
        case _:
            return None


def _compiled(node: Node, order: tuple[str, ...], types: tuple[Type, ...]) -> Evaluate:
    """Raises BadCondition where the types are not those that it is written for."""
    scope = Scope(fields=dict(zip(order, types, strict=True)), elsewhere={}, attributes={})
    check(node, scope)
    return function(node, scope, order)


def _named(text: str) -> str:
    """The same with `row.` before each name that stands alone."""

    def named(found: re.Match[str]) -> str:
        word = found["word"]
        return found[0] if word is None or word in _KEYWORDS else f"row.{word}"

    return _WORD.sub(named, text)
