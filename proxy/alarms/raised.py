"""Alarms, told once in a while each: in the server's log, the metrics, and to whoever is sent them.

Nobody waits for it: what is raised is put into a queue of bounded length, and told from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from proxy.access import timestamp
from proxy.alarms.kinds import Alarm
from proxy.budgets.counters import BudgetsUnavailable

_LOGGER: Final = logging.getLogger("counterfoil")
_MOST: Final = 1_024
_LEVELS: Final = {"low": logging.INFO, "medium": logging.WARNING, "high": logging.ERROR}

Claim = Callable[[str, float], Awaitable[bool]]
"""Whether nobody claimed that name within so many seconds before; then it is claimed."""


class Told(Protocol):
    """Who is sent alarms."""

    def put(self, body: bytes) -> None:
        """Take one, in JSON; never waits."""


class Alarms:
    """All alarms of this process."""

    def __init__(self, claim: Claim, *, told: Told | None, names: bool) -> None:
        """`claim` is shared by all processes that raise alarms; `names`: subjects are told by name too."""
        self._claim = claim
        self._told = told
        self._names = names
        self._queue: asyncio.Queue[Alarm] = asyncio.Queue(_MOST)
        self.raised: Counter[str] = Counter()
        """By kind, how many were told."""
        self.dropped = 0
        """How many were not, for too many came at once."""

    def raise_(self, alarm: Alarm) -> None:
        """Tell of it, unless the same was told within its time; never waits."""
        try:
            self._queue.put_nowait(alarm)
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Go on until cancelled; then tell what is left."""
        try:
            while True:
                await self._tell(await self._queue.get())
        finally:
            while not self._queue.empty():
                await self._tell(self._queue.get_nowait())

    async def _tell(self, alarm: Alarm) -> None:
        row = alarm.kind.value
        try:
            if not await self._claim(alarm.same, row.again):
                return
        except BudgetsUnavailable:
            pass  # rather twice than not at all
        self.raised[row.slug] += 1
        name = alarm.name if self._names else ""
        facts = ", ".join(f"{key} {value}" for key, value in alarm.facts.items())
        _LOGGER.log(
            _LEVELS[row.severity],
            "alarm %s: %s%s%s%s. %s%s",
            row.slug,
            alarm.words.title,
            f": {name or alarm.subject}" if alarm.subject else "",
            f", {alarm.report}" if alarm.report else "",
            f" ({facts})" if facts else "",
            alarm.words.do,
            _stop(alarm),
        )
        if self._told is not None:
            self._told.put(_body(alarm, name))


def _stop(alarm: Alarm) -> str:
    """How all access to what it is about is stopped, or what is left to do for that."""
    commands = " && ".join(alarm.lockdowns)
    if not commands:
        return ""
    if alarm.unlocked:
        more = f"{alarm.unlocked} more of reports.yaml are left, to be locked down in the same way"
        return f" To stop access to some of it ({more}): {commands}"
    return f" To stop all access: {commands}"


class _Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is sent."""

    v: int = msgspec.field()
    id: str
    at: str
    kind: str
    severity: str
    title: str
    subject: str = ""
    name: str = ""
    report: str = ""
    facts: dict[str, int | str] = {}
    do: str
    lockdown: tuple[str, ...] = ()
    unlocked: int = 0


def _body(alarm: Alarm, name: str) -> bytes:
    row = alarm.kind.value
    return msgspec.json.encode(
        _Body(
            v=1,
            id=alarm.id,
            at=timestamp(time.time()),
            kind=row.slug,
            severity=row.severity,
            title=alarm.words.title,
            subject=alarm.subject,
            name=name,
            report=alarm.report,
            facts=dict(alarm.facts),
            do=alarm.words.do,
            lockdown=alarm.lockdowns,
            unlocked=alarm.unlocked,
        )
    )
