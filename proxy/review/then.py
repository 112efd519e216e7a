"""What one version of the policy says of an access in the log.

The log holds the requester's groups, tool, purpose, address and time, and not its attributes: those of
people.csv are known from the version's own file, those of a token's claims are not known at all. What
hangs on these is `Undecided`, unless the decision on record leaves one way alone.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from proxy.catalogue import Catalogue, canonical
from proxy.plan import Context, Deny, Plan, Reason, Truth
from proxy.policy.conditions import Condition
from proxy.policy.decide import decide
from proxy.policy.index import Slice
from proxy.report import Report
from proxy.snapshot import Snapshot
from proxy.subject import Person, Source, Subject
from proxy.values import Value

_MOST_DOUBTS: Final = 5
"""Conditions that hang on unknown attributes, up to which every combination of truths is looked at."""
_TRUTHS: Final[tuple[Truth, ...]] = (True, False, None)
_NOBODY: Final = Person(attributes=MappingProxyType({}))


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Who asked for what, as the log says it; equal ones differ by time and address alone."""

    principal: str
    groups: tuple[str, ...]
    """As they were then, people.csv's among them."""
    tool: str
    method: str
    report: str
    path: str
    """Where no report matched then."""
    format: str
    action: str
    purpose: str
    uses: tuple[tuple[str, str], ...]
    """The parameters, by name; values only where it depends on them which fields are looked at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """It is permitted: what may be given."""

    plan: Plan
    attributes: Mapping[str, Value]
    unknown: frozenset[str]
    """Attributes that the log does not hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """It is refused."""

    reason: str
    cause: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Undecided:
    """It hangs on something that the log does not hold."""

    why: str


Verdict = Given | Refused | Undecided

Circumstances = tuple[datetime, str]
"""When, and from which address."""


def claimed_groups(
    then: Snapshot | None, asked: Asked, now: float
) -> tuple[tuple[str, ...] | None, bool]:
    """The groups that the token named (None: none), and whether the log says so.

    A group that people.csv gave then is taken to have come from there alone.
    """
    realm = then.identities.realm_of(asked.principal) if then else None
    if then is None or realm is None:
        return asked.groups, True
    person = then.identities.people.get(asked.principal, _NOBODY)
    listed = person.groups if now < person.until else None
    match realm.groups:
        case Source.CLAIM:
            return asked.groups, True
        case Source.CLAIM_AND_PEOPLE:
            return tuple([group for group in asked.groups if group not in (listed or ())]), True
        case Source.CLAIM_ELSE_PEOPLE:
            return (None, True) if asked.groups == (listed or ()) else (asked.groups, True)
        case Source.PEOPLE_ELSE_CLAIM:
            return (asked.groups, True) if listed is None else (None, False)
        case Source.PEOPLE | None:
            return None, False


class Judge:
    """One version of the policy, asked about accesses of the log; `then` is the version of then."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def report(self, asked: Asked) -> Report | None:
        """The report that was asked for, or that its path names in this version."""
        catalogue: Catalogue = self.snapshot.catalogue
        if asked.report:
            return catalogue.reports.get(asked.report)
        route = catalogue.route(asked.path)
        return route.report if route else None

    def ends(self, principal: str) -> float:
        """When the line of people.csv about `principal` ends, in seconds since the epoch."""
        return self.snapshot.identities.people.get(principal, _NOBODY).until

    def watched(
        self, asked: Asked, groups: tuple[str, ...] | None, now: float
    ) -> tuple[tuple[Condition, ...], Mapping[str, Value]]:
        """The `when` conditions that the time or the address may change, and what they look at."""
        subject, report = self.subject(asked, groups, now), self.report(asked)
        if subject is None or report is None:
            return (), {}
        whens = self.snapshot.policy.slice(subject, report.id, asked.action).whens
        watched = tuple([when for when in whens if when.reads & {"now", "date", "ip"}])
        return watched, _known(subject, self.unknown(subject))

    def reads_groups(self, principal: str, now: float) -> bool:
        """Whether it depends on the token in which groups `principal` is."""
        realm = self.snapshot.identities.realm_of(principal)
        if realm is None or realm.groups is None or not realm.groups.reads_claim:
            return False
        person = self.snapshot.identities.people.get(principal, _NOBODY)
        listed = person.groups if now < person.until else None
        return not (realm.groups is Source.PEOPLE_ELSE_CLAIM and listed is not None)

    def subject(self, asked: Asked, groups: tuple[str, ...] | None, now: float) -> Subject | None:
        """The requester as this version has it, without what only its token says."""
        tool = asked.tool or None
        return self.snapshot.identities.subject_of(
            asked.principal, groups=groups, tool=tool, now=now
        )

    def unknown(self, subject: Subject) -> frozenset[str]:
        """The attributes of which this version takes, or may take, the token's word."""
        realm = self.snapshot.identities.realm_of(subject.name)
        return frozenset(
            name
            for name, (_, source) in (realm.attributes.items() if realm else ())
            if source.reads_claim
            and not (source is Source.PEOPLE_ELSE_CLAIM and name in subject.attributes)
        )

    def given(self, asked: Asked, now: float) -> Given | None:
        """What this version gave, where it permitted; with the groups as they are on record."""
        subject, report = self.as_recorded(asked, now), self.report(asked)
        if subject is None or report is None:
            return None
        part = self.snapshot.policy.slice(subject, report.id, asked.action)
        unknown = self.unknown(subject)
        at = datetime.fromtimestamp(now, UTC), ""
        plan = part.plan_at(context_of(asked, _known(subject, unknown), at))
        if plan is None:
            return None
        return Given(plan=plan, attributes=_known(subject, unknown), unknown=unknown)

    def truths(
        self, asked: Asked, circumstances: Circumstances
    ) -> list[tuple[dict[Condition, Truth], bool]] | None:
        """The truths that conditions on unknown attributes may have had, and whether these permit.

        None: there is no telling.
        """
        subject = self.as_recorded(asked, circumstances[0].timestamp())
        report = self.report(asked)
        if subject is None or report is None:
            return None
        unknown = self.unknown(subject)
        context = context_of(asked, _known(subject, unknown), circumstances)
        part = self.snapshot.policy.slice(subject, report.id, asked.action)
        doubtful = _doubts(part, context, unknown)
        if not doubtful or len(doubtful) > _MOST_DOUBTS:
            return None
        return [(assumed, _permits(part, context, assumed)) for assumed in _assumed(doubtful)]

    def as_recorded(self, asked: Asked, now: float) -> Subject | None:
        """The requester with the groups that are on record."""
        subject = self.subject(asked, asked.groups, now)
        return dataclasses.replace(subject, groups=asked.groups) if subject else None

    def verdict(
        self,
        asked: Asked,
        subject: Subject,
        report: Report,
        circumstances: Circumstances,
        fits: Callable[[Mapping[Condition, Truth]], bool],
    ) -> Verdict:
        """What this version says; `fits` tells which truths of conditions agree with what was."""
        policy = self.snapshot.policy
        unknown = self.unknown(subject)
        attributes = _known(subject, unknown)
        context = context_of(asked, attributes, circumstances)
        part = policy.slice(subject, report.id, asked.action)
        doubtful = _doubts(part, context, unknown)
        if not doubtful:
            decided = decide(policy, subject=subject, report=report, context=context)
            if isinstance(decided, Deny):
                return Refused(reason=decided.reason.slug, cause=decided.cause)
            plan: Plan | None = decided.plan
        else:
            possible = (
                {
                    _permits(part, context, assumed)
                    for assumed in _assumed(doubtful)
                    if fits(assumed)
                }
                if len(doubtful) <= _MOST_DOUBTS
                else set()
            )
            if possible == {False}:
                return Refused(reason=Reason.NOT_FOUND.slug, cause="no-allow-line")
            if possible != {True}:
                names = sorted({f"sub.{n}" for when in doubtful for n in when.attributes & unknown})
                return Undecided(why=f"depends on {', '.join(names)}, which the log does not hold")
            plan = part.plan_at(context)
        assert plan is not None
        return self._asked_rightly(asked, report, plan) or Given(
            plan=plan, attributes=attributes, unknown=unknown
        )

    def _asked_rightly(self, asked: Asked, report: Report, plan: Plan) -> Refused | None:
        """A refusal of what was asked along with a report that is permitted."""
        if asked.format and asked.format not in {v.format for v in report.variants}:
            return Refused(reason=Reason.NOT_FOUND.slug, cause="unknown-report")
        for name, value in asked.uses:
            parameter = report.parameters.get(name)
            if parameter is None:
                return Refused(reason=Reason.PARAMETER.slug, cause="parameter-unknown")
            if parameter.chooses and canonical(parameter, value) is None:
                return Refused(reason=Reason.PARAMETER.slug, cause="parameter-value")
            if plan.hides(parameter, value):
                return Refused(reason=Reason.PARAMETER_FORBIDDEN.slug, cause="hidden-field")
        if asked.purpose and asked.purpose not in self.snapshot.catalogue.purposes:
            return Refused(reason=Reason.PURPOSE_UNKNOWN.slug, cause="unknown-purpose")
        return None


def context_of(
    asked: Asked, attributes: Mapping[str, Value], circumstances: Circumstances
) -> Context:
    """The context of an access of the log."""
    now, address = circumstances
    return Context(
        attributes=attributes,
        now=now,
        date=now.date(),
        ip=address,
        purpose=asked.purpose,
        tool=asked.tool.removeprefix("tool:"),
        action=asked.action,
        method=asked.method,
    )


def _known(subject: Subject, unknown: frozenset[str]) -> Mapping[str, Value]:
    return {name: value for name, value in subject.attributes.items() if name not in unknown}


def _doubts(part: Slice, context: Context, unknown: frozenset[str]) -> list[Condition]:
    """The `when` conditions whose truth hangs on unknown attributes.

    Kleene's logic is monotone: what is true or false without an attribute is so with any, but for
    `present`, which is never unknown.
    """
    return [
        when
        for when in part.whens
        if when.attributes & unknown and ("present(" in when.text or when.holds(context) is None)
    ]


def _assumed(doubtful: list[Condition]) -> Iterator[dict[Condition, Truth]]:
    """Every combination of truths."""
    for truths in itertools.product(_TRUTHS, repeat=len(doubtful)):
        yield dict(zip(doubtful, truths, strict=True))


def _permits(part: Slice, context: Context, assumed: Mapping[Condition, Truth]) -> bool:
    truths = [assumed[when] if when in assumed else when.holds(context) for when in part.whens]
    return not part.verdict_where(tuple(truths)).cause and part.plan_at(context) is not None
