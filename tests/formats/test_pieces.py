"""Pieces of text that are cut out and put together are what slices of bytes are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from proxy.formats import pieces
from proxy.texts import texts

TEXT = st.text("aé\U0001d11e,", max_size=5)


@st.composite
def blocks(draw, spans: int):
    """A text, and in each of its records so many spans, with gaps of any length before them."""
    height = draw(st.integers(1, 6))
    parts = draw(st.lists(TEXT, min_size=2 * spans * height, max_size=2 * spans * height))
    encoded = [part.encode() for part in parts]
    ends = np.cumsum([0, *map(len, encoded)])
    bounds = [*pairwise(ends.tolist())][1::2]
    by_record = np.array(bounds, np.intp).reshape(height, spans, 2)
    places = [(by_record[:, at, 0].copy(), by_record[:, at, 1].copy()) for at in range(spans)]
    return b"".join(encoded), places, height


def data(text: bytes):
    return np.frombuffer(text, np.uint8)


@given(blocks(1))
def test_a_cut_is_a_slice(block):
    """Each piece is what a slice of the block is, in the records' order."""
    text, [(starts, ends)], _ = block
    found = pieces.cut(data(text), (starts, ends)).to_pylist()
    expected = [text[a:b].decode() for a, b in zip(starts, ends, strict=True)]
    assert found == expected


@given(st.integers(0, 3).flatmap(blocks), st.data())
def test_records_put_together_are_their_parts_in_turn(block, draw):
    """Spans in any order and any number, fixed bytes and cells, null being nothing."""
    text, spans, height = block
    cells = st.lists(st.none() | TEXT, min_size=height, max_size=height)
    part = st.one_of(
        *([st.integers(0, len(spans) - 1)] if spans else []), TEXT.map(str.encode), cells
    )
    parts = draw.draw(st.lists(part, min_size=1, max_size=6))
    expected = b""
    for row in range(height):
        for each in parts:
            if isinstance(each, int):
                expected += text[spans[each][0][row] : spans[each][1][row]]
            elif isinstance(each, bytes):
                expected += each
            else:
                expected += (each[row] or "").encode()
    given_ = [texts(pl.Series(p, dtype=pl.String)) if isinstance(p, list) else p for p in parts]
    assert pieces.together(data(text), spans, given_, height) == expected


@given(st.lists(st.none() | st.text('a",é', max_size=3), min_size=1, max_size=6), st.integers(0, 5))
def test_characters_are_looked_for_in_the_cells_alone(cells, skip):
    """What an array was sliced from does not count; null is no empty text."""
    array = texts(pl.Series(cells, dtype=pl.String))[min(skip, len(cells) - 1) :]
    own = [cell for cell in array.to_pylist() if cell is not None]
    assert pieces.has_any(array, b'",') == any(not c or set(c) & set('",') for c in own)
    assert pieces.has_pair(array, ord('"')) == ('""' in "".join(own))
