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
from proxy.treatments.clear import Clear
from proxy.treatments.constants import Constant, Redact
from proxy.treatments.encryption import Encrypt
from proxy.treatments.masking import Partial
from proxy.treatments.pseudonyms import Pseudonym
from proxy.treatments.rounding import Round
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
CONSTANTS = st.builds(
    lambda literal: Constant(value=literal),
    st.builds(lambda text: Literal(text, quoted=True), TEXTS)
    | st.builds(lambda text: Literal(text, quoted=False), NUMBERS),
)
TREATMENTS = st.one_of(
    ROUNDS, PARTIALS, PSEUDONYMS, CONSTANTS, st.sampled_from([Clear(), Encrypt(), Redact()])
)
CELLS = st.lists(
    st.none()
    | st.text(max_size=8)
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
        ("constant('n/a')", "constant('n/a')"),
        ("constant('it''s, (so)')", "constant('it''s, (so)')"),
        ("constant(-1.50)", "constant(-1.50)"),
        ("constant('')", "constant('')"),
        ("encrypt", "encrypt"),
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
        ("constant", 0, "needs `value`", ""),
        ("constant('a", 9, "not closed", "''"),
        ("constant('a\x00')", 9, "cannot be printed", ""),
        ("constant(" + "9" * 37 + ")", 9, "at most 36 digits", ""),
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
        ("clear", "round(0.01)"),
        ("round(1000)", "partial(last=9)"),
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
        ("pseudonym", "pseudonym(domain='stores')", False),
        ("pseudonym(domain='stores')", "pseudonym(domain='stores')", True),
    ],
)
def test_which_forms_compare(one, other, expected):
    """All or nothing of a cell compares with everything; other kinds only with their own."""
    assert comparable(parse(one), parse(other)) is expected


@given(TREATMENTS, CELLS)
def test_every_cell_gets_a_value_of_the_given_type(apply, treatment, cells):
    """On any cells of any accepted type no treatment raises, and what it gives is of its type."""
    for type_ in treatment.accepts:
        given_type = treatment.gives(type_)
        for text in apply(treatment, cells, type_):
            assert text is None or isinstance(treatment, Clear) or given_type is not None
            if text is not None and not isinstance(treatment, Clear):
                assert scalar(text, given_type) is not None


@given(TREATMENTS, CELLS)
def test_no_value_stays_no_value(apply, treatment, cells):
    """Null is given as null, and so is a cell that is no value of its type; `constant` looks at none."""
    for type_ in treatment.accepts:
        treated = apply(treatment, cells, type_)
        for before, after in zip(cells, treated, strict=True):
            if isinstance(treatment, Constant):
                assert after == treatment.value.text
            elif isinstance(treatment, Redact):
                assert after is None
            elif isinstance(treatment, Clear):
                assert after == before
            elif before is None or scalar(before, type_) is None:
                assert after is None
            elif not isinstance(treatment, Round):
                assert after is not None


@given(TREATMENTS, CELLS)
def test_large_and_small_batches_agree(apply, treatment, cells):
    """A cell's form does not hang on the batch that it comes in: short, long, repeated or mixed."""
    if not treatment.deterministic:
        return
    for type_ in treatment.accepts:
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
    given_types = {type_: treatment.gives(type_) for type_ in treatment.accepts}
    match type(treatment).output:
        case "text":
            assert set(given_types.values()) == {Type.TEXT}
        case "none":
            assert set(given_types.values()) == {None}
        case "the field's":
            assert all(type_ == given for type_, given in given_types.items())
        case "the field's, or text":
            assert all(given in (type_, Type.TEXT) for type_, given in given_types.items())
        case _:
            assert all(given.is_number for given in given_types.values())
