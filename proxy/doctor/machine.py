"""What the system allows: open files, memory, core dumps, and whether its clock can be relied on."""

from __future__ import annotations

import asyncio
import ctypes
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from proxy import cores
from proxy.app import OTHER_FILES
from proxy.config import Config
from proxy.doctor.finding import Finding, Patient, State
from proxy.settings import share

_ALONE: Final = 160 << 20
"""What a process takes without any request."""
_SORTED, _COUNTED, _UNPACKED, _GROUPS = 5, 4, 4, 3
"""How many times their bytes answers take that are sorted, counted, of workbooks, of row groups."""
_SAMPLE: Final = 0.2
_APART: Final = 0.05
"""Seconds by which the two clocks may differ over a sample."""
_PR_GET_DUMPABLE: Final = 3
_STA_UNSYNC: Final = 0x0040
"""From linux/prctl.h and linux/timex.h."""


async def open_files(patient: Patient) -> Iterable[Finding]:
    """Whether as many connections as the settings name can be open at once."""
    settings = share(patient.config.settings)
    needed = settings.limits.connections + settings.stores.connections + OTHER_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        return [
            Finding(
                check="open files",
                what="RLIMIT_NOFILE",
                state=State.WARN,
                text=f"a process may open {hard} files, and `limits.connections` and"
                f" `stores.connections` ask for {needed}",
                fix="raise the limit (systemd: LimitNOFILE=), or lower both",
                command=f"ulimit -n {needed}",
            )
        ]
    text = f"{needed} are enough, and {'any number' if hard == resource.RLIM_INFINITY else hard} may be"
    return [Finding(check="open files", what="RLIMIT_NOFILE", state=State.OK, text=text)]


async def memory(patient: Patient) -> Iterable[Finding]:
    """Whether there is as much memory as the settings let answers take at once."""
    most = _most(patient.config)
    there = _available()
    if there is None:
        text = f"at most {most >> 20} MiB may be taken; what there is is not told here"
        return [Finding(check="memory", what="limits", state=State.OK, text=text)]
    if there < most:
        return [
            Finding(
                check="memory",
                what="limits",
                state=State.WARN,
                text=f"{there >> 20} MiB are available, and answers may take {most >> 20} MiB at once",
                fix="lower `limits.sorts`, `counts`, `sheet_bytes`, `row_group_bytes`, or `workers`",
            )
        ]
    text = f"answers may take {most >> 20} MiB at once, and {there >> 20} MiB are available"
    return [Finding(check="memory", what="limits", state=State.OK, text=text)]


def _most(config: Config) -> int:
    """About how many bytes all workers take where each does as much at once as it may."""
    own = share(config.settings)
    limits = own.limits
    at_once = max(_UNPACKED * limits.sheet_bytes, _GROUPS * limits.row_group_bytes)
    each = (
        _ALONE
        + limits.sorts * _SORTED * limits.sort_bytes
        + limits.counts * _COUNTED * limits.group_bytes
        + own.threads * at_once
    )
    return own.workers * each


def _available() -> int | None:
    """Bytes that may still be had: of the machine, or of the control group where that is less."""
    found: list[int] = []
    try:
        known = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) << 10 for line in known if line.startswith("MemAvailable:")]
        group = Path("/proc/self/cgroup").read_text(encoding="utf-8").strip().rpartition("::")[2]
        for place in {Path("/sys/fs/cgroup") / group.lstrip("/"), Path("/sys/fs/cgroup")}:
            limit = place / "memory.max"
            if limit.is_file() and (text := limit.read_text(encoding="ascii").strip()) != "max":
                found.append(int(text))
    except (OSError, ValueError):
        pass  # a system that tells nothing, or another version of control groups
    return min(found, default=None)


async def core_dumps(_: object) -> Iterable[Finding]:
    """Whether keys and rows can be kept out of core dumps here."""
    cores.forbid()
    good = resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    if sys.platform == "linux":
        good &= ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0
    if good:
        text = "the proxy leaves none"
        return [Finding(check="core dumps", what="RLIMIT_CORE", state=State.OK, text=text)]
    return [
        Finding(
            check="core dumps",
            what="RLIMIT_CORE",
            state=State.FAIL,
            text="the system does not let the proxy forbid them: one would hold keys and rows",
            fix="forbid them for its user (systemd: LimitCORE=0)",
            command="ulimit -c 0",
        )
    ]


async def clock(_: object) -> Iterable[Finding]:
    """Whether the machine's clock goes evenly, and is kept right by the network's."""
    wall, steady = time.time(), time.monotonic()
    await asyncio.sleep(_SAMPLE)
    apart = (time.time() - wall) - (time.monotonic() - steady)
    keep = "keep it by the network's time (chrony, systemd-timesyncd), which corrects it slowly"
    if abs(apart) > _APART:
        return [
            Finding(
                check="clocks",
                what="this machine",
                state=State.FAIL,
                text=f"the clock went {apart:+.2f} s beside the steady one within {_SAMPLE} s",
                fix=f"see what sets it; {keep}",
                command="timedatectl timesync-status",
            )
        ]
    if _unsynchronised():
        return [
            Finding(
                check="clocks",
                what="this machine",
                state=State.WARN,
                text="the kernel's clock is not synchronised: tokens may count too early or too long",
                fix=keep,
                command="timedatectl set-ntp true",
            )
        ]
    return [Finding(check="clocks", what="this machine", state=State.OK, text="goes evenly")]


def _unsynchronised() -> bool:
    """Whether the kernel says so (adjtimex(2)); False where it says nothing."""
    if sys.platform != "linux":
        return False
    buffer = ctypes.create_string_buffer(512)  # struct timex, zero: nothing is set
    if ctypes.CDLL(None).adjtimex(buffer) < 0:
        return False
    # int modes; long offset, freq, maxerror, esterror; int status
    word = ctypes.sizeof(ctypes.c_long)
    status = ctypes.c_int.from_buffer(buffer, 5 * word).value
    return bool(status & _STA_UNSYNC)
