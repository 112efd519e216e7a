"""What a format is: byte blocks -> record batches (`Decoder`), record batches -> bytes (`Encoder`).

A failed stream stays failed. A decoder accepts pieces cut anywhere and gives whole records only. It keeps
the incomplete last record, or, where a document can only be read once it is there as a whole, a bounded
spool. It reads the fields that a plan needs; the rest of the document has to be well-formed and has no
other influence. An encoder builds a new document from values; nothing of the source's own goes through.

A document that is not to the letter what the catalogue declares is refused with a cause of the table
`CAUSES`. No message holds data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, TypeAlias, TypeVar

import pyarrow as pa

from proxy.batch import Batch, Lexis, Output
from proxy.errors import SourceRefused
from proxy.report import Charset, Dialect, FormatName, Report
from proxy.spool import Spools
from proxy.values import Type

CAUSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "arrow-malformed": "the document is not an Arrow IPC stream",
        "bare-carriage-return": "a carriage return stands outside quotes without a line feed",
        "big-endian": "the document's numbers are big-endian",
        "cell-too-long": "a text is longer than a cell of a sheet may be (32,767 characters)",
        "column-duplicated": "the header names a column twice",
        "column-missing": "the header lacks a column that the answer needs",
        "column-type": "a column's type is none that the declared type can be read from",
        "column-unnamed": "the header has an empty name",
        "decoder-failed": "the document could not be decoded",
        "encrypted": "the document is encrypted",
        "envelope-too-large": "the document around the records is over the limit",
        "expands-too-much": "the document says far more than its bytes can",
        "field-count": "a record has more or fewer fields than the header",
        "header-missing": "the document has no header",
        "json-malformed": "the document is not JSON (RFC 8259)",
        "line-blank": "a line is blank where each holds an object",
        "line-not-one-object": "a line holds more or less than one object",
        "member-duplicated": "an object has two members of one name",
        "not-in-charset": "the document is not in the charset that the catalogue declares",
        "not-utf-8": "the document is not UTF-8 (RFC 3629)",
        "nul-character": "the document holds a NUL character",
        "number-too-large": "a number has too many digits or too large an exponent",
        "package-encrypted": "the document is encrypted, or of the binary format of old",
        "package-malformed": "the document is not a zip package, or not a whole one",
        "package-method": "a part of the package is compressed otherwise than by deflate",
        "package-part-twice": "two parts of the package have one name",
        "package-ratio": "a part of the package is larger than what it is packed to by more than the limit",
        "package-too-many-parts": "the package has too many parts",
        "parquet-malformed": "the document is not a Parquet file",
        "quotes-malformed": "a quote stands where RFC 4180 has none",
        "record-not-object": "a record is not an object",
        "record-too-large": "a record is over the limit",
        "row-group-too-large": "a record batch or a row group is over the limit",
        "rows-missing": "the array of records is not where the catalogue says",
        "sheet-malformed": "the sheet is not XML as a reader of workbooks takes it",
        "sheet-missing": "the workbook has no sheet of the declared name, or none that is shown",
        "sheet-too-large": "the sheet is over the limit, in bytes or in cells",
        "time-out-of-range": "a date or a time is outside the years 1 to 9999",
        "too-deep": "the document is nested too deep",
        "too-many-columns": "the answer has more columns than a sheet may have (16,384)",
        "too-many-fields": "a record has more fields than the limit",
        "too-many-rows": "the answer has more rows than a sheet may have (1,048,576)",
        "truncated": "the document ends before it is complete",
        "value-not-of-type": "a cell that is given is no value of its column's type, or does not fit it",
        "workbook-kind": "the document is no plain workbook (.xlsx), or one with macros",
        "workbook-malformed": "the workbook's parts are not plain XML, or do not say where its sheets are",
    }
)
"""Why a store's document is refused: slug -> message for the operator."""


def refused(cause: str) -> SourceRefused:
    """The refusal for one of `CAUSES`."""
    return SourceRefused(cause, CAUSES[cause])


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a store's document may at most be; memory is bounded by a block and a record."""

    record_bytes: int = 1 << 20
    """One record as written, with its line end or what separates it from the record before."""
    fields: int = 1_024
    """Columns of a header, members of an object that is a record."""
    envelope_bytes: int = 64 << 10
    """JSON: all that stands around the array of records."""
    depth: int = 64
    """JSON: containers within one another, counted from a record or from the envelope's outermost."""
    number_length: int = 4_300
    """JSON: characters of one number; the most that Python reads as an integer by default."""
    exponent: int = 400
    """JSON: the largest power of ten either way: `1E400` passes, `1e999` does not."""
    sheet_bytes: int = 64 << 20
    """XLSX: all that is unpacked of a workbook; reading it takes some four times as much memory."""
    sheet_cells: int = 2_000_000
    """XLSX: rows times columns of a sheet, up to the last of each; texts that its workbook shares."""
    sheet_ratio: int = 200
    """XLSX: how much larger a part may be than what it is packed to."""
    row_group_bytes: int = 128 << 20
    """Parquet: pages of a row group that are held at once. Arrow: a record batch; all dictionaries."""
    footer_bytes: int = 8 << 20
    """Parquet: what stands after the row groups. Arrow: what stands before the columns of a message."""
    expansion: int = 1_000
    """Parquet, Arrow: how many times its bytes a document may become, beside `row_group_bytes`."""


UNDECLARED_NAMES: Final = 16
"""Most names of undeclared columns that a decoder remembers."""

_NAME_LENGTH: Final = 64


T = TypeVar("T")
Records = TypeVar("Records")
"""What an encoder makes of some records by themselves."""
Work: TypeAlias = Callable[[], list[Batch]]
"""Gives the batches of some records; raises SourceRefused. Pure, so that some can be done at once."""


def done(batches: list[Batch]) -> list[Work]:
    """The work that is left of batches which are there: none."""
    return [lambda: batches]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a document is read for, and with."""

    report: Report
    dialect: Dialect
    """How the document is written."""
    reads: frozenset[str]
    """The fields that are asked for: a document without one of them is refused."""
    limits: Limits
    spools: Spools
    """For a document that can only be read once it is there as a whole."""
    beside: frozenset[str] = frozenset()
    """Fields that are read where the document has them."""
    made: dict[type, Any] = field(default_factory=dict, compare=False)
    """What decoders make of it once, however many documents are read."""

    @cached_property
    def wanted(self) -> frozenset[str]:
        """All fields that are read."""
        return self.reads | self.beside

    @cached_property
    def in_order(self) -> tuple[str, ...]:
        """The same, as the catalogue orders them."""
        return tuple([name for name in self.report.fields if name in self.wanted])


class Expansion:
    """How much more a document may become than its bytes; a small one may be `Limits.row_group_bytes`."""

    def __init__(self, limits: Limits) -> None:
        self._times = limits.expansion
        self._left = limits.row_group_bytes

    def grow(self, size: int) -> None:
        """So many bytes came."""
        self._left += size * self._times

    def spend(self, size: int) -> None:
        """So many bytes were made of it; raises SourceRefused."""
        self._left -= size
        if self._left < 0:
            raise refused("expands-too-much")


class Decoder(ABC):
    """Byte blocks -> batches. `cut` and `finish` raise SourceRefused, and again ever after."""

    expands: ClassVar[bool] = False
    """Whether a short document may be much work."""

    def __init__(self) -> None:
        self.undeclared: frozenset[str] = frozenset()
        """Names of columns or members that the catalogue does not declare (drift), at most 16.

        They may be data: they are compared and counted, never shown.
        """
        self.vanished: frozenset[str] | None = None
        """Declared fields that the document lacks; None where it does not say.

        A member that a record lacks is no value, and no drift; one that very many records lack is.
        """
        self.compared = False
        """Whether names of the document were held against the catalogue."""
        self.source_types: Mapping[str, pa.DataType] = {}
        """The fields' types as the document declares them, where its format does; known before the first
        batch, and before the end of a document without records."""
        self._failure: SourceRefused | None = None
        self._finished = False

    def short(self, document: bytes) -> Batch | None:  # noqa: ARG002 - most have no such road
        """All records of a whole document, before anything else was read: a short road for a short one.

        None of most documents, which then are still to be read: nothing of them is known.
        """
        return None

    def cut(self, *blocks: bytes) -> list[Work]:
        """The whole records that some blocks after one another, cut anywhere, complete.

        What does not depend on other records may be left to the work.
        """
        return self._sticky(lambda: self._cut(blocks))

    def finish(self) -> Iterator[Work]:
        """The last records, found while they are asked for; it ends only where the document is complete."""
        found = self._sticky(self._finish)
        while (work := self._sticky(partial(next, found, None))) is not None:
            yield work
        self._finished = True

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of what is held beside memory; nothing is asked for afterwards."""

    @abstractmethod
    def _cut(self, blocks: Sequence[bytes]) -> list[Work]: ...

    @abstractmethod
    def _finish(self) -> Iterator[Work]: ...

    def _later(self, work: Work) -> Work:
        """Work with whose failure the stream fails."""

        def done() -> list[Batch]:
            try:
                return work()
            except SourceRefused as failure:
                self._failure = self._failure or failure
                raise
            except BaseException:
                self._failure = self._failure or refused("decoder-failed")
                raise

        return done

    def _sticky(self, step: Callable[[], T]) -> T:
        if self._failure is not None:
            raise SourceRefused(self._failure.cause, str(self._failure))
        if self._finished:
            raise RuntimeError("the stream has ended")
        try:
            return step()
        except SourceRefused as failure:
            self._failure = failure
            raise
        except BaseException:  # polars panics are no Exception; whatever it was, never go on
            self._failure = refused("decoder-failed")
            raise

    def _columns_of(
        self, names: Sequence[str], declared: Mapping[str, object], reading: Reading
    ) -> dict[str, int]:
        """Take the names of a document's columns: which of them each field that is read is.

        Raises SourceRefused.
        """
        if "" in names:
            raise refused("column-unnamed")
        given = frozenset(names)
        if len(given) != len(names):
            raise refused("column-duplicated")
        self._lacks(given, declared)
        if not reading.reads <= given:
            raise refused("column-missing")
        # Only now: the first record of a document without header is data, not names.
        self._drift(names, declared)
        return {name: index for index, name in enumerate(names) if name in reading.wanted}

    def _drift(self, names: Iterable[str], declared: Mapping[str, object]) -> None:
        """Remember undeclared names, none that is long: what a store makes up takes no room."""
        self.compared = True
        for name in [name for name in names if name not in declared]:
            if len(self.undeclared) >= UNDECLARED_NAMES:
                break
            plain = len(name) <= _NAME_LENGTH and name.isprintable()
            self.undeclared |= {name if plain else "(a name that is long or not printable)"}

    def _lacks(self, names: AbstractSet[str], declared: Mapping[str, object]) -> None:
        """Remember the declared fields that the document does not name."""
        self.compared = True
        self.vanished = frozenset(declared.keys() - names)


class Encoder(ABC, Generic[Records]):
    """Batches -> the bytes of a new document, whose head comes with the first output.

    A batch in the encoder's own lexis gives its cells as they are, to the character; of any other,
    the values are written anew. A column that a batch does not hold is null throughout.
    """

    source_types: Mapping[str, pa.DataType] = {}
    """As of the decoder: set before the first batch is encoded, and before the end."""

    @abstractmethod
    def encode(self, batch: Batch) -> Records:
        """The batch's records alone; pure, so that batches can be encoded at once.

        Raises SourceRefused where the format has no place for a value.
        """

    @abstractmethod
    def join(self, records: Records) -> bytes:
        """What `encode` gave, in the document's order, with what stands before it.

        How the document is divided depends on the records of all calls, never on how they came.
        """

    @abstractmethod
    def finish(self) -> bytes:
        """The document's end; with the head where nothing was joined."""


Columns = Sequence[Output]
"""An answer's columns, in order."""


_CHARSETS: Final[Mapping[Charset, frozenset[str]]] = MappingProxyType(
    {
        Charset.UTF_8: frozenset({"utf-8"}),
        Charset.LATIN_1: frozenset({"iso-8859-1", "iso_8859-1", "latin1", "latin-1", "l1"}),
        Charset.WINDOWS_1252: frozenset({"windows-1252", "cp1252"}),
        Charset.UTF_16: frozenset({"utf-16"}),
        Charset.UTF_16_LE: frozenset({"utf-16le"}),
        Charset.UTF_16_BE: frozenset({"utf-16be"}),
    }
)
"""What a `Content-Type` may call each charset: its names in IANA's registry, and what is much used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """One row of the table of formats."""

    name: FormatName
    media_type: str
    """`Content-Type` of answers."""
    store_types: frozenset[str]
    """Media types under which a store may send it."""
    parameters: Mapping[str, frozenset[str]]
    """The media type parameters that a store may send, each with the values that are understood.

    A charset is of the dialect, where this names one."""
    block_size: int
    """Most bytes to feed at once."""
    written: Mapping[Type, str]
    """How an answer has a value of each type, in words."""
    lexis: Lexis
    decoder: Callable[[Reading], Decoder]
    encoder: Callable[[Columns, Dialect], Encoder[Any]]
    typed: bool = False
    """Whether its columns have one type each, so that forms of different types cannot stand in one."""
    compressed: bool = False
    """Whether its documents are compressed already, so that a content coding saves nothing."""

    def asked(self, dialect: Dialect) -> str:
        """The media type by which a store is asked for it."""
        asked, _, _ = self.media_type.partition(";")
        return self.media_type if dialect.charset is Charset.UTF_8 else asked

    def accepts(self, content_type: str, dialect: Dialect) -> bool:
        """Whether a store's `Content-Type` (RFC 9110 §8.3) declares this format, as the catalogue does.

        An unknown, repeated or malformed parameter is not understood, hence not accepted.
        """
        if content_type in self.store_types:  # as nearly all say it
            return True
        media_type, *parameters = content_type.split(";")
        if media_type.strip(" \t").lower() not in self.store_types:
            return False
        seen: set[str] = set()
        for parameter in parameters:
            name, _, value = parameter.strip(" \t").partition("=")
            name = name.lower()
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            understood = self.parameters.get(name, frozenset())
            if name == "charset" and understood:
                understood = _CHARSETS[dialect.charset]
            if name in seen or value.lower() not in understood:
                return False
            seen.add(name)
        return True
