r"""A block of records as columns of text: what decoders yield, plans transform and encoders build from.

A column is a polars String series that holds each cell *as its document writes it* (its lexical
form), so that an untouched value stays the same to the character. A `Lexis` says how a document
writes values: CSV writes them plainly, JSON as tokens (`"a\u0062"`, `1.10`, `null`). Treatments and
conditions see the plain text of a value; null stands for "no value" in both forms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import polars as pl

from proxy.few import Cells, Few, filtered
from proxy.values import Type


class Lexis(ABC):
    """How a document format writes values; both directions are vectorised and never raise on data."""

    @abstractmethod
    def read(self, cells: Cells, type_: Type) -> Cells:
        """Lexical cells -> the plain text of their values.

        Null where a cell is null or its kind is not that of `type_` (a JSON number in a text field).
        """

    @abstractmethod
    def write(self, values: Cells, type_: Type) -> Cells:
        """Plain text of values of `type_` -> lexical cells; null stays null (an encoder's matter)."""


class Plain(Lexis):
    """Values written as they are (CSV)."""

    def read(self, cells: Cells, type_: Type) -> Cells:  # noqa: ARG002 - CSV cells carry no kind
        """The cells themselves."""
        return cells

    def write(self, values: Cells, type_: Type) -> Cells:  # noqa: ARG002 - as above
        """The values themselves."""
        return values


PLAIN = Plain()


class Batch:
    """Records as named columns of equal height; `values` are read once and kept."""

    __slots__ = ("_types", "_values", "cells", "few", "height", "lexis")

    def __init__(
        self,
        cells: Mapping[str, Cells],
        *,
        height: int,
        lexis: Lexis,
        types: Mapping[str, Type],
        few: bool = False,
    ) -> None:
        """`cells` maps a declared field to its lexical column; a field that is not there has no values.

        All columns are `Few` where `few`, else series. Raises ValueError where a column's height
        differs from `height`.
        """
        if any(len(column) != height for column in cells.values()):
            raise ValueError("columns of one batch have one height")
        self.cells = cells
        self.height = height
        self.lexis = lexis
        self.few = few
        self._types = types
        self._values: dict[str, Cells] = {}

    def values(self, field: str) -> Cells:
        """The plain text of `field`'s values (null where there is none)."""
        column = self._values.get(field)
        if column is None:
            cells = self.cells.get(field)
            column = self._values[field] = (
                self.repeated(None) if cells is None else self.lexis.read(cells, self._types[field])
            )
        return column

    def series(self, field: str) -> pl.Series:
        """The values of `field` in a batch that is not `few`."""
        column = self.values(field)
        assert isinstance(column, pl.Series)
        return column

    def repeated(self, text: str | None) -> Cells:
        """A column that is `text` in every row."""
        if self.few:
            return Few([text] * self.height)
        return pl.Series([text], dtype=pl.String).new_from_index(0, self.height)

    def type(self, field: str) -> Type:
        """The declared type of `field`."""
        return self._types[field]

    def filter(self, keep: Cells) -> Batch:
        """The rows where the Boolean column `keep` is true."""
        kept = {name: filtered(column, keep) for name, column in self.cells.items()}
        batch = Batch(
            kept, height=int(keep.sum()), lexis=self.lexis, types=self._types, few=self.few
        )
        batch._values = {name: filtered(column, keep) for name, column in self._values.items()}
        return batch
