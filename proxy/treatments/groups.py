"""Groups of a source's rows: counted over all of them, and which of them may be given (`suppress`).

Rows with equal values of the `by` fields are a group. Values are equal where the condition language calls
them so: `7` and `7.0` are one decimal, `10:00Z` and `11:00+01:00` one instant, a text is itself to the
character; so the store's format and its spelling make no difference. A row that has no value (of its type)
in one of the fields is in no group, and is not given.

    by (region, city), at least 5            rows
    North | Aston                               3    hidden: fewer than 5
    North | Bury                                7    hidden: else North's total tells Aston's
    North | Colne                              40
    South | Deal                                9

All but the last field name the enclosing groups: the report, a region in it, and so on. Of each of them,
from the innermost outwards: where groups in it are hidden, or fewer rows than `least` (but some) are in none
of its groups, at least two of its groups are hidden, which have at least `least` rows together; the smallest
ones that were not are hidden until that is so, or all are. Of two of one size it is the one whose values
are the lower ones. So what is hidden is a function of the groups' sizes and values, in whatever order the
rows come.

PROMISE 4 (bounded memory): what groups take is counted from their values, up to a limit.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from heapq import heapify, heappop
from typing import Any, Final

import polars as pl

from proxy.batch import Batch
from proxy.errors import TooManyGroups
from proxy.few import Cells, Few
from proxy.texts import column, texts
from proxy.treatments.columns import per_distinct
from proxy.values import Type, scalar

Group = tuple[str, ...]
"""The values of the `by` fields, each as the canonical text of its value."""

PER_GROUP: Final = 200
"""Bytes that a group counts as, beside its values."""
_TOGETHER: Final = 2
"""Hidden groups, of which no total tells one from the others."""
_MOST_FEW: Final = 1024
_MOST_FEW_BYTES: Final = 1 << 20
"""Combinations of values that are counted one by one, and bytes of their values."""
_ROWS: Final = "rows"
_GIVEN: Final = "given"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counting:
    """By what rows are counted, and how many a group has at least that is given."""

    least: int
    by: tuple[str, ...]


class Tally:
    """Counts the rows of a source, batch by batch."""

    def __init__(self, counting: Counting, types: Mapping[str, Type], *, most: int) -> None:
        """`types` are those of the fields; `most` is in bytes."""
        self._counting = counting
        self._types = types
        self._most = most
        self._keys = [str(number) for number in range(len(counting.by))]
        self._counted = pl.DataFrame(
            schema={**dict.fromkeys(self._keys, pl.String), _ROWS: pl.UInt64}
        )
        """Each combination of values, also of missing ones, and its rows."""
        self._numbers = [n for n, name in enumerate(counting.by) if types[name].is_number]
        self._few: Counter[Any] = Counter()
        """The same of batches of a few records, which are not there yet."""
        self._few_bytes = 0
        self._rows: dict[Group, int] = {}
        self._loose: Counter[Group] = Counter()
        """Rows in no group, by the values before the first that is missing."""

    def count(self, batch: Batch) -> None:
        """Count these rows too; raises TooManyGroups."""
        columns = _columns(batch, self._counting.by, self._types)
        if batch.few:
            for values in zip(*columns, strict=True):
                if values not in self._few:
                    self._few_bytes += sum(len(text.encode()) for text in values if text)
                self._few[values] += 1
            if len(self._few) > _MOST_FEW or self._few_bytes > _MOST_FEW_BYTES:
                self._add_few()
        else:
            self._add(
                _frame(columns).group_by(self._keys).agg(pl.len().cast(pl.UInt64).alias(_ROWS))
            )

    def groups(self) -> Groups:
        """Which groups may be given, once all rows are counted; raises TooManyGroups."""
        for values, rows in self._combinations():
            if None in values:
                self._loose[values[: values.index(None)]] += rows
            else:
                self._rows[values] = rows
        hidden = {group for group, rows in self._rows.items() if rows < self._counting.least}
        for depth in reversed(range(len(self._keys))):
            self._hide_more(hidden, depth)
        return Groups(self._counting, self._types, self._rows.keys() - hidden)

    def _combinations(self) -> Iterator[tuple[Any, int]]:
        """Each combination of values, some of which may be missing, and its rows."""
        if self._counted.height:
            self._add_few()
            for row in self._counted.iter_rows():
                yield row[:-1], row[-1]
        else:
            self._bear(self._few_bytes, len(self._few))
            yield from self._few.items()

    def _bear(self, size: int, groups: int) -> None:
        """Raise TooManyGroups where so many, with values of so many bytes, are too much."""
        if size + PER_GROUP * groups > self._most:
            raise TooManyGroups

    def _add_few(self) -> None:
        rows = [(*values, rows) for values, rows in self._few.items()]
        self._few.clear()
        self._few_bytes = 0
        self._add(pl.DataFrame(rows, schema=self._counted.schema, orient="row"))

    def _add(self, counted: pl.DataFrame) -> None:
        both = pl.concat([self._counted, counted])
        found = both.group_by(self._keys).agg(pl.col(_ROWS).sum())
        # Anew: texts out of a batch may still hold the memory of all of it.
        self._counted = found.with_columns(
            column(texts(found[key])).alias(key) for key in self._keys
        )
        size = sum(int(self._counted[key].str.len_bytes().sum()) for key in self._keys)
        self._bear(size, self._counted.height)

    def _hide_more(self, hidden: set[Group], depth: int) -> None:
        """Add what else is hidden in the enclosing groups that `depth` fields name."""
        loose: Counter[Group] = Counter()
        for values, rows in self._loose.items():
            if len(values) >= depth:
                loose[values[:depth]] += rows
        exposed = {group[:depth] for group in hidden}
        exposed |= {around for around, rows in loose.items() if rows < self._counting.least}
        within: defaultdict[Group, list[Group]] = defaultdict(list)
        for group in self._rows:
            if group[:depth] in exposed:
                within[group[:depth]].append(group)
        for groups in within.values():
            already = hidden.intersection(groups)
            number, rows = len(already), sum(self._rows[group] for group in already)
            left = [self._place(group) for group in set(groups) - already]
            heapify(left)
            while left and (number < _TOGETHER or rows < self._counting.least):
                more = heappop(left)[-1]
                hidden.add(more)
                number, rows = number + 1, rows + self._rows[more]

    def _place(self, group: Group) -> tuple[int, Sequence[str | Fraction], Group]:
        """Sorts groups by their size, then by their values; texts of all but numbers sort as these do."""
        if not self._numbers:
            return self._rows[group], group, group
        values = [
            Fraction(text) if number in self._numbers else text for number, text in enumerate(group)
        ]
        return self._rows[group], values, group


class Groups:
    """The groups of a source that may be given; safe for threads."""

    def __init__(
        self, counting: Counting, types: Mapping[str, Type], given: Iterable[Group]
    ) -> None:
        self._by = counting.by
        self._types = types
        self._given = frozenset(given)

    @cached_property
    def _frame(self) -> pl.DataFrame:
        names = map(str, range(len(self._by)))
        return pl.DataFrame(
            [*self._given], schema=dict.fromkeys(names, pl.String), orient="row"
        ).with_columns(pl.lit(value=True).alias(_GIVEN))

    def shown(self, batch: Batch) -> Cells:
        """Where a row is of a group that may be given."""
        columns = _columns(batch, self._by, self._types)
        if batch.few:
            return Few([group in self._given for group in zip(*columns, strict=True)])
        rows = _frame(columns)
        found = rows.join(self._frame, on=rows.columns, how="left", maintain_order="left")
        return found[_GIVEN].fill_null(value=False)


def _columns(batch: Batch, by: Iterable[str], types: Mapping[str, Type]) -> list[Cells]:
    """The canonical texts of the fields by which rows are counted."""
    by = tuple(by)
    batch.load(by)
    return [_canonical(batch.values(name), types[name]) for name in by]


def _canonical(values: Cells, type_: Type) -> Cells:
    """The texts of values, one for all that are equal; null for what is no value of the type."""
    if type_ is Type.TEXT:
        return values

    def one(text: str) -> str | None:
        value = scalar(text, type_)
        return None if value is None else str(value)

    return per_distinct(values, one)


def _frame(columns: Iterable[Cells]) -> pl.DataFrame:
    return pl.DataFrame(
        [pl.Series(str(n), column, dtype=pl.String) for n, column in enumerate(columns)]
    )
