"""Conditions that differ in literals alone are checked by their form, and come out as if checked whole."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.policy.conditions import MAX_LENGTH, BadCondition, Form, compile, part  # noqa: A004
from proxy.policy.conditions.tree import canonical
from tests.policy.conditions_strategies import CONTEXTS, OF_ROWS, ROWS

LITERAL = re.compile(r"'(?:[^']|'')*'|[0-9]+(?:\.[0-9]+)?")
LITERALS = st.one_of(
    st.text(max_size=5).map(lambda text: "'" + text.replace("'", "''") + "'"),
    st.from_regex(r"[0-9]{1,40}(\.[0-9]{1,40})?", fullmatch=True),
    st.sampled_from(
        ("'", "''", "'''", "5a", ".5", "5.", "-5", "'\u200b'", "'\x00'", "'\ud800'", "'%s'", "%s",
         "'2024-02-29'", "'2023-02-29'", "'2024-02-29T10:00Z'", "'10.0.0.0/8'", "'10.0.0.1/8'",
         "true", "['a']", "row.city", "007", "1.50", "'a' or 'b'", "0")
    ),
)  # fmt: skip


def whole(text):
    """The condition, or every fault of it, as the parser and the check have it."""
    try:
        return compile(text, ROWS)
    except BadCondition as error:
        return error.mistakes


def by_form(form, between, text):
    """The condition as `form` has it, where it can have it."""
    found, literals = part(text)
    if found != between:
        return None
    read = form.read(text, literals)
    return None if read is None else form.condition(read)


@settings(max_examples=max(settings().max_examples, 500))
@given(OF_ROWS.conditions(3), st.data())
def test_what_a_form_takes_is_what_the_parser_takes(tree, data):
    """Whatever is put in the place of the literals: the form gives the same condition, or leaves it."""
    text = canonical(tree)
    form, between = Form(text, ROWS), part(text)[0]
    assert form.condition(form.own) == whole(text)
    other = LITERAL.sub(lambda _: data.draw(LITERALS).replace("\\", ""), text)
    found = by_form(form, between, other)
    if found is not None:
        expected = whole(other)
        assert found == expected, (text, other)
        for name in ("text", "types", "fields", "reads", "attributes"):
            assert getattr(found, name) == getattr(expected, name)
        context = data.draw(CONTEXTS)
        assert found.holds(context) == expected.holds(context)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("row.city == 'x'", "row.city == 'it''s, 100%'"),
        ("row['Store''s Name'] in ['a', 'b']", "row['Store''s Name'] in ['', 'c']"),
        ("row.units > 5 and row.sales < 1.5", "row.units > 0 and row.sales < 007.50"),
        ("row.day >= date('2024-02-29')", "row.day >= date('2026-01-01')"),
        ("env.now < time('2026-12-24T18:00')", "env.now < time('2027-01-01T00:00+01:00')"),
        ("ip_in(env.ip, '10.0.0.0/8')", "ip_in(env.ip, '192.168.0.0/16')"),
        ("row.day < env.date - days(30)", "row.day < env.date - days(007)"),
        ("starts(row.city, 'a') or row.open", "starts(row.city, 'bc') or row.open"),
    ],
)
def test_other_literals_are_read_by_the_form(text, other):
    """What policies are full of is read by its form, or that would be of no use."""
    found = by_form(Form(text, ROWS), part(text)[0], other)
    assert found == compile(other, ROWS)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("row.day >= date('2024-02-29')", "row.day >= date('2023-02-29')"),
        ("env.now < time('2026-12-24T18:00')", "env.now < time('18:00')"),
        ("ip_in(env.ip, '10.0.0.0/8')", "ip_in(env.ip, '10.0.0.1/8')"),
        ("row.day < env.date - days(30)", "row.day < env.date - days(0.5)"),
        ("row.city == 'x'", "row.city == 5"),
        ("row.units == 5", "row.units == '5'"),
        ("row.units == 5", "row.units == " + "5" * 37),
        ("row.city == 'x'", "row.city == '\u200b'"),
        ("row.city == 'x'", "row.city == '" + "x" * MAX_LENGTH + "'"),
    ],
)
def test_a_literal_that_may_not_stand_there_is_left_to_the_parser(text, other):
    """A form never takes what the parser or the check refuses, which alone can say what is wrong."""
    assert by_form(Form(text, ROWS), part(text)[0], other) is None
    with pytest.raises(BadCondition):
        compile(other, ROWS)


@given(st.text("row.ab[]'1 5=", max_size=30))
@example("row[ 'a' ] == 'b'")
@example("'")
@example("")
def test_the_parts_of_a_text_are_the_text(text):
    """Nothing is lost between the literals of whatever text."""
    between, literals = part(text)
    places = dict(enumerate(literals))
    assert "".join(before + places.get(n, "") for n, before in enumerate(between)) == text
