"""The one way into the access log, and the refusals that go with their record.

PROMISE 2 (no record, no data): `Recorder.record` is the one line that appends an access's event; what
leaves (`answers`) cannot be made without the `Receipt` that it returns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Final

from aiohttp import web

from proxy import problems
from proxy.access import AccessEvent, Ended, Receipt, Step, new_access_id, timestamp
from proxy.audit.log import AccessLog
from proxy.errors import LogUnavailable
from proxy.gateway.answers import EVENT_HEADER, refuse
from proxy.gateway.bursts import Burst, Bursts
from proxy.gateway.drift import Alarm
from proxy.gateway.record import Access
from proxy.gateway.tally import NO_REPORT, Tally
from proxy.gateway.view import Block
from proxy.plan import Deny
from proxy.reasons import Reason

_LOGGER: Final = logging.getLogger("counterfoil")


class Recorder:
    """Writes what happens, and counts it."""

    def __init__(self, log: AccessLog) -> None:
        self._log = log
        self._bursts = Bursts()
        self._alarms: set[asyncio.Future[None]] = set()
        self.tally = Tally()
        """What is counted for the metrics."""

    @property
    def healthy(self) -> bool:
        """Whether an access could be recorded now."""
        return self._log.healthy

    @property
    def opened(self) -> str:
        """The id of the event with which this process opened the access log."""
        return self._log.opened

    async def record(
        self,
        access: Access,
        step: Step,
        *,
        deny: Deny | None = None,
        block: Block | None = None,
        ended: Ended | None = None,
    ) -> Receipt:
        """PROMISE 2 (no record, no data): the one line that appends an access's event.

        Raises LogUnavailable.
        """
        event = access.event(step, deny=deny, block=block, ended=ended)
        receipt = await self._log.append(event, principal=access.principal)
        self.tally.recorded(access.report.id if access.report else NO_REPORT, event)
        return receipt

    async def refuse(self, access: Access, deny: Deny) -> web.Response:
        """Refuse whatever happens: with a record, or with 503 where none can be made."""
        try:
            if access.subject is None:
                key = self._bursts.key(access.address)
                if self._bursts.exceeds(key, access.started):
                    return await self._refuse_in_burst(key, deny)
            access.permit = None
            return refuse(await self.record(access, "refusal", deny=deny), deny)
        except LogUnavailable as exc:
            return self.unrecorded(access, exc)

    def unrecorded(self, access: Access, why: LogUnavailable) -> web.Response:
        """The one answer that has no record, for none can be made: it says just that."""
        _LOGGER.error("access %s: the access log failed: %s", access.id, why)
        self.tally.unrecorded += 1
        deny = Deny(reason=Reason.LOG_UNAVAILABLE, cause="log-unavailable")
        return web.Response(
            status=problems.status(deny),
            body=problems.body(deny, access.id),
            headers={EVENT_HEADER: access.id, "Server": "counterfoil", **problems.headers(deny)},
        )

    def alarm(self, alarm: Alarm, policy: str) -> None:
        """Tell of drift, in both logs.

        Nobody waits for it: what a requester is not given shall not delay what it is.
        """
        _LOGGER.warning("drift: %s", alarm)
        task = asyncio.ensure_future(self._record_alarm(alarm, policy))
        self._alarms.add(task)
        task.add_done_callback(self._alarms.discard)

    async def close(self) -> None:
        """Write what is still to be written."""
        await self.close_bursts()
        if self._alarms:
            await asyncio.wait(self._alarms)

    async def close_bursts(self) -> None:
        """Write the counts of the refusals that were coalesced since the last call."""
        for burst in self._bursts.close_all(time.monotonic()):
            if burst.count:
                event = _burst_event(burst.receipt.access, burst.address, burst.count)
                with suppress(LogUnavailable):
                    await self._log.append(event)

    async def _refuse_in_burst(self, key: str, deny: Deny) -> web.Response:
        burst = self._bursts.open.get(key)
        if burst is None:
            opened = _burst_event(new_access_id(), key)
            burst = Burst(address=key, receipt=await self._log.append(opened))
            burst = self._bursts.open.setdefault(key, burst)
        burst.count += 1
        self.tally.coalesced(deny.reason.slug)
        return refuse(burst.receipt, deny)

    async def _record_alarm(self, alarm: Alarm, policy: str) -> None:
        event = AccessEvent(
            access=new_access_id(),
            step="drift",
            at=timestamp(time.time()),
            report=alarm.report,
            cause=alarm.kind,
            policy=policy,
            count=alarm.count,
        )
        try:
            await self._log.append(event)
        except LogUnavailable as exc:
            _LOGGER.error("drift of %s is not on record: %s", alarm.report, exc)


def _burst_event(access: str, address: str, count: int = 0) -> AccessEvent:
    return AccessEvent(
        access=access,
        step="burst",
        part=1 if count else 0,
        at=timestamp(time.time()),
        address=address,
        decision="deny",
        count=count,
    )
