"""The XML of a sheet on its way to a reader: how much room its cells take, and no error that gets lost.

The reader keeps a rectangle of cells, from the first to the last, so two cells can take any room at all;
it has no word for an error (`#N/A`), and of a number that is written with references (`5&#x30;`) it sees
the beginning. So cells are counted before it sees them, an error is made the text that it shows, and such
a number is refused. The XML is known to be well-formed and plain: `<` stands before names of elements only.

Nothing after the last row is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from proxy.formats.base import Limits, refused

_PREFIX: Final = rb"(?:[\w.-]+:)?"
_CELL: Final = re.compile(rb"<" + _PREFIX + rb"c(?=[\s/>])")
_ROW: Final = re.compile(rb"<" + _PREFIX + rb"row(?=[\s/>])")
_ROW_END: Final = re.compile(rb"</" + _PREFIX + rb"row\s*>")
_END: Final = re.compile(rb"</" + _PREFIX + rb"sheetData\s*>|<" + _PREFIX + rb"sheetData\s*/>")
_ODD: Final = re.compile(
    rb"<" + _PREFIX + rb"(?:row|c)(?=[\s/>])(?!(?:[^<>\"']|\"[^\"'<>]*\"|'[^\"'<>]*')*>)"
)
"""A row or cell with an attribute in which another one could seem to stand."""
_NAMED_ROW: Final = re.compile(rb"<" + _PREFIX + rb"row(?=\s)[^<>]*?\sr\s*=\s*[\"']([0-9]+)[\"']")
_NAMED_CELL: Final = re.compile(_CELL.pattern + rb"[^<>]*?\sr\s*=\s*[\"']([A-Za-z]+)([0-9]+)[\"']")
_ERROR: Final = re.compile(rb"(" + _CELL.pattern + rb"[^<]*?\st\s*=\s*)(?:\"e\"|'e')")
_SPLIT: Final = re.compile(
    _CELL.pattern
    + rb"(?![^<>]*?\st\s*=\s*[\"'](?:str|d|inlineStr)[\"'])[^<]*"
    + rb"(?:<"
    + _PREFIX
    + rb"f\b[^<]*(?:</"
    + _PREFIX
    + rb"f\s*>[^<]*)?)?<"
    + _PREFIX
    + rb"v\b[^<]*&"
)
"""What is no text, and written with a reference."""
_DIGITS: Final = 7
"""Most that a row's number has (1,048,576), and more than a column's."""
_AFTER: Final = b" >/\n\t\r"
"""What may follow an element's name."""


class Sheet:
    """One sheet, row by row; raises SourceRefused."""

    def __init__(self, limits: Limits) -> None:
        self._most_cells = limits.sheet_cells
        self._most_bytes = limits.record_bytes
        self._rows = _Extent()
        self._columns = _Extent()

    def pieces(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The sheet up to the end of its rows; what follows is looked at by nobody."""
        rest = b""
        for piece in pieces:
            rest += piece
            end = _END.search(rest)
            if end is not None:
                rest = rest[: end.end()]
            ends = [0, *(each.end() for each in _ROW_END.finditer(rest)), len(rest)]
            if max(later - earlier for earlier, later in pairwise(ends)) > self._most_bytes:
                raise refused("record-too-large")
            if end is not None:
                yield self._checked(rest)
                break
            if cut := ends[-2]:
                yield self._checked(rest[:cut])
                rest = rest[cut:]
        else:
            raise refused("sheet-malformed")
        for _ in pieces:
            pass

    def _checked(self, rows: bytes) -> bytes:
        """Some whole rows, once they are known to be within the limit."""
        if _ODD.search(rows):
            raise refused("sheet-malformed")
        cells, named_rows = _NAMED_CELL.findall(rows), _NAMED_ROW.findall(rows)
        letters = {letters for letters, _ in cells}
        digits = {digits for _, digits in cells} | set(named_rows)
        if any(len(each) > _DIGITS for each in (*letters, *digits)):
            raise refused("sheet-malformed")
        self._columns.reach(max(map(_number, letters), default=0))
        self._rows.reach(max(map(int, digits), default=0))
        self._rows.more += _count(rows, b"row", _ROW) - len(named_rows)
        if _count(rows, b"c", _CELL) > len(cells):
            widest = max(_count(row, b"c", _CELL) for row in _ROW_END.split(rows))
            self._columns.more = max(self._columns.more, widest)
        if self._rows.most * self._columns.most > self._most_cells:
            raise refused("sheet-too-large")
        if b"&" in rows and _SPLIT.search(rows):
            raise refused("sheet-malformed")
        if b'"e"' in rows or b"'e'" in rows:
            rows = _ERROR.sub(rb'\1"str"', rows)
        return rows


class _Extent:
    """How many rows, or columns, there may be: the last one named, and those without a name after it."""

    def __init__(self) -> None:
        self._named = 0
        self.more = 0

    def reach(self, number: int) -> None:
        """There is one of that number."""
        self._named = max(self._named, number)

    @property
    def most(self) -> int:
        """No more than so many."""
        return self._named + self.more


def _count(rows: bytes, name: bytes, pattern: re.Pattern[bytes]) -> int:
    """How many elements of that name begin there."""
    if b":" + name in rows:
        return len(pattern.findall(rows))
    return sum(rows.count(b"<" + name + bytes([after])) for after in _AFTER)


def _number(letters: bytes) -> int:
    """Which column `AB` is: 28; without letters none."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number
