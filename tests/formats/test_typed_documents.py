"""Arrow and Parquet as stores send them: whole, in pieces, cut off, with junk, of other types, and hostile."""

from __future__ import annotations

import io
import struct
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given as by
from hypothesis import settings
from hypothesis import strategies as st

from proxy.errors import SourceRefused
from proxy.formats import CAUSES, Limits
from proxy.formats.arrow_messages import Messages
from proxy.report import FormatName
from proxy.values import Type
from tests.formats.documents import CUTS, bytewise, cut, rows
from tests.formats.typed import TYPED, decoder, document, parquet, stream, table_of
from tests.harness.streams import ended, feed

ARROW, PARQUET = FormatName.ARROW, FormatName.PARQUET
TABLE = pa.table(
    {
        "n": pa.array([1, None, -3] * 5, pa.int32()),
        "t": pa.array(["a", "", None] * 5).dictionary_encode(),
        "d": pa.array([Decimal("1.10"), Decimal("-0.05"), None] * 5, pa.decimal128(9, 2)),
    }
)
TYPES = {"n": Type.INTEGER, "t": Type.TEXT, "d": Type.DECIMAL}
CELLS = [("1", "a", "1.10"), (None, "", "-0.05"), ("-3", None, None)] * 5
DOCUMENTS = {
    "arrow": (ARROW, stream(TABLE, rows=7)),
    "arrow-zstd": (ARROW, stream(TABLE, rows=4, options=pa.ipc.IpcWriteOptions(compression="zstd"))),
    "arrow-lz4": (ARROW, stream(TABLE, options=pa.ipc.IpcWriteOptions(compression="lz4"))),
    "parquet": (PARQUET, parquet(TABLE)),
    "parquet-v2": (PARQUET, parquet(TABLE, data_page_version="2.0", row_group_size=4, compression="zstd")),
    "parquet-delta": (
        PARQUET,
        parquet(
            TABLE.set_column(1, "t", TABLE["t"].cast(pa.string())), use_dictionary=False,
            column_encoding={"n": "DELTA_BINARY_PACKED", "t": "DELTA_BYTE_ARRAY", "d": "PLAIN"},
        ),
    ),
}  # fmt: skip


def read(format_, pieces, types=TYPES, **options):
    """The cells, row by row."""
    reader = decoder(format_, types, **options)
    try:
        batches = [batch for piece in pieces for batch in feed(reader, piece)]
        return rows([*batches, *ended(reader)], options.get("reads") or types)
    finally:
        reader.close()


def outcome(format_, pieces, types=TYPES, **options):
    """The cells, or the cause of the refusal, which holds no data."""
    try:
        return read(format_, pieces, types, **options)
    except SourceRefused as failure:
        refusal = failure
    assert refusal.__context__ is None and str(refusal) == CAUSES[refusal.cause]
    return refusal.cause


@pytest.mark.parametrize("name", DOCUMENTS)
@settings(max_examples=10)
@by(places=CUTS)
def test_a_document_is_read_alike_however_it_comes(name, places):
    format_, body = DOCUMENTS[name]
    assert read(format_, [body]) == read(format_, cut(body, places)) == CELLS


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_read_byte_by_byte(name):
    format_, body = DOCUMENTS[name]
    assert read(format_, bytewise(body)) == CELLS


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_ends_early_is_refused_wherever_it_ends(name):
    """At each offset, also between two messages: the end of a stream must be there."""
    format_, body = DOCUMENTS[name]
    step = 1 if len(body) < 2_000 else 3
    for end in [*range(0, len(body), step), len(body) - 1]:
        found = outcome(format_, [body[:end]])
        assert found in ("truncated", "parquet-malformed", "envelope-too-large"), end


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize(
    "junk", [b"\0", b"canary", b"\xff\xff\xff\xff\0\0\0\0", b"PAR1", b"\0" * 64]
)
def test_what_follows_a_document_refuses_it(name, junk):
    format_, body = DOCUMENTS[name]
    assert outcome(format_, [body + junk]) in (
        "arrow-malformed",
        "truncated",
        "parquet-malformed",
        "envelope-too-large",
    )
    assert outcome(format_, [body, junk]) == outcome(format_, [body + junk])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_only_what_is_asked_for_is_read(name):
    """Also nothing at all: then there are records without columns."""
    format_, body = DOCUMENTS[name]
    assert read(format_, [body], reads=["d"]) == [(d,) for *_, d in CELLS]
    reader = decoder(format_, TYPES, reads=[])
    batches = [*feed(reader, body), *ended(reader)]
    assert sum(batch.height for batch in batches) == 15 and not any(b.cells for b in batches)


# ── schemas ──

PHYSICAL = {
    "integer": pa.int64(), "unsigned": pa.uint8(), "whole": pa.decimal128(9, 0), "decimal": pa.decimal128(9, 2),
    "floating": pa.float64(), "boolean": pa.bool_(), "date": pa.date32(), "milliseconds": pa.date64(),
    "instant": pa.timestamp("us", "UTC"), "local": pa.timestamp("ns"), "text": pa.string(), "nothing": pa.null(),
    "coded": pa.dictionary(pa.int8(), pa.string()), "binary": pa.binary(), "fixed": pa.binary(4),
    "list": pa.list_(pa.int32()), "struct": pa.struct({"a": pa.int32()}), "time": pa.time64("us"),
    "map": pa.map_(pa.string(), pa.int32()), "duration": pa.duration("s"),
    "interval": pa.month_day_nano_interval(), "union": pa.sparse_union([pa.field("a", pa.int32())]),
    "runs": pa.run_end_encoded(pa.int32(), pa.int64()), "zone": pa.timestamp("us", "a zone with blanks"),
    "binary-coded": pa.dictionary(pa.int32(), pa.binary()), "large-list": pa.large_list(pa.int8()),
}  # fmt: skip
READABLE = {
    Type.TEXT: {"integer", "unsigned", "whole", "decimal", "floating", "boolean", "date", "milliseconds", "instant", "local"},
    Type.INTEGER: {"integer", "unsigned", "whole"},
    Type.DECIMAL: {"integer", "unsigned", "whole", "decimal", "floating"},
    Type.BOOLEAN: {"boolean"},
    Type.DATE: {"date", "milliseconds"},
    Type.DATETIME: {"instant", "local"},
}  # fmt: skip


@pytest.mark.parametrize("format_", TYPED)
@pytest.mark.parametrize("name", PHYSICAL)
def test_a_column_is_read_only_as_what_it_can_be(format_, name):
    """F58: unions, nested, binary, durations and what else is no declared type; unread, it is no matter."""
    table = pa.table([pa.array([1]), pa.nulls(1, PHYSICAL[name])], names=["a", "b"])
    try:
        body = document(format_, table)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, OSError):
        return  # Parquet has no such type
    for declared, able in READABLE.items():
        ok = name in able | {"text", "coded", "nothing"}
        found = outcome(format_, [body], {"a": Type.INTEGER, "b": declared})
        assert found == ([("1", None)] if ok else "column-type"), declared
    assert read(format_, [body], {"a": Type.INTEGER, "b": Type.TEXT}, reads=["a"]) == [("1",)]


@pytest.mark.parametrize("format_", TYPED)
def test_an_extension_is_not_taken_for_what_it_is_stored_as(format_):
    """F58: known to the library or not."""
    unknown = pa.field("a", pa.string(), metadata={"ARROW:extension:name": "acme.secret"})
    body = document(format_, pa.table([pa.array(["x"])], schema=pa.schema([unknown])))
    assert outcome(format_, [body], {"a": Type.TEXT}) == "column-type"
    known = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1], pa.int8()))
    body = document(format_, pa.table({"a": known}))
    assert outcome(format_, [body], {"a": Type.BOOLEAN}) == "column-type"


@pytest.mark.parametrize("format_", TYPED)
def test_names_are_those_of_the_catalogue_to_the_character(format_):
    """F51: another case, a blank, a look-alike or a second column of one name."""
    for name in ("N", "n ", "ո", "\ufeffn", "n\0"):
        body = document(format_, pa.table({name: [1]}))
        assert outcome(format_, [body], {"n": Type.INTEGER}) == "column-missing"
    twice = pa.table([pa.array([1]), pa.array([2])], names=["n", "n"])
    assert outcome(format_, [document(format_, twice)], {"n": Type.INTEGER}) == "column-duplicated"
    other = pa.table([pa.array([1]), pa.array([2]), pa.array([3])], names=["n", "x", "x"])
    assert outcome(format_, [document(format_, other)], {"n": Type.INTEGER}) == "column-duplicated"


@pytest.mark.parametrize("format_", TYPED)
def test_what_is_otherwise_than_declared_is_told_of(format_):
    body = document(format_, pa.table({"n": [1], "new": [2]}))
    reader = decoder(format_, {"n": Type.INTEGER, "old": Type.TEXT}, reads=["n"])
    feed(reader, body), ended(reader)
    assert reader.compared and reader.undeclared == {"new"} and reader.vanished == {"old"}
    assert reader.source_types == {"n": pa.int64()}


def test_columns_whose_names_have_points_are_not_taken_for_nested_ones():
    """Parquet names what is nested by points too."""
    flat = pa.table({"a.b": [1], "a": [2]})
    assert read(PARQUET, [parquet(flat)], {"a.b": Type.INTEGER, "a": Type.INTEGER}) == [("1", "2")]
    mixed = pa.table({"a": pa.array([{"b": 7}]), "a.b": [1]})
    assert read(PARQUET, [parquet(mixed)], {"a.b": Type.INTEGER}) == [("1",)]
    assert outcome(PARQUET, [parquet(mixed)], {"a": Type.TEXT}) == "column-type"


@pytest.mark.parametrize("format_", TYPED)
def test_dates_and_times_have_years_of_four_digits(format_):
    for cells in (
        pa.array([-719_163], pa.date32()), pa.array([2_932_897], pa.date32()),
        pa.array([253_402_300_800], pa.timestamp("s")), pa.array([-62_135_596_800_001], pa.timestamp("ms")),
    ):  # fmt: skip
        declared = Type.DATE if pa.types.is_date(cells.type) else Type.DATETIME
        body = document(format_, pa.table({"a": cells}))
        assert outcome(format_, [body], {"a": declared}) == "time-out-of-range"


# ── streams ──


def test_dictionaries_that_grow_or_are_replaced_hold_for_what_follows():
    def coded(values, codes):
        return pa.record_batch(
            [pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(values))], ["a"]
        )

    for deltas in (True, False):
        sink = io.BytesIO()
        batches = [coded(["x"], [0, 0]), coded(["x", "y"], [1, None]), coded(["z"], [0])]
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
        with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
            for batch in batches:
                writer.write_batch(batch)
        assert read(ARROW, [sink.getvalue()], {"a": Type.TEXT}) == [
            (v,) for v in ("x", "x", "y", None, "z")
        ]
        assert read(ARROW, bytewise(sink.getvalue()), {"a": Type.TEXT})[-1] == ("z",)


def test_a_big_endian_stream_is_refused():
    (message,) = Messages(Limits()).cut(_schema_message(endianness=0))
    assert message.kind == 1
    with pytest.raises(SourceRefused) as failure:
        list(Messages(Limits()).cut(_schema_message(endianness=1)))
    assert failure.value.cause == "big-endian"


def _schema_message(*, endianness: int) -> bytes:
    """A message with a schema of nothing but its byte order, by hand."""
    schema = struct.pack("<HHHxxihxx", 6, 8, 4, 8, endianness)
    message = struct.pack("<HHHHHH", 12, 16, 0, 4, 8, 0) + struct.pack("<iBxxxI4x", 12, 1, 16)
    head = struct.pack("<I", 16) + message
    head = struct.pack("<I", 16) + struct.pack("<HHHHH", 10, 16, 0, 4, 8) + b"\0\0"
    head += struct.pack("<iBxxxI4x", 12, 1, 8 + 8)
    at_schema = len(head) + 8
    head = head[:-8] + struct.pack("<I", at_schema - (len(head) - 8)) + head[-4:]
    head += schema
    head += b"\0" * (-len(head) % 8)
    return b"\xff\xff\xff\xff" + struct.pack("<i", len(head)) + head


def test_an_old_stream_a_file_and_a_second_schema_are_refused():
    body = stream(TABLE)
    assert outcome(ARROW, [body[4:]]) == "arrow-malformed"
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    assert outcome(ARROW, [sink.getvalue()]) == "arrow-malformed"
    assert outcome(ARROW, [body[:-8] + body]) == "arrow-malformed"


# ── limits ──


@pytest.mark.parametrize("format_", TYPED)
def test_what_is_over_a_limit_is_refused_before_it_is_made(format_):
    wide = pa.table({f"c{n}": [1] for n in range(6)})
    assert (
        outcome(format_, [document(format_, wide)], {"c0": Type.INTEGER}, limits=Limits(fields=5))
        == "too-many-fields"
    )
    long = pa.table({"a": ["x" * 1_000, None]})
    assert (
        outcome(
            format_, [document(format_, long)], {"a": Type.TEXT}, limits=Limits(record_bytes=900)
        )
        == "record-too-large"
    )
    many = pa.table({"a": [str(n) * 100 for n in range(2_000)]})
    small = Limits(row_group_bytes=100_000)
    assert (
        outcome(format_, [document(format_, many)], {"a": Type.TEXT}, limits=small)
        == "row-group-too-large"
    )
    assert (
        outcome(
            format_, [document(format_, many)], {"a": Type.TEXT}, limits=Limits(footer_bytes=100)
        )
        == "envelope-too-large"
    )


def test_what_a_dictionary_says_many_times_counts_as_often():
    """F47: one long value in every row takes no room in the store's document, and much here."""
    coded = pa.DictionaryArray.from_arrays(
        pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 10_000])
    )
    table = pa.table({"a": coded})
    small = Limits(row_group_bytes=2 << 20)
    assert outcome(ARROW, [stream(table)], {"a": Type.TEXT}, limits=small) == "row-group-too-large"
    parquet_ = parquet(table, write_statistics=False)
    assert len(parquet_) < 5_000
    assert outcome(PARQUET, [parquet_], {"a": Type.TEXT}, limits=small) == "row-group-too-large"


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_compressed_body_is_measured_before_it_is_decompressed(compression):
    """F47: by what each buffer says of itself."""
    table = pa.table({"a": pa.array([0] * 1_000_000, pa.int64())})
    body = stream(table, options=pa.ipc.IpcWriteOptions(compression=compression))
    assert len(body) < 100_000
    limits = Limits(row_group_bytes=1 << 20)
    assert outcome(ARROW, [body], {"a": Type.INTEGER}, limits=limits) == "row-group-too-large"
    limits = Limits(row_group_bytes=30_000_000, expansion=1)
    twice = stream(
        pa.concat_tables([table, table]), options=pa.ipc.IpcWriteOptions(compression=compression)
    )
    assert outcome(ARROW, [twice], {"a": Type.INTEGER}, limits=limits) == "expands-too-much"


def test_a_parquet_page_is_measured_before_it_is_decompressed():
    """F47: a page of zeros, and texts that share all with the one before."""
    zeros = parquet(
        pa.table({"a": pa.array([0] * 2_000_000, pa.int64())}), use_dictionary=False, compression="zstd",
        data_page_size=1 << 30, write_statistics=False, max_rows_per_page=1 << 30,
    )  # fmt: skip
    assert len(zeros) < 20_000
    limits = Limits(row_group_bytes=4 << 20)
    assert outcome(PARQUET, [zeros], {"a": Type.INTEGER}, limits=limits) == "row-group-too-large"
    limits = Limits(row_group_bytes=20 << 20, expansion=1)
    assert outcome(PARQUET, [zeros], {"a": Type.INTEGER}, limits=limits) == "expands-too-much"
    shared = parquet(
        pa.table({"a": ["x" * 50_000] * 2_000}), use_dictionary=False, column_encoding={"a": "DELTA_BYTE_ARRAY"},
        write_statistics=False,
    )  # fmt: skip
    assert len(shared) < 200_000
    before = pa.total_allocated_bytes()
    found = outcome(
        PARQUET, [shared], {"a": Type.TEXT}, limits=Limits(row_group_bytes=8 << 20, expansion=10**6)
    )
    assert len(found) == 2_000 and pa.total_allocated_bytes() - before < 1 << 20


def test_an_encrypted_file_is_refused():
    """What Parquet writes instead of its own name, at either end."""
    body = parquet(pa.table({"n": [1]}))
    assert outcome(PARQUET, [b"PARE" + body[4:]], {"n": Type.INTEGER}) == "encrypted"
    assert outcome(PARQUET, [body[:-4] + b"PARE"], {"n": Type.INTEGER}) == "encrypted"


@pytest.mark.parametrize("name", DOCUMENTS)
@settings(max_examples=60)
@by(data=st.data())
def test_a_damaged_document_is_read_or_refused_and_nothing_else(name, data):
    """No crash, no other error, no value that could not stand in its column."""
    format_, body = DOCUMENTS[name]
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        damaged[place] = data.draw(
            st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, data.draw(st.integers(0, 255))])
        )
    found = outcome(format_, [bytes(damaged)], limits=Limits(row_group_bytes=1 << 20))
    assert isinstance(found, str) or all(len(row) == 3 for row in found)


@pytest.mark.parametrize("format_", TYPED)
def test_text_that_is_not_utf_8_is_refused(format_):
    offsets = pa.py_buffer(struct.pack("<ii", 0, 2))
    cells = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xc3\x28")])
    body = document(format_, pa.table({"a": cells}))
    assert outcome(format_, [body], {"a": Type.TEXT}) == f"{format_}-malformed"


def test_offsets_and_codes_outside_their_buffers_are_refused():
    """A hostile store reads nothing of the process's memory."""
    body = stream(pa.table({"a": ["ab", "cd"]}))
    offsets = struct.pack("<iii", 0, 2, 4)
    assert body.count(offsets) == 1
    hostile = body.replace(offsets, struct.pack("<iii", 0, 2_000_000, 4_000_000))
    assert outcome(ARROW, [hostile], {"a": Type.TEXT}) == "arrow-malformed"
    codes = pa.DictionaryArray.from_arrays(
        pa.array([0, 9_999], pa.int32()), pa.array(["x"]), safe=False
    )
    assert outcome(ARROW, [stream(pa.table({"a": codes}))], {"a": Type.TEXT}) == "arrow-malformed"


def test_parquet_written_by_others_is_read(tmp_path):
    """DuckDB, Polars and pandas; dictionaries, plain pages, and their kinds of compression."""
    import duckdb
    import pandas as pd
    import polars as pl

    wanted = [(str(n), f"t{n % 5}", f"{n}.50") for n in range(3_000)]
    table = pa.table(
        {
            "n": range(3_000),
            "t": [t for _, t, _ in wanted],
            "d": pa.array([Decimal(d) for *_, d in wanted], pa.decimal128(9, 2)),
        }
    )
    duckdb.from_arrow(table).write_parquet(str(tmp_path / "duck"), compression="snappy")
    pl.from_arrow(table).write_parquet(tmp_path / "polars", compression="zstd", row_group_size=700)
    table.to_pandas().to_parquet(tmp_path / "pandas", compression="gzip")
    pd.DataFrame({"n": [1]})
    for name in ("duck", "polars", "pandas"):
        assert read(PARQUET, [(tmp_path / name).read_bytes()]) == wanted, name
    sink = io.BytesIO()
    pl.from_arrow(table).write_ipc_stream(sink, compression="zstd")
    assert read(ARROW, [sink.getvalue()]) == wanted
    assert table_of(PARQUET, (tmp_path / "duck").read_bytes()).num_rows == 3_000
    assert pq.read_metadata(tmp_path / "polars").num_row_groups > 1


def test_a_footer_that_contradicts_itself_does_not_end_the_process():
    """The library's view of a column throws where nobody catches it, if its statistics of sizes are wrong."""
    body = bytearray(parquet(TABLE))
    size = int.from_bytes(body[-8:-4], "little")
    start = len(body) - 8 - size
    for place in range(start, start + size):
        for value in (0, body[place] ^ 1, 0x19, 0x2C):
            damaged = bytes(body[:place]) + bytes([value]) + bytes(body[place + 1 :])
            if value != body[place] and place % 3 == value % 3:
                found = outcome(PARQUET, [damaged])
                assert isinstance(found, str) or len(found) <= 15


def test_numbers_of_absurd_scale_are_refused():
    """What would be written with millions of zeros is no decimal that can be read."""
    body = stream(pa.table({"a": pa.nulls(1, pa.decimal128(9, 0x1234567))}))
    assert outcome(ARROW, [body], {"a": Type.DECIMAL}) == "column-type"
