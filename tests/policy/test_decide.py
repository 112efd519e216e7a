"""Who matches, and what a denial is called."""

from __future__ import annotations

import dataclasses
import logging
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.plan import Deny, Permit
from proxy.policy.decide import decide
from proxy.policy.index import Policy
from proxy.reasons import Reason
from proxy.subject import Subject
from proxy.values import Type
from tests.policy.example import DAILY, EXPIRES, NOW, REPORTS, STAFF, context, load, report, subject

CELLS = "p2, anyone, sales/*, true, *, redact\np2, anyone, staff, true, *, redact\n"
ALICE = subject("user:alice", "group:analysts")
ROLE = "g, group:analysts, role:analyst\n"


def decided(text: str | Policy, who: Subject, report=STAFF, **more):
    """A decision under the policy that `text` writes."""
    policy = load(text + CELLS) if isinstance(text, str) else text
    return decide(policy, subject=who, report=report, context=context(who, **more))


def cause(text: str | Policy, who: Subject, report=STAFF, **more) -> str:
    """Why not; '' where permitted."""
    decision = decided(text, who, report, **more)
    return decision.cause if isinstance(decision, Deny) else ""


@pytest.mark.parametrize("principal", ["user:alice", "group:analysts", "role:analyst", "anyone"])
def test_allow_lines_match_the_user_its_groups_their_roles_and_anyone(principal):
    text = f"p, {principal}, staff, read, true, allow\n{ROLE}"
    assert cause(text, ALICE) == ""
    other = subject("user:alicia", "group:analyst")
    assert cause(text, other) == ("" if principal == "anyone" else "no-allow-line")


@pytest.mark.parametrize("principal", ["user:alice", "group:analysts", "role:analyst", "anyone"])
def test_a_deny_line_wins_over_every_allow_line(principal):
    text = f"p, anyone, staff, read, true, allow\np, {principal}, staff, read, true, deny\n{ROLE}"
    assert cause(text, ALICE) == "deny-line"


@pytest.mark.parametrize(
    ("pattern", "reports"),
    [
        ("sales/daily", {"sales/daily"}),
        ("sales/*", {"sales/daily", "sales/eu/weekly"}),
        ("sales/eu/*", {"sales/eu/weekly"}),
        ("set:a", {"sales/eu/weekly", "staff"}),
        ("set:b", {"sales/eu/weekly", "staff", "sales/daily"}),
    ],
)
def test_a_pattern_covers_exactly_its_reports(pattern, reports):
    sets = "g2, sales/eu/*, set:a\ng2, staff, set:a\ng2, set:a, set:b\ng2, sales/daily, set:b\n"
    policy = load(f"p, anyone, {pattern}, read, true, allow\n{CELLS}{sets}")
    permitted = {r.id for r in REPORTS.values() if not cause(policy, ALICE, r)}
    assert permitted == reports


NEAR = {
    id_: report(id_, ("x", Type.TEXT, "public"))
    for id_ in ("public", "public/a", "public/a/b", "public-secret", "public-secret/a", "publi", "x/public/a")
}  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "covered"),
    [
        ("public", {"public"}),
        ("public/*", {"public/a", "public/a/b"}),
        ("public/a", {"public/a"}),
        ("public/a/*", {"public/a/b"}),
        ("set:public", {"public/a", "public/a/b"}),
    ],
)
@pytest.mark.parametrize("effect", ["allow", "deny"])
def test_a_prefix_never_reaches_what_only_begins_like_it(pattern, covered, effect):
    """D36: `public` and `public/*` grant and deny nothing of `public-secret`, in `p` and in `p2` lines."""
    everything = "p, anyone, {0}, read, true, allow\np2, anyone, {0}, true, *, clear\n"
    rest = "" if effect == "allow" else "".join(map(everything.format, NEAR))
    rules = f"g2, public/*, set:public\np, anyone, {pattern}, read, true, {effect}\n"
    form = "clear" if effect == "allow" else "deny"
    cells = f"p2, anyone, {pattern}, true, *, {form}\n"
    for text in (rules + cells, f"{rules}p2, anyone, public, true, *, clear\n{cells}"):
        policy = load(text + rest, reports=NEAR)
        permitted = {id_ for id_, each in NEAR.items() if not cause(policy, ALICE, each)}
        assert permitted == (covered if effect == "allow" else set(NEAR) - covered)
        formed = {id_ for row in policy.cells if row.report == pattern for id_ in row.rows}
        assert formed == covered


def test_a_line_of_another_action_permits_nothing():
    assert cause("p, anyone, staff, download, true, allow\n", ALICE) == "no-allow-line"
    assert (
        cause("p, anyone, staff, read, true, allow\n", ALICE, action="download") == "no-allow-line"
    )


def test_unknown_is_false_in_an_allow_and_true_in_a_deny():
    allow = "p, anyone, staff, read, sub.region == 'x', allow\n"
    deny = "p, anyone, staff, read, true, allow\np, anyone, staff, read, sub.region == 'x', deny\n"
    for region, allowed, denied in (("x", "", "deny-line"), ("y", "no-allow-line", "")):
        who = subject("user:a", attributes={"region": region})
        assert (cause(allow, who), cause(deny, who)) == (allowed, denied)
    assert (cause(allow, ALICE), cause(deny, ALICE)) == ("no-allow-line", "deny-line")


# ── tools ──

BI = subject("user:alice", "group:analysts", tool="tool:bi")
ALONE = subject(tool="tool:bi")


def test_a_tool_must_itself_hold_act():
    text = "p, user:alice, staff, read, true, allow\n"
    assert cause(text, BI) == "tool-may-not-act"
    assert cause(text + "p, user:alice, staff, act, true, allow\n", BI) == "tool-may-not-act"
    for principal in ("tool:bi", "role:tools", "anyone"):
        acting = f"p, {principal}, staff, act, true, allow\ng, tool:bi, role:tools\n"
        assert cause(text + acting, BI) == ""


def test_a_tool_never_lends_its_grants_to_a_user():
    text = (
        "p, tool:bi, staff, read, true, allow\np, tool:bi, staff, act, true, allow\n"
        "p, role:tools, staff, read, true, allow\ng, tool:bi, role:tools\n"
    )
    assert cause(text, BI) == "no-allow-line"
    assert cause(text, ALONE) == ""


def test_a_tools_deny_lines_always_apply():
    text = "p, anyone, staff, read, true, allow\np, anyone, staff, act, true, allow\n"
    for action in ("read", "act"):
        denied = f"{text}p, role:tools, staff, {action}, true, deny\ng, tool:bi, role:tools\n"
        assert cause(denied, BI) == "tool-denied"
        assert cause(denied, ALICE) == ""
    assert cause(f"{text}p, tool:bi, staff, read, true, deny\n", ALONE) == "deny-line"


def test_a_tools_cell_rules_count_only_when_it_acts_alone_but_its_denials_always():
    policy = load(
        "p, anyone, staff, read, true, allow\np, anyone, staff, act, true, allow\n"
        "p2, user:alice, staff, true, *, clear\n"
        "p2, tool:bi, staff, true, salary, deny\np2, tool:bi, staff, true, name, redact\n"
    )

    def seen(who):
        match decided(policy, who):
            case Permit(plan=plan):
                return {c.field.name: [str(x.treatment) for x in c.choices] for c in plan.columns}
            case Deny(cause=cause):
                return cause

    assert seen(ALICE) == {"name": ["clear"], "salary": ["clear"], "since": ["clear"]}
    assert seen(BI) == {"name": ["clear"], "since": ["clear"]}
    assert seen(ALONE) == {"name": ["redact"]}
    assert seen(subject("user:bob")) == "no-cell-rule"


# ── what it says ──


def test_a_permit_names_its_lines_and_its_plan_the_cell_rules():
    policy = load(
        "p, anyone, staff, read, true, allow\np, user:alice, staff, read, false, allow\n"
        "p, tool:bi, staff, act, true, allow\np2, user:alice, staff, true, *, clear\n"
        "p2, user:bob, staff, true, *, clear\n",
        grants=b"p, user:alice, staff, read, true, allow\n",
    )
    permit = decided(policy, BI)
    assert isinstance(permit, Permit)
    assert [str(line) for line in permit.lines] == ["grants.csv:1", "policy.csv:1", "policy.csv:3"]
    assert [str(line) for line in permit.plan.lines] == ["policy.csv:4"]
    assert permit.report is STAFF
    assert permit.subject is BI


def test_a_line_that_is_written_twice_is_a_line_twice():
    text = "p, anyone, staff, read, true, allow\n" * 2
    permit = decided(text, ALICE)
    assert isinstance(permit, Permit)
    assert [line.line for line in permit.lines] == [1, 2]


def test_a_denial_names_the_lines_that_denied():
    text = "p, anyone, staff, read, true, allow\np, user:alice, staff, read, true, deny\n"
    denial = decided(text, ALICE)
    assert isinstance(denial, Deny)
    assert [str(line) for line in denial.lines] == ["policy.csv:2"]
    assert denial.reason is Reason.NOT_FOUND


def test_forbidden_and_without_cells_are_the_same_refusal():
    unheard = load("p, anyone, staff, read, true, allow\n")
    for policy in (unheard, load("p, user:x, staff, read, true, allow\n" + CELLS)):
        denial = decided(policy, ALICE)
        assert isinstance(denial, Deny)
        assert denial.reason is Reason.NOT_FOUND
        assert denial.detail == ""
    assert cause(unheard, ALICE) == "no-cell-rule"


def test_a_purpose_is_asked_for_only_where_one_would_help():
    text = "p, user:alice, staff, read, env.purpose in ['audit', 'other'], allow\n"
    policy = load(text + CELLS)
    asked = decided(policy, ALICE)
    assert isinstance(asked, Deny)
    assert (asked.reason, asked.cause) == (Reason.PURPOSE, "purpose-required")
    assert cause(policy, ALICE, purpose="audit") == ""
    assert cause(policy, ALICE, purpose="reconcile") == "purpose-required"
    assert cause(policy, subject("user:bob")) == "no-allow-line"
    uncatalogued = "p, user:alice, staff, read, env.purpose == 'other', allow\n"
    assert cause(uncatalogued, ALICE) == "no-allow-line"
    uncelled = load(text)
    assert cause(uncelled, ALICE) == "no-allow-line"


def test_a_permit_ends_with_the_token_or_the_next_flip_of_a_condition():
    text = "p, anyone, staff, read, env.now < time('2026-11-23T12:30'), allow\n"
    permit = decided(text, ALICE)
    assert isinstance(permit, Permit)
    assert (
        NOW.timestamp()
        < permit.valid_until
        <= datetime(2026, 11, 23, 12, 30, tzinfo=UTC).timestamp()
    )
    rows = load(
        "p, anyone, staff, read, true, allow\n"
        "p2, anyone, staff, env.now < time('2026-11-23T12:20'), *, clear\n"
    )
    permit = decided(rows, ALICE)
    assert isinstance(permit, Permit)
    assert permit.valid_until <= datetime(2026, 11, 23, 12, 20, tzinfo=UTC).timestamp()
    permit = decided("p, anyone, staff, read, true, allow\n", ALICE)
    assert isinstance(permit, Permit)
    assert permit.valid_until == EXPIRES


def test_what_goes_wrong_denies_and_is_told_without_data(caplog):
    policy = load("p, anyone, staff, read, sub.region == 'x', allow\n" + CELLS)
    who = subject("user:canary", attributes={"region": "canary"})
    broken = msgspec.structs.replace(context(who), attributes=None)
    with caplog.at_level(logging.CRITICAL):
        denial = decide(policy, subject=who, report=STAFF, context=broken)
    assert isinstance(denial, Deny)
    assert (denial.reason, denial.cause) == (Reason.NOT_FOUND, "policy-error")
    assert len(caplog.records) == 1
    assert "canary" not in caplog.text


def test_a_report_that_the_policy_does_not_know_is_denied():
    unknown = dataclasses.replace(STAFF, id="unknown")
    text = "p, anyone, staff, read, true, allow\n"
    assert cause(text, ALICE, unknown) == "policy-error"


def test_casbin_and_our_reading_must_agree():
    policy = load("p, anyone, staff, read, true, allow\n" + CELLS)
    part = policy.slice(ALICE, STAFF.id, "read")
    part._decider._enforcer.clear_policy()
    assert cause(policy, ALICE) == "policy-error"


def test_what_is_remembered_is_shared_by_equal_grants_and_bounded():
    policy = load("p, role:analyst, staff, read, true, allow\n" + CELLS + ROLE)
    parts = {
        id(policy.slice(subject(f"user:{n}", "group:analysts", f"group:{n}"), "staff", "read"))
        for n in range(200)
    }
    assert len(parts) == 1


# ── properties ──

PRINCIPALS = st.sampled_from(["user:alice", "user:bob", "group:analysts", "role:analyst", "role:tools", "tool:bi", "anyone"])  # fmt: skip
WHENS = st.sampled_from(["true", "false", "sub.region == 'x'", "env.purpose == 'audit'", "not (sub.region == 'x')", "env.tool == 'bi'"])  # fmt: skip
LINES = st.builds(
    "p, {}, {}, {}, {}".format,
    PRINCIPALS,
    st.sampled_from(["staff", "sales/*", "set:a"]),
    st.sampled_from(["read", "act"]),
    WHENS,
)
SUBJECTS = st.sampled_from([
    ALICE, BI, ALONE, subject("user:bob", tool="tool:bi"), subject("user:bob"),
    subject("user:alice", "group:analysts", attributes={"region": "x"}),
    subject("user:alice", tool="tool:bi", attributes={"region": "y"}),
])  # fmt: skip
BASE = "p, user:nobody, staff, read, true, allow\n" + CELLS + ROLE + "g, tool:bi, role:tools\ng2, staff, set:a\ng2, sales/eu/*, set:a\n"  # fmt: skip
RULES = st.lists(st.tuples(LINES, st.sampled_from(["allow", "deny"])), max_size=8)


def _policy(rules) -> Policy:
    return load(BASE + "".join(f"{line}, {effect}\n" for line, effect in rules))


@given(RULES, LINES, SUBJECTS, st.sampled_from([DAILY, STAFF]), st.sampled_from(["", "audit"]))
def test_adding_an_allow_line_never_turns_a_permit_into_a_denial(rules, line, who, report, purpose):
    if not cause(_policy(rules), who, report, purpose=purpose):
        assert not cause(_policy([*rules, (line, "allow")]), who, report, purpose=purpose)


@given(RULES, LINES, SUBJECTS, st.sampled_from([DAILY, STAFF]), st.sampled_from(["", "audit"]))
def test_adding_a_deny_line_never_turns_a_denial_into_a_permit(rules, line, who, report, purpose):
    if not cause(_policy([*rules, (line, "deny")]), who, report, purpose=purpose):
        assert not cause(_policy(rules), who, report, purpose=purpose)


@given(RULES, st.sampled_from([DAILY, STAFF]))
def test_through_a_tool_a_user_may_never_do_more_than_without_it(rules, report):
    rules = [(line.replace("env.tool == 'bi'", "true"), effect) for line, effect in rules]
    if not cause(_policy(rules), BI, report):
        assert not cause(_policy(rules), ALICE, report)


@given(RULES, SUBJECTS, st.sampled_from([DAILY, STAFF]))
def test_the_order_of_lines_does_not_matter(rules, who, report):
    assert cause(_policy(rules), who, report) == cause(_policy(rules[::-1]), who, report)
