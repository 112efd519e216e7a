"""PROMISE 2 (no record, no data): whatever becomes of the disk under the log, nothing leaves without a record.

Real processes on real files, of which a real kernel refuses writes, or a library in its place (faults.py
says why). Each kind of log has its own faults: `FAULTS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.audit.recover import ENDS
from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.faults import Calls, Faults
from tests.harness.killed import Killed, Stopping
from tests.harness.postgres import Wire
from tests.harness.store import Page
from tests.promises.counted import World, get_request, worlds

LONG = sales.as_csv(sales.rows(40_000))
NEVER = b"2026-01"
"""What is in each row."""
WAL = "access.db-wal"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong: how it begins, and how it ends."""

    begin: Callable[[World, Faults], Callable[[], None]]
    passes: bool = False
    """Whether the same process serves again when it is over; else the log is sealed until the next start."""


def failing(calls: Calls, error: int) -> Callable[[World, Faults], Callable[[], None]]:
    def begin(_: World, faults: Faults) -> Callable[[], None]:
        faults.set(calls, WAL, error=error)
        return faults.clear

    return begin


def full(world: World, _: Faults) -> Callable[[], None]:
    """The file system itself has no room left."""
    filler = world.path.with_name("filler")
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler.unlink


def locked(world: World, _: Faults) -> Callable[[], None]:
    """Another process holds the database."""
    other = sqlite3.connect(world.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    return other.close


def gone(name: str, *, replaced: bool = False) -> Callable[[World, Faults], Callable[[], None]]:
    def begin(world: World, _: Faults) -> Callable[[], None]:
        path = world.path.with_name(name)
        aside = path.with_name("aside")
        path.rename(aside)
        if replaced:
            shutil.copy(aside, path)
        return lambda: aside.rename(path) and None

    return begin


def stopped(world: World, _: Faults) -> Callable[[], None]:
    """The database is stopped, as at once as it can be."""
    assert world.server is not None
    world.server.stop()
    return world.server.start


def cut(how: str) -> Callable[[World, Faults], Callable[[], None]]:
    """The next commit does not reach the database (`before`), or its answer does not reach us (`after`).

    Nobody gets through from then on.
    """

    def begin(world: World, _: Faults) -> Callable[[], None]:
        assert world.wire is not None
        wire = world.wire
        wire.refuses_then, wire.refusing = how == "after", how == "before"
        wire.cut = how

        def end() -> None:
            wire.refuses_then = wire.refusing = False

        return end

    return begin


def read_only(world: World, _: Faults) -> Callable[[], None]:
    """The database takes nothing, and ends the sessions that might."""
    assert world.server is not None and world.database is not None
    name = world.database.name
    world.server.psql(
        f"ALTER DATABASE {name} SET default_transaction_read_only = on",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    return lambda: world.server.psql(f"ALTER DATABASE {name} RESET default_transaction_read_only") and None  # fmt: skip


FAULTS = {
    "sqlite": {
        "the disk is full": Fault(begin=full, passes=True),
        "no room for a write": Fault(begin=failing(Calls.WRITE, errno.ENOSPC), passes=True),
        "a write fails": Fault(begin=failing(Calls.WRITE, errno.EIO)),
        "a sync fails": Fault(begin=failing(Calls.SYNC, errno.EIO)),
        "it was made read-only": Fault(begin=failing(Calls.WRITE, errno.EROFS)),
        "another process holds it": Fault(begin=locked, passes=True),
        "its file was taken away": Fault(begin=gone("access.db")),
        "its file was replaced": Fault(begin=gone("access.db", replaced=True)),
        "its write-ahead log was taken away": Fault(begin=gone(WAL)),
    },
    "postgres": {
        "the database is stopped": Fault(begin=stopped, passes=True),
        "the database was made read-only": Fault(begin=read_only, passes=True),
        "the connection is cut before a commit": Fault(begin=cut("before"), passes=True),
        "the connection is cut in mid-commit": Fault(begin=cut("after"), passes=True),
    },
}
"""Kind of log -> what can go wrong with it."""
LONG_ONES = {"the database was made read-only", "the connection is cut before a commit"}
CASES = [
    pytest.param(kind, name, marks=[pytest.mark.prove] if name in LONG_ONES else [])
    for kind, faults in FAULTS.items()
    for name in faults
]


@pytest.fixture(scope="module")
def faults(tmp_path_factory) -> Iterator[Faults]:
    faults = Faults(tmp_path_factory.mktemp("faults"))
    yield faults
    faults.close()


@pytest.fixture(scope="module")
def stopping(faults) -> Iterator[Stopping]:
    with Stopping(faults.environment) as stopping:
        yield stopping


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def way(postgres) -> Iterator[Wire]:
    """To the database; it can be cut."""
    background = Background()
    wire = Wire(background, postgres.port)
    wire.canary = b'"step":"'
    yield wire
    wire.close()
    background.close()


@pytest.fixture
def database(postgres, way):
    return postgres.database(postgres.new().name, port=way.port)


def answer_to(world: World, server: Killed, target: str) -> wire.Answer:
    return wire.parse(wire.exchange(server.url, get_request(target, alice(world))))


def alice(world: World) -> str:
    return world.home.issuer.token("alice", groups=("analysts",))


def refused(answer: wire.Answer) -> None:
    """503, and no byte of data."""
    assert answer.status == 503 and answer.headers["content-type"] == "application/problem+json"
    assert NEVER not in answer.raw


def until_ready(world: World, server: Killed, status: int) -> None:
    """Ask until readiness is as it is to be; the writer looks after itself when nothing comes in."""
    for _ in range(200):
        if wire.get(server.url, "/-/ready").status == status:
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"/-/ready is never {status}")


@pytest.mark.threat("H66")
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_nothing_leaves_while_the_log_cannot_be_written(
    tmp_path, request, stopping, faults, kind, name
):
    """503 without a byte of data, a stream that is cut where its records end, no readiness; then all is whole."""
    fault = FAULTS[kind][name]
    folder = request.getfixturevalue("small_disk") if fault.begin is full else tmp_path
    gate = asyncio.Event()

    async def gated():
        yield LONG[: 1 << 20]
        await gate.wait()
        yield LONG[1 << 20 :]

    database = request.getfixturevalue("database") if kind == "postgres" else None
    with worlds(folder, database=database) as world:
        if database is not None:
            world.server = request.getfixturevalue("postgres")
            world.wire = request.getfixturevalue("way")
        world.store.pages["/sales/long.csv"] = Page(gated)
        server = stopping.start(world.home.settings)
        assert server.listens()
        assert answer_to(world, server, "/sales/daily.json").status == 200
        with wire.asked(server.url, "/sales/long.csv", token=alice(world)) as sock:
            received = bytearray(sock.recv(1 << 16))
            end = fault.begin(world, faults)
            targets = ("/sales/daily.json", "/sales/none", "/sales/long.csv")
            with ThreadPoolExecutor() as pool:
                for answer in pool.map(lambda each: answer_to(world, server, each), targets):
                    refused(answer)
            assert wire.get(server.url, "/-/ready").status == 503
            world.background.loop.call_soon_threadsafe(gate.set)
            received += wire.rest(sock)
        end()
        streamed = wire.parse(bytes(received))
        assert streamed.status == 200 and not streamed.whole
        if fault.passes:
            until_ready(world, server, 200)
            assert answer_to(world, server, "/sales/daily.json").status == 200
        else:
            refused(answer_to(world, server, "/sales/daily.json"))
            assert wire.get(server.url, "/-/ready").status == 503
        server.signal(signal.SIGTERM)
        assert server.ended() == 0, server.output

        server = stopping.start(world.home.settings)
        assert server.listens(), server.output
        assert answer_to(world, server, "/sales/daily.json").status == 200
        records = world.records()[streamed.event]
        assert 0 < len(streamed.body) <= max(one.bytes for one in records)
        assert records[-1].step in ENDS and records[-1].ended != "whole"
        server.signal(signal.SIGTERM)
        assert server.ended() == 0, server.output
        world.verify()
