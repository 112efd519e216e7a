"""Faults of disks, sockets and clocks in a real process: a library that is loaded before the C library (faults.c).

A kernel that fails a write or a sync cannot be had on every machine: device mapper, FUSE and a remount of
what is being written to all need more than a container gives. What the library answers is what the kernel
does: EIO of a dying disk, EROFS of a file system that ext4 has made read-only, ENOSPC of a full one.
"""

from __future__ import annotations

import enum
import errno
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("faults.c")
_FOLDER = tempfile.TemporaryDirectory(prefix="counterfoil-faults-")
_LAYOUT = struct.Struct("<iiiiii104s")


class Calls(enum.IntFlag):
    """System calls, of the file in question or of any socket."""

    WRITE = 1
    SYNC = 2
    SEND = 4
    RENAME = 8


class Action(enum.IntEnum):
    """What becomes of a call."""

    FAIL = 1
    KILL_BEFORE = 2
    KILL_TORN = 3
    """Half of what is to be written is, and then the process is killed."""
    KILL_AFTER = 4


@cache
def _library() -> Path:
    """The library, compiled once; skips the test where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    made = Path(_FOLDER.name) / "faults.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", made, _SOURCE, "-ldl", "-pthread"], check=True
    )
    return made


class Faults:
    """What is to go wrong in the processes that are started with `environment`."""

    def __init__(self, folder: Path, *, synced: Path | None = None, clock_off: int = 0) -> None:
        """In `synced`, what the access log's files were when they were last synced is kept.

        `clock_off`: by how many seconds the time of day is another one.
        """
        path = folder / "faults"
        path.write_bytes(bytes(_LAYOUT.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _LAYOUT.size)
        self.environment = {"LD_PRELOAD": str(_library()), "FAULTS_CONTROL": str(path)}
        if clock_off:
            self.environment["FAULTS_CLOCK"] = str(clock_off)
        if synced is not None:
            self.environment["FAULTS_SYNCED"] = str(synced)

    def set(
        self,
        calls: Calls,
        ending: str = "",
        *,
        action: Action = Action.FAIL,
        error: int = errno.EIO,
        skip: int = 0,
        process: int = 0,
    ) -> None:
        """From now on, after `skip` more of them, such calls on files whose paths end so go wrong.

        `*…` is what is anywhere in a path; `process` the one in which they do, 0 any.
        """
        self.clear()
        self._map[:] = _LAYOUT.pack(0, action, error, skip, 0, process, os.fsencode(ending))
        self._map[:4] = struct.pack("<i", calls)  # last: so that nobody sees half of it

    def clear(self) -> None:
        """All goes well again."""
        self._map[:4] = bytes(4)

    @property
    def hits(self) -> int:
        """How many calls went wrong since `set`."""
        return int(struct.unpack_from("<i", self._map, 16)[0])

    def close(self) -> None:
        self._map.close()
