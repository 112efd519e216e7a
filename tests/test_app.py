"""What goes on beside requests."""

from __future__ import annotations

import asyncio

import pytest

from proxy.app import kept_up


async def test_what_is_done_beside_requests_goes_on_after_a_failure(caplog):
    """A watch that could not look once, for want of a thread say, looks again, and it is told; a stop ends it."""
    looked = asyncio.Event()
    failures = [RuntimeError("can't start new thread")]

    async def watch() -> None:
        if failures:
            raise failures.pop()
        looked.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(kept_up(watch))
    async with asyncio.timeout(20):
        await looked.wait()
    assert "RuntimeError" in caplog.text and "begins anew" in caplog.text
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
