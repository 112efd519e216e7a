"""The condition language means what its definition says, in each of its three forms."""

from __future__ import annotations

import itertools
import math
from datetime import timedelta
from fractions import Fraction

import msgspec
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.policy.conditions import MAX_DEPTH, MAX_LENGTH, BadCondition, Scope, compile  # noqa: A004
from proxy.policy.conditions.columns import SMALL, Test
from proxy.policy.conditions.evaluate import function
from proxy.policy.conditions.lexical import KEYS
from proxy.policy.conditions.syntax import parse
from proxy.policy.conditions.tree import And, Comparison, Name, Number, Or, Text, canonical
from proxy.subject import AttributeType
from proxy.values import Type, calendar_date, scalar
from tests.policy.conditions_strategies import (
    ATTRIBUTES,
    CONTEXT,
    CONTEXTS,
    FIELDS,
    MIDNIGHT,
    OF_ROWS,
    OF_WHEN,
    ROWS,
    TICK,
    WHEN,
    all_texts,
    batch,
    cells,
    row_lists,
    values,
)
from tests.policy.interpreter import truth

ORDER = tuple(FIELDS)


def same(series, expected):
    """Whether a series is Boolean and holds these truths."""
    assert series.dtype == pl.Boolean
    assert series.to_list() == expected


# ---------------------------------------------------------------- one meaning


@settings(max_examples=max(settings().max_examples, 400))
@given(OF_ROWS.conditions(), row_lists(), CONTEXTS)
def test_the_plain_function_and_the_column_test_are_the_interpreter(tree, rows, context):
    """For every condition, row and context: interpreter == plain function == test of columns, row by row and whole."""
    expected = [truth(tree, ROWS, context, dict(zip(ORDER, row, strict=True))) for row in rows]
    plain = function(tree, ROWS, ORDER)
    assert [plain(context, row) for row in rows] == expected

    condition = compile(canonical(tree), ROWS)
    bound = condition.bind(context)
    if isinstance(bound, Test):
        block = batch(rows)
        assert bound.rows(block) == expected
        same(bound.column(block), expected)
        same(bound(block), expected)
    else:
        assert expected == [bound] * len(rows)


@settings(max_examples=max(settings().max_examples, 250))
@given(OF_WHEN.conditions(), CONTEXTS)
def test_a_condition_without_a_row_is_the_interpreter(tree, context):
    """`holds` and `bind` of a `when` give what the interpreter gives, and no test is left over."""
    condition = compile(canonical(tree), WHEN)
    expected = truth(tree, WHEN, context, {})
    assert condition.holds(context) is expected
    assert condition.bind(context) is expected


@given(OF_ROWS.conditions(), CONTEXTS)
def test_a_row_condition_holds_without_a_row_as_if_all_its_cells_were_null(tree, context):
    """`holds` of a row condition reads every cell as unknown."""
    assert compile(canonical(tree), ROWS).holds(context) is truth(tree, ROWS, context, {})


@settings(max_examples=max(settings().max_examples, 250))
@given(st.sampled_from(list(FIELDS)), st.data(), CONTEXTS)
def test_a_field_against_a_constant_is_exact_for_every_text(field, data, context):
    """The columns of keys decide as the values do: for all relations, for every text and every constant."""
    type_ = FIELDS[field]
    relations = ("==", "!=", "<", "<=", ">", ">=") if type_ is not Type.BOOLEAN else ("==", "!=")
    relation = data.draw(st.sampled_from(relations))
    texts = data.draw(st.lists(cells(type_), min_size=1, max_size=12))
    known = [
        value for text in texts if text is not None and (value := scalar(text, type_)) is not None
    ]
    constant = data.draw(st.one_of(values(type_), *([st.sampled_from(known)] if known else [])))
    turned = data.draw(st.booleans())
    left, right = Name("row", field), Name("sub", str(type_))
    tree = Comparison(relation, *((right, left) if turned else (left, right)))
    attributed = context_with(context, {str(type_): constant})
    bound = compile(canonical(tree), ROWS).bind(attributed)
    same(
        bound.column(batch([(text,) for text in texts], (field,))),
        [truth(tree, ROWS, attributed, {field: text}) for text in texts],
    )


@settings(max_examples=max(settings().max_examples, 300))
@given(st.sampled_from(list(FIELDS)), st.data(), CONTEXTS, st.booleans())
def test_a_field_among_constants_is_exact_for_every_text(field, data, context, doubtful):
    """`in` over columns of keys decides as over values, also where an option is unknown."""
    type_ = FIELDS[field]
    texts = data.draw(st.lists(cells(type_), min_size=1, max_size=12))
    known = [
        value for text in texts if text is not None and (value := scalar(text, type_)) is not None
    ]
    constants = data.draw(
        st.lists(st.one_of(values(type_), *([st.sampled_from(known)] if known else [])), max_size=4)
    )
    held = {f"k{i}": constant for i, constant in enumerate(constants)}
    names = [*held, *(["missing"] if doubtful or not held else [])]
    scope = Scope(
        fields=FIELDS,
        elsewhere={},
        attributes={name: AttributeType(type=type_) for name in names}
        | {"all": AttributeType(type=type_, many=True)},
    )
    attributed = context_with(context, held | {"all": tuple(constants)})
    listed = ", ".join(f"sub.{name}" for name in names)
    shown = canonical(Name("row", field))
    for text in (f"{shown} in [{listed}]", f"{shown} not in [{listed}]", f"{shown} in sub.all"):
        expected = [truth(parse(text), scope, attributed, {field: cell}) for cell in texts]
        bound = compile(text, scope).bind(attributed)
        if isinstance(bound, Test):
            same(bound.column(batch([(cell,) for cell in texts], (field,))), expected)
        else:
            assert expected == [bound] * len(texts)


@given(
    OF_ROWS.conditions(2),
    row_lists(max_size=3),
    CONTEXTS,
    st.sampled_from((0, 1, SMALL, SMALL + 1, SMALL + 20)),
)
def test_the_height_of_a_block_changes_nothing(tree, rows, context, height):
    """A row's truth is the same in an empty, small and large block."""
    block = [rows[i % len(rows)] for i in range(height)]
    bound = compile(canonical(tree), ROWS).bind(context)
    if isinstance(bound, Test):
        same(
            bound(batch(block)),
            [truth(tree, ROWS, context, dict(zip(ORDER, r, strict=True))) for r in block],
        )


def neighbours(type_, constant):
    """Texts just below, at and above a constant, as plainly as they can be written."""
    match type_:
        case Type.INTEGER:
            return [str(math.floor(constant) + step) for step in (-1, 0, 1)]
        case Type.DECIMAL:
            keys = [math.floor(constant * 10**18) + step for step in (-1, 0, 1)]
            return [f"{'-' * (k < 0)}{abs(k) // 10**18}.{abs(k) % 10**18:018}" for k in keys]
        case Type.DATETIME if constant.year < 9999:
            start = constant.replace(microsecond=0, tzinfo=None)
            return [(start + timedelta(seconds=step)).isoformat(" ") for step in (0, 1)]
        case _:
            return []


@pytest.mark.parametrize("field", ["city", "units", "sales", "open", "day", "at"])
def test_every_text_against_every_constant(field):
    """The keyed columns agree with the interpreter on the product of all texts and constants thought of."""
    type_ = FIELDS[field]
    texts = [None, *all_texts(type_)]
    constants = [
        value for text in texts if text is not None and (value := scalar(text, type_)) is not None
    ]
    if type_.is_number:
        constants += [
            Fraction(1, 3),
            Fraction(-1, 3),
            Fraction(1, 10**20),
            Fraction(10**40, 7),
            -(10**17),
            10**36,
        ]
    if type_ is Type.DATETIME:
        constants += [
            MIDNIGHT - TICK,
            MIDNIGHT + TICK,
            MIDNIGHT - timedelta(seconds=1),
            MIDNIGHT.replace(hour=3),
        ]
    constants = list(dict.fromkeys(constants))
    texts += [text for constant in constants for text in neighbours(type_, constant)]
    texts = list(dict.fromkeys(texts))
    declared = Type.DECIMAL if type_.is_number else type_
    scope = Scope(fields=FIELDS, elsewhere={}, attributes={"k": AttributeType(type=declared)})
    block = batch([(text,) for text in texts], (field,))
    relations = ("==", "!=") if type_ is Type.BOOLEAN else ("==", "!=", "<", "<=", ">", ">=")
    for relation in relations:
        for text in (f"row.{field} {relation} sub.k", f"sub.k {relation} row.{field}"):
            condition, tree = compile(text, scope), parse(text)
            for constant in constants:
                context = context_with(CONTEXT, {"k": constant})
                expected = [truth(tree, scope, context, {field: cell}) for cell in texts]
                bound = condition.bind(context)
                same(bound.column(block), expected)
    present = compile(f"present(row.{field})", scope).bind(CONTEXT)
    same(
        present.column(block),
        [text is not None and scalar(text, type_) is not None for text in texts],
    )


@pytest.mark.parametrize("word", ["and", "or"])
@pytest.mark.parametrize("constant", ["", "true", "false", "sub.integers2 == 1"])
def test_tables_of_truth(word, constant):
    """All triples of truths, with and without a constant beside them, are joined as Kleene says."""
    scope = Scope(
        fields=FIELDS, elsewhere={}, attributes={"integers2": AttributeType(type=Type.INTEGER)}
    )
    cells_of = [("1", "2", None), ("a", "b", None), ("true", "false", None)]
    rows = list(itertools.product(*cells_of))
    for negation in ("", "not "):
        parts = ["row.units == 1", "row.city == 'a'", "row.open", *([constant] if constant else [])]
        text = f"{negation}({f' {word} '.join(parts)})"
        order = ("units", "city", "open")
        expected = [
            truth(parse(text), scope, CONTEXT, dict(zip(order, row, strict=True))) for row in rows
        ]
        bound = compile(text, scope).bind(CONTEXT)
        if isinstance(bound, Test):
            assert bound.rows(batch(rows, order)) == expected
            same(bound.column(batch(rows, order)), expected)
        else:
            assert expected == [bound] * len(rows)


def test_a_test_leaves_the_cells_alone_and_can_be_asked_again():
    """Cells beyond the plain forms are patched into the result, never into the block."""
    rows = [("1",), ("1e0",), ("x",), (None,)] * SMALL
    block = batch(rows, ("sales",))
    bound = compile("row.sales == 1 or present(row.sales)", ROWS).bind(CONTEXT)
    first = bound(block).to_list()
    assert first == [True, True, None, None] * SMALL
    assert bound(block).to_list() == first
    assert block.values("sales").to_list() == [row[0] for row in rows]


def test_plain_days_are_the_days_of_the_calendar():
    """The regular expression of days accepts exactly the proleptic Gregorian calendar."""
    years = (0, 1, 4, 99, 100, 400, 1000, 1900, 2000, 2023, 2024, 9996, 9999)
    texts = [f"{y:04}-{m:02}-{d:02}" for y in years for m in range(14) for d in range(33)]
    texts += [f"{y:04}-02-{d}" for y in range(10_000) for d in (28, 29, 30)]
    plain = pl.Series(texts).str.contains(KEYS[Type.DATE].plain)
    assert plain.to_list() == [calendar_date(text) is not None for text in texts]


# ---------------------------------------------------------------- Kleene's logic, by example


def context_with(context, attributes):
    """The context with other attributes."""
    return msgspec.structs.replace(context, attributes=attributes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("false and sub.decimal > 1", False),
        ("true and sub.decimal > 1", None),
        ("true or sub.decimal > 1", True),
        ("false or sub.decimal > 1", None),
        ("not sub.decimal > 1", None),
        ("not present(sub.decimal)", True),
        ("sub.decimal == sub.decimal", None),
        ("sub.decimal in [sub.decimal]", None),
        ("1 in [1, sub.decimal]", True),
        ("2 in [1, sub.decimal]", None),
        ("2 not in [1, sub.decimal]", None),
        ("1 / 0 == 1 / 0", None),
        ("present(1 / 0)", False),
        ("1 / 3 * 3 == 1", True),
        ("0.1 + 0.2 == 0.3", True),
        ("-2 * -2 - -1 == 5", True),
        ("10 - 4 - 3 == 3 and 16 / 4 / 2 == 2", True),
        (f"{10**35} * {10**35} * 100 > 0", True),
        (f"{10**35} * {10**35} * 1000 > 0", None),
        (f"1 / {10**35} / {10**35} / 1000 < 1", None),
        ("date('9999-12-31') + days(1) > env.date", None),
        ("date('2024-03-01') - date('2024-02-28') == 2", True),
        ("date('2024-02-28') + days(2) == date('2024-03-01')", True),
        ("env.now - days(1 / 2) < env.now", None),
        ("time('2026-11-23T13:00+01:00') == env.now", True),
        ("env.date == date('2026-11-23')", True),
        ("sub.text == 'north' and sub.integer == 3.0", True),
        ("'42' in sub.texts and '4' not in sub.texts", True),
        ("'it''s' == upper('it''s') or lower('IT''S') == 'it''s'", True),
        (
            "starts(env.purpose, 'au') and ends(env.purpose, 'it') and contains(env.purpose, 'udi')",
            True,
        ),
        ("length('é\U0001f600') == 2", True),
        ("'a' < 'b' and 'B' < 'a' and '\uffff' < '\U0001f600'", True),
        ("ip_in(env.ip, '10.0.0.0/8') and not ip_in(env.ip, '10.2.0.0/16')", True),
        ("ip_in('::ffff:10.1.2.3', '10.0.0.0/8') and not ip_in('10.1.2.3', '::/0')", True),
        ("ip_in('10.1.2', '10.0.0.0/8')", None),
    ],
)
def test_a_condition_is(text, expected):
    """What a sample means."""
    condition = compile(text, WHEN)
    assert condition.holds(CONTEXT) is expected
    assert truth(parse(text), WHEN, CONTEXT, {}) is expected


@pytest.mark.parametrize("wrong", [True, "3", 3.0, None, float("nan"), (3,), [3]])
def test_an_attribute_that_is_not_of_its_type_is_unknown(wrong):
    """An identity provider's value of another type makes no condition true or false."""
    held = context_with(CONTEXT, {"integer": wrong})
    assert compile("sub.integer >= 0 or sub.integer < 0", WHEN).holds(held) is None
    assert compile("present(sub.integer)", WHEN).holds(held) is False


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("text", "\ud800"),
        ("texts", ("a", "\ud800")),
        ("texts", ["a"]),
        ("texts", ("a", 1)),
        ("texts", "a"),
        ("integers", (1, True)),
        ("date", MIDNIGHT),
        ("datetime", MIDNIGHT.date()),
        ("datetime", MIDNIGHT.replace(tzinfo=None)),
        ("datetimes", (MIDNIGHT, MIDNIGHT.replace(tzinfo=None))),
    ],
)
def test_an_attribute_that_is_almost_of_its_type_is_unknown(name, wrong):
    """Neither a list with one wrong value nor a near relative of the type is taken."""
    held = context_with(CONTEXT, {name: wrong})
    assert compile(f"present(sub.{name})", WHEN).holds(held) is False
    field = {"text": "city", "integer": "units", "date": "day", "datetime": "at"}[
        name.removesuffix("s")
    ]
    relation = "in" if name.endswith("s") else "=="
    assert compile(f"row.{field} {relation} sub.{name}", ROWS).bind(held) is None


def test_nothing_is_in_an_empty_list():
    """Not even the unknown: `in` is an `or` over no options."""
    held = context_with(CONTEXT, {"texts": ()})
    assert compile("sub.text in sub.texts", WHEN).holds(held) is False
    assert compile("sub.text not in sub.texts", WHEN).holds(held) is True
    assert compile("(lower(row.city) in sub.texts) == false", ROWS).holds(held) is True


def test_binding_folds_in_what_needs_no_row():
    """Constants decide without a row, and an empty list leaves nobody in it."""
    for text, expected in [
        ("row.city == 'x' and env.purpose == ''", False),
        ("row.city == 'x' or env.purpose == 'audit'", True),
        ("row.city == sub.decimals2", None),
        ("row.city in sub.missing", None),
        ("row.city in sub.none", False),
        ("row.city not in sub.none", True),
        ("row.region == 'North' and row.city == 'x' and false", False),
        ("row.region == 'North'", None),
        ("present(row.region)", False),
        ("row.units > sub.absent + 1", None),
    ]:
        scope = Scope(
            fields=FIELDS,
            elsewhere={"region": Type.TEXT},
            attributes={
                "decimals2": AttributeType(type=Type.TEXT),
                "missing": AttributeType(type=Type.TEXT, many=True),
                "none": AttributeType(type=Type.TEXT, many=True),
                "absent": AttributeType(type=Type.DECIMAL),
            },
        )
        assert compile(text, scope).bind(context_with(CONTEXT, {"none": ()})) is expected, text


def test_a_condition_says_what_it_reads():
    """Fields are those of this report; the names of the environment are for the index of decisions."""
    condition = compile(
        "row.city == 'x' and row.region == 'y' and env.purpose != '' and env.now > sub.datetime",
        ROWS,
    )
    assert condition.fields == {"city"}
    assert condition.reads == {"purpose", "now"}


def test_conditions_are_equal_where_text_and_types_are():
    """Spelling does not matter, the types of names do."""
    one, other = compile("row.city=='x'", ROWS), compile("(row.city) == ('x')", ROWS)
    assert one == other
    assert hash(one) == hash(other)
    elsewhere = Scope(fields={}, elsewhere=FIELDS, attributes=ATTRIBUTES)
    assert compile("row.city == 'x'", elsewhere) != one


# ---------------------------------------------------------------- text


@settings(max_examples=max(settings().max_examples, 300))
@given(OF_ROWS.conditions(4))
def test_canonical_text_is_read_back(tree):
    """Parsing the text of a tree gives the tree, and its text again."""
    text = canonical(tree)
    assert parse(text) == tree
    assert compile(text, ROWS).text == text


@given(st.integers(1, 10**36 - 1), st.integers(0, 36))
def test_numbers_are_read_back(digits, places):
    """Every number that can be written has one canonical text, which writes it."""
    tree = Comparison("==", Number(Fraction(digits, 10**places)), Number(0))
    assert parse(canonical(tree)) == tree


_FRAGMENTS = st.sampled_from(
    (
        "row.city", "row['Store''s Name']", "row[", "row.", "sub.texts", "sub.text", "env.now", "env.x", "'a'", "'", "''",
        '"a"', "1", "1.", ".5", "1e5", "07", "9" * 40, "true", "false", "and", "or", "not", "in", "not in", "AND", "==",
        "=", "!=", "<", "<=", ">", ">=", "<>", "+", "-", "*", "/", "//", "**", "(", ")", "[", "]", ",", "days(", "date(",
        "time('2024-01-01T00:00')", "ip_in(env.ip, '10.0.0.0/8')", "present(", "lower(", "nope(", "null", "None", "x",
        " ", "\t", "\n", "\x00", "\u202e", "\ud800", "é", ".", "#", ";", "%", "{", "}", "&&", "||", "!", "`", "\\", "@",
    )
)  # fmt: skip


def check_fault(text, scope):
    try:
        condition = compile(text, scope)
    except BadCondition as bad:
        mistakes = bad.mistakes
    else:
        assert compile(condition.text, scope) == condition
        return
    assert mistakes
    for mistake in mistakes:
        assert 0 <= mistake.offset < max(len(text), 1)
        assert mistake.message
        assert not mistake.message[0].isupper()


@settings(max_examples=max(settings().max_examples, 250))
@given(
    st.one_of(
        st.text(max_size=30),
        st.lists(_FRAGMENTS, max_size=12).map(" ".join),
        st.lists(_FRAGMENTS).map("".join),
    )
)
@example("")
@example("(" * 5000)
@example("not " * 2400 + "true")
@example("-" * 9000 + "1 == 1")
@example("1" + " + 1" * 2400 + " == 1")
@example("[" * 3000)
@example("true" + " and true" * 1000)
@example("lower(" * 60 + "'a'" + ")" * 60 + " == 'a'")
@example("'" * 9999)
def test_any_text_is_a_condition_or_has_faults_with_places(text):
    """Nothing but BadCondition is raised, and each fault is placed within the text."""
    check_fault(text, ROWS)
    check_fault(text, WHEN)


@settings(max_examples=max(settings().max_examples, 300))
@given(OF_ROWS.conditions(), st.data())
def test_a_damaged_condition_is_a_condition_or_has_faults_with_places(tree, data):
    """A character lost, doubled or changed never raises anything but BadCondition."""
    text = canonical(tree)
    at = data.draw(st.integers(0, len(text) - 1))
    put = data.draw(st.sampled_from(("", "'", "(", ")", "]", ",", " ", "not ", "1", "x", "=")))
    check_fault(text[:at] + put + text[at + 1 :], ROWS)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", [(0, "the condition is empty", "write `true`")]),
        ("   ", [(0, "the condition is empty", "write `true`")]),
        ("row.city = 'x'", [(9, "`=` is not of this language", "write `==`")]),
        ("row.city <> 'x'", [(9, "`<>` is not of this language", "write `!=`")]),
        ('row.city == "x"', [(12, '`"x"` is not of this language', "write `'x'`")]),
        ("row.city == 'x", [(12, "this text does not end", "write `''` for a quote within a text")]),
        ("row.city == 'it's'", [(17, "this text does not end", "write `''` for a quote within a text")]),
        ("row.open && true || !false", [
            (9, "`&&` is not of this language", "write `and`"),
            (17, "`||` is not of this language", "write `or`"),
            (20, "`!` is not of this language", "write `not`"),
        ]),
        ("row.city == 'a\u202eb'", [(14, "the invisible character U+202E has no place here", "take it out, or write a blank")]),
        ("row.units == 1e5", [
            (13, "`1e5` is no number", "write digits with at most one point, at most 36 on each side"),
        ]),
        ("1 < row.units < 3", [(14, "comparisons do not chain", "write `a < b and b < c`")]),
        ("(row.open", [(0, "this `(` is not closed", "add `)`")]),
        ("row.open)", [(8, "`)` is not expected here", "take it out")]),
        ("row.open and", [(9, "something is missing after `and`", "write a name, a value or a condition there, or take that out")]),
        ("row.open AND true", [(9, "`AND` is not expected here", "write `and`")]),
        ("true == not false", [(8, "`not` needs parentheses here", "write `(not …)`")]),
        ("row.units in []", [(13, "nothing is in an empty list", "write `false`")]),
        ("row.open == null", [
            (12, "`null` means nothing by itself", "write `present(x)` or `not present(x)`"),
        ]),
        ("city == 'x' and town == 'y'", [
            (0, "`city` means nothing by itself", "a field is `row.city`, a text is `'city'`"),
            (16, "`town` means nothing by itself", "a field is `row.town`, a text is `'town'`"),
        ]),
        ("row.citi == 'x' and sub.txt == 'y' and env.purpos == ''", [
            (0, "the field `row.citi` is not declared", "did you mean `row.city`?"),
            (20, "the attribute `sub.txt` is not declared", "did you mean `sub.text`?"),
            (39, "`env.purpos` is not known", "did you mean `env.purpose`?"),
        ]),
        ("row.city.name == 'x'", [(8, "`.` is not of this language", "a name has one point, as in `row.city`")]),
        ("lowr(row.city) == 'x'", [(0, "there is no function `lowr`", "did you mean `lower`?")]),
        ("lower() == 'x'", [(0, "`lower` takes 1 argument, not 0", "as in `lower(row.city)`")]),
        ("lower(row.units) == 'x'", [(6, "this argument of `lower` must be a text, and this is a number", "as in `lower(row.city)`")]),
        ("row.units == '42'", [(10, "`==` does not compare a number with a text", "write `42` without quotes")]),
        ("row.city == 42", [(9, "`==` does not compare a text with a number", "write `'42'`")]),
        ("row.day >= '2024-01-01'", [(8, "`>=` does not compare a date with a text", "write `date('2024-01-01')`")]),
        ("row.at >= env.date", [
            (7, "`>=` does not compare a time with a date",
             "compare a date with `date('…')` or `env.date`, a time with `time('…')` or `env.now`"),
        ]),
        ("row.city == sub.texts", [(9, "`==` does not compare a text with a list of texts", "write `in`")]),
        ("row.city in sub.text", [(12, "`in` needs a list, and this is a text", "write `==`")]),
        ("row.units in ['a', 'b']", [(10, "`in` does not look for a number in a list of texts",
            "both sides must be of one type; see the types in reports.yaml and subjects.yaml")]),
        ("row.units in [1, 'b']", [(17, "the list began with a number, and this is a text", "all items of a list are of one type")]),
        ("row.open < true", [(9, "`<` has no order for a Boolean", "write `==` or `!=`")]),
        ("row.city", [(0, "a condition must be a Boolean, and this is a text", "compare it, or write `present(row.city)`")]),
        ("row.city and true", [
            (0, "a side of `and` must be a Boolean, and this is a text", "compare it, or write `present(row.city)`"),
        ]),
        ("env.date - 7 < row.day", [(9, "`-` does not take a date and a number", "write `- days(7)`")]),
        ("row.day - row.due < days(7)", [(18, "`<` does not compare a number with a number of days()",
            "a difference of dates is a plain number: write `< 7`")]),
        ("env.now - row.at < 7", [
            (8, "`-` does not take a time and a time", "only dates have a difference; compare with a time moved by `days()`"),
        ]),
        ("row.day < date('2024-02-30')", [(15, "'2024-02-30' is no date", "write `date('2026-12-24')`")]),
        ("row.day < date(row.city)", [(15, "`date` takes a text that is written out here", "as in `date('2026-12-24')`")]),
        ("env.now < time('24:00')", [
            (15, "'24:00' is no time", "write `time('2026-12-24T18:00')`, in UTC or with an offset as `+01:00`"),
        ]),
        ("ip_in(env.ip, '10.0.0.1/8')", [
            (14, "'10.0.0.1/8' is no network", "write the first address and the length, as in `'10.0.0.0/8'`"),
        ]),
        ("env.date + days(1.5) > env.date", [(16, "`days()` takes a whole number", "as in `days(7)`")]),
        ("env.now > days(3)", [(8, "`>` does not compare a time with a number of days()",
            "move a date or time by it, as in `env.now > time('2026-12-24T18:00') + days(3)`")]),
        ("days(30) <= row.day", [(9, "`<=` does not compare a number of days() with a date",
            "move a date or time by it, as in `env.date - days(30) <= row.day`")]),
        ("days(7) > row.day - row.due", [(8, "`>` does not compare a number of days() with a number",
            "a difference of dates is a plain number: write `7 >`")]),
        ("present(days(1))", [(8, "`days()` is only added to a date or time, or taken from one", "as in `env.date - days(7)`")]),
    ],
)  # fmt: skip
def test_faults_say_what_to_write_instead(text, faults):
    """Each kind of fault has its place, its message and its hint, and all of a condition come at once."""
    with pytest.raises(BadCondition) as caught:
        compile(text, ROWS)
    assert [tuple(mistake) for mistake in caught.value.mistakes] == faults


def test_there_is_no_row_in_a_when():
    """`row.*` in a `when` is a fault that names the place for it."""
    with pytest.raises(BadCondition) as caught:
        compile("env.purpose == '' or row.city == 'x'", WHEN)
    assert [m.offset for m in caught.value.mistakes] == [21]
    assert "p2" in caught.value.mistakes[0].hint


def test_length_and_depth_are_bounded():
    """Long lists and chains are flat; nesting and length end at their limits."""
    compile("row.units in [" + ", ".join(map(str, range(1500))) + "]", ROWS)
    compile(" or ".join(["row.units == 1"] * 500), ROWS)
    deep = MAX_DEPTH - 1
    compile("(" * deep + "true" + ")" * deep, ROWS)
    for text in ["not " * MAX_DEPTH + "true", "true and " * (MAX_LENGTH // 9) + "true     "]:
        with pytest.raises(BadCondition):
            compile(text, ROWS)


@given(st.lists(OF_ROWS.conditions(1), min_size=2, max_size=4), row_lists(max_size=2), CONTEXTS)
def test_brackets_of_a_chain_do_not_matter(terms, rows, context):
    """`and` and `or` are associative, so that chains are read flat."""
    for word, kind in (("and", And), ("or", Or)):
        texts = [f"({canonical(term)})" for term in terms]
        left, right = texts[0], texts[-1]
        for text in texts[1:]:
            left = f"({left} {word} {text})"
        for text in reversed(texts[:-1]):
            right = f"({text} {word} {right})"
        assert parse(left) == parse(right)
        assert isinstance(parse(left), kind)
        plain = function(parse(left), ROWS, ORDER)
        assert all(
            plain(context, row)
            is truth(parse(left), ROWS, context, dict(zip(ORDER, row, strict=True)))
            for row in rows
        )


def test_texts_of_fields_may_be_any():
    """Names that are no identifiers stand in brackets, with quotes doubled."""
    condition = compile("row['Store''s Name'] == 'x' and row[ 'city' ] == 'y'", ROWS)
    assert condition.text == "row['Store''s Name'] == 'x' and row.city == 'y'"
    assert parse("'it''s' == ''''") == Comparison("==", Text("it's"), Text("'"))
