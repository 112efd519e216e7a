"""Downloaded files, row by row, of which one column is written anew and all else stays to the character."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Final

import msgspec

_MOST: Final = 1 << 20
"""Most characters of a record."""
_DELIMITERS: Final = (",", ";", "\t")
_SEALED: Final = re.compile(r"cf[0-9]+\.")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\Z")


class BadExtract(Exception):
    """The file is not what it should be; the message holds nothing of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One record."""

    text: str
    """As the file has it, with its end."""
    cell: str
    """What is to be given back; '' where there is nothing."""
    members: dict[str, Any]
    """What else the file says of the row, but for other sealed cells."""
    parts: Sequence[str]
    """For the extract: of what it is made."""

    @property
    def size(self) -> int:
        """About how much of a question it takes."""
        return 2 * len(self.text) + 64


class Extract(ABC):
    """A file of one format."""

    head: str = ""
    """What stands before the rows."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Its records, one after another; raises BadExtract."""

    @abstractmethod
    def written(self, row: Row, type_: str, value: str) -> str:
        """The record with a value of that type in the place of its cell."""


def extract_of(kind: str, source: IO[str], field: str) -> Extract:
    """The file's records; raises BadExtract where it has no such field."""
    return CsvExtract(source, field) if kind == "csv" else NdjsonExtract(source, field)


class CsvExtract(Extract):
    """CSV (RFC 4180) with a header; its delimiter is found in that."""

    def __init__(self, source: IO[str], field: str) -> None:
        self._records = _records(source)
        self.head = next(self._records, "")
        bare = self.head.removeprefix("\ufeff").rstrip("\r\n")
        for delimiter in _DELIMITERS:
            self._cell = re.compile(rf'"(?:[^"]|"")*"|[^"{delimiter}]*')
            self._delimiter = delimiter
            with suppress(BadExtract):
                self._names = [_bare(cell) for cell in self._cut(bare)]
                if field in self._names:
                    break
        else:
            raise BadExtract(f"it has no column `{field}` in its header")
        if len(set(self._names)) != len(self._names):
            raise BadExtract("two columns of its header have one name")
        self._place = self._names.index(field)

    def rows(self) -> Iterator[Row]:
        """Its records."""
        for text in self._records:
            line = text.rstrip("\r\n")
            parts = self._cut(line)
            if len(parts) != len(self._names):
                raise BadExtract("a record has not as many cells as the header")
            cells = [_bare(part) for part in parts]
            members = {
                name: cell
                for name, cell in zip(self._names, cells, strict=True)
                if not _SEALED.match(cell)
            }
            members.pop(self._names[self._place], None)
            parts.append(text[len(line) :])
            yield Row(text=text, cell=cells[self._place], members=members, parts=parts)

    def written(self, row: Row, type_: str, value: str) -> str:  # noqa: ARG002 - CSV has no types
        """The record with the value, in quotes where it needs them."""
        *cells, end = row.parts
        if any(mark in value for mark in ('"', "\r", "\n", self._delimiter)):
            value = '"' + value.replace('"', '""') + '"'
        return self._delimiter.join([*cells[: self._place], value, *cells[self._place + 1 :]]) + end

    def _cut(self, line: str) -> list[str]:
        """The cells of a record, as they are written."""
        cells, at = [], 0
        while True:
            matched = self._cell.match(line, at)
            assert matched is not None  # it matches nothing as well
            cells.append(matched[0])
            at = matched.end()
            if at == len(line):
                return cells
            if line[at] != self._delimiter:
                raise BadExtract("a cell is not quoted as CSV is")
            at += 1


class NdjsonExtract(Extract):
    """NDJSON: an object a line."""

    def __init__(self, source: IO[str], field: str) -> None:
        self._source = source
        self._field = field

    def rows(self) -> Iterator[Row]:
        """Its records."""
        while text := self._source.readline(_MOST):
            if not text.strip():
                continue
            try:
                members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
                cell = msgspec.json.decode(members[self._field])
            except (msgspec.DecodeError, KeyError):
                raise BadExtract(f"a line is no object with a member `{self._field}`") from None
            stated = {
                name: member
                for name, member in members.items()
                if name != self._field and bytes(member)[:1] not in (b"{", b"[")
                and not _SEALED.match(bytes(member)[1:].decode())
            }  # fmt: skip
            parts = [
                part
                for name, member in members.items()
                for part in (json.dumps(name, ensure_ascii=False), bytes(member).decode())
            ]
            end = text[len(text.rstrip("\r\n")) :]
            cell = cell if isinstance(cell, str) else ""
            yield Row(text=text, cell=cell, members=stated, parts=[*parts, end])

    def written(self, row: Row, type_: str, value: str) -> str:
        """The object with the value: a number or Boolean where it is one, else a text."""
        *parts, end = row.parts
        plain = (type_ in ("integer", "decimal") and _NUMBER.match(value)) or type_ == "boolean"
        token = value if plain else json.dumps(value, ensure_ascii=False)
        own = json.dumps(self._field, ensure_ascii=False)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        members = [f"{name}:{token if name == own else member}" for name, member in pairs]
        return "{" + ",".join(members) + "}" + end


def _records(source: IO[str]) -> Iterator[str]:
    """CSV's records with their ends: lines, joined where a line end is within quotes."""
    record = ""
    while line := source.readline(_MOST):
        record += line
        if len(record) > _MOST:
            raise BadExtract("a record is too long")
        if record.count('"') % 2 == 0:
            yield record
            record = ""
    if record:
        raise BadExtract("it ends within quotes")


def _bare(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if cell.startswith('"') else cell
