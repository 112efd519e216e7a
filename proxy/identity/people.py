"""What a token says and what people.csv says of a subject -> the subject, as subjects.yaml decides.

Which of the two counts is declared for each attribute and for the groups (`Source`); what is not
declared to come from people.csv never does. A line of people.csv that has ended says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from proxy.subject import Person, Realm, Source, Subject
from proxy.values import Value

People = Mapping[str, Person]
"""What people.csv says, by subject: `user:sam`, `tool:bi`."""

_NOBODY: Final = Person(attributes=MappingProxyType({}))


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """What a token says of its subject."""

    user: str | None
    tool: str | None = None
    groups: tuple[str, ...] | None = None
    """None: it has no such claim."""
    attributes: Mapping[str, Value]
    audiences: frozenset[str] | None
    """Of those that its issuer may name, the ones that it is for; None where no token says so."""


def whole(
    claimed: Claimed,
    *,
    realm: Realm,
    people: People,
    now: float,
    expires: float,
    vouched: float = math.inf,
) -> Subject:
    """The subject at `now`; it ends with its token at `expires`, or before with its line.

    `vouched` is when its issuer has to be asked again whether the token is good.
    """
    person = people.get(claimed.user or claimed.tool or "", _NOBODY)
    if now >= person.until:
        person = _NOBODY
    return Subject(
        user=claimed.user,
        tool=claimed.tool,
        groups=_groups(claimed.groups, person.groups, realm.groups),
        attributes=MappingProxyType(dict(_attributes(claimed.attributes, person, realm))),
        audiences=claimed.audiences,
        expires=min(expires, person.until),
        vouched=vouched,
    )


def _groups(
    claimed: tuple[str, ...] | None, listed: tuple[str, ...] | None, source: Source | None
) -> tuple[str, ...]:
    match source:
        case None:
            return ()
        case Source.CLAIM:
            return claimed or ()
        case Source.PEOPLE:
            return listed or ()
        case Source.CLAIM_ELSE_PEOPLE:
            return (listed or ()) if claimed is None else claimed
        case Source.PEOPLE_ELSE_CLAIM:
            return (claimed or ()) if listed is None else listed
        case Source.CLAIM_AND_PEOPLE:
            return tuple(dict.fromkeys((*(claimed or ()), *(listed or ()))))


def _attributes(
    claimed: Mapping[str, Value], person: Person, realm: Realm
) -> Iterator[tuple[str, Value]]:
    for name, (_, source) in realm.attributes.items():
        for given in _PLACES[source]:
            said = claimed if given is Source.CLAIM else person.attributes
            if name in said:
                yield name, said[name]
                break


_PLACES: Final[Mapping[Source, tuple[Source, ...]]] = {
    Source.CLAIM: (Source.CLAIM,),
    Source.PEOPLE: (Source.PEOPLE,),
    Source.CLAIM_ELSE_PEOPLE: (Source.CLAIM, Source.PEOPLE),
    Source.PEOPLE_ELSE_CLAIM: (Source.PEOPLE, Source.CLAIM),
    Source.CLAIM_AND_PEOPLE: (),
}
"""Where an attribute is looked for, in this order. (Only groups come from both.)"""
