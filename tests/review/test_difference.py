"""The difference of two policies agrees with brute force, and each of its witnesses is one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.rules import MODEL
from proxy.review.difference import difference
from proxy.review.pairs import Kind
from proxy.review.sides import Side, Who
from proxy.review.solver import Assignment
from proxy.snapshot import snapshot_of

REPORTS = """
stores:
  sales: {url: "https://store.invalid"}
reports:
  sales/daily:
    title: Daily
    store: sales
    fields:
      region: {type: text, class: public}
      units: {type: integer, class: internal}
      price: {type: decimal, class: confidential}
    variants:
      - {path: /daily.csv, source: /daily.csv, format: csv}
"""
SUBJECTS = """
issuers:
  - issuer: https://id.test.invalid
    prefix: ""
    audience: [counterfoil]
    keys: {url: https://id.test.invalid/keys}
    attributes:
      regions: {type: text, many: true, claim: regions}
"""
REGIONS = (None, "", "North", "north", "South", "Southend")
NUMBERS = (None, "-1", "0", "1", "2", "3", "7", "8")
ATTRIBUTES = (None, (), ("North",), ("South", "north"))

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
    return {
        "model.conf": MODEL.encode(),
        "policy.csv": text.encode(),
        "reports.yaml": REPORTS.encode(),
        "subjects.yaml": SUBJECTS.encode(),
    }


def policy(lines):
    return snapshot_of(policy_files(lines))


def forms(snapshot, row, regions):
    """Field -> form of one row for the role, by the policy's own evaluation."""
    side = Side(snapshot, Who(names=("role:r",)), "sales/daily", "read")
    return side.given(Assignment(row={}, sub={"regions": regions}, env={}), row)


@settings(max_examples=40)
@given(old=LINES, new=LINES)
def test_the_difference_is_that_of_brute_force(old, new):
    """Over every row of a small world: what some row shows is told, and what is told some row shows."""
    before, after = policy(old), policy(new)
    changes = [c for c in difference(before, after, seconds=10).changes if c.principal == "role:r"]
    told = {(c.kind, field, c.was, c.now) for c in changes for field in c.fields}
    assert not [c for c in changes if c.kind is Kind.UNDECIDED]
    shown = set()
    for region, units, price, regions in itertools.product(REGIONS, NUMBERS, NUMBERS, ATTRIBUTES):
        row = {"region": region, "units": units, "price": price}
        was, now = forms(before, row, regions), forms(after, row, regions)
        for field in row:
            a, b = was.get(field, "absent"), now.get(field, "absent")
            if a == b:
                continue
            kind = Kind.CHANGES
            if a == "absent":
                kind = Kind.GAINS if was else Kind.GAINS_ROWS
            elif b == "absent":
                kind = Kind.LOSES if now else Kind.LOSES_ROWS
            shown.add((kind, field, a, b))
    assert shown == told


TIMED = REPORTS.replace(
    "      price:", "      day: {type: date, class: public}\n      at: {type: datetime, class: public}\n      price:"
)  # fmt: skip


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
        files = policy_files([line(condition, "*", "clear")])
        return snapshot_of({**files, "reports.yaml": TIMED.encode()})

    (change,) = difference(of(old), of(new), seconds=10).changes
    assert dict(change.witness) == witness
