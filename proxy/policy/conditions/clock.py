"""When the truth of a condition may change by mere passing of time.

What reads `env.date` can change at midnight (UTC) alone. A time that is made of `env.now` is always
`env.now` moved by days that rest until midnight; so it meets another time at one instant, which is
computed, and leaves the calendar at another. Where a row's own time is compared there is no one
instant, and the condition is to be looked at again after `AGAIN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Final

from proxy.plan import Context
from proxy.policy.conditions.check import Kind, Scope, Shape, shape
from proxy.policy.conditions.evaluate import function, options
from proxy.policy.conditions.tree import (
    Arithmetic,
    Comparison,
    Items,
    Membership,
    Name,
    Node,
    children,
    names,
)  # fmt: skip

AGAIN: Final = timedelta(seconds=60)

_TICK: Final = datetime.resolution
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)

Waits = Callable[[Context], Iterator[timedelta]]
"""How long until a part of a condition may change; what is not positive is past."""


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
