"""No core dump: of the server, nor of what it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import sales
from tests.harness.process import Served
from tests.harness.proxy import Home

LINUX = pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="needs Linux's /proc")
FORBID = """
import ctypes
from proxy import cores
dumpable = lambda: ctypes.CDLL(None).prctl(3)  # PR_GET_DUMPABLE
print(dumpable())
cores.forbid()
print(dumpable())
"""


@LINUX
def test_the_server_leaves_no_core_dump(tmp_path):
    """The running server's limit is 0, hard and soft, whatever it was started with."""
    home = Home(tmp_path, reports=sales.REPORTS, rules=sales.RULES, store="http://127.0.0.1:9")
    with Served(home) as proxy:
        limits = Path(f"/proc/{proxy.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]


@LINUX
def test_nobody_reads_its_memory_by_the_kernel_either():
    """The kernel holds the process for one that is not dumped, so a dump that is piped to a program is none."""
    done = subprocess.run(
        [sys.executable, "-c", FORBID], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "0"]
