r"""A block of records as columns of text: what decoders yield, plans transform and encoders build from.

A column is a polars String series that holds each cell *as its document writes it* (its lexical
form), so that an untouched value stays the same to the character. A `Lexis` says how a document
writes values: CSV writes them plainly, JSON as tokens (`"a\u0062"`, `1.10`, `null`). Treatments and
conditions see the plain text of a value; null stands for "no value" in both forms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import polars as pl

from proxy.few import Cells, Few, filtered
from proxy.texts import Coded, Codes, Texts, numbered, plain, texts
from proxy.texts import column as column_of
from proxy.values import Type

REPEATS: Final = 2
"""How often distinct cells occur on average at least where they are numbered."""


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

    @abstractmethod
    def texts(self, cells: Cells) -> Cells:
        """Lexical cells of any kind -> lexical cells of texts, with the same characters."""

    @abstractmethod
    def plain(self, cells: Cells) -> Cells:
        """Lexical cells of any kind -> their characters; null is null alone."""

    @abstractmethod
    def characters(self, cells: Texts) -> Texts:
        """The same of cells as Arrow has them."""

    def strings(self, cells: Few) -> str | None:  # noqa: ARG002 - only JSON writes so
        """Cells that all are JSON strings without an escape, with line feeds between them; None of others."""
        return None


class Plain(Lexis):
    """Values written as they are (CSV)."""

    def read(self, cells: Cells, type_: Type) -> Cells:  # noqa: ARG002 - CSV cells carry no kind
        """The cells themselves."""
        return cells

    def write(self, values: Cells, type_: Type) -> Cells:  # noqa: ARG002 - as above
        """The values themselves."""
        return values

    def texts(self, cells: Cells) -> Cells:
        """The cells themselves."""
        return cells

    def plain(self, cells: Cells) -> Cells:
        """The cells themselves."""
        return cells

    def characters(self, cells: Texts) -> Texts:
        """The cells themselves."""
        return cells


PLAIN = Plain()


class Unread(ABC):
    """Records of a document, proved well-formed, of which a column is made when it is asked for.

    So that a row which is dropped costs no more than the columns that its conditions look at.
    """

    @property
    @abstractmethod
    def names(self) -> Collection[str]:
        """The fields that can be read."""

    @abstractmethod
    def read(self, names: Sequence[str]) -> dict[str, Cells]:
        """The lexical columns of some fields, each of all records."""

    @abstractmethod
    def texts(self, name: str) -> Texts:
        """The same of one field, as Arrow has it."""

    def numbered(self, name: str) -> Coded | None:
        """The same with each distinct cell once, in the order of the first of each.

        None where cells occur fewer than `REPEATS` times on average, or seem to.
        """
        return numbered(self.texts(name), repeats=REPEATS)

    @abstractmethod
    def where(self, keep: Cells) -> Unread:
        """The records where the Boolean column `keep` is true."""

    @abstractmethod
    def only(self, names: Collection[str]) -> Unread:
        """The same records, of which no other field can be read."""


class Output(NamedTuple):
    """A column of an answer, as the plan has it: no row has a part in it."""

    name: str
    type: Type
    as_stored: bool = False
    """Whether each cell is given as the store has it, or not at all."""
    scale: int | None = None
    """Digits after the point that the catalogue declares of its decimals."""
    places: int = 0
    """Digits after the point that a form may add."""


class Batch:
    """Records as named columns of equal height; columns and `values` are made once and kept."""

    __slots__ = ("_cells", "_numbered", "_types", "_unread", "_values", "few", "height", "lexis")

    def __init__(
        self,
        cells: Mapping[str, Cells | Coded],
        *,
        height: int,
        lexis: Lexis,
        types: Mapping[str, Type],
        few: bool = False,
        unread: Unread | None = None,
    ) -> None:
        """`cells` maps a declared field to its lexical column; a field that is not there has no values.

        All columns are `Few` where `few`, else series or coded. `unread` has columns that are not in
        `cells`. Raises ValueError where a column's height differs from `height`.
        """
        if any(map(height.__ne__, map(len, cells.values()))):
            raise ValueError("columns of one batch have one height")
        self.height = height
        self.lexis = lexis
        self.few = few
        self._cells = cells
        self._unread = unread
        self._types = types
        self._values: dict[str, Cells] = {}
        self._numbered: dict[str, Coded | None] = {}

    @property
    def cells(self) -> Mapping[str, Cells]:
        """Every column, as the document writes its cells."""
        if self._unread is not None:
            self.load(self._unread.names)
            self._unread = None
        return {name: plain(column) for name, column in self._cells.items()}

    def load(self, names: Iterable[str]) -> None:
        """Make the columns of some fields at once; a field without column is passed over."""
        if self._unread is not None:
            readable = self._unread.names
            missing = [name for name in names if name in readable and name not in self._cells]
            if missing:
                self._cells = {**self._cells, **self._unread.read(missing)}

    @property
    def unread(self) -> Unread | None:
        """What was not asked for yet; an encoder may take it as it stands in its document."""
        return self._unread

    def column(self, field: str) -> Cells | None:
        """One column, as the document writes its cells; None where the field has no values."""
        if self._unread is not None:
            self.load((field,))
        found = self._cells.get(field)
        if isinstance(found, Coded):
            found = found.column()
            self._cells = {**self._cells, field: found}
        return found

    def columns(self, fields: Iterable[str]) -> list[Cells | None]:
        """The same of several fields."""
        if self.few:
            few: Mapping[str, Any] = self._cells
            return [*map(few.get, fields)]
        return [*map(self.column, fields)]

    def coded(self, field: str) -> Coded | None:
        """The same with each distinct cell once, where that is how the column was made."""
        found = self._cells.get(field)
        return found if isinstance(found, Coded) else None

    def numbered(self, field: str) -> Coded | None:
        """A column with each distinct cell once, in the order of the first of each.

        Of a batch that is not `few`. None where the field has no values, or cells seldom are like others.
        """
        if field not in self._numbered:
            held = self._cells.get(field)
            if held is None and self._unread is not None and field in self._unread.names:
                found = self._unread.numbered(field)
            else:
                cells = self.texts(field)
                found = None if cells is None else numbered(cells, repeats=REPEATS)
            self._numbered[field] = found
        return self._numbered[field]

    def texts(self, field: str) -> Texts | None:
        """The same as Arrow has it, of a batch that is not `few`."""
        if self._unread is not None and field in self._unread.names and field not in self._cells:
            return self._unread.texts(field)
        cells = self.column(field)
        assert not isinstance(cells, Few)
        return None if cells is None else texts(cells)

    def values(self, field: str) -> Cells:
        """The plain text of `field`'s values (null where there is none)."""
        column = self._values.get(field)
        if column is None:
            cells = self.column(field)
            column = self._values[field] = (
                self.repeated(None) if cells is None else self.lexis.read(cells, self._types[field])
            )
        return column

    def coded_values(self, field: str) -> tuple[pl.Series, Codes] | None:
        """The values of each distinct cell, and which of them each row has.

        None as of `numbered`, or where to number the cells, which are there, would cost more.
        """
        there = field in self._cells and field not in self._numbered
        coded = None if there or field in self._values else self.numbered(field)
        if coded is None:
            return None
        values = self.lexis.read(column_of(coded.distinct), self._types[field])
        assert isinstance(values, pl.Series)
        return values, coded.codes

    def plain(self, field: str) -> Cells | None:
        """The characters of each cell, of whatever kind it is; None where the field has no values.

        So an encoder of another lexis loses nothing: a number in a text field is no value of it, and is
        given all the same where it is given in clear.
        """
        cells = self.column(field)
        return None if cells is None else self.lexis.plain(cells)

    def characters(self, field: str) -> Texts | None:
        """The same as Arrow has it, of a batch that is not `few`."""
        cells = self.texts(field)
        return None if cells is None else self.lexis.characters(cells)

    def plain_texts(self, field: str) -> Texts:
        """The values of `field` as Arrow has them, of a batch that is not `few`."""
        found = self.texts(field) if self.lexis is PLAIN and field not in self._values else None
        return texts(self.series(field)) if found is None else found

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
        height = int(keep.sum())
        if height == self.height:
            return self
        batch = Batch(
            {
                name: column.where(keep) if isinstance(column, Coded) else filtered(column, keep)
                for name, column in self._cells.items()
            },
            height=height,
            lexis=self.lexis,
            types=self._types,
            few=self.few,
            unread=None if self._unread is None else self._unread.where(keep),
        )
        batch._values = {name: filtered(column, keep) for name, column in self._values.items()}
        batch._numbered = {
            name: coded.where(keep) for name, coded in self._numbered.items() if coded is not None
        }
        return batch
