"""Finding the newest accesses in the index that fit what is asked, without looking at many others.

The lists of `posting` are ordered by the number of an access's first record, one for each term and shape.
Of the terms that are asked for the rarest is taken, and of its lists those of shapes that fit; they are
merged from their newest ends on, and each row is looked at itself. So an answer costs some look-ups for
each shape, and those for its own rows. What takes long is one thing alone: to find that two terms which
are both frequent, a subject and a parameter's value, never or hardly ever meet: a look-up for each access
of the rarer one.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import neg
from typing import Final

from proxy.access import written
from proxy.audit.asked import (
    NOT_OPENED,
    Asked,
    Values,
    listed,
    of_forms,
    of_rows,
    of_shapes,
    stored,
)

_PAGES: Final = (1, 15, 48, 192, 512)
"""How many numbers of a list are read together, the first time, the second …"""
_ENOUGH: Final = 20_000
"""Numbers up to which lists are measured: of longer ones either will do."""
_LAST: Final = (1 << 63) - 1

_LISTS: Final = """
WITH RECURSIVE has(shape) AS (
  SELECT min(shape) FROM kept.posting WHERE term = :term
  UNION ALL
  SELECT (SELECT min(shape) FROM kept.posting WHERE term = :term AND shape > has.shape)
  FROM has WHERE has.shape IS NOT NULL
) SELECT shape FROM has WHERE shape IS NOT NULL
"""
"""The shapes of the accesses of a term: a look-up each, however many accesses these are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Span:
    """Numbers, of which others than these fit for certain not."""

    least: int = 0
    greatest: int = _LAST


def newest(
    connection: sqlite3.Connection, asked: Asked, subjects: tuple[str, ...]
) -> Iterator[int]:
    """Numbers of first records of accesses in `kept` that fit and that `main` has not, the newest first."""
    where, values = of_rows(asked, subjects)
    where += " AND NOT EXISTS (SELECT 1 FROM main.access AS o WHERE o.first = a.first)"
    shapes = _of_shapes(asked)
    terms = sorted(
        ({one: length for one in each if (length := _length(connection, one))}
         for each in _terms(connection, asked, subjects)),
        key=lambda each: sum(each.values()),
    )  # fmt: skip
    rarest, *others = terms or [{"": 0}]
    walk = _Walk(connection, where, values, spanned(connection, asked), others)
    if not terms and shapes is None:
        return walk.all()
    lists = [walk.of(term, shape) for term in rarest for shape in _lists(connection, term, shapes)]
    return _without_repeats(heapq.merge(*lists, key=neg))


def spanned(connection: sqlite3.Connection, asked: Asked) -> _Span:
    """The numbers among which all are that fit the time and the version of the policy."""
    least, greatest = 0, _LAST
    where, values = [], Values()
    if asked.since is not None or asked.until is not None:
        if asked.since is not None:
            where.append("latest >= :since")
            values["since"] = written(asked.since)
        if asked.until is not None:
            where.append("hour <= :until")
            values["until"] = written(asked.until)[:13]
        statement = f"SELECT min(least), max(greatest) FROM kept.hour WHERE {' AND '.join(where)}"
        low, high = connection.execute(statement, values).fetchone()
        least, greatest = (1, 0) if low is None else (low, high)
    if asked.policy:
        statement = (
            "SELECT min(least), max(greatest) FROM kept.version"
            " WHERE substr(policy, 1, length(:policy)) = :policy"
        )
        low, high = connection.execute(statement, {"policy": stored(asked.policy)}).fetchone()
        least, greatest = (1, 0) if low is None else (max(least, low), min(greatest, high))
    return _Span(least=least, greatest=greatest)


class _Walk:
    """Reads lists from their newest ends on."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        where: str,
        values: Values,
        span: _Span,
        others: Sequence[Iterable[str]],
    ) -> None:
        """`others`: of each of these, terms, an access has one besides that of its list."""
        self._connection = connection
        self._values = {"over": -1, **values, "least": span.least}
        self._before = min(span.greatest, _LAST - 1) + 1
        meets = ""
        for number, terms in enumerate(others):  # such a look-up costs less than one of the row
            self._values[f"terms{number}"] = listed(tuple(terms))
            meets += (
                " AND EXISTS (SELECT 1 FROM kept.posting AS q WHERE q.term IN"
                f" (SELECT value FROM json_each(:terms{number})) AND q.shape = p.shape AND q.first = p.first)"
            )
        within = f"{{0}}.first >= :least AND {{0}}.first < :before AND {where}"
        self._all = (
            f"SELECT a.first FROM kept.access AS a WHERE {within.format('a')}"
            " ORDER BY a.first DESC LIMIT :most"
        )
        self._of = (
            "SELECT p.first FROM kept.posting AS p CROSS JOIN kept.access AS a ON a.first = p.first"
            f" WHERE p.term = :term AND p.shape = :shape AND p.rows > :over{meets}"
            f" AND {within.format('p')}"
            " ORDER BY p.first DESC LIMIT :most"
        )

    def all(self) -> Iterator[int]:
        """All accesses that fit."""
        return self._pages(self._all, {})

    def of(self, term: str, shape: int) -> Iterator[int]:
        """Those of one list."""
        return self._pages(self._of, {"term": term, "shape": shape})

    def _pages(self, statement: str, which: Values) -> Iterator[int]:
        before, number = self._before, 0
        while True:
            most = _PAGES[min(number, len(_PAGES) - 1)]
            values = self._values | which | {"before": before, "most": most}
            found = [number for (number,) in self._connection.execute(statement, values)]
            yield from found
            if len(found) < most:
                return
            before, number = found[-1], number + 1


def _of_shapes(asked: Asked) -> tuple[str, Values] | None:
    """The conditions on shapes; None where next to every one fits."""
    where, values = of_shapes(asked)
    if asked.purpose:
        where.append("purpose = :purpose")
        values["purpose"] = "hmac:" if asked.purpose.startswith("hmac:") else stored(asked.purpose)
    if asked.rows_over is not None:
        where.append("size >= :size")
        values["size"] = asked.digits
    given, named = of_forms(asked, "field", "form")
    if given:
        where.append(f"id IN (SELECT shape FROM kept.form WHERE {' AND '.join(given)})")
        values |= named
    return None if where == [NOT_OPENED] else (" AND ".join(where), values)


def _lists(
    connection: sqlite3.Connection, term: str, shapes: tuple[str, Values] | None
) -> Iterator[int]:
    """The shapes that fit, of those that accesses of the term have."""
    where, values = shapes or (NOT_OPENED, Values())
    if not term:
        found = connection.execute(f"SELECT id FROM kept.shape WHERE {where}", values)
    else:
        found = connection.execute(
            f"SELECT id FROM ({_LISTS}) CROSS JOIN kept.shape ON id = shape WHERE {where}",
            values | {"term": term},
        )
    return iter([shape for (shape,) in found])


def _terms(
    connection: sqlite3.Connection, asked: Asked, subjects: tuple[str, ...]
) -> list[list[str]]:
    """Of each that is asked for which is a term, the terms of which an access has one."""
    terms = []
    if asked.subject:
        terms.append([f"s{stored(one)}" for one in subjects])
    if asked.group:
        group = stored(asked.group)
        terms.append([f"g{group}", f"ggroup:{group}", "g+"])
    for name, forms in asked.parameters:
        pairs = [(stored(name), stored(form)) for form in forms]
        terms.append(
            ["p" + connection.execute("SELECT json_array(?, ?)", pair).fetchone()[0] for pair in pairs]
        )  # fmt: skip
    return terms


def _length(connection: sqlite3.Connection, term: str) -> int:
    statement = "SELECT count(*) FROM (SELECT 1 FROM kept.posting WHERE term = ? LIMIT ?)"
    return int(connection.execute(statement, (term, _ENOUGH)).fetchone()[0])


def _without_repeats(numbers: Iterator[int]) -> Iterator[int]:
    """An access of two of the terms is in two of the lists."""
    last = -1
    for number in numbers:
        if number != last:
            yield number
            last = number
