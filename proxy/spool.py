"""Bytes that are put aside until they can be read as a whole: in memory while they are few, else in a file.

PROMISE 4 (bounded memory): the files have no name (`O_TMPFILE`, or unlinked at once), so that nobody else
opens them and nothing is left of them, however the process ends. One spool and all of them together have
a bound.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from proxy.errors import CounterfoilError, SpoolFull, SpoolsFull

_IN_MEMORY: Final = 1 << 18


class Spools:
    """The room for all spools of a process; safe for threads."""

    def __init__(self, *, most: int, most_each: int, folder: Path | None = None) -> None:
        """`most` and `most_each` are bytes; without `folder` the system says where temporary files go."""
        self._left = most
        self._most_each = most_each
        self._folder = folder
        self._lock = threading.Lock()

    def try_out(self) -> None:
        """See that a file can be put there; raises CounterfoilError."""
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                file.write(b"x")
        except OSError as exc:
            raise CounterfoilError(
                f"no file can be put into `spool`, {self._folder or 'for temporary files'}: {exc.strerror};"
                " make the folder, let this user write there, or name another one"
            ) from exc

    def open(self) -> Spool:
        """An empty spool."""
        return Spool(self, self._folder, self._most_each)

    def take(self, size: int) -> None:
        """Claim some bytes; raises SpoolsFull."""
        with self._lock:
            if size > self._left:
                raise SpoolsFull
            self._left -= size

    def give_back(self, size: int) -> None:
        """Give back what was claimed."""
        with self._lock:
            self._left += size


class Spool:
    """One document put aside: written once, then read at any place; safe for threads.

    It is let go of with its last reference, or by `close`.
    """

    def __init__(self, spools: Spools, folder: Path | None, most: int) -> None:
        self._spools = spools
        self._most = most
        self._lock = threading.Lock()
        self._claimed = _Claimed()
        self.file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - `close` closes it
            _IN_MEMORY, dir=None if folder is None else str(folder)
        )
        """To read from and to seek in, by one reader that nobody else is beside."""
        self.close = weakref.finalize(self, _let_go, self.file, spools, self._claimed)
        """Let go of all of it; more than once does no harm."""

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._claimed.size

    def write(self, data: bytes) -> None:
        """Append; raises SpoolFull, and OSError where there is no room for the file."""
        if self.size + len(data) > self._most:
            raise SpoolFull
        self._spools.take(len(data))
        self._claimed.size += len(data)
        with self._lock:
            self.file.seek(0, os.SEEK_END)
            self.file.write(data)

    def read(self, start: int, size: int) -> bytes:
        """Some bytes from `start` on; fewer at the end."""
        with self._lock:
            self.file.seek(start)
            return self.file.read(size)


class _Claimed:
    """How much room a spool has claimed."""

    size = 0


def _let_go(file: IO[bytes], spools: Spools, claimed: _Claimed) -> None:
    try:
        with suppress(OSError):  # of a full disk: what is still in a buffer has no room there
            file.close()
    finally:
        spools.give_back(claimed.size)
