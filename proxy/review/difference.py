"""Who gains and who loses what between two versions of a policy: proved by a solver, shown by a witness.

Compared is what each principal that the files name is given by itself (`pairs`): each role, group, user
(with its line of people.csv) and tool; then whatever anybody is given who is several of them at once, as
far as it is not told yet (`together`). So where nothing is told, nobody gains or loses anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from proxy.policy.lines import ANYONE, Action
from proxy.review.about import About, Lines
from proxy.review.changes import Change
from proxy.review.pairs import Cover, Pair, Question
from proxy.review.sides import MAY, Who, spans
from proxy.review.solver import SECONDS
from proxy.review.together import questions
from proxy.snapshot import Snapshot

_ACTIONS: Final = (Action.ACT, *(each for each in Action if each is not Action.ACT))
"""What a tool may do on behalf of others comes first: the rest hangs on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What is not the same."""

    changes: tuple[Change, ...]
    uncompared: tuple[str, ...]
    """Who could not be compared, and on what: nothing is proved of them."""


def difference(old: Snapshot, new: Snapshot, *, seconds: float = SECONDS) -> Difference:
    """Every change from `old` to `new`; a question takes at most so many seconds."""
    found: list[Change] = []
    uncompared: list[str] = []
    lines = (Lines(old), Lines(new))
    everybody = [*_each(old, new)]
    for report in dict.fromkeys((*new.catalogue.reports, *old.catalogue.reports)):
        acting: list[Cover] = []
        for action in _ACTIONS:
            question = Question(old=old, new=new, report=report, action=action, seconds=seconds)
            about = About(question, lines)
            covers: list[Cover] = []
            for who in everybody:
                if about.touches(who):
                    pair = Pair(question, who)
                    told = [*pair.changes()]
                    fields = {field for each in told for field in each.fields or (MAY,)}
                    covers += [Cover(pair=pair, fields=frozenset(fields))] if told else []
                    found += told
            if action is Action.ACT:
                acting = covers
                continue
            covers += acting
            for together in questions(about, everybody):
                found += together.changes(covers)
                uncompared += together.uncompared
    told = _by_reports(_by_principals(_by_fields(found), lines))
    return Difference(
        changes=tuple(sorted(told, key=lambda each: (each.principal, len(each.also), each.also))),
        uncompared=tuple(uncompared),
    )


def _principals(old: Snapshot, new: Snapshot) -> set[str]:
    snapshots = (old, new)
    named = [name for each in snapshots for name in each.policy.principals]
    return {*named, *old.identities.people, *new.identities.people, ANYONE}


def _each(old: Snapshot, new: Snapshot) -> Iterator[Who]:
    """Each principal by itself; one of people.csv at each time that its lines tell apart."""
    for principal in sorted(_principals(old, new)):
        for span in spans(old, new, principal):
            yield Who(names=(principal,), span=span)


# ── what is one change to a reader ──


def _by_fields(changes: Iterable[Change]) -> list[Change]:
    """Fields together whose change is the same in the same rows."""
    grouped: dict[Change, Change] = {}
    for each in changes:
        key = replace(each, fields=(), witness=())
        met = grouped.setdefault(key, each)
        grouped[key] = replace(met, fields=tuple(dict.fromkeys((*met.fields, *each.fields))))
    return [*grouped.values()]


def _by_principals(changes: Iterable[Change], lines: tuple[Lines, Lines]) -> list[Change]:
    """A change that a principal has through another one is told there."""
    same: dict[Change, list[Change]] = {}
    for each in changes:
        same.setdefault(replace(each, principal="", witness=()), []).append(each)
    told = []
    for alike in same.values():
        left = [*alike]
        for each in alike:  # one is left, also of roles that have changed places
            if any(_holds(each.principal, other.principal, lines) for other in left):
                left.remove(each)
        for each in left:
            having = [other.principal for other in alike]
            if each.also:  # which was looked for among roles first, not among those who hold them
                named = lines[0].principals | lines[1].principals
                having += [name for name in named if not name.startswith("role:")]
            members = {other for other in having if _holds(other, each.principal, lines)}
            told.append(replace(each, members=tuple(sorted(members))))
    return told


def _holds(member: str, other: str, lines: tuple[Lines, Lines]) -> bool:
    """Whether it is so now in one version, which is enough: what is new may be that, and a deny."""
    now, *_ = spans(lines[0].snapshot, lines[1].snapshot, member)
    who = Who(names=(member,), span=now)
    return member != other and any(other in version.known(who)[0] for version in lines)


def _by_reports(changes: Iterable[Change]) -> list[Change]:
    """Reports together where the same happens to the same."""
    grouped: dict[Change, Change] = {}
    for each in changes:
        key = replace(each, reports=(), witness=())
        met = grouped.get(key)
        grouped[key] = each if met is None else replace(met, reports=(*met.reports, *each.reports))
    return [*grouped.values()]
