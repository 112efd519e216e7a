"""A condition, parsed, checked and compiled once per policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from proxy.plan import ColumnTest, Context, Truth
from proxy.policy.conditions import clock
from proxy.policy.conditions.bind import binder, fields
from proxy.policy.conditions.check import Scope, check
from proxy.policy.conditions.evaluate import function
from proxy.policy.conditions.mistakes import BadCondition, Mistake
from proxy.policy.conditions.syntax import parse
from proxy.policy.conditions.tree import Name, canonical, names

MAX_LENGTH: Final = 10_000
"""Most characters of a condition as it is written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """A `plan.Predicate`; equal where the text is, and the types of all names in it are."""

    text: str
    """Canonical: one text for each meaning's tree, and `compile` reads it back."""
    types: tuple[tuple[str, str], ...] = field(repr=False, hash=False)
    """Each name of the row and the subject with its type in the scope, sorted."""
    fields: frozenset[str] = field(compare=False, repr=False)
    """The fields of this report's `row.*` that it reads."""
    reads: frozenset[str] = field(compare=False, repr=False)
    """The names of `env.*` that it reads: `purpose`, `now`, …"""
    attributes: frozenset[str] = field(compare=False, repr=False)
    """The names of `sub.*` that it reads."""
    holds: Callable[[Context], Truth] = field(compare=False, repr=False)
    """The truth where there is no row (`row.*` is unknown)."""
    bind: Callable[[Context], Truth | ColumnTest] = field(compare=False, repr=False)
    """Fold in the request: a truth where no row is needed any more, else a test of columns."""
    waits: tuple[clock.Waits, ...] = field(compare=False, repr=False)

    def next_flip(self, context: Context) -> datetime | None:
        """The earliest instant after `context.now` at which time alone may change what holds.

        Sometimes earlier than the change, never later; None: there is none. (Where `env.now` is
        compared with a time of the row: within a minute.)
        """
        return clock.next_flip(self.waits, context) if self.waits else None


def compile(text: str, scope: Scope) -> Condition:  # noqa: A001 - the word for it
    """The condition that `text` writes; raises BadCondition with every fault found."""
    if len(text) > MAX_LENGTH:
        hint = "keep long lists in people.csv, as an attribute `sub.…`"
        message = f"a condition has at most {MAX_LENGTH} characters"
        raise BadCondition([Mistake(MAX_LENGTH, message, hint)])
    tree = parse(text)
    check(tree, scope)
    read = set(names(tree))
    order = fields(tree, scope)
    whole, blank = function(tree, scope, order), (None,) * len(order)
    return Condition(
        text=canonical(tree),
        types=tuple(sorted((canonical(n), _type(n, scope)) for n in read if n.where != "env")),
        fields=frozenset(order),
        reads=frozenset(name.name for name in read if name.where == "env"),
        attributes=frozenset(name.name for name in read if name.where == "sub"),
        holds=lambda context: whole(context, blank),
        bind=binder(tree, scope),
        waits=clock.waits(tree, scope),
    )


def _type(name: Name, scope: Scope) -> str:
    """The type of a checked name, as text that tells all types apart."""
    if name.where == "sub":
        declared = scope.attributes[name.name]
        return f"{declared.type} list" if declared.many else declared.type
    return (scope.fields or {}).get(name.name) or "unknown here"
