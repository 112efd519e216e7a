"""A value that may be unknown, as z3 has it: whether it is known, and what it then is.

Kleene's third value is "it is not known". Numbers are reals, exact; days and instants are integers;
texts are z3's texts, ordered by code point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, Final

import z3

from proxy.policy.conditions.check import Kind
from proxy.policy.conditions.evaluate import BOUND
from proxy.review.constants import FIRST, TICK, real
from proxy.review.formulas import FALSE, TRUE, Formula

DAY: Final = timedelta(days=1) // TICK
LAST_DAY: Final = date.max.toordinal()
LAST_TICK: Final = (datetime.max.replace(tzinfo=UTC) - FIRST) // TICK
_MOST_DAYS: Final = timedelta.max.days

SORT: Final[Mapping[Kind, Callable[[], Any]]] = {
    Kind.TEXT: z3.StringSort, Kind.NUMBER: z3.RealSort, Kind.BOOLEAN: z3.BoolSort,
    Kind.DATE: z3.IntSort, Kind.DATETIME: z3.IntSort,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """A value that may be unknown. Of kind None: unknown whatever is assigned."""

    kind: Kind | None
    known: Formula
    value: Any
    many: bool = False
    divides: int | None = None
    """Of a number: what its denominator certainly divides."""
    most: Fraction | None = None
    """Of a number: what it certainly does not exceed, either way."""


UNKNOWN: Final = Term(kind=None, known=FALSE, value=None)


def certain(kind: Kind, value: Any) -> Term:
    """A value that is known."""
    return Term(kind=kind, known=TRUE, value=value)


def written(value: int | Fraction) -> Term:
    """A number that is written out."""
    exact = Fraction(value)
    return replace(certain(Kind.NUMBER, real(exact)), divides=exact.denominator, most=abs(exact))


def negation(term: Term) -> Term:
    """Kleene's `not`."""
    return term if term.kind is None else replace(term, value=z3.Not(term.value))


def conjunction(terms: Sequence[Term]) -> Term:
    """Kleene's `and`."""
    true = [z3.And(each.known, each.value) if each.kind else FALSE for each in terms]
    false = [z3.And(each.known, z3.Not(each.value)) if each.kind else FALSE for each in terms]
    value = z3.And(*true)
    return Term(kind=Kind.BOOLEAN, known=z3.Or(value, *false), value=value)


def compared(relation: str, left: Term, right: Term) -> Term:
    """Two known values, by one of the six relations."""
    a, b = left.value, right.value
    result = {
        "==": lambda: a == b, "!=": lambda: a != b, "<": lambda: a < b, "<=": lambda: a <= b,
        ">": lambda: b < a, ">=": lambda: b <= a,
    }[relation]()  # fmt: skip
    return certain(Kind.BOOLEAN, result)


def contains(part: Any, text: Any) -> Any:
    """z3 has this, unlike its like, the other way round."""
    return z3.Contains(text, part)


def days(count: Term) -> Term:
    """So many days; unknown where that is no whole number, or too many."""
    whole = z3.IsInt(count.value)
    few = z3.And(count.value <= _MOST_DAYS, count.value >= -_MOST_DAYS)
    return Term(kind=Kind.DAYS, known=z3.And(whole, few), value=z3.ToInt(count.value))


def bounds(sign: str, left: Term, right: Term) -> tuple[int | None, Fraction | None]:
    """What the denominator of a sum or product divides, and what it does not exceed."""
    known = left.divides is not None and right.divides is not None
    within = left.most is not None and right.most is not None
    if sign == "*":
        return (
            left.divides * right.divides if known else None,  # type: ignore[operator]  # known
            left.most * right.most if within else None,  # type: ignore[operator]  # as above
        )
    return (
        math.lcm(left.divides, right.divides) if known else None,  # type: ignore[arg-type]  # as above
        left.most + right.most if within else None,  # type: ignore[operator]  # as above
    )


def quotient_is_bounded(left: Term, right: Term) -> bool:
    """Whether a quotient is certainly one that `evaluate` keeps."""
    if left.divides is None or right.divides is None or left.most is None or right.most is None:
        return False
    both = left.divides * right.divides
    return left.most * both <= BOUND and right.most * both <= BOUND
