"""The difference of two policies agrees with brute force, and each of its witnesses is one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.review.changes import Kind
from proxy.review.difference import difference
from proxy.review.sides import Side, Who
from proxy.review.solver import Assignment
from proxy.snapshot import snapshot_of
from tests.review.versions import files, forms, table, turn

FIELDS = {
    "region": "{type: text, class: public}",
    "units": "{type: integer, class: internal}",
    "price": "{type: decimal, class: confidential}",
}
ATTRIBUTE = "    attributes: {regions: {type: text, many: true, claim: regions}}\n"
REGIONS = (None, "", "North", "north", "South", "Norfolk", "Southend", "northern")
NUMBERS = (None, "-1", "0", "1", "2", "3", "7", "8")
PRICES = (*NUMBERS, "-2", "9")
"""Also less than each of the units, and more."""
ATTRIBUTES = (None, (), ("North",), ("South", "north"), ("", "Norfolk", "Southend", "northern"))

ATOMS = (
    "true", "false", "row.region == 'North'", "row.region != 'North'", "row.region < 'South'",
    "starts(row.region, 'South')", "lower(row.region) == 'north'", "length(row.region) > 5",
    "row.units >= 2", "row.units * 2 < 5", "1 / row.units > 0", "row.price == 7",
    "row.price > row.units", "present(row.price)", "row.region in sub.regions",
    "row.units in [1, row.price]", "row.region not in ['South', 'North']",
)  # fmt: skip
FORMS = ("clear", "deny", "redact", "round(10)")


def conditions():
    atoms = st.sampled_from(ATOMS)
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.builds("not ({})".format, inner),
            st.builds("({}) and ({})".format, inner, inner),
            st.builds("({}) or ({})".format, inner, inner),
        ),
        max_leaves=3,
    )


def line(condition, fields, form):
    if form == "round(10)":
        fields = "price"
    return f"p2, role:r, sales/daily, {condition}, {fields}, {form}\n"


LINES = st.lists(
    st.builds(
        line, conditions(), st.sampled_from(("*", "price", "region|units")), st.sampled_from(FORMS)
    ),
    min_size=1,
    max_size=3,
)


def policy_files(lines):
    text = "p, role:r, sales/daily, read, true, allow\n" + "".join(lines)
    return files(text, fields=FIELDS, subjects=ATTRIBUTE)


def policy(lines):
    return snapshot_of(policy_files(lines))


ROWS = [
    {"region": region, "units": units, "price": price}
    for region in REGIONS
    for units in NUMBERS
    for price in PRICES
]
TABLE = table(ROWS, policy([]).catalogue.reports["sales/daily"].types)


def every_row(snapshot):
    """Field -> form of each row of a small world for the role, for one requester after another."""
    side = Side(snapshot, Who(names=("role:r",)), "sales/daily", "read")
    for regions in ATTRIBUTES:
        at = Assignment(row={}, sub={"regions": regions}, env={})
        context = at.context(action="read")
        found = [{}] * len(ROWS)
        if side.part is not None and side.plan is not None and not side.part.verdict(context).cause:
            found = forms(side.plan, context, TABLE)
        assert side.given(at, ROWS[-1]) == found[-1]
        yield from found


@settings(max_examples=40)
@given(old=LINES, new=LINES)
def test_the_difference_is_that_of_brute_force(old, new):
    """Over every row of a small world: what some row shows is told, and what is told some row shows."""
    before, after = policy(old), policy(new)
    changes = [c for c in difference(before, after, seconds=10).changes if c.principal == "role:r"]
    told = {(c.kind, field, c.was, c.now) for c in changes for field in c.fields}
    assert not [c for c in changes if c.kind is Kind.UNDECIDED]
    shown = set()
    for was, now in zip(every_row(before), every_row(after), strict=True):
        if was != now:
            shown |= {turn(was, now, field) for field in FIELDS}
    assert shown - {None} == told


TIMED = {
    **FIELDS,
    "day": "{type: date, class: public}",
    "at": "{type: datetime, class: public}",
}


@pytest.mark.parametrize(
    ("old", "new", "witness"),
    [
        ("row.region == 'North'", "true", {"region": "'other'"}),
        ("row.units > 5 and row.day < date('2025-01-01')", "true", {"units": "1"}),
        ("row.units > 5", "row.units > 5 or row.price > 3.5", {"price": "10", "units": "1"}),
        ("false", "row.day > date('2025-06-01')", {"day": "'2026-01-15'"}),
        ("false", "row.at > time('2025-06-01T00:00')", {"at": "'2026-01-15T12:00:00Z'"}),
        ("false", "length(row.region) > 5", {"region": "'abcdefgh'"}),
        ("false", "row.region in sub.regions", {"region": "'other'", "sub.regions": "['other']"}),
        ("false", "not present(row.region)", {"region": "nothing"}),
        ("false", "true", {}),
    ],
)
def test_a_witness_is_of_plain_values_and_no_more_than_it_takes(old, new, witness):
    """Each value is a short one of its field's type; what the change does not depend on is not told."""

    def of(condition):
        rules = "p, role:r, sales/daily, read, true, allow\n" + line(condition, "*", "clear")
        return snapshot_of(files(rules, fields=TIMED, subjects=ATTRIBUTE))

    (change,) = difference(of(old), of(new), seconds=10).changes
    assert dict(change.witness) == witness
