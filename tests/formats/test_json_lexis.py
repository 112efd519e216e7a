"""JSON tokens and plain text are two writings of one value, in columns of any height."""

from __future__ import annotations

import json
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.formats.json_lexis import JSON_LEXIS, SMALL
from proxy.values import Type

TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from('"\\/\n\x00\x1f\x7f é𝄞'), max_size=6)
NUMBER = st.from_regex(
    r"-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2})?", fullmatch=True
)
TOKEN = (
    st.builds(json.dumps, TEXT, ensure_ascii=st.booleans())
    | NUMBER
    | st.sampled_from(["true", "false", '"true"', '"1"', '""', '"\\""', '"\\/"'])
)


def both(of, values: list[str | None], type_: Type) -> list[str | None]:
    """What a short and a tall column give, which has to be the same."""
    few = [of(pl.Series([value], dtype=pl.String), type_).to_list()[0] for value in values]
    tall = pl.Series(values * (SMALL + 1), dtype=pl.String)
    assert of(tall, type_).to_list() == few * (SMALL + 1)
    return few


@given(st.lists(st.none() | TOKEN, min_size=1, max_size=6), st.sampled_from(Type))
def test_a_token_of_a_types_kind_is_its_value_and_any_other_is_none(tokens, type_):
    def expected(token: str | None) -> str | None:
        value = None if token is None else json.loads(token, parse_float=Decimal)
        if type_.is_number:
            return None if value is None or isinstance(value, str | bool) else token
        if type_ is Type.BOOLEAN:
            return token if isinstance(value, bool) else None
        return value if isinstance(value, str) else None

    assert both(JSON_LEXIS.read, tokens, type_) == [expected(token) for token in tokens]


@given(
    st.lists(st.none() | TEXT, min_size=1, max_size=6),
    st.sampled_from([Type.TEXT, Type.DATE, Type.DATETIME]),
)
def test_any_text_is_written_as_a_string_that_reads_back_the_same(texts, type_):
    tokens = both(JSON_LEXIS.write, texts, type_)
    assert [None if token is None else json.loads(token) for token in tokens] == texts
    assert both(JSON_LEXIS.read, tokens, type_) == texts


@given(st.lists(st.none() | NUMBER, min_size=1, max_size=6))
def test_a_json_number_is_written_as_it_is(numbers):
    assert both(JSON_LEXIS.write, numbers, Type.DECIMAL) == numbers


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("+5", "5"), ("-007", "-7"), ("000", "0"), ("00.50", "0.50"), ("+0e5", "0e5"),
        ("1E+05", "1E+05"), ("1e400", "1e400"), ("-1E-400", "-1E-400"), ("9" * 4_300, "9" * 4_300),
        ("", '""'), ("-", '"-"'), (".5", '".5"'), ("5.", '"5."'), ("NaN", '"NaN"'), ("1,5", '"1,5"'),
        ("1\n", '"1\\n"'), ("٣", '"٣"'), ("1]", '"1]"'), ("null", '"null"'), ('"1"', '"\\"1\\""'),
        ("1e401", '"1e401"'), ("1e9999999999", '"1e9999999999"'), ("9" * 4_301, f'"{"9" * 4_301}"'),
    ],
)  # fmt: skip
def test_a_number_is_written_as_json_has_it_and_what_is_none_as_a_string(text, token):
    assert both(JSON_LEXIS.write, [text], Type.INTEGER) == [token]
    assert both(JSON_LEXIS.write, ["1", text], Type.DECIMAL) == ["1", token]


def test_only_true_and_false_are_booleans_and_anything_else_is_a_string():
    values = ["true", "false", "True", "1", "", None, "null"]
    written = ["true", "false", '"True"', '"1"', '""', None, '"null"']
    assert both(JSON_LEXIS.write, values, Type.BOOLEAN) == written


@given(st.lists(st.none() | TOKEN | st.text(), min_size=1, max_size=6), st.sampled_from(Type))
def test_no_text_is_lost_whatever_the_type_under_which_it_is_written(texts, type_):
    """What is written gives the same characters again, but for a number's `+` and leading zeros."""
    tokens = both(JSON_LEXIS.write, texts, type_)
    again = both(lambda cells, _: JSON_LEXIS.plain(cells), tokens, type_)
    for text, token, back in zip(texts, tokens, again, strict=True):
        if text == back:
            continue
        assert token == back and type_.is_number
        assert Decimal(back) == Decimal(text)


@given(st.lists(st.none() | TOKEN, min_size=1, max_size=6))
def test_a_token_of_any_kind_has_the_characters_that_python_reads(tokens):
    def characters(token: str | None) -> str | None:
        return json.loads(token) if token is not None and token[0] == '"' else token

    found = both(lambda cells, _: JSON_LEXIS.plain(cells), tokens, Type.TEXT)
    assert found == [characters(token) for token in tokens]


@given(st.lists(st.none() | TEXT, min_size=1, max_size=4), st.sampled_from(Type))
def test_whatever_is_written_is_one_json_value(texts, type_):
    for token in both(JSON_LEXIS.write, texts, type_):
        if token is not None:
            assert not isinstance(json.loads(token), dict | list)
            assert token != "null"
