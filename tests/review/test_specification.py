"""`policy test`: tests.yaml is held against what the policy really gives, and each miss has its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import proxy.demo
from proxy.cli import main
from proxy.errors import Faulty
from proxy.policy.rules import MODEL
from proxy.review.specification import failures
from proxy.snapshot import snapshot_of
from tests.review.test_check import GOOD, files, folder

RULES = GOOD + "p2, role:analyst, sales/*, row.region == 'North', net, round(100)\n"
HOLDS = """\
tests:
  - as: alice
    groups: [analysts]
    on: sales/daily
    rows: [{region: North, net: "1234.56"}, {region: South, net: 1}]
    sees: {region: clear, paid: absent}
    rows_given: [{region: North}, {region: South}]
  - {as: bob, on: sales/daily, denied: true}
"""


def missed(tests: str, rules: str = RULES) -> list[str]:
    given = {**files(rules), "tests.yaml": tests.encode()}
    return [str(fault) for fault in failures(snapshot_of(given), given)]


def test_what_the_policy_gives_holds():
    """Forms, absences, rows and denials that are so give no fault; without the file nothing is expected."""
    assert missed(HOLDS) == []
    assert failures(snapshot_of(files(RULES)), files(RULES)) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("paid: absent", "paid: clear", ": as alice on sales/daily: `paid` is absent, not clear (no line grants it, to anybody)"),
        ("region: clear", "region: redact", "`region` is clear, not redact (by policy.csv:2)"),
        ("paid: absent", "net: round(100)", "`net` is absent, not round(100)"),
        ("rows_given: [{region: North}, {region: South}]", "rows_absent: [{region: North}]", "with region North is given"),
        ("rows_given: [{region: North}", "rows_given: [{region: East}", "no sample row has these values"),
        ("denied: true", "denied: false", "as bob on sales/daily: is denied (no-allow-line)"),
        ("as: bob,", "as: bob, groups: [analysts],", "is not denied (permitted by policy.csv:1)"),
        ("on: sales/daily\n", "on: sales/nightly\n", "no report is called `sales/nightly`"),
        ("net: 1}", "gross: 1}", "declares no field `gross`"),
        ("as: bob,", "as: bob, purpose: fun,", "is not a catalogued purpose"),
        ("as: bob,", "as: bob, at: noon,", "is no time"),
        ("as: bob,", "as: bob, attributes: {shoe: 9},", "no attribute is called `shoe`"),
        ("denied: true", "denied: true, sees: {net: clear}", "who is denied sees nothing"),
    ],
)  # fmt: skip
def test_each_miss_is_told_with_its_place_and_what_came_instead(old, new, said):
    """One expectation that is not so is one fault, in tests.yaml, that says what is so."""
    assert old in HOLDS
    found = missed(HOLDS.replace(old, new, 1))
    assert len(found) == 1 and said in found[0] and found[0].startswith("tests.yaml:")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("p2, role:analyst, sales/*, row.net > 5, net, deny", "absent, not round(100) (see policy.csv:5, policy.csv:4)"),
        ("p2, role:analyst, sales/*, row.net < 5, paid, deny", "absent, not round(100) (see policy.csv:4)"),
    ],
)  # fmt: skip
def test_what_hides_a_cell_in_its_row_is_named(line, told):
    """The denials that may have hidden it, and the lines that give the field, though not in that row."""
    tests = HOLDS.replace("paid: absent", "net: round(100)")
    if "paid" in line:
        tests = tests.replace("region: North, net", "region: East, net")
    else:
        tests = tests.replace(", {region: South, net: 1}", "")
    assert any(told in each for each in missed(tests, RULES + line + "\n"))


def test_a_malformed_file_is_a_fault_of_the_policy():
    """An unknown key is told with its line; nothing is run."""
    with pytest.raises(Faulty, match=r"tests\.yaml:2:"):
        missed("tests:\n  - {as: bob, onn: sales/daily, denied: true}\n")


def test_the_verb_says_which_hold_and_which_fail(tmp_path):
    """Exit status 0 where all hold, 1 where one fails, 2 for a broken file."""
    where = Path(folder(tmp_path, RULES))
    run = CliRunner().invoke
    assert "nothing was expected" in run(main, ["policy", "test", str(where)]).output
    (where / "tests.yaml").write_text(HOLDS)
    result = run(main, ["policy", "test", str(where)])
    assert result.exit_code == 0 and "2 of 2 tests hold" in result.output
    (where / "tests.yaml").write_text(HOLDS.replace("paid: absent", "paid: clear"))
    result = run(main, ["policy", "test", str(where)])
    assert result.exit_code == 1 and "1 of 2 tests hold" in result.output
    (where / "tests.yaml").write_text("tests: [")
    assert run(main, ["policy", "test", str(where)]).exit_code == 2


def test_the_demos_policy_does_what_its_tests_say():
    """The shipped policies and tests agree."""
    shipped = Path(proxy.demo.__file__).with_name("policies")
    given = {path.name: path.read_bytes() for path in shipped.iterdir()}
    given["model.conf"] = MODEL.encode()
    assert "tests.yaml" in given
    assert failures(snapshot_of(given), given) == []
