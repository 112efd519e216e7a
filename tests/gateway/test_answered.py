"""PROMISE 2 (no record, no data): however an attempt to answer ends, that is on record, or it is a 503."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.errors import LogUnavailable
from proxy.gateway.record import Access
from proxy.gateway.recorder import Recorder
from proxy.gateway.standing import Outdated
from tests.audit.records import KEYRING, events, opened


def access() -> Access:
    return Access(address="127.0.0.1", method="POST", keyring=KEYRING)


async def failing(error: Exception):
    raise error


async def test_what_a_stop_cuts_off_is_on_record(tmp_path: Path) -> None:
    """An attempt that is cancelled before anything is on record leaves a refusal there."""
    path = tmp_path / "access.db"
    async with opened(path) as log:
        asked = access()
        task = asyncio.create_task(Recorder(log).answered(asked, asyncio.sleep(3600)))
        await asyncio.sleep(0)
        task.cancel()
        refused = await task
        assert refused.status == 503 and b"urn:counterfoil:problem:stopping" in refused.body
    found = [event for event in events(path) if event.access == asked.id]
    assert [(event.step, event.cause) for event in found] == [("refusal", "stopped")]


async def test_what_goes_wrong_is_refused_on_record(tmp_path: Path) -> None:
    """An error of ours is a 500 that says nothing of it; a log that fails is a 503 without a record."""
    path = tmp_path / "access.db"
    async with opened(path) as log:
        recorder = Recorder(log)
        asked = access()
        refused = await recorder.answered(asked, failing(RuntimeError("canary")))
        assert refused.status == 500
        assert b"canary" not in refused.body
        unrecorded = await recorder.answered(access(), failing(LogUnavailable("full")))
        assert unrecorded.status == 503
        with pytest.raises(Outdated):
            await recorder.answered(access(), failing(Outdated()))
    steps = [(event.step, event.cause) for event in events(path) if event.step != "opened"]
    assert steps == [("refusal", "internal-error")]
