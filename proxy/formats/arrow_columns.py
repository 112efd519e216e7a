"""Records of a typed document: texts are made when they are asked for, values pass as they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow import types as is_

from proxy.batch import REPEATS, Unread
from proxy.few import Cells
from proxy.formats.arrow_text import Column, texts_of
from proxy.texts import Coded, Texts
from proxy.texts import column as column_of


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Columns(Unread):
    """Some records and some columns, proved valid."""

    _held: Any
    """A pyarrow.RecordBatch of all columns that are read; dictionaries are not decoded."""
    _names: Collection[str]

    @classmethod
    def of(cls, held: Any) -> Columns:
        """All records and columns of a record batch."""
        return cls(_held=held, _names=held.schema.names)

    @property
    def names(self) -> Collection[str]:
        """The columns in question."""
        return self._names

    def read(self, names: Sequence[str]) -> dict[str, Cells]:
        """The plain texts of some columns."""
        return {name: column_of(self.texts(name)) for name in names}

    def texts(self, name: str) -> Texts:
        """The same of one column, as Arrow has it."""
        return texts_of(self._held.column(name))

    def numbered(self, name: str) -> Coded | None:
        """Of a dictionary without nulls by its own numbers, of any other column by its texts."""
        cells = self._held.column(name)
        if not is_.is_dictionary(cells.type) or cells.null_count or cells.dictionary.null_count:
            return super(Columns, self).numbered(name)
        held = Coded(cells.dictionary, cells.indices.to_numpy()).used()
        coded = Coded(texts_of(held.distinct), held.codes).apart()
        return None if len(coded.distinct) * REPEATS > len(coded) else coded

    def typed(self, name: str) -> Column:
        """The values of one column, of their value type."""
        cells = self._held.column(name)
        return cells.dictionary.take(cells.indices) if is_.is_dictionary(cells.type) else cells

    def where(self, keep: Cells) -> Columns:
        """The records where `keep` is true."""
        assert isinstance(keep, pl.Series)
        flags = keep.to_arrow()
        assert isinstance(flags, pa.BooleanArray)
        return replace(self, _held=self._held.filter(flags))

    def only(self, names: Collection[str]) -> Columns:
        """The columns of these names."""
        return replace(self, _names=names)
