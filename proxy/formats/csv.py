"""CSV (RFC 4180, with LF or CRLF line ends and any one-character delimiter) <-> record batches.

`csv_text` proves that a block is RFC 4180 and says where its fields are; `csv_lines` cuts out the
columns and records that are asked for, and runs of fields where they pass untouched. All fields are
text: `007` and `1.10` stay. A field without anything is null (no value); `""` is the empty text; both
are written back so. In a document of one column, a blank line is a null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from proxy.batch import PLAIN, Batch
from proxy.few import FEW, Few
from proxy.formats.base import (
    Columns,
    Decoder,
    Encoder,
    Format,
    Reading,
    Work,
    done,
    refused,
)
from proxy.formats.charsets import Transcoder
from proxy.formats.csv_lines import Header, Lines, quoted
from proxy.formats.csv_text import Scan, fields, record_end, scan
from proxy.formats.formulas import neutral_column, none_begins
from proxy.formats.pieces import woven
from proxy.formulas import neutral
from proxy.report import Dialect, FormatName, Formulas
from proxy.texts import Coded, Texts, texts
from proxy.texts import column as column_of
from proxy.values import Type

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_SMALL: Final = 16 << 10
"""Below it, slicing fields out one by one costs less than to work on columns."""


def _delimiter(dialect: Dialect) -> str:
    """The dialect's delimiter; raises ValueError where it could be mistaken for anything else."""
    delimiter = dialect.delimiter
    if (
        len(delimiter) != 1
        or not delimiter.isascii()
        or delimiter.isalnum()
        or delimiter in '"\r\n\0'
    ):
        raise ValueError("a delimiter is one ASCII character: no letter, digit, quote or line end")
    return delimiter


class CsvDecoder(Decoder):
    """CSV blocks -> batches of the fields in `reads`."""

    def __init__(self, reading: Reading) -> None:
        """Raises ValueError where the dialect's delimiter is none."""
        super().__init__()
        self._delimiter = _delimiter(reading.dialect)
        self._transcoder = Transcoder(reading.dialect.charset)
        self._fields = reading.report.fields
        self._types = reading.report.types
        self._reading = reading
        self._limits = reading.limits
        self._rest = b""
        self._begun = False
        self._header: Header | None = None

    def _cut(self, blocks: Sequence[bytes]) -> list[Work]:
        buffer = b"".join((self._rest, *map(self._transcoder.feed, blocks)))
        if self._header is None:
            return done(self._records(buffer))
        end = record_end(buffer)
        if not end or len(buffer) - end > self._limits.record_bytes:
            return done(self._records(buffer))
        self._rest = buffer[end:]
        return [self._later(partial(self._block, self._header, buffer, end))]

    def _block(self, header: Header, buffer: bytes, end: int) -> list[Batch]:
        """The batch of the records up to `end`, which is where a record ends if quotes are well-formed."""
        found = scan(buffer, ord(self._delimiter), width=header.width)
        if found.cut != end:
            raise refused("quotes-malformed")
        self._check(buffer, found)
        return self._batches(header, buffer, found)

    def _finish(self) -> Iterator[Work]:
        batches = []
        self._rest += self._transcoder.feed(b"", final=True)
        if self._rest:
            if self._rest.endswith(b"\r"):
                raise refused("bare-carriage-return")
            batches = self._records(self._rest + b"\n")
            if self._rest:
                raise refused("truncated")
        if self._header is None:
            raise refused("header-missing")
        return iter(done(batches))

    def _records(self, buffer: bytes) -> list[Batch]:
        """The batch of all complete records of `buffer`; what is left stays in `_rest`."""
        if not self._begun:
            if len(buffer) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(buffer):
                self._rest = buffer
                return []
            buffer = buffer.removeprefix(_BYTE_ORDER_MARK)
            self._begun = True

        header = self._header
        width = 0 if header is None else header.width
        found = scan(buffer, ord(self._delimiter), width=width)
        self._check(buffer, found)
        self._rest = buffer[found.cut :]
        if not found.cut:
            return []
        if header is not None:
            return self._batches(header, buffer, found)
        places = found.separators[: found.width].tolist()
        self._header = self._open(buffer, places)
        return self._batches(self._header, buffer, found, start=places[-1] + 1)

    def _check(self, buffer: bytes, found: Scan) -> None:
        """Raise SourceRefused for what no record may be or hold, or for what is too long to become one."""
        if max(found.longest, len(buffer) - found.cut) > self._limits.record_bytes:
            raise refused("record-too-large")
        if found.nul:
            raise refused("nul-character")
        if not found.utf8:
            raise refused("not-utf-8")

    def _batches(self, header: Header, buffer: bytes, found: Scan, start: int = 0) -> list[Batch]:
        """The batch of the records from `start` on, where the header ends if it is in the buffer."""
        if not found.alike:
            raise refused("field-count")
        height = found.height - (start > 0)
        if not height:
            return []
        if found.cut - start <= _SMALL and height <= FEW:
            places = found.separators[-height * header.width :].tolist()
            cells = {
                name: Few(fields(buffer, start, places, index, header.width))
                for name, index in header.wanted.items()
            }
            return [Batch(cells, height=height, lexis=PLAIN, types=self._types, few=True)]
        unread = Lines.of(header, buffer, found, first=start)
        return [Batch({}, height=height, lexis=PLAIN, types=self._types, unread=unread)]

    def _open(self, buffer: bytes, places: Sequence[int]) -> Header:
        """Take the header, of which `places` end the fields."""
        width = len(places)
        if width > self._limits.fields:
            raise refused("too-many-fields")
        names = [fields(buffer, 0, places, index, width)[0] or "" for index in range(width)]
        wanted = self._columns_of(names, self._fields, self._reading)
        return Header(delimiter=self._delimiter, width=width, wanted=wanted)


class CsvEncoder(Encoder[bytes]):
    """Batches -> CSV with LF line ends, quoted only where needed."""

    def __init__(self, columns: Columns, dialect: Dialect) -> None:
        """Raises ValueError without columns, or where the dialect's delimiter is none."""
        if not columns:
            raise ValueError("a document has columns")
        self._columns = columns
        self._delimiter = _delimiter(dialect)
        self._neutral = dialect.formulas is Formulas.NEUTRALISE
        self._special = re.compile("[" + re.escape('"\r\n' + self._delimiter) + "]")
        names = [self._field(column.name, Type.TEXT) for column in columns]
        self._head = (self._delimiter.join(names) + "\n").encode()

    def encode(self, batch: Batch) -> bytes:
        """The batch's records as lines."""
        if not batch.height:
            return b""
        if batch.few:
            void = batch.repeated(None)
            rows = zip(
                *(
                    [self._field(cell, column.type) for cell in batch.plain(column.name) or void]
                    for column in self._columns
                ),
                strict=True,
            )
            return "".join([f"{self._delimiter.join(row)}\n" for row in rows]).encode()
        lines = batch.unread if isinstance(batch.unread, Lines) else None
        if lines is not None and not lines.written_as(self._delimiter):
            lines = None
        between = self._delimiter.encode()
        return woven(
            {
                name: None if self._passes(name, lines) else self._written(batch, name, type_)
                for name, type_, *_ in self._columns
            },
            [b"", *[between] * (len(self._columns) - 1)],
            b"\n",
            source=lines,
            height=batch.height,
        )

    def _passes(self, name: str, lines: Lines | None) -> bool:
        """Whether a column is written as it stands."""
        if lines is None or name not in lines.names:
            return False
        return not self._neutral or none_begins(lines.firsts(name))

    def _written(self, batch: Batch, name: str, type_: Type) -> Texts | Coded | bytes:
        coded = batch.coded(name) if batch.lexis is PLAIN else None
        if coded is not None:
            coded = Coded(self._quoted(coded.distinct, type_), coded.codes)
            return coded if coded.everywhere is None else coded.everywhere
        cells = batch.characters(name)
        return b"" if cells is None else self._quoted(cells, type_)

    def _quoted(self, cells: Texts, type_: Type) -> Texts:
        if self._neutral:
            cells = texts(neutral_column(column_of(cells), type_))
        return quoted(cells, self._delimiter)

    def join(self, records: bytes) -> bytes:
        """The lines, after the header where they are the first."""
        head, self._head = self._head, b""
        return head + records if head else records

    def _field(self, cell: str | None, type_: Type) -> str:
        """A cell as it is written: quoted where needed, and where it is the empty text."""
        if cell is None:
            return ""
        if self._neutral:
            cell = neutral(cell, type_)
        if not cell or self._special.search(cell):
            return '"' + cell.replace('"', '""') + '"'
        return cell

    def finish(self) -> bytes:
        """Nothing, or the header of a document without records."""
        head, self._head = self._head, b""
        return head


CSV: Final = Format(
    name=FormatName.CSV,
    media_type="text/csv; charset=utf-8",
    # Datasette streams its tables as text/plain; what counts is that the header has our columns.
    store_types=frozenset(
        {"text/csv", "application/csv", "text/tab-separated-values", "text/plain"}
    ),
    parameters={"charset": frozenset({"utf-8"}), "header": frozenset({"present"})},
    block_size=4 << 20,
    written=dict.fromkeys(Type, "its text"),
    lexis=PLAIN,
    decoder=CsvDecoder,
    encoder=CsvEncoder,
)
