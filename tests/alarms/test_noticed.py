"""What is noticed of accesses that are on record, without sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.access import AccessEvent, new_access_id, timestamp
from proxy.alarms import noticed as module
from proxy.alarms.kinds import Alarm
from proxy.alarms.noticed import Manners, Noticed
from proxy.errors import LogUnavailable
from tests.gateway.reloading import soon


class Raised:
    """Stands for the alarms of a process."""

    def __init__(self) -> None:
        self.alarms: list[Alarm] = []

    def raise_(self, alarm: Alarm) -> None:
        self.alarms.append(alarm)


class Keyring:
    def opaques(self, name: str) -> tuple[str, ...]:
        return (name,)


class Log:
    """Stands for the log's reader: it cannot be read at first; what begins at `BEFORE` or later is not new."""

    BEFORE = 1_000.0

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked = 0

    def __call__(self, _: object) -> Log:
        return self

    def __enter__(self) -> Self:
        self.asked += 1
        if self.asked <= self.failures:
            raise LogUnavailable("its index is locked")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def query(self, asked, *, limit: int) -> list[str]:
        assert limit == 1
        return ["an access"] if asked.until.timestamp() > self.BEFORE else []


def noticing(refusals: int = 5, seconds: float = 300) -> tuple[Noticed, list[Alarm]]:
    raised = Raised()
    noticed = Noticed(
        raised,  # type: ignore[arg-type]
        manners=Manners(refusals=refusals, seconds=seconds),
        log=lambda: None,  # type: ignore[arg-type,return-value]
        keyring=Keyring,  # type: ignore[arg-type]
        everything=lambda: ("sales/*",),
    )
    return noticed, raised.alarms


def refusal(*, subject: str = "5f3a", address: str = "192.0.2.7") -> AccessEvent:
    return AccessEvent(
        access=new_access_id(),
        step="refusal",
        at=timestamp(0),
        subject=subject,
        address=address,
        decision="deny",
        reason="not-found" if subject else "unauthenticated",
    )


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Its first member is what time it is."""
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def access(at: float, *, subject: str = "5f3a", report: str = "sales/daily") -> AccessEvent:
    return AccessEvent(
        access=new_access_id(),
        step="complete",
        at=timestamp(at),
        subject=subject,
        report=report,
        decision="permit",
    )


async def going_on(noticed: Noticed, holds: Callable[[], object]) -> None:
    """Run it until that holds."""
    task = asyncio.create_task(noticed.run())
    try:
        assert await asyncio.to_thread(soon, holds)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("accesses", [1, 2])
def test_a_first_access_is_told_though_the_log_cannot_be_read_just_then(monkeypatch, accesses):
    """Once it can be: of that access, whether it stays the only one or others have followed since."""
    log = Log(failures=2)
    monkeypatch.setattr(module, "Reader", log)
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.02)

    async def first() -> list[Alarm]:
        noticed, alarms = noticing()
        for number in range(accesses):
            noticed.recorded(access(Log.BEFORE + number), "user:alice")
        await going_on(noticed, lambda: alarms)
        return alarms

    (alarm,) = asyncio.run(first())
    assert (alarm.kind.slug, alarm.subject) == ("first-access", "5f3a")
    assert log.asked == 3


def test_a_first_access_is_told_though_there_was_no_room_for_it(monkeypatch):
    """With the next access: the log is asked about the first one, for it has that by now."""
    monkeypatch.setattr(module, "Reader", Log(failures=0))
    monkeypatch.setattr(module, "_MOST_WAITING", 1)

    async def second() -> list[Alarm]:
        noticed, alarms = noticing()
        noticed.recorded(access(Log.BEFORE + 9, subject="old"), "user:bob")
        noticed.recorded(access(Log.BEFORE), "user:alice")
        await going_on(noticed, noticed._began.empty)
        assert not alarms
        noticed.recorded(access(Log.BEFORE + 9), "user:alice")
        await going_on(noticed, lambda: alarms)
        return alarms

    (alarm,) = asyncio.run(second())
    assert alarm.subject == "5f3a"


def test_refusals_around_an_edge_of_time_are_told(clock):
    """Three, and two half a minute later, are five together, whenever a count began."""
    noticed, alarms = noticing(refusals=5, seconds=300)
    for clock[0] in (0.0, 299.0, 299.0, 299.0, 331.0, 331.0):
        assert not alarms
        noticed.recorded(refusal(), "user:alice")
    (alarm,) = alarms
    assert (alarm.subject, alarm.name) == ("5f3a", "user:alice")
    assert alarm.facts == {"refused": 5, "seconds": 300}


def test_refusals_without_a_token_are_counted_by_address(clock):
    """However slowly they come, and beside those of others; each address is told of by itself, and once."""
    noticed, alarms = noticing(refusals=5, seconds=300)
    for number in range(20):
        clock[0] = number * 20.0
        for address in ("192.0.2.7", "192.0.2.8"):
            noticed.recorded(refusal(subject="", address=address), "", address)
        noticed.recorded(refusal(subject="", address="192.0.2.9"), "", f"192.0.2.{10 + number}")
    assert [each.about for each in alarms] == ["192.0.2.7", "192.0.2.8"] * 2
    assert alarms[0].facts == {"refused": 5, "seconds": 300, "address": "192.0.2.7"}
    assert alarms[0].same != alarms[1].same and alarms[0].same == alarms[2].same
    assert "subject" not in "".join(alarms[0].words)


def test_those_on_one_record_are_added_to_those_that_have_their_own(clock):
    """An address's bursts, and a subject's, neither of which is enough by itself."""
    noticed, alarms = noticing(refusals=5)
    for _ in range(3):
        noticed.recorded(refusal(subject=""), "", "192.0.2.7")
        noticed.recorded(refusal(), "user:alice")
    noticed.burst("", "192.0.2.8", 4)
    assert not alarms
    noticed.burst("", "192.0.2.7", 4)
    noticed.burst("5f3a", "", 2)
    assert [(each.subject, each.about, each.facts["refused"]) for each in alarms] == [
        ("", "192.0.2.7", 7),
        ("5f3a", "", 5),
    ]
    assert "--subject" in alarms[1].words.do


def test_nobody_outside_can_have_alarms_without_end(clock):
    """Of very many addresses some are named, and of the others one alarm tells that there are any."""
    noticed, alarms = noticing(refusals=5)
    for number in range(1_000):
        clock[0] = number / 10
        noticed.burst("", f"2001:db8:0:{number:x}::/64", 5)
    assert len({each.same for each in alarms}) == module._MOST_TOLD + 1
    assert alarms[-1].facts["address"] == "elsewhere"
    clock[0] += 3_600
    noticed.burst("", "192.0.2.7", 5)
    assert alarms[-1].facts["address"] == "192.0.2.7"


@given(st.lists(st.integers(0, 7), min_size=1, max_size=60), st.integers(1, 8), st.integers(1, 30))
def test_as_many_as_are_set_are_told_however_workers_share_them(spread, workers, refusals):
    """Some worker has its share, and that is one at least."""
    share = Manners(refusals=refusals, seconds=300).among(workers)
    each = Counter(number % workers for number in spread)
    assert 1 <= share.refusals <= refusals and share.seconds == 300
    if len(spread) >= refusals:
        assert max(each.values()) >= share.refusals
