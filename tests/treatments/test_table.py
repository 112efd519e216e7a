"""The table of treatments: their text, their order, and what every one of them keeps."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.treatments import TABLE, BadTreatment, comparable, documentation, parse
from proxy.treatments.base import Literal
from proxy.treatments.buckets import Bucket
from proxy.treatments.clear import Clear
from proxy.treatments.constants import Constant, Redact
from proxy.treatments.masking import Partial
from proxy.treatments.pseudonyms import Pseudonym
from proxy.treatments.rounding import Round
from proxy.treatments.shapes import ALPHABETS
from proxy.treatments.shifting import Shift
from proxy.treatments.suppression import Suppress
from proxy.treatments.tokens import Tokenise
from proxy.treatments.truncation import Truncate
from proxy.values import Type, scalar

PRINTABLE = st.characters(exclude_categories=("C", "Z"), include_characters=" ',()=")
TEXTS = st.text(PRINTABLE, max_size=12)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?", fullmatch=True)
ROUNDS = st.builds(
    lambda units, digits: Round(step=Fraction(units, 10**digits)),
    st.integers(1, 10**12),
    st.integers(0, 18),
)
PARTIALS = st.builds(
    lambda first, last, mask: Partial(first=first, last=last, mask=mask),
    st.integers(0, 9),
    st.integers(1, 9),
    PRINTABLE,
)
PSEUDONYMS = st.builds(
    lambda domain, per: Pseudonym(domain=domain, per=per),
    st.none() | st.text(PRINTABLE, min_size=1, max_size=12),
    st.sampled_from([None, "subject"]),
)
TOKENS = st.builds(
    lambda alphabet, domain: Tokenise(alphabet=alphabet, domain=domain),
    st.sampled_from(ALPHABETS),
    st.none() | st.text(PRINTABLE, min_size=1, max_size=12),
)
EDGES = st.lists(
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-999, max_value=10**9),
    min_size=1,
    max_size=5,
    unique=True,
).map(lambda edges: tuple(Literal(f"{edge:f}", quoted=False) for edge in sorted(edges)))
DAYS = st.lists(st.dates(), min_size=1, max_size=5, unique=True).map(
    lambda days: tuple(Literal(day.isoformat(), quoted=True) for day in sorted(days))
)
BUCKETS = st.builds(
    lambda edges, given: Bucket(edges=edges, given=given),
    EDGES | DAYS,
    st.sampled_from([None, "lower"]),
)
TRUNCATES = st.sampled_from(["year", "quarter", "month", "week", "day", "hour"]).map(
    lambda unit: Truncate(unit=unit)
)
SHIFTS = st.builds(
    lambda days, per, domain: Shift(days=days, per=per, domain=domain),
    st.integers(1, 36500),
    st.text(PRINTABLE, min_size=1, max_size=8),
    st.none() | st.text(PRINTABLE, min_size=1, max_size=8),
)
CONSTANTS = st.builds(
    lambda literal: Constant(value=literal),
    st.builds(lambda text: Literal(text, quoted=True), TEXTS)
    | st.builds(lambda text: Literal(text, quoted=False), NUMBERS),
)
NAMES = st.text(PRINTABLE, min_size=1, max_size=8)
SUPPRESSES = st.builds(
    lambda least, by: Suppress(least=least, by=tuple(by)),
    st.integers(2, 1_000_000),
    st.lists(NAMES, min_size=1, max_size=3, unique=True),
)
SHOWN = [(kind, example) for kind in TABLE.values() for example in kind.shown]
"""What the documentation shows of each treatment: of one that this file does not know, too."""
TREATMENTS = st.one_of(
    ROUNDS,
    BUCKETS,
    TRUNCATES,
    SHIFTS,
    PARTIALS,
    TOKENS,
    PSEUDONYMS,
    CONSTANTS,
    SUPPRESSES,
    st.sampled_from([parse(text) for _, (text, _, _) in SHOWN]),
)
CELLS = st.lists(
    st.none()
    | st.text(max_size=8)
    | st.from_regex(r"[A-Za-z]{0,3}[- ][0-9]{2,8}", fullmatch=True)
    | st.sampled_from(["7", "-0", "1.5", "1e40", "9" * 36, "9" * 40, "true", "2026-02-29"])
    | st.dates().map(str)
    | st.datetimes().map(lambda at: at.isoformat())
    | st.integers().map(str)
    | st.decimals(allow_nan=False, allow_infinity=False).map(str),
    max_size=12,
)


@given(TREATMENTS)
def test_text_comes_back(treatment):
    """A treatment's text parses to the same treatment, and equal treatments have one hash."""
    again = parse(str(treatment))
    assert again == treatment
    assert hash(again) == hash(treatment)
    assert str(again) == str(treatment)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("clear", "clear"),
        ("  redact\t", "redact"),
        ("round(100)", "round(100)"),
        ("round( n = 0.050 )", "round(0.05)"),
        ("round(2.5)", "round(2.5)"),
        ("partial(last=4, with='*')", "partial(last=4)"),
        ("partial(last=4,first=0)", "partial(last=4)"),
        ("partial(with='''', first=2)", "partial(first=2, with='''')"),
        ("pseudonym", "pseudonym"),
        ("pseudonym(per='subject',domain='stores')", "pseudonym(domain='stores', per='subject')"),
        ("tokenise(alphabet='pattern')", "tokenise"),
        ("tokenise(domain='l',alphabet='upper')", "tokenise(alphabet='upper', domain='l')"),
        ("constant('n/a')", "constant('n/a')"),
        ("constant('it''s, (so)')", "constant('it''s, (so)')"),
        ("constant(-1.50)", "constant(-1.50)"),
        ("constant('')", "constant('')"),
        ("encrypt", "encrypt"),
        ("suppress(5, by='city')", "suppress(5, by='city')"),
        ("suppress(by='region' | 'it''s', k=10)", "suppress(10, by='region'|'it''s')"),
        ("bucket( 0 | 0.50|\t1000 )", "bucket(0|0.50|1000)"),
        ("bucket(as='lower', edges=-5)", "bucket(-5, as='lower')"),
        ("bucket('2026-01-01'|'2026-07-01')", "bucket('2026-01-01'|'2026-07-01')"),
        ("truncate( 'week' )", "truncate('week')"),
        ("shift(domain='care',per='who', days=30)", "shift(days=30, per='who', domain='care')"),
    ],
)
def test_canonical_text(text, canonical):
    """What an admin may write is read, and written in one way."""
    assert str(parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "offset", "message", "hint"),
    [
        ("", 0, "expected the name", ""),
        ("Clear", 0, "no treatment is called `Clear`", "`clear`"),
        ("  rond(1)", 2, "no treatment is called `rond`", "`round`"),
        ("eval", 0, "no treatment", ""),
        ("round", 0, "needs `n`", "n: the step"),
        ("round(", 6, "found the end", ""),
        ("round()", 6, "found `)`", ""),
        ("round(0)", 6, "above 0", ""),
        ("round(-5)", 6, "above 0", ""),
        ("round(1e3)", 6, "no number", "`100`"),
        ("round(01)", 6, "no number", ""),
        ("round(.5)", 6, "no number", ""),
        ("round(5.)", 6, "no number", ""),
        ("round(+5)", 6, "no number", ""),
        ("round('5')", 6, "`n` of `round` is a number", ""),
        ("round(5", 7, "expected `,` or `)`", ""),
        ("round(5,)", 8, "expected a number or a quoted text", ""),
        ("round(5, 6)", 9, "no further unnamed argument", ""),
        ("round(5, n=6)", 9, "`n` is given twice", ""),
        ("round(5) x", 9, "expected nothing more", ""),
        ("round(5)'('", 8, "expected nothing more", ""),
        ("round(1" + "0" * 17 + ")", 6, "at most 17 digits", ""),
        ("round(0." + "0" * 18 + "1)", 6, "18 after", ""),
        ("round(1" + "0" * 36 + ")", 6, "is a number", ""),
        ("partial", 0, "shows nothing", "`first=`"),
        ("partial(4)", 8, "no further unnamed argument", "`last=`"),
        ("partial(lst=4)", 8, "no parameter `lst`", "`last`"),
        ("partial(last=-1)", 8, "whole number", ""),
        ("partial(last=1.0)", 8, "whole number", ""),
        ("partial(last=1001)", 8, "between 0 and 1000", ""),
        ("partial(last=0, first=0)", 16, "shows nothing", ""),
        ("partial(last=4, with='ab')", 16, "one printable character", ""),
        ("partial(last=4, with='')", 16, "one printable character", ""),
        ("partial(last=4, with=1)", 16, "in quotes", ""),
        ("partial(last=4, 3)", 16, "after a named one", ""),
        ("pseudonym(domain='')", 10, "1 to 100", ""),
        ("pseudonym(domain=stores)", 17, "expected a number or a quoted text", "quoted"),
        ("pseudonym(per='row')", 10, "can only be `'subject'`", ""),
        ("tokenise('digits')", 9, "no further unnamed argument", "`alphabet=`"),
        ("tokenise(alphabet='Upper')", 9, "no such alphabet", "`'upper'`"),
        ("tokenise(alphabet=10)", 9, "in quotes", ""),
        ("tokenise(alphabet='upper', domain='')", 27, "1 to 100", ""),
        ("constant", 0, "needs `value`", ""),
        ("constant('a", 9, "not closed", "''"),
        ("constant('a\x00')", 9, "cannot be printed", ""),
        ("constant(" + "9" * 37 + ")", 9, "at most 36 digits", ""),
        ("suppress(5)", 0, "`suppress` needs `by`", "by: the field"),
        ("suppress(1, by='city')", 9, "`k` is between 2 and", ""),
        ("suppress('5', by='city')", 9, "`k` of `suppress` is a whole number", ""),
        ("suppress(5, by=7)", 12, "text in quotes", ""),
        ("suppress(5, by='a'|'')", 19, "`by` names no field", "`by='city'`"),
        ("suppress(5, by='a'|'b'|'a')", 23, "names `a` twice", "once"),
        ("suppress(5|6, by='a')", 11, "`k` takes one value", ""),
        ("bucket", 0, "needs `edges`", "edges: where"),
        ("bucket(0|)", 9, "expected a number or a quoted text", ""),
        ("bucket(|1)", 7, "expected a number or a quoted text", ""),
        ("bucket(0 1)", 9, "expected `,` or `)`", ""),
        ("bucket(0|1|1.0)", 11, "ascend, and `1.0` comes after `1`", "in order"),
        ("bucket(edges=10|100|5)", 20, "ascend", ""),
        ("bucket(0|'2026-01-01')", 9, "all numbers or all days", ""),
        ("bucket('2026-01-01'|'2026-02-30')", 7, "a list of numbers, or of days", ""),
        ("bucket(0|x)", 9, "expected a number", "quoted"),
        ("bucket(0|1, as='mid')", 12, "can only be `'lower'`", ""),
        ("bucket(0|1, as='lower'|'upper')", 23, "`as` takes one value", ""),
        ("round(1|2)", 8, "`n` takes one value", ""),
        ("truncate(month)", 9, "expected a number or a quoted text", "quoted"),
        ("truncate('monht')", 9, "no unit `monht`", "`'month'`"),
        ("shift(days=30)", 0, "needs `per`", "per: the field"),
        ("shift(per='who')", 0, "needs `days`", ""),
        ("shift(days=0, per='who')", 6, "between 1 and 36500", ""),
        ("shift(days=1.5, per='who')", 6, "whole number", ""),
        ("shift(days=1, per='')", 14, "names no field", ""),
        ("shift(days=1, per='who', domain='')", 25, "1 to 100", ""),
        ("clear(1)", 6, "no further unnamed argument", "`clear`"),
        ("clear(n=1)", 6, "no parameter `n`", ""),
        ("round(5); clear", 8, "unexpected `;`", ""),
        ("x" * 2000, 0, "at most 1000", ""),
    ],
)
def test_wrong_text_is_refused_at_its_place(text, offset, message, hint):
    """A wrong text is refused with the offset of what is wrong, and a hint where one helps."""
    with pytest.raises(BadTreatment) as caught:
        parse(text)
    assert caught.value.offset == offset
    assert message in caught.value.message
    assert hint in caught.value.hint


@given(st.text(max_size=30) | st.text("clearoundptis(),='0123456789. ", max_size=30))
def test_parsing_gives_a_treatment_or_bad_treatment(text):
    """Any text is read or refused with an offset within it."""
    try:
        treatment = parse(text)
    except BadTreatment as bad:
        offset = bad.offset
    else:
        offset = 0
        assert parse(str(treatment)) == treatment
    assert 0 <= offset <= len(text)


def test_table_is_in_order_of_preference():
    """The table's names are the classes' own, ranks differ, `clear` is first and `redact` last."""
    ranks = [kind.rank for kind in TABLE.values()]
    assert list(TABLE) == [kind.name for kind in TABLE.values()]
    assert ranks == sorted(set(ranks))
    assert TABLE["clear"].rank == 0
    assert list(TABLE)[-1] == "redact"
    assert all(dataclasses.is_dataclass(kind) for kind in TABLE.values())


@given(st.lists(TREATMENTS, max_size=6))
def test_preference_is_a_total_order(treatments):
    """Forms sort by (rank, fineness), and only equal forms tie."""
    keys = [(each.rank, each.fineness) for each in treatments]
    ordered = sorted(keys)
    assert all(one <= other for one, other in pairwise(ordered))
    assert len(set(keys)) == len(set(treatments))


@pytest.mark.parametrize(
    ("finer", "coarser"),
    [
        ("round(0.05)", "round(1)"),
        ("round(10)", "round(100)"),
        ("partial(first=3, last=4)", "partial(last=4)"),
        ("clear", "suppress(2, by='city')"),
        ("suppress(100, by='city')", "round(0.01)"),
        ("round(1000)", "bucket(1|2|3)"),
        ("bucket(0|10|100)", "bucket(0|100)"),
        ("bucket(0|100, as='lower')", "bucket(0|100)"),
        ("truncate('hour')", "truncate('day')"),
        ("truncate('day')", "truncate('week')"),
        ("truncate('week')", "truncate('month')"),
        ("truncate('month')", "truncate('quarter')"),
        ("truncate('quarter')", "truncate('year')"),
        ("truncate('year')", "shift(days=1, per='who')"),
        ("shift(days=9, per='who')", "shift(days=30, per='who')"),
        ("shift(days=36500, per='who')", "partial(last=9)"),
        ("partial(last=9)", "tokenise"),
        ("tokenise", "pseudonym"),
        ("pseudonym", "encrypt"),
        ("encrypt", "constant(1)"),
        ("constant(1)", "redact"),
    ],
)
def test_finer_is_preferred(finer, coarser):
    """Clear before redacted, and of one kind the finer first."""
    one, other = parse(finer), parse(coarser)
    assert (one.rank, one.fineness) < (other.rank, other.fineness)


@given(TREATMENTS, TREATMENTS)
def test_comparable_is_symmetric_and_reflexive(one, other):
    """Whether two forms compare does not hang on who is named first; a form compares with itself."""
    assert comparable(one, other) == comparable(other, one)
    assert comparable(one, one)


@given(st.lists(TREATMENTS, min_size=3, max_size=3))
def test_forms_of_one_kin_compare_with_the_same_forms(some):
    """Whoever looks at one form of a kin has looked at all of them."""
    one, other, third = some
    if one.kin == other.kin:
        assert comparable(one, other)
        assert comparable(one, third) == comparable(other, third)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("clear", "pseudonym", True),
        ("redact", "partial(last=4)", True),
        ("constant(1)", "round(5)", True),
        ("encrypt", "pseudonym", True),
        ("round(5)", "round(100)", True),
        ("partial(last=4)", "partial(last=4, with='*')", True),
        ("partial(last=4)", "partial(last=3)", False),
        ("partial(last=4)", "pseudonym", False),
        ("round(5)", "partial(last=4)", False),
        ("round(5)", "pseudonym", False),
        ("tokenise", "pseudonym", False),
        ("tokenise", "tokenise(domain='stores')", False),
        ("tokenise", "encrypt", True),
        ("pseudonym", "pseudonym(domain='stores')", False),
        ("bucket(0|100)", "bucket(0|10|100)", True),
        ("bucket(0|1.0)", "bucket(0|1, as='lower')", True),
        ("bucket(0|100)", "bucket(0|50)", False),
        ("bucket(0|100)", "round(100)", False),
        ("bucket(0|100)", "clear", True),
        ("truncate('week')", "truncate('month')", True),
        ("truncate('week')", "partial(first=4)", False),
        ("truncate('week')", "shift(days=7, per='who')", False),
        ("shift(days=7, per='who')", "shift(days=30, per='who')", True),
        ("shift(days=7, per='who')", "shift(days=7, per='whose')", False),
        ("shift(days=7, per='who')", "shift(days=7, per='who', domain='care')", False),
        ("pseudonym(domain='stores')", "pseudonym(domain='stores')", True),
    ],
)
def test_which_forms_compare(one, other, expected):
    """All or nothing of a cell compares with everything; other kinds only with their own."""
    assert comparable(parse(one), parse(other)) is expected


@given(TREATMENTS, CELLS)
def test_every_cell_gets_a_value_of_the_given_type(apply, treatment, cells):
    """On any cells of any accepted type no treatment raises, and what it gives is of its type."""
    for type_ in treatment.takes:
        given_type = treatment.gives(type_)
        for text in apply(treatment, cells, type_):
            assert text is None or isinstance(treatment, Clear) or given_type is not None
            if text is not None and not isinstance(treatment, Clear):
                assert scalar(text, given_type) is not None


@given(TREATMENTS, CELLS)
def test_no_value_stays_no_value(apply, treatment, cells):
    """Null is given as null, and so is a cell that is no value of its type; `constant` looks at none."""
    for type_ in treatment.takes:
        treated = apply(treatment, cells, type_)
        for before, after in zip(cells, treated, strict=True):
            if isinstance(treatment, Constant):
                assert after == treatment.value.text
            elif isinstance(treatment, Redact | Suppress):  # no row was counted
                assert after is None
            elif isinstance(treatment, Clear):
                assert after == before
            elif before is None or scalar(before, type_) is None:
                assert after is None
            elif not isinstance(treatment, Round | Bucket | Shift | Tokenise):  # these have bounds
                assert after is not None


@given(TREATMENTS, CELLS)
def test_large_and_small_batches_agree(apply, treatment, cells):
    """A cell's form does not hang on the batch that it comes in: short, long, repeated or mixed."""
    if not treatment.deterministic:
        return
    for type_ in treatment.takes:
        one_by_one = [apply(treatment, [cell], type_)[0] for cell in cells]
        assert apply(treatment, cells, type_) == one_by_one
        assert apply(treatment, cells * 300, type_) == one_by_one * 300
        filler = [str(n) for n in range(300)]
        assert apply(treatment, cells + filler, type_)[: len(cells)] == one_by_one


def test_documentation_names_every_treatment_and_parameter():
    """The generated table holds every treatment, parameter and accepted type of the table."""
    text = documentation()
    for kind in TABLE.values():
        assert f"| `{kind.name}" in text
        assert kind.summary in text
        for parameter in kind.parameters:
            assert f"| `{parameter.name}` | `{kind.name}` | {parameter.summary} |" in text
    rows = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(rows) == {7, 4}


@given(TREATMENTS)
def test_documented_output_is_what_is_given(treatment):
    """The documentation's words for the type given are true."""
    given_types = {type_: treatment.gives(type_) for type_ in treatment.takes}
    match type(treatment).output:
        case "text":
            assert set(given_types.values()) == {Type.TEXT}
        case "none":
            assert set(given_types.values()) == {None}
        case "the field's":
            assert all(type_ == given for type_, given in given_types.items())
        case "text; with `as='lower'` the field's, or decimal where an edge has a point":
            for type_, given in given_types.items():
                if treatment.given is None:
                    assert given is Type.TEXT
                else:
                    assert given is type_ or (given is Type.DECIMAL and type_ is Type.INTEGER)
        case "the field's, or text":
            assert all(given in (type_, Type.TEXT) for type_, given in given_types.items())
        case _:
            assert all(given.is_number for given in given_types.values())


# ── what each says of itself ──


@pytest.mark.parametrize("kind", TABLE.values(), ids=TABLE)
def test_each_treatment_says_what_it_is_for(kind):
    """What it tells, when to use it and when not stand in sentences, with examples of its own."""
    for words in (kind.summary, kind.tells, kind.use, kind.avoid):
        assert words.endswith(".") and len(words) > 20 and words.strip() == words
    assert kind.unchanged and isinstance(kind.idempotent, bool)
    assert kind.shown
    for text, type_, cell in kind.shown:
        treatment = parse(text)
        assert type(treatment) is kind and str(treatment) == text
        assert type_ in treatment.takes <= kind.accepts and scalar(cell, type_) is not None


@given(TREATMENTS, CELLS)
def test_a_value_is_given_as_it_is_where_that_is_said_alone(apply, treatment, cells):
    """What is never to be given as it is never is; what always is, is."""
    for type_ in treatment.takes:
        for before, after in zip(cells, apply(treatment, cells, type_), strict=True):
            if treatment.unchanged == "always":
                assert after == before
            elif treatment.unchanged == "never" and before is not None:
                assert after != before
                assert (
                    after is None
                    or scalar(after, type_) != scalar(before, type_)
                    or type_ is Type.TEXT
                )


@pytest.mark.parametrize(("kind", "example"), SHOWN, ids=str)
def test_what_is_shown_of_a_form_is_what_it_changes(apply, kind, example):
    """Each example shows a cell that the form does not give as it is, but for `clear`."""
    text, type_, cell = example
    assert (apply(text, [cell], type_) == [cell]) == (kind.unchanged == "always")


@given(TREATMENTS, CELLS)
def test_what_is_given_is_given_again_alike_where_that_is_said(apply, treatment, cells):
    """A form of its own results, where it takes their type, is these results."""
    if not treatment.idempotent:
        return
    for type_ in treatment.takes:
        again = treatment.gives(type_)
        if again in treatment.takes:
            once = apply(treatment, cells, type_)
            assert apply(treatment, once, again) == once


@pytest.mark.parametrize("kind", [k for k in TABLE.values() if not k.idempotent], ids=str)
def test_what_is_not_given_again_alike_is_not(apply, kind):
    """Of each form for which that is denied, some result comes out otherwise the second time."""
    found = set()
    for text, type_, cell in [*kind.shown, ("partial(last=1)", Type.TEXT, "a")]:
        treatment = parse(text)
        again = treatment.gives(type_)
        if type(treatment) is kind and again in treatment.takes:
            once = apply(treatment, [cell], type_)
            found.add(apply(treatment, once, again) == once)
    assert False in found


@pytest.mark.parametrize(("kind", "example"), SHOWN, ids=str)
def test_what_is_deterministic_is_said(apply, kind, example):
    """The same cell under the same key comes out alike if and only if its form says so."""
    text, type_, cell = example
    assert (apply(text, [cell], type_) == apply(text, [cell], type_)) == parse(text).repeats
