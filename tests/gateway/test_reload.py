"""What a new policy does to what runs: nothing is torn, and nothing old comes back."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from proxy import app as app_module
from proxy import snapshot as snapshot_module
from tests.harness import sales, wire
from tests.harness.issuer import Issuer
from tests.harness.proxy import stage
from tests.harness.store import Page

PATH = "/sales/daily.csv"
LONG = sales.as_csv(sales.rows(40_000))


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES) as running:
        yield running


class Stream:
    """A long answer under way, whose store waits in the middle until it is told to go on."""

    def __init__(self, store, proxy) -> None:
        self._loop = store._background.loop
        self._gate = asyncio.Event()
        store.pages[PATH] = Page(self._body)
        self.proxy = proxy
        token = proxy.issuer.token("alice", groups=("analysts",))
        self._sock = wire.connect(proxy.url)
        self._sock.sendall(
            f"GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        self._received = bytearray(self._sock.recv(1000))

    async def _body(self):
        yield LONG[: 1 << 20]
        await self._gate.wait()
        yield LONG[1 << 20 :]

    def end(self) -> tuple[wire.Answer, list]:
        """The answer, and its records."""
        self._loop.call_soon_threadsafe(self._gate.set)
        with self._sock:
            try:
                while data := self._sock.recv(1 << 20):
                    self._received += data
            except ConnectionError:
                pass
        answer = wire.parse(bytes(self._received))
        for _ in range(200):
            records = [event for event in self.proxy.events() if event.access == answer.event]
            if records[-1].ended:
                break
            threading.Event().wait(0.02)
        return answer, records


def test_a_stream_goes_on_under_an_equal_plan_and_both_policies_are_on_record(world):
    """D39: the same plan under a new policy goes on; its records name the policy that was asked."""
    store, proxy = world
    stream = Stream(store, proxy)
    before = proxy.app.gateway.snapshot.version
    proxy.home.write("policy.csv", "# moved down by a line\n" + sales.RULES)
    assert proxy.reload()
    answer, records = stream.end()
    assert answer.whole and records[-1].ended == "whole"
    after = proxy.app.gateway.snapshot.version
    assert [records[0].policy, records[-1].policy] == [before, after]
    assert before != after
    moved = [f"policy.csv:{int(line.partition(':')[2]) + 1}" for line in records[0].lines]
    assert list(records[-1].lines) == moved


@pytest.mark.parametrize(
    "change",
    [
        ("policy.csv", lambda text: text.replace("round(100)", "round(1000)")),
        ("policy.csv", lambda text: text + "p, user:alice, sales/daily, read, true, deny\n"),
        ("policy.csv", lambda text: text + "p2, user:alice, sales/daily, true, units, deny\n"),
        ("policy.csv", lambda text: text.replace("p,  tool:app,     sales/*,", "p, tool:b, sales/*,")),
        ("reports.yaml", lambda text: text.replace("Daily sales", "Weekly sales")),
        ("subjects.yaml", lambda text: text.replace("audience: [counterfoil]", "audience: [other]")),
        ("subjects.yaml", lambda text: text.replace("claim: groups", "claim: memberOf")),
        ("jwks.json", lambda _: Issuer().jwks),
    ],
)  # fmt: skip
def test_a_stream_is_cut_when_its_permit_stands_no_longer(world, change):
    """D39: another plan, a lost grant, an issuer or a key trusted no longer cut what runs."""
    store, proxy = world
    stream = Stream(store, proxy)
    name, changed = change
    path = proxy.home.policies / name
    text = path.read_text()
    assert changed(text) != text
    proxy.home.write(name, changed(text))
    assert proxy.reload()
    answer, records = stream.end()
    assert answer.status == 200 and not answer.whole
    assert (records[-1].step, records[-1].ended) == ("outcome", "policy-changed")
    assert records[-1].bytes >= len(answer.body)
    assert records[-1].policy == proxy.app.gateway.snapshot.version


def test_an_older_reading_never_follows_a_newer_one(world, monkeypatch):
    """PROMISE 3: of two reloads at once, the one that read later is the one that stays."""
    _, proxy = world
    first, second = threading.Event(), threading.Event()
    real = app_module.load_snapshot

    def slow_at_first(*arguments):
        snapshot = real(*arguments)
        if not first.is_set():
            first.set()
            second.wait(1)
        else:
            second.set()
        return snapshot

    monkeypatch.setattr(app_module, "load_snapshot", slow_at_first)

    async def both() -> None:
        older = asyncio.create_task(proxy.app.reload())
        while not first.is_set():  # noqa: ASYNC110 - it is set by a thread
            await asyncio.sleep(0.01)
        proxy.home.write("policy.csv", sales.RULES + "# newer\n")
        newer = asyncio.create_task(proxy.app.reload())
        assert await older
        assert await newer

    proxy._background.run(both())
    files = snapshot_module.read_folder(proxy.home.policies)
    assert proxy.app.gateway.snapshot.version == snapshot_module.version_of(files)


def test_a_reload_that_fails_in_an_unforeseen_way_says_so(world, monkeypatch, caplog):
    """PROMISE 3: whatever a reload raises is said, without its message, and the old policy stays."""
    _, proxy = world
    before = proxy.app.gateway.snapshot

    def broken(*_):
        raise RuntimeError("canary")

    monkeypatch.setattr(app_module, "load_snapshot", broken)
    assert not proxy.reload()
    assert proxy.app.gateway.snapshot is before
    assert "policy not taken" in caplog.text and "canary" not in caplog.text


@pytest.mark.parametrize("cut", range(0, len(sales.RULES), 23))
def test_a_file_cut_anywhere_is_taken_whole_or_not_at_all(cut, whole_world):
    """D34: after a reload of a truncated file the version in force is that of the files, or the old one."""
    _, proxy = whole_world
    before = proxy.app.gateway.snapshot
    proxy.home.write("policy.csv", sales.RULES[:cut])
    taken = proxy.reload()
    after = proxy.app.gateway.snapshot
    files = snapshot_module.read_folder(proxy.home.policies)
    assert after.version == (snapshot_module.version_of(files) if taken else before.version)
    assert taken or after is before


@pytest.fixture(scope="module")
def whole_world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with stage(folder, reports=sales.REPORTS, rules=sales.RULES) as running:
        yield running


@pytest.mark.parametrize("what", ["directory", "fifo", "loop", "nothing", "empty", "binary"])
@pytest.mark.parametrize("name", ["policy.csv", "reports.yaml", "subjects.yaml", "model.conf"])
def test_what_is_no_policy_file_leaves_the_old_policy(whole_world, what, name):
    """D35: a directory, a FIFO, a link to itself, nothing at all: refused, said, and nothing changes."""
    _, proxy = whole_world
    proxy.home.write("policy.csv", sales.RULES)
    before = proxy.app.gateway.snapshot
    path = proxy.home.policies / name
    content = path.read_bytes()
    path.unlink()
    match what:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(name)
        case "empty":
            path.write_bytes(b"")
        case "binary":
            path.write_bytes(bytes(range(256)))
    try:
        assert not proxy.reload()
        assert proxy.app.gateway.snapshot is before
    finally:
        path.rmdir() if what == "directory" else path.unlink(missing_ok=True)
        path.write_bytes(content)
