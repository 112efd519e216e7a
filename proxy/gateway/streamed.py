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
from proxy.errors import LogUnavailable, SourceRefused, StoreUnavailable, where
from proxy.gateway.answers import Head, abort, begin
from proxy.gateway.recorder import Recorder
from proxy.gateway.standing import Standing
from proxy.gateway.view import Block

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
    ) -> None:
        self._blocks = blocks
        self._recorder = recorder
        self._standing = standing
        self._access = standing.access

    async def send(self, ready: list[Block], head: Head) -> web.StreamResponse:
        """Answer with the blocks that are `ready` and all that follow.

        Raises LogUnavailable where nothing was released. Whatever ends it later breaks the connection
        and is on record.
        """
        request = self._standing.request
        ready, left = _apart(ready)
        receipt = await self._recorder.record(self._access, "intent", block=ready[-1])
        covered = ready[-1]
        ended: Ended | None = None
        response: web.StreamResponse | None = None
        try:
            response = await begin(receipt, request, head)
            while True:
                ended = await self._release(ready, response)
                if ended is not None or covered.last:
                    return response
                ready, left = _apart(left or await self._blocks.take())
                ended = await self._standing.ended()
                if ended is not None:
                    return response
                last = ready[-1].last
                step: Step = "outcome" if last else "progress"
                await self._recorder.record(
                    self._access, step, block=ready[-1], ended="whole" if last else None
                )
                covered = ready[-1]
        except (SourceRefused, StoreUnavailable) as exc:
            report = self._standing.permit.report.id
            _LOGGER.warning("access %s: %s: %s", self._access.id, report, exc)
            ended = "store-failed"
        except ConnectionError:
            ended = "client-gone"
        except LogUnavailable as exc:
            _LOGGER.error("access %s: the access log failed: %s", self._access.id, exc)
            ended = "log-failed"
        except asyncio.CancelledError:
            ended = "stopped"
            raise
        except Exception as exc:  # noqa: BLE001 - whatever went wrong ends the stream and is recorded
            _LOGGER.error("access %s: %s", self._access.id, where(exc))
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

    async def _release(self, ready: list[Block], response: web.StreamResponse) -> Ended | None:
        """Write blocks that are on record, or say why the permit no longer stands."""
        for number, block in enumerate(ready):
            ended = await self._standing.ended() if number else None
            if ended is not None:
                return ended
            await response.write(block.data)  # the server ends it where nobody takes it
        return None


def _apart(ready: list[Block]) -> tuple[list[Block], list[Block]]:
    """What the next record covers, and the last block where it is to have its own."""
    return (ready[:-1], ready[-1:]) if ready[-1].last and len(ready) > 1 else (ready, [])
