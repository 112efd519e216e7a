"""The demo's processes: nothing starts where it cannot, and nothing is left running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.demo.material import prepare
from proxy.demo.run import guide, run
from proxy.errors import CounterfoilError

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
