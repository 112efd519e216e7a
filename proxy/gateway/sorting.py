"""A view whose rows are put in order here, because the store's order would tell of a field that is hidden.

The order is made of what the requester is given and of nothing else: first the fields that were asked
for, then the key's, as far as they are clear; then all columns, as they are written. So the answer is a
function of the released rows as a set, in whatever order they came.

PROMISE 4 (bounded memory): the rows are held as columns of the answer, up to a number of bytes that is
counted from their cells alone: hidden rows, and how the store sends them, have no part in it. Beyond it
the answer is refused, before anything is released; in work, some times as much is held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from proxy.batch import Batch, Lexis
from proxy.errors import TooLargeToSort
from proxy.few import Cells, Few
from proxy.gateway.paging import Page
from proxy.gateway.parts import Part
from proxy.gateway.view import Steps, View
from proxy.plan import Plan
from proxy.report import By, Ordering, Report
from proxy.texts import nulls
from proxy.values import Type, scalar

_PER_CELL: Final = 16
"""Bytes that a cell takes beside its text."""
_AT_ONCE: Final = 8192
"""Rows that are written at once."""

_EXACT: Final = 15
"""Digits of a decimal number up to which no two numbers are the same float."""
_NUMBER: Final = {Type.INTEGER: r"^-?[0-9]+$", Type.DECIMAL: r"^-?[0-9]+(?:\.[0-9]+)?$"}
_UTC_SECOND: Final = r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-5][0-9]:[0-5][0-9]Z$"


def tells_of_hidden(plan: Plan) -> bool:
    """Whether the store's order would tell of a field that is not clear in every row that may be seen."""
    return plan.order_tells


def asked_order(report: Report, parameters: Mapping[str, str]) -> tuple[Ordering, ...]:
    """The order that a request's (canonical) parameters ask for."""
    return tuple(
        ordering
        for name, value in parameters.items()
        if report.parameters[name].by is By.ORDER
        for ordering in report.parameters[name].orderings(value)
    )


def order_for(plan: Plan, asked: Sequence[Ordering]) -> tuple[Ordering, ...]:
    """What was asked for, then the key's fields that are clear in every row; each field once."""
    key = (Ordering(name) for name in plan.report.key if name in plan.clear)
    order: dict[str, Ordering] = {}
    for ordering in (*asked, *key):
        order.setdefault(ordering.field, ordering)
    return tuple(order.values())


def sortable(texts: Cells, type_: Type) -> pl.Series:
    """A column that sorts as values of a type do; after them comes what is no value of it, as text."""
    column = pl.Series(texts, dtype=pl.String) if isinstance(texts, Few) else texts
    match type_:
        case Type.TEXT:
            return column
        case Type.INTEGER | Type.DECIMAL:
            short = column.str.len_bytes() <= _EXACT
            if (short & column.str.contains(_NUMBER[type_])).all():
                return column.cast(pl.Float64)
        case Type.DATETIME if column.str.contains(_UTC_SECOND).all():
            read = column.str.to_datetime("%Y-%m-%dT%H:%M:%SZ", strict=False)
            if read.null_count() == column.null_count():
                return column
        case _:
            pass
    return _ranks(column, type_)


def _ranks(column: pl.Series, type_: Type) -> pl.Series:
    """The place of each value among all of them; equal values have one place, however they are written."""
    places: dict[str, tuple[int, Any]] = {}
    for text in column.unique().drop_nulls().to_list():
        value = scalar(text, type_)
        places[text] = (1, text) if value is None else (0, value)
    ordered = sorted(places, key=lambda text: places[text])
    ranks: list[int] = []
    for before, text in zip([None, *ordered], ordered, strict=False):
        same = before is not None and places[before] == places[text]
        ranks.append(ranks[-1] + (not same) if ranks else 0)
    return column.replace_strict(
        pl.Series(ordered, dtype=pl.String),
        pl.Series(ranks, dtype=pl.UInt32),
        default=None,
        return_dtype=pl.UInt32,
    )


class _Rows(Part, frozen=True, kw_only=True):
    """The released rows of some records, as columns of the answer, and what they count as held."""

    frame: pl.DataFrame
    held: int


class SortedView(View):
    """A view that gives nothing before its end, and then all of it, or a page, in order."""

    def __init__(
        self,
        steps: Steps,
        *,
        lexis: Lexis,
        plan: Plan,
        asked: Sequence[Ordering],
        page: Page | None,
        most: int,
    ) -> None:
        """`asked` are fields that are clear in every row; `most` is in bytes of cells."""
        super().__init__(steps)
        self._lexis = lexis
        self._types = plan.report.types
        self._order = order_for(plan, asked)
        self._page = page
        self._left = most
        self._frames: list[pl.DataFrame] = []

    def part(self, batch: Batch) -> Part:
        """The requester's rows of some records."""
        given = self._transform.apply(batch)
        height = given.batch.height
        columns = {
            # Anew: a column that was filtered may still hold the memory of what was dropped.
            f"c{index}": pl.Series(cells.to_list(), dtype=pl.String)
            if (cells := given.batch.cells.get(name)) is not None
            else nulls(height)
            for index, (name, *_) in enumerate(self._transform.columns)
        }
        frame = pl.DataFrame(columns)
        texts = sum(int(column.str.len_bytes().sum()) for column in frame)
        if self._page is not None:
            chosen = self._transform.chosen(batch)
            told = [(f"g{n}", column) for n, column in enumerate(chosen)]
            if self._witness is not None:
                kept = enumerate(self._witness.told(given.source))
                told += [(f"e{n}", column) for n, column in kept]
            frame = frame.with_columns(column.alias(name) for name, column in told)
        held = texts + _PER_CELL * height * (frame.width + 1)
        evidence = self._testimony(given) if self._page is None else b""
        return _Rows(
            records=b"", rows=height, cells=given.cells, evidence=evidence, frame=frame, held=held
        )

    def add(self, part: Part) -> bytes:
        """Nothing yet; raises TooLargeToSort."""
        assert isinstance(part, _Rows)
        self._left -= part.held
        if self._left < 0:
            raise TooLargeToSort
        if part.rows:
            self._frames.append(part.frame)
        if self._page is None:
            self._count(part)
        return b""

    def finish(self) -> bytes:
        """The whole answer."""
        out = []
        if self._frames:
            rows = self._sorted(pl.concat(self._frames, rechunk=True))
            self._frames.clear()
            if self._page is not None:
                on_page = self._page.within(0, rows.height)
                rows = rows[on_page.start : on_page.stop]
                groups = [rows[name] for name in rows.columns if name.startswith("g")]
                self._count(
                    Part(
                        records=b"",
                        rows=rows.height,
                        cells=self._transform.counted(groups),
                        evidence=self._of_page(rows, groups),
                    )
                )
            out = [
                self._encoder.join(self._encoder.encode(self._batch(each)))
                for each in rows.iter_slices(_AT_ONCE)
            ]
        return self._digested(b"".join((*out, self._encoder.finish())))

    def _of_page(self, rows: pl.DataFrame, groups: Sequence[pl.Series]) -> bytes:
        """Which rows the page holds."""
        if self._witness is None:
            return b""
        told = [rows[name] for name in rows.columns if name.startswith("e")]
        return self._witness.piece_of(told, self._transform.shapes_of(groups))

    def _sorted(self, frame: pl.DataFrame) -> pl.DataFrame:
        given = {o.name: (f"c{n}", o.type) for n, o in enumerate(self._transform.columns)}
        keys = []
        for number, (name, _) in enumerate(self._order):
            column, type_ = given[name]
            values = self._lexis.read(frame[column], type_)
            keys.append(sortable(values, self._types[name]).alias(f"k{number}"))
        by = [key.name for key in keys]
        columns = [column for column, _ in given.values()]
        descending = [each.descending for each in self._order] + [False] * len(columns)
        whole = frame.with_columns(keys).sort(by + columns, descending=descending, nulls_last=True)
        return whole.drop(by)

    def _batch(self, frame: pl.DataFrame) -> Batch:
        columns = self._transform.columns
        return Batch(
            {column.name: frame[f"c{index}"] for index, column in enumerate(columns)},
            height=frame.height,
            lexis=self._lexis,
            types={column.name: column.type for column in columns},
        )
