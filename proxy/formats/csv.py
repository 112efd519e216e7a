"""CSV (RFC 4180, with LF or CRLF line ends and any one-character delimiter) <-> record batches.

polars reads what `csv_text` has proved to be RFC 4180, and only the columns and records that are
asked for. All fields are text: `007` and `1.10` stay. A field without anything is null (no value);
`""` is the empty text; both are written back so. In a document of one column, a blank line is a null.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from proxy.batch import PLAIN, Batch, Unread
from proxy.few import FEW, Cells, Few
from proxy.formats.base import Columns, Decoder, Encoder, Format, Limits, is_utf8, refused
from proxy.formats.bits import Offsets, longest, next_set
from proxy.formats.csv_text import Scan, fields, scan
from proxy.report import FormatName, Report, Variant

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_SMALL: Final = 16 << 10
"""Below it, slicing fields out costs less than to start polars' reader (0.3 ms)."""
_SPARSE: Final = 4
"""Where at most one record in so many is kept, only those are read."""
_NEAR: Final = 4
"""Fields from a record's start up to which one is cut out rather than read with all of its record."""


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
class _Header:
    """What the header says of the records under it."""

    delimiter: str
    width: int
    wanted: Mapping[str, int]
    """Field -> its place in a record."""

    @property
    def line(self) -> bytes:
        """A header of our own for polars.

        At a document's very start it would take a byte order mark or a compressed file's first bytes
        for what they are not.
        """
        return (self.delimiter.join(map(str, range(self.width))) + "\n").encode()


class _Lines(Unread):
    """Complete records, read by polars."""

    def __init__(
        self,
        header: _Header,
        text: memoryview,
        ends: Offsets,
        *,
        found: Scan | None = None,
        at: int = 0,
        kept: Offsets | None = None,
    ) -> None:
        """`ends` are the offsets after the records of `text`; `kept` the numbers of those in question.

        `found` is the scan of the buffer that `text` is in, from offset `at`.
        """
        self._header = header
        self._text = text
        self._ends = ends
        self._found = found
        self._at = at
        self._kept = kept

    @property
    def names(self) -> Collection[str]:
        """The wanted columns."""
        return self._header.wanted

    def read(self, names: Sequence[str]) -> dict[str, Cells]:
        """Raise SourceRefused where polars reads anything else than was proved."""
        header = self._header
        places = sorted(header.wanted[name] for name in names)
        frame = self._cut(places[0]) if len(places) == 1 else None
        # The reader's message may hold data: it is not even the context of what is raised.
        with suppress(pl.exceptions.PolarsError):
            if frame is None:
                frame = pl.read_csv(
                    b"".join((header.line, self._text)),
                    columns=places,
                    separator=header.delimiter,
                    infer_schema=False,
                )
        if frame is None or frame.height != len(self._ends):
            raise refused("decoder-failed")
        if self._kept is not None:
            frame = frame[self._kept]
        return {name: frame[str(header.wanted[name])].alias(name) for name in names}

    def _cut(self, place: int) -> pl.DataFrame | None:
        """One column near the records' start, without a parser; None where it is not, or has quotes."""
        if self._found is None or place >= min(_NEAR, self._header.width - 1):
            return None
        starts = self._starts() + self._at
        for _ in range(place):
            starts = next_set(self._found.delimiters, starts) + 1
        lengths = next_set(self._found.delimiters, starts) - starts
        starts -= self._at
        if (np.frombuffer(self._text, np.uint8)[starts] == ord('"')).any():
            return None
        whole = pl.Series([self._text.tobytes()], dtype=pl.Binary)
        frame = pl.DataFrame(
            {
                "text": whole.new_from_index(0, len(starts)),
                "start": pl.Series(starts),
                "length": pl.Series(lengths),
            }
        )
        field = pl.col("text").bin.slice(pl.col("start"), pl.col("length")).cast(pl.String)
        return frame.select(pl.when(pl.col("length") > 0).then(field).alias(str(place)))

    def where(self, keep: Cells) -> _Lines:
        """The records where `keep` is true; their text alone, where they are few."""
        assert isinstance(keep, pl.Series)
        kept = keep.arg_true().to_numpy().astype(np.intp)
        if self._kept is not None:
            kept = self._kept[kept]
        if len(kept) * _SPARSE > len(self._ends):
            return _Lines(
                self._header, self._text, self._ends, found=self._found, at=self._at, kept=kept
            )
        starts, ends = self._starts()[kept], self._ends[kept]
        text = self._text
        records = [text[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
        return _Lines(self._header, memoryview(b"".join(records)), np.cumsum(ends - starts))

    def _starts(self) -> Offsets:
        return np.concatenate((np.zeros(1, np.intp), self._ends[:-1]))


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
        self._header: _Header | None = None

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
        if self._header is None:
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

        found = scan(buffer, ord(self._delimiter))
        cut = found.cut
        if max(longest(found.ends), len(buffer) - cut) > self._limits.record_bytes:
            raise refused("record-too-large")
        self._rest = buffer[cut:]
        if not cut:
            return []
        if buffer.find(b"\0", 0, cut) >= 0:
            raise refused("nul-character")
        if not is_utf8(memoryview(buffer)[:cut]):
            raise refused("not-utf-8")

        start, ends, widths = 0, found.ends, found.widths()
        header = self._header
        if header is None:
            start = int(ends[0])
            header = self._header = self._open(buffer[:start], int(widths[0]))
            ends, widths = ends[1:], widths[1:]
        if (widths != header.width).any():
            raise refused("field-count")
        height = len(ends)
        if not height:
            return []
        if cut - start <= _SMALL and height <= FEW:
            places = found.separators()[-height * header.width :].tolist()
            cells = {
                name: Few(fields(buffer, start, places, index, header.width))
                for name, index in header.wanted.items()
            }
            return [Batch(cells, height=height, lexis=PLAIN, types=self._types, few=True)]
        text = memoryview(buffer)[start:cut]
        unread = _Lines(header, text, ends - start, found=found, at=start)
        return [Batch({}, height=height, lexis=PLAIN, types=self._types, unread=unread)]

    def _open(self, record: bytes, width: int) -> _Header:
        """Take the header."""
        if width > self._limits.fields:
            raise refused("too-many-fields")
        places = scan(record, ord(self._delimiter)).separators().tolist()
        names = [fields(record, 0, places, index, width)[0] or "" for index in range(width)]
        if "" in names:
            raise refused("column-unnamed")
        if len(set(names)) != len(names):
            raise refused("column-duplicated")
        if not self._reads <= set(names):
            raise refused("column-missing")
        # Only now: the first record of a document without header is data, not names.
        self._drift(names, self._fields)
        wanted = {name: index for index, name in enumerate(names) if name in self._reads}
        return _Header(delimiter=self._delimiter, width=width, wanted=wanted)


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

    def encode(self, batch: Batch) -> bytes:
        """The batch's records as lines."""
        if not batch.height:
            return b""
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
            return "".join([f"{row}\n" for row in rows]).encode()
        lines = io.BytesIO()
        pl.DataFrame(columns).write_csv(
            lines, include_header=False, separator=self._delimiter, batch_size=4096
        )
        return lines.getvalue()

    def join(self, records: bytes) -> bytes:
        """The lines, after the header where they are the first."""
        head, self._head = self._head, b""
        return head + records if head else records

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
    block_size=2 << 20,
    lexis=PLAIN,
    decoder=CsvDecoder,
    encoder=CsvEncoder,
)
