"""What one version of the policy says of an access in the log.

The log holds the requester's groups, tool, purpose, address and time, and not its attributes: those of
people.csv are known from the version's own file, those of a token's claims are not known at all. What
hangs on these is `Undecided`, unless the decision on record leaves one way alone.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from proxy.catalogue import Catalogue
from proxy.plan import Context, Deny, Plan, Predicate, Truth
from proxy.policy.conditions import Condition, Scope
from proxy.policy.decide import decide, refusal
from proxy.policy.index import Slice
from proxy.policy.lines import WITHOUT_CELLS, Action
from proxy.reasons import Reason
from proxy.report import Report
from proxy.review.uses import Use, fault
from proxy.snapshot import Snapshot
from proxy.subject import Person, Source, Subject
from proxy.values import Value

_MOST_DOUBTS: Final = 5
"""Conditions that hang on unknown attributes, up to which every combination of truths is looked at."""
_TRUTHS: Final[tuple[Truth, ...]] = (True, False, None)
_CHANGING: Final = frozenset({"now", "date", "ip"})
"""What of `env.*` differs between accesses that are otherwise alike."""
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
    """Of a lockdown a pattern."""
    path: str
    """Where no report matched then."""
    format: str
    action: str
    purpose: str
    uses: tuple[Use, ...] | None
    """The parameters; None where the log does not hold them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """It is permitted: what may be given."""

    plan: Plan
    context: Context
    """With the attributes that are known."""
    unknown: frozenset[str]
    """Attributes that the log does not hold."""
    scope: Scope
    """Of the plan's conditions."""
    purposes: tuple[str, ...]
    """All that the version catalogues."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Permitted:
    """It is permitted, and gives no cells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """It is refused."""

    reason: str
    cause: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Undecided:
    """It hangs on something that the log does not hold."""

    why: str


Verdict = Given | Permitted | Refused | Undecided

Look = Callable[[Context], object]
"""What becomes of a condition in a context."""

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
        reports = snapshot.catalogue.reports
        self._elsewhere = {n: t for report in reports.values() for n, t in report.types.items()}
        self._scope = functools.cache(self._scope_of)

    def reports(self, asked: Asked) -> tuple[Report, ...]:
        """The report that was asked for, or that its path names in this version; a lockdown's all."""
        catalogue: Catalogue = self.snapshot.catalogue
        if asked.action == Action.LOCKDOWN:
            covered = self.snapshot.policy.covered(asked.report)
            return tuple([catalogue.reports[name] for name in covered])
        if asked.report:
            report = catalogue.reports.get(asked.report)
        else:
            route = catalogue.route(asked.path)
            report = route.report if route else None
        return () if report is None else (report,)

    def ends(self, principal: str) -> float:
        """When the line of people.csv about `principal` ends, in seconds since the epoch."""
        return self.snapshot.identities.people.get(principal, _NOBODY).until

    def watched(
        self, asked: Asked, groups: tuple[str, ...] | None, now: float
    ) -> tuple[tuple[Look, ...], Mapping[str, Value]]:
        """What the time or the address may change, and the attributes that it hangs on too."""
        subject = self.subject(asked, groups, now)
        if subject is None:
            return (), {}
        unknown = self.unknown(subject)
        parts = self._parts(asked, subject, self.reports(asked))
        looks: list[Look] = [when.holds for when in _whens(parts) if when.reads & _CHANGING]
        looks += [
            functools.partial(bound_to, rows, unknown)
            for part in parts
            for rows in (part.plan.predicates if part.plan else ())
            if rows.reads & _CHANGING
        ]
        looks += [rows.is_over for part in parts for rows in part.ending]
        return tuple(looks), _known(subject, unknown)

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

    def given(self, asked: Asked, circumstances: Circumstances) -> Given | None:
        """What this version gave, where it permitted; with the groups as they are on record."""
        subject = self.as_recorded(asked, circumstances[0].timestamp())
        reports = self.reports(asked)
        if subject is None or not reports:
            return None
        (part,) = self._parts(asked, subject, reports)
        unknown = self.unknown(subject)
        context = context_of(asked, _known(subject, unknown), circumstances)
        plan = part.plan_at(context)
        return None if plan is None else self._given(plan, context, unknown)

    def truths(
        self, asked: Asked, circumstances: Circumstances
    ) -> list[tuple[dict[Condition, Truth], bool]] | None:
        """The truths that conditions on unknown attributes may have had, and whether these permit.

        None: there is no telling.
        """
        subject = self.as_recorded(asked, circumstances[0].timestamp())
        reports = self.reports(asked)
        if subject is None or not reports:
            return None
        unknown = self.unknown(subject)
        context = context_of(asked, _known(subject, unknown), circumstances)
        parts = self._parts(asked, subject, reports)
        doubtful = _doubts(parts, context, unknown)
        if not doubtful or len(doubtful) > _MOST_DOUBTS:
            return None
        return [(assumed, _permit(parts, context, assumed)) for assumed in _assumed(doubtful)]

    def as_recorded(self, asked: Asked, now: float) -> Subject | None:
        """The requester with the groups that are on record."""
        subject = self.subject(asked, asked.groups, now)
        return dataclasses.replace(subject, groups=asked.groups) if subject else None

    def verdict(
        self,
        asked: Asked,
        subject: Subject,
        reports: Sequence[Report],
        circumstances: Circumstances,
        fits: Callable[[Mapping[Condition, Truth]], bool],
    ) -> Verdict:
        """What this version says; `fits` tells which truths of conditions agree with what was."""
        unknown = self.unknown(subject)
        context = context_of(asked, _known(subject, unknown), circumstances)
        parts = self._parts(asked, subject, reports)
        doubtful = _doubts(parts, context, unknown)
        if not doubtful:
            deny = self._deny(subject, reports, context)
            if deny is not None:
                return Refused(reason=deny.reason.slug, cause=deny.cause)
        else:
            possible = (
                {
                    _permit(parts, context, assumed)
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
        if asked.action in WITHOUT_CELLS:
            return Permitted()
        ((report, part),) = zip(reports, parts, strict=True)
        plan = part.plan_at(context)
        assert plan is not None  # without one it would not be permitted
        return self._asked_rightly(asked, report, plan) or self._given(plan, context, unknown)

    def _given(self, plan: Plan, context: Context, unknown: frozenset[str]) -> Given:
        return Given(
            plan=plan,
            context=context,
            unknown=unknown,
            scope=self._scope(plan.report.id),
            purposes=self.snapshot.policy.purposes,
        )

    def _scope_of(self, report: str) -> Scope:
        return Scope(
            fields=self.snapshot.catalogue.reports[report].types,
            elsewhere=self._elsewhere,
            attributes=self.snapshot.identities.attributes,
        )

    def _deny(self, subject: Subject, reports: Iterable[Report], context: Context) -> Deny | None:
        """Why not, of the first report that is refused, as the gateway decides it."""
        policy = self.snapshot.policy
        for report in reports:
            if context.action in WITHOUT_CELLS:
                deny = refusal(policy, subject=subject, report=report, context=context)
            else:
                decided = decide(policy, subject=subject, report=report, context=context)
                deny = decided if isinstance(decided, Deny) else None
            if deny is not None:
                return deny
        return None

    def _parts(
        self, asked: Asked, subject: Subject, reports: Iterable[Report]
    ) -> tuple[Slice, ...]:
        policy = self.snapshot.policy
        return tuple([policy.slice(subject, report.id, asked.action) for report in reports])

    def _asked_rightly(
        self, asked: Asked, report: Report, plan: Plan
    ) -> Refused | Undecided | None:
        """A refusal of what was asked along with a report that is permitted, in the gateway's order."""
        if asked.format and asked.format not in {
            o.format for v in report.variants for o in v.offers
        }:
            return Refused(reason=Reason.NOT_FOUND.slug, cause="unknown-report")
        uses = asked.uses or ()
        if (
            asked.action == Action.REVEAL
        ):  # it has no parameters, and what it asked for is on no record
            return None
        if asked.uses is not None and (cause := fault(uses, report)):
            return Refused(reason=Reason.PARAMETER.slug, cause=cause)
        if asked.purpose and asked.purpose not in self.snapshot.catalogue.purposes:
            return Refused(reason=Reason.PURPOSE_UNKNOWN.slug, cause="unknown-purpose")
        if any(plan.hides(report.parameters[use.name], use.value) for use in uses):
            return Refused(reason=Reason.PARAMETER_FORBIDDEN.slug, cause="hidden-field")
        for use in uses:
            if use.good is None:
                why = f"depends on the value of `{use.name}`, of which the log holds a digest alone"
                return Undecided(why=why)
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


def bound_to(predicate: Predicate, unknown: frozenset[str], context: Context) -> Truth | Predicate:
    """Its truth; or the predicate itself where that hangs on the row, or on an attribute in `unknown`."""
    guessed = predicate.attributes & unknown
    if guessed and "present(" in predicate.text:
        return predicate  # the one function that is not unknown where its argument is
    truth = predicate.bind(context)
    if callable(truth) or (truth is None and guessed):
        return predicate
    return truth


def _known(subject: Subject, unknown: frozenset[str]) -> Mapping[str, Value]:
    return {name: value for name, value in subject.attributes.items() if name not in unknown}


def _whens(parts: Iterable[Slice]) -> Iterable[Condition]:
    return dict.fromkeys(when for part in parts for when in part.whens)


def _doubts(parts: Iterable[Slice], context: Context, unknown: frozenset[str]) -> list[Condition]:
    """The `when` conditions whose truth hangs on unknown attributes.

    Kleene's logic is monotone: what is true or false without an attribute is so with any, but for
    `present`, which is never unknown.
    """
    return [
        when
        for when in _whens(parts)
        if when.attributes & unknown and ("present(" in when.text or when.holds(context) is None)
    ]


def _assumed(doubtful: list[Condition]) -> Iterator[dict[Condition, Truth]]:
    """Every combination of truths."""
    for truths in itertools.product(_TRUTHS, repeat=len(doubtful)):
        yield dict(zip(doubtful, truths, strict=True))


def _permit(parts: Iterable[Slice], context: Context, assumed: Mapping[Condition, Truth]) -> bool:
    """Whether all parts permit it."""

    def truth(when: Condition) -> Truth:
        return assumed[when] if when in assumed else when.holds(context)

    return not any(
        part.verdict_where(tuple(map(truth, part.whens)), context).cause for part in parts
    )
