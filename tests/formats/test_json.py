"""JSON: what RFC 8259 says is read to the character, and nothing else is read at all."""

from __future__ import annotations

import json
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import proxy.formats.json
import proxy.formats.json_few
import proxy.formats.json_records
import proxy.formats.json_uniform
from proxy import kernels
from proxy.batch import Batch
from proxy.errors import SourceRefused
from proxy.formats import Limits
from proxy.formats.json import JsonDecoder
from proxy.formats.json_text import name_weight, weight
from proxy.report import FormatName
from proxy.values import Type
from tests.formats.documents import (
    CUTS,
    batches,
    bytewise,
    cut,
    decoder,
    dialect,
    encode,
    outcome,
    rows,
    run,
)
from tests.harness.streams import ended, feed

TOP = dialect(FormatName.JSON)
LINES = dialect(FormatName.NDJSON)
DEEP = dialect(FormatName.JSON, rows_at=("data", "rows"))
NAMES = ["a", "b", 'q"\\', "é", "two words", "%s", "\x01", "𝄞"]

TEXT = st.text(
    st.characters(codec="utf-8") | st.sampled_from('",:{}[]\\/\b\n\x00\x7f\u2028 é𝄞'), max_size=6
)
NUMBER = st.from_regex(
    r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2})?", fullmatch=True
)
BLANK = st.sampled_from(["", "", "", " ", "\n", "\t\r\n "])


@st.composite
def strings(draw) -> str:
    """A string token, with and without needless escapes."""
    token = ""
    for character in draw(TEXT):
        plain = json.dumps(character, ensure_ascii=draw(st.booleans()))[1:-1]
        if character == "/":
            plain = draw(st.sampled_from(["/", "\\/"]))
        elif character <= "\uffff" and draw(st.integers(0, 9)) == 0:
            plain = f"\\u{ord(character):04X}"
        token += plain
    return f'"{token}"'


SCALARS = strings() | NUMBER | st.sampled_from(["null", "true", "false"])
CONTAINERS = st.sampled_from(
    ["[]", "{}", '[1,"}"]', '{"a":1}', '{"x":[{"y":"]"}]}', '{\n "a": [\n  1\n ]\r\n}', "[[ ]]"]
)


def envelope(rows: str, path: tuple[str, ...]) -> str:
    for name in reversed(path):
        rows = f'{{"before":[{{"rows":[1]}}],{json.dumps(name)}:{rows},"after":{{"n":"}}]"}}}}'
    return rows


@st.composite
def documents(draw, *, hidden=SCALARS | CONTAINERS):
    """A dialect, the rows' cells as tokens, and a document that writes them."""
    of = draw(st.sampled_from([TOP, DEEP]))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    rows, expected = [], []
    for _ in range(draw(st.integers(0, 5))):
        present = draw(st.permutations([*names, "other", "more"]))
        present = present[: draw(st.integers(0, len(present)))] if draw(st.booleans()) else names
        members, cells = [], {}
        for name in present:
            token = draw(hidden if name in {"other", "more"} else SCALARS | CONTAINERS)
            key = json.dumps(name, ensure_ascii=draw(st.booleans()))
            members.append(f"{draw(BLANK)}{key}{draw(BLANK)}:{draw(BLANK)}{token}{draw(BLANK)}")
            cells[name] = None if token[0] in "{[n" else token
        rows.append("{" + ",".join(members) + "}")
        expected.append(tuple(cells.get(name) for name in names))
    array = f"{draw(BLANK)}[{draw(BLANK)}"
    array += f"{draw(BLANK)},{draw(BLANK)}".join(rows) + f"{draw(BLANK)}]{draw(BLANK)}"
    return of, names, expected, envelope(array, of.rows_at).encode()


@given(documents(), CUTS)
def test_each_token_is_read_to_the_character_however_the_document_is_cut(case, places):
    of, names, cells, document = case
    assert run(of, [document], names) == cells
    assert run(of, bytewise(document), names) == cells
    assert run(of, cut(document, places), names) == cells


@given(documents())
def test_an_encoded_document_holds_the_same_tokens_and_the_same_values_for_python(case):
    of, names, cells, document = case
    again = encode(of, batches(of, document, names), names)
    assert run(of, [again], names) == cells
    found, source = json.loads(again), json.loads(document)
    for name in of.rows_at:
        assert list(found) == [name]
        found, source = found[name], source[name]
    for row, original in zip(found, source, strict=True):
        kept = {name: original.get(name) for name in names}
        scalars = {n: None if isinstance(v, dict | list) else v for n, v in kept.items()}
        assert list(row) == names
        assert row == scalars


@given(documents(), st.data())
def test_a_truncated_document_never_ends_cleanly(case, data):
    of, names, _, document = case
    text = document.rstrip(b" \t\r\n")
    length = data.draw(st.integers(0, len(text) - 1))
    assert outcome(of, [text[:length]], names) == "truncated"
    assert outcome(of, bytewise(text[:length]), names) == "truncated"


@given(
    documents(), st.sampled_from(["x", "]", "}", "[]", "{}", ",", "0", "null", '"', "\0", "\ufeff"])
)
def test_anything_after_the_document_is_refused(case, junk):
    of, names, _, document = case
    assert isinstance(outcome(of, [document + junk.encode()], names), str)
    assert isinstance(outcome(of, bytewise(document + junk.encode()), names), str)


@given(documents(), st.data())
def test_members_that_are_not_read_have_no_influence_on_the_answer(case, data):
    of, names, _, document = case
    reads = data.draw(st.lists(st.sampled_from(names), unique=True))
    answer = encode(of, batches(of, document, names, reads=reads), [*reads, "none"])
    value = json.loads(document, parse_float=str, parse_int=str)
    rows = value
    for name in of.rows_at:
        rows = rows[name]
    raw = run(of, [document], reads)
    changed = []
    for row, cells in zip(rows, raw, strict=True):
        members = [
            f"{json.dumps(name)}:{cell or 'null'}" for name, cell in zip(reads, cells, strict=True)
        ]
        members += [
            f"{json.dumps(name)}: {data.draw(SCALARS | CONTAINERS)}"
            for name in data.draw(st.permutations(sorted(row)))[:2]
            if name not in reads
        ]
        changed.append("{" + ", ".join(members) + "}")
    other = envelope("[" + " , ".join(changed) + "]", of.rows_at).encode()
    assert encode(of, batches(of, other, names, reads=reads), [*reads, "none"]) == answer


def reference(document: bytes) -> list[dict[str, object]] | None:
    """The records by Python's own parser, made strict; None where they are refused."""

    def unique(members):
        assert len(dict(members)) == len(members)
        return dict(members)

    def refuse(_):
        raise AssertionError

    try:
        value = json.loads(document.decode(), object_pairs_hook=unique, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates
        assert isinstance(value, list)
        assert all(isinstance(row, dict) for row in value)
    except (ValueError, AssertionError):
        return None
    return value


ALPHABET = [
    *'[]{}",:\\ \n\x01é-.', "01", "1e3", "NaN", "null", '"a":', '"b":1', '"\\u0061":', '"',
    "\\u0062", "\\ud800", "\\x", "},{", '{"a":1}', '{"a":"x","b":"y"}', "[{", "}]", "\ufeff",
]  # fmt: skip


@settings(max_examples=600)
@given(st.lists(st.sampled_from(ALPHABET), max_size=9), st.booleans(), CUTS)
def test_what_is_read_and_what_is_refused_is_what_a_strict_parser_says(parts, wrapped, places):
    text = "".join(parts)
    document = (f'[{{"a":1}},{text}]' if wrapped else text).encode()
    expected = reference(document)
    for pieces in ([document], bytewise(document), cut(document, places)):
        found = outcome(TOP, pieces, ["a"])
        if expected is None:
            assert isinstance(found, str)
        else:
            assert len(found) == len(expected)


@settings(max_examples=300)
@given(documents(), st.data())
def test_one_changed_byte_is_read_as_a_strict_parser_reads_it(case, data):
    _, names, _, document = case
    at = data.draw(st.integers(0, len(document) - 1))
    byte = data.draw(st.sampled_from([*b'"\\{}[],: \n0e-\x00\x1f\x7f\xc3\xff']))
    changed = document[:at] + bytes([byte]) + document[at + 1 :]
    expected = reference(changed)
    found = outcome(TOP, [changed], names)
    assert isinstance(found, str) == (expected is None)
    assert isinstance(outcome(TOP, bytewise(changed), names), str) == (expected is None)


MANY = b'{"a":"x","b":1},' * 5_000

MALFORMED = {
    "empty": (b"", "truncated"),
    "blank": (b" \n", "truncated"),
    "byte order mark": (b'\xef\xbb\xbf[{"a":1}]', "json-malformed"),
    "UTF-16": ('[{"a":1}]'.encode("utf-16-le"), "json-malformed"),
    "HTML": (b"<!doctype html><title>Sign in</title>", "json-malformed"),
    "an object": (b'{"error":"no"}', "rows-missing"),
    "a scalar": (b"null", "rows-missing"),
    "a string": (b'"x"', "rows-missing"),
    "invalid UTF-8": (b'[{"a":"\xff"}]', "not-utf-8"),
    "invalid UTF-8 in a hidden member": (b'[{"a":1,"h":"\xc0\x80"}]', "not-utf-8"),
    "invalid UTF-8 in a hidden name": (b'[{"a":1,"\xed\xa0\x80":1}]', "not-utf-8"),
    "Latin-1": (b'[{"a":"\xe5"}]', "not-utf-8"),
    "duplicate": (b'[{"a":1,"a":2}]', "member-duplicated"),
    "duplicate, escaped": (b'[{"a":1,"\\u0061":2}]', "member-duplicated"),
    "duplicate, both escaped": (b'[{"\\u0061":1,"\\u0061":2}]', "member-duplicated"),
    "duplicate of a hidden member": (b'[{"a":1,"h":1,"h":1}]', "member-duplicated"),
    "duplicate of a hidden member, escaped": (b'[{"h":1,"\\u0068":2}]', "member-duplicated"),
    "duplicate in a later record": (b'[{"a":1},{"a":1},{"a":1,"a":1}]', "member-duplicated"),
    "duplicate with white space": (b'[{ "a" : 1 , "a" : 1 }]', "member-duplicated"),
    "duplicate inside a hidden member": (b'[{"a":1,"h":{"x":1,"x":2}}]', "member-duplicated"),
    "duplicate inside a field": (b'[{"a":[{"x":1,"\\u0078":2}]}]', "member-duplicated"),
    "duplicate empty name": (b'[{"":1,"":2}]', "member-duplicated"),
    "duplicate accented": ('[{"é":1,"\\u00e9":2}]'.encode(), "member-duplicated"),
    "NaN": (b'[{"a":NaN}]', "json-malformed"),
    "Infinity": (b'[{"a":-Infinity}]', "json-malformed"),
    "NaN in a hidden member": (b'[{"h":[NaN]}]', "json-malformed"),
    "lone surrogate": (b'[{"a":"\\ud800"}]', "json-malformed"),
    "lone surrogate in a hidden member": (b'[{"h":["\\udc00"]}]', "json-malformed"),
    "lone surrogate in a name": (b'[{"\\ud834":1}]', "json-malformed"),
    "control character": (b'[{"a":"\x01"}]', "json-malformed"),
    "line end in a string": (b'[{"a":"\n"}]', "json-malformed"),
    "control character in a hidden member": (b'[{"h":["\x1f"]}]', "json-malformed"),
    "invalid escape": (b'[{"a":"\\x41"}]', "json-malformed"),
    "leading zero": (b'[{"a":007}]', "json-malformed"),
    "plus": (b'[{"a":+1}]', "json-malformed"),
    "bare point": (b'[{"a":1.}]', "json-malformed"),
    "hexadecimal": (b'[{"a":0x1}]', "json-malformed"),
    "comment": (b'[{"a":1}/**/]', "json-malformed"),
    "trailing comma in a record": (b'[{"a":1,}]', "json-malformed"),
    "trailing comma": (b'[{"a":1},]', "json-malformed"),
    "leading comma": (b'[,{"a":1}]', "json-malformed"),
    "comma before the array": (b",[]", "json-malformed"),
    "colon before the array": (b" : [{}]", "json-malformed"),
    "two commas": (b'[{"a":1},,{"a":1}]', "json-malformed"),
    "no comma": (b'[{"a":1}{"a":1}]', "json-malformed"),
    "single quotes": (b"[{'a':1}]", "json-malformed"),
    "brace for a bracket": (b'[{"a":1}}', "json-malformed"),
    "bracket for a brace": (b'[{"a":1]]', "json-malformed"),
    "a second document": (b'[{"a":1}][{"a":1}]', "json-malformed"),
    "NDJSON": (b'{"a":1}\n{"a":2}\n', "rows-missing"),
    "a number as a record": (b"[1]", "record-not-object"),
    "null as the last record": (b'[{"a":1},null]', "record-not-object"),
    "null as a record": (b'[null,{"a":1}]', "record-not-object"),
    "an array as a record": (b'[["a"],{"a":1}]', "record-not-object"),
    "an array as the last record": (b'[{"a":1},["a"]]', "record-not-object"),
    "huge exponent": (b'[{"a":1e999}]', "number-too-large"),
    "huge negative exponent": (b'[{"a":1E-00401}]', "number-too-large"),
    "huge exponent in a hidden member": (b'[{"h":{"x":[1e999]}}]', "number-too-large"),
    "huge exponent among words": (b'[{"a":true},{"a":1e999},{"a":"e"}]', "number-too-large"),
    "5,000 digits": (b'[{"a":%s}]' % (b"1" * 5_000), "number-too-large"),
    "5,000 digits in a hidden member": (b'[{"h":[0.%s]}]' % (b"1" * 5_000), "number-too-large"),
    "2,000 levels": (b'[{"h":' + b"[" * 2_000 + b"]" * 2_000 + b"}]", "too-deep"),
    "65 levels": (b'[{"h":' + b"[" * 64 + b"]" * 64 + b"}]", "too-deep"),
    "100,000 levels, open": (b'[{"h":' + b'{"x":' * 100_000, "too-deep"),
    "100,000 levels above": (b'{"x":' * 13_000, "too-deep"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize("lead", [b"", MANY], ids=["small", "bulk"])
def test_a_malformed_document_is_refused_with_its_cause_however_it_is_cut(case, lead):
    document, cause = MALFORMED[case]
    of = DEEP if document.startswith(b'{"x":') else TOP
    if lead and document.startswith(b"["):
        document = b"[" + lead + document[1:]
    assert outcome(of, [document], ["a", "b"]) == cause
    pieces = cut(document, range(0, len(document), max(1, len(document) // 17)))
    assert outcome(of, pieces, ["a", "b"]) == cause
    if len(document) < 200:
        assert outcome(of, bytewise(document), ["a", "b"]) == cause


ENVELOPES = {
    "truncated before the rows": (b'{"data":{"n":1', "truncated"),
    "truncated in a string": (b'{"data":{"n":"\\', "truncated"),
    "truncated after the rows": (b'{"data":{"rows":[]', "truncated"),
    "truncated at the end": (b'{"data":{"rows":[]},"x":"}', "truncated"),
    "rows are null": (b'{"data":{"rows":null}}', "rows-missing"),
    "rows are an object": (b'{"data":{"rows":{}}}', "rows-missing"),
    "data is an array": (b'{"data":[{"rows":[]}]}', "rows-missing"),
    "an array": (b'[{"a":1}]', "rows-missing"),
    "no rows": (b'{"data":{}}', "rows-missing"),
    "rows elsewhere": (b'{"rows":[{"a":1}]}', "rows-missing"),
    "rows twice": (b'{"data":{"rows":[],"rows":[]}}', "member-duplicated"),
    "rows twice, escaped": (b'{"data":{"rows":[],"\\u0072ows":[]}}', "member-duplicated"),
    "data twice": (b'{"data":{"rows":[]},"data":{}}', "member-duplicated"),
    "data twice before": (b'{"data":1,"data":{"rows":[]}}', "member-duplicated"),
    "another member twice": (b'{"x":[{"y":1,"y":2}],"data":{"rows":[]}}', "member-duplicated"),
    "control character before": (b'{"x":"\x01","data":{"rows":[]}}', "json-malformed"),
    "leading zero before": (b'{"x":01,"data":{"rows":[]}}', "json-malformed"),
    "no colon": (b'{"x" 1,"data":{"rows":[]}}', "json-malformed"),
    "trailing comma": (b'{"data":{"rows":[]},}', "json-malformed"),
    "NaN after": (b'{"data":{"rows":[]},"x":NaN}', "json-malformed"),
    "lone surrogate after": (b'{"data":{"rows":[]},"x":"\\ud800"}', "json-malformed"),
    "invalid UTF-8 before": (b'{"x":"\xff","data":{"rows":[]}}', "not-utf-8"),
    "invalid UTF-8 after": (b'{"data":{"rows":[]},"x":"\xff"}', "not-utf-8"),
    "huge number after": (b'{"data":{"rows":[]},"x":1e999}', "number-too-large"),
    "too deep after": (b'{"data":{"rows":[]},"x":' + b"[" * 99 + b"]" * 99 + b"}", "too-deep"),
    "too large before": (
        b'{"x":"' + b"y" * 65_536 + b'","data":{"rows":[]}}',
        "envelope-too-large",
    ),
    "too large after": (b'{"data":{"rows":[]},"x":"' + b"y" * 65_536 + b'"}', "envelope-too-large"),
    "white space without end": (b'{"data":{"rows":[]}}' + b" " * 65_536, "envelope-too-large"),
    "one brace more": (b'{"data":{"rows":[]}}}', "json-malformed"),
    "a second document": (b'{"data":{"rows":[]}} {}', "json-malformed"),
}


@pytest.mark.parametrize("case", ENVELOPES)
def test_a_malformed_envelope_is_refused_with_its_cause_however_it_is_cut(case):
    document, cause = ENVELOPES[case]
    records = b'[{"a":"]"},{"a":{"rows":[]}}]'
    for text in (document, document.replace(b'"rows":[]', b'"rows":' + records, 1)):
        assert outcome(DEEP, [text], ["a"]) == cause
        step = max(1, len(text) // 97)
        assert outcome(DEEP, cut(text, range(0, len(text), step)), ["a"]) == cause


@pytest.mark.parametrize(
    "prefix",
    [b'{"x":01,', b'{"x":1,"x":2,', b'{"x":"\xff",', b'{"x":"\\ud800",', b'{"x":1e999,', b"{,"],
)
def test_no_record_is_given_out_of_an_envelope_that_is_malformed_before_it(prefix):
    stream = decoder(DEEP, ["a"])
    with pytest.raises(SourceRefused):
        feed(stream, prefix + b'"data":{"rows":[{"a":1},')


def test_rows_are_found_at_their_path_alone_and_the_answers_envelope_is_made_anew():
    document = (
        b' {"rows":[{"a":"no"}],"x":{"data":{"rows":[{"a":"no"}]}},'
        b'"data":{"data":[],"\\u0072ows" : [{"a":"yes"}],"total":17},"next":"/secret"} '
    )
    for pieces in ([document], bytewise(document)):
        stream = decoder(DEEP, ["a"])
        found = [batch for piece in pieces for batch in feed(stream, piece)] + ended(stream)
        assert encode(DEEP, found, ["a"]) == b'{"data":{"rows":[{"a":"yes"}]}}'


def test_numbers_keep_every_character():
    tokens = ["1.10", "1E400", "-0", "0e-0", "1e+9", "123456789012345678901234567890", "-0.000"]
    tokens.append("9" * 4_300)
    document = ("[" + ",".join('{"a":' + token + "}" for token in tokens) + "]").encode()
    assert run(TOP, [document], ["a"]) == [(token,) for token in tokens]
    assert encode(TOP, batches(TOP, document, ["a"]), ["a"]) == document


@pytest.mark.parametrize("size", [5, 400, 9_000])
@pytest.mark.parametrize(
    "record",
    [
        '{"a":"é%d","b":%d}',
        '{"a" : "x%d", "b": %d}',
        '{"b":null,"a":"%d","c":%d}',
        '{"a":"%d \\"{","hid\\u0064en":[%d,{"x":"}"}],"b":true}',
        '{"a":"%d",\n "z":{\n"k":%d\n}}',
        '{"\\u0061":"%d","b":%d}',
    ],
)
def test_columns_of_any_height_hold_what_pythons_parser_reads(record, size):
    document = ("[" + ",\n".join(record % (n, n) for n in range(size)) + "]").encode()
    expected = json.loads(document)
    found = json.loads(encode(TOP, batches(TOP, document, ["a", "b"]), ["a", "b"]))
    assert found == [{"a": row["a"], "b": row.get("b")} for row in expected]
    pieces = cut(document, range(0, len(document), 65_537))
    assert run(TOP, pieces, ["a", "b"]) == run(TOP, [document], ["a", "b"])


def test_records_whose_members_differ_are_read_and_hidden_duplicates_among_them_found():
    records = [
        json.dumps(dict.fromkeys("abcdef"[n % 3 : 1 + n % 7], n), separators=(",", ":"))
        for n in range(2_000)
    ]
    document = f"[{','.join(records)}]".encode()
    expected = [tuple(row.get(n) for n in "ac") for row in map(json.loads, records)]
    found = run(TOP, [document], ["a", "c"])
    assert [tuple(None if c is None else int(c) for c in row) for row in found] == expected
    for extra in ('"x":0,"x":0', '"\\u0078":0,"x":0', '"":0,"":0'):
        broken = document[:-1] + f",{{{extra}}}]".encode()
        assert outcome(TOP, [broken], ["a", "c"]) == "member-duplicated"


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(["a", "b", "h", "é", " ", "/"]), st.booleans()))),
    BLANK,
    st.booleans(),
)
def test_no_second_member_of_one_name_hides_behind_white_space_or_escapes(rows, blank, ascii_only):
    def name(text: str, escaped: bool) -> str:
        return f'"\\u{ord(text):04x}"' if escaped else json.dumps(text, ensure_ascii=ascii_only)

    records = [
        "{" + ",".join(f"{blank}{name(n, e)}:{blank}0" for n, e in members) + "}"
        for members in rows
    ]
    found = outcome(TOP, [f"[{','.join(records)}]".encode()], ["a", "b"])
    twice = any(len({n for n, _ in members}) != len(members) for members in rows)
    assert (found == "member-duplicated") == twice
    assert isinstance(found, str) == twice


@given(st.text(st.characters(exclude_characters="\x7f", exclude_categories=["Cs"])), st.booleans())
def test_the_least_weight_of_a_name_is_that_of_its_shortest_writing(name, ascii_only):
    shortest = json.dumps({name: 0}, ensure_ascii=ascii_only, separators=(",", ":")).encode()
    assert name_weight(name, ascii_only=ascii_only) == weight(shortest) - len("{0}")


def test_a_record_over_the_limit_is_refused_and_one_at_the_limit_is_not_however_it_is_cut():
    limits = Limits(record_bytes=20)
    for text, expected in ((b"y" * 11, [('"x"',), ('"' + "y" * 11 + '"',)]), (b"y" * 12, None)):
        document = b'[{"a":"x"},{"a":"' + text + b'"}]'
        for pieces in ([document], bytewise(document), cut(document, [12, 30])):
            found = outcome(TOP, pieces, ["a"], limits=limits)
            assert found == (expected or "record-too-large")
    for document in (b"[" + b" " * 21 + b"]", b"[" + b"1," * 20, b'[{"a":1}' + b" " * 21 + b"]"):
        assert outcome(TOP, [document], ["a"], limits=limits) == "record-too-large"
        assert outcome(TOP, bytewise(document), ["a"], limits=limits) == "record-too-large"


def test_no_more_than_an_incomplete_record_is_kept():
    limits = Limits(record_bytes=1_000)
    stream = decoder(DEEP, ["a"], limits=limits)
    assert isinstance(stream, JsonDecoder)
    feed(stream, b'{"data":{"rows":[{"a":1}')
    for _ in range(300):
        feed(stream, b',{"a":"]}{"}' * 50 + b',{"a":"')
        assert len(stream._rest) <= limits.record_bytes
        feed(stream, b'"}')
    endless = [b'[{"a":"', *[b"no end"] * 300]
    assert outcome(TOP, endless, ["a"], limits=limits) == "record-too-large"


def test_too_many_members_are_refused():
    members = ",".join(f'"m{n}":0' for n in range(1_025))
    assert outcome(TOP, [f"[{{{members}}}]".encode()], ["m1"]) == "too-many-fields"


def test_undeclared_members_are_named_within_bounds():
    stream = decoder(TOP, ["a"])
    feed(stream, b'[{"a":1,"A":2},{"a":1,"new":2}')
    assert stream.undeclared == {"A", "new"}
    feed(stream, (",{" + ",".join(f'"x{n}":0' for n in range(500)) + "}").encode())
    assert len(stream.undeclared) == 16
    long = decoder(TOP, ["a"])
    feed(long, b'[{"' + b"s3cret" * 20 + b'":1}')
    assert long.undeclared == {"(a name that is long or not printable)"}


def test_a_document_without_records_keeps_its_envelope():
    assert encode(TOP, [], ["a"]) == b"[]"
    assert (
        encode(DEEP, batches(DEEP, b'{"data":{"rows":[ ]}}', ["a"]), ["a"])
        == b'{"data":{"rows":[]}}'
    )
    odd = dialect(FormatName.JSON, rows_at=('q"\n',))
    assert json.loads(encode(odd, [], ["a"])) == {'q"\n': []}


@pytest.mark.parametrize("size", [1, 200])
def test_a_member_that_a_batch_lacks_is_null_and_members_come_in_the_answers_order(size):
    found = batches(TOP, b"[" + b",".join([b'{"a":1,"b":{}}'] * size) + b"]", ["a", "b"])
    answer = encode(TOP, found, ["b", "%z", "a"])
    assert answer == b"[" + b",".join([b'{"b":null,"%z":null,"a":1}'] * size) + b"]"


@pytest.mark.parametrize("size", [1, 200])
def test_values_of_another_lexis_are_written_as_tokens_of_their_type(size):
    source = dialect(FormatName.CSV)
    found = batches(source, b"a\n" + b'"x""\\\n\xc3\xa5"\n' * size, ["a"])
    assert json.loads(encode(TOP, found, ["a"])) == [{"a": 'x"\\\nå'}] * size
    found = batches(source, b"a\n" + b"007\n" * size, ["a"])
    assert json.loads(encode(TOP, found, ["a"], Type.INTEGER)) == [{"a": 7}] * size


_ALIKE = st.sampled_from(
    ['{"a":1,"b":"x"}', '{"a":2,"b":"y\\"z"}', '{"a":null,"b":"{}, "}', '{"a":true,"b":""}',
     '{"a":-0.5,"b":"\\\\"}', '{"a":3,"b":false}']
)  # fmt: skip
_UNLIKE = st.sampled_from(
    ["{}", '{"a":1}', '{"b":"x","a":1}', '{"a":1 ,"b":"x"}', '{"a": 1,"b":"x"}', '{"a":1e5,"b":"x"}',
     '{"a":1,"b":[2]}', '{"a":1,"b":{"a":1}}', '{"a":1,"a":2}', '{"a":1,"b":2,"c":3}', '{"a":01,"b":1}',
     '{"a":1E999,"b":"x"}', '{"a":1,"\\u0061":2}', '{"\\u0061":1,"b":2}', '{"a":1,"b":"\\ud800"}', "[1]",
     "1", '{"a":"x":1}', '{"a":1,,"b":2}', '{"a":1,"b":"\x01"}', '{"a":%s,"b":1}' % ("9" * 4_301),
     '{"a":1,"b":}', '{"a":1,"b":tru}', '{"a"::1,"b":2}', '{"a":1,"b":2 }', '{ "a":1,"b":2}'],
)  # fmt: skip


@given(
    st.lists(st.one_of(_ALIKE, _ALIKE, _ALIKE, _UNLIKE), min_size=1, max_size=8),
    st.sampled_from([",", ", ", ",\n"]),
    st.sampled_from([("a", "b"), ("b",), ("a",)]),
)
def test_records_written_alike_are_read_as_all_others_are(records, between, reads):
    """Whether a block is read by its places or member by member, it gives the same, or the same refusal."""
    document = f"[{between.join(records)}]".encode()
    with patch.object(proxy.formats.json_records, "FEW", -1):
        by_places = outcome(TOP, [document], ["a", "b", "c"], reads=list(reads))
        with patch.object(proxy.formats.json_records, "members", lambda *_: None):
            by_members = outcome(TOP, [document], ["a", "b", "c"], reads=list(reads))
    assert by_places == by_members


@given(
    st.lists(st.one_of(*[_ALIKE] * 9, _UNLIKE), min_size=1, max_size=12),
    st.sampled_from([",", ", ", ",\n", "\r,"]),
    st.sampled_from([("a", "b"), ("b",), ("a",)]),
    CUTS,
    st.booleans(),
)
def test_records_that_are_likely_to_be_alike_are_read_as_all_others_are(
    records, between, reads, places, lines
):
    """However it is cut, a document gives the same, or the same refusal, without a guess at what comes next."""
    if lines:
        of = LINES
        document = between.replace(",", "\n").join(records).encode() + b"\n"
    else:
        of, document = TOP, f"[{between.join(records)}]".encode()
    pieces = cut(document, places)
    with (
        patch.object(proxy.formats.json_records, "FEW", -1),
        patch.object(proxy.formats.json_few, "MOST", -1),
    ):
        guessed = outcome(of, pieces, ["a", "b", "c"], reads=list(reads))
        with patch.object(proxy.formats.json_uniform.kernels, "json_alike", _finds_none):
            unguessed = outcome(of, pieces, ["a", "b", "c"], reads=list(reads))
    assert guessed == unguessed


@given(
    st.lists(st.from_regex(r'\{"[ab]":("x{0,50}"|[0-9]{1,9})\}', fullmatch=True), max_size=30),
    st.sampled_from(["", "", " ", "x", "]", ",{}"]),
    CUTS,
    st.integers(0, 40),
)
def test_a_large_block_is_parsed_piece_by_piece_as_it_is_at_once(records, after, places, size):
    """However much is parsed at once, a document gives the same, or the same refusal."""
    pieces = cut(f"[{','.join(records)}]{after}".encode(), places)
    limits = Limits(record_bytes=55)
    at_once = outcome(TOP, pieces, ["a", "b"], limits=limits)
    with patch.object(proxy.formats.json, "_AT_ONCE", size):
        assert outcome(TOP, pieces, ["a", "b"], limits=limits) == at_once


def _finds_none(*_: object, **__: object) -> tuple[kernels.JsonFound, None, None]:
    return kernels.JsonFound(), None, None


@pytest.mark.parametrize("record", ['{"a":%d,"b":"é"}', '{ "a" : "%d",\n  "b" : null\n }'])
def test_rows_that_are_kept_hold_what_they_held_whichever_columns_were_read_before(record):
    """A batch gives the same cells whether they are read before its rows are filtered or after."""
    document = ("[" + ",\n".join(record % n for n in range(500)) + "]").encode()
    keep = pl.Series([n % 7 == 3 for n in range(500)])
    [early], [late] = batches(TOP, document, ["a", "b"]), batches(TOP, document, ["a", "b"])
    assert set(early.cells) == {"a", "b"}
    late.load(["b"])
    assert rows([early.filter(keep)], ["a", "b"]) == rows([late.filter(keep)], ["a", "b"])
    assert late.filter(keep).height == 71


@pytest.mark.parametrize("padding", range(64))
def test_a_block_may_end_with_a_record_wherever_that_falls(padding):
    """What stands in a block is read alike whether it ends at a record's end or not, at every length."""
    records = ",".join(f'{{"a":{n},"b":"x"}}' for n in range(200))
    document = f"[{' ' * padding}{records},{records}]".encode()
    first = 1 + padding + len(records)
    pieces = [document[:first], document[first:]]
    assert outcome(TOP, pieces, ["a", "b"]) == outcome(TOP, [document], ["a", "b"])
    assert len(outcome(TOP, pieces, ["a", "b"])) == 400


@settings(max_examples=60)
@given(st.data())
def test_an_answer_is_the_same_whether_members_pass_as_they_stand_or_are_written_anew(data):
    """White space, order and names of the source's members have no influence on the answer's bytes."""
    names = data.draw(
        st.lists(st.sampled_from(["a", "b", "ü", 'q"', "%s"]), min_size=1, unique=True)
    )
    blank = st.sampled_from(["", " ", "\n"])
    around = [[data.draw(blank) for _ in range(4)] for _ in names]
    tokens = ["1.10", "-0", "true", "null", '"x"', '"\\u0041,\\"}"', '"é"', "12345678901234567890"]
    cells = [
        [data.draw(st.sampled_from(tokens)) for _ in names]
        for _ in range(data.draw(st.integers(1, 4)))
    ] * 80
    records = [
        "{" + ",".join(
            f"{w}{json.dumps(name)}{x}:{y}{token}{z}"
            for (w, x, y, z), name, token in zip(around, names, row, strict=True)
        ) + "}"
        for row in cells
    ]  # fmt: skip
    document = ("[" + data.draw(st.sampled_from([",", ",\n"])).join(records) + "]").encode()
    order = data.draw(st.permutations([*names, "z"]))
    treated = {name for name in names if data.draw(st.integers(0, 3)) == 0}
    keep = [data.draw(st.booleans())] + [data.draw(st.booleans()), True, False] * 120
    of = dialect(FormatName.JSON)
    [batch] = [b for b in batches(of, document, names) if b.height]
    mask = pl.Series(keep[: batch.height], dtype=pl.Boolean)
    kept = batch.filter(mask)
    passing = [name for name in names if name not in treated]
    assert kept.unread is not None
    new = Batch(
        {name: pl.Series(['"\U0001f511"', None] * kept.height, dtype=pl.String)[: kept.height] for name in treated},
        height=kept.height, lexis=kept.lexis, types=dict.fromkeys(order, Type.TEXT),
        unread=kept.unread.only(passing),
    )  # fmt: skip
    expected, number = [], 0
    for row, stays in zip(cells, mask, strict=True):
        if stays:
            given_ = dict(zip(names, row, strict=True)) | dict.fromkeys(
                treated, ['"\U0001f511"', "null"][number % 2]
            )
            number += 1
            expected.append(
                "{"
                + ",".join(
                    f"{json.dumps(n, ensure_ascii=False)}:{given_.get(n, 'null')}" for n in order
                )
                + "}"
            )
    assert encode(of, [new], order) == f"[{','.join(expected)}]".encode()


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_text_of_very_many_blanks_takes_no_longer_than_another(place):
    """What a record holds has no say in how long it takes: a search that went back would take hours."""
    text = "a" + " " * 900_000 + "b"
    cells = [("1", "2")] * 300
    cells[0 if place == "first" else -1] = (text, "2")
    document = json.dumps([{"a": a, "b": b} for a, b in cells]).encode()
    assert run(TOP, [document], ["a", "b"]) == [(json.dumps(a), '"2"') for a, _ in cells]
