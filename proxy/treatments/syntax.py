"""The grammar of a treatment's text in policy.csv, and nothing of what it means.

    treatment = name [ "(" argument { "," argument } ")" ]
    argument  = [ name "=" ] literal { "|" literal }     positional ones before named ones
    literal   = number | text
    number    = [ "-" ] digits [ "." digits ]     without leading zeros
    text      = "'" { any character but "'", or "''" } "'"

Blanks may stand between any two of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NoReturn

from proxy.treatments.base import Literal

_TOKEN: Final = re.compile(
    r"(?P<name>[A-Za-z_][A-Za-z0-9_-]*)"
    r"|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?![A-Za-z0-9_.]))"
    r"|'(?P<text>(?:[^']|'')*)'"
    r"|(?P<mark>[(),=|])"
)
_BLANKS: Final = re.compile(r"[ \t]*")
_LONGEST: Final = 1000


class BadTreatment(ValueError):
    """A treatment's text is wrong at `offset` (counted from 0)."""

    def __init__(self, offset: int, message: str, hint: str = "") -> None:
        self.offset = offset
        self.message = message
        self.hint = hint
        super().__init__(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Argument:
    """One argument as written; `name` is '' where it is positional."""

    offset: int
    name: str
    literals: tuple[Literal, ...]
    """At least one."""
    offsets: tuple[int, ...]
    """Of each literal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A treatment's text, taken apart."""

    offset: int
    name: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Token:
    kind: str
    """`name`, `number`, `text`, `end`, or the mark itself."""
    text: str
    offset: int


def read(text: str) -> Call:
    """Take `text` apart; raises BadTreatment."""
    if len(text) > _LONGEST:
        hint = "write a shorter constant"
        raise BadTreatment(0, f"a treatment has at most {_LONGEST} characters", hint)
    tokens = _tokens(text)
    end = _Token(kind="end", text="", offset=len(text))
    at = 0

    def peek(ahead: int = 0) -> _Token:
        return tokens[at + ahead] if at + ahead < len(tokens) else end

    def refuse(expected: str, hint: str = "") -> NoReturn:
        found = peek()
        what = "the end" if found is end else f"`{found.text}`"
        raise BadTreatment(found.offset, f"expected {expected}, found {what}", hint)

    name = peek()
    if name.kind != "name":
        refuse("the name of a treatment", "such as `clear`, `round(100)`, `redact` or `deny`")
    at += 1
    arguments: list[Argument] = []
    if peek().kind == "(":
        at += 1
        while True:
            first = peek()
            named = ""
            if first.kind == "name" and peek(1).kind == "=":
                named = first.text
                at += 2
            literals: list[_Token] = []
            while not literals or peek().kind == "|":
                at += bool(literals)
                literal = peek()
                if literal.kind not in ("number", "text"):
                    bare = literal.kind == "name"
                    hint = "texts are quoted: `'…'`" if bare else "write its value"
                    refuse("a number or a quoted text", hint)
                literals.append(literal)
                at += 1
            if not named and arguments and arguments[-1].name:
                raise BadTreatment(
                    first.offset,
                    "an argument without a name comes after a named one",
                    "name it too, or put it first",
                )
            arguments.append(
                Argument(
                    offset=first.offset,
                    name=named,
                    literals=tuple(Literal(t.text, quoted=t.kind == "text") for t in literals),
                    offsets=tuple(t.offset for t in literals),
                )
            )
            if peek().kind not in (",", ")"):
                refuse("`,` or `)`", "close it with `)`")
            at += 1
            if tokens[at - 1].kind == ")":
                break
    if peek() is not end:
        refuse("nothing more", "take it out: a line has one treatment")
    return Call(offset=name.offset, name=name.text, arguments=tuple(arguments))


def _tokens(text: str) -> list[_Token]:
    tokens = []
    at = _end_of_blanks(text, 0)
    while at < len(text):
        matched = _TOKEN.match(text, at)
        if matched is None:
            if text[at] == "'":
                raise BadTreatment(at, "a text is not closed", "`'` within a text is written `''`")
            if text[at] in "+-.0123456789":
                raise BadTreatment(at, "this is no number", "numbers are written `100` or `-2.5`")
            hint = "texts stand between `'`" if text[at] == '"' else "take it out"
            raise BadTreatment(at, f"unexpected `{text[at]}`", hint)
        kind = matched.lastgroup or ""
        written = matched[kind]
        if kind == "mark":
            kind = written
        if kind == "text":
            written = written.replace("''", "'")
            if not written.isprintable():
                hint = "take it out: it is not seen"
                raise BadTreatment(at, "a text holds a character that cannot be printed", hint)
        tokens.append(_Token(kind=kind, text=written, offset=at))
        at = _end_of_blanks(text, matched.end())
    return tokens


def _end_of_blanks(text: str, at: int) -> int:
    matched = _BLANKS.match(text, at)
    return matched.end() if matched else at
