"""From CSV, JSON and NDJSON into each other: every cell arrives, as Python's own readers see it.

What each cell is meant to be is the naive evaluator's; how it is written, a rule of a few lines here.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.formats import FORMATS
from proxy.keys import Keyring
from proxy.report import Dialect, FormatName
from proxy.values import Type
from tests.formats.documents import batches, dialect, encode
from tests.harness.streams import ended, feed, joined
from tests.reference import documents, product
from tests.reference.evaluator import Cell, evaluate
from tests.reference.worlds import SEEDS, more_of, world_of

KEYRING = Keyring.generate()
NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
TEXT_FORMATS = (FormatName.CSV, FormatName.JSON, FormatName.NDJSON)
NUMBERS = ("integer", "decimal")
_NUMBER = re.compile(r"([+-]?)(\d+)((?:\.\d+)?(?:[eE]([+-]?\d+))?)", re.ASCII)


class Number(str):
    """A number of a JSON document, as it is written there."""

    __slots__ = ()


def loads(text: str | bytes) -> object:
    return json.loads(text, parse_int=Number, parse_float=Number)


def read(format_: FormatName, answer: bytes) -> tuple[list[str], list[list[object]]]:
    """Names and rows; of CSV, None where there is nothing between two commas."""
    if format_ is FormatName.CSV:
        names, *rows = csv.reader(io.StringIO(answer.decode(), newline=""), strict=True)
        table = documents.read_csv(answer)
        if len(names) > 1:  # Python takes a blank line for no record
            assert rows == [[cell or "" for cell in row] for row in table.rows]
        return names, [[*row] for row in table.rows]
    if format_ is FormatName.JSON:
        records = loads(answer)
    else:
        records = [loads(line) for line in answer.decode().split("\n")[:-1]]
        assert answer.count(b"\n") == len(records)
    assert isinstance(records, list)
    names = [*records[0]] if records else []
    assert all([*record] == names for record in records)
    return names, [[*record.values()] for record in records]


def in_json(text: str, type_: str) -> object:
    """What a cell's text is in JSON."""
    if type_ == "boolean" and text in ("true", "false"):
        return text == "true"
    matched = _NUMBER.fullmatch(text) if type_ in NUMBERS else None
    if matched is None or len(text) > 4_300 or abs(int(matched[4] or 0)) > 400:
        return text
    return Number(matched[1].strip("+") + (matched[2].lstrip("0") or "0") + matched[3])


def meant(cell: Cell, token: str | None, given: FormatName, taken: FormatName, as_is: bool, type_):
    """What a reader of the answer has to find; `token` is how the source writes it."""
    if cell.kind != "clear":
        text = cell.text
    elif given is FormatName.CSV or token is None:
        text = token
    elif as_is and taken is not FormatName.CSV:
        return loads(token)
    else:
        text = str(loads(token)) if token.startswith('"') else token
    return text if text is None or taken is FormatName.CSV else in_json(text, type_)


def same(found: object, expected: object) -> bool:
    """Equal, and a number only where a number is meant."""
    return type(found) is type(expected) and found == expected


def check(world, given: FormatName, taken: FormatName) -> None:
    view = product.view(world, KEYRING, NOW)
    kind = "csv" if given is FormatName.CSV else "json"
    sources = documents.sources(world.report, world.rows, kind)
    answer = evaluate(world.rules, world.report, world.requester, sources, NOW)
    assert (view is None) == (answer is None)
    if view is None or answer is None:
        return
    document = product.document(world, given.value)
    bound = view.bound(view.groups(Dialect(format=given), document))
    decoder = view.decoder_of(Dialect(format=given))
    encoder = FORMATS[taken].encoder(bound.columns, Dialect(format=taken))
    out = b""
    for found in (feed(decoder, document), ended(decoder)):
        out += b"".join([joined(encoder, bound.apply(batch).batch) for batch in found])
    names, rows = read(taken, out + encoder.finish())
    released = [
        (cells, source)
        for cells, source in zip(answer.cells, sources, strict=True)
        if any(cell.kind != "absent" for cell in cells.values())
    ]
    assert len(rows) == len(released)
    assert not rows or names == [name for name, _ in answer.columns]
    for row, (cells, source) in zip(rows, released, strict=True):
        for (name, type_), got in zip(answer.columns, row, strict=True):
            cell = cells[name]
            if cell.kind == "tokenise" and cell.text is not None:
                assert type(got) is not str or len(got) == len(cell.text)
                assert type(got) is (
                    Number if type_ == "integer" and taken is not FormatName.CSV else str
                )
                continue
            if cell.kind in ("pseudonym", "encrypt"):
                assert (got is None) == (cell.text is None)
                assert got is None or (type(got) is str and got != cell.text)
                continue
            as_is = type_ == world.report.type(name)
            expected = meant(cell, source[name].written, given, taken, as_is, type_)
            assert same(got, expected), (name, type_, cell, source[name], got, expected)


PAIRS = [pair for pair in itertools.product(TEXT_FORMATS, TEXT_FORMATS) if pair[0] is not pair[1]]


@pytest.mark.parametrize(("given_as", "taken"), PAIRS)
@settings(max_examples=40)
@given(seed=SEEDS)
def test_every_cell_in_every_form_arrives_in_the_other_format(given_as, taken, seed):
    """Rows, columns, forms, values and what is none, down to the digits and to the kind."""
    check(world_of(seed), given_as, taken)


@pytest.mark.parametrize(("given_as", "taken"), PAIRS)
@settings(max_examples=2)
@given(seed=SEEDS)
def test_every_cell_of_many_rows_arrives_as_those_of_few_do(given_as, taken, seed):
    """The same by the vectorised roads."""
    world = world_of(seed)
    maker, _ = more_of(world, seed)
    rows = tuple(maker.row(world.report) for _ in range(200))
    check(dataclasses.replace(world, rows=rows), given_as, taken)


CELLS = {
    "text": ["", "x", "007", "true", "null", "NULL", "é\U0001d11e", 'q"', "\\", "a\nb", "a\r\nb", "\x01", "=1"],
    "integer": ["5", "-0", "007", "+5", "-007", "1.5", "n/a", "", " 1", "1e5", "9" * 36, "9" * 37, "9" * 4_301, "٣"],
    "decimal": ["1.10", "+1.10", "00.5", ".5", "5.", "1E400", "1e-400", "1e401", "1e9999999999", "NaN", "-", "0x1"],
    "boolean": ["true", "false", "True", "1", "", "yes"],
    "date": ["2026-01-31", "31.1.2026", ""],
    "datetime": ["2026-01-31T00:00:00Z", "never"],
}  # fmt: skip
TOKENS = ["null", '"x"', '""', '"12"', "12", "1.10", "-0", "1E400", "true", "false", '"true"', '"a\\nb"',
          '"\\u00e9\\"\\\\"', '"null"', "9" * 40]  # fmt: skip


@pytest.mark.parametrize("taken", [FormatName.JSON, FormatName.NDJSON])
@pytest.mark.parametrize("type_", CELLS)
@pytest.mark.parametrize("times", [1, 100])
def test_a_cell_of_csv_is_a_token_of_its_type_or_a_string_and_is_csv_again(taken, type_, times):
    """Nothing that CSV holds is lost in JSON, whether it is a value of its type or not."""
    cells = [None, *CELLS[type_]] * times
    lines = ["" if c is None else '"' + c.replace('"', '""') + '"' for c in cells]
    document = ("n,a\n" + "".join(f"{n},{line}\n" for n, line in enumerate(lines))).encode()
    kind = Type(type_)
    found = batches(dialect(FormatName.CSV), document, ["n", "a"])
    answer = encode(dialect(taken), found, ["a"], kind)
    _, rows = read(taken, answer)
    expected = [None if cell is None else in_json(cell, type_) for cell in cells]
    assert len(rows) == len(cells)
    assert all(same(row[0], each) for row, each in zip(rows, expected, strict=True))
    again = encode(dialect(FormatName.CSV), batches(dialect(taken), answer, ["a"]), ["a"], kind)
    back = [row[0] for row in documents.read_csv(again).rows]
    canonical = [
        str(e) if isinstance(e, Number) else c for e, c in zip(expected, cells, strict=True)
    ]
    assert back == canonical


@pytest.mark.parametrize("given_as", [FormatName.JSON, FormatName.NDJSON])
@pytest.mark.parametrize("type_", CELLS)
@given(tokens=st.lists(st.sampled_from(TOKENS), min_size=1, max_size=8), tall=st.booleans())
@settings(max_examples=20)
def test_a_token_of_any_kind_is_its_characters_in_csv(given_as, type_, tokens, tall):
    """A number in a field of texts is no value of it, and is not lost; nor is any other."""
    tokens = tokens * (80 if tall else 1)
    records = [f'{{"a":{token}}}' for token in tokens]
    lines = "".join(f"{record}\n" for record in records)
    document = f"[{','.join(records)}]" if given_as is FormatName.JSON else lines
    kind = Type(type_)
    found = batches(dialect(given_as), document.encode(), ["a"])
    answer = encode(dialect(FormatName.CSV), found, ["a"], kind)
    expected = [
        None if token == "null" else json.loads(token) if token[0] == '"' else token
        for token in tokens
    ]
    assert [row[0] for row in documents.read_csv(answer).rows] == expected
