"""`policy fmt` moves blanks and nothing else."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli import main
from proxy.errors import Faulty
from proxy.policy.syntax import read
from proxy.review.layout import aligned

CELLS = st.sampled_from(
    ["p", "p2", "g", "role:analyst", "sales/*", "true", "'a, b'", "row.x in ['a,b', (1)]", "é", "x" * 60, ""]
)  # fmt: skip
BLANKS = st.sampled_from(["", " ", "\t", "   "])
RULES = st.lists(st.tuples(BLANKS, CELLS, BLANKS), min_size=1, max_size=6).map(
    lambda cells: ",".join("".join(each) for each in cells)
)
LINES = st.one_of(RULES, st.sampled_from(["", "# a comment, here", "   "]))
FILES = st.tuples(st.lists(LINES, max_size=12), st.sampled_from(["\n", "\r\n"])).map(
    lambda file: "".join(line + file[1] for line in file[0]).encode()
)


@given(FILES)
def test_rules_comments_and_blank_lines_stay_what_and_where_they_are(data):
    """The aligned file has the same rules and comments on the same lines, and aligning it again changes nothing."""
    records, faults = read("policy.csv", data)
    if faults:
        with pytest.raises(Faulty):
            aligned("policy.csv", data)
        return
    new = aligned("policy.csv", data)
    again, none = read("policy.csv", new)
    assert not none
    assert [(r.line, r.cells) for r in again] == [(r.line, r.cells) for r in records]
    rules = {record.line for record in records}
    kept = data.decode().split("\n")
    for number, line in enumerate(new.decode().split("\n"), 1):
        assert number in rules or line == kept[number - 1]
        assert line.endswith("\r") == kept[number - 1].endswith("\r")
    assert aligned("policy.csv", new) == new


def test_cells_of_one_kind_begin_in_one_column():
    """Subjects and reports are under each other throughout, the other cells under those of their kind."""
    data = b"# who\np,role:a,sales/*,read,true,allow\np2, role:analyst , r,true,x,clear\ng,group:g,role:a\n"
    assert aligned("policy.csv", data).decode().split("\n") == [
        "# who",
        "p,  role:a,       sales/*, read, true, allow",
        "p2, role:analyst, r,       true, x, clear",
        "g,  group:g, role:a",
        "",
    ]


@pytest.mark.parametrize("name", ["reports.yaml", "people.csv"])
def test_a_file_of_another_syntax_is_left_alone_and_said_to_be_one(tmp_path, name):
    """Instead of faults that its syntax has not; rules under another name are aligned."""
    path = tmp_path / name
    path.write_text("subject,groups\n")
    result = CliRunner().invoke(main, ["policy", "fmt", str(path)])
    assert result.exit_code == 2 and "error: is no file of rules" in result.output
    assert "fmt aligns policy.csv, grants.csv, lockdown.csv" in result.output
    assert path.read_text() == "subject,groups\n"
    draft = path.with_name("draft.csv")
    draft.write_text("p,role:a,sales/*,read,true,allow\n")
    assert CliRunner().invoke(main, ["policy", "fmt", str(draft)]).exit_code == 0


def test_only_what_cannot_be_told_apart_is_left_as_it_is(tmp_path):
    """As the help says: an open bracket leaves all of a file alone, a rule that means nothing does not."""
    path = tmp_path / "policy.csv"
    for text, status in (("p,role:a,(sales/*,read\n", 2), ("p,role:a,sales/*,raed\r\n", 0)):
        path.write_bytes(text.encode())
        words = ["policy", "fmt", str(path), "--json"]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == status
        told = json.loads(result.output)
        assert bool(told["errors"]) == (status == 2)
        assert told["changed"] == ([] if status else [str(path)])
        assert (path.read_bytes() == text.encode()) == (status == 2)
    assert path.read_bytes() == b"p, role:a, sales/*, raed\r\n"
