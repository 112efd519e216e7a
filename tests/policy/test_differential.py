"""The decision index against plain Casbin: `enforce` over all rules of random policies.

Plain Casbin gets the same model, with functions that are written anew here from DESIGN.md §4 and share
nothing with the index: who a requester is by repetition over the `g` lines, what a pattern covers by
repetition over the `g2` lines.
"""

from __future__ import annotations

from types import SimpleNamespace

import casbin
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from proxy.plan import Deny, Permit
from proxy.policy.conditions import Scope, compile  # noqa: A004
from proxy.policy.decide import decide
from proxy.policy.rules import MODEL
from proxy.reasons import Reason
from tests.policy.example import ATTRIBUTES, PURPOSES, REPORTS, context, load, subject

ROLES = [f"role:{n}" for n in range(13)]
GROUPS = ["group:a", "group:b"]
USERS = ["user:a", "user:b", "user:role:1"]
TOOLS = ["tool:a", "tool:b"]
SETS = ["set:x", "set:y", "set:z"]
PATTERNS = ["sales/daily", "sales/eu/weekly", "staff", "sales/*", "sales/eu/*", "sales-secret"]
WHENS = [
    "true",
    "false",
    "env.purpose == 'audit'",
    "env.purpose != 'audit'",
    "sub.region == 'x'",
    "not (sub.region == 'x')",
    "env.tool == 'a' or sub.region == 'y'",
    "present(sub.region)",
    "7 in sub.stores",
]

P = st.tuples(
    st.sampled_from([*ROLES[:4], *ROLES[10:], *GROUPS, *USERS, *TOOLS, "anyone"]),
    st.sampled_from([*PATTERNS, *SETS]),
    st.sampled_from(["read", "read", "act", "download"]),
    st.sampled_from(WHENS),
    st.sampled_from(["allow", "allow", "deny"]),
)
CHAINS = st.sampled_from([
    [],
    [(f"role:{n}", f"role:{n + 1}") for n in range(12)],
    [(f"role:{n}", f"role:{n + 2}") for n in range(11)],
])  # fmt: skip
G = st.lists(
    st.tuples(st.sampled_from([*GROUPS, *USERS, *TOOLS]), st.sampled_from(ROLES)), max_size=6
)
G2 = st.lists(
    st.tuples(st.sampled_from(PATTERNS), st.sampled_from(SETS))
    | st.sampled_from([("set:x", "set:y"), ("set:y", "set:z")]),
    max_size=6,
)
SUBJECTS = st.builds(
    lambda who, groups, attributes: subject(who[0], *groups, tool=who[1], attributes=attributes),
    st.tuples(st.sampled_from([*USERS, None]), st.sampled_from([*TOOLS, None])).filter(any),
    st.lists(st.sampled_from(GROUPS), unique=True),
    st.sampled_from([{}, {"region": "x"}, {"region": "y", "stores": (7, 8)}]),
)


def reached(links, names):
    """Everything that follows from `names`, by repetition."""
    names = set(names)
    while more := {of for member, of in links if member in names} - names:
        names |= more
    return names


def covered(links, report, pattern):
    """Whether `pattern` covers `report`, from the pattern's side."""
    if pattern.startswith("set:"):
        return any(covered(links, report, member) for member, of in links if of == pattern)
    if pattern.endswith("/*"):
        return report.startswith(pattern[:-1]) and len(report) > len(pattern) - 1
    return report == pattern


def plain(rules, links):
    """Casbin's own Enforcer over all rules."""
    enforcer = casbin.Enforcer(casbin.Enforcer.new_model(text=MODEL))
    enforcer.add_function("holds", lambda r, p, eft: p in (r.denies if eft == "deny" else r.allows))
    enforcer.add_function("matches", lambda report, pattern: covered(links, report, pattern))
    enforcer.add_function(
        "truth", lambda t, when, eft: t(when) is not False if eft == "deny" else t(when) is True
    )
    enforcer.add_named_policies("p", [list(rule) for rule in rules])
    return enforcer


COMPILED = {
    text: compile(text, Scope(fields=None, elsewhere={}, attributes=ATTRIBUTES)) for text in WHENS
}


def permitted(enforcer, links, who, report, asked):
    """What DESIGN.md §4 says of a requester, decided by plain Casbin."""

    def truth(text):
        return COMPILED[text].holds(asked)

    names = [who.user, *who.groups] if who.user else [who.tool]
    allows = reached(links, names) | {"anyone"}
    tool = reached(links, [who.tool]) | {"anyone"} if who.tool else set()
    asking = SimpleNamespace(allows=allows, denies=allows | tool)
    if not enforcer.enforce(asking, report, asked.action, truth):
        return False
    acting = SimpleNamespace(allows=tool, denies=allows | tool)
    return not (who.user and who.tool) or enforcer.enforce(acting, report, "act", truth)


@given(st.lists(P, min_size=1, max_size=25), CHAINS, G, G2, st.lists(SUBJECTS, min_size=1, max_size=3), st.sampled_from(["read", "download"]), st.sampled_from(["", *PURPOSES]))  # fmt: skip
def test_the_index_decides_as_plain_casbin_does_over_all_rules(
    rules, chain, members, sets, subjects, action, purpose
):
    links = [*members, *chain]
    sets = [*sets, *(("sales-secret", name) for name in SETS)]
    lines = [f"p, {', '.join(rule)}" for rule in rules]
    lines += [f"p2, anyone, {report}, true, *, redact" for report in REPORTS]
    lines += [f"g, {member}, {role}" for member, role in links]
    lines += [f"g2, {member}, {name}" for member, name in sets]
    policy = load("".join(f"{line}\n" for line in lines))
    enforcer = plain(rules, sets)
    for who in subjects:
        for report in REPORTS.values():
            asked = context(who, action=action, purpose=purpose)
            expected = permitted(enforcer, links, who, report.id, asked)
            for _ in range(2):  # cold, then warm
                decision = decide(policy, subject=who, report=report, context=asked)
                assert isinstance(decision, Permit) == expected
            helped = any(
                permitted(
                    enforcer, links, who, report.id, msgspec.structs.replace(asked, purpose=other)
                )
                for other in PURPOSES
            )
            if isinstance(decision, Deny):
                assert (decision.reason is Reason.PURPOSE) == helped
