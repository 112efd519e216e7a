"""Record batches -> XLSX: one sheet, made anew from values and written while they come.

    [Content_Types].xml   _rels/.rels   xl/workbook.xml   xl/_rels/workbook.xml.rels   xl/styles.xml
    xl/worksheets/sheet1.xml

There are no properties, no table of shared texts and no time but 1980-01-01. All but the sheet depends on
the columns alone. The sheet's XML is compressed in slices of one size, so that the bytes are a function of
the released rows' sequence, however batches came.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, islice, product
from string import ascii_uppercase
from typing import Final, NamedTuple
from xml.sax.saxutils import quoteattr

import pyarrow as pa

from proxy.batch import PLAIN, Batch, Output
from proxy.formats.base import Columns, Encoder, refused
from proxy.formats.pieces import woven
from proxy.formats.xlsx_text import BOLD, DECIMALS, NOTHING, Form
from proxy.formats.xlsx_zip import Zip
from proxy.report import Dialect
from proxy.texts import TEXT, Coded, Texts
from proxy.values import Type

MOST_ROWS: Final = 1_048_576
MOST_COLUMNS: Final = 16_384
MOST_BYTES: Final = (1 << 31) - 1
"""Of the sheet's XML: beyond, a package needs records that many readers refuse (zip64)."""
_SLICE: Final = 1 << 18
"""Bytes of the sheet that are compressed at once."""
_LEVEL: Final = 1
_SHEET: Final = "report"
_MOST_DIGITS: Final = 15

_XML: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS: Final = "http://schemas.openxmlformats.org/package/2006/relationships"
_SHEETML: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_CONTENT_TYPES: Final = (
    f'{_XML}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels"'
    ' ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_SHEETML}.sheet.main+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{_SHEETML}.styles+xml"/>'
    '<Override PartName="/xl/worksheets/sheet1.xml"'
    f' ContentType="{_SHEETML}.worksheet+xml"/></Types>'
)
_RELS: Final = (
    f'{_XML}<Relationships xmlns="{_RELATIONS}">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/>'
    "</Relationships>"
)
_WORKBOOK: Final = (
    f'{_XML}<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}">'
    "<bookViews><workbookView/></bookViews>"
    '<sheets><sheet name=%s sheetId="1" r:id="rId1"/></sheets></workbook>'
)
_WORKBOOK_RELS: Final = (
    f'{_XML}<Relationships xmlns="{_RELATIONS}">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="rId2" Type="{_OFFICE}/styles" Target="styles.xml"/>'
    "</Relationships>"
)
_MOMENT: Final = "yyyy\\-mm\\-dd\\ hh:mm:ss"
_FORMATS: Final = ("yyyy\\-mm\\-dd", _MOMENT, f"{_MOMENT}.000")
"""In the order of `DATE`, `SECONDS`, `MILLISECONDS`; then come those of decimals."""
_END: Final = b"</row>"
_NUMBER: Final = "\x01"
"""No character of XML, so that it is in no cell."""
_MARK: Final = _NUMBER.encode()
_CUSTOM: Final = 164
"""The first number of a format that is not built in."""
_WIDTHS: Final = {Type.DATE: 12, Type.DATETIME: 24, Type.INTEGER: 12, Type.DECIMAL: 14}
_WIDTH: Final = 16


class Rows(NamedTuple):
    """Some records of the answer."""

    height: int
    xml: bytes
    """With `_NUMBER` where the number of a row stands."""


class XlsxEncoder(Encoder[Rows]):
    """Batches -> a workbook with one sheet, whose first row is the header."""

    def __init__(self, columns: Columns, dialect: Dialect) -> None:
        """Raises ValueError without columns."""
        if not columns:
            raise ValueError("a document has columns")
        self._columns = columns
        self._digits = sorted({each for each in map(_digits, columns) if each is not None})
        self._forms = [self._form(each) for each in columns]
        self._leads = _leads(len(columns))
        self._name = dialect.sheet or _SHEET
        self._zip = Zip(level=_LEVEL)
        self._pending = bytearray()
        self._height = 0
        self._size = 0

    def _form(self, column: Output) -> Form:
        digits = _digits(column)
        style = 0 if digits is None else DECIMALS + self._digits.index(digits)
        return Form(column.type, style, digits or 0)

    def encode(self, batch: Batch) -> Rows:
        """The batch's records as rows; refused where a text is too long for a cell."""
        if not batch.height:
            return Rows(0, b"")
        columns = zip(self._columns, self._forms, strict=True)
        if batch.few:
            void = [NOTHING] * batch.height
            cells = [
                void if column is None else [form.cell(text) for text in column.to_list()]
                for column, form in ((batch.plain(each.name), form) for each, form in columns)
            ]
            rows = [
                "".join([lead + cell for lead, cell in zip(self._leads, row, strict=True)])
                for row in zip(*cells, strict=True)
            ]
            return Rows(batch.height, "".join([f"{row}</row>" for row in rows]).encode())
        written = {each.name: _written(batch, each, form) for each, form in columns}
        leads = [lead.encode() for lead in self._leads]
        return Rows(
            batch.height, woven(written, leads, b"</row>", source=None, height=batch.height)
        )

    def join(self, records: Rows) -> bytes:
        """What is complete of the package with these rows; refused where a sheet has no room for them."""
        self._write(records)
        return self._zip.drain()

    def finish(self) -> bytes:
        """The rest of the package."""
        self._write(Rows(0, b"</sheetData></worksheet>"))
        self._zip.write(self._pending)
        self._zip.end()
        self._zip.close()
        return self._zip.drain()

    def _write(self, rows: Rows) -> None:
        if not self._height:
            self._begin()
        xml = _numbered(rows.xml, self._height + 1)
        self._height += rows.height
        self._size += len(xml)
        if self._height > MOST_ROWS:
            raise refused("too-many-rows")
        if self._size > MOST_BYTES:
            raise refused("sheet-too-large")
        self._pending += xml
        whole = len(self._pending) // _SLICE * _SLICE
        with memoryview(self._pending) as pending:
            for at in range(0, whole, _SLICE):
                self._zip.write(pending[at : at + _SLICE])
        del self._pending[:whole]

    def _begin(self) -> None:
        """Write what depends on the columns alone."""
        if len(self._columns) > MOST_COLUMNS:
            raise refused("too-many-columns")
        for name, text in (
            ("[Content_Types].xml", _CONTENT_TYPES),
            ("_rels/.rels", _RELS),
            ("xl/workbook.xml", _WORKBOOK % quoteattr(self._name)),
            ("xl/_rels/workbook.xml.rels", _WORKBOOK_RELS),
            ("xl/styles.xml", _styles(self._digits)),
        ):
            self._zip.begin(name)
            self._zip.write(text.encode())
            self._zip.end()
        self._zip.begin("xl/worksheets/sheet1.xml")
        self._pending += _head(self._columns).encode()
        self._size = len(self._pending)
        self._height = 1


def _leads(width: int) -> list[str]:
    """What stands before each cell of a row: where it is, which some readers insist on."""
    letters = list(islice(_letters(), width))
    first, *others = (f'<c r="{letter}{_NUMBER}"' for letter in letters)
    return [f'<row r="{_NUMBER}">{first}', *others]


def _letters() -> Iterator[str]:
    """The names of columns: A to Z, AA to ZZ, AAA and on."""
    for length in count(1):
        yield from map("".join, product(ascii_uppercase, repeat=length))


def _numbered(xml: bytes, first: int) -> bytes:
    """Rows with their numbers."""
    rows = xml.split(_END)
    rest = rows.pop()
    numbered = [
        row.replace(_MARK, b"%d" % number) + _END for number, row in enumerate(rows, start=first)
    ]
    return b"".join((*numbered, rest))


def _digits(column: Output) -> int | None:
    """How many digits after the point a column's numbers are shown with; None: as many as they have."""
    if column.type is not Type.DECIMAL or column.scale is None:
        return None
    return min(max(column.scale, column.places), _MOST_DIGITS)


def _written(batch: Batch, column: Output, form: Form) -> Texts | Coded | bytes:
    """A column's cells as they stand in the sheet."""
    coded = batch.coded(column.name) if batch.lexis is PLAIN else None
    if coded is not None:
        cells = [form.cell(text) for text in coded.distinct.to_pylist()]
        return Coded(pa.array(cells, TEXT), coded.codes)
    found = batch.characters(column.name)
    return NOTHING.encode() if found is None else form.written(found)


def _styles(digits: Sequence[int]) -> str:
    """The formats of cells: plain, the header's, dates', and those of decimals."""
    formats = [*_FORMATS, *("0." + "0" * count if count else "0" for count in digits)]
    numbers = range(_CUSTOM, _CUSTOM + len(formats))
    declared = "".join(
        f'<numFmt numFmtId="{number}" formatCode={quoteattr(code)}/>'
        for number, code in zip(numbers, formats, strict=True)
    )
    used = "".join(
        f'<xf numFmtId="{number}" fontId="0" fillId="0" borderId="0" xfId="0"'
        ' applyNumberFormat="1"/>'
        for number in numbers
    )
    return (
        f'{_XML}<styleSheet xmlns="{_MAIN}">'
        f'<numFmts count="{len(formats)}">{declared}</numFmts>'
        '<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
        '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
        '<fills count="2"><fill><patternFill patternType="none"/></fill>'
        '<fill><patternFill patternType="gray125"/></fill></fills>'
        '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
        '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
        f'<cellXfs count="{BOLD + 1 + len(formats)}">'
        '<xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
        '<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/>'
        f"{used}</cellXfs>"
        '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles>'
        "</styleSheet>"
    )


def _head(columns: Columns) -> str:
    """The sheet up to its first record: the header stays in sight, columns are as wide as their type."""
    widths = "".join(
        f'<col min="{number}" max="{number}" width="{_WIDTHS.get(column.type, _WIDTH)}"'
        ' customWidth="1"/>'
        for number, column in enumerate(columns, start=1)
    )
    text = Form(Type.TEXT)
    names = "".join(
        f'{lead} s="{BOLD}"{text.cell(column.name)}'
        for lead, column in zip(_leads(len(columns)), columns, strict=True)
    ).replace(_NUMBER, "1")
    return (
        f'{_XML}<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0">'
        '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/>'
        f"</sheetView></sheetViews><cols>{widths}</cols><sheetData>{names}</row>"
    )
