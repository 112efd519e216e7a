"""What is looked at now and then, off the way of requests: volumes, the policy, the log and its proof."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from proxy.alarms.kinds import Alarm, Kind
from proxy.alarms.raised import Alarms
from proxy.alarms.volumes import DAYS, usual
from proxy.audit.query import Reader
from proxy.errors import LogUnavailable

_LOGGER: Final = logging.getLogger("counterfoil")
LOOK_SECONDS: Final = 1.0
VOLUME_SECONDS: Final = 300.0

State = Callable[[], Mapping[Kind, Mapping[str, int | str]]]
"""What is wrong now, with what is known of it."""


class Watching:
    """Looks until cancelled."""

    def __init__(
        self,
        alarms: Alarms,
        *,
        state: State,
        log: Callable[[], Path],
        looks: Callable[[], bool],
        everything: Callable[[], tuple[str, ...]],
        server: str,
    ) -> None:
        """`looks`: whether it is this process, of several, that looks at volumes; `server`: its host."""
        self._alarms = alarms
        self._state = state
        self._log = log
        self._looks = looks
        self._everything = everything
        self._server = server

    async def run(self) -> None:
        """Go on until cancelled."""
        await asyncio.gather(self._states(), self._volumes())

    async def _states(self) -> None:
        while True:
            for kind, facts in self._state().items():
                # Of several servers that share what was told each has a policy, a log and a disk of its own.
                self._alarms.raise_(
                    Alarm(
                        kind=kind,
                        facts={**facts, "server": self._server},
                        reports=self._everything(),
                        about=self._server,
                    )
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def _volumes(self) -> None:
        while True:
            if self._looks():
                try:
                    found = await asyncio.to_thread(self._unusual)
                except LogUnavailable as exc:
                    _LOGGER.warning("volumes could not be looked at: %s", exc)
                else:
                    for alarm in found:
                        self._alarms.raise_(alarm)
            await asyncio.sleep(VOLUME_SECONDS)

    def _unusual(self) -> list[Alarm]:
        return unusual(self._log(), datetime.now(UTC).date())


def unusual(log: Path, today: date) -> list[Alarm]:
    """An alarm for each subject that is given far more rows today than on its days before."""
    first = today - timedelta(days=DAYS)
    found: list[Alarm] = []
    with Reader(log) as reader:
        for subject, days in reader.daily_rows(first).items():
            most = usual([rows for day, rows in days.items() if day < today.isoformat()])
            given = days.get(today.isoformat(), 0)
            if most is None or given <= most:
                continue
            midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
            released = reader.released((subject,), since=midnight)
            report = max(released, key=lambda each: released[each].rows, default="")
            found.append(
                Alarm(
                    kind=Kind.UNUSUAL,
                    subject=subject,
                    name=reader.principal(subject),
                    report=report,
                    facts={"rows": given, "usual": most},
                    about=today.isoformat(),
                )
            )
    return found
