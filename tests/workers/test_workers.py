"""Worker processes on one port: each with a log of its own, and all of one mind."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import resource
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from click.testing import CliRunner

from proxy import config
from proxy.access import AccessEvent
from proxy.cli import main
from proxy.settings import lowered, share
from tests.audit.records import leaves, logs
from tests.gateway.changing import RULES
from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.faults import Faults
from tests.harness.process import Served
from tests.harness.proxy import SUBJECTS, Home
from tests.harness.store import Page, Store

PATH = "/sales/daily.csv"
TOKEN = "s" * 32
SETTINGS = (
    "workers: 2\nmetrics: {port: 0, token: 'env:SCRAPE_TOKEN'}\n"
    "limits: {requests_per_minute_per_subject: 1000000, requests_per_minute_per_address: 1000000}\n"
)
LARGE = sales.as_csv(sales.rows(40_000))


@pytest.fixture
def store(background):
    store = Store(background)
    store.pages[PATH] = Page(sales.as_csv(sales.rows(5)))
    yield store
    store.close()


@pytest.fixture
def home(tmp_path, store):
    return Home(
        tmp_path / "home",
        reports=sales.REPORTS,
        rules=RULES,
        store=store.url,
        settings=SETTINGS,
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One server for the tests that leave it as they found it."""
    background = Background()
    store = Store(background)
    store.pages[PATH] = Page(sales.as_csv(sales.rows(5)))
    folder = tmp_path_factory.mktemp("w") / "home"
    home = Home(folder, reports=sales.REPORTS, rules=RULES, store=store.url, settings=SETTINGS)
    with served(home) as proxy:
        yield proxy
    store.close()
    background.close()


@contextmanager
def served(home: Home) -> Iterator[Served]:
    with Served(home, SCRAPE_TOKEN=TOKEN) as proxy, proxy.explained():
        yield proxy


class Line:
    """A connection that is kept open, and the worker that it leads to."""

    def __init__(self, proxy: Served) -> None:
        parts = urlsplit(proxy.url)
        self._wire = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        self.worker = self.ask("GET", "/-/live")[1]

    def ask(
        self, method: str, path: str, *, token: str = "", body: object = None
    ) -> tuple[int, str, bytes]:
        """Status, event and body."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body)
        if data:
            headers["Content-Type"] = "application/json"
        self._wire.request(method, path, body=data, headers=headers)
        with self._wire.getresponse() as answer:
            return answer.status, answer.headers["Counterfoil-Event"], answer.read()

    def close(self) -> None:
        self._wire.close()


@contextmanager
def a_line_to_each(proxy: Served, count: int = 2) -> Iterator[list[Line]]:
    """The kernel chooses the worker of a connection; one that is started anew is there soon."""
    found: dict[str, Line] = {}

    def all_found() -> bool:
        line = Line(proxy)
        if found.setdefault(line.worker, line) is not line:
            line.close()
        return len(found) == count

    try:
        soon(all_found)
        yield list(found.values())
    finally:
        for line in found.values():
            line.close()


def alice(home: Home) -> str:
    return home.issuer.token("alice", groups=("analysts",))


def ada(home: Home) -> str:
    return home.issuer.token("ada", groups=("admins",))


def verified(path: Path) -> tuple[int, str]:
    ran = CliRunner().invoke(main, ["log", "verify", "--log", str(path)])
    return ran.exit_code, ran.output


def contiguous(path: Path) -> dict[int, int]:
    """Log -> how many leaves it has, which are all from its first on."""
    found: dict[int, list[int]] = {}
    for place, _ in leaves(path):
        found.setdefault(place >> 40, []).append(place & (1 << 40) - 1)
    for indices in found.values():
        assert indices == list(range(len(indices)))  # in the order of commits
    return {epoch: len(indices) for epoch, indices in found.items()}


def soon(condition) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def pids(proxy: Served) -> list[int]:
    """The workers' processes."""
    listed = Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children").read_text()
    return [int(pid) for pid in listed.split()]


def test_each_worker_answers_and_has_a_log_of_its_own(home):
    """What one answers is in its own log; all logs are sealed and whole at the end."""
    path = home.folder / "access.db"
    with served(home) as proxy:
        with a_line_to_each(proxy) as lines:
            for line in lines:
                status, access, _ = line.ask("GET", PATH, token=alice(home))
                assert status == 200
                (log,) = {
                    one.log for one in proxy.events() if one.access == line.worker and one.log
                }
                number = int(log.rpartition("/")[2])
                assert any(
                    place >> 40 == number and access.encode() in entry
                    for place, entry in leaves(path)
                )
        assert logs(path) == [(1, False), (2, False)]
        assert proxy.close() == 0
        assert "2 workers" in proxy.output
    assert logs(path) == [(1, True), (2, True)]
    assert verified(path)[0] == 0, verified(path)[1]


def test_a_worker_that_is_killed_is_started_anew_and_the_other_goes_on(home, store):
    """Its open accesses become unresolved, by the one that follows it; nobody else notices."""
    path = home.folder / "access.db"

    async def body():
        yield LARGE[: 1 << 20]
        await asyncio.sleep(60)

    store.pages["/sales/daily.csv"] = Page(body)
    with served(home) as proxy:
        before = pids(proxy)
        with wire.asked(proxy.url, PATH, token=alice(home)) as sock:
            received = sock.recv(65536)
            access = wire.parse(received).event
            (place,) = [
                place
                for place, entry in leaves(path)
                if access.encode() in entry and b'"intent"' in entry
            ]
            # Workers are started one after the other: the first has the first log.
            os.kill(before[(place >> 40) - 1], signal.SIGKILL)
            wire.rest(sock)
        store.pages["/sales/daily.csv"] = Page(sales.as_csv(sales.rows(5)))
        soon(lambda: any(one.step == "unresolved" for one in proxy.events()))
        (ended,) = [one for one in proxy.events() if one.step == "unresolved"]
        assert (ended.access, ended.log) == (access, f"counterfoil/{place >> 40}")
        with a_line_to_each(proxy) as lines:
            assert {line.ask("GET", PATH, token=alice(home))[0] for line in lines} == {200}
        assert len(set(pids(proxy)) & set(before)) == 1
        assert re.search(r"ERROR .* was ended by SIGKILL; it is started anew", proxy.output)
    assert [sealed for _, sealed in logs(path)] == [True, True, True]
    contiguous(path)
    assert verified(path)[0] == 10  # an access whose end is not known, and nothing worse


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux")
def test_a_worker_that_cannot_be_started_anew_is_once_it_can(home):
    """Where the system has no room for a process, that is told, and tried again."""
    with served(home) as proxy:
        soon(lambda: "metrics are read at" in proxy.output)
        before = pids(proxy)
        whole = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
        most = max(int(each.name) for each in Path(f"/proc/{proxy.pid}/fd").iterdir()) + 1
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (most, whole[1]))
        os.kill(before[0], signal.SIGKILL)
        soon(lambda: "could not be started" in proxy.output)
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, whole)
        soon(lambda: len(pids(proxy)) == 2)
        with a_line_to_each(proxy) as lines:
            assert {line.ask("GET", PATH, token=alice(home))[0] for line in lines} == {200}


def test_a_worker_that_lost_its_log_makes_room_for_one_with_another(home):
    """Nobody is refused for ever by a worker that can put nothing on record."""
    path = home.folder / "access.db"
    with served(home) as proxy:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("UPDATE log SET sealed = 'x' WHERE epoch = 1")
        with a_line_to_each(proxy) as lines:
            answers = {line.ask("GET", PATH, token=alice(home))[0] for line in lines}
            assert answers == {200, 503}
        soon(lambda: len(logs(path)) == 3)
        soon(lambda: "is lost to this worker" in proxy.output)
        with a_line_to_each(proxy) as lines:
            assert {line.ask("GET", PATH, token=alice(home))[0] for line in lines} == {200}


def test_a_lockdown_is_in_force_in_all_workers_when_it_is_answered_and_so_is_its_end(running):
    """Whichever worker is asked, the next request of any is decided by it; a broken file changes nothing."""
    proxy, home = running, running.home
    with a_line_to_each(proxy) as lines:
        for asked in lines:
            for broken in (False, True):
                if broken:
                    home.write("policy.csv", "this is no rule\n")
                body = {"reports": "sales/*", "reason": "leak"}
                status, _, said = asked.ask("POST", "/-/lockdowns", token=ada(home), body=body)
                assert status == 201 and "pending" not in json.loads(said)
                assert {line.ask("GET", PATH, token=alice(home))[0] for line in lines} == {404}
                other = next(line for line in lines if line is not asked)
                path = f"/-/lockdowns/{json.loads(said)['id']}"
                status, _, said = other.ask("DELETE", path, token=ada(home))
                assert status == 200 and "pending" not in json.loads(said)
                assert {line.ask("GET", PATH, token=alice(home))[0] for line in lines} == {200}
            home.write("policy.csv", RULES)


@pytest.mark.threat("C30")
def test_a_token_for_one_request_is_good_for_one_of_one_worker(home):
    """Whichever worker it is presented to first takes it in all of them."""
    once = SUBJECTS.format(issuer=home.issuer.name).replace(
        "prefix:", "single_use: 10\n    prefix:"
    )
    home.write("subjects.yaml", once)
    with served(home) as proxy, a_line_to_each(proxy) as lines:
        for first, second in (lines, lines[::-1]):
            presented = home.issuer.token("alice", groups=("analysts",), jti=first.worker)
            assert first.ask("GET", PATH, token=presented)[0] == 200
            for line in (second, first, second):
                assert line.ask("GET", PATH, token=presented)[0] == 401


def test_changes_that_several_workers_are_asked_for_at_once_all_hold(running):
    """None undoes another, whichever is first."""
    proxy, home = running, running.home
    with a_line_to_each(proxy) as lines:
        said: list[str] = []

        def grants(line: Line, name: str) -> None:
            for number in range(5):
                body = {
                    "subject": f"user:{name}{number}", "report": "sales/daily", "role": "role:analyst",
                    "seconds": 3600, "reason": "x",
                }  # fmt: skip
                status, _, answer = line.ask("POST", "/-/grants", token=ada(home), body=body)
                assert status == 201, answer
                said.append(json.loads(answer)["id"])

        threads = [
            threading.Thread(target=grants, args=(line, name))
            for line, name in zip(lines, ("nora", "nick"), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        text = (home.policies / "grants.csv").read_text()
        assert len(said) == 10 and all(id_ in text for id_ in said)
        for line in lines:
            for name in ("nora4", "nick4"):
                token = home.issuer.token(name)
                assert line.ask("GET", PATH, token=token)[0] == 200


def test_a_hangup_has_all_workers_take_the_policy(running):
    """SIGHUP to the one process that an operator knows."""
    proxy, home = running, running.home
    with a_line_to_each(proxy) as lines:
        home.write("policy.csv", RULES + "p, anyone, sales/*, read, true, deny\n")
        proxy.process.send_signal(signal.SIGHUP)
        for line in lines:
            soon(lambda line=line: line.ask("GET", PATH, token=alice(home))[0] == 404)
        home.write("policy.csv", RULES)
        for line in lines:  # noticed by each of them
            soon(lambda line=line: line.ask("GET", PATH, token=alice(home))[0] == 200)


def test_metrics_are_told_of_each_worker(running):
    """One place tells of all, each sample with its worker, so that they can be added up."""
    proxy, home = running, running.home
    with a_line_to_each(proxy) as lines:
        soon(lambda: "metrics are read at" in proxy.output)
        (url,) = re.findall(r"metrics are read at (\S+)/metrics", proxy.output)

        def permits() -> dict[str, float]:
            text = wire.get(url, "/metrics", token=TOKEN).body.decode()
            found = re.findall(
                r'decisions_total\{decision="permit".*"sales/daily",worker="(.)"\} (\S+)', text
            )
            return {worker: float(count) for worker, count in found}

        before = permits()
        for number, line in enumerate(lines, 1):
            for _ in range(number):
                line.ask("GET", PATH, token=alice(home))
        more = {worker: count - before.get(worker, 0) for worker, count in permits().items()}
        assert more.keys() == {"0", "1"} and sorted(more.values()) == [1, 2]
        text = wire.get(url, "/metrics", token=TOKEN).body.decode()
        assert text.count("# HELP counterfoil_decisions_total") == 1
        for worker in "01":
            assert f'counterfoil_worker_up{{worker="{worker}"}} 1.0' in text
            assert re.search(rf'process_cpu_seconds_total\{{worker="{worker}"\}}', text)
        assert wire.get(url, "/metrics", token="wrong" * 8).status == 401
        text = wire.get(url, "/metrics", token=TOKEN).body.decode()
        assert 'counterfoil_metrics_connections_refused_total{cause="wrong-token"} 1.0' in text


def test_a_stop_lets_all_workers_end_what_they_do(home, store):
    """An answer that is under way is whole, whichever worker gives it."""
    gate = asyncio.Event()

    async def body():
        yield LARGE[: 1 << 20]
        await gate.wait()
        yield LARGE[1 << 20 :]

    store.pages[PATH] = Page(body)
    with served(home) as proxy:
        socks = [wire.asked(proxy.url, PATH, token=alice(home)) for _ in range(8)]
        received = [bytearray(sock.recv(4096)) for sock in socks]
        assert all(received)
        proxy.process.send_signal(signal.SIGTERM)
        soon(lambda: "stopping" in proxy.output)
        store._background.loop.call_soon_threadsafe(gate.set)
        for sock, some in zip(socks, received, strict=True):
            with sock:
                assert wire.parse(bytes(some + wire.rest(sock))).whole
        assert proxy.process.wait(30) == 0
    assert verified(home.folder / "access.db")[0] == 0


def test_workers_end_with_their_supervisor(home):
    """None is left behind on the port, however the supervisor ends."""
    with served(home) as proxy:
        workers = pids(proxy)
        proxy.kill()
        soon(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers))


def test_a_port_that_is_taken_and_a_fault_at_the_start_are_named_once(home):
    """No two servers share a port unseen, and one message says what is wrong."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        text = home.settings.read_text()
        home.settings.write_text(text.replace("port: 0}\npolicies", f"port: {port}}}\npolicies"))
        with pytest.raises(RuntimeError, match=f"cannot listen on 127.0.0.1:{port}"):
            Served(home, SCRAPE_TOKEN=TOKEN)
        home.settings.write_text(text)
    home.write("policy.csv", "this is no rule\n")
    with pytest.raises(RuntimeError) as failed:
        Served(home, SCRAPE_TOKEN=TOKEN)
    assert str(failed.value).count("policy.csv:1") == 1
    assert "worker 0 could not be started" in str(failed.value)
    assert "Traceback" not in str(failed.value)


@pytest.mark.threat("H69")
def test_clocks_that_are_a_day_off_leave_each_log_contiguous_and_each_time_as_it_was_told(
    home, store, tmp_path
):
    """Two servers with one log, one a day ahead and one a day behind: nothing is reordered, lost or invalid."""
    home.settings.write_text(home.settings.read_text().replace("workers: 2", "workers: 1"))
    day, now = 86_400, time.time()
    with ExitStack() as stack:
        servers = []
        for name, off in (("ahead", day), ("behind", -day)):
            (tmp_path / name).mkdir()
            faults = stack.enter_context(closing(Faults(tmp_path / name, clock_off=off)))
            environment = {**faults.environment, "SCRAPE_TOKEN": TOKEN}
            servers.append(stack.enter_context(Served(home, **environment)))
        times = {"iat": int(now) - 2 * day, "exp": int(now) + 2 * day}
        presented = home.issuer.token("alice", groups=("analysts",), **times)
        answers = [wire.get(server.url, PATH, token=presented) for server in servers * 4]
        assert {answer.status for answer in answers} == {200}
    events = {event.access: event for event in servers[0].events() if event.step == "complete"}
    told = [events[answer.event] for answer in answers]
    assert [event.at for event in told[::2]] == sorted(event.at for event in told[::2])
    assert all(ahead.at > behind.at for ahead in told[::2] for behind in told[1::2])
    path = home.folder / "access.db"
    assert contiguous(path).keys() == {1, 2}
    status, output = verified(path)
    assert status == 0, output


def load(proxy: Served, home: Home, *, clients: int, seconds: float) -> Counter[str]:
    """Access -> how many answers had it; so many clients ask again as soon as they have an answer."""
    token, until = alice(home), time.monotonic() + seconds
    answered: Counter[str] = Counter()
    faults: list[BaseException] = []

    def client() -> None:
        try:
            line = Line(proxy)
            with closing(line):
                while time.monotonic() < until:
                    status, access, body = line.ask("GET", PATH, token=token)
                    assert status == 200 and body
                    answered[access] += 1
        except BaseException as fault:  # noqa: BLE001 - told in the test's own thread
            faults.append(fault)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults[0]
    return answered


def exactly_once(events: list[AccessEvent], answered: Counter[str]) -> None:
    """Each answer has its one record, and no record is of nothing that was answered."""
    assert set(answered.values()) == {1}
    recorded = Counter(one.access for one in events if one.step == "complete")
    assert recorded == answered


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.prove)])
def test_under_load_every_answer_has_its_records_exactly_once_and_logs_are_contiguous(
    home, seconds
):
    """64 clients on two workers: whole logs, which verify."""
    path = home.folder / "access.db"
    with served(home) as proxy:
        answered = load(proxy, home, clients=64, seconds=seconds)
        assert proxy.close() == 0
    exactly_once(proxy.events(), answered)
    sizes = contiguous(path)
    assert len(sizes) == 2 and min(sizes.values()) > 2
    status, said = verified(path)
    assert status == 0, said


def test_what_all_may_take_together_is_divided_among_workers(home):
    """PROMISE 4 (bounded memory): no bound is multiplied, and what its share is too small for is told."""
    settings = config.load(home.settings, {}).settings
    part, whole = share(settings), settings
    for name in ("requests_per_subject", "sorts", "counts", "spools_bytes", "kept_bytes"):
        assert getattr(part.limits, name) * 2 == getattr(whole.limits, name)
    assert part.reveal.cells_per_hour * 2 == whole.reveal.cells_per_hour
    assert part.reveal.cells_per_minute * 2 == whole.reveal.cells_per_minute
    assert part.stores.connections * 2 == whole.stores.connections
    assert list(lowered(settings)) == []
    many = share(msgspec.structs.replace(settings, workers=9))
    assert many.limits.spool_bytes == many.limits.spools_bytes == whole.limits.spools_bytes // 9
    assert many.reveal.cells == many.reveal.cells_per_minute == 111
    told = {name for name, _, _ in lowered(msgspec.structs.replace(settings, workers=9))}
    assert told == {"spool_bytes", "kept_view_bytes", "cells"}


def test_a_store_s_own_connections_are_divided_among_workers(tmp_path, background, store):
    """PROMISE 4 (bounded memory): what the catalogue says of a store holds for all workers together."""
    home = Home(
        tmp_path / "home",
        reports=sales.REPORTS.replace(
            "loopback: true}", "loopback: true, limits: {connections: 4}}"
        ),
        rules=RULES,
        store=store.url,
        settings=SETTINGS,
    )
    under_way, most = 0, 0

    async def slow():
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.2)
        under_way -= 1
        yield sales.as_csv(sales.rows(5))

    store.pages[PATH] = Page(slow)
    with served(home) as proxy, ExitStack() as stack:
        lines = [each for _ in range(3) for each in stack.enter_context(a_line_to_each(proxy))]
        answers = []
        threads = [
            threading.Thread(
                target=lambda line=line: answers.append(line.ask("GET", PATH, token=alice(home))[0])
            )
            for line in lines
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 6
        assert most == 4  # of six, two of each worker
