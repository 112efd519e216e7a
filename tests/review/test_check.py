"""`policy check`: every fault with its place and a caret, every kind of warning provoked by an example."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.policy.rules import MODEL
from proxy.review.check import check
from proxy.review.lint import LINT

REPORTS = """\
stores:
  s: {url: "https://reports.example.com", credential: "env:NOT_THERE"}
reports:
  sales/daily:
    title: Daily
    store: s
    variants: [{path: /sales/daily.csv, format: csv}]
    parameters:
      least: {type: decimal, field: net, operator: ge}
      sort: {by: order, fields: [region, net]}
      region: {type: text, field: region, allowed: [North, South]}
    fields:
      region: {type: text, class: public}
      paid: {type: boolean, class: internal}
      net: {type: decimal, class: confidential}
"""
STORES = """\
  sales/stores: {title: Stores, store: s, variants: [{path: /sales/stores.csv, format: csv}],
    fields: {region: {type: text, class: public}, rent: {type: decimal, class: confidential}}}
"""
"""One more report, that shares a field with the other."""
SUBJECTS = """\
issuers:
  - issuer: https://id.example.com
    prefix: ""
    audience: [counterfoil]
    keys: {file: jwks.json}
    groups: {claim: groups}
"""
GOOD = """\
p,  role:analyst, sales/*, read, true, allow
p2, role:analyst, sales/*, true, @public, clear
g,  group:analysts, role:analyst
"""
EXAMPLES = {
    "role-unheld": ("p, role:ghost, sales/*, read, true, allow\n", 4, 4),
    "role-empty": ("g, group:leavers, role:anaylst\n", 4, 19),
    "never-applies": ("p2, role:analyst, sales/*, 1 > 2, net, clear\n", 4, 28),
    "over": ("p, role:analyst, sales/*, read, env.now < time('2020-01-01T00:00Z'), allow\n", 4, 33),
    "said-twice": ("p2, role:analyst, sales/*, true, region, clear\n", 4, 1),
    "shadowed": ("p2, role:analyst, sales/*, true, net, clear\np2, anyone, sales/*, true, net, deny\n", 4, 34),
    "nobody-reads": ("", 0, 0),
    "no-cells": ("p, user:bob, sales/*, read, true, allow\n", 4, 14),
    "nothing-sealed": (
        "p, role:analyst, sales/*, reveal, true, allow\np2, role:analyst, sales/*, true, net, reveal\n", 5, 34
    ),
    "field-elsewhere": ("p2, role:analyst, sales/*, row.rent > 5, region, deny\n", 4, 28),
    "given-to-anyone": ("p2, anyone, sales/daily, true, net, clear\n", 4, 32),
    "contradiction": ("p2, role:analyst, sales/*, row.net > 5 and row.net < 3, net, clear\n", 4, 28),
    "hidden": (
        "p2, role:analyst, sales/*, row.net > 5, net, clear\np2, anyone, sales/*, row.net > 3, net, deny\n", 4, 41
    ),
    "redundant": (
        "p2, role:analyst, sales/*, true, net, round(100)\np2, role:analyst, sales/*, true, net, round(1000)\n", 5, 39
    ),
    "parameter-without-field": ("q: {type: text}", 9, 7),
    "parameter-mismatch": ("q: {type: date, field: net}", 9, 7),
    "unread": ("policy-2025.csv", 0, 0),
    "mixed-letters": ("p, user:p\u0430t, sales/*, read, true, deny\n", 4, 4),
    "guessable": ("p2, role:analyst, sales/*, true, paid, pseudonym\n", 4, 40),
    "probeable": ("p2, role:analyst, sales/*, true, net, round(100)\n", 4, 39),
}  # fmt: skip


def files(rules: str) -> dict[str, bytes]:
    texts = {
        "model.conf": MODEL,
        "reports.yaml": REPORTS,
        "subjects.yaml": SUBJECTS,
        "policy.csv": rules,
    }
    return {name: text.encode() for name, text in texts.items()}


def with_stores(rules: str) -> dict[str, bytes]:
    """The files with one report more."""
    return {**files(rules), "reports.yaml": (REPORTS + STORES).encode()}


def with_parameter(written: str) -> dict[str, bytes]:
    """A good folder whose first parameter is written so."""
    reports = REPORTS.replace("parameters:\n", f"parameters:\n      {written}\n")
    return {**files(GOOD), "reports.yaml": reports.encode()}


def folder(path: Path, rules: str) -> str:
    for name, data in files(rules).items():
        (path / name).write_bytes(data)
    return str(path)


@pytest.mark.parametrize("kind", LINT)
def test_each_kind_of_warning_is_given_at_its_place(kind):
    """An example of each kind gives that warning, and a policy without it gives none."""
    assert check(files(GOOD)).warnings == ()
    more, line, column = EXAMPLES[kind]
    rules = GOOD + more
    if kind.startswith("parameter-"):
        kinds = [w for w in check(with_parameter(more)).warnings if w.kind.startswith("parameter-")]
        assert [(w.kind, w.fault.line, w.fault.column) for w in kinds] == [(kind, line, column)]
        return
    if kind == "unread":
        (warning,) = check(files(GOOD), beside=[more]).warnings
        assert (warning.kind, warning.fault.file, warning.fault.line) == (kind, more, 0)
        return
    if kind == "nobody-reads":
        rules = GOOD.replace("sales/*, read", "sales/*, act", 1)
        line, column = 2, 19
    found = check(with_stores(rules))
    assert not found.faults
    places = [(w.fault.line, w.fault.column) for w in found.warnings if w.kind == kind]
    assert places == [(line, column)]


def said(kind: str, rules: str) -> list[str]:
    return [w.fault.message for w in check(with_stores(rules)).warnings if w.kind == kind]


@pytest.mark.parametrize(
    ("condition", "over"),
    [
        ("env.now < time('2020-01-01T00:00Z')", True),
        ("env.date <= date('2020-01-01')", True),
        ("env.now > time('2019-01-01T00:00Z') and env.date < date('2020-01-01')", True),
        ("row.region == 'North' and env.date < date('2020-01-01')", True),
        ("env.now < time('2999-01-01T00:00Z')", False),
        ("env.now > time('2999-01-01T00:00Z')", False),
        ("env.date > date('2999-01-01') and env.date < date('2999-02-01')", False),
        ("env.now < time('2020-01-01T00:00Z') or row.region == 'North'", False),
        ("row.net > 5", False),
    ],
)
@pytest.mark.parametrize("form", ["clear", "deny"])
def test_a_line_whose_time_is_over_is_told_from_one_whose_time_is_to_come(condition, over, form):
    """Of an allow and of a deny; only where nothing but the time settles it, for good."""
    rules = GOOD + f"p2, role:analyst, sales/*, {condition}, net, {form}\n"
    assert said("over", rules) == ["its time is over for good: it does nothing"] * over


OTHERS = "g, group:others, role:analyst\n"


@pytest.mark.parametrize(
    "more",
    [
        "p, anyone, sales/*, read, true, deny\n",
        "p, role:blocked, sales/*, read, true, deny\ng, role:analyst, role:blocked\n",
        "p, role:blocked, sales/*, read, true, deny\ng, group:analysts, role:blocked\n",
        "p, role:blocked, set:all, read, true, deny\ng, group:analysts, role:blocked\ng2, sales/*, set:all\n",
    ],
)
def test_what_is_undone_is_seen_through_roles_prefixes_and_sets(more):
    """A denial applies to whoever holds its role as well, and to all that its pattern covers."""
    assert said("shadowed", GOOD + more) == ["undone by policy.csv:4"]


@pytest.mark.parametrize(
    "more",
    [
        "p, role:blocked, sales/*, read, true, deny\ng, group:others, role:blocked\n",
        "p, role:blocked, sales/*, read, true, deny\ng, group:analysts, role:blocked\n" + OTHERS,
        "p, role:analyst, sales/*, act, true, deny\n",
    ],
)
def test_what_somebody_gets_all_the_same_is_not_undone(more):
    """Who holds the line's role without the other, or asks for something else, is not refused."""
    assert said("shadowed", GOOD + more) == []


def test_a_role_that_holds_another_or_resembles_none_is_not_called_empty():
    """What it gives it has from another role; or its lines are still to come."""
    assert (
        said("role-empty", GOOD + "g, group:x, role:analysts\ng, role:analysts, role:analyst\n")
        == []
    )
    assert said("role-empty", GOOD + "g, group:x, role:owner\n") == []
    assert said("role-empty", GOOD + "g, group:x, role:\u0430\u043d\n") == []


def test_a_membership_that_is_written_twice_is_said_twice():
    """Also in quotes, and of sets."""
    twice = "g, group:'analysts', role:'analyst'\ng2, sales/*, set:all\ng2, sales/*, set:all\n"
    assert said("said-twice", GOOD + twice) == [
        "says what policy.csv:3 says",
        "says what policy.csv:5 says",
    ]


def test_letters_of_two_alphabets_are_seen_in_memberships():
    """In the member and in the role."""
    rules = GOOD + "g, group:le\u0430vers, role:analyst\ng, group:x, role:\u0430nalyst\n"
    found = [w for w in check(files(rules)).warnings if w.kind == "mixed-letters"]
    assert [(w.fault.line, w.fault.column) for w in found] == [(4, 4), (5, 13)]


NIGHT = "p, role:night, sales/*, read, true, allow\ng, group:night, role:night\n"


@pytest.mark.parametrize(
    ("rules", "warned"),
    [
        (GOOD + NIGHT, True),
        # Somebody who is given cells may read by day alone, or not at all, but for this line.
        (GOOD.replace("read, true", "read, env.ip == '10.0.0.1'") + NIGHT, False),
        (GOOD.replace("read", "act") + NIGHT, False),
        # Given by a role that it holds, by one that its holders hold, to anyone.
        (GOOD + NIGHT + "p2, role:late, sales/stores, true, rent, clear\ng, role:night, role:late\n", False),
        (GOOD + NIGHT + "p2, role:late, sales/stores, true, rent, clear\ng, group:night, role:late\n", False),
        (GOOD + NIGHT + "p2, anyone, sales/stores, true, rent, round(5)\n", False),
        (GOOD + NIGHT + "p2, role:night, sales/stores, true, *, deny\n", True),
    ],
)  # fmt: skip
def test_a_rule_that_lets_nobody_read_is_told_from_one_that_does(rules, warned):
    """Whoever may read by it, and is given a cell, alone or by what else they hold, is enough."""
    expected = ["no line gives `role:night` a cell of it: refused all the same (404)"]
    assert said("no-cells", rules) == (expected if warned else [])


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("q: {type: text, allowed: [short, long]}", None),
        ("q: {by: limit, most: 10}", None),
        ("q: {type: text, field: net}", None),
        ("q: {type: integer, field: net, operator: ge}", None),
        ("q: {type: integer, field: region}", None),
        ("q: {type: integer, field: paid}", "`q` is of type integer, and `paid` holds values of type boolean"),
        ("q: {type: text, fields: [region, net], operator: contains}",
         "`contains` looks for a part of a text, and `net` holds values of type decimal"),
    ],
)  # fmt: skip
def test_parameters_that_cannot_be_meant_so_are_told_from_those_that_can(parameter, message):
    """Listed values, pages, texts of any kind and numbers of any type may be meant; other pairs hardly."""
    found = check(with_parameter(parameter))
    assert not found.faults
    told = [w.fault.message for w in found.warnings if w.kind.startswith("parameter-")]
    assert told == ([message] if message else [])


def test_lines_that_hide_a_line_together_are_told_together():
    """Two denials, each of a part of the line's fields, hide all of it; one alone does not."""
    rules = (
        GOOD
        + "p2, role:analyst, sales/*, true, net|paid, clear\np2, anyone, sales/*, true, net, deny\n"
    )
    assert said("shadowed", rules) == []
    rules += "p2, role:analyst, sales/*, true, paid, deny\n"
    assert said("shadowed", rules) == ["hidden by policy.csv:5 and policy.csv:6"]


def test_a_lockdown_makes_no_line_odd():
    """What the server's own lines undo is no oddity of the lines that authors write."""
    locked = {"lockdown.csv": b"p, anyone, sales/*, read, true, deny\n"}
    assert check({**files(GOOD), **locked}).warnings == ()
    assert said("shadowed", GOOD + locked["lockdown.csv"].decode())


def test_a_policy_whose_only_access_rule_is_the_servers_is_checked_all_the_same():
    """The server takes it, and so does the check."""
    only = {"policy.csv": b"", "grants.csv": b"p, user:bob, sales/daily, read, true, allow\n"}
    found = check({**files(GOOD), **only})
    assert found.snapshot is not None and not found.faults


MASKED = "p2, role:analyst, sales/*, true, net, round(100)\n"


@pytest.mark.parametrize(
    "more",
    [
        "p2, role:analyst, sales/*, true, net, clear\n",
        "p2, role:analyst, sales/*, row.region == 'North', net, clear\n",
        "p2, anyone, sales/*, true, net, clear\n",
        "p2, role:senior, sales/*, true, net, clear\ng, role:analyst, role:senior\n",
        "p2, role:senior, sales/*, true, net, clear\ng, group:analysts, role:senior\n",
    ],
)
def test_nobody_is_said_to_be_kept_from_a_parameter_who_sees_its_field_in_clear(more):
    """By the same role, another one of theirs, or everybody's; then, as without a parameter, no warning."""
    assert said("probeable", GOOD + MASKED) == [
        "`role:analyst` sees no `net` in clear, at which `least` of `sales/daily` looks"
    ]
    assert said("probeable", GOOD + MASKED + more) == []


def test_whoever_holds_nothing_better_is_kept_from_it_all_the_same():
    """Of two groups that hold the role, one sees the field in clear: the other does not."""
    more = "p2, group:seniors, sales/*, true, net, clear\ng, group:seniors, role:analyst\n"
    assert said("probeable", GOOD + MASKED + more)
    assert not said(
        "probeable",
        GOOD.replace("group:analysts", "group:seniors")
        + MASKED
        + more.split("\ng,", maxsplit=1)[0]
        + "\n",
    )


def test_a_pseudonym_of_a_field_whose_values_are_listed_is_guessable():
    """A parameter's `allowed` says how few they are."""
    rules = GOOD.replace("@public, clear", "@public, pseudonym")
    assert said("guessable", rules) == [
        "`pseudonym` of `region` hides nothing: parameter `region` lists its 2 values"
    ]


def test_paths_that_overlap_are_a_fault_with_both_their_places(tmp_path):
    """A target that two paths would match: which, where, and where the other one is."""
    where = folder(tmp_path, GOOD)
    text = REPORTS.replace("/sales/daily.csv, format: csv}", '"/sales/{region}", format: csv}')
    (tmp_path / "reports.yaml").write_text(
        text
        + """\
  sales/north:
    title: North
    store: s
    variants: [{path: /sales/North, format: csv}]
    fields: {region: {type: text, class: public}}
"""
    )
    result = CliRunner().invoke(main, ["policy", "check", where])
    assert result.exit_code == 2
    assert (
        "reports.yaml:19:23: error: the path can match the same target as one of `sales/daily`"
        in result.output
    )
    assert "in line 7" in result.output
    lines = result.output.splitlines()
    at = next(n for n, line in enumerate(lines) if "19:23" in line)
    assert lines[at + 2].index("^") == lines[at + 1].index("/sales/North")


def test_all_faults_are_told_at_once_each_with_its_line_and_a_caret(tmp_path):
    """Every wrong cell of a file is shown with a caret under it, and the exit status is 2."""
    bad = (
        GOOD
        + "p, role:x, sales/*, raed, true, alow\np2, role:x, sales/*, row.regoin == 'x', net, clear\n"
    )
    result = CliRunner().invoke(main, ["policy", "check", folder(tmp_path, bad)])
    assert result.exit_code == 2
    assert "policy.csv:4:21: error: unknown action `raed`" in result.output
    lines = result.output.splitlines()
    at = next(n for n, line in enumerate(lines) if "4:21" in line)
    assert lines[at + 2].index("^") == lines[at + 1].index("raed")
    for place in ("4:33", "5:"):
        assert f"policy.csv:{place}" in result.output
    assert "did you mean `read`?" in result.output


def test_a_good_folder_is_summed_up_and_a_warning_is_an_error_only_with_strict(tmp_path):
    """Exit status 0 without faults; with --strict 1 where there are warnings; --json says the same."""
    where = folder(tmp_path, GOOD + EXAMPLES["role-unheld"][0])
    run = CliRunner().invoke
    assert run(main, ["policy", "check", where]).exit_code == 0
    assert run(main, ["policy", "check", where, "--strict"]).exit_code == 1
    told = json.loads(run(main, ["policy", "check", where, "--json"]).output)
    assert [each["kind"] for each in told["warnings"]] == ["role-unheld"]
    assert told["errors"] == [] and len(told["version"]) == 64


def test_a_malformed_tests_file_is_told_with_the_faults_of_the_others():
    """All that is wrong in every file comes at once, its tests among them."""
    bad = {"policy.csv": (GOOD + "p, role:x, sales/*, raed, true, allow\n").encode()}
    found = check({**files(GOOD), **bad, "tests.yaml": b"tests:\n  - as: alice\n    onn: x\n"})
    assert {fault.file for fault in found.faults} == {"policy.csv", "tests.yaml"}


@pytest.mark.parametrize(
    "tests",
    [
        "tests: [{as: alice, groups: [analysts], on: sales/daily, denied: true}]\n",
        "tests: [{as: alice, onn: sales/daily}]\n",
    ],
)
def test_what_is_odd_is_told_beside_tests_that_fail(tests, tmp_path):
    """Neither a failing test nor a malformed one keeps a warning back; it is no policy all the same."""
    where = folder(tmp_path, GOOD + EXAMPLES["role-unheld"][0])
    (tmp_path / "tests.yaml").write_text(tests)
    result = CliRunner().invoke(main, ["policy", "check", where, "--json"])
    told = json.loads(result.output)
    assert result.exit_code == 2 and told["version"] is None
    assert {each["file"] for each in told["errors"]} == {"tests.yaml"}
    assert [each["kind"] for each in told["warnings"]] == ["role-unheld"]
    shown = CliRunner().invoke(main, ["policy", "check", where]).output
    assert (
        "warning[role-unheld]" in shown and ", 1 warning: not a policy that can be taken" in shown
    )


def test_of_a_file_beside_only_those_are_warned_of_that_nobody_names(tmp_path):
    """A copy is told of; a key file of subjects.yaml, the settings and editors' files are not."""
    where = folder(tmp_path, GOOD)
    (tmp_path / "subjects.yaml").write_text(SUBJECTS.replace("jwks.json", "keys.conf"))
    for name in (
        "policy-2025.csv", "keys.conf", "counterfoil.yaml", ".policy.csv.swp", "policy.csv~", "#policy.csv#",
        ".hidden.yaml", "README.md",
    ):  # fmt: skip
        (tmp_path / name).write_text("x")
    (tmp_path / "same.csv").symlink_to("policy.csv")
    told = json.loads(CliRunner().invoke(main, ["policy", "check", where, "--json"]).output)
    assert [(each["kind"], each["file"]) for each in told["warnings"]] == [
        ("unread", "policy-2025.csv")
    ]


@pytest.mark.parametrize("name", ["policy.csv", "reports.yaml", "subjects.yaml", "model.conf"])
def test_a_file_that_cannot_be_read_or_is_cut_off_anywhere_is_a_fault_and_no_traceback(
    tmp_path, name
):
    """Each file missing, a folder, or cut off at any byte: told, or the same policy; never a traceback."""
    whole = files(GOOD)
    for end in range(0, len(whole[name]), 7):
        found = check({**whole, name: whole[name][:end]})
        assert found.faults or found.snapshot is not None
        if found.snapshot is not None and name == "policy.csv":
            assert len(found.snapshot.policy.access) + len(found.snapshot.policy.cells) <= 2
    where = Path(folder(tmp_path, GOOD))
    (where / name).unlink()
    assert CliRunner().invoke(main, ["policy", "check", str(where)]).exit_code == 2
    (where / name).mkdir()
    result = CliRunner().invoke(main, ["policy", "check", str(where)])
    assert result.exit_code == 2 and f"{name}: error: cannot be read" in result.output


@pytest.mark.parametrize("verb", ["check", "seal", "test"])
def test_a_folder_that_is_not_there_is_told_of_once(tmp_path, verb):
    """Not as the files that it lacks; with the same exit status, whatever was to be done with it."""
    result = CliRunner().invoke(main, ["policy", verb, str(tmp_path / "nope")])
    assert result.exit_code == 2
    assert (
        result.output.count(": error: ") == 1
        and "nope: error: cannot be read: no such folder" in result.output
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["policy.csv", "reports.yaml", "subjects.yaml", "lockdown.csv"])
def test_a_file_in_utf_16_is_told_of_once(encoding, name):
    """With and without a mark, whatever its lines would be taken for."""
    whole = files(GOOD)
    text = whole.get(name, b"p, anyone, sales/*, read, true, deny\n" * 40).decode()
    found = check({**whole, name: text.encode(encoding)})
    assert [(f.file, "UTF-16" in f.message, "UTF-8" in f.hint) for f in found.faults] == [
        (name, True, True)
    ]


def test_no_colour_is_shown_to_whoever_wants_none(tmp_path):
    """NO_COLOR counts on a terminal too (https://no-color.org)."""
    where = folder(tmp_path, GOOD + EXAMPLES["role-unheld"][0])
    for environment, coloured in (({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False)):
        shown = (
            CliRunner(env=environment).invoke(main, ["policy", "check", where], color=True).output
        )
        assert ("\x1b[" in shown) == coloured and "warning[role-unheld]" in shown
