"""YAML files -> typed values, or all faults, each in its place."""

from __future__ import annotations

import string
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.documents import MOST_BYTES, Document, load, nearest, read_file
from proxy.errors import Faulty


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    host: str = "here"
    class_: str = msgspec.field(name="class", default="none")
    colour: Colour = Colour.RED
    shape: Literal["stable"] | None = None
    ratio: float = 1.0
    tags: Annotated[tuple[str, ...], msgspec.Meta(max_length=2)] = ()
    on: bool = False


class Even(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("the number is odd")


class Root(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: dict[str, Item] = {}
    listed: list[Item] = []
    either: str | int | None = None
    even: Even | None = None
    words: tuple[str, ...] = ()


def faults(text: str | bytes, type_: type = Root) -> list[tuple[int, int, str]]:
    raw = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(Faulty) as caught:
        load(raw, type_, file="f.yaml")
    assert all(fault.file == "f.yaml" for fault in caught.value.faults)
    return [(fault.line, fault.column, fault.message) for fault in caught.value.faults]


def value(text: str) -> Root:
    return load(text.encode(), Root, file="f.yaml").value


def test_members_become_values_of_their_types():
    root = value("items: {a: {port: 1, class: x, colour: blue, shape: stable, ratio: 2, on: true}}")
    assert root.items["a"] == Item(
        port=1, class_="x", colour=Colour.BLUE, shape="stable", ratio=2.0, on=True
    )


def test_every_fault_of_a_file_is_reported_at_once_with_its_line_and_column():
    found = faults(
        "items:\n"
        "  a: {port: 70000, host: 12, colour: rde, shape: s}\n"
        "  b: {port: '1', tags: [1, x, y], prot: 1}\n"
        "  a: 3\n"
        "  c: {hots: no}\n"
        "  d: [1]\n"
        "listed: &a\n"
        "  - {port: 010, host: }\n"
        "  - {port: 1, host: *a}\n"
        "extra: !x 1\n"
        "even: {number: 3}\n"
    )
    assert found == [
        (2, 13, "the number is greater than 65535"),
        (2, 26, "expected text, found a whole number"),
        (2, 38, "expected one of `red`, `blue`"),
        (2, 50, "expected one of `stable`"),
        (3, 13, "expected a whole number, found text"),
        (3, 25, "expected text, found a whole number"),
        (3, 35, "unknown key `prot`"),
        (4, 3, "duplicate key `a`"),
        (5, 6, "missing key `port`"),
        (5, 7, "unknown key `hots`"),
        (6, 6, "expected a mapping, found a list"),
        (7, 9, "anchors are not allowed"),
        (8, 12, "expected a whole number, found text"),
        (8, 23, "expected text, found nothing"),
        (9, 21, "aliases are not allowed"),
        (10, 1, "unknown key `extra`"),
        (10, 8, "tags are not allowed"),
        (11, 7, "the number is odd"),
    ]


@pytest.mark.parametrize(
    "plain",
    ["no", "yes", "on", "off", "NO", "True", "y", "010", "0o10", "0x1F", "12:30", "1:2:3", "1_000",
     "2026-11-23", "2026-11-23T10:00:00Z", ".inf", ".nan", "1e999", "+.5", "1.", "Null", "=", "9" * 19],
)  # fmt: skip
def test_what_yaml_1_1_would_reinterpret_stays_text(plain):
    assert value(f"words: [{plain}]").words == (plain,)
    assert value(f"either: {plain}").either == plain


@pytest.mark.parametrize(("plain", "meant"), [("12", 12), ("-3", -3), ("0", 0), ("+7", 7)])
def test_plain_decimal_integers_are_integers(plain, meant):
    assert value(f"either: {plain}").either == meant


@pytest.mark.parametrize("nothing", ["", "~", "null"])
def test_nothing_is_nothing_where_the_type_allows_it_and_a_fault_where_not(nothing):
    assert value(f"either: {nothing}").either is None
    assert faults(f"words: [a, {nothing or '~'}]") == [(1, 12, "expected text, found nothing")]


@pytest.mark.parametrize("quoted", ["'12'", '"12"', '"true"', "'null'", "|\n  12", "'no'"])
def test_quoted_scalars_are_text(quoted):
    assert isinstance(value(f"either: {quoted}").either, str)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("words: [a]\n---\nwords: []\n", (2, 1), "more than one document in the file"),
        ("%YAML 1.1\n---\nwords: []\n", (1, 1), "directives are not allowed"),
        ("items:\n  <<: {port: 1}\n", (2, 3), "merges are not allowed"),
        ("? [a]\n: b\n", (1, 3), "a key must be a name"),
        ("words: [a\n", (2, 1), "not YAML: did not find expected ',' or ']'"),
        ("words: 'a\n", (2, 1), "not YAML: found unexpected end of stream"),
        ("a: b: c\n", (1, 5), "not YAML: mapping values are not allowed in this context"),
        ("", (0, 0), "the file is empty"),
        ("# nothing\n", (0, 0), "the file is empty"),
        ("words: [a\x07]", (1, 10), "control character U+0007"),
        ("words:\r[]", (1, 7), "control character U+000D"),
        ("words: [a\x85b]", (1, 10), "control character U+0085"),
        ('words:\n  - "a\\0b"', (2, 5), "control characters in a value"),
        (b"\xef\xbb\xbfwords: []", (1, 1), "the file starts with a byte order mark"),
        (b"words:\n- \xff", (2, 3), "the file is not UTF-8"),
        (b"w\x00o", (1, 2), "control character U+0000"),
        ("words: []".encode("utf-16"), (0, 0), "the file is UTF-16"),
        (b"#" * (MOST_BYTES + 1), (0, 0), "the file is larger than 4 MiB"),
        ("words: " + "[" * 100, (1, 39), "nested deeper than 32 levels"),
        ("words: " + "[" * 10_000, (1, 1007), "nested deeper than 32 levels"),
        ("just text", (1, 1), "expected a mapping, found text"),
    ],
)
def test_what_is_no_plain_typed_yaml_is_refused_in_its_place(text, place, message):
    assert (*place, message) in faults(text)


def test_a_list_may_have_no_more_items_than_declared():
    assert faults("listed: [{port: 1, tags: [a, b, c]}]") == [(1, 26, "may have at most 2, has 3")]


def test_an_unknown_key_is_answered_with_the_nearest_known_one():
    with pytest.raises(Faulty) as caught:
        load(b"itms: {}", Root, file="f.yaml")
    assert caught.value.faults[0].hint == "did you mean `items`?"
    assert nearest("zzz", ["a", "b"]) == "known: `a`, `b`"
    assert nearest("zzz", map(str, range(100))).endswith("`18`, `19`, …")


def test_a_caller_can_raise_faults_at_any_member():
    document = load(b"items:\n  a:\n    port: 1\nwords: [x,\n  y]", Root, file="f.yaml")
    assert document.place("items", "a", "port") == (3, 11)
    assert document.place("words", 1) == (5, 3)
    assert document.fault("wrong", "items", "a", key=True).line == 2
    assert document.place("items", "a", "host", "deeper") == document.place("items", "a")


@given(secret=st.text(string.ascii_letters, min_size=12, max_size=20))
def test_no_message_repeats_a_value(secret):
    for text in (
        f"items: {{a: {{port: {secret}, colour: {secret}, shape: {secret}, on: {secret}}}}}",
        f"listed: {secret}\neven: {secret}",
        f"words: [{secret}: x]",
        f"words: ['{secret}",
        f"words: !{secret} x",
        f"words: &{secret} [*{secret}]",
    ):
        with pytest.raises(Faulty) as caught:
            load(text.encode(), Root, file="f.yaml")
        assert secret not in str(caught.value)


PIECES = st.sampled_from(
    ["items", "words", "listed", ": ", ":", "\n", "  ", "- ", "[", "]", "{", "}", ",", "a", "port: 1",
     "'", '"', "\\", "|", ">", "&a ", "*a", "!", "!!int ", "<<", "%YAML", "---", "...", "? ", "#", "~",
     "\t", "é", "\x00", "\ufeff", "010", "@", "`"]
)  # fmt: skip


@given(
    st.one_of(st.lists(PIECES, max_size=40).map("".join).map(str.encode), st.binary(max_size=200))
)
def test_any_bytes_are_a_value_or_faulty_and_nothing_else(raw):
    with suppress(Faulty):
        assert isinstance(load(raw, Root, file="f.yaml"), Document)


WORDS = st.text(string.ascii_letters + string.digits + " :#'\"-_.,[]{}é", max_size=12)


@given(st.lists(WORDS, max_size=5), st.integers(1, 65535), st.booleans())
def test_what_is_written_as_json_is_read_back(words, port, on):
    wanted = {"words": words, "items": {"a": {"port": port, "on": on, "host": "h"}}}
    root = load(msgspec.json.encode(wanted), Root, file="f.yaml").value
    assert root.words == tuple(words)
    assert root.items["a"] == Item(port=port, on=on, host="h")


def test_only_regular_files_within_the_limit_are_read(tmp_path):
    file = tmp_path / "f"
    file.write_bytes(b"12345")
    assert read_file(file, most=5) == b"12345"
    for path, most in ((file, 4), (tmp_path, 9), (tmp_path / "none", 9), (tmp_path / "a\0b", 9)):
        with pytest.raises(OSError, match=r"\[Errno None\] (larger|not a|no such)"):
            read_file(path, most=most)
