"""A demo started as a person would, for the tests of what it does and of what is done with it."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import BinaryIO, NamedTuple

ROOT = Path(__file__).parents[2]


class Running(NamedTuple):
    """The demo's process, the terminal that it was started in, and where its servers listen."""

    folder: Path
    process: subprocess.Popen[str]
    terminal: BinaryIO
    ports: tuple[int, int]
    """The proxy's and the store's."""
    proxy: int
    """The proxy's process id, as the guide tells it."""

    def get(self, target: str, *, token: str | None = None) -> tuple[int, str]:
        """Ask with a token, or as nobody."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        context = ssl.create_default_context(cafile=self.folder / "certs" / "dev" / "ca.crt")
        connection = HTTPSConnection("127.0.0.1", self.ports[0], timeout=20, context=context)
        try:
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def everything_stopped(self) -> None:
        """Wait for the demo to end well; then nothing listens any more."""
        assert self.process.wait(30) == 0
        for port in self.ports:
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[Running]:
    """Run the demo in a folder, with a terminal and these options; stop it in the end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        ports = one.getsockname()[1], two.getsockname()[1]
    outer, inner = os.openpty()
    places = ("--port", str(ports[0]), "--store-port", str(ports[1]))
    with (
        os.fdopen(outer, "rb", buffering=0) as terminal,
        subprocess.Popen(
            [sys.executable, "-m", "proxy", "demo", "run", *places, *options],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=inner,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        os.close(inner)
        try:
            assert process.stdout is not None
            told = next(line for line in process.stdout if "kill -HUP" in line)
            yield Running(folder, process, terminal, ports, int(told.split()[-1]))
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()
