"""What an access takes of its subject's budgets, before each of its records.

Nothing is released unless it is charged, and nothing charged is given back: budgets may overstate what a
subject received, as records may, and never understate it. What is refused depends on what was released to
the subject, and on what its own view of the report holds, in full; never on what the view leaves out.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from proxy.audit.query import Reader
from proxy.audit.released import Released
from proxy.budgets.counters import (
    Begin,
    Begun,
    BudgetsUnavailable,
    Charge,
    Counters,
    Over,
    Spent,
    Unknown,
)
from proxy.errors import LogUnavailable
from proxy.keys import Keyring
from proxy.plan import Deny, Plan
from proxy.policy.limits import NONE, Counter, Limit, Limits, What
from proxy.reasons import Reason
from proxy.snapshot import Snapshot
from proxy.subject import Subject
from proxy.transform import Counts

_LOGGER: Final = logging.getLogger("counterfoil")
_ATTEMPTS: Final = 4
"""How often the log is asked for what is spent while others change what is to be asked."""
NEARLY: Final = 0.8
"""The part of a budget from which on it is told of."""

UNAVAILABLE: Final = Deny(reason=Reason.BUDGETS_UNAVAILABLE, cause="budgets-unavailable")


@dataclass(frozen=True, kw_only=True, slots=True)
class Nearly:
    """Most of a budget is spent: told with each access that finds it so, whoever spent it and when."""

    subject: Subject
    limit: Limit
    report: str
    """What was asked for as it came so far."""
    spent: int
    """At least."""
    ends: float
    """When there is a new one: seconds since the epoch."""


class Budgets:
    """All subjects' budgets, as far as this process knows them."""

    def __init__(
        self,
        counters: Counters,
        *,
        log: Callable[[], Path],
        nearly: Callable[[Nearly], None] = lambda _: None,
    ) -> None:
        """`log` gives the log with all that is durable; `nearly` is told where most of a budget is spent."""
        self._counters = counters
        self._log = log
        self._nearly = nearly
        self._declared: frozenset[str] = frozenset()
        self._changing = asyncio.Lock()

    def let_go(self, limits: Limits) -> None:
        """What these limits do not count is counted with a gap from now on."""
        if self._declared:
            self._declared &= limits.counters.keys()

    async def take_up(self, limits: Limits) -> None:
        """Count by these limits from now on; raises BudgetsUnavailable."""
        wanted = frozenset(limits.counters)
        if wanted <= self._declared:
            return
        async with self._changing:
            if new := wanted - self._declared:
                await self._counters.declare(new)
            self._declared |= wanted

    async def charge(
        self, asking: Asking, charges: Sequence[Charge], *, keep: bool, but: str = ""
    ) -> Spent | Over:
        """Charge all of it or nothing; raises BudgetsUnavailable.

        `but`: the id of an access of which the log may hold what is charged here.
        """
        await self.take_up(asking.limits)
        for _ in range(_ATTEMPTS):
            found = await self._counters.charge(asking.id, charges, keep=keep)
            if not isinstance(found, Unknown):
                return found
            begun = await asyncio.to_thread(self._on_record, asking, found.begin, but)
            await self._counters.begin(asking.id, begun)
        raise BudgetsUnavailable("what is spent of budgets changes again and again")

    def _on_record(self, asking: Asking, begin: Sequence[Begin], but: str) -> list[Begun]:
        """What the log says; in a thread."""
        try:
            with Reader(self._log()) as reader:
                since = {
                    start: reader.released(
                        asking.ids, since=datetime.fromtimestamp(start, UTC), but=but
                    )
                    for start in {each.start for each in begin}
                }
        except LogUnavailable as error:
            raise BudgetsUnavailable(f"the access log cannot be asked: {error}") from error
        counters = asking.limits.counters
        return [_begun(each, counters[each.counter], since[each.start]) for each in begin]

    def tell(self, nearly: Nearly) -> None:
        """Most of a budget is spent."""
        self._nearly(nearly)


def _begun(begin: Begin, counter: Counter, found: Mapping[str, Released]) -> Begun:
    covered = {
        report: sums
        for report, sums in found.items()
        if report in counter.fields and sums.bytes  # nothing left where there is none
    }
    counts = [
        _Given(sums.rows, sums.bytes, sums.cells).amount(counter, report)
        for report, sums in covered.items()
    ]
    reports = covered if counter.what is What.REPORTS else ()
    return Begun(begin=begin, per=counter.per, amount=sum(counts), reports=tuple(reports))


class _Given(NamedTuple):
    """What is in an answer, or in several."""

    rows: int
    bytes: int
    cells: Counts

    def amount(self, counter: Counter, report: str) -> int:
        """How much of what it counts is in an answer of a report."""
        match counter.what:
            case What.ROWS:
                return self.rows
            case What.BYTES:
                return self.bytes
            case What.CELLS:
                return counter.cells(report, self.cells)
            case What.REPORTS:
                return 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """Who asks for what, under which limits."""

    id: str
    """Stands for the subject; the same under every keyring of this server."""
    ids: tuple[str, ...]
    """The opaque ids that it has in the access log, under whichever key."""
    report: str
    limits: Limits
    counted: tuple[Counter, ...]
    """What is counted of the report, each once, whoever is limited."""
    binding: tuple[Limit, ...]
    """Those that hold for this subject and report."""

    @classmethod
    def of(cls, snapshot: Snapshot, subject: Subject, report: str, keyring: Keyring) -> Asking:
        """As of a policy."""
        limits = snapshot.limits.of(report)
        if not limits:
            return _UNCOUNTED
        are = snapshot.policy.are(subject)
        budget = keyring.mac("budget", key_id=keyring.ids[0])  # the oldest key is never lost
        return cls(
            id=budget.hexdigest(subject.name.encode())[:32],
            ids=keyring.opaques(subject.name),
            report=report,
            limits=snapshot.limits,
            counted=tuple({each.counter.id: each.counter for each in limits}.values()),
            binding=tuple(each for each in limits if each.who in are),
        )

    def tightest(self, counter: str) -> Limit | None:
        """Of the limits that hold and count the same, the one with the least."""
        return min(
            (each for each in self.binding if each.counter.id == counter),
            key=lambda each: each.most,
            default=None,
        )


_UNCOUNTED: Final = Asking(id="", ids=(), report="", limits=NONE, counted=(), binding=())
"""Whoever asks for a report on which there is no limit."""


class Meter:
    """What one access has taken so far; what it takes more is charged before it is on record."""

    def __init__(
        self,
        budgets: Budgets,
        *,
        subject: Subject,
        report: str,
        access: str,
        keyring: Keyring,
        policy: Callable[[], Snapshot],
    ) -> None:
        """`access`: its id."""
        self._budgets = budgets
        self._subject = subject
        self._report = report
        self._access = access
        self._keyring = keyring
        self._policy = policy
        self._of: Snapshot | None = None
        self._asking: Asking | None = None
        self._taken: dict[str, int] = {}
        """Counter -> how much of it."""
        self._given: _Given | None = None
        """All that may have been released."""

    async def check(self, plan: Plan) -> Deny | None:
        """Why nothing may be given any more, whatever it would be; None where something may."""
        asking = self._now()
        if not asking.binding:
            return None
        charges = [
            self._charge(asking, counter, 1)
            for counter in asking.counted
            if counter.may_count(plan)
        ]
        return await self._made(asking, charges, keep=False)

    def counts_first(self, plan: Plan) -> bool:
        """Whether it must be known how much a whole answer holds before any of it may be given.

        Bytes are counted as they go; how many rows and cells some bytes are depends on what was left
        out between them.
        """
        binding = self._now().binding
        return bool(binding) and any(
            limit.counter.what in (What.ROWS, What.CELLS) and limit.counter.may_count(plan)
            for limit in binding
        )

    async def take(self, *, rows: int, bytes_: int, cells: Counts) -> Deny | None:
        """Charge what an answer holds so far, beyond what was; or why that may not be given."""
        asking = self._now()
        late = await self._catch_up(asking)
        if late is not None:
            return late
        given = _Given(rows, bytes_, cells)
        if not asking.counted:
            self._given = given
            return None
        totals = {}
        for counter in asking.counted:
            total = given.amount(counter, self._report)
            totals[counter.id] = max(total, self._taken.get(counter.id, 0))
        charges = [
            self._charge(asking, counter, more)
            for counter in asking.counted
            if (more := totals[counter.id] - self._taken.get(counter.id, 0))
        ]
        denied = await self._made(asking, charges, keep=True)
        if denied is None:
            self._taken.update(totals)
            self._given = given
        return denied

    async def _catch_up(self, asking: Asking) -> Deny | None:
        """Charge what was given before it was counted, whatever the limit: it is released, and on record.

        Once: where this is what has the log asked, that is asked for all else.
        """
        new = [each for each in asking.counted if each.id not in self._taken]
        if self._given is None or not new:
            return None
        before = {each.id: self._given.amount(each, self._report) for each in new}
        charges = [
            replace(self._charge(asking, each, before[each.id]), most=None)
            for each in new
            if before[each.id]
        ]
        denied = await self._made(asking, charges, keep=True, but=self._access)
        if denied is None:
            self._taken.update(before)
        return denied

    def _now(self) -> Asking:
        """As of the policy in force."""
        snapshot = self._policy()
        if self._asking is None or snapshot is not self._of:
            self._of = snapshot
            self._budgets.let_go(snapshot.limits)
            self._asking = Asking.of(snapshot, self._subject, self._report, self._keyring)
        return self._asking

    def _charge(self, asking: Asking, counter: Counter, amount: int) -> Charge:
        limit = asking.tightest(counter.id)
        return Charge(
            counter=counter.id,
            per=counter.per,
            amount=amount,
            report=self._report if counter.what is What.REPORTS else "",
            most=None if limit is None else limit.most,
        )

    async def _made(
        self, asking: Asking, charges: Sequence[Charge], *, keep: bool, but: str = ""
    ) -> Deny | None:
        if not charges:
            return None
        try:
            found = await self._budgets.charge(asking, charges, keep=keep, but=but)
        except BudgetsUnavailable as error:
            _LOGGER.error("budgets: %s", error)
            return UNAVAILABLE
        if isinstance(found, Over):
            limit = asking.tightest(found.counter)
            assert limit is not None
            if not keep:  # there is no room for one more: a limit that is new may find that so
                self._tell(limit, limit.most, found.now)
            return _over(limit, found)
        if keep:
            for counter, (_, after) in found.amounts.items():
                limit = asking.tightest(counter)
                if limit is not None and after >= NEARLY * limit.most:
                    self._tell(limit, after, found.now)
        return None

    def _tell(self, limit: Limit, spent: int, now: float) -> None:
        self._budgets.tell(
            Nearly(
                subject=self._subject,
                limit=limit,
                report=self._report,
                spent=spent,
                ends=limit.counter.per.window(now).end,
            )
        )


def _over(limit: Limit, over: Over) -> Deny:
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(over.window.end))
    return Deny(
        reason=Reason.BUDGET_SPENT,
        cause=f"budget-of-{limit.counter.what}",
        detail=f"You may be given at most {limit}. The next {limit.counter.per} begins at {end}.",
        lines=(limit.line,),
        after=max(1, math.ceil(over.window.end - over.now)),
    )
