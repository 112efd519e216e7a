"""What tells of itself while requests go by: budgets, refusals, and who gets a report for the first time.

On the way of a request it is a look-up or two; the access log is asked in a thread, for one after another.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from proxy.access import AccessEvent
from proxy.alarms.kinds import HOUR, Alarm, Kind
from proxy.alarms.raised import Alarms
from proxy.alarms.window import ELSEWHERE, Window
from proxy.audit.asked import Asked
from proxy.audit.query import Reader
from proxy.budgets.spending import Nearly
from proxy.errors import LogUnavailable
from proxy.keys import Keyring

_MOST_KNOWN: Final = 65_536
_MOST_WAITING: Final = 4_096
_MOST_TOLD: Final = 32
"""Addresses that alarms name within an hour; of more, one tells that there are."""
_AGAIN_SECONDS: Final = 1.0
"""After so long the log is asked again that could not be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manners:
    """When refusals are many."""

    refusals: int
    seconds: float

    def among(self, workers: int) -> Manners:
        """The share of one of so many processes: of as many refusals as that, one has its share at least."""
        return replace(self, refusals=-(-self.refusals // workers))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Began:
    """An access that may be a first one."""

    subject: str
    ids: tuple[str, ...]
    name: str
    report: str
    at: datetime


class Noticed:
    """Looks at what is on record; for one event loop."""

    def __init__(
        self,
        alarms: Alarms,
        *,
        manners: Manners,
        log: Callable[[], Path],
        keyring: Callable[[], Keyring],
        everything: Callable[[], tuple[str, ...]],
    ) -> None:
        """`everything` gives patterns of all reports."""
        self._alarms = alarms
        self._manners = manners
        self._log = log
        self._keyring = keyring
        self._everything = everything
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._began: asyncio.Queue[_Began] = asyncio.Queue(_MOST_WAITING)
        self._unasked: OrderedDict[tuple[str, str], _Began] = OrderedDict()
        """Those for which there was no room: what comes later is not what the log is asked about."""
        self._subjects = Window(manners.seconds, enough=manners.refusals)
        """Refusals of each subject …"""
        self._networks = Window(manners.seconds, enough=manners.refusals)
        """… and of each address, of those who have shown no valid token."""
        self._nearly: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Subjects, each with a budget of theirs that was told of."""
        self._told: OrderedDict[str, float] = OrderedDict()
        """Addresses that were told of within the hour, and when first."""

    def recorded(self, event: AccessEvent, name: str, network: str = "") -> None:
        """The record of an access is durable; `name` is its subject's.

        `network` is what its address is counted by, where it has no subject.
        """
        if event.reason:
            self._refused(event.subject, name, network, 1)
        elif event.part == 0 and event.report and event.subject:
            pair = (event.subject, event.report)
            if pair in self._known:
                return
            self._known[pair] = None
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
            began = self._unasked.pop(pair, None) or _Began(
                subject=event.subject,
                ids=self._keyring().opaques(name),
                name=name,
                report=event.report,
                at=datetime.fromisoformat(event.at),
            )
            self._wait(began)

    def nearly(self, nearly: Nearly) -> None:
        """Most of a budget is spent."""
        limit = nearly.limit
        about = f"{limit.counter.id} {limit.most} {nearly.ends}"
        if (nearly.subject.name, about) in self._nearly:
            return
        self._nearly[nearly.subject.name, about] = None
        if len(self._nearly) > _MOST_KNOWN:
            self._nearly.popitem(last=False)
        self._alarms.raise_(
            Alarm(
                kind=Kind.BUDGET,
                subject=self._keyring().opaque(nearly.subject.name),
                name=nearly.subject.name,
                report=nearly.report,
                facts={
                    "spent": nearly.spent,
                    "most": limit.most,
                    "what": limit.what,
                    "per": str(limit.counter.per),
                    "line": str(limit.line),
                },
                about=about,
            )
        )

    def drifting(self, report: str, kind: str, count: int) -> None:
        """A store gives other fields than declared."""
        facts: dict[str, int | str] = {"what": kind, "fields": count}
        self._alarms.raise_(Alarm(kind=Kind.DRIFT, report=report, facts=facts, about=kind))

    def burst(self, subject: str, network: str, count: int) -> None:
        """So many more requests were refused, on one record; without a subject, none had a valid token."""
        self._refused(subject, "", network, count)

    async def run(self) -> None:
        """Look up whether an access is a first one, until cancelled."""
        while True:
            began = await self._began.get()
            try:
                first = await asyncio.to_thread(self._is_first, began)
            except LogUnavailable:  # for now: an access that is the only one shall be told too
                self._wait(began)
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            if first:
                self._alarms.raise_(
                    Alarm(
                        kind=Kind.FIRST,
                        subject=began.subject,
                        name=began.name,
                        report=began.report,
                    )
                )

    def _wait(self, began: _Began) -> None:
        """Ask the log about it when it is its turn; without room, when the pair comes again."""
        try:
            self._began.put_nowait(began)
        except asyncio.QueueFull:
            pair = (began.subject, began.report)
            self._known.pop(pair, None)
            self._unasked.setdefault(pair, began)
            if len(self._unasked) > _MOST_WAITING:
                self._unasked.popitem(last=False)

    def _is_first(self, began: _Began) -> bool:
        """Whether the log has no access of the subject to the report that began before.

        Raises LogUnavailable.
        """
        asked = Asked(
            subject=began.subject,
            ids=began.ids,
            report=began.report,
            until=began.at.astimezone(UTC),
            outcome="permit",
        )
        with Reader(self._log()) as reader:
            return not reader.query(asked, limit=1)

    def _refused(self, subject: str, name: str, network: str, count: int) -> None:
        now = time.monotonic()
        window, who = (self._subjects, subject) if subject else (self._networks, network)
        found = window.add(who, count, now)
        if found is None:
            return
        counted, refused = found
        facts: dict[str, int | str] = {"refused": refused, "seconds": int(self._manners.seconds)}
        reports: tuple[str, ...] = ()  # of an address a lockdown stops nothing, and everybody else
        if subject:
            reports = self._everything()
        if subject and counted == subject:
            about = ""
        elif subject:
            subject, name, about = "", "", f"subjects {counted}"
            facts["subjects"] = counted
        else:
            about = facts["address"] = self._apart(counted, now)
        self._alarms.raise_(
            Alarm(
                kind=Kind.REFUSALS,
                subject=subject,
                name=name,
                facts=facts,
                about=about,
                reports=reports,
            )
        )

    def _apart(self, network: str, now: float) -> str:
        """The network, or ELSEWHERE once so many were told of: nobody outside may fill an inbox."""
        told = self._told
        while told and now - next(iter(told.values())) >= HOUR:
            told.popitem(last=False)
        if network not in told:
            if len(told) >= _MOST_TOLD:
                return ELSEWHERE
            told[network] = now
        return network
