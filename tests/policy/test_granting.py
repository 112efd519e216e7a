"""A grant is exactly the role, for a time: no more, no less, and nothing taken from anyone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import transform
from proxy.batch import PLAIN, Batch
from proxy.few import Few
from proxy.keys import Keyring
from proxy.plan import Context, Decision, Permit
from proxy.policy.decide import decide
from proxy.policy.granting import (
    NothingToGrant,
    blocks,
    grant,
    lockdown,
    plain,
    with_block,
    without_block,
)  # fmt: skip
from proxy.policy.index import Policy
from proxy.subject import Subject
from tests.policy.example import DAILY, EXPIRES, NOW, load

KEYRING = Keyring.generate()
UNTIL = NOW + timedelta(hours=2)
ID = "0" * 31 + "1"
ROWS = [
    {"date": "2026-11-20", "store_id": str(store), "store name": name, "net_sales": sales, "margin": "7.5", "email": "a@b"}
    for store in (1, 2) for name in ("A", None) for sales in ("10.00", "999.99")
]  # fmt: skip

whens = st.sampled_from(
    [
        "true",
        "false",
        "env.purpose in ['audit']",
        "sub.region == 'North'",
        "ip_in(env.ip, '10.0.0.0/8')",
    ]
)
conditions = st.sampled_from(
    [
        "true",
        "false",
        "row.store_id in sub.stores",
        "row.net_sales > 100",
        "row['store name'] == 'A'",
        "env.purpose == 'audit'",
    ]
)
fields = st.sampled_from(
    ["*", "@public", "net_sales|margin", "* except @personal", "email", "store name"]
)
treatments = st.sampled_from(["clear", "deny", "redact"])
reports = st.sampled_from(["sales/daily", "sales/*", "set:all"])
roles = st.sampled_from(["role:r", "role:base", "role:other"])
access = st.builds(
    "p, {}, {}, read, {}, {}\n".format,
    roles,
    reports,
    whens,
    st.sampled_from(["allow", "allow", "deny"]),
)
cells = st.builds("p2, {}, {}, {}, {}, {}\n".format, roles, reports, conditions, fields, treatments)
policies = st.lists(st.one_of(access, cells), max_size=8).map("".join)
contexts = st.builds(
    lambda region, stores, purpose, ip, tool: (
        {name: value for name, value in {"region": region, "stores": stores}.items() if value is not None},
        purpose, ip, tool,
    ),
    st.sampled_from(["North", "South", None]), st.sampled_from([(1,), (1, 2), None]),
    st.sampled_from(["", "audit"]), st.sampled_from(["10.1.1.1", "127.0.0.1"]), st.booleans(),
)  # fmt: skip

BASE = "p, role:keeper, staff, read, true, allow\ng, role:r, role:base\ng2, sales/daily, set:all\ng, user:member, role:r\n"


def context_of(how, now) -> Context:
    attributes, purpose, ip, _ = how
    return Context(
        attributes=attributes,
        now=now,
        date=now.date(),
        ip=ip,
        purpose=purpose,
        tool="",
        action="read",
        method="GET",
    )


def decided(policy: Policy, user: str, how, *, now=NOW) -> Decision:
    subject = Subject(user=user, attributes=how[0], expires=EXPIRES + 1e6)
    return decide(policy, subject=subject, report=DAILY, context=context_of(how, now))


def view(policy: Policy, user: str, how, *, now=NOW):
    """What a user gets of the rows: None where refused."""
    decision = decided(policy, user, how, now=now)
    if not isinstance(decision, Permit):
        return None
    context = context_of(how, now)
    bound = transform.bind(decision.plan, context=context, subject=user, keyring=KEYRING)
    batch = Batch(
        {name: Few([row[name] for row in ROWS]) for name in DAILY.fields},
        height=len(ROWS), lexis=PLAIN, types={n: f.type for n, f in DAILY.fields.items()}, few=True,
    )  # fmt: skip
    out = bound.apply(batch).batch
    columns = {c.name: list(out.cells.get(c.name, ())) for c in bound.columns}
    return {name: column for name, column in columns.items() if any(c is not None for c in column)}


def granted(policy: Policy, to: str = "user:grantee", **more) -> str:
    return grant(
        policy, id_=ID, to=to, report="sales/daily", role="role:r", by="user:ada", reason="r", now=NOW, until=UNTIL, **more
    ).text  # fmt: skip


@given(rules=policies, how=contexts)
@settings(max_examples=150, deadline=None)
def test_a_grant_gives_what_the_role_gives_and_ends(rules, how):
    """Before its end the grantee sees what a member of the role sees, whatever the role's lines deny; after it, nothing."""
    policy = load(BASE + rules)
    try:
        text = granted(policy)
    except NothingToGrant:
        seen = view(policy, "user:member", how)
        assert not seen
        return
    after = load(BASE + rules, grants=text.encode())
    member, grantee = view(after, "user:member", how), view(after, "user:grantee", how)
    assert (member or {}) == (grantee or {})
    assert view(after, "user:grantee", how, now=UNTIL) is None
    assert view(after, "user:member", how) == view(policy, "user:member", how)


@given(rules=policies, own=policies, how=contexts)
@settings(max_examples=100, deadline=None)
def test_a_grant_that_ended_is_as_if_it_were_not_there(rules, own, how):
    """From its end on its lines count for nothing: same decision, same columns, same forms, same lines."""
    own = own.replace("role:r,", "user:grantee,").replace("role:base", "user:grantee")
    policy = load(BASE + rules + own)
    try:
        text = granted(policy)
    except NothingToGrant:
        return
    after = load(BASE + rules + own, grants=text.encode())
    without, ended = (decided(each, "user:grantee", how, now=UNTIL) for each in (policy, after))
    if isinstance(without, Permit):
        assert ended.plan.gives_as(without.plan) and ended.plan.places == without.plan.places
    else:
        assert ended == without


def test_what_a_grant_gives_besides_hides_a_field_from_parameters_while_it_lasts():
    """While more rows are given, in which a field is rounded, the store may not be asked by it; then again."""
    own = (
        "p, user:grantee, sales/daily, read, true, allow\n"
        "p2, user:grantee, sales/daily, row.store_id == 1, date|net_sales, clear\n"
        "p, role:r, sales/daily, read, true, allow\n"
        "p2, role:r, sales/daily, true, net_sales|margin, round(100)\n"
    )
    policy = load(BASE + own)
    policy = load(BASE + own, grants=granted(policy).encode())
    how = ({}, "", "127.0.0.1", False)
    plans = [decided(policy, "user:grantee", how, now=now).plan for now in (NOW, UNTIL)]
    assert [plan.clear for plan in plans] == [frozenset(), {"date", "net_sales"}]
    assert [[c.field.name for c in plan.columns] for plan in plans] == [
        ["date", "net_sales", "margin"],
        ["date", "net_sales"],
    ]


@given(rules=policies, own=policies, how=contexts)
@settings(max_examples=100, deadline=None)
def test_a_grant_takes_nothing_from_its_grantee(rules, own, how):
    """Whatever somebody sees by lines of their own, they see at least that with a grant besides."""
    own = (
        own.replace("role:r,", "user:grantee,")
        .replace("role:base", "user:grantee")
        .replace("role:other", "user:grantee")
    )
    policy = load(BASE + rules + own)
    try:
        text = granted(policy)
    except NothingToGrant:
        return
    before = view(policy, "user:grantee", how)
    after = view(load(BASE + rules + own, grants=text.encode()), "user:grantee", how)
    if before is not None:
        assert after is not None
        for name, cells_ in before.items():
            seen = sum(cell is not None for cell in after[name])
            assert seen >= sum(cell is not None for cell in cells_)


@pytest.mark.parametrize(
    "name", ["alice", "o'neil, pat", "a b", "role:admin", "x(", "ü", "a#b", "a|user:b", "*"]
)
def test_any_name_is_written_so_that_it_is_that_name(name):
    """However a name looks, the lines are about that principal and nobody else."""
    rules = "p, role:r, sales/daily, read, true, allow\np2, role:r, sales/daily, true, *, clear\n"
    after = load(BASE + rules, grants=granted(load(BASE + rules), to=f"user:{name}").encode())
    assert {rule.principal for rule in after.access if rule.line.file == "grants.csv"} == {
        f"user:{name}"
    }


@given(reasons=st.lists(st.text(max_size=30), min_size=1, max_size=4), gone=st.integers(0, 3))
def test_blocks_are_added_and_taken_out_one_by_one(reasons, gone):
    """Each block is found by its id, goes by its id, and leaves the others and lines by hand as they were."""
    by_hand = "# by hand\np, user:x, sales/daily, read, true, deny\n"
    text = by_hand
    made = []
    for number, reason in enumerate(reasons):
        block = lockdown(
            id_=f"{number:032x}", pattern="sales/*", by="user:a\nb", reason=reason, now=NOW
        )
        text = with_block(text, block, now=NOW)
        made.append(block)
    assert [block.text for block in blocks(text)] == [block.text for block in made]
    load(BASE, lockdown=text.encode())
    one = made[gone % len(made)]
    text = without_block(text, one.id, now=NOW)
    assert [block.id for block in blocks(text)] == [block.id for block in made if block is not one]
    assert text.startswith(by_hand)


def test_what_is_over_goes_with_the_next_write():
    """Expired grants are tidied away; those that go on stay."""
    rules = "p, role:r, sales/daily, read, true, allow\np2, role:r, sales/daily, true, *, clear\n"
    policy = load(BASE + rules)
    one = grant(
        policy,
        id_="1" * 32,
        to="user:a",
        report="sales/daily",
        role="role:r",
        by="user:x",
        reason="r",
        now=NOW,
        until=UNTIL,
    )
    two = grant(
        policy,
        id_="2" * 32,
        to="user:a b",
        report="sales/daily",
        role="role:r",
        by="user:x",
        reason="r",
        now=NOW,
        until=UNTIL + timedelta(days=1),
    )
    text = with_block(with_block("", one, now=NOW), two, now=NOW)
    assert [block.id for block in blocks(text)] == [one.id, two.id]
    assert [
        block.id
        for block in blocks(
            with_block(
                text, lockdown(id_="3" * 32, pattern="x", by="b", reason="r", now=NOW), now=UNTIL
            )
        )
    ] == [two.id, "3" * 32]


@given(st.text())
def test_a_reason_is_one_plain_line(text):
    """No reason ends its comment line, hides in it, or fills the file."""
    shown = plain(text)
    assert len(shown) <= 500 and shown.isprintable() and "\n" not in shown
    load(BASE + f"# by x: {shown}\n")
