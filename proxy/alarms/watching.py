"""What is looked at now and then, off the way of requests: volumes, the policy, the log and its proof."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
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
        opaque: Callable[[str], str],
        server: str,
    ) -> None:
        """`looks`: whether it is this process, of several, that looks at volumes; `server`: its host.

        `opaque` gives the id of a subject's name.
        """
        self._alarms = alarms
        self._state = state
        self._log = log
        self._looks = looks
        self._everything = everything
        self._opaque = opaque
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
        return unusual(self._log(), datetime.now(UTC).date(), opaque=self._opaque)


def unusual(log: Path, today: date, *, opaque: Callable[[str], str]) -> list[Alarm]:
    """An alarm for each subject that is given far more rows today than on its days before.

    All that a subject was given counts, under whichever key the log has an id of it.
    """
    first = today - timedelta(days=DAYS)
    midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
    found: list[Alarm] = []
    with Reader(log) as reader:
        rows_of = reader.daily_rows(first)
        looked_at: set[str] = set()
        for subject in [each for each, days in rows_of.items() if today.isoformat() in days]:
            if subject in looked_at:
                continue
            name = reader.principal(subject)
            ids = tuple({subject, *(reader.subjects(name) if name else ())})
            looked_at.update(ids)
            days: Counter[str] = Counter()
            for each in ids:
                days.update(rows_of.get(each, {}))
            given = days.pop(today.isoformat())
            most = usual([rows for day, rows in days.items() if day < today.isoformat()])
            if most is None or given <= most:
                continue
            released = reader.released(ids, since=midnight)
            found.append(
                Alarm(
                    kind=Kind.UNUSUAL,
                    subject=opaque(name) if name else subject,
                    name=name,
                    report=max(released, key=lambda each: released[each].rows, default=""),
                    facts={"rows": given, "usual": most},
                    about=today.isoformat(),
                )
            )
    return found
