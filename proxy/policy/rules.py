"""Casbin, behind one door: an enforcer decides access rules on the roles and sets that we resolve.

What Casbin gets is clean: typed values from our own parser, through its API, into a new enforcer
that is never changed again. It reads no file of the policy. Its matcher calls three functions of
ours and compares one string; nothing that an admin writes is ever evaluated by it. Its own logging
is off: it would name subjects. A rule reaches it as (principal, report pattern, action, text of the
condition, effect), a request as (`Requester`, report id, action, `Truths`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import casbin
from casbin.util.log import disabled_logging

from proxy.plan import Truth
from proxy.policy.lines import AccessRule, Effect, patterns

disabled_logging()  # else the first model of a process is told at INFO, before an enforcer sees to it

MODEL: Final = resources.files("proxy.policy").joinpath("model.conf").read_text("utf-8")
"""The shipped Casbin model."""


def canonical_model(text: str) -> tuple[str, ...]:
    """A model without comments, blank lines, indentation; equal where Casbin reads the same."""
    lines = [line.strip() for line in text.splitlines()]
    return tuple([line for line in lines if line and not line.startswith("#")])


@dataclass(frozen=True, slots=True, eq=False)
class Requester:
    """As whom a request is decided; compared by identity, nameless in any text of Casbin's."""

    allows: frozenset[str]
    """The principals whose allow lines count."""
    denies: frozenset[str]
    """The principals whose deny lines count."""

    def __repr__(self) -> str:
        return "<requester>"

    def holds(self, principal: str, effect: str) -> bool:
        """Whether a line of this principal and effect is about the requester."""
        return principal in (self.allows if effect == Effect.ALLOW else self.denies)


@dataclass(frozen=True, slots=True, eq=False)
class Truths:
    """What each condition of the rules says of a request, by its text."""

    by_text: Mapping[str, Truth]

    def __repr__(self) -> str:
        return "<truths>"

    def applies(self, when: str, effect: str) -> bool:
        """Unknown is false in an allow and true in a deny (Kleene's logic, decided for safety).

        Raises KeyError for a condition that was not evaluated.
        """
        truth = self.by_text[when]
        return truth is True if effect == Effect.ALLOW else truth is not False


class Roles:
    """Names and what they are members of, directly and through others.

    Not by Casbin's role manager: that does not link chains of more than nine, remembers every name
    that it is asked for, and holds its names in circles, so that a policy of 100,000 links would stay
    until a full garbage collection, which stops every request.
    """

    def __init__(self, links: Iterable[tuple[str, str]]) -> None:
        """Link each (member, what it is a member of) of the lines of one kind; circles do no harm."""
        self._direct: dict[str, list[str]] = {}
        for member, of in links:
            self._direct.setdefault(member, []).append(of)

    def closure(self, names: Iterable[str]) -> frozenset[str]:
        """The names and everything that they are members of."""
        reached = set(names)
        waiting = list(reached)
        while waiting:
            for role in self._direct.get(waiting.pop(), ()):
                if role not in reached:
                    reached.add(role)
                    waiting.append(role)
        return frozenset(reached)


class Decider:
    """An immutable Casbin enforcer over some of the policy's access rules."""

    def __init__(self, rules: Collection[AccessRule], sets: Roles) -> None:
        """`sets` tells what sets a report or prefix is in."""

        @functools.lru_cache(maxsize=64)
        def covering(report: str) -> frozenset[str]:
            return sets.closure(patterns(report))

        self._enforcer = _enforcer(
            {
                "holds": Requester.holds,
                "matches": lambda report, pattern: pattern in covering(report),
                "truth": Truths.applies,
            }
        )
        self._empty = not rules
        if rules:
            self._enforcer.add_named_policies("p", [_row(rule) for rule in rules])

    def permits(self, requester: Requester, report: str, action: str, truths: Truths) -> bool:
        """Whether some allow line applies, and no deny line."""
        if self._empty:
            return (
                False  # Casbin would ask its matcher about blanks, and allow what it says of them.
            )
        verdict = self._enforcer.enforce(requester, report, action, truths)
        if not isinstance(verdict, bool):
            raise TypeError("casbin gave no Boolean")
        return verdict


def _row(rule: AccessRule) -> list[str]:
    """A rule as Casbin takes it: the model's `p`."""
    return [rule.principal, rule.report, str(rule.action), rule.when.text, str(rule.effect)]


def _enforcer(functions: Mapping[str, Callable[..., bool]]) -> Any:
    """A new enforcer for the shipped model; `functions` are for its matcher."""
    enforcer = casbin.Enforcer(casbin.Enforcer.new_model(text=MODEL))
    for name, function in functions.items():
        enforcer.add_function(name, function)
    return enforcer
