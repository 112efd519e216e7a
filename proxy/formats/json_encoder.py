"""Record batches -> compact JSON (RFC 8259): an array of objects, at the top or in an envelope made anew.

Or, as NDJSON, each object on a line of its own; no token holds a line end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, ClassVar

import pyarrow.compute as pc

from proxy.batch import Batch
from proxy.few import Cells, Few
from proxy.formats.base import Columns, Encoder
from proxy.formats.json_lexis import JSON_LEXIS, SMALL, string
from proxy.formats.json_uniform import Uniform
from proxy.formats.pieces import woven
from proxy.report import Dialect
from proxy.texts import Coded, Texts
from proxy.values import Type


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    """What stands between the values of a document with these columns."""

    head: bytes
    leads: tuple[bytes, ...]
    """What stands before each value of a record."""
    record: list[str | None]
    """The same as texts, with a place after each for the value, and what comes after the last one."""
    tail: bytes


@lru_cache(maxsize=256)
def _frame(
    names: tuple[str, ...],
    path: tuple[str, ...],
    constants: tuple[tuple[str, str], ...],
    before: str,
    after: str,
) -> _Frame:
    first, *others = map(string, names)
    leads = ("{" + first + ":", *(f",{name}:" for name in others))
    beside = "".join(f"{string(name)}:{token}," for name, token in constants)
    opening = "".join("{" + string(name) + ":" for name in path)
    return _Frame(
        head=f"{opening[:1]}{beside}{opening[1:]}[".encode(),
        leads=tuple([lead.encode() for lead in leads]),
        record=[
            before + leads[0],
            "",
            *chain.from_iterable((lead, "") for lead in leads[1:]),
            "}" + after,
        ],
        tail=b"]" + b"}" * len(path),
    )


class _ObjectsEncoder(Encoder[bytes]):
    """Batches -> objects; members in the columns' order."""

    _before: ClassVar[str] = ""
    _after: ClassVar[str] = ""
    """What stands before each record, and after it."""

    def __init__(self, columns: Columns, dialect: Dialect) -> None:
        """Raises ValueError without columns."""
        if not columns:
            raise ValueError("a document has columns")
        self._columns = columns
        self._names = tuple([column.name for column in columns])
        self._frame = _frame(
            self._names, dialect.rows_at, dialect.members, self._before, self._after
        )

    def _objects(self, batch: Batch) -> bytes:
        """The batch's records as objects, each between two texts."""
        height = batch.height
        if not height:
            return b""
        if height <= SMALL:
            record = self._frame.record
            written: list[Any] = record * height
            void = ["null"] * height
            for place, column in enumerate(self._tokens(batch)):
                cells: list[Any]
                if column is None:
                    cells = void
                elif isinstance(column, Few):
                    cells = column
                else:
                    cells = column.to_list()
                if cells[0] is None:  # as all of them are, most likely
                    cells = ["null" if cell is None else cell for cell in cells]
                written[2 * place + 1 :: len(record)] = cells
            try:
                return "".join(written).encode()
            except TypeError:  # a cell that is null, below one that is not
                return "".join(["null" if each is None else each for each in written]).encode()
        uniform = batch.unread if isinstance(batch.unread, Uniform) else None
        passing = () if uniform is None else uniform.names
        first, *others = self._frame.leads
        return woven(
            {
                name: None if name in passing else self._written(batch, name, type_)
                for name, type_, *_ in self._columns
            },
            (self._before.encode() + first, *others),
            b"}" + self._after.encode(),
            source=uniform,
            height=height,
        )

    def _written(self, batch: Batch, name: str, type_: Type) -> Texts | Coded | bytes:
        coded = batch.coded(name) if batch.lexis is JSON_LEXIS else None
        if coded is not None:
            coded = Coded(pc.fill_null(coded.distinct, "null"), coded.codes)
            return coded if coded.everywhere is None else coded.everywhere
        if batch.lexis is JSON_LEXIS:
            cells = batch.texts(name)
        else:
            cells = batch.characters(name)
            cells = None if cells is None else JSON_LEXIS.tokens(cells, type_)
        return b"null" if cells is None else pc.fill_null(cells, "null")

    def _tokens(self, batch: Batch) -> list[Cells | None]:
        """Every column, as `_column` gives it."""
        if batch.lexis is JSON_LEXIS:
            return batch.columns(self._names)
        return [self._column(batch, c.name, c.type) for c in self._columns]

    def _column(self, batch: Batch, name: str, type_: Type) -> Cells | None:
        """A column's tokens; None where it has none."""
        if batch.lexis is JSON_LEXIS:
            return batch.column(name)
        column = batch.plain(name)
        return None if column is None else JSON_LEXIS.write(column, type_)


class JsonEncoder(_ObjectsEncoder):
    """Batches -> an array, at the top or in an envelope."""

    _before = ","

    def __init__(self, columns: Columns, dialect: Dialect) -> None:
        """Raises ValueError without columns."""
        super().__init__(columns, dialect)
        self._head = self._frame.head
        self._empty = True

    def encode(self, batch: Batch) -> bytes:
        """The batch's records as objects, a comma before each."""
        return self._objects(batch)

    def join(self, records: bytes) -> bytes:
        """The objects, the first of the document after its head and without its comma."""
        head, self._head = self._head, b""
        if not records:
            return head
        if self._empty:
            self._empty = False
            records = records[1:]
        return head + records if head else records

    def finish(self) -> bytes:
        """The end of the array and of its envelope."""
        head, self._head = self._head, b""
        return head + self._frame.tail


class LinesEncoder(_ObjectsEncoder):
    """Batches -> objects on lines of their own, and nothing else."""

    _after = "\n"

    def encode(self, batch: Batch) -> bytes:
        """The batch's records, a line each."""
        return self._objects(batch)

    def join(self, records: bytes) -> bytes:
        """The lines."""
        return records

    def finish(self) -> bytes:
        """Nothing."""
        return b""
