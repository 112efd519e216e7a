"""What a token says and what people.csv says of a subject, each where it counts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Faulty
from proxy.identity import Identities
from proxy.plan import Deny
from proxy.subject import Person
from tests.identity.material import ISSUER, NOW, claims, jwks, key, public, token

SUBJECTS = f"""\
issuers:
  - issuer: {ISSUER}
    prefix: ""
    audience: [counterfoil]
    keys: {{file: jwks.json}}
    groups: {{claim: groups, source: claim}}
    attributes:
      a: {{claim: a, type: text, source: claim}}
      b: {{type: text, source: people}}
      c: {{claim: c, type: text, source: claim-else-people}}
      d: {{claim: d, type: text, source: people-else-claim}}
"""
GROUPS = "groups: {claim: groups, source: claim}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    (folder / "jwks.json").write_bytes(jwks(public(key("EC"), kid="k")))
    return folder


def load(folder, groups: str = "claim", **people) -> Identities:
    what = (
        "groups: {source: people}"
        if groups == "people"
        else GROUPS.replace("source: claim", f"source: {groups}")
    )
    text = SUBJECTS.replace(GROUPS, what)
    return Identities.load(text.encode(), file="s.yaml", folder=folder).knowing(people)


def verify(identities, now=NOW, **more):
    return asyncio.run(identities.verify(f"Bearer {token(claims(**more))}", now))


words = st.none() | st.sampled_from(["x", "y"])
lists = st.none() | st.lists(st.sampled_from(["group:x", "group:y", "group:z"]), unique=True)
SOURCES = {
    "claim": lambda claim, _: claim,
    "people": lambda _, people: people,
    "claim-else-people": lambda claim, people: people if claim is None else claim,
    "people-else-claim": lambda claim, people: claim if people is None else people,
    "claim-and-people": lambda claim, people: [*(claim or []), *(p for p in people or [] if p not in (claim or []))],
}  # fmt: skip


@given(
    said=st.dictionaries(st.sampled_from("abcd"), words),
    held=st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["x", "y"])),
    groups=lists,
    listed=lists,
    source=st.sampled_from(list(SOURCES)),
)
def test_each_source_counts_where_it_is_declared(folder, said, held, groups, listed, source):
    """For every pair of claim and line, an attribute and the groups are what their source says."""
    person = Person(groups=None if listed is None else tuple(listed), attributes=held)
    identities = load(folder, source, **{"user:alice": person})
    bare = None if groups is None else [name.removeprefix("group:") for name in groups]
    subject = verify(identities, groups=bare, **said)
    assert list(subject.groups) == (SOURCES[source](groups, listed) or [])
    wanted = {
        name: SOURCES[rule](said.get(name), held.get(name))
        for name, rule in zip("abcd", list(SOURCES)[:4], strict=True)
    }
    assert subject.attributes == {
        name: value for name, value in wanted.items() if value is not None
    }
    same = identities.subject_of(
        "user:alice",
        groups=None if groups is None else tuple(groups),
        attributes={name: value for name, value in said.items() if value is not None},
        tool="tool:bi",
        now=NOW,
        expires=subject.expires,
    )
    assert same == replace(subject, audiences=None)


def test_a_line_means_nothing_from_its_end_on_and_the_subject_ends_with_it(folder):
    """A subject made from a line expires with the line; from then on the same token has another."""
    ends = Person(groups=("group:x",), attributes={"b": "x"}, until=NOW + 60)
    identities = load(folder, "claim-and-people", **{"user:alice": ends})
    before = [verify(identities, NOW + second) for second in (0, 59.9)]
    assert [s.attributes.get("b") for s in before] == ["x", "x"]
    assert {s.expires for s in before} == {NOW + 60}
    after = verify(identities, NOW + 60)
    assert (after.groups, after.attributes, after.expires) == ((), {}, NOW + 630)


def test_a_token_ends_no_later_for_a_line(folder):
    """A line that ends after the token lengthens nothing."""
    later = Person(attributes={"b": "x"}, until=NOW + 10_000)
    identities = load(folder, **{"user:alice": later})
    assert verify(identities).expires == NOW + 630
    assert isinstance(verify(identities, NOW + 630), Deny)


def test_a_remembered_subject_never_outlives_its_people(folder):
    """Other people are other identities: what was remembered is not taken over, what was fetched is."""
    good = f"Bearer {token(claims())}"
    first = load(folder, **{"user:alice": Person(attributes={"b": "x"})})
    second = first.knowing({"user:alice": Person(attributes={"b": "y"})})
    found = [asyncio.run(i.verify(good, NOW)) for i in (first, first, second, second.knowing({}))]
    assert found[0] is found[1]
    assert [subject.attributes for subject in found[1:]] == [{"b": "x"}, {"b": "y"}, {}]


def test_a_line_is_about_its_subject_alone(folder):
    """A tool's line counts where the tool acts alone, and never for the user who asks through it."""
    identities = load(
        folder,
        **{
            "tool:bi": Person(attributes={"b": "tool"}),
            "user:bi": Person(attributes={"b": "user"}),
        },
    )
    assert verify(identities).attributes == {}
    assert verify(identities, sub="bi").attributes == {"b": "tool"}
    assert verify(identities, sub="bi", azp="other").attributes == {"b": "user"}


def test_a_name_that_no_issuer_has_is_nobody(folder):
    """`subject_of` answers for names that a token could give, and for no others."""
    text = SUBJECTS.replace('prefix: ""', "prefix: corp/")
    identities = Identities.load(text.encode(), file="s.yaml", folder=folder)
    assert identities.subject_of("user:alice", now=NOW) is None
    assert identities.subject_of("user:corp/alice", now=NOW).name == "user:corp/alice"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("{type: text, source: people}", "{type: text}", "9:10: missing key `claim`"),
        ("{type: text, source: people}", "{claim: b, type: text, source: people}", "9:18: the claim counts for nothing"),
        ("{claim: c, type: text, source: claim-else-people}", "{claim: c, type: text, source: claim-and-people}", "10:41: an attribute comes from one place"),
        ("source: claim-else-people", "source: both", "10:41: expected one of `claim`, `people`"),
        ("{claim: groups, source: claim}", "{source: claim-and-people}", "6:13: missing key `claim`"),
        ("{claim: groups, source: claim}", "{claim: groups, source: people}", "6:21: the claim counts for nothing"),
        ("b: {type", "subject: {type", "9:7: people.csv has a column `subject` of its own"),
        ("b: {type", "groups: {type", "9:7: people.csv has a column `groups` of its own"),
    ],
)  # fmt: skip
def test_a_source_that_says_two_things_is_a_fault(folder, old, new, fault):
    """A claim stands exactly where it counts, only groups add up, and no attribute is named as a column is."""
    assert old in SUBJECTS
    with pytest.raises(Faulty) as caught:
        Identities.load(SUBJECTS.replace(old, new, 1).encode(), file="s.yaml", folder=folder)
    (found,) = caught.value.faults
    assert str(found).startswith(f"s.yaml:{fault}")
