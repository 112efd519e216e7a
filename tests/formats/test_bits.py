"""Masks of 64 bytes a word say what a look at each byte says."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from proxy.formats import bits

TEXTS = st.text('"",,\nab', max_size=400).map(str.encode)


def data(text: bytes):
    return np.frombuffer(text, np.uint8)


def places(mask) -> list[int]:
    return bits.offsets(mask).tolist()


@given(TEXTS)
def test_where_bytes_are(text):
    """`where` finds every one of them, `count` says how many."""
    mask = bits.where(data(text), ord(","))
    found = [at for at, byte in enumerate(text) if byte == ord(",")]
    assert places(mask) == found
    assert bits.count(mask) == len(found)


@given(TEXTS)
def test_between_quotes(text):
    """A byte is between quotes where an odd number of them has come up to and with it."""
    inside = bits.between(bits.where(data(text), ord('"')))
    seen = accumulate(text, lambda odd, byte: odd ^ (byte == ord('"')), initial=0)
    expected = [at - 1 for at, odd in enumerate(seen) if odd]
    assert [at for at in places(inside) if at < len(text)] == expected


@given(TEXTS, st.sampled_from([1, 70, 500]), st.data())
def test_counts_and_next(text, wide, draw):
    """What is counted before a place, and what is nearest after it, is what a loop finds."""
    text = text.replace(b"a", b"a" * wide)
    mask = bits.where(data(text), ord(","))
    asked = sorted(draw.draw(st.lists(st.integers(0, max(len(text) - 1, 0)), max_size=20)))
    if not text:
        return
    asked_for = np.array(asked, np.intp)
    assert bits.counts_before(mask, asked_for).tolist() == [text[:at].count(b",") for at in asked]
    followed = [at for at in asked if b"," in text[at:]]
    found = bits.next_set(mask, np.array(followed, np.intp)).tolist()
    assert found == [text.index(b",", at) for at in followed]


@given(st.lists(st.integers(1, 50), max_size=30))
def test_longest(lengths):
    """The longest record is the longest distance between two ends, or from the start to the first."""
    assert bits.longest(np.array([*accumulate(lengths)], np.intp)) == max(lengths, default=0)


@given(st.integers(0, 70), st.integers(1, 300), st.integers(0, 64))
def test_offsets_of_dense_and_sparse_masks(every, size, first):
    """Offsets are found in their order, however many stand in a word."""
    text = bytes(int(at >= first and (at - first) % (every + 1) == 0) for at in range(size))
    assert places(bits.where(data(text), 1)) == [at for at, byte in enumerate(text) if byte]
