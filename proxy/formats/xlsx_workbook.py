"""A workbook's package (ECMA-376 part 1, Transitional and Strict) -> one with the declared sheet alone.

What a reader of workbooks is given is made here: the sheet, its texts and its formats, in a container of
our own. Other sheets, comments, names, properties, validations, pivots and macros are in none of these
parts and are not even unpacked. The parts have to be plain XML in UTF-8: no document type, no comments,
CDATA sections or processing instructions, in which another reader could see another sheet.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Final, NamedTuple
from xml.parsers import expat

from proxy.formats.base import Limits, refused
from proxy.formats.xlsx_package import Package
from proxy.formats.xlsx_sheet import Sheet

_KIND: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
"""The content type of a workbook without macros that is no template; Strict or not."""
_RELATED: Final = (
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    "http://purl.oclc.org/ooxml/officeDocument/relationships",
)
"""Transitional and Strict; also the namespaces of `r:id`."""
_MAIN: Final = frozenset(
    {
        "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
        "http://purl.oclc.org/ooxml/spreadsheetml/main",
    }
)
"""The namespaces of workbooks, Transitional and Strict."""
_SHARED: Final = re.compile(rb"<(?:[\w.-]+:)?si(?=[\s/>])")
_BETWEEN: Final = " "
"""Between an element's namespace and its name."""

_CONTENT: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
)
_RELATIONS: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    "{}</Relationships>"
)
_WORKBOOK: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    f' xmlns:r="{_RELATED[0]}"><workbookPr date1904="{{}}"/>'
    '<sheets><sheet name="sheet" sheetId="1" r:id="rId1"/></sheets></workbook>'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Workbook:
    """Where in its package a workbook's parts are."""

    sheet: str
    strings: str | None
    styles: str | None
    since_1904: bool
    """Whether its days are counted from 1904-01-01 on."""


Form = Callable[[Iterator[bytes]], Iterator[bytes]]
"""What becomes of a part's pieces."""


def rebuilt(file: IO[bytes], sheet: str | None, limits: Limits) -> io.BytesIO:
    """A package with a workbook's one sheet: the one of that name, else the first that is visible.

    Raises SourceRefused. The sheet has no more cells than the limit, counted as if none between the first
    and the last were left out: that is how much room a reader takes. No more texts are shared either.
    """
    package = Package(file, limits)
    workbook = _workbook(package, sheet)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as zip_:
        zip_.writestr("[Content_Types].xml", _CONTENT)
        zip_.writestr("_rels/.rels", _relations(officeDocument="xl/workbook.xml"))
        zip_.writestr("xl/workbook.xml", _WORKBOOK.format(int(workbook.since_1904)))
        parts: dict[str, tuple[str, Form]] = {"worksheet": (workbook.sheet, Sheet(limits).pieces)}
        if workbook.styles is not None:
            parts["styles"] = (workbook.styles, iter)
        if workbook.strings is not None:
            parts["sharedStrings"] = (workbook.strings, partial(_shared, most=limits.sheet_cells))
        targets = {kind: f"{kind}.xml" for kind in parts}
        zip_.writestr("xl/_rels/workbook.xml.rels", _relations(**targets))
        for kind, (name, form) in parts.items():
            with zip_.open(f"xl/{targets[kind]}", "w") as part:
                for piece in form(_plain(package.pieces(name), "sheet-malformed")):
                    part.write(piece)
    made.seek(0)
    return made


def _shared(pieces: Iterator[bytes], *, most: int) -> Iterator[bytes]:
    """Shared texts, as they are: a reader takes room for each, however little it says.

    One that stands where two pieces meet may be left out of the count.
    """
    left = most
    for piece in pieces:
        left -= len(_SHARED.findall(piece))
        if left < 0:
            raise refused("sheet-too-large")
        yield piece


def _relations(**targets: str) -> str:
    return _RELATIONS.format(
        "".join(
            f'<Relationship Id="rId{number}" Type="{_RELATED[0]}/{kind}" Target="{target}"/>'
            for number, (kind, target) in enumerate(targets.items(), start=1)
        )
    )


# ── where the parts are ──


class _Element(NamedTuple):
    """An element's namespace, name and attributes, those of a namespace as `namespace name`."""

    namespace: str
    name: str
    attributes: dict[str, str]


class _Relation(NamedTuple):
    id: str
    kind: str
    target: str
    """The name of a part."""


def _workbook(package: Package, sheet: str | None) -> Workbook:
    """Raises SourceRefused where it is no plain workbook, or has no such sheet."""
    main = _one(_relations_of(package, ""), "officeDocument")
    if main is None or _kind(package, main) != _KIND:
        raise refused("workbook-kind")
    elements = [each for each in _elements(package.read(main)) if each.namespace in _MAIN]
    relations = _relations_of(package, main)
    sheets = {each.id: each.target for each in relations if each.kind == "worksheet"}
    for element in elements:
        if element.name != "sheet":
            continue
        if sheet is None:
            wanted = element.attributes.get("state", "visible") == "visible"
        else:
            wanted = element.attributes.get("name") == sheet
        ids = [element.attributes.get(f"{each}{_BETWEEN}id") for each in _RELATED]
        found = next((sheets[id_] for id_ in ids if id_ in sheets), None)
        if wanted and found is not None:
            return Workbook(
                sheet=found,
                strings=_one(relations, "sharedStrings"),
                styles=_one(relations, "styles"),
                since_1904=any(
                    each.attributes.get("date1904") in ("1", "true")
                    for each in elements
                    if each.name == "workbookPr"
                ),
            )
    raise refused("sheet-missing")


def _one(relations: Iterable[_Relation], kind: str) -> str | None:
    """The part of that kind."""
    found = [each.target for each in relations if each.kind == kind]
    if len(found) > 1:
        raise refused("workbook-malformed")
    return found[0] if found else None


def _relations_of(package: Package, part: str) -> list[_Relation]:
    """What a part is related to in its package; `""` is the package itself (part 2, §6.5)."""
    folder, name = posixpath.split(part)
    source = posixpath.join(folder, "_rels", f"{name}.rels")
    relations = []
    for element in _elements(package.read(source)):
        each = element.attributes
        related, _, kind = each.get("Type", "").rpartition("/")
        if related not in _RELATED or each.get("TargetMode", "Internal") != "Internal":
            continue
        target = posixpath.normpath(posixpath.join("/", folder, each.get("Target", "")))
        relations.append(_Relation(each.get("Id", ""), kind, target.removeprefix("/")))
    return relations


def _kind(package: Package, part: str) -> str | None:
    """The content type that the package gives of a part by its name."""
    for element in _elements(package.read("[Content_Types].xml")):
        if element.attributes.get("PartName", "").lower() == f"/{part}".lower():
            return element.attributes.get("ContentType")
    return None


# ── XML ──


def _elements(document: bytes) -> list[_Element]:
    """All elements of a part, each before those in it."""
    elements: list[_Element] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(_BETWEEN)
        elements.append(_Element(namespace, local, attributes))

    for _ in _plain([document], "workbook-malformed", start):
        pass
    return elements


def _plain(
    pieces: Iterable[bytes],
    cause: str,
    start: Callable[[str, dict[str, str]], None] | None = None,
) -> Iterator[bytes]:
    """The pieces of a part, once they are known to be well-formed and plain; refused for `cause`."""
    parser = expat.ParserCreate("UTF-8", _BETWEEN)
    parser.StartElementHandler = start

    def never(*_: object) -> None:
        raise refused(cause)

    parser.StartDoctypeDeclHandler = never
    parser.CommentHandler = never
    parser.StartCdataSectionHandler = never
    parser.ProcessingInstructionHandler = never
    for piece in pieces:
        if not _parsed(parser, piece):
            raise refused(cause)
        yield piece
    if not _parsed(parser, b"", last=True):
        raise refused(cause)


def _parsed(parser: expat.XMLParserType, piece: bytes, *, last: bool = False) -> bool:
    try:
        parser.Parse(piece, last)
    except expat.ExpatError:
        return False
    return True
