"""PROMISE 2 (no record, no data): recording and releasing, through every order of faults that chance finds.

A real access log on a real file, real sockets, and the code that records and releases; the machine says what
a store gives when, what becomes of clients and permits, and how the next commits fail. Whenever bytes of an
answer come, the log's file is asked what is durable then.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from proxy.access import Ended, decode
from proxy.audit import AccessLog
from proxy.audit.recover import ENDS, OPENS
from proxy.budgets.embedded import Embedded
from proxy.budgets.spending import Budgets, Meter
from proxy.cli import main
from proxy.errors import SourceRefused
from proxy.gateway.answers import Head, release
from proxy.gateway.record import Access
from proxy.gateway.recorder import Recorder
from proxy.gateway.standing import Outdated
from proxy.gateway.streamed import Streamed
from proxy.gateway.view import Block
from proxy.plan import Deny
from proxy.policy.limits import NONE as NO_LIMITS
from proxy.reasons import Reason
from proxy.subject import Subject
from tests.audit.records import KEYRING
from tests.harness import wire

DEADLINE = 0.2
FAULTS = {
    "busy": (sqlite3.SQLITE_BUSY, False),
    "full": (sqlite3.SQLITE_FULL, False),
    "a write fails": (sqlite3.SQLITE_IOERR | 3 << 8, False),
    "a sync fails": (sqlite3.SQLITE_IOERR | 4 << 8, False),
    "it is not known whether it was written": (sqlite3.SQLITE_IOERR | 4 << 8, True),
}
"""How commits fail: SQLite's code, and whether what was to be written is there all the same."""
SLOW = "slow"
NONE = ""


class Failing:
    """The connection to the leaves; its commits fail as `fault` says."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.fault = NONE
        self.going = threading.Event()
        self._connection = connection

    def execute(self, statement: str, *given: Any) -> sqlite3.Cursor:
        if "INSERT INTO leaf" not in statement and "UPDATE" not in statement:
            return self._connection.execute(statement, *given)
        if self.fault == SLOW:
            self.going.wait(60)
        code, written = FAULTS.get(self.fault, (0, True))
        done = self._connection.execute(statement, *given) if written else None
        if code:
            error = sqlite3.OperationalError("as told")
            error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_AS_TOLD"
            raise error
        assert done is not None
        return done

    def close(self) -> None:
        self._connection.close()


class Answer(asyncio.Protocol):
    """One request: its client, and the blocks of its answer, which come when the machine says so."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.ended: Ended | None = None
        """How its permit ended."""
        self.given = 0
        """Bytes of the blocks that were given."""
        self.whole = False
        """Whether the last block was."""
        self.task: asyncio.Task[Any] | None = None
        self.waits = False
        """For blocks."""
        self.received = bytearray()
        self.gone = False
        """Whether the connection has ended."""
        self.wrong = ""
        self._blocks: asyncio.Queue[Block | Exception] = asyncio.Queue()

    # ── the client ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(f"GET /{self.number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """What has come is on record now."""
        self.received += data
        answer = self.answer
        if answer is None or not answer.body:
            return
        if answer.status == 200:
            durable = max((one.bytes for one in records(self.path, answer.event)), default=0)
            if len(answer.body) > durable:
                self.wrong = f"{len(answer.body)} bytes came, {durable} are on record"
        elif b"xx" in answer.body:
            self.wrong = f"data in an answer {answer.status}"

    def connection_lost(self, _: Exception | None) -> None:
        self.gone = True

    @property
    def answer(self) -> wire.Answer | None:
        return wire.parse(bytes(self.received)) if b"\r\n\r\n" in self.received else None

    @property
    def done(self) -> bool:
        return self.gone or (self.answer is not None and self.answer.whole)

    # ── the store ──

    def give(self, size: int, *, last: bool) -> None:
        self.given += size
        self.whole = last
        digest = "d" * 64 if last else ""
        block = Block(
            data=b"x" * size, rows=self.given, bytes=self.given, cells={}, last=last, digest=digest
        )
        self._blocks.put_nowait(block)

    def fail(self) -> None:
        self.whole = True  # nothing more comes
        self._blocks.put_nowait(SourceRefused("malformed", "as told"))

    async def take(self) -> list[Block]:
        self.waits = self._blocks.empty()
        first = await self._blocks.get()
        self.waits = False
        ready = [first]
        while not self._blocks.empty():
            ready.append(self._blocks.get_nowait())
        for each in ready:
            if isinstance(each, Exception):
                raise each
        return ready  # type: ignore[return-value]


class Permitted:
    """A permit that ends when the machine says so."""

    permit = SimpleNamespace(report=SimpleNamespace(id="sales/daily"))

    def __init__(self, answer: Answer, request: web.BaseRequest, access: Access) -> None:
        self.request, self.access, self._answer = request, access, answer

    async def ended(self) -> Ended | None:
        return self._answer.ended

    async def hold(self) -> None:
        if self._answer.ended is not None:
            raise Outdated


def records(path: Path, access: str = "") -> list[Any]:
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT entry FROM leaf WHERE instr(entry, ?) ORDER BY place", (access.encode(),)
        )
        return [decode(entry) for (entry,) in rows]


def unlimited(budgets: Budgets) -> Meter:
    """What an access takes where nothing is limited."""
    nothing: Any = SimpleNamespace(limits=NO_LIMITS, policy=SimpleNamespace(are=lambda _: ()))
    return Meter(
        budgets,
        subject=Subject(user="user:alice", expires=0.0),
        report="sales/daily",
        access="",
        keyring=KEYRING,
        policy=lambda: nothing,
    )


class Protocol(RuleBasedStateMachine):
    """What can happen, in any order."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "access.db"
        self.answers: list[Answer] = []
        self.run(self._start())

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    async def _start(self) -> None:
        self.log = await AccessLog.open(self.path, keyring=KEYRING, deadline=DEADLINE)
        self.failing = Failing(self.log._writer._ledger._connection)
        self.log._writer._ledger._connection = self.failing  # type: ignore[assignment]
        self.recorder = Recorder(self.log)
        self.budgets = Budgets(Embedded(None), log=lambda: self.path)
        self.server = web.Server(self._handle, access_log=None)
        self.listening = await self.loop.create_server(self.server, "127.0.0.1", 0)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """As `Gateway` does it with a view's blocks."""
        answer = self.answers[int(request.path[1:])]
        answer.task = asyncio.current_task()
        access = Access(address="127.0.0.1", method="GET", keyring=KEYRING)
        standing: Any = Permitted(answer, request, access)

        async def attempt() -> web.StreamResponse:
            ready = await answer.take()
            await standing.hold()
            if not ready[0].last:
                meter = unlimited(self.budgets)
                streamed = Streamed(answer, recorder=self.recorder, standing=standing, meter=meter)
                return await streamed.send(ready, Head("text/csv"))
            receipt = await self.recorder.record(access, "complete", block=ready[0], ended="whole")
            return release(receipt, ready[0], Head("text/csv"))

        try:
            return await self.recorder.answered(access, attempt())
        except Outdated:
            return await self.recorder.refuse(
                access, Deny(reason=Reason.CHANGING, cause="policy-changing")
            )

    async def _settle(self) -> None:
        """Until nothing happens any more by itself."""
        for _ in range(5000):
            if all(each.done or each.waits for each in self.answers):
                return
            if self.failing.fault == SLOW and self.log.waiting:
                return
            await asyncio.sleep(0.001)
        raise AssertionError("it hangs")

    def open(self) -> list[Answer]:
        return [each for each in self.answers if not each.done]

    @rule()
    def ask(self) -> None:
        async def connect() -> None:
            answer = Answer(self.path, len(self.answers))
            self.answers.append(answer)
            port = self.listening.sockets[0].getsockname()[1]
            await self.loop.create_connection(lambda: answer, "127.0.0.1", port)
            await self._settle()

        self.run(connect())

    @precondition(lambda self: any(not each.whole for each in self.open()))
    @rule(
        data=st.data(),
        sizes=st.lists(st.integers(2, 300_000), min_size=1, max_size=3),
        last=st.booleans(),
    )
    def give(self, data: st.DataObject, sizes: list[int], last: bool) -> None:
        answer = data.draw(st.sampled_from([each for each in self.open() if not each.whole]))
        for number, size in enumerate(sizes, 1):
            answer.give(size, last=last and number == len(sizes))
        answer.waits = False
        self.run(self._settle())

    @precondition(lambda self: any(not each.whole for each in self.open()))
    @rule(data=st.data())
    def the_store_fails(self, data: st.DataObject) -> None:
        answer = data.draw(st.sampled_from([each for each in self.open() if not each.whole]))
        answer.fail()
        answer.waits = False
        self.run(self._settle())

    @precondition(lambda self: self.open())
    @rule(data=st.data(), how=st.sampled_from(["expired", "policy-changed"]))
    def the_permit_ends(self, data: st.DataObject, how: Ended) -> None:
        data.draw(st.sampled_from(self.open())).ended = how

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def the_client_goes(self, data: st.DataObject) -> None:
        answer = data.draw(st.sampled_from(self.open()))
        answer.transport.abort()  # type: ignore[attr-defined]
        self.run(self._settle())

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def the_handler_is_stopped(self, data: st.DataObject) -> None:
        answer = data.draw(st.sampled_from(self.open()))
        if answer.task is not None:
            answer.task.cancel()
            answer.waits = False
        self.run(self._settle())

    @rule(fault=st.sampled_from([NONE, SLOW, *FAULTS]))
    def commits_fail(self, fault: str) -> None:
        going, self.failing.going = self.failing.going, threading.Event()
        self.failing.fault = fault
        going.set()
        self.run(self._settle())

    @rule(crash=st.booleans())
    def start_again(self, crash: bool) -> None:
        """After a crash nothing more was written; a stop writes what is to be written, if it can be."""
        self.run(self._stop(crash=crash))
        self.run(self._start())

    async def _stop(self, *, crash: bool) -> None:
        going, self.failing.going = self.failing.going, threading.Event()
        if crash:
            self.failing.fault = "a write fails"
        elif self.failing.fault == SLOW:
            self.failing.fault = NONE
        going.set()
        self.listening.close()
        for each in self.answers:
            each.transport.abort()  # type: ignore[attr-defined]
            if each.task is not None:  # it may wait for blocks after its client has gone
                each.task.cancel()
        await self.server.shutdown(5)
        tasks = {each.task for each in self.answers if each.task and not each.task.done()}
        if tasks:
            await asyncio.wait(tasks)
        await self.recorder.close()
        await self.log.close()

    @invariant()
    def no_byte_came_before_its_record(self) -> None:
        for each in getattr(self, "answers", ()):
            assert not each.wrong, each.wrong

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.run(self._stop(crash=False))
            self.run(self._start())  # which says what is not known
            self.run(self._stop(crash=False))
            for each in self.answers:
                self._each_has_its_end(each)
            said = CliRunner().invoke(main, ["log", "verify", "--log", str(self.path)])
            assert said.exit_code in (0, 10), said.output
        finally:
            self.loop.close()
            self.folder.cleanup()

    def _each_has_its_end(self, answer: Answer) -> None:
        """A record of its end, of all that came; or nothing of it was released."""
        got = answer.answer
        if got is None:
            return
        found = records(self.path, got.event)
        ends = [one for one in found if one.step in ENDS]
        if got.status == 200:
            assert any(one.step in OPENS for one in found) or found[0].step == "complete"
            assert len(ends) == 1 and ends[0].bytes >= len(got.body)
            if got.whole:
                assert (ends[0].ended, ends[0].bytes) == ("whole", len(got.body))
        else:
            assert b"xx" not in got.raw
            assert got.status == 503 or [one.step for one in found] == ["refusal"]


def test_no_order_of_faults_releases_what_is_not_on_record():
    """Bytes never come before their record; each answer has one end on record, or nothing of it was released."""
    run_state_machine_as_test(Protocol, settings=settings(max_examples=12, stateful_step_count=20))


@pytest.mark.prove
def test_no_order_of_many_faults_releases_what_is_not_on_record():
    """The same, for longer."""
    run_state_machine_as_test(Protocol, settings=settings(max_examples=600, stateful_step_count=40))
