"""PROMISE 2 (no record, no data): a server that is killed, at each step of what it does and at any moment.

The process is a real one and so are its sockets, some with TLS. Clients take what comes until it is dead, and
count each byte. The events of all that they got are in the log's file then, the log is whole, and the next
start marks what was left open.
"""

from __future__ import annotations

import functools
import random
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from tests.harness.faults import Action, Calls, Faults
from tests.harness.killed import Killed, Step, Stopping
from tests.promises.counted import Client, World, worlds

RECORDER = "proxy.gateway.recorder:Recorder.record"
APPEND = "proxy.audit.log:AccessLog.append"
WRITER = "proxy.audit.writer:Writer."
LEDGER = "proxy.audit.embedded:Embedded."
SOON = {"proxy.audit.embedded:_CHECKPOINT": 1 << 14}
"""Bytes after which the write-ahead log is copied back."""

STEPS = {
    "while it starts, before the log is begun": Step(target="proxy.audit.embedded:begin"),
    "while it starts, after the log is begun": Step(
        target="proxy.audit.embedded:begin", after=True
    ),
    "before its keys are on record": Step(target=APPEND, only="keys-loaded"),
    "before its policy is on record": Step(target=APPEND, only="policy-loaded"),
    "after its policy is on record": Step(target=APPEND, only="policy-loaded", after=True),
    "after it knows who asks": Step(
        target="proxy.gateway.askers:Askers.identify", after=True, number=4
    ),
    "after it has decided": Step(target="proxy.gateway:Gateway._decide", after=True, number=4),
    "before it asks the store": Step(target="proxy.upstream:Stores.fetch", number=3),
    "after the store answers": Step(target="proxy.upstream:Stores.fetch", after=True, number=3),
    "after blocks are made": Step(target="proxy.gateway.blocks:Blocks.take", after=True, number=5),
    "before a whole answer is on record": Step(target=RECORDER, only="complete", number=2),
    "after a whole answer is on record": Step(
        target=RECORDER, only="complete", number=2, after=True
    ),
    "after a whole answer is given to the server": Step(
        target="proxy.gateway.sending:release", after=True, number=2
    ),
    "before a revealed answer is given to the server": Step(
        target="proxy.gateway.revealing:release"
    ),
    "before part of an answer that is kept is given": Step(
        target="proxy.gateway.validated:release"
    ),
    "before a refusal is on record": Step(target=RECORDER, only="refusal"),
    "after a refusal is on record": Step(target=RECORDER, only="refusal", after=True),
    "after a refusal is given to the server": Step(
        target="proxy.gateway.recorder:refuse", after=True
    ),
    "before an intent is on record": Step(target=RECORDER, only="intent"),
    "after an intent is on record": Step(target=RECORDER, only="intent", after=True),
    "after the head of a long answer": Step(target="proxy.gateway.streamed:begin", after=True),
    "before a block leaves": Step(target="aiohttp.web:StreamResponse.write", number=3),
    "after a block has left": Step(target="aiohttp.web:StreamResponse.write", after=True, number=3),
    "before progress is on record": Step(target=RECORDER, only="progress"),
    "after progress is on record": Step(target=RECORDER, only="progress", after=True),
    "before an outcome is on record": Step(target=RECORDER, only="outcome"),
    "after an outcome is on record, before the last block": Step(
        target=RECORDER, only="outcome", after=True
    ),
    "after the last block has left": Step(
        target="proxy.gateway.streamed:Streamed.send", after=True
    ),
    "before an event is encoded": Step(target=APPEND, number=9),
    "after a batch is gathered": Step(target=f"{WRITER}_gather", after=True, number=8),
    "before a commit": Step(target=f"{LEDGER}append", number=8),
    "after a commit": Step(target=f"{LEDGER}append", after=True, number=8),
    "before a batch is handed back": Step(target="proxy.audit.log:AccessLog._deliver", number=8),
    "before receipts are given": Step(target="proxy.audit.log:AccessLog._resolve", number=8),
    "before the write-ahead log is copied back": Step(target=f"{LEDGER}tidy", constants=SOON),
    "after the write-ahead log is copied back": Step(
        target=f"{LEDGER}tidy", after=True, constants=SOON
    ),
    "before the index takes events in": Step(target="proxy.audit.projection:Projection.step"),
    "after the index has taken events in": Step(
        target="proxy.audit.projection:Projection.step", after=True
    ),
    "before a tile is written": Step(target="proxy.durable:put", number=2),
    "after a tile is written": Step(target="proxy.durable:put", after=True, number=2),
    "before a checkpoint is written": Step(target="proxy.durable:write", only="checkpoint"),
    "before a checkpoint has its name": Step(target="os:replace", only="checkpoint"),
    "after a checkpoint has its name": Step(target="os:replace", only="checkpoint", after=True),
    "before the registry has an end": Step(target="proxy.audit.publish:Publisher._finish"),
    "after the registry has an end": Step(
        target="proxy.audit.publish:Publisher._finish", after=True
    ),
    "while it stops, before the log is sealed": Step(target=f"{LEDGER}seal"),
    "while it stops, after the log is sealed": Step(target=f"{LEDGER}seal", after=True),
}
"""What a server does: where it is killed."""

DATABASE = "proxy.audit.postgres."
SETTLED = {f"{DATABASE}ledger:_SETTLE": 1 << 14}
"""Bytes after which it is noted how far accesses are settled."""
IN_A_DATABASE = {
    name: replace(
        step,
        target=step.target.replace(LEDGER, f"{DATABASE}ledger:PostgresLedger.").replace(
            "proxy.audit.embedded:", f"{DATABASE}ledger:"
        ),
    )
    for name, step in STEPS.items()
    if not step.constants
} | {
    "while it starts, before the tables are made": Step(target=f"{DATABASE}schema:make"),
    "before it is noted what is settled": Step(
        target=f"{DATABASE}ledger:PostgresLedger.settle", constants=SETTLED
    ),
    "while it starts, before the one before is sealed": Step(target=f"{DATABASE}begin:seal"),
    "after it is noted what is settled": Step(
        target=f"{DATABASE}ledger:PostgresLedger.settle", after=True, constants=SETTLED
    ),
    "before the copy takes events in": Step(target=f"{DATABASE}mirror:Mirror._copy", number=2),
    "after the copy has taken events in": Step(
        target=f"{DATABASE}mirror:Mirror._copy", after=True, number=2
    ),
    "before the copy takes attachments in": Step(
        target=f"{DATABASE}mirror:Mirror._copy_attachments", number=2
    ),
    "before the database has an end": Step(target=f"{DATABASE}mirror:Mirror._finish"),
    "after the database has an end": Step(target=f"{DATABASE}mirror:Mirror._finish", after=True),
}
"""The same where the log is in a database."""

CALLS: dict[str, tuple[Calls, str, Action, int]] = {
    "before a write to the log": (Calls.WRITE, "access.db-wal", Action.KILL_BEFORE, 20),
    "in the middle of a write to the log": (Calls.WRITE, "access.db-wal", Action.KILL_TORN, 20),
    "after a write to the log": (Calls.WRITE, "access.db-wal", Action.KILL_AFTER, 20),
    "before the log is synced": (Calls.SYNC, "access.db-wal", Action.KILL_BEFORE, 8),
    "after the log is synced": (Calls.SYNC, "access.db-wal", Action.KILL_AFTER, 8),
    "before something is sent": (Calls.SEND, "", Action.KILL_BEFORE, 12),
    "in the middle of something that is sent": (Calls.SEND, "", Action.KILL_TORN, 12),
    "after something is sent": (Calls.SEND, "", Action.KILL_AFTER, 12),
    "in the middle of a tile": (Calls.WRITE, "*access-tiles/", Action.KILL_TORN, 0),
}
"""The same by system calls: which, on what, how, and after how many that go well."""

STOPS = [name for name in STEPS if name.startswith("while it stops")]
FEW = [
    "while it starts, after the log is begun",
    "after a whole answer is on record",
    "after a refusal is given to the server",
    "after the head of a long answer",
    "before progress is on record",
    "after an outcome is on record, before the last block",
    "before a commit",
    "after a commit",
    "before a checkpoint has its name",
    "while it stops, before the log is sealed",
]
FEW_CALLS = [
    "in the middle of a write to the log",
    "before the log is synced",
    "in the middle of something that is sent",
]
FEW_IN_A_DATABASE = [
    "after a whole answer is on record",
    "after the head of a long answer",
    "after an outcome is on record, before the last block",
    "before a commit",
    "after a commit",
    "after the database has an end",
]
"""Those of every test run."""


def killed_at(
    world: World, stopping: Stopping, name: str, steps: Mapping[str, Step] = STEPS
) -> None:
    """One server, killed at a step; its clients' bytes are held against what is left."""
    server = stopping.start(world.home.settings, steps[name])
    clients: list[Client] = []
    if server.listens():
        clients = world.ask(server)
        if name in STOPS:
            server.signal(signal.SIGTERM)
    with _explained(name, server):
        assert server.ended() == -signal.SIGKILL
        world.look(clients)


def killed_in(world: World, stopping: Stopping, faults: Faults, name: str) -> None:
    """One server, killed at a system call."""
    calls, ending, action, skip = CALLS[name]
    server = stopping.start(world.home.settings)
    with _explained(name, server):
        assert server.listens()
        clients = world.ask(server)
        faults.set(calls, ending, action=action, skip=skip, process=server.pid)
        assert server.ended() == -signal.SIGKILL
        faults.clear()
        world.look(clients)


def killed_after(world: World, stopping: Stopping, seconds: float) -> None:
    """One server, killed so long after its clients began."""
    server = stopping.start(world.home.settings)
    with _explained(f"after {seconds} s", server):
        assert server.listens()
        clients = world.ask(server)
        threading.Event().wait(seconds)
        server.signal(signal.SIGKILL)
        assert server.ended() == -signal.SIGKILL
        world.look(clients)


def begin(world: World, stopping: Stopping) -> None:
    """The first server, which stops as an operator stops it."""
    server = stopping.start(world.home.settings)
    assert server.listens(), server.output
    world.seal(server)
    server.signal(signal.SIGTERM)
    assert server.ended() == 0, server.output


def end(world: World, stopping: Stopping) -> None:
    """The last server, after which every access has its end."""
    world.left()
    server = stopping.start(world.home.settings)
    assert server.listens(), server.output
    world.settled()
    server.signal(signal.SIGTERM)
    assert server.ended() == 0, server.output
    world.verify()


@contextmanager
def _explained(name: str, server: Killed) -> Iterator[None]:
    try:
        yield
    except BaseException as failure:
        failure.add_note(f"killed {name}; it printed:\n{server.output[-4000:]}")
        raise


def test_each_step_is_one_of_the_product():
    """A step that the product no longer takes would kill nothing."""
    for step in (*STEPS.values(), *IN_A_DATABASE.values()):
        module, names = step.target.split(":")
        assert callable(functools.reduce(getattr, names.split("."), import_module(module)))
        for module, name in (each.split(":") for each in step.constants):
            assert isinstance(getattr(import_module(module), name), int)


@pytest.mark.threat("H67")
def test_killed_at_some_steps_and_moments_no_byte_is_without_its_event(tmp_path):
    """Twenty kills: at steps by name, at system calls, and at random; each on the log of those before it."""
    chance = random.Random(20)
    faults = Faults(tmp_path)
    with worlds(tmp_path) as world, Stopping(faults.environment) as stopping:
        begin(world, stopping)
        for name in FEW:
            killed_at(world, stopping, name)
        for name in FEW_CALLS:
            killed_in(world, stopping, faults, name)
        for _ in range(20 - len(FEW) - len(FEW_CALLS)):
            killed_after(world, stopping, chance.uniform(0, 0.3))
        end(world, stopping)
    faults.close()


def test_killed_with_its_log_in_a_database_no_byte_is_without_its_event(tmp_path, postgres):
    """Some steps by name, and some moments: the database goes on, and may commit what was on its way."""
    chance = random.Random(3)
    with worlds(tmp_path, database=postgres.new()) as world, Stopping() as stopping:
        begin(world, stopping)
        for name in FEW_IN_A_DATABASE:
            killed_at(world, stopping, name, IN_A_DATABASE)
        for _ in range(2):
            killed_after(world, stopping, chance.uniform(0, 0.3))
        end(world, stopping)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.prove
def test_killed_at_each_step_with_its_log_in_a_database_no_byte_is_without_its_event(
    tmp_path, postgres, tls
):
    """Once at each named step, at each system call on what is no file of SQLite's, and at random."""
    chance = random.Random(4)
    faults = Faults(tmp_path)
    with (
        worlds(tmp_path, tls=tls, database=postgres.new()) as world,
        Stopping(faults.environment) as stopping,
    ):
        begin(world, stopping)
        for number, name in enumerate(IN_A_DATABASE, 1):
            print(f"{number:3} {name}")
            killed_at(world, stopping, name, IN_A_DATABASE)
        for name in [name for name, (_, ending, *_) in CALLS.items() if ending != "access.db-wal"]:
            print(f"    {name}")
            killed_in(world, stopping, faults, name)
        for _ in range(20):
            killed_after(world, stopping, chance.uniform(0, 0.6))
        end(world, stopping)
    faults.close()


def test_what_was_synced_when_the_power_went_covers_every_byte(tmp_path):
    """As above, of what is left of the log where nothing of it was written but by a sync."""
    without_power(tmp_path, FEW[1:8:2], moments=2)


@pytest.mark.prove
def test_what_was_synced_when_the_power_went_at_each_step_covers_every_byte(tmp_path):
    """The same, once at each named step."""
    without_power(tmp_path, [*STEPS], moments=30)


def without_power(folder: Path, names: list[str], *, moments: int) -> None:
    """Kills, after each of which the log is what had been synced."""
    chance = random.Random(len(names))
    synced = folder / "synced"
    synced.mkdir()
    faults = Faults(folder, synced=synced)

    def lose(world: World) -> None:
        for name in ("access.db", "access.db-wal"):
            shutil.copy(synced / name, world.path.with_name(name))
        world.path.with_name("access.db-shm").unlink(missing_ok=True)

    with worlds(folder) as world, Stopping(faults.environment) as stopping:
        world.lose = lambda: lose(world)
        begin(world, stopping)
        for name in names:
            killed_at(world, stopping, name)
        for _ in range(moments):
            killed_after(world, stopping, chance.uniform(0, 0.3))
        end(world, stopping)
    faults.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.threat("H67")
@pytest.mark.prove
def test_killed_at_each_step_no_byte_is_without_its_event(tmp_path, tls):
    """Once at each named step and at each system call of interest, with TLS and without."""
    faults = Faults(tmp_path)
    with worlds(tmp_path, tls=tls) as world, Stopping(faults.environment) as stopping:
        begin(world, stopping)
        for number, name in enumerate(STEPS, 1):
            print(f"{number:3} {name}")
            killed_at(world, stopping, name)
        for number, name in enumerate(CALLS, len(STEPS) + 1):
            print(f"{number:3} {name}")
            killed_in(world, stopping, faults, name)
        end(world, stopping)
    faults.close()


@pytest.mark.parametrize("part", range(10))
@pytest.mark.prove
def test_killed_at_random_moments_no_byte_is_without_its_event(tmp_path, part):
    """Fifty kills in each part, every other part with TLS."""
    chance = random.Random(part)
    with worlds(tmp_path, tls=bool(part % 2)) as world, Stopping() as stopping:
        begin(world, stopping)
        for _ in range(50):
            killed_after(world, stopping, chance.uniform(0, 0.6))
        end(world, stopping)
