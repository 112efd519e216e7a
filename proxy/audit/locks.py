"""Locks of the kernel's by which the processes of one access log know of each other.

    access-locks/3          held by the process that writes log 3, as long as it is open
    access-locks/keeper     held by the one process that follows, publishes and retains for all of them
    access-locks/changes    held by the one process that changes grants or lockdowns
    access-locks/turn       held around each write to the leaves; whoever waits for it holds
    access-locks/turn.next  this one, so that nobody is overtaken twice

They are `flock(2)`s, so that they end with their process however that ends. No promise rests on them:
what must never happen twice is settled in SQLite's transactions. A log whose lock nobody holds is that of
a dead process, and is sealed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from proxy import durable

# Where nobody else holds a lock, it costs a microsecond; to give up the interpreter lock for that, and
# to win it back from a busy event loop, would cost a thousand.
_FLOCK: Final = ctypes.PyDLL(None, use_errno=True).flock


def _flock(descriptor: int, operation: int) -> bool:
    """Whether it is so now; raises OSError."""
    while _FLOCK(descriptor, operation):
        code = ctypes.get_errno()
        if code == errno.EWOULDBLOCK:
            return False
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    return os.open(path, flags, durable.PRIVATE_FILE)


class Held:
    """A lock that is held until `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Use `Locks.take`."""
        self._path = path
        self._descriptor = descriptor

    def release(self, *, forget: bool = False) -> None:
        """Let go of it; `forget` it where nobody will ask for it again."""
        if self._descriptor >= 0:
            if forget:
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


class Turn:
    """The right to write, of one thread: from one writer to the next without a sleep between them."""

    def __init__(self, folder: Path) -> None:
        self._turn = _open(folder / "turn")
        self._next = _open(folder / "turn.next")

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """While it writes; waits for whoever writes now."""
        self._wait(self._next)
        try:
            self._wait(self._turn)
        finally:
            _flock(self._next, fcntl.LOCK_UN)
        try:
            yield
        finally:
            _flock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give it up for good."""
        os.close(self._next)
        os.close(self._turn)

    @staticmethod
    def _wait(descriptor: int) -> None:
        if not _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
            fcntl.flock(descriptor, fcntl.LOCK_EX)


class Locks:
    """The locks of one access log."""

    KEEPER: Final = "keeper"
    CHANGES: Final = "changes"

    def __init__(self, folder: Path) -> None:
        """In that folder, which is made where there is none; raises OSError."""
        self._folder = folder
        folder.mkdir(mode=durable.PRIVATE_FOLDER, exist_ok=True)

    def take(self, name: str) -> Held | None:
        """A lock that nobody holds; None where somebody does. Raises OSError."""
        path = self._folder / name
        descriptor = _open(path)
        try:
            if _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return Held(path, descriptor)
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def held(self, name: str) -> bool:
        """Whether a process that lives holds it."""
        try:
            descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)

    def turn(self) -> Turn:
        """For one thread."""
        return Turn(self._folder)
