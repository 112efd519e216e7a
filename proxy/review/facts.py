"""What is said of all rows and requesters: the variables and functions that terms are made of.

What z3 has no theory of (`lower`, `upper`, an address in a text, the bound of numbers) is a function of
which no more is said than is true of the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import z3

from proxy.review.constants import number_of, text_constant, version_of
from proxy.review.formulas import Formula
from proxy.review.terms import Term

_LAST_CHARACTER: Final = "\U0002ffff"
"""z3's last one; the first of Unicode's planes that are in use are below."""


class Unmodelled(Exception):
    """A condition cannot be written as a formula."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Application:
    """A function of z3's that stands for a real one."""

    argument: Any
    result: Any
    real: Callable[[Any], Any]


class Facts:
    """What is said of all rows and requesters: the variables and functions that terms are made of."""

    def __init__(self, *, purposes: Iterable[str], action: str | None) -> None:
        self.action = action
        self.purposes = ("", *purposes)
        self.variables: dict[tuple[str, str, str], Term] = {}
        self.axioms: list[Formula] = []
        self.applications: dict[str, Application] = {}
        self.addresses: dict[str, tuple[Any, Any]] = {}
        self.tested: dict[str, list[Term]] = {}
        self.texts: set[str] = set()
        """All that are written out."""
        self.decimals: list[Any] = []
        """Numbers that cells write: not any real one is."""
        self.members: dict[str, Formula] = {}
        """What the requester is, or is not: by its name."""

    def variable(self, where: str, name: str, type_: str, make: Callable[[str], Term]) -> Term:
        """The one variable of a name and type."""
        key = (where, name, type_)
        if key not in self.variables:
            self.variables[key] = make(f"{where}.{name}:{type_}")
        return self.variables[key]

    def member(self, name: str) -> Formula:
        """Whether the requester is a member of what has this name."""
        return self.members.setdefault(name, z3.Bool(f"member {name}"))

    def assume(self, *formulas: Formula) -> None:
        """Say what is true of every row and requester."""
        self.axioms.extend(formulas)

    def applied(self, name: str, argument: Any, sort: Any, real: Callable[[Any], Any]) -> Any:
        """`name(argument)`, of which it is known what the real function gives once it is asked."""
        result = z3.Function(name, argument.sort(), sort)(argument)
        self.applications.setdefault(
            f"{name} {argument.sexpr()}",
            Application(argument=argument, result=result, real=real),
        )
        return result

    def addressed(self, argument: Any) -> tuple[Any, Any]:
        """The version (0: none) and number of the address that a text writes."""
        key = argument.sexpr()
        if key not in self.addresses:
            version = self.applied("version", argument, z3.IntSort(), version_of)
            numbered = self.applied("number", argument, z3.IntSort(), number_of)
            self.assume(
                z3.Or(version == 0, version == 4, version == 6),
                numbered >= 0,
                numbered < z3.If(version == 4, z3.IntVal(1 << 32), z3.IntVal(1 << 128)),
            )
            self.addresses[key] = (version, numbered)
        return self.addresses[key]

    def literal(self, text: str) -> Any:
        """A text; raises Unmodelled where z3 has not all of its characters."""
        if any(character > _LAST_CHARACTER for character in text):
            raise Unmodelled
        self.texts.add(text)
        return text_constant(text)

    def tests(self, attribute: Term, item: Term) -> None:
        """Remember that the item is looked for in a list."""
        self.tested.setdefault(str(attribute.value), []).append(item)
