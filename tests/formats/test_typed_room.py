"""Arrow and Parquet documents that are short and say much: what they take is known before it is taken."""

from __future__ import annotations

import base64
import io
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proxy.errors import SourceRefused
from proxy.report import FormatName
from proxy.values import Type
from tests.formats.typed import decoder, stream
from tests.harness.streams import ended, feed

ARROW, PARQUET = FormatName.ARROW, FormatName.PARQUET
LONG = "x" * 1_000_000


def outcome(format_, body: bytes, type_: Type = Type.TEXT):
    """The number of records, or the cause of the refusal."""
    reader = decoder(format_, {"a": type_})
    try:
        return sum(batch.height for batch in [*feed(reader, body), *ended(reader)])
    except SourceRefused as refusal:
        return refusal.cause
    finally:
        reader.close()


def of_one_column(cells: pa.Array) -> bytes:
    return stream(pa.Table.from_arrays([cells], ["a"]))


def test_rows_without_a_column_s_bytes_take_room_all_the_same():
    """A record batch of nulls alone says any number of rows in three hundred bytes."""
    assert outcome(ARROW, of_one_column(pa.nulls(1_000))) == 1_000
    assert outcome(ARROW, of_one_column(pa.nulls(100 << 20))) == "row-group-too-large"


@pytest.mark.parametrize("coded", [False, True])
def test_texts_that_many_views_look_at_are_counted_before_they_are_written_out(coded):
    view = struct.pack("<i4sii", len(LONG), b"xxxx", 0, 0)
    buffers = [None, pa.py_buffer(view * 4_000), pa.py_buffer(LONG.encode())]
    views = pa.Array.from_buffers(pa.string_view(), 4_000, buffers)
    if coded:
        views = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), views)
    body = of_one_column(views)
    assert len(body) < 2_000_000
    assert outcome(ARROW, body) == "row-group-too-large"
    assert pa.default_memory_pool().max_memory() < 2 << 30


def test_views_that_are_no_one_s_text_are_nothing():
    """What stands under a null is not counted."""
    cells = pa.array(["a", None, "b" * 20], pa.string_view())
    data = bytearray(cells.buffers()[1].to_pybytes())
    data[16:32] = b"\x7f" * 16
    valid, _, *texts = cells.buffers()
    odd = pa.Array.from_buffers(pa.string_view(), 3, [valid, pa.py_buffer(bytes(data)), *texts])
    assert outcome(ARROW, of_one_column(odd)) == 3


def test_a_parquet_column_is_read_by_its_dictionary_whatever_type_it_is_said_to_have_had():
    """Arrow's schema is a remark in a Parquet file; it may say that a dictionary's texts were views."""
    coded = pa.DictionaryArray.from_arrays(pa.array([0] * 4_000, pa.int32()), pa.array([LONG]))
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": coded}), sink, write_statistics=False)
    was, said = (
        base64.b64encode(pa.schema([("a", type_)]).serialize().to_pybytes())
        for type_ in (coded.type, pa.string_view())
    )
    body = sink.getvalue()
    size = struct.unpack("<i", body[-8:-4])[0]
    before, _, after = body[:-8].partition(_binary(was))
    assert after
    grown = size + len(_binary(said)) - len(_binary(was))
    body = before + _binary(said) + after + struct.pack("<i", grown) + b"PAR1"
    assert pq.read_schema(io.BytesIO(body)).field("a").type == pa.string_view()
    assert outcome(PARQUET, body) == "row-group-too-large"
    assert pa.default_memory_pool().max_memory() < 2 << 30


def _binary(data: bytes) -> bytes:
    """As Thrift's compact protocol writes it, of 128 to 16,383 bytes."""
    return bytes([len(data) & 0x7F | 0x80, len(data) >> 7]) + data


@pytest.mark.parametrize("deltas", [False, True])
def test_a_large_dictionary_is_not_held_once_for_each_of_many_small_batches(deltas):
    """Batches that come at once are read together, after the dictionaries that are in force."""
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
    values = [f"{n:090d}" for n in range(5_000)]
    sink = io.BytesIO()
    schema = pa.schema([("a", pa.dictionary(pa.int32(), pa.string()))])
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for n in range(500):
            some = pa.array(values[: 4_500 + n] if deltas else values)
            coded = pa.DictionaryArray.from_arrays(pa.array([n], pa.int32()), some)
            writer.write_batch(pa.record_batch([coded], schema))
    reader = decoder(ARROW, {"a": Type.TEXT})
    works = reader.cut(sink.getvalue())
    assert len(works) == 1
    given = [batch.values("a").to_list() for batch in works[0]()]
    assert given == [[values[n]] for n in range(500)] and ended(reader) == []


def test_a_large_record_batch_is_given_in_pieces_as_it_is_read():
    """So the answer's first bytes need not wait for all that becomes of it, and it is held once."""
    cells = pa.array(range(3_000_000), pa.int64())
    reader = decoder(ARROW, {"a": Type.INTEGER})
    works = [work for piece in _halves(of_one_column(cells)) for work in reader.cut(piece)]
    assert len(works) > 5
    given = [batch for work in works for batch in work()]
    assert max(batch.height for batch in given) * 8 <= 4 << 20
    assert sum(batch.height for batch in given) == len(cells)
    assert given[-1].values("a").to_list()[-1] == "2999999" and ended(reader) == []


def _halves(body: bytes) -> tuple[bytes, bytes]:
    return body[: len(body) // 2], body[len(body) // 2 :]
