"""The one way into the access log, and the refusals that go with their record.

PROMISE 2 (no record, no data): `Recorder.record` is the one line that appends an access's event; what
leaves (`answers`) cannot be made without the `Receipt` that it returns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final, TypeVar

from aiohttp import web

from proxy import problems
from proxy.access import AccessEvent, Ended, Receipt, Step, new_access_id, timestamp
from proxy.alarms.noticed import Noticed
from proxy.audit.log import AccessLog
from proxy.errors import LogUnavailable, where
from proxy.evidence.layout import kept
from proxy.gateway.answers import EVENT_HEADER, refuse
from proxy.gateway.bursts import Burst, Bursts
from proxy.gateway.connections import network_of
from proxy.gateway.drift import Alarm
from proxy.gateway.record import Access
from proxy.gateway.standing import Outdated
from proxy.gateway.tally import NO_REPORT, Tally
from proxy.gateway.view import Block
from proxy.plan import Deny
from proxy.reasons import Reason

_LOGGER: Final = logging.getLogger("counterfoil")

_MUCH: Final = 1 << 19
"""Bytes of evidence that take too long to hash to have all others wait."""

R = TypeVar("R", bound=web.StreamResponse)


class Recorder:
    """Writes what happens, and counts it."""

    def __init__(self, log: AccessLog, *, workers: int = 1, noticed: Noticed | None = None) -> None:
        """`workers`: among how many processes what anybody may put on record is divided.

        `noticed` is told of what is on record.
        """
        self._log = log
        self._noticed = noticed
        self._bursts = Bursts.among(workers)
        self._opening: dict[str, asyncio.Task[None]] = {}
        """Bursts that begin, by their key."""
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

    async def answered(self, access: Access, attempt: Awaitable[R]) -> R | web.Response:
        """What `attempt` answers; where it fails, the refusal that follows. Raises Outdated, as it does.

        What cannot be recorded is neither released nor refused.
        """
        try:
            return await attempt
        except Outdated:
            raise
        except LogUnavailable as exc:
            return self.unrecorded(access, exc)
        except asyncio.CancelledError:
            if access.parts:
                raise
            # The proxy stops, and nothing of this access is on record yet: its client can still be told.
            deny = Deny(reason=Reason.STOPPING, cause="stopped")
            refusal = await asyncio.shield(self.refuse(access, deny))
            refusal.force_close()
            return refusal
        except Exception as exc:  # noqa: BLE001 - whatever went wrong is refused and recorded
            _LOGGER.error("access %s: %s", access.id, where(exc), extra={"access": access.id})
            deny = Deny(reason=Reason.INTERNAL, cause="internal-error")
            return await self.refuse(access, deny)

    async def record(
        self,
        access: Access,
        step: Step,
        *,
        deny: Deny | None = None,
        block: Block | None = None,
        evidence: bytes = b"",
        ended: Ended | None = None,
    ) -> Receipt:
        """PROMISE 2 (no record, no data): the one line that appends an access's event.

        `block` is the last one that it covers, `evidence` that of all that no record has covered before.
        Raises LogUnavailable.
        """
        trace = access.trace
        if trace is not None:
            trace.enter("record")
        much = len(evidence) > _MUCH
        stated, attachments = await asyncio.to_thread(kept, evidence) if much else kept(evidence)
        event = access.event(step, deny=deny, block=block, evidence=stated, ended=ended)
        receipt = await self._log.append(event, principal=access.principal, attachments=attachments)
        self.tally.recorded(access.report.id if access.report else NO_REPORT, event)
        if self._noticed is not None:
            network = "" if event.subject else network_of(event.address)
            self._noticed.recorded(event, access.principal, network)
        if trace is not None:
            trace.recorded(event, report=access.report.id if access.report else "")
            trace.enter("release")
        return receipt

    async def refuse(self, access: Access, deny: Deny) -> web.Response:
        """Refuse whatever happens: with a record, or with 503 where none can be made."""
        try:
            key = self._burst_of(access, deny)
            if key and self._bursts.exceeds(key, access.started):
                return await self._refuse_in_burst(key, access, deny)
            access.permit = None
            return refuse(await self.record(access, "refusal", deny=deny), deny)
        except LogUnavailable as exc:
            return self.unrecorded(access, exc)

    def unrecorded(self, access: Access, why: LogUnavailable) -> web.Response:
        """The one answer that has no record, for none can be made: it says just that."""
        _LOGGER.error(
            "access %s: the access log failed: %s", access.id, why, extra={"access": access.id}
        )
        self.tally.unrecorded += 1
        deny = Deny(reason=Reason.LOG_UNAVAILABLE, cause="log-unavailable")
        if access.trace is not None:
            access.trace.refused(deny)
        return web.Response(
            status=deny.reason.status,
            body=problems.body(deny, access.id),
            headers={EVENT_HEADER: access.id, "Server": "counterfoil", **problems.headers(deny)},
        )

    def alarm(self, alarm: Alarm, policy: str) -> None:
        """Tell of drift, in both logs.

        Nobody waits for it: what a requester is not given shall not delay what it is.
        """
        _LOGGER.warning("drift: %s", alarm)
        if self._noticed is not None:
            self._noticed.drifting(alarm.report, alarm.kind, alarm.count)
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
                event = _burst_event(
                    burst.receipt.access, burst.address, burst.subject, count=burst.count
                )
                with suppress(LogUnavailable):
                    await self._log.append(event)
                if self._noticed is not None:
                    self._noticed.burst(burst.subject, burst.address, burst.count)

    def _burst_of(self, access: Access, deny: Deny) -> str:
        """Under which name the refusal is counted with others; '' where it has its own record always."""
        if access.subject is None:
            return self._bursts.key(access.address)
        return self._bursts.bounded(access.subject.name) if deny.cause == "subject-rate" else ""

    async def _refuse_in_burst(self, key: str, access: Access, deny: Deny) -> web.Response:
        while (burst := self._bursts.open.get(key)) is None:
            opening = self._opening.get(key)
            if opening is None:
                opening = asyncio.create_task(self._open_burst(key, access))
                self._opening[key] = opening
                opening.add_done_callback(lambda done: self._opened(key, done))
            await asyncio.shield(opening)  # one record serves all who wait for it
        burst.count += 1
        self.tally.coalesced(deny.reason.slug)
        if access.trace is not None:
            access.trace.refused(deny, event=burst.receipt.access)
        return refuse(burst.receipt, deny)

    async def _open_burst(self, key: str, access: Access) -> None:
        named = key == access.principal
        address, subject = ("", access.opaque) if named else (key, "")
        opened = _burst_event(new_access_id(), address, subject)
        receipt = await self._log.append(opened, principal=access.principal if named else "")
        self._bursts.open[key] = Burst(address=address, subject=subject, receipt=receipt)

    def _opened(self, key: str, done: asyncio.Task[None]) -> None:
        del self._opening[key]
        if not done.cancelled():
            done.exception()  # those who wait are told

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


def _burst_event(access: str, address: str, subject: str, *, count: int = 0) -> AccessEvent:
    return AccessEvent(
        access=access,
        step="burst",
        part=1 if count else 0,
        at=timestamp(time.time()),
        subject=subject,
        address=address,
        decision="deny",
        count=count,
    )
