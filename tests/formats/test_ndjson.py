"""NDJSON: a line is one object, to the character, and nothing else is read at all."""

from __future__ import annotations

import json
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import SourceRefused
from proxy.formats import Limits, json_few
from proxy.report import FormatName
from tests.formats.documents import (
    CUTS,
    batches,
    bytewise,
    cut,
    decoder,
    dialect,
    encode,
    outcome,
    run,
)
from tests.formats.test_json import ALPHABET, CONTAINERS, MALFORMED, NAMES, SCALARS
from tests.harness.streams import ended, feed

LINES = dialect(FormatName.NDJSON)
BLANK = st.sampled_from(["", "", "", " ", "\t", "\r", "\r \t"])
"""White space that ends no line."""


TOKENS = SCALARS | CONTAINERS.filter(lambda token: "\n" not in token)


@st.composite
def documents(draw):
    """The rows' cells as tokens, and a document that writes them."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    lines, expected = [], []
    for _ in range(draw(st.integers(0, 5))):
        present = draw(st.permutations([*names, "other", "more"]))
        present = present[: draw(st.integers(0, len(present)))] if draw(st.booleans()) else names
        members, cells = [], {}
        for name in present:
            token = draw(TOKENS)
            key = json.dumps(name, ensure_ascii=draw(st.booleans()))
            members.append(f"{draw(BLANK)}{key}{draw(BLANK)}:{draw(BLANK)}{token}{draw(BLANK)}")
            cells[name] = None if token[0] in "{[n" else token
        lines.append(f"{draw(BLANK)}{{{','.join(members)}}}{draw(BLANK)}\n")
        expected.append(tuple(cells.get(name) for name in names))
    document = "".join(lines)
    if draw(st.booleans()):
        document = document.removesuffix("\n")
    return names, expected, document.encode()


@settings(max_examples=60)
@given(documents(), CUTS)
def test_each_token_is_read_to_the_character_however_the_document_is_cut(case, places):
    names, cells, document = case
    assert run(LINES, [document], names) == cells
    assert run(LINES, bytewise(document), names) == cells
    assert run(LINES, cut(document, places), names) == cells


@settings(max_examples=60)
@given(documents())
def test_an_encoded_document_holds_the_same_tokens_and_a_line_for_each_record_to_python(case):
    names, cells, document = case
    again = encode(LINES, batches(LINES, document, names), names)
    assert run(LINES, [again], names) == cells
    assert again == b"".join(line + b"\n" for line in again.split(b"\n")[:-1])
    for line, source in zip(again.splitlines(), document.split(b"\n"), strict=False):
        original = json.loads(source)
        kept = {name: original.get(name) for name in names}
        assert list(json.loads(line)) == names
        assert json.loads(line) == {
            n: None if isinstance(v, dict | list) else v for n, v in kept.items()
        }


@settings(max_examples=60)
@given(documents(), st.data())
def test_a_document_cut_off_anywhere_but_at_a_lines_end_never_ends_cleanly(case, data):
    names, cells, document = case
    length = data.draw(st.integers(0, len(document)))
    found = outcome(LINES, [document[:length]], names)
    assert found == outcome(LINES, bytewise(document[:length]), names)
    if isinstance(found, str):
        assert found in {"truncated", "line-blank"}
    else:
        assert found == cells[: len(found)]
        kept = document[:length].count(b"\n")
        assert len(found) in {kept, kept + 1}


@given(
    documents(), st.sampled_from(["x", "]", "}", "[]", "{", ",", "0", "null", '"', "\0", "\ufeff"])
)
def test_anything_after_the_document_is_refused(case, junk):
    names, _, document = case
    assert isinstance(outcome(LINES, [document + junk.encode()], names), str)
    assert isinstance(outcome(LINES, bytewise(document + junk.encode()), names), str)


def reference(document: bytes) -> int | None:
    """How many records Python's own parser, made strict, finds line by line; None where it refuses one."""

    def unique(members):
        assert len(dict(members)) == len(members)
        return dict(members)

    def refuse(_):
        raise AssertionError

    lines = document.split(b"\n")
    if not lines[-1]:
        del lines[-1]
    try:
        for line in lines:
            value = json.loads(line.decode(), object_pairs_hook=unique, parse_constant=refuse)
            json.dumps(value, ensure_ascii=False).encode()  # lone surrogates
            assert isinstance(value, dict)
    except (ValueError, AssertionError):
        return None
    return len(lines)


FRAGMENTS = [*ALPHABET, "\n", "\n", "\r\n", "},\n{", '"a":1,\n', "\n\n", '{"a":1},{"b":2}', "} \n"]


@settings(max_examples=250)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=9), st.booleans(), CUTS)
def test_what_is_read_and_what_is_refused_is_what_a_strict_parser_says_line_by_line(
    parts, wrapped, places
):
    text = "".join(parts)
    document = (f'{{"a":1}}\n{{"b":"x",{text}}}\n' if wrapped else text).encode()
    expected = reference(document)
    for pieces in ([document], bytewise(document), cut(document, places)):
        found = outcome(LINES, pieces, ["a"])
        assert (None if isinstance(found, str) else len(found)) == expected


@settings(max_examples=100)
@given(documents(), st.data())
def test_one_changed_byte_is_read_as_a_strict_parser_reads_it(case, data):
    names, _, document = case
    document = document or b"{}"
    at = data.draw(st.integers(0, len(document) - 1))
    byte = data.draw(st.sampled_from([*b'"\\{}[],: \n\r0e-\x00\x1f\x7f\xc3\xff']))
    changed = document[:at] + bytes([byte]) + document[at + 1 :]
    expected = reference(changed)
    for pieces in ([changed], bytewise(changed)):
        found = outcome(LINES, pieces, names)
        assert (None if isinstance(found, str) else len(found)) == expected


@settings(max_examples=100)
@given(documents(), st.data())
def test_a_few_lines_are_read_as_many_are(case, data):
    """Rows and refusals are the same whether lines are read one by one or all at once."""
    names, _, document = case
    document = document or b"{}"
    at = data.draw(st.integers(0, len(document) - 1))
    byte = data.draw(st.sampled_from([*b'"\\{}[],: \n\r0eE-.n\x00\x7f\xff']))
    for text in (document, document[:at] + bytes([byte]) + document[at + 1 :]):
        found = outcome(LINES, [text], names)
        with patch.object(json_few, "MOST", -1):
            assert outcome(LINES, [text], names) == found


SMUGGLED = {
    "two objects with a comma": (b'{"a":1},{"a":2}\n', "line-not-one-object"),
    "two objects": (b'{"a":1}{"a":2}\n', "line-not-one-object"),
    "two objects with a blank": (b'{"a":1} {"a":2}\n', "line-not-one-object"),
    "two objects with a carriage return": (b'{"a":1}\r{"a":2}\n', "line-not-one-object"),
    "an object over two lines": (b'{"a":1,\n"b":2}\n', "line-not-one-object"),
    "an object over two lines, the line end for a comma": (b'{"a":1\n"b":2}\n', "line-not-one-object"),
    "a line end in a string": (b'{"a":"x\ny"}\n', "line-not-one-object"),
    "a line end in a name": (b'{"a\nb":1}\n', "line-not-one-object"),
    "as many objects as lines": (b'{"a":1},{"a":"\n"}\n', "line-not-one-object"),
    "one object too many, one line end inside": (
        b'{"a":1},{"a":2}\n{"a":3\n"b":4}\n',
        "line-not-one-object",
    ),
    "an object from line to line": (b'{"a":1},{"b":1\n"c":2}\n', "line-not-one-object"),
    "a comma after the object": (b'{"a":1},\n{"a":2}\n', "json-malformed"),
    "a comma before the object": (b'{"a":1}\n,{"a":2}\n', "json-malformed"),
    "a JSON array": (b'[{"a":1},{"a":2}]\n', "record-not-object"),
    "a JSON array over lines": (b'[{"a":1},\n{"a":2}]\n', "line-not-one-object"),
    "the end of an array": (b'{"a":1}\n]\n', "json-malformed"),
    "RFC 7464's separators": (b'\x1e{"a":1}\n', "json-malformed"),
    "a blank first line": (b'\n{"a":1}\n', "line-blank"),
    "a blank line": (b'{"a":1}\n\n{"a":2}\n', "line-blank"),
    "a blank line with CRLF": (b'{"a":1}\r\n\r\n{"a":2}\r\n', "line-blank"),
    "a line of blanks": (b'{"a":1}\n \t\n{"a":2}\n', "line-blank"),
    "a blank last line": (b'{"a":1}\n\n', "line-blank"),
    "blanks at the end": (b'{"a":1}\n ', "line-blank"),
    "nothing but a line end": (b"\n", "line-blank"),
    "cut off": (b'{"a":1}\n{"a":', "truncated"),
    "cut off in a string": (b'{"a":"\xc3', "truncated"),
    "a second byte order mark": (b'{"a":1}\n\xef\xbb\xbf{"a":1}\n', "json-malformed"),
}  # fmt: skip
ARRAYS = {
    case: (document[1:-1] + b"\n", cause)
    for case, (document, cause) in MALFORMED.items()
    if document.startswith(b"[{")
    and document.endswith(b"}]")
    and b"},{" not in document
    and b"},,{" not in document
    and b"}{" not in document
    and cause != "truncated"
}
OTHERWISE = {"line end in a string": "line-not-one-object"}
MANY = b'{"a":"x","b":1}\n' * 1_000


@pytest.mark.parametrize("case", SMUGGLED)
@pytest.mark.parametrize("lead", [b"", MANY], ids=["small", "bulk"])
def test_what_is_not_one_object_a_line_is_refused_with_its_cause_however_it_is_cut(case, lead):
    document, cause = SMUGGLED[case]
    assert outcome(LINES, [lead + document], ["a", "b"]) == cause
    assert outcome(LINES, [lead, *bytewise(document)], ["a", "b"]) == cause


@pytest.mark.parametrize("case", ARRAYS)
@pytest.mark.parametrize("lead", [b"", MANY], ids=["small", "bulk"])
def test_what_is_malformed_in_an_array_is_malformed_on_a_line(case, lead):
    document, cause = ARRAYS[case]
    cause = OTHERWISE.get(case, cause)
    assert outcome(LINES, [lead + document], ["a", "b"]) == cause
    pieces = cut(document, range(0, len(document), max(1, len(document) // 17)))
    assert outcome(LINES, [lead, *pieces], ["a", "b"]) == cause


def test_line_ends_may_be_crlf_and_the_last_may_be_missing():
    for document in (b'{"a":1}\r\n{"a":2}\r\n', b'{"a":1}\n{"a":2}', b'{"a":1}\r\n{"a":2}\r'):
        for pieces in ([document], bytewise(document)):
            assert outcome(LINES, pieces, ["a"]) == [("1",), ("2",)]
    assert outcome(LINES, [b""], ["a"]) == []
    assert encode(LINES, [], ["a"]) == b""


def test_a_fault_in_a_late_line_ends_the_stream_for_good():
    good = b"".join(b'{"a":"x","b":%d}\n' % n for n in range(50_000))
    fault = good + b'{"a":"canary","b":canary}\n' + good
    found = outcome(LINES, cut(fault, range(0, len(fault), 100_003)), ["a", "b"])
    assert found == "json-malformed"
    stream = decoder(LINES, ["a"])
    with pytest.raises(SourceRefused):
        feed(stream, b'{"a":canary}\n')
    with pytest.raises(SourceRefused):
        ended(stream)


def test_large_blocks_keep_each_token_and_each_null():
    tokens = ['"é\\n"', "1.10", "null", "true", '"{},"', "-0", '""', "1E400"]
    rows = [tuple(tokens[(n * k) % 8] for k in (1, 3, 5)) for n in range(12_000)]
    for end in ("\n", " \r\n", " \n"):
        document = "".join(
            f'{{"a":{a}, "b":{b},"c" :{c}}}{end}' for a, b, c in rows
        ).encode()  # fmt: skip
        expected = [tuple(None if t == "null" else t for t in row) for row in rows]
        assert run(LINES, [document], ["a", "b", "c"]) == expected
        assert (
            run(LINES, cut(document, range(0, len(document), 300_007)), ["a", "b", "c"]) == expected
        )


def test_a_line_over_the_limit_is_refused_and_one_at_the_limit_is_not_however_it_is_cut():
    limits = Limits(record_bytes=20)
    for size, expected in ((12, [('"' + "y" * 11 + '"',)]), (13, "record-too-large")):
        document = b'{"a":"' + b"y" * (size - 1) + b'"}\n'
        for pieces in ([document], bytewise(document), cut(document, [7, 15])):
            assert outcome(LINES, pieces, ["a"], limits=limits) == expected
    assert outcome(LINES, [b'{"a":"'] + [b"y" * 9] * 5, ["a"], limits=limits) == "record-too-large"


def test_members_that_no_record_has_are_missed_once_all_records_were_seen():
    """Whichever block is read first, what vanished is what no record has."""
    stream = decoder(LINES, ["a", "b", "c"])
    works = stream.cut(b'{"a":1,"x":1}\n' * 100) + stream.cut(b'{"b":1}\n')
    works += [*stream.finish()]
    for work in works:
        work()
    assert stream.vanished == {"c"}
    assert stream.undeclared == {"x"}
