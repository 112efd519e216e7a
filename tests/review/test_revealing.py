"""`reveal` lines under review: what is odd about them, who may have what back, and what a change of them is."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cli import main
from proxy.review.check import check
from proxy.review.difference import difference
from proxy.review.layout import aligned
from proxy.review.sentences import sentences
from proxy.snapshot import snapshot_of
from tests.review.test_check import GOOD, files, folder

SEALED = GOOD + "p2, role:analyst, sales/*, true, net, encrypt\n"
MAY = "p, role:analyst, sales/*, reveal, true, allow\n"
LINE = "p2, role:analyst, sales/*, true, net, reveal\n"


@pytest.mark.parametrize(
    ("more", "kinds"),
    [
        (MAY + LINE, {}),
        (LINE, {"nobody-reads": 5}),
        (MAY, {"no-cells": 5}),
        (MAY + "p2, role:analyst, sales/*, true, region, reveal\n", {"nothing-sealed": 6}),
        (MAY + LINE + LINE, {"said-twice": 7}),
        (MAY + LINE + "p2, anyone, sales/*, true, net, deny\n", {"shadowed": 6}),
        (MAY + LINE.replace("true", "1 > 2"), {"never-applies": 6}),
        (MAY + LINE.replace("true", "row.net > 5 and row.net < 3"), {"contradiction": 6}),
        (MAY + LINE + LINE.replace("true", "row.net > 5"), {"redundant": 7}),
        (
            MAY
            + LINE.replace("true", "row.net > 5")
            + "p2, anyone, sales/*, row.net > 3, net, deny\n",
            {"hidden": 6},
        ),
        (MAY + LINE + LINE.replace("role:analyst", "role:ghost"), {"role-unheld": 7}),
    ],
)
def test_what_is_odd_about_a_line_that_reveals_is_told(more, kinds):
    """Each lint looks at them as at other lines, and takes none for one that gives a cell to readers."""
    found = check(files(SEALED + more))
    assert not found.faults
    told = {
        w.kind: w.fault.line for w in found.warnings if w.fault.line > 4 and w.kind != "probeable"
    }
    assert told == kinds


def test_a_line_that_reveals_forestalls_no_cell():
    """Beside a line that gives what it reveals it does something, and so does that one."""
    found = check(files(GOOD + MAY + LINE + "p2, role:analyst, sales/*, true, net, encrypt\n"))
    assert {w.kind for w in found.warnings} <= {"probeable"}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("reveal()", "expected a number or a quoted text, found `)`"),
        ("Reveal", "no treatment is called `Reveal`"),
        ("revael", "no treatment is called `revael`"),
    ],
)
def test_a_slip_in_the_word_is_a_fault(form, message):
    """The word is written as it is, without arguments; near misses are told."""
    (fault,) = check(files(SEALED + MAY + LINE.replace("reveal", form))).faults
    assert fault.message == message
    if "(" not in form:
        assert "reveal" in fault.hint


def explained(tmp_path, rules, *words):
    return CliRunner().invoke(
        main, ["policy", "explain", *words, "--policies", folder(tmp_path, rules)]
    )


def test_who_may_have_what_back_is_explained(tmp_path):
    """`REVEAL` in a method's place: the lines of that action, and for which rows each field comes back."""
    rules = SEALED + MAY + "p2, role:analyst, sales/*, row.region == 'North', net, reveal\n"
    words = ("alice", "REVEAL", "/sales/daily.csv")
    found = explained(tmp_path, rules, *words, "--group", "analysts")
    assert found.exit_code == 0
    assert "permitted: user:alice: reveal on sales/daily" in found.output
    row = next(line for line in found.output.splitlines() if "policy.csv:6" in line)
    assert "reveal" in row and "North" in row and "encrypt" not in found.output
    denied = explained(tmp_path, rules, *words)
    assert denied.exit_code == 1 and "no-allow-line" in denied.output
    assert explained(tmp_path, SEALED + MAY, *words, "--group", "analysts").exit_code == 1


def told(old, new):
    return [
        (each.heading, each.kind, each.text)
        for each in sentences(difference(snapshot_of(files(old)), snapshot_of(files(new))).changes)
    ]


def test_a_difference_tells_who_may_have_more_back():
    """A reveal line more, or a deny, is a change of what comes back, and of nothing that is read."""
    before = SEALED + MAY
    assert told(before, before) == []
    assert told(before, before + LINE) == [
        ("role:analyst (so group:analysts) on sales/daily", "gains rows", "with net revealed")
    ]
    some = before + LINE.replace("true", "row.region == 'North'")
    ((_, kind, text),) = told(before + LINE, some)
    assert kind == "loses rows" and text == (
        "with net revealed, and keeps it where row.region == 'North'"
    )
    assert told(SEALED + LINE, before + LINE)[0][1:] == ("gains rows", "with net revealed")


CONDITIONS = st.sampled_from(["true", "row.region == 'North'", "row.net > 5", "present(row.net)"])


@settings(max_examples=25)
@given(st.lists(CONDITIONS, min_size=1, max_size=2), st.booleans())
def test_what_is_read_hangs_on_no_line_that_reveals(conditions, may):
    """Of whatever lines that reveal, and the right to: no difference of two policies is one for readers."""
    lines = "".join(LINE.replace("true", each) for each in conditions)
    old, new = (snapshot_of(files(each)) for each in (SEALED, SEALED + MAY * may + lines))
    assert {change.action for change in difference(old, new).changes} <= (
        {"reveal"} if may else set()
    )


def test_columns_are_aligned_with_them():
    """`policy fmt` changes nothing but blanks."""
    text = (SEALED + MAY + LINE).encode()
    done = aligned("policy.csv", text)
    assert done.split() == text.split() and done != text
