"""`suppress` is refused where another answer could be taken from one: by lines, or by parameters."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.report import By, Ordering, Parameter
from proxy.values import Type
from tests.policy.example import DAILY, REPORTS, faults, report

READ = "p, anyone, sales/*, read, true, allow\n"
SUPPRESS = "suppress(5, by='store_id')"


def told(lines: str, reports=REPORTS) -> list[tuple[int, int, str]]:
    """Line (of `lines`), column and message of each fault."""
    return [(f.line - 1, f.column, f.message) for f in faults(READ + lines, reports=reports)]


ONE, TWO = (
    report(
        id_,
        ("store_id", Type.INTEGER, "public"),
        ("date", Type.DATE, "public"),
        ("amount", Type.DECIMAL, "confidential"),
        *more,
    )
    for id_, more in (("r/one", ()), ("r/two", (("note", Type.TEXT, "personal"),)))
)
COVERED = {"r/one": ["r/one"], "r/two": ["r/two"], "r/*": ["r/one", "r/two"]}
FORMS = (
    SUPPRESS, "suppress(4, by='store_id')", "suppress(5, by='date'|'store_id')", "clear", "deny", "redact",
)  # fmt: skip
ROWS = {
    "true": False, "false": False, "sub.region == 'North'": False, "env.purpose == 'audit'": False,
    "env.now < time('2026-12-24T18:00')": False, "row.store_id in sub.stores": True,
    "row.amount > 5 or true": True, "present(row.date)": True,
}  # fmt: skip
"""Conditions, and whether they look at rows."""
LINES = st.tuples(
    st.sampled_from(["anyone", "user:a", "tool:t", "role:r", "group:g"]),
    st.sampled_from([*COVERED]),
    st.sampled_from([*ROWS]),
    st.sampled_from(["amount", "@confidential", "*", "@personal|date", "@personal"]),
    st.sampled_from(FORMS),
)


@pytest.mark.threat("G63")
@settings(max_examples=200)
@given(st.lists(LINES, min_size=1, max_size=4))
@pytest.mark.threat("G63")
def test_what_is_taken_has_one_way_to_count_and_no_line_that_looks_at_rows(drawn):
    """Whoever the lines are about: where one suppresses cells of a report, all count alike on it, and none that
    names a field of it looks at a row. All lines that break this are told of, and no others.
    """
    bad = set()
    for id_ in ("r/one", "r/two"):
        about = [
            (number, rows, form)
            for number, (_, pattern, rows, fields, form) in enumerate(drawn, 1)
            if id_ in COVERED[pattern] and not (id_ == "r/one" and fields == "@personal")
        ]
        counting = [(number, form) for number, _, form in about if "suppress" in form]
        bad |= {number for number, form in counting if form != counting[0][1]}
        bad |= {number for number, rows, _ in about if counting and ROWS[rows]}
    text = "".join(f"p2, {', '.join(line)}\n" for line in drawn)
    found = [
        fault
        for fault in faults(
            "p, anyone, r/*, read, true, allow\n" + text, reports={"r/one": ONE, "r/two": TWO}
        )
        if "meet on" not in fault.message
    ]
    assert {fault.line - 1 for fault in found} == bad


@pytest.mark.threat("G63")
@pytest.mark.parametrize(
    ("by", "told_"),
    [(By.FILTER, True), (By.GROUP, True), (By.LIMIT, True), (By.OFFSET, True), (By.ORDER, False)],
)
def test_no_parameter_selects_rows(by, told_):
    """A filter, a group and a page are refused at the line; an order is not, nor is either without the form."""
    words = (("date", Ordering("date")),) if by in (By.ORDER, By.GROUP) else ()
    parameter = Parameter(name="x", by=by, words=words, most=9)
    reports = {**REPORTS, DAILY.id: dataclasses.replace(DAILY, parameters={"x": parameter})}
    line = f"p2, anyone, sales/daily, true, net_sales, {SUPPRESS}\n"
    expected = [(1, 43, "`x` of `sales/daily` selects rows, which tells of suppressed ones")]
    assert told(line, reports) == (expected if told_ else [])
    assert told(line.replace(SUPPRESS, "clear"), reports) == []


def test_the_fields_to_count_by_are_the_report_s():
    """Each report of which the line names a field declares them; of another report it says nothing."""
    line = "p2, anyone, {}, true, {}, suppress(5, by='store_id')\n"
    assert told(line.format("sales/*", "margin")) == []  # the weekly report has no margin
    (fault,) = told(line.format("sales/*", "net_sales"))
    assert fault[2] == "`by` names `store_id`, which is no field of `sales/eu/weekly`"


def test_a_line_of_the_server_s_own_counts_too():
    """A grant that looks at rows is refused as any line is, with its place."""
    policy = READ + f"p2, anyone, sales/daily, true, net_sales, {SUPPRESS}\n"
    grants = "p2, user:a, sales/daily, row.store_id in sub.stores, margin, clear\n"
    (fault,) = faults(policy, grants=grants.encode())
    assert (fault.file, fault.line, fault.column) == ("grants.csv", 1, 26)
    timed = "p2, user:a, sales/daily, env.now < time('2026-12-24T18:00'), margin, clear\n"
    assert faults(policy, grants=timed.encode()) == ()
