"""`encrypt`: what is sealed opens in its place alone."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ValueRefused
from proxy.keys import Keyring, MasterKey
from proxy.treatments import decrypt
from proxy.values import Type

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=100)
KEY = {"store_id": ["42"], "date": ["2026-11-23"]}
ROW = {"store_id": "42", "date": "2026-11-23"}
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def keyed(cells, **columns):
    """Stretch each key column to the height of `cells`."""
    return {name: [value] * len(cells) for name, value in columns.items()}


@given(st.lists(st.none() | TEXTS, max_size=8), st.lists(st.none() | TEXTS, min_size=8, max_size=8))
def test_sealed_cells_open_in_their_place(apply, site, cells, ids):
    """Every cell opens to its value in its own row; null stays null."""
    ids = ids[: len(cells)]
    sealed = apply("encrypt", cells, key={"id": ids})
    for cell, value, id_ in zip(sealed, cells, ids, strict=True):
        if value is None:
            assert cell is None
        else:
            assert decrypt(cell, site(key=("id",)), {"id": id_}) == value


@given(TEXTS, st.none() | TEXTS, st.none() | TEXTS)
def test_a_cell_of_another_row_is_refused(apply, site, value, one, other):
    """A cell moved to a row with another key, null and empty told apart, does not open."""
    (sealed,) = apply("encrypt", [value], key={"id": [one]})
    if one == other:
        assert decrypt(sealed, site(key=("id",)), {"id": other}) == value
    else:
        with pytest.raises(ValueRefused):
            decrypt(sealed, site(key=("id",)), {"id": other})


@pytest.mark.parametrize(
    "place",
    [
        {"report": "other"},
        {"field": "g"},
        {"key": ("store_id",)},
        {"key": ()},
        {"key": ("date", "store_id")},
        {"key": ("store_id", "date", "more")},
        {"keyring": Keyring.generate()},
        {"keyring": Keyring([MasterKey(id="k1", created="", state="active", secret=b"\xff" * 32)])},
    ],
)
def test_a_moved_cell_is_refused(apply, site, place):
    """Another report, field, key, or keyring, one with the same key id too: refused."""
    (sealed,) = apply("encrypt", ["value"], key=KEY)
    here = {"key": ("store_id", "date")}
    assert decrypt(sealed, site(**here), ROW) == "value"
    with pytest.raises(ValueRefused):
        decrypt(sealed, site(**{**here, **place}), ROW)


def test_row_values_are_told_apart(apply, site):
    """Key values that run together to the same text are two rows; a missing one is no row."""
    (sealed,) = apply("encrypt", ["value"], key={"a": ["12"], "b": ["3"]})
    for row in ({"a": "1", "b": "23"}, {"a": "123", "b": ""}, {"a": "12"}, {}):
        with pytest.raises(ValueRefused):
            decrypt(sealed, site(key=("a", "b")), row)


def test_purpose_and_subject_do_not_bind(apply, site):
    """Who asked, and why, does not decide whether a cell can be revealed."""
    (sealed,) = apply("encrypt", ["value"], subject="user:alice", purpose="audit")
    assert decrypt(sealed, site(subject="user:bob"), {}) == "value"


def test_a_field_that_is_part_of_the_key(apply, site):
    """A field that is itself in the row's key is bound to the rest of the key."""
    sealed = apply("encrypt", ["7", "8"], key={"f": ["7", "8"], "id": ["a", "b"]})
    assert decrypt(sealed[0], site(key=("f", "id")), {"id": "a"}) == "7"
    with pytest.raises(ValueRefused):
        decrypt(sealed[0], site(key=("f", "id")), {"id": "b"})


@pytest.mark.parametrize("value", ["secret value", "a longer secret value of over 32 bytes"])
def test_every_altered_character_is_refused(apply, site, value):
    """Each character replaced by each other one (spare bits too), left out or doubled: refused."""
    (sealed,) = apply("encrypt", [value], key=KEY)
    where = site(key=("store_id", "date"))
    altered = {
        sealed[:at] + other + sealed[at + 1 :]
        for at in range(len(sealed))
        for other in (*ALPHABET, ".", "=", "+", "/", "", sealed[at] * 2, "é", "\n")
    } - {sealed}
    altered |= {"", ".", "cf1", "cf1..", "cf1.k1.", f"{sealed}=", f"{sealed}\n", f" {sealed}"}
    altered |= {sealed.replace("cf1", "cf2"), sealed.replace("k1", "k2"), sealed.upper()}
    for cell in altered:
        with pytest.raises(ValueRefused):
            decrypt(cell, where, ROW)
    assert decrypt(sealed, where, ROW) == value


def test_retired_keys_open_and_only_the_active_one_seals(apply, site):
    """After a rotation old cells still open, new ones carry the new id; ids are not exchangeable."""
    old = MasterKey(id="old", created="", state="active", secret=b"\x01" * 32)
    before = Keyring([old])
    after = Keyring(
        [
            MasterKey(id="old", created="", state="retired", secret=b"\x01" * 32),
            MasterKey(id="new", created="", state="active", secret=b"\x02" * 32),
        ]
    )
    (earlier,) = apply("encrypt", ["value"], keyring=before)
    (later,) = apply("encrypt", ["value"], keyring=after)
    assert earlier.startswith("cf1.old.")
    assert later.startswith("cf1.new.")
    for cell in (earlier, later):
        assert decrypt(cell, site(keyring=after), {}) == "value"
    with pytest.raises(ValueRefused):
        decrypt(later, site(keyring=before), {})
    with pytest.raises(ValueRefused):
        decrypt(later.replace("new", "old"), site(keyring=after), {})


def test_key_id_is_bound_even_to_one_secret(apply, site):
    """Two ids that hold the same secret do not open each other's cells."""
    keys = [
        MasterKey(id="a", created="", state="active", secret=b"\x01" * 32),
        MasterKey(id="b", created="", state="retired", secret=b"\x01" * 32),
    ]
    (sealed,) = apply("encrypt", ["value"], keyring=Keyring(keys))
    with pytest.raises(ValueRefused):
        decrypt(sealed.replace("cf1.a.", "cf1.b."), site(keyring=Keyring(keys)), {})


def test_no_nonce_repeats(apply):
    """100,000 equal cells have 100,000 nonces, and as many ciphertexts."""
    sealed = apply("encrypt", ["same"] * 100_000)
    raw = [base64.urlsafe_b64decode(cell.split(".")[2] + "==") for cell in sealed]
    assert len({each[:12] for each in raw}) == len(sealed)
    assert len({each[12:] for each in raw}) == len(sealed)


@given(st.lists(st.text("aé𝔸", max_size=150), min_size=2, max_size=6))
def test_length_tells_its_class_alone(apply, texts):
    """A cell's length is a function of its class: 32 bytes and its doublings."""
    sealed = apply("encrypt", texts)
    for text, cell in zip(texts, sealed, strict=True):
        size = 32
        while size < len(text.encode()) + 1:
            size *= 2
        raw = base64.urlsafe_b64decode(cell.split(".")[2] + "==")
        assert len(raw) == 12 + size + 16


def test_text_is_url_safe_and_shows_no_value(apply):
    """A cell is version, key id and base64url; the value stands in it nowhere."""
    cells = [f"canary-{n}" for n in range(200)]
    for cell in apply("encrypt", cells):
        version, key_id, text = cell.split(".")
        assert (version, key_id) == ("cf1", "k1")
        assert set(text) <= set(ALPHABET)
        assert b"canary" not in base64.urlsafe_b64decode(text + "==")


def test_any_type_and_what_is_no_value(apply, site):
    """Numbers, Booleans and dates are sealed as written; what is no value of the type is null."""
    for type_, good, bad in (
        (Type.INTEGER, "007", "x"),
        (Type.DECIMAL, "1.10", "1,1"),
        (Type.BOOLEAN, "true", "True"),
        (Type.DATE, "2026-11-23", "2026-02-30"),
        (Type.DATETIME, "2026-11-23T22:58Z", "2026-11-23"),
    ):
        for times in (1, 200):
            given_ = apply("encrypt", [good, bad, None] * times, type_)
            assert decrypt(given_[-3], site(type_), {}) == good
            assert given_[1::3] == given_[2::3] == [None] * times
