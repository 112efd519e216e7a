"""`encrypt` on many cells: nonces, what a column of ciphertexts tells, and what is refused."""

from __future__ import annotations

import base64
import os
import random
import tracemalloc
from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.batch import PLAIN, Batch
from proxy.errors import ValueRefused
from proxy.few import Few
from proxy.keys import NONCE_BYTES, Keyring, MasterKey
from proxy.texts import plain
from proxy.treatments import opened
from proxy.treatments.encryption import Encrypt
from proxy.treatments.sealed import written
from proxy.values import Type

URL_SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
ROW = {"id": "1"}


def decrypt(cell, where, row):
    """Give the value alone."""
    return opened(cell, where, row).text


def sealed_bytes(cell: str) -> bytes:
    """What stands behind the version and the key id: nonce, ciphertext, tag."""
    written = cell.rpartition(".")[2]
    return base64.urlsafe_b64decode(written + "=" * (-len(written) % 4))


def blocks(cells: int, site):
    """As many cells in blocks of a reader's size, sealed by one request after the other."""
    for start in range(0, cells, 50_000):
        size = min(50_000, cells - start)
        values = pl.Series("f", [f"{n % 1333}" for n in range(size)], dtype=pl.String)
        batch = Batch({"f": values}, height=size, lexis=PLAIN, types={"f": Type.TEXT})
        yield plain(Encrypt().bind(site())(batch)).to_list()


@pytest.mark.threat("G62")
@pytest.mark.parametrize(
    "cells", [pytest.param(100_000), pytest.param(1_000_000, marks=pytest.mark.prove)]
)
def test_no_nonce_repeats(site, cells):
    """Of so many cells, most of them equal, no two have one nonce, nor one ciphertext."""
    sealed = [sealed_bytes(cell) for block in blocks(cells, site) for cell in block]
    assert len({each[:NONCE_BYTES] for each in sealed}) == cells
    assert len({each[NONCE_BYTES:] for each in sealed}) == cells


@given(TEXTS, TEXTS)
def test_a_length_tells_a_class_and_no_more(apply, one, other):
    """Values of 30 bytes or fewer are given in one length, whatever they are; so are those up to 62."""

    def class_of(text):
        return len(text.encode()) >= 31, len(text.encode()) >= 63, len(text.encode()) >= 127

    (first,), (second,) = apply("encrypt", [one]), apply("encrypt", [other])
    assert (len(first) == len(second)) == (class_of(one) == class_of(other))


def test_nothing_of_long_values_is_kept(site):
    """PROMISE 4 (bounded memory): that values had many lengths takes no memory once they are given."""
    operation = Encrypt().bind(site())
    tracemalloc.start()
    try:
        for length in range(140_000, 140_064):
            values = Few(["x" * length])
            operation(Batch({"f": values}, height=1, lexis=PLAIN, types={"f": Type.TEXT}, few=True))
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.lists(st.binary(min_size=1, max_size=90), max_size=9), st.sampled_from((1, 114, 1024)))
def test_cells_are_written_each_by_itself(parts, times):
    """However many cells of whatever lengths are written together, each is base64url without padding."""
    cells = parts * times
    alone = {each: base64.urlsafe_b64encode(each).decode().rstrip("=") for each in parts}
    assert written("cf1.k.r3", cells) == [f"cf1.k.r3.{alone[each]}" for each in cells]


def chi_square(seen: Counter[int]) -> float:
    """Pearson's statistic of bytes against all alike; 255 degrees of freedom."""
    expected = sum(seen.values()) / 256
    return sum((seen[byte] - expected) ** 2 for byte in range(256)) / expected


ALIKE = 255 + 6 * (2 * 255) ** 0.5
"""Six deviations above the mean."""


def test_ciphertexts_look_like_chance(site, monkeypatch):
    """Every byte of a column's ciphertexts is as frequent, at each place, whatever the values; and
    neither the order of ciphertexts nor their bytes follow that of the values. The seed is fixed.
    """
    monkeypatch.setattr(os, "urandom", random.Random(8452).randbytes)
    high, low = "9" * 20, "1"
    values = pl.Series("f", [high, low] * 3_000)
    batch = Batch({"f": values}, height=6_000, lexis=PLAIN, types={"f": Type.TEXT})
    cells = plain(Encrypt().bind(site())(batch)).to_list()
    sealed = [sealed_bytes(cell) for cell in cells]
    assert len({*map(len, sealed)}) == 1
    for place in range(len(sealed[0])):
        assert chi_square(Counter(each[place] for each in sealed)) < ALIKE
        differences = (a[place] ^ b[place] for a, b in zip(sealed[::2], sealed[1::2], strict=True))
        assert chi_square(Counter(differences)) < ALIKE
    above = sum(a > b for a, b in zip(cells[::2], cells[1::2], strict=True))
    assert abs(above - 1_500) < 5 * (3_000 / 4) ** 0.5
    # The measure notices: the values' own bytes are far from alike.
    assert chi_square(Counter(ord(cell[0]) for cell in values)) > ALIKE


def test_no_altered_cell_opens(apply, site):
    """A cell of which one character is another, is missing or is there twice, is refused."""
    (cell,) = apply("encrypt", ["AB-1234-77"], key={"id": ["1"]})
    here = site(key=("id",))
    assert decrypt(cell, here, ROW) == "AB-1234-77"
    for at in range(len(cell)):
        others = {URL_SAFE[(URL_SAFE.find(cell[at]) + step) % 64] for step in (1, 2, 4, 8, 16, 32)}
        for other in {*others, ".", "~"} - {cell[at]}:
            with pytest.raises(ValueRefused):
                decrypt(cell[:at] + other + cell[at + 1 :], here, ROW)
        for moved in (cell[:at] + cell[at + 1 :], cell[:at], cell[: at + 1] + cell[at:]):
            with pytest.raises(ValueRefused):
                decrypt(moved, here, ROW)


@pytest.mark.threat("G62")
@pytest.mark.parametrize(
    ("place", "row"),
    [({"field": "g"}, ROW), ({"report": "other"}, ROW), ({}, {"id": "2"}), ({}, {}), ({}, {"id": None})],
)  # fmt: skip
def test_no_moved_cell_opens(apply, site, place, row):
    """A cell in another field, report or row, or in none, is refused."""
    (cell,) = apply("encrypt", ["value"], key={"id": ["1"]})
    with pytest.raises(ValueRefused):
        decrypt(cell, site(key=("id",), **place), row)


def test_no_cell_opens_under_another_key_id(apply, site):
    """A cell that names another key of the keyring than the one that sealed it is refused."""
    ring = Keyring([
        MasterKey(id="one", created="", state="active", secret=bytes(32)),
        MasterKey(id="two", created="", state="retired", secret=bytes(32)),
    ])  # fmt: skip
    (cell,) = apply("encrypt", ["value"], key={"id": ["1"]}, keyring=ring)
    here = site(key=("id",), keyring=ring)
    assert decrypt(cell, here, ROW) == "value"
    for renamed in ("two", "three"):
        assert ".one." in cell
        with pytest.raises(ValueRefused):
            decrypt(cell.replace(".one.", f".{renamed}."), here, ROW)
