"""A short document read in one step is read, or left alone, as the general decoder reads it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.batch import Batch
from proxy.errors import SourceRefused
from proxy.formats import Limits, Reading, json_few
from proxy.formats.base import Decoder
from proxy.kernels.few import FewJson
from proxy.report import FormatName
from proxy.spool import Spools
from tests.formats.documents import decoder, dialect, outcome, report, rows
from tests.formats.test_json import ALPHABET, BLANK, CONTAINERS, NAMES, NUMBER, SCALARS, TOP
from tests.harness.streams import ended, feed

LIMITS = (
    Limits(),
    Limits(record_bytes=40),
    Limits(fields=2),
    Limits(envelope_bytes=60),
    Limits(number_length=4),
    Limits(depth=1),
)
WHITE = BLANK | st.sampled_from(["\f", "\xa0", "\ufeff"])


@st.composite
def uniform(draw) -> bytes:
    """Records of one shape, now and then with one thing that is not plain."""
    names = draw(st.lists(st.sampled_from([*NAMES, "other"]), min_size=1, max_size=4, unique=True))
    scalars = SCALARS if draw(st.booleans()) else SCALARS | CONTAINERS | NUMBER
    keys = [json.dumps(name, ensure_ascii=draw(st.booleans())) for name in names]
    records = []
    for _ in range(draw(st.integers(0, 5))):
        members = [f"{key}{draw(BLANK)}:{draw(BLANK)}{draw(scalars)}" for key in keys]
        if draw(st.integers(0, 15)) == 0:
            members = draw(st.permutations([*members, draw(st.sampled_from(members))]))
        records.append(f"{{{','.join(members)}}}")
    between = draw(st.sampled_from([",", ", ", ",\n"]))
    return f"{draw(WHITE)}[{between.join(records)}{draw(BLANK)}]{draw(WHITE)}".encode()


def generally(document: bytes, limits: Limits, junk: bytes) -> tuple[object, ...]:
    """What the decoder makes of the document in two pieces, of which none is whole."""
    at = document.find(b"[") + 1 or 1
    return seen(decoder(TOP, FIELDS, limits=limits), [document[:at], document[at:]], junk)


def seen(stream: Decoder, pieces: list[bytes], junk: bytes) -> tuple[object, ...]:
    """Rows, kinds of columns, drift; or the cause of the refusal; and what comes of more bytes."""
    batches: list[Batch] = []
    try:
        for piece in pieces:
            batches += feed(stream, piece)
        batches += feed(stream, junk)
        batches += ended(stream)
    except SourceRefused as refusal:
        return refusal.cause, [batch.height for batch in batches]
    return rows(batches, FIELDS), [(b.height, b.few) for b in batches], stream.undeclared


FIELDS = [*NAMES, "absent"]


def short(document: bytes, fields: list[str]) -> FewJson | None:
    reading = Reading(
        report=report(TOP, fields),
        dialect=TOP,
        reads=frozenset(fields),
        limits=Limits(),
        spools=Spools(most=1, most_each=1),
    )
    return json_few.Short.of(reading).read(document)


JUNK = st.sampled_from([b"", b"", b" \n", b"]", b",", b"{}", b" " * 61])


@settings(max_examples=500)
@given(uniform(), st.sampled_from(LIMITS), JUNK)
def test_a_whole_document_is_read_as_one_in_pieces(document, limits, junk):
    """Rows, drift, refusals and what may follow are equal, whichever way a document is read."""
    whole = seen(decoder(TOP, FIELDS, limits=limits), [document], junk)
    assert whole == generally(document, limits, junk)
    stream = decoder(TOP, FIELDS, limits=limits)
    batch = stream.short(document)
    if batch is None:  # then nothing of it is known
        assert seen(stream, [document], junk) == whole
    else:
        read = rows([batch], FIELDS), [(batch.height, batch.few)], stream.undeclared
        assert read == generally(document, limits, b"")


@settings(max_examples=500)
@given(uniform(), st.data())
def test_one_changed_byte_is_read_as_in_pieces(document, data):
    """The same holds for documents that are broken in one place."""
    at = data.draw(st.integers(0, len(document) - 1))
    byte = data.draw(st.sampled_from([*b'"\\{}[],: \n0eE-.n\x00\x1f\x7f\xc3\xff']))
    broken = document[:at] + bytes([byte]) + document[at + 1 :]
    whole = seen(decoder(TOP, FIELDS), [broken], b"")
    assert whole == generally(broken, Limits(), b"")


@settings(max_examples=500)
@given(st.lists(st.sampled_from(ALPHABET), max_size=9))
def test_fragments_are_read_as_in_pieces(parts):
    """The same holds for whatever fragments of JSON make up."""
    document = f'[{{"a":1,{"".join(parts)}}}]'.encode()
    assert seen(decoder(TOP, FIELDS), [document], b"") == generally(document, Limits(), b"")


@pytest.mark.parametrize(
    "document",
    [
        b'[{"a":"x","b":1.50,"c":true,"d":null}]',
        b' [\n {"a" : "\\u00e9", "b":-0},\n {"a":" [{", "b":12}\n]\n',
        '[{"é":"𝄞","":"e1","two words":0},{"é":"","":"null","two words":9}]'.encode(),
        b"[" + b",".join([b'{"a":1}'] * 64) + b"]",
    ],
)
def test_plain_documents_are_read_in_one_step(document):
    """The short road is taken by what it is for, and gives each token as it is written."""
    found = short(document, FIELDS)
    assert found is not None
    expected = json.loads(document, parse_int=str, parse_float=str)
    names = [*map(json.loads, found.names.splitlines())]
    assert found.records == len(expected)
    assert all(list(row) == names for row in expected)
    read = [name for number, name in enumerate(FIELDS) if found.there >> number & 1]
    assert read == [name for name in FIELDS if name in names]
    assert found.others == len(set(names) - set(FIELDS))
    given_back = [json.loads(each, parse_int=str, parse_float=str) for each in found.values[:-1]]
    assert given_back == [row[name] for name in read for row in expected]
    nulls = {name for number, name in enumerate(FIELDS) if found.nulls >> number & 1}
    assert nulls == {name for name in read if any(row[name] is None for row in expected)}


@pytest.mark.parametrize(
    "document",
    [
        b"[]",
        b"[{}]",
        b'[{"a":1},{"b":1}]',
        b'[{"a":1,"b":2},{"b":1,"a":2}]',
        b'[{"a":[]}]',
        b'[{"a":{\n}}]',
        b'[{"a":1e3}]',
        b'[{"\\u0061":1}]',
        b'[{"a":1,"a":2}]',
        b'[{"a":"\xff"}]',
        b'[{"a":%s}]' % (b"1" * 5_000),
        b'[{"a":1}] x',
        b"[" + b",".join([b'{"a":1}'] * 65) + b"]",
        b'[{"a":"%s"}]' % (b"x" * json_few.MOST),
        b'{"data":[{"a":1}]}',
        b"[1]",
        b"null",
        b"",
    ],
)
def test_whatever_is_not_plain_is_left_alone(document):
    """There is no answer, and no exception, where the general decoder has to look."""
    assert short(document, FIELDS) is None


def test_records_below_an_envelope_are_read_as_before():
    """An array that is not the document is none of this module's."""
    deep = dialect(FormatName.JSON, rows_at=("rows",))
    assert outcome(deep, [b'[{"a":1}]'], ["a"]) == "rows-missing"
    assert outcome(deep, [b'{"rows":[{"a":1}]}'], ["a"]) == [("1",)]
