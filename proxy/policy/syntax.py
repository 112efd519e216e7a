"""The line syntax of policy.csv, grants.csv and lockdown.csv: bytes -> records with positions.

    p,  role:analyst, sales/*, read, env.purpose in ['audit', 'reconcile'], allow

One rule a line; commas separate, but not within '…', (…) and […]; `''` writes a quote within '…';
blanks (space, tab) around a cell are trimmed; `#` at the start of a line makes it a comment. There
is no CSV quoting (RFC 4180 is *not* what this is). UTF-8 without a byte order mark; lines end in LF
or CRLF, the last one too, so that a file cut off within a line is seen to be one.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

from proxy.documents import is_utf16
from proxy.errors import Fault

MAX_BYTES: Final = 64 << 20
"""Most bytes of one file; 100,000 rules take about eight million."""
MAX_LINE: Final = 16_384
"""Most characters of one line."""

_BLANKS = " \t"
_QUOTING = "close it with `'`; a name that holds a quote is written `'O''Brien'`"
_BOM = b"\xef\xbb\xbf"
_MARKS = re.compile(r"[,'()\[\]]")
_NESTING = ("'", "(", "[", ")", "]")
_CELL = re.compile(
    r"""
    , ( [^,'()\[\]]*+
        (?: (?: '[^']*+' | \((?:[^'()\[\]]++|'[^']*+')*+\) | \[(?:[^'()\[\]]++|'[^']*+')*+\] )
            [^,'()\[\]]*+
        )*+ )
    """,
    re.VERBOSE,
)
"""A cell whose brackets hold no others, after its comma."""
_CLOSES = {"(": ")", "[": "]"}
_FORBIDDEN = re.compile(
    # Controls, separators that other programs break lines at, marks that reorder what is shown.
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)


class Record(NamedTuple):
    """One line that is a rule: its cells' trimmed texts, and where it stands."""

    file: str
    line: int
    raw: str
    cells: tuple[str, ...]

    def column(self, cell: int) -> int:
        """The column (from 1) at which the text of cell number `cell` starts, or the line's end."""
        starts = [0] + [end + 1 for end in _separators(self.raw)[0]]
        if cell >= len(starts):
            return len(self.raw) + 1
        start = starts[cell]
        while start < len(self.raw) and self.raw[start] in _BLANKS:
            start += 1
        return start + 1

    def fault(self, message: str, hint: str = "", *, cell: int = 0, offset: int = 0) -> Fault:
        """A fault at `offset` characters into the text of cell number `cell`."""
        return Fault(
            file=self.file,
            line=self.line,
            column=self.column(cell) + offset,
            message=message,
            hint=hint,
        )


def read(file: str, data: bytes) -> tuple[list[Record], list[Fault]]:
    """The records of a file and everything wrong with its characters and brackets.

    Each line is a record, a comment, blank, or a fault: none is skipped.
    """
    if len(data) > MAX_BYTES:
        return [], [
            Fault(
                file=file, message=f"is larger than {MAX_BYTES >> 20} MiB", hint="split the policy"
            )
        ]
    if is_utf16(data):  # each of its lines would be a fault
        hint = "save it as UTF-8 without BOM"
        return [], [Fault(file=file, message="is UTF-16", hint=hint)]
    records: list[Record] = []
    faults: list[Fault] = []
    if data.startswith(_BOM):
        data = data[len(_BOM) :]
        faults.append(
            Fault(
                file=file,
                line=1,
                column=1,
                message="starts with a byte order mark",
                hint="save it as UTF-8 without BOM",
            )
        )
    lines = data.split(b"\n")
    if lines[-1]:
        faults.append(
            Fault(
                file=file,
                line=len(lines),
                column=len(lines[-1].decode("utf-8", "replace")) + 1,
                message="the last line has no end",
                hint="end the file with a newline; a file that ends within a line may be cut off",
            )
        )
    else:
        lines.pop()
    for number, content in enumerate(lines, 1):
        try:
            found = _record(file, number, content)
        except _Wrong as wrong:
            column, message, hint = wrong.args
            faults.append(
                Fault(file=file, line=number, column=column + 1, message=message, hint=hint)
            )
        else:
            if found is not None:
                records.append(found)
    return records, faults


class _Wrong(Exception):
    """What is wrong with a line: where (from 0), a message and a hint."""


def _record(file: str, number: int, content: bytes) -> Record | None:
    """One line; None for a comment or blank line; raises _Wrong."""
    try:
        raw = content.removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        column = len(content[: error.start].decode())
        message = f"byte `0x{content[error.start]:02x}` is not UTF-8"
        raise _Wrong(column, message, "save it as UTF-8") from None
    if len(raw) > MAX_LINE:
        raise _Wrong(MAX_LINE, f"the line is longer than {MAX_LINE} characters", "split the rule")
    # No forbidden character is printable, and to ask that is quick.
    if not raw.isprintable() and (forbidden := _FORBIDDEN.search(raw)):
        character = forbidden.group()
        name = unicodedata.name(character, "a control character").lower()
        message = f"`U+{ord(character):04X}` is not allowed"
        raise _Wrong(forbidden.start(), message, f"take it out: it is {name}")
    if raw.startswith("#"):
        return None
    text = raw.strip(_BLANKS)
    if not text:
        return None
    if text.startswith("#"):
        message = "a comment begins at the start of its line"
        raise _Wrong(raw.index("#"), message, "take out the blanks before `#`")
    return Record(file, number, raw, tuple([cell.strip(_BLANKS) for cell in _cells(raw)]))


def _cells(raw: str) -> list[str]:
    """The texts between the separating commas; raises _Wrong."""
    for mark in _NESTING:
        if mark in raw:
            break
    else:
        return raw.split(",")
    cells: list[str] = _CELL.findall("," + raw)
    if sum(map(len, cells)) + len(cells) == 1 + len(raw):
        return cells
    # Brackets within brackets, or something is wrong with them.
    ends, wrong = _separators(raw)
    if wrong is not None:
        raise _Wrong(*wrong)
    return [raw[a + 1 : b] for a, b in zip([-1, *ends], [*ends, len(raw)], strict=True)]


def _separators(raw: str) -> tuple[list[int], tuple[int, str, str] | None]:
    """Where the separating commas stand, and the first bracket or quote without its partner."""
    ends: list[int] = []
    opened: list[tuple[str, int]] = []
    quoted: int | None = None
    began, closed = -2, -2
    for mark in _MARKS.finditer(raw):
        at, character = mark.start(), mark.group()
        if character == "'":
            if quoted is None:
                # `''` within a text closes it and opens it again.
                quoted = began if at == closed + 1 else at
            else:
                began, closed, quoted = quoted, at, None
        elif quoted is not None:
            continue
        elif character == ",":
            if not opened:
                ends.append(at)
        elif character in _CLOSES:
            opened.append((character, at))
        elif opened and _CLOSES[opened[-1][0]] == character:
            opened.pop()
        else:
            return ends, (at, f"`{character}` closes nothing", "take it out, or open it before")
    if quoted is not None:
        return ends, (quoted, "the text that begins here has no end", _QUOTING)
    if opened:
        character, at = opened[-1]
        return ends, (at, f"`{character}` is never closed", f"close it with `{_CLOSES[character]}`")
    return ends, None
