"""The warnings that the solver proves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.review.check import check
from tests.review.test_check import GOOD, REPORTS, files, with_stores
from tests.review.test_difference import (
    LINES,
    every_row,
    policy,
    policy_files,
)


def kinds(*lines):
    """The kinds of warning about lines that somebody holds and may read, whatever these give."""
    found = check(policy_files(["g, group:all, role:r\n", *lines]))
    assert not found.faults
    return [each.kind for each in found.warnings if each.kind != "no-cells"]


@pytest.mark.parametrize(
    "rows",
    [
        "row.units > 2 and row.units < 3", "row.region == 'a' and row.region == 'b'",
        "row.price > 5 and not present(row.price)", "length(row.region) < 0",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["clear", "deny"])
def test_a_contradiction_is_warned_of(rows, form):
    """A grant that is never true is one; a deny that is sometimes unknown does apply, and is none."""
    expected = ["contradiction"] if form == "clear" else []
    assert kinds(f"p2, role:r, sales/daily, {rows}, units, {form}\n") == expected


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("env.purpose == 'adit'", "never applies: `adit` is not a catalogued purpose (did you mean `audit`?"),
        ("env.ip == '::1' and 'nope' == env.purpose", "never applies: `nope` is not a catalogued purpose (known: `audit`"),
        ("env.purpose in ['nope', 'none']", "never applies: `nope` is not a catalogued purpose"),
        ("env.method == 'POST'", "never applies: no request is a `POST` (write `'GET'` or `'HEAD'`)"),
        ("env.purpose in ['nope', 'audit'] and 1 > 2 and env.ip == ''", "the condition contradicts itself"),
    ],
)  # fmt: skip
def test_what_no_request_can_state_is_told_by_its_name(when, told):
    """A purpose that is not catalogued, a method that is not served."""
    rules = GOOD + f"p, role:analyst, sales/*, read, {when}, deny\n"
    reports = REPORTS.replace("reports:\n", "purposes: [audit]\nreports:\n").encode()
    found = check({**files(rules), "reports.yaml": reports}).warnings
    assert [told in str(w.fault) for w in found if w.kind == "contradiction"] == [True]


def test_a_deny_that_is_always_false_is_warned_of():
    """Where the values are there, the contradiction is false and not unknown: the deny does nothing."""
    rows = "present(row.units) and row.units > 2 and row.units < 3"
    assert kinds(f"p2, role:r, sales/daily, {rows}, units, deny\n") == ["contradiction"]


def test_what_is_hidden_everywhere_is_warned_of():
    """A grant whose rows are all a deny's gives nothing, though the two conditions are not the same text."""
    grant = "p2, role:r, sales/daily, row.units > 5, units, clear\n"
    assert kinds(grant, "p2, role:r, sales/daily, row.units >= 3, *, deny\n") == ["hidden"]
    assert kinds(grant, "p2, role:r, sales/daily, row.units >= 7, *, deny\n") == []
    assert kinds(grant, "p2, role:r, sales/daily, row.units >= 3, price, deny\n") == []
    assert kinds(grant, "p2, role:other, sales/daily, row.units >= 3, *, deny\n") == ["role-unheld"]


def test_what_is_undone_whenever_it_applies_is_warned_of():
    """A denial under the same circumstances, or under more of them, undoes an access rule; under fewer it does not."""
    allow = "p, user:ada, sales/daily, read, env.method == 'GET' and env.tool == 'bi', allow\n"
    assert (
        kinds(allow, "p, anyone, sales/daily, read, env.tool == 'bi', deny\n").count("hidden") == 1
    )
    assert "hidden" not in kinds(allow, "p, anyone, sales/daily, read, env.tool == 'di', deny\n")
    unknown = "p, user:ada, sales/daily, read, 'a' not in sub.regions, deny\n"
    assert "hidden" not in kinds(allow, unknown)


def test_what_others_give_as_well_is_warned_of():
    """A line whose rows are all another's, in no better a form; of two that do the same, the later one."""
    wide = "p2, role:r, sales/daily, row.units >= 3, units|price, clear\n"
    for narrow in ("row.units > 5, units, clear", "row.units > 5, price, round(10)"):
        line = f"p2, role:r, sales/daily, {narrow}\n"
        assert kinds(wide, line) == kinds(line, wide) == ["redundant"]
    for other in (
        "row.units > 1, units, clear",
        "row.units > 5, *, clear",
        "true, price, round(10)",
    ):
        assert kinds(wide, f"p2, role:r, sales/daily, {other}\n") == []
    better = "p2, role:r, sales/daily, row.units > 5, price, clear\n"
    assert kinds("p2, role:r, sales/daily, true, price, round(10)\n", better) == []
    found = check(policy_files([wide, wide.replace("row.units >= 3", "3 <= row.units")]))
    assert [(w.kind, w.fault.line) for w in found.warnings if w.kind == "redundant"] == [
        ("redundant", 3)
    ]


def test_of_many_lines_those_without_a_condition_and_with_an_equal_one_are_found():
    """More than are held against each: it stays quick, and what is plain is still told."""
    lines = [f"p2, role:r, sales/daily, row.units == {n}, units, clear\n" for n in range(80)]
    assert kinds(*lines, lines[7].replace("clear", "redact")) == ["redundant"]
    assert kinds(*lines, "p2, role:r, sales/daily, true, units, clear\n") == ["redundant"] * 80


def test_an_access_rule_that_another_makes_useless_is_warned_of():
    """An allow beside one without its condition, or of a role that is held; a denial beside a wider one."""
    given_ = "p2, role:r, sales/daily, true, units, clear\n"
    narrow = "p, role:r, sales/daily, read, env.tool == 'bi', {}\n"
    assert kinds(given_, narrow.format("allow")) == ["redundant"]
    deny = "p, role:r, sales/daily, read, env.tool in ['bi', 'cli'], deny\n"
    assert kinds(given_, deny, narrow.format("deny")) == ["redundant"]
    assert kinds(given_, "p, anyone, sales/daily, read, env.tool == 'bi', allow\n") == []


@pytest.mark.parametrize(
    ("rows", "form", "said"),
    [
        ("row.rent > 5", "deny", "hides `region` in every row of `sales/daily`, which has no `row.rent`"),
        ("row.rent > 5", "clear", "gives nothing of `sales/daily`, which has no `row.rent`"),
        ("present(row.rent) and row.rent > 5", "deny", None),
        ("row.rent > 5 and row.region == 'North'", "deny", None),
        ("row.rent > 5 or row.region == 'North'", "clear", None),
    ],
)  # fmt: skip
def test_what_a_reports_lack_of_a_field_settles_is_warned_of(rows, form, said):
    """A denial that no row of the report escapes, an allow line that gives none of it; no other."""
    rules = GOOD.replace("@public", "net") + f"p2, role:analyst, sales/*, {rows}, region, {form}\n"
    warnings = check(with_stores(rules)).warnings
    found = [w.fault.message for w in warnings if w.kind == "field-elsewhere"]
    assert found == ([said] if said else [])


LINKS = "g, role:r, role:q\ng, group:all, role:r\n"
IDLE = {"redundant", "shadowed", "hidden", "contradiction", "never-applies", "said-twice"}


@settings(max_examples=40)
@given(lines=st.builds(list.__add__, LINES, LINES), data=st.data())
def test_lines_that_are_said_to_do_nothing_do_nothing(lines, data):
    """Without all of them at once, every row of a small world is given as before."""
    principals = st.sampled_from(["role:r", "role:q", "anyone"])
    lines = [line.replace("role:r", data.draw(principals)) for line in lines]
    found = check(policy_files([*lines, LINKS]))
    assert not found.faults
    idle = {warned.fault.line for warned in found.warnings if warned.kind in IDLE}
    left = [line for number, line in enumerate(lines, 2) if number not in idle]
    if not idle:
        return
    before, after = policy([*lines, LINKS]), policy([*left, LINKS])
    assert [*every_row(before)] == [*every_row(after)]
