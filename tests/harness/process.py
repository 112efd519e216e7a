"""The proxy as a process of its own, for tests that kill it, starve it or read what it prints."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from proxy.access import AccessEvent
from tests.harness import telltale, wire
from tests.harness.proxy import Home

ROOT = Path(__file__).parents[2]
LAUNCH = """
import ctypes, os, resource, runpy, sys
if files := os.environ.pop("TEST_FILES", ""):
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), int(files)))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
runpy.run_module("proxy", run_name="__main__", alter_sys=True)
"""
"""`python -m proxy`, which may open so many files, and does not outlive the process of its test, however that ends."""


class Served:
    """`counterfoil serve`; `output` is what it has printed so far."""

    def __init__(self, home: Home, *, files: int = 0, **environment: str) -> None:
        """`files`: how many it may open, where that is bounded."""
        self.home = home
        if files:
            environment["TEST_FILES"] = str(files)
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, "serve", "-c", str(home.settings)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        listening = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(listening,), daemon=True)
        self._reader.start()
        if not listening.wait(120) or not self.url:
            self.close()
            raise RuntimeError(f"the proxy did not start:\n{self.output}")

    url = ""

    def _read(self, listening: threading.Event) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if found := re.search(r"listens on (https?://\S+)", line):
                self.url = found[1]
                listening.set()
        listening.set()

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)
        self._reader.join(30)

    def close(self) -> int:
        """Stop it as an operator does; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self._reader.join(30)
            if self.process.stdout is not None:
                self.process.stdout.close()
        telltale.check(self.output, "what the proxy printed")
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Whatever fails within is told with what became of the process, and what it printed."""
        try:
            yield
        except BaseException as failure:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)  # one that is dying has a second to be dead
            status = self.process.poll()
            state = "still runs" if status is None else f"ended with status {status}"
            ends = [
                f"{e.access} {e.report} {e.step} {e.cause or e.ended}" for e in self.events()[-5:]
            ]
            failure.add_note(
                f"the proxy {state}; its last events: {ends}; it printed:\n{self.output[-4000:]}"
            )
            raise

    def get(self, target: str, *, token: str | None = None, **more: object) -> wire.Answer:
        return wire.get(self.url, target, token=token, **more)  # type: ignore[arg-type]

    def events(self) -> list[AccessEvent]:
        return self.home.events()
