"""Arrow and Parquet documents, and tables made of what is given in them: shared by their tests."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from proxy.batch import Output
from proxy.formats import FORMATS, Limits, Reading
from proxy.report import Dialect, Field, FormatName, Report, Store, Variant
from proxy.spool import Spools
from proxy.values import Type
from tests.harness.streams import ended, feed, joined

TYPED = (FormatName.ARROW, FormatName.PARQUET)


def stream(table: pa.Table, *, rows: int | None = None, options=None, dictionaries=False) -> bytes:
    """An Arrow IPC stream of the table, in batches of so many rows."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def parquet(table: pa.Table, **options) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def document(format_: FormatName, table: pa.Table) -> bytes:
    return stream(table) if format_ is FormatName.ARROW else parquet(table)


def table_of(format_: FormatName, body: bytes) -> pa.Table:
    """What pyarrow reads of an answer."""
    if format_ is FormatName.ARROW:
        with pa.ipc.open_stream(body) as reader:
            return reader.read_all()
    return pq.read_table(io.BytesIO(body))


def decoder(format_: FormatName, types: Mapping[str, Type], *, reads=None, limits=None, **rest):
    of = Dialect(format=format_, **rest)
    report = Report(
        id="r",
        title="A report",
        store=Store(name="s", url="http://store"),
        fields={name: Field(name=name, type=t, class_="public") for name, t in types.items()},
        variants=(Variant(path="/r", source="/r", stored=of, offers=(of,)),),
        parameters={},
    )
    return FORMATS[format_].decoder(
        Reading(
            report=report,
            dialect=of,
            reads=frozenset(types if reads is None else reads),
            limits=limits or Limits(),
            spools=Spools(most=1 << 28, most_each=1 << 28),
        )
    )


def given(
    stored: FormatName,
    pieces: Iterable[bytes],
    types: Mapping[str, Type],
    given_as: FormatName,
    outputs: Sequence[Output],
    *,
    keep=None,
    limits=None,
) -> bytes:
    """An answer: the document decoded, of each batch the rows that `keep` says, and encoded."""
    reader = decoder(stored, types, limits=limits)
    writer = FORMATS[given_as].encoder(outputs, Dialect(format=given_as))
    out = []

    def take(batches):
        writer.source_types = reader.source_types
        kept = (batch if keep is None else batch.filter(keep(batch)) for batch in batches)
        out.extend([joined(writer, batch) for batch in kept])

    try:
        for piece in pieces:
            take(feed(reader, piece))
        take(ended(reader))
    finally:
        reader.close()
    return b"".join([*out, writer.finish()])


# ── columns of every type that can be read ──

_INSTANTS = st.integers(-62_135_596_800, 253_402_300_799)


def _timestamps(unit: str, zone: str | None):
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    seconds = _INSTANTS if unit != "ns" else st.integers(-(2**62) // 10**9, 2**62 // 10**9)
    parts = st.one_of(st.just(0), st.integers(0, factor - 1))
    return st.builds(lambda s, f: s * factor + f, seconds, parts), pa.timestamp(unit, zone)


def _decimals(bits: int, precision: int, scale: int):
    make = {32: pa.decimal32, 64: pa.decimal64, 128: pa.decimal128, 256: pa.decimal256}[bits]
    values = st.integers(-(10**precision) + 1, 10**precision - 1).map(
        lambda n: Decimal((int(n < 0), tuple(map(int, str(abs(n)))), -scale))
    )
    return values, make(precision, scale)


def _integers(type_: pa.DataType, low: int, high: int):
    return st.integers(low, high), type_


_TEXTS = st.text(max_size=12)
CASES = {
    "int8": (Type.INTEGER, *_integers(pa.int8(), -128, 127)),
    "int32": (Type.INTEGER, *_integers(pa.int32(), -(2**31), 2**31 - 1)),
    "int64": (Type.INTEGER, *_integers(pa.int64(), -(2**63), 2**63 - 1)),
    "uint16": (Type.INTEGER, *_integers(pa.uint16(), 0, 2**16 - 1)),
    "uint64": (Type.INTEGER, *_integers(pa.uint64(), 0, 2**64 - 1)),
    "whole": (Type.INTEGER, *_decimals(128, 30, 0)),
    "decimal32": (Type.DECIMAL, *_decimals(32, 9, 2)),
    "decimal64": (Type.DECIMAL, *_decimals(64, 18, 8)),
    "decimal128": (Type.DECIMAL, *_decimals(128, 38, 9)),
    "decimal256": (Type.DECIMAL, *_decimals(256, 60, 30)),
    "float16": (Type.DECIMAL, st.floats(width=16), pa.float16()),
    "float32": (Type.DECIMAL, st.floats(width=32), pa.float32()),
    "float64": (Type.DECIMAL, st.floats(), pa.float64()),
    "bool": (Type.BOOLEAN, st.booleans(), pa.bool_()),
    "date32": (Type.DATE, st.dates(), pa.date32()),
    "date64": (Type.DATE, st.dates(), pa.date64()),
    "seconds": (Type.DATETIME, *_timestamps("s", None)),
    "milli": (Type.DATETIME, *_timestamps("ms", "UTC")),
    "micro": (Type.DATETIME, *_timestamps("us", None)),
    "berlin": (Type.DATETIME, *_timestamps("us", "Europe/Berlin")),
    "nano": (Type.DATETIME, *_timestamps("ns", "+02:00")),
    "string": (Type.TEXT, _TEXTS, pa.string()),
    "large_string": (Type.TEXT, _TEXTS, pa.large_string()),
}
"""Name -> declared type, values, Arrow type."""


@st.composite
def columns(draw, name: str, *, most: int = 9):
    """A column of that case: nulls with something under them, in a slice of something longer."""
    _, values, type_ = CASES[name]
    cells = draw(st.lists(st.one_of(st.none(), values), min_size=0, max_size=most))
    around = draw(st.lists(values, min_size=2, max_size=3))
    whole = pa.array([around[0], *cells, around[-1]], type_)
    return hiding(whole).slice(1, len(cells))


def hiding(cells: pa.Array) -> pa.Array:
    """The same values, with bytes under the null bitmap and behind the last value."""
    validity, *buffers = cells.buffers()
    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        filled = cells.fill_null("canary")
        buffers = filled.buffers()[1:]
        buffers[1] = pa.py_buffer((buffers[1].to_pybytes() if buffers[1] else b"") + b"canary")
    elif validity is not None and not pa.types.is_boolean(cells.type):
        data = bytearray(buffers[0].to_pybytes()[: len(cells) * cells.type.bit_width // 8])
        width = cells.type.bit_width // 8
        for place, void in enumerate(cells.is_null().to_pylist()):
            if void:
                data[place * width : (place + 1) * width] = b"\x01" * width
        buffers = [pa.py_buffer(bytes(data) + b"canary!!")]
    return pa.Array.from_buffers(cells.type, len(cells), [validity, *buffers])


def outputs(types: Mapping[str, Type], *, as_stored: bool = True) -> list[Output]:
    return [Output(name, type_, as_stored) for name, type_ in types.items()]


NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = date(2026, 3, 1)
