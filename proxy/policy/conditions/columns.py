"""Row conditions on columns: the tests that remain once a condition is bound to a request.

Comparisons of a field with constants run on whole columns of keys (`lexical.py`); any other part is
evaluated by its plain function, once for each distinct tuple of the cells that it reads. Each test
gives for every text exactly what the plain function gives.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from itertools import repeat
from typing import Final

import polars as pl

from proxy.batch import Batch
from proxy.few import Cells, Few
from proxy.plan import Truth
from proxy.policy.conditions.evaluate import OF_TWO, RELATIONS, member
from proxy.policy.conditions.lexical import KEYS
from proxy.policy.conditions.tree import Relation
from proxy.values import Scalar, Type, scalar

SMALL: Final = 48
"""Up to so many rows, Python's own loop is faster than setting up column operations."""

_FEW_KEYS: Final = 8
"""To compare with so many, one after the other, costs less than to set up a look-up."""

_UNKNOWN: Final = pl.Series([None], dtype=pl.Boolean)
_CELLS: Final = "cells"
_TRUTH: Final = "truth"

OfCells = Callable[[Sequence[str | None]], Truth]
"""The truth of one row, from the texts of the fields that a test reads."""


class Test(ABC):
    """A condition of rows, bound to a request. Never raises on data; null and None are unknown."""

    __slots__ = ()

    def __call__(self, batch: Batch) -> Cells:
        """The truth of each row of `batch`."""
        if batch.few:
            return Few(self.rows(batch))
        if batch.height <= SMALL:
            return pl.Series(_TRUTH, self.rows(batch), dtype=pl.Boolean)
        return self.column(batch)

    @abstractmethod
    def rows(self, batch: Batch) -> list[Truth]:
        """Row by row."""

    @abstractmethod
    def column(self, batch: Batch) -> pl.Series:
        """All rows at once."""


class Joined(Test):
    """Kleene's `or` of tests where True is decisive, `and` where False is."""

    __slots__ = ("_decisive", "_tests", "_unknown")

    def __init__(self, decisive: bool, tests: Sequence[Test], unknown: bool) -> None:  # noqa: FBT001
        """`unknown`: whether a term without a row was."""
        self._decisive, self._tests, self._unknown = decisive, tests, unknown

    def rows(self, batch: Batch) -> list[Truth]:
        """Row by row."""
        columns: list[Iterable[Truth]] = [test.rows(batch) for test in self._tests]
        if self._unknown:
            columns.append(repeat(None, batch.height))
        decisive = self._decisive
        return [
            decisive if decisive in row else None if None in row else not decisive
            for row in zip(*columns, strict=True)
        ]

    def column(self, batch: Batch) -> pl.Series:
        """All rows at once."""
        columns = [test.column(batch) for test in self._tests]
        if self._unknown:
            columns.append(_UNKNOWN)
        return reduce(operator.or_ if self._decisive else operator.and_, columns)


class Negated(Test):
    """Kleene's `not`."""

    __slots__ = ("_test",)

    def __init__(self, test: Test) -> None:
        self._test = test

    def rows(self, batch: Batch) -> list[Truth]:
        """Row by row."""
        return [None if truth is None else not truth for truth in self._test.rows(batch)]

    def column(self, batch: Batch) -> pl.Series:
        """All rows at once."""
        return ~self._test.column(batch)


class Distinct(Test):
    """Any condition, evaluated once for each distinct tuple of the cells that it reads."""

    __slots__ = ("_fields", "_of")

    def __init__(self, fields: tuple[str, ...], of: OfCells) -> None:
        self._fields, self._of = fields, of

    def rows(self, batch: Batch) -> list[Truth]:
        """Row by row."""
        columns = [batch.values(field).to_list() for field in self._fields]
        return [self._of(cells) for cells in zip(*columns, strict=True)]

    def column(self, batch: Batch) -> pl.Series:
        """All rows at once."""
        return distinct([batch.series(field) for field in self._fields], self._of)


def distinct(columns: Sequence[pl.Series], of: OfCells) -> pl.Series:
    """`of` each row of `columns`."""
    frame = pl.DataFrame([column.alias(f"{_CELLS}{i}") for i, column in enumerate(columns)])
    on = frame.columns
    found = frame.unique()
    truths = pl.Series(_TRUTH, [of(cells) for cells in found.rows()], dtype=pl.Boolean)
    joined = frame.join(
        found.with_columns(truths), on=on, how="left", maintain_order="left", nulls_equal=True
    )
    return joined.get_column(_TRUTH)


class _OfField(Test):
    """A test of one field."""

    __slots__ = ("_field",)

    def __init__(self, field: str) -> None:
        self._field = field

    @abstractmethod
    def _of(self, cells: Sequence[str | None]) -> Truth:
        """The truth of one cell."""

    @abstractmethod
    def _of_cells(self, cells: pl.Series) -> pl.Series:
        """The truths of some cells, as a series of its own."""

    def rows(self, batch: Batch) -> list[Truth]:
        """Row by row."""
        return [self._of((cell,)) for cell in batch.values(self._field).to_list()]

    def column(self, batch: Batch) -> pl.Series:
        """All rows at once, each distinct cell once where that is known."""
        coded = batch.coded_values(self._field)
        if coded is None:
            return self._of_cells(batch.series(self._field))
        values, codes = coded
        truths = self._of_cells(values)
        if truths.null_count():
            return truths.gather(pl.Series(codes))
        return pl.Series(_TRUTH, truths.to_numpy().take(codes))  # a fourth of the time


class _Keyed(_OfField):
    """A test of one field: plain cells by their keys, the others by their values."""

    __slots__ = ("_type",)

    def __init__(self, field: str, type_: Type) -> None:
        super().__init__(field)
        self._type = type_

    @abstractmethod
    def _by_key(self, keys: pl.Series) -> pl.Series:
        """The truth of each plain cell, as a series of its own; null for null."""

    def _of_cells(self, cells: pl.Series) -> pl.Series:
        keys = KEYS[self._type]
        truths = self._by_key(keys.key(cells))
        if keys.plain is None:
            return truths
        odd = (~cells.str.contains(keys.plain)).arg_true()
        if odd.is_empty():
            return truths
        return truths.scatter(odd, distinct([cells.gather(odd)], self._of))


class Compared(_Keyed):
    """A field against a constant."""

    __slots__ = ("_against", "_key", "_relation")

    def __init__(self, field: str, type_: Type, relation: Relation, against: Scalar) -> None:
        super().__init__(field, type_)
        self._relation, self._against = relation, against
        self._key: pl.Series | None = None

    def _of(self, cells: Sequence[str | None]) -> Truth:
        value = None if cells[0] is None else scalar(cells[0], self._type)
        return None if value is None else RELATIONS[self._relation](value, self._against)

    def _by_key(self, keys: pl.Series) -> pl.Series:
        if self._key is None:
            self._key = self._keyed()
        if self._key.is_empty():  # no plain text is the constant
            return keys.eq(keys) if self._relation == "!=" else keys.ne(keys)
        found: pl.Series = RELATIONS[self._relation](keys, self._key)
        return found

    def _keyed(self) -> pl.Series:
        keys, against = KEYS[self._type], self._against
        match self._relation:
            case "<" | ">=":
                key = keys.above(against)
            case "<=" | ">":
                key = keys.below(against)
            case _:
                key = keys.exact(against)
        return pl.Series([] if key is None else [key], dtype=keys.dtype)


class Among(_Keyed):
    """A field among constants."""

    __slots__ = ("_doubtful", "_keys", "_known")

    def __init__(
        self,
        field: str,
        type_: Type,
        known: frozenset[Scalar],
        doubtful: bool,  # noqa: FBT001 - as `member` takes it
    ) -> None:
        super().__init__(field, type_)
        self._known, self._doubtful = known, doubtful
        self._keys: list[pl.Series] | None = None
        """Each alone; where they are many, all in a list, the one element of a series."""

    def _of(self, cells: Sequence[str | None]) -> Truth:
        value = None if cells[0] is None else scalar(cells[0], self._type)
        return None if value is None else member(value, self._known, self._doubtful)

    def _by_key(self, keys: pl.Series) -> pl.Series:
        if self._keys is None:
            of = KEYS[self._type]
            among = [key for each in self._known if (key := of.exact(each)) is not None]
            if len(among) <= _FEW_KEYS:
                self._keys = [pl.Series([key], dtype=of.dtype) for key in among]
            else:
                self._keys = [pl.Series(among, dtype=of.dtype).implode()]
        if not self._keys:
            found = keys.ne(keys)  # false, and null for null
        elif self._keys[0].dtype == pl.List:
            found = keys.is_in(self._keys[0])
        else:
            found = reduce(operator.or_, [keys.eq(key) for key in self._keys])
        return found | _UNKNOWN if self._doubtful else found


class Presence(_Keyed):
    """Whether a field has a value of its type; never unknown."""

    __slots__ = ()

    def _of(self, cells: Sequence[str | None]) -> Truth:
        return cells[0] is not None and scalar(cells[0], self._type) is not None

    def _of_cells(self, cells: pl.Series) -> pl.Series:
        return super()._of_cells(cells) & cells.is_not_null()

    def _by_key(self, keys: pl.Series) -> pl.Series:
        return keys.eq(keys)  # true, and null for null


class Search(_OfField):
    """A field of text that starts with, ends with or contains a constant."""

    __slots__ = ("_function", "_text")

    def __init__(self, field: str, function: str, text: str) -> None:
        super().__init__(field)
        self._function, self._text = function, text

    def _of(self, cells: Sequence[str | None]) -> Truth:
        return None if cells[0] is None else OF_TWO[self._function](cells[0], self._text)

    def _of_cells(self, cells: pl.Series) -> pl.Series:
        match self._function:
            case "starts":
                return cells.str.starts_with(self._text)
            case "ends":
                return cells.str.ends_with(self._text)
            case _:
                return cells.str.contains(self._text, literal=True)
