"""A condition, parsed and checked once per policy, compiled when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final

from proxy.plan import ColumnTest, Context, Truth
from proxy.policy.conditions import clock
from proxy.policy.conditions.bind import binder, fields
from proxy.policy.conditions.check import Scope
from proxy.policy.conditions.evaluate import function
from proxy.policy.conditions.syntax import parse
from proxy.policy.conditions.tree import Node

_CLOCKS: Final = frozenset({"now", "date"})


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
    meaning: Meaning = field(compare=False, repr=False)

    def holds(self, context: Context) -> Truth:
        """The truth where there is no row (`row.*` is unknown)."""
        return self.meaning.holds(context)

    def bind(self, context: Context) -> Truth | ColumnTest:
        """Fold in the request: a truth where no row is needed any more, else a test of columns."""
        return self.meaning.bind(context)

    @property
    def is_timed(self) -> bool:
        """Whether the time alone may tell that it is false."""
        return self._by_time is not None

    def is_over(self, context: Context) -> bool:
        """Whether, at the context's time, it is false for every row and every requester."""
        by_time = self._by_time
        return by_time is not None and by_time(context) is False

    @property
    def _by_time(self) -> clock.ByTime | None:
        return self.meaning.by_time if self.reads & _CLOCKS else None

    def next_flip(self, context: Context) -> datetime | None:
        """The earliest instant after `context.now` at which time alone may change what holds.

        Sometimes earlier than the change, never later; None: there is none. (Where `env.now` is
        compared with a time of the row: within a minute.)
        """
        waits = self.meaning.waits
        return clock.next_flip(waits, context) if waits else None


class Meaning:
    """What a condition's canonical text means, compiled when it is first asked for.

    Of 100,000 conditions few are ever asked about under one version of the policy.
    """

    def __init__(self, text: str, scope: Scope) -> None:
        """`text` was checked in `scope`."""
        self._text = text
        self.scope = scope

    @cached_property
    def tree(self) -> Node:
        """Its checked tree."""
        return parse(self._text)

    @cached_property
    def holds(self) -> Callable[[Context], Truth]:
        """What tells the truth where there is no row."""
        order = fields(self.tree, self.scope)
        whole, blank = function(self.tree, self.scope, order), (None,) * len(order)
        return lambda context: whole(context, blank)

    @cached_property
    def bind(self) -> Callable[[Context], Truth | ColumnTest]:
        """What binds it to a request."""
        return binder(self.tree, self.scope)

    @cached_property
    def by_time(self) -> clock.ByTime | None:
        """What tells its truth by the time alone."""
        return clock.by_time(self.tree, self.scope)

    @cached_property
    def waits(self) -> tuple[clock.Waits, ...]:
        """When time may change it."""
        return clock.waits(self.tree, self.scope)
