"""The demo's processes: nothing starts where it cannot, and nothing is left running."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime
from http.client import HTTPSConnection
from itertools import chain
from pathlib import Path

import pytest

from proxy.audit import Reader
from proxy.demo.material import Material, prepare
from proxy.demo.people import PEOPLE, token
from proxy.demo.run import guide, run
from proxy.demo.sales import FIELDS
from proxy.errors import CounterfoilError
from tests.demo import running

HOLDER = """
import time
from proxy.demo.run import child
with child("http.server", "0", "--bind", "127.0.0.1") as process:
    print(process.pid, flush=True)
    {then}
"""


@pytest.fixture
def taken():
    """A port on which something listens, and another one that is free."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_server(("127.0.0.1", 0)) as other:
            free = other.getsockname()[1]
        yield listener.getsockname()[1], free


@pytest.fixture
def demo(tmp_path):
    """The demo, as `make run` starts it."""
    with running.demo(tmp_path) as started:
        yield started


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def wait_until_gone(pid: int) -> None:
    for _ in range(1000):
        if is_gone(pid):
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("a child outlived its parent")


def hold(then: str) -> tuple[subprocess.Popen[str], int]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(then=then)], stdout=subprocess.PIPE, text=True
    )
    return holder, int(holder.stdout.readline())


def counterfoil(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What `counterfoil demo …` says in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "proxy", "demo", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(running.ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_demo_shows_each_of_them_their_own_report(demo):
    """Analyst, owner, investigator and nobody get of one report what the guide says of it."""
    material = Material(root=demo.folder)
    key, key_id = material.issuer_key.read_bytes(), material.key_id
    tokens = {n: token(n, key=key, key_id=key_id, now=time.time()) for n in PEOPLE}
    target = "/sales/store-daily.csv?from=2026-01-01&to=2026-01-03"
    views = {}
    for name in ("alice", "sam", "erin"):
        status, body = demo.get(target, token=tokens[name])
        assert status == 200
        views[name] = list(csv.DictReader(io.StringIO(body, newline=""), strict=True))
    alice, sam, erin = views.values()
    assert len(alice) == len(erin) > len(sam) > 0
    assert not alice[0].keys() & {"gross_margin", "buyer_email", "licence_no"}
    assert all(int(row["net_sales"]) % 100 == 0 for row in alice)
    assert not {row["store_name"] for row in alice} & {row["store_name"] for row in erin}
    assert {row["store_id"] for row in sam} <= {"2191", "2192"}
    assert set(FIELDS) - sam[0].keys() == {"buyer_email"}
    assert set(FIELDS) == erin[0].keys()
    assert not any("@" in row["buyer_email"] for row in erin)
    assert not any(row["licence_no"].startswith("LIC-") for row in erin)
    as_owner = [row for row in erin if row["store_id"] in ("2191", "2192")]
    for own, row in zip(sam, as_owner, strict=True):
        assert own | {"licence_no": ""} == {n: row[n] for n in own} | {"licence_no": ""}
    assert demo.get(target.replace(".csv", ".json"), token=tokens["sam"])[0] == 200
    assert demo.get("/sales/producers.json", token=tokens["alice"])[0] == 200
    assert [demo.get(target, token=tokens[name])[0] for name in ("nora", "ada", "otto")] == [
        404
    ] * 3
    assert demo.get(target)[0] == 401
    assert {demo.get("/finance/payroll.csv", token=t)[0] for t in tokens.values()} == {404}
    demo.process.send_signal(signal.SIGINT)
    demo.everything_stopped()


def test_the_command_line_prints_a_token_that_works(demo):
    """What `counterfoil demo token NAME` prints is a token of the running demo."""
    printed = counterfoil("token", "sam", folder=demo.folder)
    assert demo.get("/sales/store-daily.csv?store_id=2191", token=printed.stdout.strip())[0] == 200


def test_a_download_that_the_end_cuts_is_on_record_as_stopped(demo):
    """Ctrl-C waits for the end of what the proxy records, so that no access is left unresolved."""
    printed = counterfoil("token", "erin", folder=demo.folder)
    context = ssl.create_default_context(cafile=demo.folder / "certs" / "dev" / "ca.crt")
    connection = HTTPSConnection("127.0.0.1", demo.ports[0], timeout=20, context=context)
    headers = {"Authorization": f"Bearer {printed.stdout.strip()}"}
    with contextlib.closing(connection):
        connection.request("GET", "/sales/store-daily.csv", headers=headers)
        assert connection.getresponse().read(1000)
        demo.process.send_signal(signal.SIGINT)
        demo.everything_stopped()
    with Reader(demo.folder / ".demo" / "access.db") as reader:
        assert next(iter(reader.query())).outcome == "stopped"


@pytest.mark.parametrize(
    "words", [("--port", "99999999"), ("--port", "0"), ("--store-port", "-1"), ("--rows", "-5"),
              ("--rows", "99999999")]
)  # fmt: skip
def test_what_no_demo_can_have_is_refused_before_anything_is_made(tmp_path, words):
    """A port or a number of rows out of range is told, and no settings are left that never start."""
    done = counterfoil("run", *words, folder=tmp_path)
    assert done.returncode == 2
    assert "is not in the range" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--port", "--store-port"])
def test_a_demo_is_not_made_with_a_port_that_is_taken(tmp_path, taken, option):
    """It would keep it, and never start."""
    busy, free = taken
    ports = {"--port": str(free), "--store-port": str(free)} | {option: str(busy)}
    done = counterfoil("run", *chain.from_iterable(ports.items()), folder=tmp_path)
    assert done.returncode == 1
    assert f"127.0.0.1:{busy}" in done.stderr
    assert f"or name another port with {option}\n" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_demo_that_there_is_keeps_its_ports_and_says_so(tmp_path, taken):
    """Options that count for a new demo alone are not ignored in silence, and its own are no news."""
    busy, free = taken
    prepare(tmp_path, now=datetime.now(UTC), port=busy, store_port=free)
    done = counterfoil("run", "--port", "9443", "--store-port", "9701", folder=tmp_path)
    assert (
        f"--port is for a new demo: this one has {busy}, in .demo/counterfoil.yaml" in done.stderr
    )
    assert f"this one has {free}, in .demo/policies/reports.yaml" in done.stderr
    done = counterfoil("run", "--port", str(busy), folder=tmp_path)
    assert "is for a new demo" not in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("end", ["SIGTERM", "SIGHUP", "terminal"])
def test_nothing_is_left_running(demo, end):
    """However the demo is told to stop, it ends well and has stopped the proxy and the store."""
    if end == "terminal":
        demo.terminal.close()
    else:
        demo.process.send_signal(signal.Signals[end])
    demo.everything_stopped()


def test_a_child_that_stops_by_itself_ends_the_demo(demo):
    """Where the proxy dies, the store is stopped too, and the demo's exit status is a failure."""
    os.kill(demo.proxy, signal.SIGKILL)
    assert demo.process.wait(30) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a parent's death")
def test_children_stop_when_their_parent_is_killed():
    """Where the demo is killed without a chance to clean up, its children stop all the same."""
    holder, pid = hold("time.sleep(600)")
    with holder:
        assert not is_gone(pid)
        holder.kill()
    wait_until_gone(pid)


@pytest.mark.parametrize("then", ["pass", "raise SystemExit(3)"])
def test_children_are_stopped_at_the_end(then):
    """However the demo ends, its children have ended before it."""
    holder, pid = hold(then)
    with holder:
        holder.wait(20)
    assert is_gone(pid)


@pytest.mark.parametrize("which", ["port", "store_port"])
def test_a_taken_port_is_named_with_the_file_that_sets_it(tmp_path, taken, which):
    """Where a port is taken nothing starts; the message says which, and where to change it."""
    busy, free = taken
    ports = {"port": free, "store_port": free} | {which: busy}
    material = prepare(tmp_path, now=datetime.now(UTC), **ports)
    said = []
    with pytest.raises(CounterfoilError) as raised:
        run(material, rows=1, say=said.append)
    file = {"port": "counterfoil.yaml", "store_port": "reports.yaml"}[which]
    assert f"127.0.0.1:{busy}" in str(raised.value)
    assert file in str(raised.value)
    assert not said


def test_the_guide_asks_as_each_of_them(tmp_path):
    """The guide has a line for each kind of requester, for nobody, and for the log."""
    material = prepare(tmp_path, now=datetime.now(UTC))
    text = guide(material, "https://127.0.0.1:8443", 17)
    lines = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    for name in ("alice", "sam", "erin", "nora", "ada"):
        assert any(f"demo token {name})" in line for line in lines), name
    assert any(line.startswith("curl") and "Authorization" not in line for line in lines)
    assert any("log tail" in line for line in lines)
    assert all(str(material.ca) in line for line in lines if line.startswith("curl"))
