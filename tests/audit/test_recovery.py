"""Starting after a crash: what was receipted is there, and what was left open is `unresolved`."""

from __future__ import annotations

import itertools
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.access import AccessEvent, encode
from proxy.audit.recover import merge, open_accesses, unresolved
from proxy.audit.store import place_of
from proxy.errors import LogUnavailable
from tests.audit.records import (
    database,
    event,
    events,
    leaves,
    locked_logs,
    logs,
    opened,
    records,
    write,
)

WORKING = """
import asyncio, pathlib, sys
from proxy.access import AccessEvent, new_access_id, timestamp
from proxy.audit import AccessLog
from proxy.keys import Keyring
from tests.harness.postgres import given

async def access(log, number):
    id, rows = new_access_id(), 0
    more = dict(access=id, at=timestamp(1.8e9), subject=f"s{number}", report="sales/daily", decision="permit")
    async def say(step, part):
        event = AccessEvent(step=step, part=part, rows=rows, bytes=rows * 10, **more)
        receipt = await log.append(event, principal=f"user:{number}")
        print(receipt.log, receipt.index, id, step, rows, flush=True)
    while True:
        id, rows = new_access_id(), 1
        more["access"] = id
        await say("complete", 0)
        more["access"] = id = new_access_id()
        await say("intent", 0)
        for part in range(1, 4):
            rows += 10
            await say("progress", part)
        rows += 1
        await say("outcome", 4)

async def main():
    path, database = pathlib.Path(sys.argv[1]), given(sys.argv[2])
    log = await AccessLog.open(path, keyring=Keyring.generate(), database=database)
    await asyncio.gather(*(access(log, number) for number in range(8)))

asyncio.run(main())
"""


def killed(path: Path, after: int) -> list[list[str]]:
    """The receipts that a process had printed when it was killed, some time after so many of them."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKING, path, database(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        lines = list(itertools.islice(child.stdout, after))
        child.send_signal(signal.SIGKILL)
        lines += child.stdout
    return [line.split() for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("seed", range(5))
async def test_killed_in_mid_append_every_receipt_holds_and_open_accesses_are_unresolved(
    path, seed
):
    said = killed(path, random.Random(seed).randrange(1, 600))
    await locked_logs(path, 0)
    before = dict(leaves(path))
    for log, index, access, step, rows in said:
        found = msgspec.json.decode(before[place_of(int(log.split("/")[1]), int(index))])
        assert (found["access"], found["step"], found["rows"]) == (access, step, int(rows))
    left = {}
    for one in events(path):
        if one.step in ("intent", "progress"):
            left[one.access] = one
        elif one.step == "outcome":
            del left[one.access]
    async with opened(path) as log:
        assert log.unresolved == len(left)
    after = leaves(path)
    assert dict(after[: len(before)]) == before
    closing = events(path)[len(before) :]
    assert closing[0].step == "opened"
    assert {one.access: one for one in closing[1:]}.keys() == left.keys()
    for one in closing[1:]:
        last = left[one.access]
        assert one.step == "unresolved"
        assert one.part == last.part + 1
        assert (one.log, one.subject, one.report) == ("counterfoil/1", last.subject, last.report)
        assert (one.rows, one.bytes, one.ended) == (last.rows, last.bytes, "")


async def test_what_was_resolved_once_is_not_resolved_again(path):
    async with opened(path) as log:
        await log.append(event("intent", "0a", rows=5))
    assert logs(path) == [(1, False)]
    for _ in range(3):
        async with opened(path):
            pass
    assert [one.step for one in events(path)] == [
        "opened", "intent", "opened", "unresolved", "opened", "opened",
    ]  # fmt: skip
    assert all(sealed for _, sealed in logs(path))


async def test_an_access_left_open_before_a_checkpoint_is_found_after_it(path):
    """The note from where to look never passes an access that is still open."""
    async with opened(path) as log:
        for number in range(400):  # beyond what is written between two checkpoints
            await log.append(event("intent", f"{number:x}", path="x" * 60_000))
            if number != 3:
                await log.append(event("outcome", f"{number:x}"))
    async with opened(path) as log:
        assert log.unresolved == 1
    (found,) = [one for one in events(path) if one.step == "unresolved"]
    assert found.access == "3"


async def test_a_leaf_that_is_no_event_stops_the_start_and_names_its_place(tmp_path):
    path = tmp_path / "access.db"
    files = write(path, [event("intent")])
    with sqlite3.connect(files.leaves) as other:
        other.execute(
            "INSERT INTO leaf (place, entry) VALUES (?, ?)", (place_of(1, 2), b"{no event")
        )
    other.close()
    with pytest.raises(LogUnavailable, match="leaf 2 of log 1 is not an access event"):
        async with opened(path):
            pass
    assert logs(path) == [(1, False)]


def test_an_unresolved_record_is_never_too_long_for_an_entry():
    long = event(
        "intent",
        subject="s1",
        rows=7,
        parameters={f"p{number}": "x" * 100 for number in range(300)},
        lines=tuple(f"policy.csv:{number}" for number in range(1830)),
    )
    closing = msgspec.json.decode(unresolved(long, log="x" * 900, at="t"))
    assert len(encode(long)) < 65_535
    assert (closing["rows"], closing["subject"]) == (7, "s1")
    longer = msgspec.structs.replace(long, groups=tuple("x" * 90 for _ in range(400)))
    assert len(unresolved(longer, log="log", at="t")) <= 65_535


@given(st.lists(records(), max_size=12))
def test_open_accesses_are_those_whose_last_word_is_an_intent_or_progress(
    sequence: list[AccessEvent],
):
    expected = {}
    for one in sequence:
        if one.step in ("intent", "progress"):
            before = expected.get(one.access)
            expected[one.access] = merge(before, one) if before else one
        elif one.step not in (
            "burst",
            "change",
            "policy-loaded",
            "policy-refused",
            "keys-loaded",
            "keys-refused",
        ):
            expected.pop(one.access, None)
    found = open_accesses((place, encode(one)) for place, one in enumerate(sequence))
    assert [one for _, one in found] == list(expected.values())


@given(records(), records())
@settings(max_examples=50)
def test_merging_never_understates(earlier: AccessEvent, later: AccessEvent):
    both = merge(earlier, later)
    for count in ("rows", "bytes", "micros"):
        assert getattr(both, count) == max(getattr(earlier, count), getattr(later, count))
    for name in ("subject", "report", "decision", "fields", "lines"):
        assert getattr(both, name) == (getattr(later, name) or getattr(earlier, name))
