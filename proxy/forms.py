"""The forms of a column, tied to keys, and what they make of a batch's cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Final

import polars as pl

from proxy.batch import Batch, Lexis
from proxy.few import Cells, Few
from proxy.remembered import MOST_OF_ONE, Remembered
from proxy.texts import Coded, plain
from proxy.texts import column as column_of
from proxy.treatments.base import Choosing, Operation
from proxy.values import Type

_REPEATS: Final = 4
"""Where cells occur so often on average, each distinct one is treated once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """One form that a cell can have; without an operation it passes as it is written."""

    name: str
    operation: Operation | None
    per_value: bool
    choosing: Choosing | None = None
    """Where a cell's group decides whether it is given: takes the place of the operation."""
    known: dict[Lexis, Remembered] = field(default_factory=dict)
    """Of no use where the form is not per value."""

    def remembered(self, lexis: Lexis) -> Remembered:
        """What is remembered of cells as one lexis writes them: one met before is not treated again."""
        known = self.known.get(lexis)
        return self.known.setdefault(lexis, Remembered()) if known is None else known


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyedColumn:
    """A column of an answer, whose forms are tied to keys."""

    field: str
    type: Type
    source: Type
    """The field's own type."""
    group: int
    forms: tuple[Form, ...]


def formed(
    column: KeyedColumn, form: Form, batch: Batch, shown: Cells | None
) -> Cells | Coded | None:
    """All cells of a field in one form, in the lexical form of the batch; None where all are null."""
    if form.choosing is not None and shown is not None:
        return batch.lexis.write(form.choosing(batch, shown), column.type)
    operation = form.operation
    if operation is None:
        cells = batch.column(column.field)
        if cells is None or column.type is column.source:
            return cells  # to the character
        return batch.lexis.texts(cells)
    if form.per_value:
        return _per_value(column, form, batch)
    given = operation(batch)
    if isinstance(given, Coded):
        return given.mapped(lambda values: batch.lexis.write(values, column.type))
    return batch.lexis.write(given, column.type)


def _per_value(column: KeyedColumn, form: Form, batch: Batch) -> Cells | Coded | None:
    """Cells in a form that depends on the cell alone: each distinct one is treated once, if it pays."""
    lexis = batch.lexis
    treat = partial(_treated_list, column, form, lexis)
    if batch.few:
        few = batch.column(column.field)
        return None if few is None else Few(form.remembered(lexis).forms(few.to_list(), treat))
    coded = batch.numbered(column.field)
    if coded is not None and len(coded.distinct) * _REPEATS <= batch.height:
        return Coded(form.remembered(lexis).column(coded.distinct, treat), coded.codes)
    cells = batch.texts(column.field)
    if cells is None:
        return None
    if batch.height <= MOST_OF_ONE:
        return pl.Series(form.remembered(lexis).forms(cells.to_pylist(), treat), dtype=pl.String)
    return _treated(column, form, lexis, column_of(cells))


def _treated_list(
    column: KeyedColumn, form: Form, lexis: Lexis, cells: list[str]
) -> list[str | None]:
    treated: list[str | None] = _treated(column, form, lexis, Few(cells)).to_list()
    return treated


def _treated(column: KeyedColumn, form: Form, lexis: Lexis, cells: Cells) -> Cells:
    assert form.operation is not None
    alone = Batch(
        {column.field: cells},
        height=len(cells),
        lexis=lexis,
        types={column.field: column.source},
        few=isinstance(cells, Few),
    )
    return lexis.write(plain(form.operation(alone)), column.type)
