"""Parquet files <-> record batches.

A file is read from its end, so it is put aside as a whole; then the columns that are asked for are read,
page by page. What is given has row groups, pages, dictionaries and statistics of its own rows alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

import pyarrow.parquet as pq
from pyarrow import types as is_

from proxy.batch import PLAIN, Batch
from proxy.formats.arrow_rows import TypedEncoder
from proxy.formats.arrow_source import Source, by_library
from proxy.formats.arrow_types import is_text, value_type, written
from proxy.formats.base import (
    Columns,
    Decoder,
    Expansion,
    Format,
    Limits,
    Reading,
    Work,
    refused,
)
from proxy.formats.parquet_footer import ChunkAt, Footer, footer_of
from proxy.formats.parquet_pages import Chunk, Encoding, chunk_of
from proxy.formats.thrift import Malformed
from proxy.report import Dialect, FormatName
from proxy.spool import Spool

_MAGIC, _ENCRYPTED = b"PAR1", b"PARE"
_TAIL: Final = struct.Struct("<i4s")
_LEAST: Final = len(_MAGIC) + _TAIL.size
_BUFFER: Final = 64 << 10
_ROWS: Final = 16 << 10
"""Most rows that are read at once."""
_AT_ONCE: Final = 16 << 20
"""Most bytes of numbers that are read at once."""
_PER_NUMBER: Final = 16
_CODED: Final = frozenset({Encoding.PLAIN_DICTIONARY, Encoding.RLE_DICTIONARY})


class ParquetDecoder(Decoder):
    """Parquet, put aside -> batches of the columns in `reads`."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self._reading = reading
        self._begin = b""
        self._spool: Spool | None = None

    def _cut(self, blocks: Sequence[bytes]) -> list[Work]:
        for block in blocks:
            self._put_aside(block)
        return []

    def _put_aside(self, block: bytes) -> None:
        if len(self._begin) < len(_MAGIC):
            self._begin += block[: len(_MAGIC) - len(self._begin)]
            if self._begin == _ENCRYPTED:
                raise refused("encrypted")
            if not _MAGIC.startswith(self._begin):
                raise refused("parquet-malformed")
        if self._spool is None:
            self._spool = self._reading.spools.open()
        self._spool.write(block)

    def close(self) -> None:
        """Let go of the spool."""
        if self._spool is not None:
            self._spool.close()

    def _finish(self) -> Iterator[Work]:
        spool, limits = self._spool, self._reading.limits
        if spool is None or spool.size < _LEAST:
            raise refused("truncated")
        size, magic = _TAIL.unpack(spool.read(spool.size - _TAIL.size, _TAIL.size))
        if magic == _ENCRYPTED:
            raise refused("encrypted")
        if magic != _MAGIC:
            raise refused("truncated")
        if size > limits.footer_bytes:
            raise refused("envelope-too-large")
        if not 0 < size <= spool.size - _LEAST:
            raise refused("parquet-malformed")
        footer = footer_of(spool.read(spool.size - _TAIL.size - size, size), limits.fields)
        file = _File(spool, footer, limits)
        source = self._open(file)
        return self._works(file, source, spool.size)

    def _open(self, file: _File) -> Source:
        """Take the schema."""
        reading = self._reading
        source = Source(file.schema, reading)
        given = frozenset(source.names)
        self._lacks(given, reading.report.fields)
        if not reading.reads <= given:
            raise refused("column-missing")
        self._drift(source.names, reading.report.fields)
        self.source_types = source.source_types
        return source

    def _works(self, file: _File, source: Source, size: int) -> Iterator[Work]:
        expansion = Expansion(self._reading.limits)
        expansion.grow(size)
        names = list(source.places)
        for group in range(len(file.footer.groups)):
            for found in file.read(group, names, expansion):
                expansion.spend(found.nbytes + found.num_rows)
                for batch in source.batches(found):
                    yield partial(_given, batch)


def _given(batch: Batch) -> list[Batch]:
    return [batch]


class _File:
    """A file that is put aside, by pyarrow; each step raises SourceRefused."""

    def __init__(self, spool: Spool, footer: Footer, limits: Limits) -> None:
        self.footer = footer
        self._spool = spool
        self._limits = limits
        file = by_library(self._reader, "parquet-malformed")
        self.schema = by_library(lambda: file.schema_arrow, "parquet-malformed")
        """The pyarrow.Schema of it."""
        self._readers: dict[tuple[str, ...], Any] = {(): file}
        self._places: dict[str, list[int]] = {}
        for place, leaf in enumerate(footer.leaves):
            if leaf.plain:
                self._places.setdefault(leaf.name.decode(errors="replace"), []).append(place)

    def _reader_of(self, coded: tuple[str, ...]) -> Any:
        """The last one, where it is that one: to open a file is to parse its footer."""
        if coded not in self._readers:
            self._readers = {coded: self._reader(coded)}
        return self._readers[coded].reader

    def _reader(self, coded: Sequence[str] = ()) -> Any:
        """A pyarrow ParquetFile; of `coded` columns, each distinct text is read once."""
        return pq.ParquetFile(
            self._spool.file,
            read_dictionary=list(coded),
            buffer_size=_BUFFER,
            pre_buffer=False,
            thrift_string_size_limit=self._limits.footer_bytes,
            thrift_container_size_limit=self._limits.footer_bytes,
            page_checksum_verification=True,
            arrow_extensions_enabled=True,
        )

    def read(self, group: int, names: Sequence[str], expansion: Expansion) -> Iterator[Any]:
        """The pyarrow.RecordBatches of a row group."""
        rows = self.footer.groups[group].rows
        if not names:
            for start in range(0, rows, _ROWS):
                yield _Rows(min(_ROWS, rows - start))
            return
        if not rows:
            return
        columns = [self._leaf(name) for name in names]
        chunks = self._chunks(group, columns)
        if chunks is None:
            raise refused("parquet-malformed")
        if sum(chunk.held for chunk in chunks) > self._limits.row_group_bytes:
            raise refused("row-group-too-large")
        expansion.spend(sum(chunk.total for chunk in chunks))
        texts = [is_text(value_type(self.schema.field(name).type)) for name in names]
        coded = [
            name
            for name, chunk, text in zip(names, chunks, texts, strict=True)
            if text and chunk.encodings & _CODED
        ]
        most = self._at_once([c for c, text in zip(chunks, texts, strict=True) if text], len(names))
        found = self._batches(group, columns, coded, most)
        while (batch := by_library(partial(next, found, None), "parquet-malformed")) is not None:
            yield batch

    def _leaf(self, name: str) -> int:
        """Which column of the file it is; raises SourceRefused where that is not sure."""
        found = self._places.get(name, [])
        if len(found) != 1:
            raise refused("column-type")
        return found[0]

    def _chunks(self, group: int, columns: Sequence[int]) -> list[Chunk] | None:
        """What each column's pages take; None where they are malformed."""
        places = self.footer.groups[group].chunks
        try:
            return [self._chunk(places[n]) for n in columns]
        except Malformed:
            return None

    def _chunk(self, place: ChunkAt) -> Chunk:
        if place.start < len(_MAGIC) or place.start + place.size > self._spool.size:
            raise Malformed
        return chunk_of(self._spool.read, place.start, place.size, place.values)

    def _at_once(self, texts: Sequence[Chunk], width: int) -> int:
        """How many rows may be read at once.

        Where a text is told by what it shares with the one before, each may be as long as its page.
        """
        most = min(_ROWS, _AT_ONCE // (_PER_NUMBER * width))
        shared = sum(c.largest for c in texts if Encoding.DELTA_BYTE_ARRAY in c.encodings)
        if shared:
            most = min(most, self._limits.row_group_bytes // shared)
        return max(most, 1)

    def _batches(
        self, group: int, columns: Sequence[int], coded: Sequence[str], most: int
    ) -> Iterator[Any]:
        reader = by_library(lambda: self._reader_of(tuple(coded)), "parquet-malformed")
        return by_library(
            lambda: iter(
                reader.iter_batches(
                    most, row_groups=[group], column_indices=list(columns), use_threads=False
                )
            ),
            "parquet-malformed",
        )


class _Rows:
    """So many rows of no column."""

    nbytes = 0

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows


class ParquetEncoder(TypedEncoder):
    """Batches -> Parquet."""

    most_rows = 64 << 10
    most_bytes = 16 << 20

    def __init__(self, columns: Columns, dialect: Dialect) -> None:  # noqa: ARG002 - leaves nothing open
        """Raises ValueError without columns."""
        super().__init__(columns)
        self._writer: Any = None

    def _open(self) -> Any:
        if self._writer is None:
            if any(is_.is_decimal(each) and each.scale < 0 for each in self.schema.types):
                raise refused("column-type")  # Parquet has none of tens
            self._writer = pq.ParquetWriter(self._sink, self.schema, compression="zstd")
        return self._writer

    def _write(self, division: Any) -> None:
        self._open().write_batch(division, row_group_size=division.num_rows)

    def _close(self) -> None:
        self._open().close()


_MEDIA_TYPE: Final = "application/vnd.apache.parquet"
PARQUET: Final = Format(
    name=FormatName.PARQUET,
    media_type=_MEDIA_TYPE,
    store_types=frozenset({_MEDIA_TYPE, "application/x-parquet"}),
    parameters={},
    block_size=2 << 20,
    written=written(),
    lexis=PLAIN,
    decoder=ParquetDecoder,
    encoder=ParquetEncoder,
    typed=True,
    compressed=True,
)
