"""Pieces of text that are cut out and put together are what slices of bytes are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from proxy.formats import pieces
from proxy.texts import Coded, texts

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


def coded(cells):
    """The cells with each distinct one once."""
    distinct = list(dict.fromkeys(cells))
    codes = np.array([distinct.index(cell) for cell in cells], np.int32)
    return Coded(texts(pl.Series(distinct, dtype=pl.String)), codes)


class Fields:
    """Records whose fields are spans, in order, with what stands between two."""

    def __init__(self, text, spans):
        self.text, self.data = text, data(text)
        self.spans = dict(zip("abcd", spans, strict=False))

    def span(self, first, last):
        return self.spans[first][0], self.spans[last][1]

    def until(self, first, other):
        return self.spans[first][0], self.spans[other][0]

    def between(self, field, other):
        if ord(other) != ord(field) + 1:
            return None
        (_, ends), (starts, _) = self.spans[field], self.spans[other]
        found = {self.text[end:start] for end, start in zip(ends, starts, strict=True)}
        return found.pop() if len(found) == 1 else None


@given(blocks(4), st.data())
def test_woven_records_are_their_columns_in_turn(block, draw):
    """Fields that pass, alone or in runs, and others of any kind, after what leads to each; then the tail."""
    text, spans, height = block
    source = Fields(text, spans)
    cells = st.lists(st.none() | TEXT, min_size=height, max_size=height)
    order = draw.draw(st.permutations("abcd"))[: draw.draw(st.integers(1, 4))]
    between = source.between(*order[:2]) if len(order) > 1 else None
    fixed = TEXT.map(str.encode) | st.just(between or b",")
    leads = [draw.draw(fixed) for _ in order]
    kinds = {field: draw.draw(st.none() | fixed | cells | cells.map(coded)) for field in order}
    tail = draw.draw(TEXT.map(str.encode))
    expected = b""
    for row in range(height):
        for field, lead in zip(order, leads, strict=True):
            column = kinds[field]
            starts, ends = source.spans[field]
            cell = text[starts[row] : ends[row]] if column is None else column
            if isinstance(column, Coded):
                cell = column.column().to_list()[row] or ""
            elif isinstance(column, list):
                cell = column[row] or ""
            expected += lead + (cell.encode() if isinstance(cell, str) else cell)
        expected += tail
    columns = {
        field: texts(pl.Series(column, dtype=pl.String)) if isinstance(column, list) else column
        for field, column in kinds.items()
    }
    assert pieces.woven(columns, leads, tail, source=source, height=height) == expected


@given(st.lists(st.none() | st.text('a",é', max_size=3), min_size=1, max_size=6), st.integers(0, 5))
def test_characters_are_looked_for_in_the_cells_alone(cells, skip):
    """What an array was sliced from does not count; null is no empty text."""
    # As after many an operation of polars, text stays beneath a null.
    beneath = pl.Series(["be,neath" if cell is None else cell for cell in cells], dtype=pl.String)
    column = beneath.set(pl.Series([cell is None for cell in cells]), None)
    array = texts(column)[min(skip, len(cells) - 1) :]
    own = [cell for cell in array.to_pylist() if cell is not None]
    assert pieces.has_any(array, b'"\n') == any(not c or '"' in c for c in own)
    whole = texts(pl.Series(own, dtype=pl.String))
    assert pieces.has_pair(whole, ord('"')) == ('""' in "".join(own))
