"""Casbin behind its door: roles of any depth, nothing remembered, nothing said, nothing evaluated."""

from __future__ import annotations

import logging

from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import rules
from proxy.policy.rules import Decider, Requester, Roles, Truths
from tests.policy.example import context, load, subject

NAMES = st.sampled_from([f"role:{n}" for n in range(14)] + ["user:a", "user:b"])


def naive(links, names):
    """The closure by repetition."""
    reached = set(names)
    while more := {role for member, role in links if member in reached} - reached:
        reached |= more
    return reached


@given(st.sets(st.tuples(NAMES, NAMES), max_size=30), st.sets(NAMES, max_size=3))
def test_the_closure_is_the_naive_one(links, names):
    assert Roles(links).closure(names) == naive(links, names)


def test_chains_over_nine_hops_are_linked():
    links = [(f"role:{n}", f"role:{n + 1}") for n in range(1_000)]
    assert len(Roles(links).closure(["role:0"])) == 1_001


def test_names_that_are_asked_for_are_not_remembered():
    roles = Roles([("user:a", "role:x")])
    for number in range(50):
        roles.closure([f"user:{number}", "user:a"])
    assert set(roles._direct) == {"user:a"}


def test_a_subject_named_like_a_role_gains_nothing():
    policy = load(
        "p, role:x, staff, read, true, allow\np2, role:x, staff, true, *, clear\n"
        "g, user:a, role:x\n"
    )
    for who in ("user:role:x", "user:x", "user:a "):
        assert policy.slice(subject(who), "staff", "read").plan is None
    assert policy.slice(subject("user:a"), "staff", "read").plan is not None


def test_without_rules_casbin_denies():
    nobody = Requester(frozenset({""}), frozenset({""}))
    decider = Decider([], Roles([]))
    assert not decider.permits(nobody, "", "", Truths({"": True}))


def test_casbin_says_nothing(caplog):
    caplog.set_level(logging.DEBUG)
    policy = load(
        "p, user:canary, staff, read, sub.region == 'x', allow\n"
        "p2, user:canary, staff, true, *, clear\ng, user:canary, role:x\n"
    )
    who = subject("user:canary", attributes={"region": "canary"})
    assert policy.slice(who, "staff", "read").verdict(context(who)).cause == "no-allow-line"
    assert caplog.records == []


def test_model_and_rules_hold_nothing_that_casbin_evaluates():
    assert "eval" not in rules.MODEL
    text = "p, user:eval(r.sub), staff, read, true, allow\np2, anyone, staff, true, *, redact\n"
    for name, permitted in (("user:eval(r.sub)", True), ("user:x", False)):
        who = subject(name)
        verdict = load(text).slice(who, "staff", "read").verdict(context(who))
        assert permitted == (not verdict.cause)
