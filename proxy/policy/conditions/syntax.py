"""The syntax of the condition language: text -> tokens -> a frozen tree -> canonical text.

    condition   = or
    or          = and { "or" and }
    and         = not { "and" not }
    not         = "not" not | comparison
    comparison  = sum [ ("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not" "in") sum ]
    sum         = product { ("+" | "-") product }
    product     = negation { ("*" | "/") negation }
    negation    = "-" negation | atom
    atom        = number | text | "true" | "false" | name | function "(" [ or { "," or } ] ")"
                | "[" or { "," or } "]" | "(" or ")"
    name        = ("row" | "sub") "['" any "']" | ("row" | "sub" | "env") "." identifier
    number      = digits [ "." digits ]
    text        = "'" any "'"          with '' for a quote within

A sample: `row.store_id in sub.stores and row['Net Sales'] >= 1000 and env.purpose != ''`

Equal trees have equal canonical text, and the text of a tree parses to that tree.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

from proxy.policy.conditions.mistakes import BadCondition, Mistake, shown
from proxy.policy.conditions.tree import (
    And,
    Arithmetic,
    Binding,
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
    quoted,
)
from proxy.values import DIGITS, number

MAX_DEPTH: Final = 50
"""Most levels of nesting; `and`, `or` and lists count once however long they are."""


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


_TOKEN: Final = re.compile(
    r"""  (?P<blank>[ \t\r\n]+)
        | (?P<name>(?:row|sub|env)\.[A-Za-z_][A-Za-z0-9_]*)
        | (?P<bracketed>(?:row|sub)\[[ ]*'(?:[^']|'')*+'[ ]*\])
        | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
        | (?P<number>[0-9]+(?:\.[0-9]+)?(?![0-9A-Za-z_.]))
        | (?P<text>'(?:[^']|'')*+')
        | (?P<mark>==|!=|<=|>=|<(?!>)|[>()\[\],]|[+\-](?!=)|\*(?![*=])|/(?![/=]))
        | (?P<numberlike>\.?[0-9][0-9A-Za-z_.]*)
        | (?P<open>'.*)
        | (?P<foreign>"[^"]*"?|<>|&&|\|\||=~|\*\*|//|[^\w\s'"]=|\w+|.)
    """,
    re.VERBOSE | re.DOTALL,
)  # fmt: skip

_INSTEAD: Final = {
    "=": "write `==`", "=~": "there are no patterns: use starts, ends, contains",
    "<>": "write `!=`", "!": "write `not`", "&&": "write `and`", "||": "write `or`",
    "&": "write `and`", "|": "write `or`", ".": "a name has one point, as in `row.city`",
    "**": "there are no powers", "//": "write `/`", "%": "there is no remainder",
    "{": "a list is written `[a, b]`", "#": "comments stand on lines of their own",
}  # fmt: skip

_DECEIVING: Final = frozenset(
    "\u200b\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
"""Invisible or reordering characters: a condition must read as what it means (CVE-2021-42574)."""


def _invisible(character: str) -> bool:
    return character in _DECEIVING or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _tokens(text: str) -> list[_Token]:
    """The tokens of `text`; raises BadCondition with every fault of spelling."""
    mistakes, tokens = [], []
    for match in _TOKEN.finditer(text):
        kind, spelt, at = match.lastgroup or "", match.group(), match.start()
        if kind == "blank":
            continue
        hidden = next((i for i, each in enumerate(spelt) if _invisible(each)), None)
        if hidden is None and kind == "foreign" and unicodedata.category(spelt[0]) in ("Zs", "Cf"):
            hidden = 0  # a blank that is none of the language's; in a text it may be meant
        if hidden is not None:
            code = f"U+{ord(spelt[hidden]):04X}"
            mistakes.append(
                Mistake(
                    at + hidden,
                    f"the invisible character {code} has no place here",
                    "take it out, or write a blank",
                )
            )
        elif kind == "open":
            mistakes.append(
                Mistake(at, "this text does not end", "write `''` for a quote within a text")
            )
        elif kind == "numberlike" or (kind == "number" and number(spelt) is None):
            hint = f"write digits with at most one point, at most {DIGITS} on each side"
            mistakes.append(Mistake(at, f"`{shown(spelt)}` is no number", hint))
        elif kind == "foreign":
            hint = _INSTEAD.get(spelt, "")
            if spelt[0].isalnum():
                hint = "other names than a-z, 0-9 and _ are written `row['…']`"
            elif spelt[0] == '"':
                hint = f"write `{quoted(spelt.strip(chr(34)))}`" if len(spelt) < 50 else ""
            mistakes.append(Mistake(at, f"`{shown(spelt)}` is not of this language", hint))
        else:
            tokens.append(_Token(kind, spelt, at))
    if mistakes:
        raise BadCondition(mistakes)
    return tokens


class _Stop(Exception):
    """A fault of syntax was noted: a jump to the place that recovers."""


class _Deep(NamedTuple):
    node: Node
    depth: int


_WORDS: Final = frozenset({"and", "or", "not", "in", "true", "false"})
_BINDING: Final = {
    "or": Binding.OR,
    "and": Binding.AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in", "not"), Binding.COMPARISON),
    **dict.fromkeys(("+", "-"), Binding.SUM),
    **dict.fromkeys(("*", "/"), Binding.PRODUCT),
}
"""How strongly each operator binds; `not` here is that of `not in`."""


def parse(text: str) -> Node:
    """The tree that `text` writes; raises BadCondition with every fault of spelling and syntax."""
    tokens = _tokens(text)
    if not tokens:
        raise BadCondition([Mistake(0, "the condition is empty", "write `true`")])
    return _Parser(tokens).whole()


class _Parser:
    """Precedence climbing; a fault in one term of and/or leaves the others to be read."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._end = _Token("end", "", tokens[-1].at)
        self._next = 0
        self._level = 0
        self._mistakes: list[Mistake] = []

    def whole(self) -> Node:
        while True:
            try:
                self._level = 0
                tree = self._expression(Binding.OR)
                if self._peek().kind != "end":
                    raise self._unexpected()
            except _Stop:
                if not self._recover():
                    raise BadCondition(self._mistakes) from None
            else:
                if self._mistakes:
                    raise BadCondition(self._mistakes)
                return tree.node

    def _recover(self) -> bool:
        """Go on after the next `and` or `or` outside all brackets."""
        open_ = 0
        for index, token in enumerate(self._tokens):
            open_ += (token.text in ("(", "[")) - (token.text in (")", "]"))
            if index >= self._next and open_ <= 0 and token.text in ("and", "or"):
                self._next = index + 1
                return True
        return False

    def _peek(self, ahead: int = 0) -> _Token:
        index = self._next + ahead
        return self._tokens[index] if index < len(self._tokens) else self._end

    def _take(self) -> _Token:
        token = self._peek()
        self._next += 1
        return token

    def _stop(self, at: int, message: str, hint: str = "") -> _Stop:
        self._mistakes.append(Mistake(at, message, hint))
        return _Stop()

    def _unexpected(self) -> _Stop:
        token = self._peek()
        if token.kind == "end":
            return self._stop(
                token.at,
                f"something is missing after `{shown(self._tokens[-1].text)}`",
                "write a name, a value or a condition there, or take that out",
            )
        hint = "take it out"
        if token.text.lower() in _WORDS and token.text not in _WORDS:
            hint = f"write `{token.text.lower()}`"
        elif token.kind == "word" and self._peek(1).text == "(":
            hint = "join conditions with `and` or `or`"
        elif token.kind in ("text", "number", "name", "bracketed"):
            hint = "put an operator before it, as `==`, or join conditions with `and` or `or`"
        return self._stop(token.at, f"`{shown(token.text)}` is not expected here", hint)

    def _close(self, mark: str, opened: _Token) -> None:
        if self._peek().text != mark or self._peek().kind != "mark":
            if self._peek().kind == "end":
                raise self._stop(opened.at, f"this `{opened.text}` is not closed", f"add `{mark}`")
            raise self._unexpected()
        self._take()

    def _expression(self, least: int) -> _Deep:
        """What binds at least as strongly as `least`."""
        self._level += 1
        if self._level > 2 * MAX_DEPTH:  # each level of the tree may stand in parentheses
            raise self._too_deep(self._peek().at)
        left = self._prefix(least)
        compared = False
        while True:
            token = self._peek()
            if left.depth > MAX_DEPTH:
                raise self._too_deep(token.at)
            binding = _BINDING.get(token.text, 0) if token.kind in ("word", "mark") else 0
            if token.text == "not" and self._peek(1).text != "in":
                binding = 0
            if not binding or binding < least:
                self._level -= 1
                return left
            if binding == Binding.COMPARISON and compared:
                raise self._stop(token.at, "comparisons do not chain", "write `a < b and b < c`")
            compared = compared or binding == Binding.COMPARISON
            left = self._infix(left, self._take(), binding)

    def _too_deep(self, at: int) -> _Stop:
        return self._stop(
            at, f"nested deeper than {MAX_DEPTH} levels", "split it into several lines"
        )

    def _infix(self, left: _Deep, token: _Token, binding: int) -> _Deep:
        negated = token.text == "not"
        if negated:
            self._take()
        right = self._expression(binding + 1)
        depth = max(left.depth, right.depth) + 1
        a, b, at = left.node, right.node, token.at
        match token.text:
            case "or" | "and" as word:
                kind: type[Or | And] = Or if word == "or" else And
                terms = a.terms if isinstance(a, kind) else (a,)
                depth = max(left.depth - isinstance(a, kind), right.depth - isinstance(b, kind)) + 1
                terms += b.terms if isinstance(b, kind) else (b,)
                return _Deep(kind(terms, at=at), depth)
            case "in" | "not":
                return _Deep(Membership(a, b, negated, at=at), depth)
            case "+" | "-" | "*" | "/" as sign:
                return _Deep(Arithmetic(sign, a, b, at=at), depth)
            case relation:
                return _Deep(Comparison(relation, a, b, at=at), depth)  # type: ignore[arg-type]

    def _prefix(self, least: int) -> _Deep:
        token = self._peek()
        match token.kind, token.text:
            case "word", "not":
                if least > Binding.NOT:
                    raise self._stop(token.at, "`not` needs parentheses here", "write `(not …)`")
                self._take()
                operand = self._expression(Binding.NOT)
                return _Deep(Not(operand.node, at=token.at), operand.depth + 1)
            case "mark", "-":
                self._take()
                operand = self._expression(Binding.NEGATION)
                return _Deep(Negation(operand.node, at=token.at), operand.depth + 1)
            case "mark", "(":
                self._take()
                inner = self._expression(Binding.OR)
                self._close(")", token)
                return inner
            case "mark", "[":
                self._take()
                if self._peek().text == "]":
                    raise self._stop(token.at, "nothing is in an empty list", "write `false`")
                nodes, depth = self._list("]", token)
                return _Deep(Items(nodes, at=token.at), depth + 1)
            case _:
                return self._atom()

    def _list(self, mark: str, opened: _Token) -> tuple[tuple[Node, ...], int]:
        parts = [self._expression(Binding.OR)]
        while self._peek().text == "," and self._peek().kind == "mark":
            self._take()
            parts.append(self._expression(Binding.OR))
        self._close(mark, opened)
        return tuple(part.node for part in parts), max(part.depth for part in parts)

    def _atom(self) -> _Deep:
        token = self._peek()
        node: Node
        match token.kind, token.text:
            case "number", spelt:
                value = number(spelt)
                assert value is not None  # _tokens refused what is none
                node = Number(value, at=token.at)
            case "text", spelt:
                node = Text(spelt[1:-1].replace("''", "'"), at=token.at)
            case "name", spelt:
                where, _, name = spelt.partition(".")
                node = Name(where, name, at=token.at)  # type: ignore[arg-type]
            case "bracketed", spelt:
                name = spelt[spelt.index("'") + 1 : spelt.rindex("'")].replace("''", "'")
                node = Name(spelt[:3], name, at=token.at)  # type: ignore[arg-type]
            case "word", "true" | "false":
                node = Constant(token.text == "true", at=token.at)
            case "word", word if word not in _WORDS:
                return self._word(token)
            case _:
                raise self._unexpected()
        self._take()
        return _Deep(node, 1)

    def _word(self, token: _Token) -> _Deep:
        """A function's name; any other word is a fault."""
        self._take()
        opened = self._peek()
        if opened.text == "(" and opened.kind == "mark":
            self._take()
            if self._peek().text == ")":
                self._take()
                return _Deep(Call(token.text, (), at=token.at), 1)
            arguments, depth = self._list(")", opened)
            return _Deep(Call(token.text, arguments, at=token.at), depth + 1)
        raise self._stop(
            token.at, f"`{shown(token.text)}` means nothing by itself", _meant(token.text)
        )


def _meant(word: str) -> str:
    """A hint for a word that stands alone."""
    match word.lower():
        case "and" | "or" | "not" | "in" | "true" | "false" as lower:
            return f"write `{lower}`"
        case "null" | "none" | "nil":
            return "write `present(x)` or `not present(x)`"
        case "row" | "sub" as where:
            return f"write `{where}.name` or `{where}['any name']`"
        case "env":
            return "write `env.name`"
        case _:
            return f"a field is `row.{shown(word)}`, a text is `{quoted(shown(word))}`"
