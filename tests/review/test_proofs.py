"""The warnings that the solver proves."""

from __future__ import annotations

import pytest

from proxy.review.check import check
from tests.review.test_difference import policy_files


def kinds(*lines):
    """The kinds of warning about lines that somebody holds and may read."""
    found = check(policy_files(["g, group:all, role:r\n", *lines]))
    assert not found.faults
    return [each.kind for each in found.warnings]


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
