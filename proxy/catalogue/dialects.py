"""What one of a report's `variants` says of how its documents are written, with every fault in its place."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from proxy.catalogue.entries import VariantEntry
from proxy.catalogue.parameters import Note
from proxy.report import Charset, Dialect, FormatName, Formulas

_DELIMITERS: Final = (",", ";", "|", "\t")
_SHEET: Final = re.compile(r"(?!')[^\[\]:*?/\\\x00-\x1f\x7f\ufffe\uffff]{1,31}(?<!')\Z")


def dialects_of(entry: VariantEntry, fault: Note) -> tuple[Dialect, tuple[Dialect, ...]]:
    """How the store writes the document, and how else it may be given; what is wrong is told to `fault`."""
    _json(entry, fault)
    _csv(entry, fault)
    _xlsx(entry, fault)
    stored = Dialect(
        format=entry.format,
        rows_at=entry.rows_at,
        members=tuple((k, msgspec.json.encode(v).decode()) for k, v in entry.members.items()),
        delimiter=entry.delimiter,
        charset=entry.charset,
        formulas=entry.formulas,
        sheet=entry.sheet,
    )
    for number, name in enumerate(entry.also):
        if name in entry.also[:number]:
            fault(f"`{name}` is named twice", "also", number, hint="write it once")
    if entry.format in entry.also:
        fault("that is its `format`", "also", entry.also.index(entry.format), hint="take it out")
    return stored, tuple(
        Dialect(format=each, formulas=entry.formulas, sheet=entry.sheet)
        for each in dict.fromkeys(entry.also)
        if each != entry.format
    )


def _json(entry: VariantEntry, fault: Note) -> None:
    if entry.rows_at and entry.format is not FormatName.JSON:
        fault("`rows_at` is for the format json", "rows_at", hint="take it out")
    if not all(entry.rows_at):
        hint = "name the members that lead to the rows, as `[data, rows]`"
        fault("a member's name is empty", "rows_at", hint=hint)
    if entry.members and not entry.rows_at:
        hint = "say where the rows are"
        fault("`members` stand beside rows that have a place: `rows_at`", "members", hint=hint)
    for name in entry.members:
        if name in entry.rows_at[:1]:
            hint = "use another name"
            fault("the rows are there, see `rows_at`", "members", name, hint=hint, key=True)


def _csv(entry: VariantEntry, fault: Note) -> None:
    if entry.format is not FormatName.CSV:
        if entry.delimiter != ",":
            fault("`delimiter` is for the format csv", "delimiter", hint="take it out")
        if entry.charset is not Charset.UTF_8:
            fault("`charset` is for the format csv", "charset", hint="take it out")
        if entry.formulas is not Formulas.KEEP and FormatName.CSV not in entry.also:
            fault("`formulas` is for answers in csv", "formulas", hint="take it out")
    if entry.delimiter not in _DELIMITERS:
        hint = 'write it in quotes, as `";"`; `"\\t"` is a tab'
        fault('expected one of `,`, `;`, `|`, `"\\t"`', "delimiter", hint=hint)


def _xlsx(entry: VariantEntry, fault: Note) -> None:
    if entry.sheet is None:
        return
    if FormatName.XLSX not in (entry.format, *entry.also):
        fault("`sheet` is for the format xlsx", "sheet", hint="take it out")
    if not _SHEET.match(entry.sheet):
        hint = "up to 31 characters, none of `[]:*?/\\`, no `'` at either end"
        fault(f"`{entry.sheet}` is not the name of a sheet", "sheet", hint=hint)
