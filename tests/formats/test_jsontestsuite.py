"""JSONTestSuite ("Parsing JSON is a Minefield"): what it rejects is refused, what it accepts has a stated outcome.

Each text of the suite stands as a document, as a record, as a field of a record and as a member that no
field needs; in JSON's array and on a line of NDJSON.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.report import FormatName
from tests.formats.documents import bytewise, cut, dialect, outcome

ROOT = os.environ.get("COUNTERFOIL_CORPORA")
FOLDER = Path(ROOT or "", "JSONTestSuite", "test_parsing")
JSON, LINES = dialect(FormatName.JSON), dialect(FormatName.NDJSON)
NOTHING = {"n_structure_no_data.json", "n_single_space.json"}
"""No text at all: what is left around it is an array without records; no line is a document of no lines."""
ACCEPTED_NOT = {
    "y_object_duplicated_key.json": "member-duplicated",
    "y_object_duplicated_key_and_value.json": "member-duplicated",
}
"""What a parser may take and this one does not: of two members of one name nobody knows which one counts."""
OPEN = {
    r"i_number_.*(exp|overflow|underflow)": "number-too-large",  # a power of ten beyond 400
    r"i_number_.*big.*_int": None,  # any integer of up to 4,300 digits passes, to the digit
    r"i_(object_key|string).*surrogate(?!_U)": "json-malformed",  # alone, it is no character
    r"i_string_UTF8_surrogate_U": "not-utf-8",
    r"i_string_(UTF-8_|invalid_utf|iso_latin|lone_utf8|not_in|overlong|truncated)": "not-utf-8",
    r"i_string_(UTF-16|utf16)": "not-utf-8",
    r"i_structure_500_nested_arrays": "too-deep",
    r"i_structure_UTF-8_BOM": "json-malformed",
}
"""What the suite leaves to the parser -> why it is refused here; None where it is accepted."""


@pytest.fixture(scope="module")
def suite() -> dict[str, bytes]:
    if not ROOT:
        pytest.skip("COUNTERFOIL_CORPORA names no folder of published suites")
    if not FOLDER.is_dir():
        pytest.skip("COUNTERFOIL_CORPORA holds no JSONTestSuite")
    found = {path.name: path.read_bytes() for path in sorted(FOLDER.glob("*.json"))}
    assert len(found) > 300
    return found


def pieces(document: bytes) -> Iterator[list[bytes]]:
    """The document whole, and in pieces."""
    yield [document]
    yield [*bytewise(document)] if len(document) < 500 else cut(document, range(0, 5_000, 37))


def told(of, document: bytes) -> str | list[tuple[str | None, ...]]:
    """The rows, or why it is refused; the same however it is cut."""
    whole, parts = (outcome(of, each, ["a"]) for each in pieces(document))
    assert whole == parts
    return whole


def test_whatever_must_be_rejected_is_refused_wherever_it_stands(suite):
    for name, text in suite.items():
        if not name.startswith("n_"):
            continue
        for of, document in {
            "a member": (JSON, b'[{"h":%s}]' % text),
            "a field": (JSON, b'[{"a":%s}]' % text),
            "a later field": (JSON, b'[{"a":1},{"a":%s}]' % text),
            "a document": (JSON, text),
            "a member of a line": (LINES, b'{"h":%s}\n' % text),
            "a field of a line": (LINES, b'{"a":1}\n{"a":%s}\n' % text),
        }.values():
            assert isinstance(told(of, document), str), (name, document[:80])
        if name not in NOTHING:
            assert isinstance(told(JSON, b"[%s]" % text), str), name
            assert isinstance(told(LINES, b"%s\n" % text), str), name
    assert told(LINES, b"") == []


def test_whatever_must_be_accepted_is_accepted_or_refused_for_a_stated_reason(suite):
    for name, text in suite.items():
        if not name.startswith("y_"):
            continue
        cause = ACCEPTED_NOT.get(name)
        line = text.replace(b"\n", b" ")  # white space here, but the end of a line there
        token = text.strip().decode()
        cell = None if token[0] in "{[n" else token
        assert told(JSON, b'[{"h":%s}]' % text) == (cause or [(None,)]), name
        assert told(JSON, b'[{"a":%s}]' % text) == (cause or [(cell,)]), name
        assert told(LINES, b'{"h":%s}\n' % line) == (cause or [(None,)]), name
        assert told(LINES, b'{"a":%s}\n' % line) == (cause or [(cell,)]), name
        record = told(JSON, b"[%s]" % text)
        if token[0] == "{":
            assert record == told(LINES, line) == (cause or told(JSON, b"[%s]" % line)), name
            assert cause or len(record) == 1, name
        else:
            assert record == told(LINES, line) == "record-not-object", name
        # As a document of records, an array may hold nothing but objects; anything else is no array.
        whole = told(JSON, text)
        if token[0] == "[":
            empty = re.fullmatch(r"\[\s*\]", token)
            assert whole == ([] if empty else "record-not-object"), name
        else:
            assert whole == "rows-missing", name


def test_what_is_left_to_the_parser_has_the_outcome_that_is_written_down(suite):
    for name, text in suite.items():
        if not name.startswith("i_"):
            continue
        causes = [cause for pattern, cause in OPEN.items() if re.match(pattern, name)]
        assert len(causes) == 1, name
        for of, document in ((JSON, b'[{"h":%s}]' % text), (LINES, b'{"h":%s}\n' % text)):
            assert told(of, document) == (causes[0] or [(None,)]), name
