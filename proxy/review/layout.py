"""`policy fmt`: the cells of policy files in columns, and nothing else changed."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from proxy.errors import Faulty
from proxy.policy.syntax import MAX_LINE, Record, read

_WIDEST: Final = 40
"""Characters of a cell up to which it makes its column wider; a longer one pushes its own line alone."""


_SHARED: Final = 2


def aligned(file: str, data: bytes) -> bytes:
    """The same rules, comments and blank lines in the same order; raises Faulty for a broken file.

    Each line keeps its end.
    """
    records, faults = read(file, data)
    if faults:
        raise Faulty(faults)
    by_line = {record.line: record for record in records}
    widths: dict[tuple[str, int], int] = defaultdict(int)
    for record in records:
        for at, cell in enumerate(record.cells):
            if len(cell) <= _WIDEST:
                widths[_column(record, at)] = max(widths[_column(record, at)], len(cell))
    lines = data.decode().split("\n")[:-1]
    return "".join(
        (f"{_line(by_line[number], widths)}{_end(text)}" if number in by_line else text) + "\n"
        for number, text in enumerate(lines, 1)
    ).encode()


def _end(text: str) -> str:
    """What stands before a line's LF."""
    return "\r" if text.endswith("\r") else ""


def _column(record: Record, at: int) -> tuple[str, int]:
    """What shares a width: the kind, the subject and the report of rules; else cells of one kind."""
    kind = record.cells[0]
    return ("", at) if not at or (at <= _SHARED and kind in ("p", "p2")) else (kind, at)


def _line(record: Record, widths: dict[tuple[str, int], int]) -> str:
    *cells, last = record.cells
    text = ""
    for at, cell in enumerate(cells):
        width = widths[_column(record, at)]
        text += f"{cell},".ljust(width + 2)
        if not text.endswith(" "):
            text += " "
    text += last
    return text if len(text) <= MAX_LINE else ", ".join(record.cells)
