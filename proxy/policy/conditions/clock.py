"""When the truth of a condition may change by mere passing of time, and what the time alone says of it.

What reads `env.date` can change at midnight (UTC) alone. A time that is made of `env.now` is always
`env.now` moved by days that rest until midnight; so it meets another time at one instant, which is
computed, and leaves the calendar at another. Where a row's own time is compared there is no one
instant, and the condition is to be looked at again after `AGAIN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Final

from proxy.plan import Context, Truth
from proxy.policy.conditions.check import Kind, Scope, Shape, shape
from proxy.policy.conditions.evaluate import function, options
from proxy.policy.conditions.tree import (
    And,
    Arithmetic,
    Comparison,
    Items,
    Membership,
    Name,
    Node,
    Not,
    Or,
    children,
    names,
)  # fmt: skip

AGAIN: Final = timedelta(seconds=60)

_TICK: Final = datetime.resolution
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)

_CLOCKS: Final = {Name("env", "now"), Name("env", "date")}

ByTime = Callable[[Context], Truth]

Waits = Callable[[Context], Iterator[timedelta]]
"""How long until a part of a condition may change; what is not positive is past."""


def by_time(node: Node, scope: Scope) -> ByTime | None:
    """What tells the truth of a checked tree by the time alone; None where time tells nothing.

    Whatever is not time may be anything: by Kleene's logic what is true or false all the same, is so
    for every row and every requester.
    """
    match node:
        case And(terms):
            return _joined(False, [by_time(term, scope) for term in terms])
        case Or(terms):
            return _joined(True, [by_time(term, scope) for term in terms])
        case Not(operand):
            inner = by_time(operand, scope)
            return None if inner is None else lambda context: _negated(inner(context))
        case _ if set(names(node)) <= _CLOCKS:
            whole = function(node, scope, ())
            return lambda context: whole(context, ())
        case _:
            return None


def _joined(decisive: bool, terms: list[ByTime | None]) -> ByTime | None:  # noqa: FBT001
    """Kleene's `or` where True is decisive, `and` where False is."""
    if not any(terms):
        return None

    def told(context: Context) -> Truth:
        truths = [None if term is None else term(context) for term in terms]
        if decisive in truths:
            return decisive
        return None if None in truths else not decisive

    return told


def _negated(truth: Truth) -> Truth:
    return None if truth is None else not truth


def next_flip(waits: tuple[Waits, ...], context: Context) -> datetime | None:
    """The earliest instant strictly after `context.now` at which a truth may change."""
    ahead = [wait for part in waits for wait in part(context) if wait > timedelta()]
    if not ahead:
        return None
    try:
        return context.now + min(ahead)
    except OverflowError:
        return None


def waits(node: Node, scope: Scope) -> tuple[Waits, ...]:
    """All parts of a checked tree that time can change; none where it reads no clock."""
    found: list[Waits] = []
    if Name("env", "date") in names(node):
        found.append(_midnight)
    found.extend(_parts(node, scope))
    return tuple(found)


def _parts(node: Node, scope: Scope) -> Iterator[Waits]:
    if not _moves(node):
        return
    for child in children(node):
        yield from _parts(child, scope)
    match node:
        case Comparison(_, left, right) if shape(left, scope) == Shape(Kind.DATETIME):
            yield _meeting(left, right, scope)
        case Membership(item, Items(items), _) if shape(item, scope) == Shape(Kind.DATETIME):
            for each in items:
                yield _meeting(item, each, scope)
        case Membership(item, listed, _) if shape(item, scope) == Shape(Kind.DATETIME):
            yield _meeting_any(item, listed, scope)
        case Arithmetic(sign, left, right) if shape(node, scope) == Shape(Kind.DATETIME):
            yield _leaving(left, right, sign == "-", scope)
        case _:
            pass


def _moves(node: Node) -> bool:
    return Name("env", "now") in names(node)


def _reads_row(node: Node) -> bool:
    return any(name.where == "row" for name in names(node))


def _midnight(context: Context) -> Iterator[timedelta]:
    now = context.now
    day = datetime.combine(now.date(), time(), tzinfo=UTC)
    yield timedelta(days=1) - (now - day)


def _again(_context: Context) -> Iterator[timedelta]:
    yield AGAIN


def _meeting(left: Node, right: Node, scope: Scope) -> Waits:
    """When the one of two times that moves meets the other, and the moment after."""
    if _moves(left) and _moves(right):
        return _never  # they keep their distance
    if _reads_row(left) or _reads_row(right):
        return _again
    mover, other = (left, right) if _moves(left) else (right, left)
    moving, standing = function(mover, scope, ()), function(other, scope, ())

    def wait(context: Context) -> Iterator[timedelta]:
        a, b = moving(context, ()), standing(context, ())
        if a is not None and b is not None:
            yield b - a
            yield b - a + _TICK

    return wait


def _meeting_any(item: Node, listed: Node, scope: Scope) -> Waits:
    """The same for a time and an attribute's list of times."""
    if _reads_row(item):
        return _again
    moving, standing = function(item, scope, ()), options(listed, scope)

    def wait(context: Context) -> Iterator[timedelta]:
        a, found = moving(context, ()), standing(context, ())
        if a is not None and found is not None:
            for b in found[0]:
                yield b - a
                yield b - a + _TICK

    return wait


def _leaving(start: Node, span: Node, back: bool, scope: Scope) -> Waits:  # noqa: FBT001
    """When a moved time enters the calendar's range or leaves it."""
    if _reads_row(start) or _reads_row(span):
        return _again
    base, days = function(start, scope, ()), function(span, scope, ())

    def wait(context: Context) -> Iterator[timedelta]:
        a, b = base(context, ()), days(context, ())
        if a is None or b is None:
            return
        try:
            shift = -b if back else b
            yield _FIRST - a - shift
            yield _LAST - a - shift + _TICK
        except OverflowError:
            return

    return wait


def _never(_context: Context) -> Iterator[timedelta]:
    return iter(())
