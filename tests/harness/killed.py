"""Servers that are killed: at a step of theirs, at a system call, or from outside; one after another."""

from __future__ import annotations

import array
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from tests.harness import telltale
from tests.harness.process import ROOT


@dataclass(frozen=True, kw_only=True)
class Step:
    """A function of the product at which the process ends, before or after its call."""

    target: str
    after: bool = False
    only: str = ""
    """What must be among what it is given: a word, the step of an event, the name of a file."""
    number: int = 1
    """At which call."""
    constants: Mapping[str, int] = field(default_factory=dict)
    """Of the product, set to other values, so that the step is reached soon."""


class Stopping:
    """The process that servers are forked from: all is imported already, which takes most of a start."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._control, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.stopping", str(theirs.fileno())],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._answers = self._control.makefile("rb")

    def start(self, settings: Path, step: Step | None = None) -> Killed:
        """A server of its own; one at a time."""
        reading, writing = os.pipe()
        asked = {"settings": str(settings), "step": asdict(step) if step else None}
        descriptors = array.array("i", [writing])
        self._control.sendmsg(
            [json.dumps(asked).encode()],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)],
        )
        os.close(writing)
        return Killed(int(self._answers.readline()), reading, self._answers.readline)

    def close(self) -> None:
        self._answers.close()
        self._control.close()
        self._process.kill()
        self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Killed:
    """One server. `output` is what it has printed so far."""

    def __init__(self, pid: int, reading: int, status) -> None:
        self.pid = pid
        self.url = ""
        self.output = ""
        self._status = status
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._reader.start()

    def _read(self, reading: int) -> None:
        with os.fdopen(reading) as output:
            for line in output:
                self.output += line
                if found := re.search(r"listens on (https?)://\S+:([0-9]+)", line):
                    host = "localhost" if found[1] == "https" else "127.0.0.1"
                    self.url = f"{found[1]}://{host}:{found[2]}"
                    self._listening.set()
        self._listening.set()

    def listens(self) -> bool:
        """Wait until it does; whether it ever will."""
        assert self._listening.wait(120)
        return bool(self.url)

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def ended(self) -> int:
        """Wait for its end; its exit status."""
        self._reader.join(30)
        assert not self._reader.is_alive(), f"it still runs:\n{self.output}"
        telltale.check(self.output, "what the server printed")
        return int(self._status())
