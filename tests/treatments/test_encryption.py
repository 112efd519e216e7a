"""`encrypt`: what is sealed opens in its place alone."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.batch import PLAIN, Batch
from proxy.errors import ValueRefused
from proxy.few import Few
from proxy.keys import Keyring, MasterKey
from proxy.texts import plain
from proxy.treatments import opened, parse
from proxy.treatments.sealed import Cause, Unopened
from proxy.values import Type

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=100)
ANY = st.text(max_size=40) | TEXTS
KEY = {"store_id": ["42"], "date": ["2026-11-23"]}
ROW = {"store_id": "42", "date": "2026-11-23"}
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
ALIKE = "encrypt(deterministic='field')"
VALUES = {
    Type.TEXT: TEXTS,
    Type.INTEGER: st.from_regex(r"[+-]?[0-9]{1,36}", fullmatch=True, alphabet="+-0123456789"),
    Type.DECIMAL: st.from_regex(
        r"[+-]?[0-9]{1,36}(\.[0-9]{1,36})?", fullmatch=True, alphabet="+-.0123456789"
    ),
    Type.BOOLEAN: st.sampled_from(["true", "false"]),
    Type.DATE: st.dates().map(str),
    Type.DATETIME: st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
}


def decrypt(cell, where, row):
    """Give the value alone."""
    return opened(cell, where, row).text


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


@pytest.mark.parametrize("treatment", ["encrypt", ALIKE])
@given(st.sampled_from(Type).flatmap(lambda t: st.tuples(st.just(t), VALUES[t])))
@example((Type.DECIMAL, "001.10"))
def test_values_come_back_as_what_they_were(apply, site, treatment, typed):
    """Of every type the value comes back to the character, with its type, whatever is declared since."""
    type_, value = typed
    (sealed,) = apply(treatment, [value], type_)
    found = opened(sealed, site(Type.TEXT), {})
    assert (found.type, found.text) == (type_, value)


@pytest.mark.threat("G62")
@given(TEXTS, st.none() | TEXTS, st.none() | TEXTS)
def test_a_cell_of_another_row_is_refused(apply, site, value, one, other):
    """A cell moved to a row with another key does not open; no value is as an empty one."""
    (sealed,) = apply("encrypt", [value], key={"id": [one]})
    if (one or "") == (other or ""):
        assert decrypt(sealed, site(key=("id",)), {"id": other}) == value
    else:
        with pytest.raises(ValueRefused):
            decrypt(sealed, site(key=("id",)), {"id": other})


@pytest.mark.parametrize(
    ("type_", "sealed_as", "same", "others"),
    [
        (Type.DECIMAL, "7.50", ["7.5", "+7.500", "75e-1"], ["7.05", "75", "", "7,5"]),
        (Type.INTEGER, "007", ["7", "7"], ["70", "-7", "seven", "=7"]),
        (Type.INTEGER, "=7", [], ["7", "==7", "007"]),
        (Type.DECIMAL, "=7/2", [], ["3.5", "==7/2"]),
        (Type.DATETIME, "=2026-11-23T22:58:00+00:00", [], ["2026-11-23T22:58:00Z"]),
        (
            Type.DATETIME,
            "2026-11-23T22:58:00Z",
            ["2026-11-23 22:58", "2026-11-23T23:58+01:00"],
            ["2026-11-23T22:58:01Z", "2026-11-23"],
        ),
        (Type.DATE, "2026-11-23", [], ["2026-11-24", "23.11.2026"]),
        (Type.TEXT, "007", [], ["7", "007 "]),
    ],
)
def test_keys_are_compared_as_values(apply, site, type_, sealed_as, same, others):
    """A number or an instant of the key may be written otherwise; another one does not open the cell, nor one
    that only looks like how it is bound.
    """
    types = {"f": Type.TEXT, "id": type_}
    (sealed,) = apply("encrypt", ["value"], key={"id": [sealed_as]}, types=types)
    where = site(key=("id",), types=types)
    for text in (sealed_as, *same):
        assert decrypt(sealed, where, {"id": text}) == "value"
    for text in others:
        with pytest.raises(ValueRefused):
            decrypt(sealed, where, {"id": text})


@pytest.mark.threat("G62")
@pytest.mark.parametrize(
    "place",
    [
        {"report": "other"},
        {"field": "g"},
        {"key": ("store_id",)},
        {"key": ()},
        {"key": ("date", "store_id")},
        {"key": ("more", "store_id", "date")},
        {"keyring": Keyring.generate()},
        {"keyring": Keyring([MasterKey(id="k1", created="", state="active", secret=b"\xff" * 32)])},
    ],
)
@pytest.mark.parametrize("treatment", ["encrypt", ALIKE])
def test_a_moved_cell_is_refused(apply, site, place, treatment):
    """Another report, field, key, or keyring, one with the same key id too: refused, by their own keys."""
    (sealed,) = apply(treatment, ["value"], key=KEY)
    here = {"key": ("store_id", "date")}
    assert decrypt(sealed, site(**here), ROW) == "value"
    if treatment == ALIKE and "key" in place:  # bound to no row
        assert decrypt(sealed, site(**here | place), {}) == "value"
        return
    with pytest.raises(ValueRefused):
        decrypt(sealed, site(**{**here, **place}), ROW)


def test_row_values_are_told_apart(apply, site):
    """Key values that run together to the same text are two rows; a missing one is no row."""
    (sealed,) = apply("encrypt", ["value"], key={"a": ["12"], "b": ["3"]})
    for row in ({"a": "1", "b": "23"}, {"a": "123", "b": ""}, {"a": "12"}, {}):
        with pytest.raises(ValueRefused):
            decrypt(sealed, site(key=("a", "b")), row)


@given(st.sets(st.sampled_from("abcd")), st.permutations("abcd"))
def test_only_what_can_be_stated_is_bound(apply, site, stated, key):
    """A cell is bound to the stated key fields alone, says which, and opens without the others."""
    columns = {name: [f"value of {name}"] for name in key}
    (sealed,) = apply("encrypt", ["value"], key=columns, stated=frozenset(stated))
    assert int(sealed.split(".")[2][1:], 16) == sum(1 << key.index(name) for name in stated)
    row = {name: f"value of {name}" for name in stated}
    found = opened(sealed, site(key=tuple(key)), {**row, **dict.fromkeys(set(key) - stated, "x")})
    assert found.text == "value" and found.bound == stated
    for name in stated:
        with pytest.raises(ValueRefused):
            decrypt(sealed, site(key=tuple(key)), {**row, name: "other"})


def test_a_key_that_grows_at_its_end_still_opens(apply, site):
    """A key field that is declared after the others later on takes no cell away."""
    (sealed,) = apply("encrypt", ["value"], key=KEY)
    assert decrypt(sealed, site(key=("store_id", "date", "more")), ROW) == "value"


def test_purpose_and_subject_do_not_bind(apply, site):
    """Who asked, and why, does not decide whether a cell can be opened."""
    (sealed,) = apply("encrypt", ["value"], subject="user:alice", purpose="audit")
    assert decrypt(sealed, site(subject="user:bob"), {}) == "value"


def test_a_field_that_is_part_of_the_key(apply, site):
    """A field that is itself in the row's key is bound to the rest of the key."""
    sealed = apply("encrypt", ["7", "8"], key={"f": ["7", "8"], "id": ["a", "b"]})
    assert decrypt(sealed[0], site(key=("f", "id")), {"id": "a"}) == "7"
    with pytest.raises(ValueRefused):
        decrypt(sealed[0], site(key=("f", "id")), {"id": "b"})


@pytest.mark.parametrize("value", ["secret value", "a longer secret value of over 32 bytes"])
@pytest.mark.parametrize("treatment", ["encrypt", ALIKE])
def test_every_altered_character_is_refused(apply, site, value, treatment):
    """Each character replaced by each other one (spare bits too), left out or doubled: refused."""
    (sealed,) = apply(treatment, [value], key=KEY)
    where = site(key=("store_id", "date"))
    altered = {
        sealed[:at] + other + sealed[at + 1 :]
        for at in range(len(sealed))
        for other in (*ALPHABET, ".", "=", "+", "/", "", sealed[at] * 2, "é", "\n")
    } - {sealed}
    altered |= {"", ".", "cf1", "cf1..", "cf1.k1.", f"{sealed}=", f"{sealed}\n", f" {sealed}"}
    altered |= {sealed.replace("cf1", "cf2"), sealed.replace("k1", "k2"), sealed.upper()}
    altered |= {
        sealed.replace(".r3.", f".{how}.") for how in ("r03", "r", "d", "3", "r" + "f" * 16)
    }
    for cell in altered - {sealed}:
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
    with pytest.raises(Unopened) as refused:
        decrypt(later, site(keyring=before), {})
    assert refused.value.cause is Cause.NO_KEY
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


def raw_of(cell):
    return base64.urlsafe_b64decode(cell.split(".")[3] + "==")


@pytest.mark.parametrize("treatment", ["encrypt", ALIKE])
@given(st.lists(st.text("aé𝔸", max_size=150), min_size=2, max_size=6))
def test_length_tells_its_class_alone(apply, treatment, texts):
    """A cell's length is a function of its class: 32 bytes and its doublings, with two bytes around it."""
    sealed = apply(treatment, texts)
    for text, cell in zip(texts, sealed, strict=True):
        size = 32
        while size < len(text.encode()) + 2:
            size *= 2
        assert len(raw_of(cell)) == 12 + 2 + size + 16


@pytest.mark.parametrize("treatment", ["encrypt", ALIKE])
def test_text_is_url_safe_and_shows_no_value(apply, treatment):
    """A cell is version, key id, how it is bound, and base64url; the value stands in it nowhere."""
    cells = [f"canary-{n}" for n in range(200)]
    for cell in apply(treatment, cells):
        version, key_id, how, text = cell.split(".")
        assert (version, key_id) == ("cf1", "k1")
        assert how == ("d" if treatment == ALIKE else "r0")
        assert set(text) <= set(ALPHABET)
        assert b"canary" not in base64.urlsafe_b64decode(text + "==")


@pytest.mark.parametrize("treatment", ["encrypt", ALIKE])
def test_any_type_and_what_is_no_value(apply, site, treatment):
    """Numbers, Booleans and dates are sealed as written; what is no value of the type is null."""
    for type_, good, bad in (
        (Type.INTEGER, "007", "x"),
        (Type.DECIMAL, "1.10", "1,1"),
        (Type.BOOLEAN, "true", "True"),
        (Type.DATE, "2026-11-23", "2026-02-30"),
        (Type.DATETIME, "2026-11-23T22:58Z", "2026-11-23"),
    ):
        for times in (1, 200):
            given_ = apply(treatment, [good, bad, None] * times, type_)
            assert decrypt(given_[-3], site(type_), {}) == good
            assert given_[1::3] == given_[2::3] == [None] * times


# ── deterministic ──


@given(st.lists(st.none() | ANY, max_size=10), st.lists(ANY, min_size=10, max_size=10))
def test_deterministic_cells_are_equal_where_values_are(apply, cells, ids):
    """Equal values of a field have one ciphertext, whatever their rows are; others have other ones."""
    sealed = apply(ALIKE, cells, key={"id": ids[: len(cells)]})
    known = dict(zip(cells, sealed, strict=True))
    assert [known[cell] for cell in cells] == sealed
    assert len(set(known.values())) == len(known)
    assert apply(ALIKE, cells) == sealed


@pytest.mark.threat("G61")
@pytest.mark.parametrize("place", [{"report": "other"}, {"field": "g"}])
def test_deterministic_cells_do_not_join(apply, site, place):
    """Reports and fields have ciphertexts, and nonces, of their own."""
    if "field" in place:
        types = {"g": Type.TEXT}
        batch = Batch({"g": pl.Series(["value"])}, height=1, lexis=PLAIN, types=types)
        (other,) = plain(parse(ALIKE).bind(site(field="g"))(batch)).to_list()
    else:
        (other,) = apply(ALIKE, ["value"], **place)
    (here,) = apply(ALIKE, ["value"])
    assert raw_of(here)[:12] != raw_of(other)[:12]
    assert raw_of(here)[12:] != raw_of(other)[12:]


def test_deterministic_cells_stay_when_the_sealing_key_changes(apply, site):
    """They are made under the key that names: what it makes of a value does not hang on the sealing one."""
    keyring = Keyring.generate()
    rotated = keyring.rotated()
    assert rotated.sealing != keyring.sealing
    before = apply(ALIKE, ["value"], keyring=keyring)
    assert apply(ALIKE, ["value"], keyring=rotated) == before
    assert opened(before[0], site(keyring=rotated.rotated(names=True)), {}).text == "value"


# ── what is carried ──


def carrying(apply, site, values, others, types):
    """Seal `values` with what `others` (name -> column) hold, as both kinds of batch."""
    batches = [
        Batch(
            {name: kind(column) for name, column in {"f": values, **others}.items()},
            height=len(values),
            lexis=PLAIN,
            types={"f": Type.TEXT, **types},
            few=kind is Few,
        )
        for kind in (Few, lambda column: pl.Series(column, dtype=pl.String))
    ]
    operation = parse("encrypt").bind(site(carried=tuple(others), types={"f": Type.TEXT, **types}))
    return [plain(operation(batch)).to_list() for batch in batches]


@given(
    st.lists(st.sampled_from(Type), min_size=1, max_size=4).flatmap(
        lambda types: st.tuples(
            st.just(types),
            st.lists(
                st.tuples(TEXTS, *(st.none() | VALUES[t] | TEXTS for t in types)),
                min_size=1,
                max_size=4,
            ),
        )
    )
)
def test_what_is_carried_comes_back(apply, site, drawn):
    """Each carried value comes back with its type, null as null; one that has no room is not known."""
    types, rows = drawn
    named = {f"c{n}": type_ for n, type_ in enumerate(types)}
    columns = {name: [row[n + 1] for row in rows] for n, name in enumerate(named)}
    for sealed in carrying(apply, site, [row[0] for row in rows], columns, named):
        for cell, row in zip(sealed, rows, strict=True):
            found = opened(cell, site(), {})
            assert found.text == row[0]
            for (name, type_), text in zip(named.items(), row[1:], strict=True):
                if name in found.carried:
                    assert found.carried[name] == (type_, text)
                else:
                    assert text is not None and len(text.encode()) > 4


@given(
    TEXTS,
    *(st.none() | st.text(max_size=200) for _ in range(4)),
)
def test_sizes_tell_nothing_of_what_is_carried(apply, site, value, a, b, c, d):
    """Two rows that differ only in what is carried, lengths and nulls included, have cells of one size."""
    types = {"x": Type.TEXT, "y": Type.DECIMAL}
    for sealed in carrying(apply, site, [value, value], {"x": [a, b], "y": [c, d]}, types):
        assert len(sealed[0]) == len(sealed[1])


@given(st.text(min_size=33, max_size=200))
def test_what_has_no_room_is_not_known(apply, site, long):
    """A text of more than 32 bytes is not carried, and not cut: whatever looks at it is unknown."""
    for (cell,) in carrying(apply, site, ["value"], {"x": [long]}, {"x": Type.TEXT}):
        assert opened(cell, site(), {}).carried == {}


def test_instants_of_any_zone_have_room(apply, site):
    """The longest way to write an instant is carried."""
    text = datetime(2026, 11, 23, 22, 58, 1, 123456, tzinfo=UTC)
    text = text.astimezone(timezone(timedelta(hours=-11, minutes=-30))).isoformat()
    for (cell,) in carrying(apply, site, ["value"], {"at": [text]}, {"at": Type.DATETIME}):
        assert opened(cell, site(), {}).carried == {"at": (Type.DATETIME, text)}


def test_a_deterministic_cell_carries_nothing(apply, site):
    """Were a row's other values in it, equal values would not look equal, and those would show."""
    (sealed,) = apply(ALIKE, ["value"], carried=("x",), types={"f": Type.TEXT, "x": Type.TEXT})
    assert opened(sealed, site(), {}).carried == {}
