"""XLSX (ECMA-376 part 1, Transitional and Strict) <-> record batches: values alone.

A workbook can be read only once it is there as a whole: it is put aside, and the declared sheet, or the
first that is shown, is read from a package made anew (`xlsx_workbook`). Its first row is the header. Cells
have kinds of their own and are read as plain text (`xlsx_cells`); what is written of them goes by the
types of the catalogue (`xlsx_text`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

import polars as pl
from python_calamine import CalamineError, CalamineWorkbook

from proxy.batch import PLAIN, Batch
from proxy.few import FEW, Cells, Few
from proxy.formats import xlsx_cells
from proxy.formats.base import Decoder, Format, Reading, Work, refused
from proxy.formats.xlsx_encoder import XlsxEncoder
from proxy.formats.xlsx_package import COMPOUND, PACKAGE
from proxy.formats.xlsx_workbook import rebuilt
from proxy.report import FormatName
from proxy.values import Type

_ROWS: Final = 4_096
"""Rows of a batch."""
T = TypeVar("T")


class XlsxDecoder(Decoder):
    """A workbook -> batches of the fields in `reads`."""

    expands = True

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self._fields = reading.report.fields
        self._types = reading.report.types
        self._reading = reading
        self._limits = reading.limits
        self._sheet = reading.dialect.sheet
        self._spool = reading.spools.open()
        self._begins = b""

    def close(self) -> None:
        """Let go of the workbook."""
        self._spool.close()

    def _cut(self, blocks: Sequence[bytes]) -> list[Work]:
        for block in blocks:
            self._put_aside(block)
        return []

    def _put_aside(self, block: bytes) -> None:
        if len(self._begins) < len(PACKAGE):
            self._begins = (self._begins + block)[: len(PACKAGE)]
            if not PACKAGE.startswith(self._begins) and not COMPOUND.startswith(self._begins):
                raise refused("package-malformed")
        self._spool.write(block)

    def _finish(self) -> Iterator[Work]:
        """The rows, some thousands at a time."""
        package = rebuilt(self._spool.file, self._sheet, self._limits)
        self._spool.close()
        sheet = _by_reader(lambda: CalamineWorkbook.from_filelike(package).get_sheet_by_index(0))
        rows = sheet.iter_rows()
        header = _by_reader(partial(next, rows, None))
        # The reader leaves out what is empty before the first cell: rows it makes up for, columns not.
        if sheet.start is None or header is None or not any(header):
            raise refused("header-missing")
        if sheet.start[1]:
            raise refused("column-unnamed")
        wanted = self._open([xlsx_cells.name(cell) for cell in header])
        while some := _by_reader(lambda: list(islice(rows, _ROWS))):
            yield partial(self._batches, wanted, some)

    def _open(self, names: list[str]) -> dict[str, int]:
        """Take the header: which column each field is."""
        if len(names) > self._limits.fields:
            raise refused("too-many-fields")
        return self._columns_of(names, self._fields, self._reading)

    def _batches(self, wanted: dict[str, int], rows: Sequence[Sequence[Any]]) -> list[Batch]:
        """The batch of some rows."""
        height = len(rows)
        few = height <= FEW
        cells: dict[str, Cells] = {}
        for name, index in wanted.items():
            column = xlsx_cells.texts([row[index] for row in rows], self._types[name])
            cells[name] = Few(column) if few else pl.Series(column, dtype=pl.String)
        return [Batch(cells, height=height, lexis=PLAIN, types=self._types, few=few)]


def _by_reader(step: Callable[[], T]) -> T:
    """What the reader makes of a package; raises SourceRefused without its own error: that may hold data."""
    try:
        return step()
    except (CalamineError, ValueError, OverflowError):
        pass
    except BaseException as exc:
        # A panic of the reader's is no Exception.
        if type(exc).__name__ != "PanicException":
            raise
    raise refused("sheet-malformed")


XLSX: Final = Format(
    name=FormatName.XLSX,
    media_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    store_types=frozenset({"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}),
    parameters={},
    block_size=2 << 20,
    written={
        Type.TEXT: "text",
        Type.INTEGER: "number",
        Type.DECIMAL: "number",
        Type.BOOLEAN: "`TRUE`, `FALSE`",
        Type.DATE: "date, `yyyy-mm-dd`",
        Type.DATETIME: "date, `yyyy-mm-dd hh:mm:ss`, UTC",
    },
    lexis=PLAIN,
    decoder=XlsxDecoder,
    encoder=XlsxEncoder,
    compressed=True,
)
