"""What conditions have in common that differ only in the literals written out in them.

    row.store_id == '2011' and row.units > 5
    row.store_id == '2012' and row.units > 7       the same form, other literals

Of a policy's 100,000 conditions thousands are of one form. The first one is parsed and checked whole;
what is left of another one is whether each of its literals may stand where it does. For the texts
between the literals are the same, and so are tokens, tree, names and types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from proxy.policy.conditions.bind import fields
from proxy.policy.conditions.check import Scope, check, miswritten
from proxy.policy.conditions.condition import Condition, Meaning
from proxy.policy.conditions.mistakes import BadCondition, Mistake
from proxy.policy.conditions.syntax import parse
from proxy.policy.conditions.tree import Call, Name, Node, Number, Text, canonical, children, names
from proxy.values import DIGITS, number

MAX_LENGTH: Final = 10_000
"""Most characters of a condition as it is written."""

_PART: Final = re.compile(
    r"""( (?: [A-Za-z_.][A-Za-z0-9_.]*+ (?: (?<=row|sub)\[[ ]*'[^']*+'(?:'[^']*+')*+[ ]*\] )?+
            | [^'0-9A-Za-z_.]++
          )*+ )
        ( '[^']*+'(?:'[^']*+')*+ | [0-9]++(?:\.[0-9]++)?+(?![0-9A-Za-z_.]) | \Z | . )
    """,
    re.VERBOSE | re.DOTALL,
)
"""What stands before a literal, and the literal; a quoted name is none.

What is taken for a literal and is none, as the 5 of `5a` or a quote without its partner, makes no form:
either it is refused by a judge, or no condition has what is left between its literals.
"""

UNKNOWN_HERE: Final = "unknown here"
"""The type of a field that other reports of a line declare."""

Between = tuple[str, ...]
"""What stands before each literal of a condition, and after the last one."""
Literals = tuple[str, ...]
"""The literals of a condition, as they are spelt."""
Judge = Callable[[str], str | None]
"""The canonical text of a literal as it is spelt; None where it may not stand there."""


def part(text: str) -> tuple[Between, Literals]:
    """A condition's literals and what is between them; a text that is none may be taken for whatever."""
    between, literals = zip(*_PART.findall(text), strict=True)
    return between, tuple(filter(None, literals))


class Form:
    """A condition, parsed and checked, and all others that differ from it only in literals."""

    __slots__ = (
        "_attributes",
        "_fields",
        "_judges",
        "_reads",
        "_scope",
        "_template",
        "_types",
        "own",
    )

    def __init__(self, text: str, scope: Scope) -> None:
        """The form of the condition `text`; raises BadCondition with every fault found."""
        if len(text) > MAX_LENGTH:
            hint = "keep long lists in people.csv, as an attribute `sub.…`"
            message = f"a condition has at most {MAX_LENGTH} characters"
            raise BadCondition([Mistake(MAX_LENGTH, message, hint)])
        tree = parse(text)
        check(tree, scope)
        read = set(names(tree))
        types = {canonical(name): _type(name, scope) for name in read if name.where != "env"}
        self._scope = scope
        self._types = tuple(sorted(types.items()))
        self._fields = frozenset(fields(tree, scope))
        self._reads = frozenset(name.name for name in read if name.where == "env")
        self._attributes = frozenset(name.name for name in read if name.where == "sub")
        judges = dict(_literals(tree))
        written = canonical(tree)
        if _places(text) == tuple(judges):
            between, self.own = part(written)
            self._judges = tuple(judges.values())
        else:  # such as `row[ 'a name with blanks around it' ]`: nothing in it can be exchanged
            between, self.own, self._judges = (written,), (), ()
        self._template = _template(between, len(self.own))

    @property
    def fields(self) -> frozenset[str]:
        """The fields of this report's `row.*` that its conditions read."""
        return self._fields

    def read(self, text: str, literals: Literals) -> Literals | None:
        """Another text's literals in canonical spelling; None where this does not prove it a condition.

        What is between them there must be what is between those of this form.
        """
        if len(literals) != len(self._judges) or len(text) > MAX_LENGTH:
            return None
        found = [judge(literal) for judge, literal in zip(self._judges, literals, strict=True)]
        return None if None in found else tuple(found)  # type: ignore[arg-type]  # none is None

    def condition(self, literals: Literals) -> Condition:
        """The condition of this form with these literals, as `read` gives them."""
        text = self._template % literals
        return Condition(
            text=text,
            types=self._types,
            fields=self._fields,
            reads=self._reads,
            attributes=self._attributes,
            meaning=Meaning(text, self._scope),
        )


def compile(text: str, scope: Scope) -> Condition:  # noqa: A001 - the word for it
    """The condition that `text` writes; raises BadCondition with every fault found."""
    form = Form(text, scope)
    return form.condition(form.own)


def _type(name: Name, scope: Scope) -> str:
    """The type of a checked name, as text that tells all types apart."""
    if name.where == "sub":
        declared = scope.attributes[name.name]
        return f"{declared.type} list" if declared.many else declared.type
    return (scope.fields or {}).get(name.name) or UNKNOWN_HERE


def _places(text: str) -> tuple[int, ...]:
    """Where the literals of a condition stand."""
    between, literals = part(text)
    places, at = [], 0
    for before, literal in zip(between, literals, strict=False):
        places.append(at + len(before))
        at = places[-1] + len(literal)
    return tuple(places)


def _template(between: Between, literals: int) -> str:
    """What `%` puts so many literals into."""
    parts = [each.replace("%", "%%") for each in between]
    return "%s".join(parts[: literals + 1]) + "".join(parts[literals + 1 :])


# ── which literal may stand where ──


def _text(spelt: str) -> str | None:
    # What is printable is neither invisible nor does it reorder what is shown.
    return spelt if spelt[0] == "'" and len(spelt) > 1 and spelt.isprintable() else None


def _number(spelt: str) -> str | None:
    if spelt.isdigit() and spelt[0] != "0" and len(spelt) <= DIGITS:
        return spelt
    value = None if spelt[0] == "'" else number(spelt)
    return None if value is None else canonical(Number(value))


def _argument(call: Call, place: int) -> Judge:
    """A literal that is given to a function, and is what that takes."""

    def judge(spelt: str) -> str | None:
        value = number(spelt)
        literal = Text(_plain(spelt)) if value is None else Number(value)
        kind = _text if isinstance(call.arguments[place], Text) else _number
        arguments = (*call.arguments[:place], literal, *call.arguments[place + 1 :])
        return None if miswritten(Call(call.function, arguments)) else kind(spelt)

    return judge


def _plain(spelt: str) -> str:
    return spelt[1:-1].replace("''", "'")


def _literals(node: Node) -> Iterator[tuple[int, Judge]]:
    """Where the literals of a checked tree stand, in the order of its text, and what may stand there."""
    match node:
        case Number():
            yield node.at, _number
        case Text():
            yield node.at, _text
        case Call(_, arguments):
            for place, argument in enumerate(arguments):
                if isinstance(argument, Number | Text):
                    yield argument.at, _argument(node, place)
                else:
                    yield from _literals(argument)
        case _:
            for child in children(node):
                yield from _literals(child)
