"""CSV (RFC 4180, with LF or CRLF line ends and any one-character delimiter) <-> record batches.

polars does the bulk of the reading, but it pads short records, keeps stray quotes, strips a byte order
mark anywhere and even unpacks what looks compressed. So nothing is given to it before this module has
proved, exactly and vectorised, that the block is RFC 4180: UTF-8, no NUL, quotes only around whole
fields, each carriage return inside quotes or before a line feed, as many fields in each record as in
the header, no record over the limit.

All fields are text: `007` and `1.10` stay. A field without anything is null (no value); `""` is the
empty text; both are written back so. In a document of one column, a blank line is a null.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from proxy.batch import PLAIN, Batch
from proxy.few import FEW, Cells, Few
from proxy.formats.base import Columns, Decoder, Encoder, Format, Limits, is_utf8, refused
from proxy.formats.scan import Offsets, longest, positions
from proxy.report import FormatName, Report, Variant

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_QUOTE, _LF, _CR = b'"\n\r'
_SMALL: Final = 16 << 10
"""Below it, slicing fields out costs less than to start polars' reader (0.3 ms)."""


def _delimiter(variant: Variant) -> str:
    """The variant's delimiter; raises ValueError where it could be mistaken for anything else."""
    delimiter = variant.delimiter
    if (
        len(delimiter) != 1
        or not delimiter.isascii()
        or delimiter.isalnum()
        or delimiter in '"\r\n\0'
    ):
        raise ValueError("a delimiter is one ASCII character: no letter, digit, quote or line end")
    return delimiter


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scan:
    """Where the complete records of a buffer end, and the separators that stand outside quotes."""

    ends: Offsets
    """The offset after each record's line feed."""
    kinds: bytes
    """The delimiters and line feeds outside quotes, in order, up to the last record's end."""
    separators: Offsets | None
    """Their offsets; None where no quote stands in the buffer and it is large."""

    @property
    def cut(self) -> int:
        """Where the incomplete record begins."""
        return int(self.ends[-1]) if len(self.ends) else 0


def _scan_plain(buffer: bytes, delimiter: int) -> _Scan:
    """Scan a buffer without quotes."""
    ends = positions(np.frombuffer(buffer, np.uint8), b"\n") + 1
    cut = int(ends[-1]) if len(ends) else 0
    if b"\r" in buffer and buffer.count(b"\r", 0, cut) != buffer.count(b"\r\n", 0, cut):
        raise refused("bare-carriage-return")
    drop = bytes(set(range(256)) - {delimiter, _LF})
    return _Scan(ends=ends, kinds=buffer[:cut].translate(None, drop), separators=None)


def _scan_quoted(buffer: bytes, delimiter: int) -> _Scan:
    """Scan a buffer that begins at a record's start, and check its quotes (RFC 4180 §2.5 to 2.7).

    Quotes open and close by turns. One that opens stands at a field's start, or right after one that
    closes (`""` inside quotes); after one that closes comes a quote, a delimiter or a line end.
    """
    data = np.frombuffer(buffer, np.uint8)
    marks = positions(data, bytes((_QUOTE, delimiter, _LF)))
    kinds = data[marks]
    is_quote = kinds == _QUOTE
    quotes = marks[is_quote]
    opening, closing = quotes[0::2], quotes[1::2]

    beside = np.zeros(256, np.bool_)
    beside[[delimiter, _LF, _QUOTE]] = True
    if len(opening) and opening[0] == 0:
        opening = opening[1:]
    if not beside[data[opening - 1]].all():
        raise refused("quotes-malformed")
    if len(closing) and closing[-1] == len(buffer) - 1:
        closing = closing[:-1]  # what follows has not come yet
    beside[_CR] = True
    if not beside[data[closing + 1]].all():
        raise refused("quotes-malformed")

    outside = ~(np.bitwise_xor.accumulate(is_quote) | is_quote)
    separators, kinds = marks[outside], kinds[outside]
    line_feeds = np.flatnonzero(kinds == _LF)
    whole = int(line_feeds[-1]) + 1 if len(line_feeds) else 0
    ends = separators[line_feeds] + 1
    cut = int(ends[-1]) if len(ends) else 0

    if b"\r" in buffer:
        returns = positions(data[:cut], b"\r")
        bare = returns[data[returns + 1] != _LF]
        if not (np.searchsorted(quotes, bare) & 1).all():
            raise refused("bare-carriage-return")
    return _Scan(ends=ends, kinds=kinds[:whole].tobytes(), separators=separators[:whole])


class CsvDecoder(Decoder):
    """CSV blocks -> batches of the fields in `reads`."""

    def __init__(
        self, report: Report, variant: Variant, reads: frozenset[str], limits: Limits
    ) -> None:
        """Raises ValueError where the variant's delimiter is none."""
        super().__init__()
        self._delimiter = _delimiter(variant)
        self._fields = report.fields
        self._types = {name: field.type for name, field in report.fields.items()}
        self._reads = reads
        self._limits = limits
        self._rest = b""
        self._begun = False
        self._width = 0
        """Columns of the header; 0 until it has come."""
        self._wanted: list[tuple[int, str]] = []
        self._head = b""

    def _feed(self, block: bytes) -> list[Batch]:
        return self._records(self._rest + block)

    def _finish(self) -> list[Batch]:
        batches = []
        if self._rest:
            if self._rest.endswith(b"\r"):
                raise refused("bare-carriage-return")
            batches = self._records(self._rest + b"\n")
            if self._rest:
                raise refused("truncated")
        if not self._width:
            raise refused("header-missing")
        return batches

    def _records(self, buffer: bytes) -> list[Batch]:
        """The batch of all complete records of `buffer`; what is left stays in `_rest`."""
        if not self._begun:
            if len(buffer) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(buffer):
                self._rest = buffer
                return []
            buffer = buffer.removeprefix(_BYTE_ORDER_MARK)
            self._begun = True

        plain = len(buffer) > _SMALL and b'"' not in buffer
        scan = (_scan_plain if plain else _scan_quoted)(buffer, ord(self._delimiter))
        cut = scan.cut
        if max(longest(scan.ends), len(buffer) - cut) > self._limits.record_bytes:
            raise refused("record-too-large")
        self._rest = buffer[cut:]
        if not cut:
            return []
        if buffer.find(b"\0", 0, cut) >= 0:
            raise refused("nul-character")
        if not is_utf8(memoryview(buffer)[:cut]):
            raise refused("not-utf-8")

        start = skip = 0
        if not self._width:
            start = int(scan.ends[0])
            skip = self._width = scan.kinds.index(b"\n") + 1
            self._open(buffer[:start])
        height = len(scan.ends) - bool(start)
        record = (self._delimiter * (self._width - 1) + "\n").encode()
        if scan.kinds[skip:] != record * height:
            raise refused("field-count")
        if not height:
            return []
        cells: Mapping[str, Cells]
        few = scan.separators is not None and cut - start <= _SMALL and height <= FEW
        if few and scan.separators is not None:
            separators = scan.separators[skip:].reshape(height, self._width)
            cells = self._slice(buffer, start, separators)
        else:
            cells = self._parse(buffer, start, cut, height)
        return [Batch(cells, height=height, lexis=PLAIN, types=self._types, few=few)]

    def _open(self, record: bytes) -> None:
        """Take the header."""
        if self._width > self._limits.fields:
            raise refused("too-many-fields")
        lines = csv.reader(io.StringIO(record.decode(), newline=""), delimiter=self._delimiter)
        names = next(lines) or [""]
        if "" in names:
            raise refused("column-unnamed")
        if len(set(names)) != len(names):
            raise refused("column-duplicated")
        if not self._reads <= set(names):
            raise refused("column-missing")
        self._wanted = [(index, name) for index, name in enumerate(names) if name in self._reads]
        self._head = (self._delimiter.join(map(str, range(self._width))) + "\n").encode()
        # Only now: the first record of a document without header is data, not names.
        self._drift(names, self._fields)

    def _slice(self, buffer: bytes, start: int, separators: Offsets) -> dict[str, Few]:
        """The wanted columns, field by field."""
        ends = separators.ravel().tolist()
        starts = [start, *(end + 1 for end in ends[:-1])]
        cells = {}
        for index, name in self._wanted:
            column: list[str | None] = []
            for place in range(index, len(ends), self._width):
                field = buffer[starts[place] : ends[place]]
                if index == self._width - 1:
                    field = field.removesuffix(b"\r")
                if field.startswith(b'"'):
                    column.append(field[1:-1].replace(b'""', b'"').decode())
                else:
                    column.append(field.decode() or None)
            cells[name] = Few(column)
        return cells

    def _parse(self, buffer: bytes, start: int, cut: int, height: int) -> dict[str, pl.Series]:
        """The wanted columns, by polars."""
        if not self._wanted:
            return {}
        # A header of our own: at a document's very start polars would take a byte order mark or a
        # compressed file's first bytes for what they are not.
        document = b"".join((self._head, memoryview(buffer)[start:cut]))
        frame = None
        # The reader's message may hold data: it is not even the context of what is raised.
        with suppress(pl.exceptions.PolarsError):
            frame = pl.read_csv(
                document,
                columns=[index for index, _ in self._wanted],
                separator=self._delimiter,
                infer_schema=False,
            )
        if frame is None or frame.height != height:
            raise refused("decoder-failed")
        return {name: frame[str(index)].alias(name) for index, name in self._wanted}


class CsvEncoder(Encoder):
    """Batches -> CSV with LF line ends, quoted only where needed."""

    def __init__(self, columns: Columns, variant: Variant) -> None:
        """Raises ValueError without columns, or where the variant's delimiter is none."""
        if not columns:
            raise ValueError("a document has columns")
        self._columns = columns
        self._delimiter = _delimiter(variant)
        special = set(f'"\r\n{self._delimiter}')
        self._special = re.compile(f"[{re.escape(''.join(special))}]")
        names = (
            '"' + name.replace('"', '""') + '"' if special & set(name) or not name else name
            for name, _ in columns
        )
        self._head = (self._delimiter.join(names) + "\n").encode()

    def feed(self, batch: Batch) -> bytes:
        """The batch's records as lines."""
        head, self._head = self._head, b""
        if not batch.height:
            return head
        columns: dict[str, Cells] = {}
        for name, type_ in self._columns:
            if name not in batch.cells:
                columns[name] = batch.repeated(None)
            elif batch.lexis is PLAIN:
                columns[name] = batch.cells[name]
            else:
                columns[name] = PLAIN.write(batch.values(name), type_)
        if batch.few:
            written = ([*map(self._field, column)] for column in columns.values())
            rows = map(self._delimiter.join, zip(*written, strict=True))
            return head + "".join([f"{row}\n" for row in rows]).encode()
        lines = io.BytesIO(head)
        lines.seek(0, io.SEEK_END)
        pl.DataFrame(columns).write_csv(
            lines, include_header=False, separator=self._delimiter, batch_size=4096
        )
        return lines.getvalue()

    def _field(self, cell: str | None) -> str:
        """A cell as polars writes it: quoted where needed, and where it is the empty text."""
        if cell is None:
            return ""
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
    parameters={"charset": "utf-8", "header": "present"},
    block_size=4 << 20,
    lexis=PLAIN,
    decoder=CsvDecoder,
    encoder=CsvEncoder,
)
