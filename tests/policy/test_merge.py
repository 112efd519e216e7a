"""Cell rules -> plan, and what the plan gives clear in every row."""

from __future__ import annotations

import dataclasses

import pytest

from proxy.plan import Permit, Plan
from proxy.policy.decide import decide
from proxy.report import Report
from proxy.values import Type
from tests.policy.example import context, load, report, subject

FIELDS = (
    ("a", Type.INTEGER, "public"),
    ("b", Type.DECIMAL, "public"),
    ("c", Type.TEXT, "personal"),
)
WHO = subject("user:u")


def plan(*lines: str, prefer: tuple[str, ...] = (), stable: bool = False) -> Plan | None:
    """What `rows, fields, treatment` lines give `user:u` on a report of a, b, c."""
    about: Report = report("r", *FIELDS, prefer=prefer, stable=stable)
    text = "p, anyone, r, read, true, allow\n" + "".join(f"p2, user:u, r, {x}\n" for x in lines)
    policy = load(text, reports={"r": about})
    decision = decide(policy, subject=WHO, report=about, context=context(WHO))
    return decision.plan if isinstance(decision, Permit) else None


def shown(found: Plan | None) -> dict[str, object]:
    """A plan's columns, with conditions written out."""
    assert found is not None
    return {
        column.field.name: (
            [(found.predicates[c.when].text, str(c.treatment)) for c in column.choices],
            [found.predicates[number].text for number in column.denies],
        )
        for column in found.columns
    }


def test_a_field_that_no_line_names_has_no_column():
    assert shown(plan("true, a, clear")) == {"a": ([("true", "clear")], [])}


@pytest.mark.parametrize(
    ("form", "reads"),
    [
        ("round(10)", {"a"}),
        ("pseudonym", {"a"}),
        ("encrypt", {"a"}),  # no row is bound by a key that is not given
        ("redact", {"a"}),
    ],
)
def test_a_plan_reads_what_its_forms_look_at(form, reads):
    about = dataclasses.replace(report("r", *FIELDS), key=("c",))
    assert reading(about, f"true, a, {form}") == reads


def test_a_plan_reads_the_field_that_a_form_names_and_gives_it_to_nobody():
    about = report("r", *FIELDS, ("d", Type.DATE, "personal"))
    line = "row.a == 1, d, shift(days=9, per='c')"
    assert reading(about, line) == {"a", "c", "d"}
    assert reading(about, "true, d, truncate('month')") == {"d"}


def reading(about: Report, line: str) -> frozenset[str]:
    """The fields that are decoded for `user:u` with this line alone."""
    text = f"p, anyone, r, read, true, allow\np2, user:u, r, {line}\n"
    policy = load(text, reports={"r": about})
    decision = decide(policy, subject=WHO, report=about, context=context(WHO))
    assert isinstance(decision, Permit)
    assert len(decision.plan.columns) == 1
    return decision.plan.reads


def test_columns_stand_in_the_catalogues_order():
    assert list(shown(plan("true, c, clear", "true, a, clear"))) == ["a", "c"]


def test_the_preferred_form_comes_first_whatever_the_order_of_lines():
    lines = ["row.a == 1, a, round(100)", "row.a == 2, a, clear", "row.a == 3, a, redact", "row.a == 4, a, round(10)"]  # fmt: skip
    wanted = ["clear", "round(10)", "round(100)", "redact"]
    for order in (lines, lines[::-1]):
        choices, _ = shown(plan(*order))["a"]
        assert [treatment for _, treatment in choices] == wanted


def test_choices_that_can_never_win_are_left_out():
    found = plan("true, a, clear", "true, a, round(10)", "row.b == 1, a, redact", "row.b == 1, b, redact", "row.b == 1, b, clear")  # fmt: skip
    assert shown(found) == {"a": ([("true", "clear")], []), "b": ([("row.b == 1", "clear")], [])}


def test_equal_conditions_are_one_predicate_however_they_are_spaced():
    found = plan("row.a  ==  1, a, clear", "row.a == 1, b, clear", "row.a==1, c, deny", "true, c, clear")  # fmt: skip
    assert found is not None
    assert len({predicate.text for predicate in found.predicates}) == len(found.predicates) == 2


def test_a_denied_field_keeps_its_choices_and_names_what_hides_it():
    found = plan("true, a|b, clear", "row.b == 1, a, deny", "false, b, deny")
    assert shown(found) == {
        "a": ([("true", "clear")], ["row.b == 1"]),
        "b": ([("true", "clear")], []),
    }


def test_a_field_that_is_always_denied_has_no_column():
    assert list(shown(plan("true, *, clear", "true, @personal, deny"))) == ["a", "b"]


def test_without_any_granted_cell_there_is_no_plan():
    assert plan() is None
    assert plan("true, *, deny") is None
    assert plan("false, *, clear") is None
    assert plan("true, *, clear", "true, *, deny") is None
    assert plan(stable=True) is None
    assert plan("true, *, deny", stable=True) is None


def test_a_stable_report_has_every_column_and_the_ungranted_ones_are_null():
    found = plan("true, a|b, clear", "true, b, deny", stable=True)
    assert shown(found) == {"a": ([("true", "clear")], []), "b": ([], []), "c": ([], [])}


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["true, a, clear"], Type.INTEGER),
        (["true, a, redact"], Type.INTEGER),
        (["row.b == 1, a, clear", "true, a, redact"], Type.INTEGER),
        (["row.b == 1, a, clear", "true, a, pseudonym"], Type.TEXT),
        (["true, a, clear", "true, a, pseudonym"], Type.INTEGER),
        (["true, a, pseudonym"], Type.TEXT),
    ],
)
def test_a_columns_type_is_what_all_forms_that_can_win_give_else_text(lines, wanted):
    found = plan(*lines)
    assert found is not None
    assert found.columns[0].type is wanted


def test_prefer_reorders_the_forms_it_names_in_the_places_they_hold():
    lines = ["row.a == 1, c, partial(last=2)", "row.a == 2, c, pseudonym", "row.a == 3, c, clear", "row.a == 4, c, redact"]  # fmt: skip
    for prefer, wanted in (
        (("partial", "pseudonym"), ["clear", "partial(last=2)", "pseudonym", "redact"]),
        (("pseudonym", "partial"), ["clear", "pseudonym", "partial(last=2)", "redact"]),
        (("redact", "pseudonym", "partial", "clear"), ["redact", "pseudonym", "partial(last=2)", "clear"]),
    ):  # fmt: skip
        choices, _ = shown(plan(*lines, prefer=prefer))["c"]
        assert [treatment for _, treatment in choices] == wanted


@pytest.mark.parametrize(
    ("lines", "prefer", "clear", "whole"),
    [
        (["true, *, clear"], (), "abc", "abc"),
        (["true, a, clear", "row.a == 1, b, clear", "true, c, redact"], (), "a", "a"),
        (["row.a == 1, a|b, clear"], (), "ab", ""),
        (["row.a == 1, a|b, clear", "row.a == 2, b, clear"], (), "b", ""),
        (["row.a == 1, a|b, clear", "row.a == 2, b, redact"], (), "", ""),
        (["row.a == 1, a, clear", "true, a, round(10)"], (), "", ""),
        (["true, *, clear", "row.a == 1, a, deny"], (), "bc", "bc"),
        (["true, *, clear", "row.a == 1, *, deny"], (), "abc", ""),
        (["true, *, clear", "row.a == 1, *, deny", "row.a == 2, c, deny"], (), "ab", ""),
        (["row.a == 1, a, redact", "true, a, clear"], ("redact", "clear"), "", ""),
        (["true, *, pseudonym"], (), "", ""),
    ],
)
def test_a_plan_says_clear_only_where_no_releasable_row_gives_another_form(
    lines, prefer, clear, whole
):
    """`clear` of every row that may be released, `whole` of every row that there is."""
    for stable in (False, True):
        found = plan(*lines, prefer=prefer, stable=stable)
        assert found is not None
        assert found.clear == set(clear)
        assert found.whole == set(whole)
