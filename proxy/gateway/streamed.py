"""An answer of more than one block: each record is durable before the blocks that it covers.

The last block has a record of its own, so that no record says how an answer ended while more than that
block is still to be released.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final, Protocol

from aiohttp import web

from proxy.access import Ended, Step
from proxy.budgets.spending import Meter
from proxy.errors import LogUnavailable, SourceRefused, StoreUnavailable, where
from proxy.gateway.answers import Head, abort, begin
from proxy.gateway.recorder import Recorder
from proxy.gateway.standing import Standing
from proxy.gateway.view import Block
from proxy.plan import Deny
from proxy.reasons import Reason

_LOGGER: Final = logging.getLogger("counterfoil")


class Ahead(Protocol):
    """What gives an answer's blocks."""

    async def take(self) -> list[Block]:
        """The next block and all that are ready."""


class Streamed:
    """Records and releases the blocks in turn, as long as the permit stands."""

    def __init__(
        self,
        blocks: Ahead,
        *,
        recorder: Recorder,
        standing: Standing,
        meter: Meter,
    ) -> None:
        self._blocks = blocks
        self._recorder = recorder
        self._meter = meter
        self._standing = standing
        self._access = standing.access

    async def send(self, ready: list[Block], head: Head) -> web.StreamResponse:
        """Answer with the blocks that are `ready` and all that follow.

        Refuses where a budget has no room for the first one. Raises LogUnavailable where nothing was
        released. Whatever ends it later breaks the connection and is on record.
        """
        request = self._standing.request
        ready, left = _apart(ready)
        ready, over = await self._charged(ready)
        if not ready and over is not None:
            return await self._recorder.refuse(self._access, over)
        receipt = await self._recorder.record(
            self._access, "intent", block=ready[-1], evidence=_evidence(ready)
        )
        covered = ready[-1]
        ended: Ended | None = None
        response: web.StreamResponse | None = None
        try:
            response = await begin(receipt, request, head)
            while True:
                ended = await self._release(ready, response)
                if ended is not None or covered.last:
                    return response
                if over is not None:
                    ended = _over(over)
                    return response
                ready, left = _apart(left or await self._following())
                ended = await self._standing.ended()
                if ended is not None:
                    return response
                ready, over = await self._charged(ready)
                if not ready and over is not None:
                    ended = _over(over)
                    return response
                last = ready[-1].last
                step: Step = "outcome" if last else "progress"
                await self._recorder.record(
                    self._access,
                    step,
                    block=ready[-1],
                    evidence=_evidence(ready),
                    ended="whole" if last else None,
                )
                covered = ready[-1]
        except (SourceRefused, StoreUnavailable) as exc:
            report = self._standing.permit.report.id
            _LOGGER.warning(
                "access %s: %s: %s", self._access.id, report, exc, extra={"access": self._access.id}
            )
            ended = "store-failed"
        except ConnectionError:
            ended = "client-gone"
        except LogUnavailable as exc:
            _LOGGER.error(
                "access %s: the access log failed: %s",
                self._access.id,
                exc,
                extra={"access": self._access.id},
            )
            ended = "log-failed"
        except asyncio.CancelledError:
            ended = "stopped"
            raise
        except Exception as exc:  # noqa: BLE001 - whatever went wrong ends the stream and is recorded
            _LOGGER.error(
                "access %s: %s", self._access.id, where(exc), extra={"access": self._access.id}
            )
            ended = "internal-error"
        finally:
            if ended is not None:
                abort(request)
                if not covered.last:
                    # What the records say already covers all that was released.
                    end = self._recorder.record(self._access, "outcome", block=covered, ended=ended)
                    with suppress(LogUnavailable):
                        await asyncio.shield(end)
        return response if response is not None else web.Response(status=503)

    async def _following(self) -> list[Block]:
        if self._access.trace is not None:
            self._access.trace.enter("transform")
        return await self._blocks.take()

    async def _charged(self, ready: list[Block]) -> tuple[list[Block], Deny | None]:
        """As many of the blocks as budgets have room for, which are charged; and why not all of them.

        How many that are depends on the blocks alone, not on how many are ready at once.
        """
        over: Deny | None = None
        for number in range(len(ready), 0, -1):
            block = ready[number - 1]
            denied = await self._meter.take(rows=block.rows, bytes_=block.bytes, cells=block.cells)
            if denied is None:
                return ready[:number], over
            over = denied
            if over.reason is not Reason.BUDGET_SPENT:
                break
        return [], over

    async def _release(self, ready: list[Block], response: web.StreamResponse) -> Ended | None:
        """Write blocks that are on record, or say why the permit no longer stands."""
        for number, block in enumerate(ready):
            ended = await self._standing.ended() if number else None
            if ended is not None:
                return ended
            await response.write(block.data)  # the server ends it where nobody takes it
        return None


def _over(deny: Deny) -> Ended:
    return "budget-spent" if deny.reason is Reason.BUDGET_SPENT else "budget-failed"


def _apart(ready: list[Block]) -> tuple[list[Block], list[Block]]:
    """What the next record covers, and the last block where it is to have its own."""
    return (ready[:-1], ready[-1:]) if ready[-1].last and len(ready) > 1 else (ready, [])


def _evidence(ready: list[Block]) -> bytes:
    """Which rows there are in the blocks that the next record covers."""
    return b"".join([block.evidence for block in ready])
