"""The difference to requesters who are several things at once agrees with brute force over all of them."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.plan import Context, Permit
from proxy.policy.decide import decide
from proxy.review.changes import Kind
from proxy.review.difference import difference
from proxy.review.sides import ANY_TOOL, Side, Who
from proxy.review.solver import Assignment
from proxy.snapshot import snapshot_of
from tests.review.versions import files, forms, table, turn

FIELDS = {"region": "{type: text, class: public}", "units": "{type: text, class: internal}"}
ATTRIBUTES = """\
    groups: {{claim: groups, source: {groups}}}
    attributes:
      regions: {{type: text, many: true, source: people-else-claim, claim: regions}}
"""
ROLES = ("role:r", "role:s", "role:t")
TOOL = "tool:b"
HELD = "".join(f"g, group:{role[-1]}, {role}\n" for role in ROLES)

WHENS = st.sampled_from(
    ("true", "true", "true", "env.purpose == 'audit'", "'North' in sub.regions",
     "env.now < time('2033-01-01T00:00:00Z')")
)  # fmt: skip
ROWS = st.sampled_from(
    ("true", "true", "row.region == 'North'", "row.region in sub.regions", "not (row.units >= '2')",
     "row.units >= '2' and env.purpose != 'audit'")
)  # fmt: skip
USERS = st.sampled_from((*ROLES, *ROLES, "user:u"))
EVERYBODY = st.sampled_from((*ROLES, *ROLES, *ROLES, "user:u", TOOL, "anyone"))
GIVE = st.one_of(
    st.builds("p, {}, sales/daily, read, {}, allow\n".format, USERS, WHENS),
    st.builds(
        "p, {}, sales/*, act, {}, {}\n".format,
        st.sampled_from((TOOL, "anyone", "role:t")), WHENS, st.sampled_from(("allow", "deny")),
    ),
    st.builds(
        "p2, {}, sales/daily, {}, {}, {}\n".format,
        USERS, ROWS, st.sampled_from(("*", "units", "region")), st.sampled_from(("clear", "redact")),
    ),
    st.sampled_from(("g, user:u, role:t\n", "g, role:s, role:t\n", "g, tool:b, role:t\n")),
)  # fmt: skip
DENY = st.one_of(
    st.builds("p, {}, sales/*, read, {}, deny\n".format, EVERYBODY, WHENS),
    st.builds("p2, {}, sales/*, {}, units, deny\n".format, EVERYBODY, ROWS),
)
LINE = st.one_of(GIVE, DENY)
GIVING = (
    "p, role:r, sales/daily, read, true, allow\np2, role:r, sales/daily, true, *, clear\n"
    "p, anyone, sales/daily, act, true, allow\n"
)
HALF = "p, role:s, sales/daily, read, true, allow\np2, role:s, sales/daily, true, region, clear\n"
PERSON = st.builds(
    "user:u, {}, {}, {}\n".format,
    st.sampled_from(("", "group:s", "group:t")),
    st.sampled_from(("", "North", "South", "North|South")),
    st.sampled_from(("", "", "2030-01-01", "2035-01-01")),
)
NOTHING = "user:u, , , \n"
POLICY = st.lists(LINE, min_size=1, max_size=5)


@st.composite
def edits(draw):
    """The lines and the people of two versions, of which most are the same."""
    lines = [GIVING, *draw(st.sampled_from(((), (HALF,)))), *dict.fromkeys(draw(POLICY))]
    others = [GIVING, *(each for each in lines[1:] if draw(st.integers(0, 3)))]
    others = [*dict.fromkeys((*others, *draw(st.lists(LINE, max_size=2))))]
    person = draw(PERSON)
    return (lines, person), (others, draw(st.one_of(st.just(person), PERSON)))


def version(lines, person, groups):
    people = "subject, groups, regions, valid-until\n" + person
    if "people" not in groups:
        _, _, regions, until = person.split(",")
        people = f"subject, regions, valid-until\nuser:u, {regions}, {until}"
    subjects = ATTRIBUTES.format(groups=groups)
    return snapshot_of(
        files(HELD + "".join(lines), fields=FIELDS, subjects=subjects, people=people)
    )


TABLE = table(
    [
        {"region": region, "units": units}
        for region in (None, "North", "South", "Else")
        for units in (None, "0", "2")
    ],
    snapshot_of(files(GIVING, fields=FIELDS)).catalogue.reports["sales/daily"].types,
)
CIRCUMSTANCES = [
    *itertools.product(
        ("", "audit"),
        (2028, 2032, 2034, 2040),
        (None, (), ("North",), ("South", "Else"), ("North", "South")),
    )
]
SETS = [
    frozenset(each)
    for size in range(1, 5)
    for each in itertools.combinations((*ROLES, "user:u"), size)
]
REQUESTERS = [(names, tool) for names in (frozenset(), *SETS) for tool in (None, ANY_TOOL, TOOL)]


def subject_of(snapshot, names, tool, year, regions):
    """A requester with a token that says so."""
    return snapshot.identities.subject_of(
        "user:u" if "user:u" in names else "user:nobody",
        groups=tuple(f"group:{n[-1]}" for n in sorted(names) if n in ROLES) or None,
        attributes={} if regions is None else {"regions": regions},
        tool=None if tool is None else "tool:other" if tool == ANY_TOOL else tool,
        now=datetime(year, 6, 1, tzinfo=UTC).timestamp(),
    )


def seen(snapshot, names, tool, purpose, year, regions):
    """Of each row, field -> form, by the decision on a real subject."""
    subject = subject_of(snapshot, names, tool, year, regions)
    now = datetime(year, 6, 1, tzinfo=UTC)
    context = Context(
        attributes=subject.attributes, now=now, date=now.date(), ip="", purpose=purpose,
        tool=(subject.tool or "").removeprefix("tool:"), action="read", method="GET",
    )  # fmt: skip
    report = snapshot.catalogue.reports["sales/daily"]
    decision = decide(snapshot.policy, subject=subject, report=report, context=context)
    if not isinstance(decision, Permit):
        return [{}] * TABLE.height
    return forms(decision.plan, context, TABLE)


RANK = {"clear": 0, "redact": 1, "absent": 2}


def turns(before, after):
    """(row, field) -> (whether it is more, what is told of it)."""
    found = {}
    for number, (was, now) in enumerate(zip(before, after, strict=True)):
        if was == now:
            continue
        for field in ("region", "units"):
            if turned := turn(was, now, field):
                _, _, a, b = turned
                found[number, field] = (RANK[b] < RANK[a], turned)
    return found


def acting(snapshot, tool, purpose, year, regions):
    """Whether the tool may act, asked by itself."""
    side = Side(snapshot, Who(names=(tool,)), "sales/daily", "act")
    now = datetime(year, 6, 1, tzinfo=UTC)
    env = {"now": now, "purpose": purpose, "tool": tool.removeprefix("tool:"), "action": "read"}
    return bool(side.given(Assignment(row={}, sub={"regions": regions}, env=env), {}))


class World:
    """Two versions, and what every requester sees in each."""

    def __init__(self, *snapshots):
        self.snapshots = snapshots
        self.seen = functools.cache(lambda version, *asked: seen(self.snapshots[version], *asked))
        self.may = functools.cache(lambda version, *asked: acting(self.snapshots[version], *asked))
        for each in (self.turns, self.held, self.attributes, self.less):
            setattr(self, each.__name__, functools.cache(each))

    def turns(self, names, tool, purpose, year, then, now):
        """What changes to somebody with these attributes then and now."""
        return turns(
            self.seen(0, names, tool, purpose, year, then),
            self.seen(1, names, tool, purpose, year, now),
        )

    def held(self, version, names, year):
        """All that somebody is."""
        snapshot = self.snapshots[version]
        subject = subject_of(snapshot, names, None, year, None)
        known = {"user:u"} & names
        return snapshot.policy._roles.closure({*known, *subject.groups}) - {
            "group:r",
            "group:s",
            "group:t",
        }

    def attributes(self, version, names, year, claimed):
        return subject_of(self.snapshots[version], names, None, year, claimed).attributes.get(
            "regions"
        )

    def less(self, names, tool, year):
        """The requesters that somebody is, and more."""
        own = [self.held(version, names, year) for version in (0, 1)]
        found = []
        for other, of in REQUESTERS:
            if (other, of) == (names, tool) or of not in (None, tool and ANY_TOOL, tool):
                continue
            theirs = [self.held(version, other, year) for version in (0, 1)]
            within = all(a <= b for a, b in zip(theirs, own, strict=True))
            if within and (theirs != own or other <= names):
                found.append((other, of))
        return found


def brute_force(world):
    """Who -> what changes to it: of one principal all, of several what is not their parts'."""
    found = defaultdict(set)
    for purpose, year, claimed in CIRCUMSTANCES:
        for names, tool in REQUESTERS:
            then, now = (world.attributes(v, names, year, claimed) for v in (0, 1))
            turned = world.turns(names, tool, purpose, year, then, now)
            if not turned:
                continue
            told_of = []
            if len(names) > 1 or tool:
                for other, of in world.less(names, tool, year):
                    own = "user:u" in other
                    pairs = [(then, now)] if own else {(then, then), (now, now)}
                    told_of.append([world.turns(other, of, purpose, year, *p) for p in pairs])
            for place, (more, told) in turned.items():
                by_tool = tool is not None and all(
                    [world.may(v, tool, purpose, year, a) for v in (0, 1)] == [not more, more]
                    for a in (then, now)
                )
                by_less = any(
                    all(each.get(place, (None,))[0] is more for each in some) for some in told_of
                )
                if not by_tool and not by_less:
                    found[names, tool].add(told)
    return found


def told_of(changes, expected):
    """The same of what is told; of who has it by what it holds, it is told there."""
    told = defaultdict(set)
    for each in changes:
        assert each.kind is not Kind.UNDECIDED
        if each.action != "read" or (each.principal.startswith("tool:") and not each.also):
            continue  # a tool that acts alone is nobody of these
        for principal in (each.principal, *each.members):
            tools = [name for name in (principal, *each.also) if name.startswith("tool:")]
            names = frozenset({principal, *each.also}.difference(tools, ["anyone"]))
            who = (names, tools[0] if tools else None)
            said = {(each.kind, field, each.was, each.now) for field in each.fields}
            if principal != each.principal and each.also:
                said &= expected.get(who, set())  # a holder of the one may be less than both
            if said and not any(name.startswith("group:") for name in names):
                told[who] |= said
    return told


def compare(before, after, groups="claim"):
    """Hold what is told against brute force."""
    old, new = (version(*each, groups) for each in (before, after))
    found = difference(old, new, seconds=10)
    expected = brute_force(World(old, new))
    assert not found.uncompared
    assert told_of(found.changes, expected) == expected


@settings(max_examples=25)
@given(edited=edits(), groups=st.sampled_from(("claim", "claim-and-people", "claim-else-people")))
def test_it_is_that_of_brute_force(edited, groups):
    """Told is what some requester gains or loses, of the least that it must be for that; and all of it."""
    compare(*edited, groups)


def test_fields_that_one_set_of_principals_is_given_alike_may_be_told_of_some_of_them():
    """A deny takes a field from the role itself, and the others from those who have these by another role."""
    deny = "p, role:s, sales/*, read, true, deny\n"
    compare(([GIVING, HALF], NOTHING), ([GIVING, HALF, deny], NOTHING))
