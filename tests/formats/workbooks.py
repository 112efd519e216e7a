"""Workbooks as stores send them: by openpyxl with all that it can write, by hand, and broken in every way."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import openpyxl
from openpyxl.chart import BarChart, Reference
from openpyxl.comments import Comment
from openpyxl.formatting.rule import ColorScaleRule
from openpyxl.workbook.defined_name import DefinedName
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.table import Table

SHEET = "xl/worksheets/sheet1.xml"
TRANSITIONAL = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_STRICT = {
    TRANSITIONAL: "http://purl.oclc.org/ooxml/spreadsheetml/main",
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships": (
        "http://purl.oclc.org/ooxml/officeDocument/relationships"
    ),
}


def saved(book: openpyxl.Workbook) -> bytes:
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def plain(rows: Sequence[Sequence[Any]], *, title: str = "Data") -> bytes:
    """A workbook with these rows, the header among them."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = title
    for row in rows:
        sheet.append(list(row))
    return saved(book)


def rich(rows: Sequence[Sequence[Any]], canary: str, *, more: int = 1) -> bytes:
    """The same in the midst of everything else that a workbook can hold, `more` times."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number in range(more):
        for title, state in (("h", "hidden"), ("v", "veryHidden")):
            other = book.create_sheet(f"{canary[:20]}-{title}{number}")
            other.sheet_state = state
            other.append([canary, canary * (number + 1)])
    sheet = book.create_sheet("Data")
    book.active = len(book.sheetnames) - 1
    for row in rows:
        sheet.append(list(row))
    height, width = len(rows), len(rows[0])
    last = sheet.cell(height, width).coordinate
    for number in range(1, more + 1):
        cell = sheet.cell(min(number + 1, height), 1)
        cell.comment = Comment(canary * number, canary)
        if cell.value is not None:  # openpyxl would write the link's target there
            cell.hyperlink = f"https://{canary}.example/{number}"
        cell.number_format = f'"{canary}"0.{"0" * number}'
        book.defined_names[f"name{number}"] = DefinedName(f"name{number}", attr_text=f'"{canary}"')
    validation = DataValidation(type="list", formula1=f'"{canary},b"', prompt=canary)
    validation.add("A2:A9")
    sheet.add_data_validation(validation)
    sheet.auto_filter.ref = f"A1:{last}"
    sheet.auto_filter.add_filter_column(0, [canary])
    sheet.conditional_formatting.add(
        f"A2:{last}", ColorScaleRule(start_type="min", start_color="AA0000", end_type="max", end_color="00AA00")
    )  # fmt: skip
    sheet.row_dimensions[2].hidden = True
    sheet.column_dimensions["B"].hidden = True
    sheet.oddHeader.center.text = sheet.oddFooter.center.text = canary
    sheet.protection.password = "canary"
    chart = BarChart()
    chart.title = canary
    chart.add_data(Reference(sheet, min_col=1, min_row=1, max_row=height))
    sheet.add_chart(chart, "H20")
    table = book.create_sheet(f"{canary[:20]}-t")
    table.append([canary])
    table.append(["1"])
    table.add_table(Table(displayName="T", ref="A1:A2"))
    book.properties.creator = book.properties.title = book.properties.keywords = canary * more
    book.properties.created = datetime(2001, 1, more % 28 + 1)  # noqa: DTZ001 - as openpyxl has it
    return shared(saved(book), [canary * number for number in range(more)])


def repacked(
    document: bytes,
    change: Callable[[str, bytes], bytes | None] = lambda _, part: part,
    *,
    method: int = zipfile.ZIP_DEFLATED,
    more: Mapping[str, bytes] = {},
) -> bytes:
    """The package with each part as `change` gives it (None: without it), and more parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(document)) as old, zipfile.ZipFile(out, "w", method) as new:
        for name in old.namelist():
            part = change(name, old.read(name))
            if part is not None:
                new.writestr(name, part)
        for name, part in more.items():
            new.writestr(name, part)
    return out.getvalue()


def shared(document: bytes, unused: Sequence[str] = ()) -> bytes:
    """The same with its texts in a table, as Excel has them; and with some that no cell has."""
    numbers = {f"<t>{text}</t>".encode(): at for at, text in enumerate(unused)}

    def change(name: str, part: bytes) -> bytes:
        if name.startswith("xl/worksheets/sheet"):
            return re.sub(
                rb't="inlineStr"><is>(.*?)</is>',
                lambda found: b't="s"><v>%d</v>' % numbers.setdefault(found[1], len(numbers)),
                part,
                flags=re.DOTALL,
            )
        if name == "xl/_rels/workbook.xml.rels":
            related = (
                f'<Relationship Type="{next(reversed(_STRICT))}/sharedStrings"'
                ' Target="sharedStrings.xml" Id="rIdS" /></Relationships>'
            )
            return part.replace(b"</Relationships>", related.encode())
        if name == "[Content_Types].xml":
            type_ = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
            override = (
                f'<Override PartName="/xl/sharedStrings.xml" ContentType="{type_}" /></Types>'
            )
            return part.replace(b"</Types>", override.encode())
        return part

    changed = repacked(document, change)
    items = b"".join(b"<si>%s</si>" % text for text in numbers)
    table = f'<sst xmlns="{TRANSITIONAL}">'.encode() + items + b"</sst>"
    return repacked(changed, more={"xl/sharedStrings.xml": table})


def strict(document: bytes) -> bytes:
    """The same as Strict OOXML."""

    def change(_: str, part: bytes) -> bytes:
        for transitional, name in _STRICT.items():
            part = part.replace(transitional.encode(), name.encode())
        return part

    return repacked(document, change)


def by_hand(rows: str, *, before: str = "", after: str = "") -> bytes:
    """A workbook whose sheet has these `row` elements; its formats: none, a day, a moment, a duration."""
    book = openpyxl.Workbook()
    for column, code in enumerate(("yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss", "[h]:mm:ss"), start=1):
        book.active.cell(1, column, 1).number_format = code

    def change(name: str, part: bytes) -> bytes:
        if name == SHEET:
            return (
                f'{before}<worksheet xmlns="{TRANSITIONAL}"><sheetData>{rows}</sheetData>{after}</worksheet>'
            ).encode()
        return part

    return repacked(saved(book), change)


def cells(*values: str, header: str = "a") -> bytes:
    """A workbook with one column, whose cells are given as XML."""
    text = f'<row><c t="inlineStr"><is><t>{header}</t></is></c></row>'
    return by_hand(text + "".join(f"<row>{value}</row>" for value in values))


def since_1904(document: bytes) -> bytes:
    return repacked(
        document,
        lambda name, part: (
            re.sub(rb"<workbookPr[^>]*/>", b'<workbookPr date1904="1"/>', part)
            if name == "xl/workbook.xml"
            else part
        ),
    )


def unzipped(document: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(document)) as package:
        assert package.testzip() is None
        return {name: package.read(name) for name in package.namelist()}
