"""What an alarm says of how all access is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shlex
from collections import Counter

import pytest

from proxy.alarms.kinds import Alarm, Kind, everything
from proxy.alarms.raised import Alarms
from proxy.budgets.embedded import Embedded


def told(alarm: Alarm, caplog) -> tuple[str, dict[str, object]]:
    """The line of the server's log, and the body that is sent."""
    bodies: list[bytes] = []

    class Receiver:
        def put(self, body: bytes) -> None:
            bodies.append(body)

    async def claim(*_: object) -> bool:
        return True

    async def tell() -> None:
        alarms = Alarms(claim, told=Receiver(), names=False)
        alarms.raise_(alarm)
        task = asyncio.create_task(alarms.run())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with caplog.at_level(logging.INFO, "counterfoil"):
        asyncio.run(tell())
    (line,) = [each.getMessage() for each in caplog.records if each.name == "counterfoil"]
    (body,) = bodies
    return line, json.loads(body)


@pytest.mark.parametrize("prefixes", [1, 12, 13, 40])
def test_commands_and_what_they_leave_open_are_all_reports(caplog, prefixes):
    """Where there are more prefixes than commands, both the log and the receiver are told how many."""
    patterns = everything(f"of{n:02}/{name}" for n in range(prefixes) for name in ("a", "b"))
    line, body = told(Alarm(kind=Kind.LOG, reports=patterns), caplog)
    commands = body["lockdown"]
    assert [shlex.split(each)[2] for each in commands] == [f"of{n:02}/*" for n in range(min(prefixes, 12))]  # fmt: skip
    assert line.endswith(": " + " && ".join(commands))
    assert len(commands) + body.get("unlocked", 0) == prefixes
    assert ("To stop all access:" in line) == (prefixes <= 12)
    assert (f"({prefixes - 12} more of" in line) == (prefixes > 12)


def test_an_alarm_about_a_report_leaves_none_open(caplog):
    alarm = Alarm(kind=Kind.FIRST, report="sales/daily", reports=tuple("abcdefghijklmnop"))
    line, body = told(alarm, caplog)
    assert len(body["lockdown"]) == 1 and "unlocked" not in body
    assert "To stop all access: counterfoil lockdown sales/daily" in line


@pytest.mark.parametrize(("kind", "times"), [(Kind.BUDGET, 1), (Kind.UNUSUAL, 1), (Kind.FIRST, 2)])
def test_what_is_of_several_reports_is_told_once(kind, times):
    """Whichever report a budget or a day's rows came to; a first access is one of each report."""

    async def tell() -> Counter[str]:
        counters = Embedded(None)
        alarms = Alarms(counters.claim, told=None, names=False)
        task = asyncio.create_task(alarms.run())
        for report in ("sales/daily", "sales/audited"):
            alarms.raise_(Alarm(kind=kind, subject="5f3a", report=report, about="2026-11-29"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await counters.close()
        return alarms.raised

    assert asyncio.run(tell()) == {kind.slug: times}
