"""The accesses on record, decided again under a candidate policy: what would have been different.

An access is compared with what the log says was decided; its cells with those of the policy version that
was in force, where that is kept, else with the forms on record. Equal accesses are decided once: a
replay is a look-up for most of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

import msgspec

from proxy.audit import Past
from proxy.plan import Truth
from proxy.policy.conditions import Condition
from proxy.policy.decide import OTHER_AUDIENCE
from proxy.reasons import Reason
from proxy.report import Report
from proxy.review.alike import Alike
from proxy.review.cells import Cells, doubtful
from proxy.review.replayed import Difference, Kind, Replayed, Tally
from proxy.review.then import (
    Asked,
    Circumstances,
    Given,
    Judge,
    Look,
    Permitted,
    Refused,
    Undecided,
    Verdict,
    claimed_groups,
    context_of,
)
from proxy.review.uses import Use, Uses
from proxy.snapshot import Snapshot
from proxy.values import Value

_DECIDED: Final = frozenset(
    reason.slug
    for reason in (
        Reason.NOT_FOUND,
        Reason.PURPOSE,
        Reason.PURPOSE_UNKNOWN,
        Reason.PARAMETER,
        Reason.PARAMETER_FORBIDDEN,
    )
)
"""Refusals that the candidate's files could turn into a permit, as far as they are decided here."""
_WITHOUT_PARAMETERS: Final = (Reason.NOT_FOUND.slug, Reason.PARAMETER.slug)
"""Refusals after which the parameters are not on record."""
_UNREADABLE: Final = ("parameter-syntax", "parameter-encoding")
"""What is wrong with a query whatever the catalogue declares."""
_MOST_REMEMBERED: Final = 200_000
"""Distinct accesses whose outcome is remembered."""
_KEY: Final = Past._fields.index("groups")
_GROUPS: Final = msgspec.json.Decoder(tuple[str, ...])
_FIELDS: Final = msgspec.json.Decoder(dict[str, dict[str, int]])


Finds = Callable[[Past], Tally | None]
Watched = tuple[tuple[Look, ...], Mapping[str, Value]]
"""What looks at conditions, and the attributes that these read."""


class _Varying:
    """Accesses alike but for time and address: decided once for all that these decide alike."""

    def __init__(self, asked: Asked, now: Judge, then: Judge | None, find: Finds) -> None:
        self._asked = asked
        self._then = then.snapshot if then else None
        self._judges = (now, then) if then else (now,)
        self._find = find
        self._ends = tuple([judge.ends(asked.principal) for judge in self._judges])
        self._watched: dict[tuple[bool, ...], list[Watched]] = {}
        self._known: dict[tuple[object, ...], Tally | None] = {}

    def varies(self, at: datetime) -> bool:
        """Whether time, address, or the forms on record can make a difference."""
        return self._then is None or min(self._ends) < math.inf or bool(self._watch((), at))

    def __call__(self, past: Past) -> Tally | None:
        """What is found of one access."""
        at = _instant(past)
        now = at.timestamp()
        ended = tuple([now >= end for end in self._ends])
        key: list[object] = [ended]
        watched = self._watched.get(ended)
        for looks, attributes in self._watch(ended, at) if watched is None else watched:
            context = context_of(self._asked, attributes, (at, past.address))
            key += [look(context) for look in looks]
        if self._then is None and past.fields:
            fields = _FIELDS.decode(past.fields)
            key += [(f, *forms, sum(forms.values()) < past.rows) for f, forms in fields.items()]
        known = tuple(key)
        if known not in self._known:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[known] = self._find(past)
        return self._known[known]

    def _watch(self, ended: tuple[bool, ...], at: datetime) -> list[Watched]:
        now = at.timestamp()
        groups, _ = claimed_groups(self._then, self._asked, now)
        watched = [
            (looks, attributes)
            for looks, attributes in (j.watched(self._asked, groups, now) for j in self._judges)
            if looks
        ]
        if ended:
            self._watched[ended] = watched
        return watched


class Replay:
    """Takes accesses one by one; `then` gives the kept policy versions, `names` the directory's."""

    def __init__(
        self,
        candidate: Snapshot,
        *,
        then: Callable[[str], Snapshot | None],
        names: Callable[[str], str],
    ) -> None:
        self._now = Judge(candidate)
        self._compared = Cells(Alike())
        self._uses = Uses(candidate.catalogue.reports)
        self._load = then
        self._names = names
        self._then: dict[str, Judge | None] = {}
        self._cases: dict[tuple[object, ...], Tally | Finds | None] = {}
        self._tallies: dict[tuple[Difference, str], Tally] = {}
        self._found = Replayed()

    def add(self, pasts: Iterable[Past]) -> None:
        """Decide some accesses again."""
        found, remembered = self._found, self._cases
        for past in pasts:
            found.accesses += 1
            uses = self._uses.read(past.report, past.parameters) if past.parameters else ()
            key = (uses, *past[_KEY:])
            try:
                case = remembered[key]
            except KeyError:
                if len(remembered) >= _MOST_REMEMBERED:
                    remembered.clear()
                case = remembered[key] = self._case(past, uses)
            if callable(case):
                case = case(past)
            if case is not None:
                case.count += 1
                case.first = case.first or past.started
                case.last, case.access = past.started, past.access

    def result(self) -> Replayed:
        """All that was found so far."""
        found = self._found
        found.tallies = sorted(
            self._tallies.values(), key=lambda t: (-t.count, t.principal, t.subject)
        )
        found.unchanged = (
            found.accesses - found.skipped.total() - sum(tally.count for tally in found.tallies)
        )
        return found

    # ── one distinct access ──

    def _case(self, past: Past, uses: tuple[Use, ...]) -> Tally | Finds | None:
        """What becomes of all accesses like this one, or what finds it out for each."""
        if past.decision == "deny" and (
            past.reason not in _DECIDED or past.cause == OTHER_AUDIENCE or _is_lost(past)
        ):
            return self._skip
        principal = self._names(past.subject)
        groups = _GROUPS.decode(past.groups) if past.groups else ()
        if not principal:
            return self._undecided(past, "its subject's name was erased")
        if groups and groups[-1].startswith("+"):
            return self._undecided(past, "the log does not hold all of its subject's groups")
        then = self._judge(past.policy)
        was = then.snapshot.catalogue.reports.get(past.report) if then else None
        on_record = past.reason not in _WITHOUT_PARAMETERS
        asked = Asked(
            principal=principal,
            groups=groups,
            tool=past.tool,
            method=past.method,
            report=past.report,
            path=past.path,
            format=past.format,
            action=past.action or "read",
            purpose=past.purpose,
            uses=self._uses.compared(uses, was) if on_record else None,
        )

        def find(past: Past) -> Tally | None:
            difference = self._difference(past, asked, then)
            return self._tally(difference, past, principal) if difference else None

        varying = _Varying(asked, self._now, then, find)
        if then is None:
            return partial(self._unkept, varying)
        return varying if varying.varies(_instant(past)) else find(past)

    def _unkept(self, varying: Finds, past: Past) -> Tally | None:
        self._found.unkept += 1
        return varying(past)

    def _skip(self, past: Past) -> None:
        self._found.skipped[past.reason] += 1

    def _undecided(self, past: Past, why: str) -> Tally:
        difference = Difference(kind=Kind.UNDECIDED, report=past.report or past.path, why=why)
        return self._tally(difference, past, self._names(past.subject))

    def _tally(self, difference: Difference, past: Past, principal: str) -> Tally:
        key = (difference, past.subject)
        if key not in self._tallies:
            self._tallies[key] = Tally(
                difference=difference, subject=past.subject, principal=principal
            )
        return self._tallies[key]

    def _judge(self, version: str) -> Judge | None:
        if version not in self._then:
            snapshot = self._load(version)
            self._then[version] = Judge(snapshot) if snapshot else None
        return self._then[version]

    def _difference(self, past: Past, asked: Asked, then: Judge | None) -> Difference | None:
        """What would be different about one access; None: nothing."""
        at = _instant(past)
        reports = self._now.reports(asked)
        name = asked.report or next((report.id for report in reports), "")
        if past.reason in (Reason.PURPOSE_UNKNOWN.slug, Reason.PARAMETER.slug):
            why = self._perhaps(past, asked, reports, then, (at, past.address))
            return Difference(kind=Kind.UNDECIDED, report=name, why=why) if why else None
        verdict = self._verdict(asked, reports, then, past, (at, past.address))
        permitted = past.decision == "permit"
        match verdict:
            case Undecided(why=why):
                return Difference(kind=Kind.UNDECIDED, report=name, why=why)
            case Refused(reason=reason, cause=cause) if permitted:
                return Difference(kind=Kind.REFUSED, report=name, why=f"{reason}: {cause}")
            case Given() | Permitted() if not permitted:
                return Difference(kind=Kind.ALLOWED, report=name)
            case Refused() | Permitted():
                return None
            case Given():
                return self._cells(past, asked, then, verdict, (at, past.address))

    def _perhaps(
        self,
        past: Past,
        asked: Asked,
        reports: tuple[Report, ...],
        then: Judge | None,
        circumstances: Circumstances,
    ) -> str:
        """Why it cannot be told whether a malformed request would be good now; '' where it would not."""
        now = self._now.snapshot
        if past.reason == Reason.PURPOSE_UNKNOWN.slug:
            known = then.snapshot.policy.purposes if then else ()
            tried = [replace(asked, purpose=p) for p in now.policy.purposes if p not in known]
            why = "depends on the purpose that it stated, which the log does not hold"
        else:
            same = then is not None and _queries(then.snapshot, asked) == _queries(now, asked)
            tried = [] if same or past.cause in _UNREADABLE else [asked]
            why = "depends on its parameters, which the log does not hold"
        verdicts = [self._verdict(each, reports, then, past, circumstances) for each in tried]
        return "" if all(isinstance(verdict, Refused) for verdict in verdicts) else why

    def _verdict(
        self,
        asked: Asked,
        reports: tuple[Report, ...],
        then: Judge | None,
        past: Past,
        circumstances: Circumstances,
    ) -> Verdict:
        if not reports:
            return Refused(reason=Reason.NOT_FOUND.slug, cause="unknown-report")
        now = circumstances[0].timestamp()
        groups, known = claimed_groups(then.snapshot if then else None, asked, now)
        if not known and self._now.reads_groups(asked.principal, now):
            return Undecided(
                why="depends on the groups that its token names, which the log does not hold"
            )
        subject = self._now.subject(asked, groups, now)
        if subject is None:
            return Refused(reason=Reason.UNAUTHENTICATED.slug, cause="unknown-issuer")
        was = past.decision == "permit" or past.reason == Reason.PARAMETER_FORBIDDEN.slug
        malformed = past.reason in (Reason.PURPOSE_UNKNOWN.slug, Reason.PARAMETER.slug)
        before = then.truths(asked, circumstances) if then and not malformed else None

        def fits(assumed: Mapping[Condition, Truth]) -> bool:
            """Whether the decision on record could have come about so."""
            return before is None or any(
                permits == was and all(assumed.get(c, t) == t for c, t in truths.items())
                for truths, permits in before
            )

        return self._now.verdict(asked, subject, reports, circumstances, fits)

    def _cells(
        self,
        past: Past,
        asked: Asked,
        then: Judge | None,
        now: Given,
        circumstances: Circumstances,
    ) -> Difference | None:
        """How the cells of an access that stays permitted would change."""
        report = now.plan.report.id
        before = then.given(asked, circumstances) if then else None
        if before is None:
            fields = _FIELDS.decode(past.fields) if past.fields else {}
            found = self._compared.recorded(fields, past.rows, now)
            if found is None:
                why = "depends on the rows: the policy of then is not kept"
                return Difference(kind=Kind.UNDECIDED, report=report, why=why)
        else:
            found = self._compared.changes(before, now)
            unsure = doubtful(before, now)
            if not found and unsure:
                names = ", ".join(f"sub.{name}" for name in sorted(unsure))
                why = f"depends on {names}, which the log does not hold"
                return Difference(kind=Kind.UNDECIDED, report=report, why=why)
        return Difference(kind=Kind.CHANGED, report=report, fields=found) if found else None


def _queries(snapshot: Snapshot, asked: Asked) -> object:
    """All that decides whether a query is good."""
    report = snapshot.catalogue.reports.get(asked.report)
    return report and (report.parameters, [(v.path, v.source) for v in report.variants])


def _is_lost(past: Past) -> bool:
    """Whether it is a change of the policy about no report of then: what it named is not on record."""
    return not past.report and past.path.startswith("/-/")


def _instant(past: Past) -> datetime:
    return datetime.fromisoformat(past.started)
