"""`partial`: what is shown, and that nothing else leaves."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.treatments.masking import WIDTH, Partial
from proxy.values import Type

PARTIALS = st.builds(
    lambda first, last, mask: Partial(first=first, last=last, mask=mask),
    st.integers(0, 4),
    st.integers(1, 4),
    st.sampled_from("*#•x"),
)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


@given(PARTIALS, TEXTS, TEXTS, TEXTS, TEXTS)
def test_the_hidden_part_does_not_leave(apply, partial, head, one, other, tail):
    """Two values with the same ends are given alike, whatever and however long their middles are."""
    assume(one and other)
    first = head[: partial.first].ljust(partial.first, "a")
    last = tail[: partial.last].ljust(partial.last, "z")
    values = [first + one + last, first + other + last]
    for times in (1, 200):
        assert set(apply(partial, values * times)) == {first + partial.mask * WIDTH + last}


@given(PARTIALS, st.lists(TEXTS, min_size=1))
def test_short_values_are_hidden_whole(apply, partial, texts):
    """A value that is not longer than what would be shown shows nothing, not even its length."""
    short = [text[: partial.first + partial.last] for text in texts]
    for times in (1, 300):
        assert set(apply(partial, short * times)) == {partial.mask * WIDTH}


@given(PARTIALS, st.lists(TEXTS))
def test_never_the_value_itself(apply, partial, texts):
    """No value is given whole, unless what it hides happens to be the mask."""
    for before, after in zip(texts, apply(partial, texts), strict=True):
        if partial.mask * WIDTH not in before:
            assert after != before


@pytest.mark.parametrize(
    ("treatment", "cell", "expected"),
    [
        ("partial(last=4)", "4111111111111111", "***1111"),
        ("partial(first=1)", "alice@example.org", "a***"),
        ("partial(first=2, last=2, with='#')", "Müller", "Mü###er"),
        ("partial(last=4)", "1111", "***"),
        ("partial(last=4)", "", "***"),
        ("partial(last=1)", "né", "***é"),
        ("partial(first=1)", "𝔸bc", "𝔸***"),
    ],
)
def test_examples(apply, treatment, cell, expected):
    """Known cases, in code points."""
    assert apply(treatment, [cell]) == [expected]
    assert apply(treatment, [cell] * 300) == [expected] * 300


def test_dates_and_integers_are_masked_as_written(apply):
    """A date or an integer is masked as its text, and what is neither is no value."""
    assert apply("partial(first=4)", ["2026-02-28", "2026-02-29"], Type.DATE) == ["2026***", None]
    assert apply("partial(last=2)", ["12345", "1.5"], Type.INTEGER) == ["***45", None]
