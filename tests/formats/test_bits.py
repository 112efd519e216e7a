"""Masks of 64 bytes a word say what a look at each byte says."""

from __future__ import annotations

import re
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
    """`where` finds every one of them, `count` says how many, `following` and `preceding` are beside."""
    mask = bits.where(data(text), ord(","))
    found = [at for at, byte in enumerate(text) if byte == ord(",")]
    assert places(mask) == found
    assert bits.count(mask) == len(found)
    assert [at for at in places(bits.following(mask)) if at <= len(text)] == [
        at + 1 for at in found
    ]
    assert places(bits.preceding(mask)) == [at - 1 for at in found if at]


@given(TEXTS)
def test_between_quotes(text):
    """A byte is between quotes where an odd number of them has come up to and with it."""
    inside = bits.between(bits.where(data(text), ord('"')))
    seen = accumulate(text, lambda odd, byte: odd ^ (byte == ord('"')), initial=0)
    expected = [at - 1 for at, odd in enumerate(seen) if odd]
    assert [at for at in places(inside) if at < len(text)] == expected


@given(TEXTS, st.sampled_from([1, 70, 500]), st.data())
def test_counts_and_next(text, wide, draw):
    """What is counted before a place, and what is nearest on either side of it, is what a loop finds."""
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
    preceded = [at for at in asked if b"," in text[:at]]
    found = bits.last_set(mask, np.array(preceded, np.intp)).tolist()
    assert found == [text.rindex(b",", 0, at) for at in preceded]


@given(st.lists(st.integers(1, 50), max_size=30))
def test_longest(lengths):
    """The longest record is the longest distance between two ends, or from the start to the first."""
    assert bits.longest(np.array([*accumulate(lengths)], np.intp)) == max(lengths, default=0)


@given(TEXTS, st.integers(0, 40) | st.just(500))
def test_past_runs(text, repeat):
    """From the first byte of a run, however long, what comes right after the run is found."""
    text = text.replace(b"a", b"a" * (1 + 5 * repeat)) + b","
    runs = bits.where(data(text), ord("a"))
    found = [m.span() for m in re.finditer(b"a+", text)]
    begun = [span for number, span in enumerate(found) if number % 3 != 1]
    starts = np.zeros_like(runs)
    for start, _ in begun:
        starts[start >> 6] |= np.uint64(1 << (start & 63))
    assert places(bits.past(starts, runs)) == [end for _, end in begun]


@given(st.integers(0, 70), st.integers(1, 300), st.integers(0, 64))
def test_offsets_of_dense_and_sparse_masks(every, size, first):
    """Offsets are found in their order, however many stand in a word."""
    text = bytes(int(at >= first and (at - first) % (every + 1) == 0) for at in range(size))
    assert places(bits.where(data(text), 1)) == [at for at, byte in enumerate(text) if byte]
