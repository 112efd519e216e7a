"""The line syntax: what separates, what does not, and what is refused with its place."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.syntax import MAX_LINE, read

PLAIN = st.text(st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_characters=",'()[]#\x7f", exclude_categories=("Cc",)), min_size=1, max_size=8)  # fmt: skip
QUOTED = st.text(st.sampled_from("a,()[]' #|"), max_size=8).map(
    lambda text: "'" + text.replace("'", "''") + "'"
)
NESTED = st.recursive(
    PLAIN | QUOTED,
    lambda inner: st.lists(inner, max_size=3).flatmap(
        lambda items: st.sampled_from(["({})", "[{}]"]).map(lambda b: b.format(", ".join(items)))
    ),
    max_leaves=6,
)
CELL = st.lists(NESTED, min_size=1, max_size=3).map(" ".join)
BLANKS = st.text(" \t", max_size=3)


@given(
    st.lists(st.tuples(BLANKS, CELL, BLANKS), min_size=1, max_size=6),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_joined_by_commas_is_read_back_cell_by_cell_with_its_columns(cells, end):
    line = ",".join(before + cell + after for before, cell, after in cells)
    records, faults = read("policy.csv", (line + end).encode())
    assert not faults
    (record,) = records
    assert record.cells == tuple(cell for _, cell, _ in cells)
    for number, (_, cell, _) in enumerate(cells):
        assert line[record.column(number) - 1 :].startswith(cell)


@given(st.binary(max_size=200))
def test_each_line_of_any_bytes_is_a_record_a_comment_blank_or_a_fault(data):
    records, faults = read("policy.csv", data)
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    told = {record.line for record in records} | {fault.line for fault in faults}
    for number, line in enumerate(lines, 1):
        silent = number not in told
        assert not silent or not line.strip(b" \t\r") or line.startswith(b"#")


@pytest.mark.parametrize(
    ("data", "line", "column", "message"),
    [
        (b"\xef\xbb\xbfp, a\n", 1, 1, "byte order mark"),
        (b"\xff\xfep\x00\n", 0, 0, "is UTF-16"),
        (b"\xffp\n", 1, 1, "0xff"),
        (b"p, a\np, \xe9\n", 2, 4, "0xe9"),
        ("é, \x00\n".encode(), 1, 4, "U+0000"),
        (b"p, a\rp, b\n", 1, 5, "U+000D"),
        (b"p,\x0ba\n", 1, 3, "U+000B"),
        ("p, a\u2028p, b\n".encode(), 1, 5, "U+2028"),
        ("p, \u202eallow\n".encode(), 1, 4, "U+202E"),
        ("p, al\u200blow\n".encode(), 1, 6, "U+200B"),
        ("p, a\ufeff\n".encode(), 1, 5, "U+FEFF"),
        (b"  # comment\n", 1, 3, "a comment begins"),
        (b"p, (a\n", 1, 4, "`(` is never closed"),
        (b"p, a)\n", 1, 5, "`)` closes nothing"),
        (b"p, (a]\n", 1, 6, "`]` closes nothing"),
        (b"p, [(a]\n", 1, 7, "`]` closes nothing"),
        (b"p, 'a\n", 1, 4, "has no end"),
        (b"p, 'a''\n", 1, 4, "has no end"),
        (b"p, a\np, b", 2, 5, "the last line has no end"),
        (b"p" * (MAX_LINE + 1) + b"\n", 1, MAX_LINE + 1, "longer"),
    ],
)
def test_what_is_no_plain_line_is_a_fault_at_its_place(data, line, column, message):
    _, faults = read("policy.csv", data)
    assert [(fault.line, fault.column) for fault in faults] == [(line, column)]
    assert message in faults[0].message


def test_a_hash_within_a_line_is_a_character_like_any_other():
    records, _ = read("policy.csv", b"# comment, 'unclosed (\n\n \t \np, a#b, 'c # d'\n")
    assert [(record.line, record.cells) for record in records] == [(4, ("p", "a#b", "'c # d'"))]


@given(st.text(st.sampled_from("p,2 '()[]#a\t|@*"), max_size=60))
def test_a_record_has_one_cell_more_than_it_has_commas_outside_of_brackets_and_quotes(line):
    """An independent reading: strip quoted texts, then innermost brackets, until nothing changes."""
    records, _ = read("policy.csv", line.encode() + b"\n")
    if not records:
        return
    rest = re.sub(r"'[^']*'", "", records[0].raw)
    while (shorter := re.sub(r"\([^()\[\]]*\)|\[[^()\[\]]*\]", "", rest)) != rest:
        rest = shorter
    assert len(records[0].cells) == rest.count(",") + 1
