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
_ROW_END: Final = re.compile(rb"</" + _PREFIX + rb"row\s*>")
_BEGIN: Final = re.compile(rb"<" + _PREFIX + rb"sheetData(?=[\s/>])")
_END: Final = re.compile(rb"</" + _PREFIX + rb"sheetData\s*>|<" + _PREFIX + rb"sheetData\s*/>")
_DIGITS: Final = 7
"""Most that a row's number has (1,048,576), and more than a column's."""


class _Names:
    """What is looked for among rows whose elements have a prefix, or have none."""

    def __init__(self, prefix: bytes) -> None:
        cell = rb"<" + prefix + rb"c(?=[\s/>])"
        either = rb"<" + prefix + rb"(?:row|c)(?=[\s/>])"
        value = rb"<" + prefix + rb"v\b[^<]*&"
        formula = rb"(?:<" + prefix + rb"f\b[^<]*(?:</" + prefix + rb"f\s*>[^<]*)?)?"
        text = rb"[^<>]*?\st\s*=\s*[\"'](?:str|d|inlineStr)[\"']"
        self.cell = re.compile(rb"<" + prefix + rb"c\b")
        self.row = re.compile(rb"<" + prefix + rb"row\b")
        self.named_row = re.compile(
            rb"<" + prefix + rb"row(?=\s)[^<>]*?\sr\s*=\s*[\"']([0-9]+)[\"']"
        )
        self.named_cell = re.compile(cell + rb"[^<>]*?\sr\s*=\s*[\"']([A-Za-z]+)([0-9]+)[\"']")
        self.apostrophe = re.compile(either + rb"[^<>']*'")
        self.odd = re.compile(either + rb"(?!(?:[^<>\"']|\"[^\"'<>]*\"|'[^\"'<>]*')*>)")
        """A row or cell with an attribute in which another one could seem to stand."""
        self.referring = re.compile(value)
        self.split = re.compile(cell + rb"(?!" + text + rb")[^<]*" + formula + value)
        """What is no text, and written with a reference."""
        self.error = re.compile(rb"(" + cell + rb"[^<]*?\st\s*=\s*)(?:\"e\"|'e')")


_BARE: Final = _Names(b"")
_PREFIXED: Final = _Names(_PREFIX)


class Sheet:
    """One sheet, row by row; raises SourceRefused."""

    def __init__(self, limits: Limits) -> None:
        self._most_cells = limits.sheet_cells
        self._most_bytes = limits.record_bytes
        self._rows = _Extent()
        self._columns = _Extent()
        self._begun = False
        """Whether the rows have."""

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
        begins = None if self._begun else _BEGIN.search(rows)
        self._begun = self._begun or begins is not None
        start = begins.end() if begins else 0  # before it, `<col>` is no cell, and nothing else is
        # Only the names of elements matter; what else has a colon costs time and no more.
        prefixed = any(f":{name}".encode() in rows for name in ("c", "row", "v", "f"))
        names = _PREFIXED if prefixed else _BARE
        if names.apostrophe.search(rows, start) and names.odd.search(rows, start):
            raise refused("sheet-malformed")
        cells, named_rows = (
            names.named_cell.findall(rows, start),
            names.named_row.findall(rows, start),
        )
        letters = {letters for letters, _ in cells}
        digits = {digits for _, digits in cells} | set(named_rows)
        if any(len(each) > _DIGITS for each in (*letters, *digits)):
            raise refused("sheet-malformed")
        self._columns.reach(max(map(_number, letters), default=0))
        self._rows.reach(max(map(int, digits), default=0))
        self._rows.more += _count(rows, names.row, start) - len(named_rows)
        if _count(rows, names.cell, start) > len(cells):
            widest = max(_count(row, names.cell, 0) for row in _ROW_END.split(rows[start:]))
            self._columns.more = max(self._columns.more, widest)
        if self._rows.most * self._columns.most > self._most_cells:
            raise refused("sheet-too-large")
        if b"&" in rows and names.referring.search(rows) and names.split.search(rows):
            raise refused("sheet-malformed")
        if b'"e"' in rows or b"'e'" in rows:
            rows = names.error.sub(rb'\1"str"', rows)
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


def _count(rows: bytes, name: re.Pattern[bytes], start: int) -> int:
    """How many elements of that name there are, at least."""
    if name.pattern.startswith(b"<("):
        return len(name.findall(rows, start))
    return rows.count(name.pattern.removesuffix(b"\\b"), start)


def _number(letters: bytes) -> int:
    """Which column `AB` is: 28; without letters none."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number
