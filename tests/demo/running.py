"""A demo started as a person would, for the tests of what is done with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextmanager
def demo(folder: Path, *, rows: int) -> Iterator[int]:
    """Run the demo in a folder, and stop it; gives the proxy's port."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        ports = one.getsockname()[1], two.getsockname()[1]
    options = ("--port", str(ports[0]), "--store-port", str(ports[1]), "--rows", str(rows))
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "demo", "run", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert any("kill -HUP" in line for line in process.stdout)
            yield ports[0]
        finally:
            process.terminate()
            process.wait(30)
