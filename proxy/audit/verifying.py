"""The access log verified by its own server, now and then, in a process of its own that yields to all others.

It looks at the entries, the published files, and the checkpoints that lie in folders of `retain`. Nothing is
proved to an auditor by it, for the server has the keys; but a disk that rots, a backup that was put back and
a row that somebody changed are noticed while they can be mended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from proxy.audit.checkpoint import NotACheckpoint, Note
from proxy.audit.findings import Grade, Verified
from proxy.audit.retaining import newest_in
from proxy.audit.sources import Leaves
from proxy.audit.store import Files
from proxy.audit.verdict import of_log
from proxy.errors import CounterfoilError, where

_LOGGER: Final = logging.getLogger("counterfoil")
_FIRST: Final = 60.0
"""Seconds after the start."""
_AGAIN: Final = 300.0
"""Seconds after one that could not be done."""
_MOST_SAID: Final = 10
"""Findings that are told of with their places; of more, their number."""
_MOST_BYTES: Final = 1 << 16


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the other process says."""

    failure: str = ""
    """Why it could not look, for an operator."""
    grade: int = 0
    count: int = 0
    """Of findings that are worse than gaps, which a crash leaves for good."""
    log: str = ""
    """Where the first of these is …"""
    index: int = -1
    """… and the entry, where it is one's."""
    said: tuple[str, ...] = ()


def summed_up(found: Verified) -> Found:
    """What the server needs to know of it."""
    wrong = [each for each in found.findings if each.grade > Grade.GAPS]
    first = wrong[0] if wrong else None
    return Found(
        grade=found.grade,
        count=len(wrong),
        log=first.log if first else "",
        index=first.index if first and first.index is not None else -1,
        said=tuple(map(str, wrong[:_MOST_SAID])),
    )


class SelfVerifying:
    """Looks until cancelled."""

    def __init__(
        self,
        files: Files,
        *,
        every: float,
        retained: Sequence[Path] = (),
        keeps: Callable[[], bool] = lambda: True,
    ) -> None:
        """Each `every` seconds, while this process `keeps` the log; `retained`: folders of checkpoints."""
        self._arguments = [os.fspath(each) for each in (files.leaves, *retained)]
        self._every = every
        self._keeps = keeps
        self.wrong: Mapping[str, int | str] = {}
        """What is known of what is wrong with the log; empty while it is whole, as far as known."""
        self.verified_at = 0.0
        """When it was last seen to be whole; in seconds since 1970."""

    async def run(self) -> None:
        """Go on until cancelled."""
        wait = min(_FIRST, self._every)
        while True:
            await asyncio.sleep(wait)
            wait = min(_FIRST, self._every)  # until it is this process that keeps the log
            if self._keeps():
                wait = self._every if await self.look() else min(_AGAIN, self._every)

    async def look(self) -> bool:
        """Verify the log; whether that could be done."""
        found = await self._found()
        if found.count:
            # What is pruned or published just now may look like a fault, once.
            found = await self._found()
        if found.failure:
            _LOGGER.error("access log: it could not be verified: %s", found.failure)
            self.wrong = {"grade": "unknown"}
        elif found.count:
            for each in found.said:
                _LOGGER.error("access log: %s", each)
            place = {"log": found.log} | ({"entry": found.index} if found.index >= 0 else {})
            self.wrong = {"grade": Grade(found.grade).name.lower(), "faults": found.count, **place}
        else:
            if self.wrong:
                _LOGGER.warning("access log: it is whole again, as far as can be seen")
            self.wrong = {}
            self.verified_at = time.time()
        return not found.failure

    async def _found(self) -> Found:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "proxy.audit.verifying", *self._arguments,
                stdin=asyncio.subprocess.PIPE,  # its end tells of this process's
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            return Found(failure=f"no process can be begun: {error.strerror}")
        assert process.stdout is not None
        try:
            said = await process.stdout.read(_MOST_BYTES)
            while some := await process.stdout.read(_MOST_BYTES):
                said += some
            status = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await asyncio.shield(process.wait())
        if status:
            return Found(failure=f"the process that was to do so ended with status {status}")
        try:
            return msgspec.json.decode(said, type=Found)
        except msgspec.MsgspecError:
            return Found(failure="the process that was to do so says nothing of use")


def _end_with_the_server() -> None:
    """Nobody is left to tell once the server's end of the pipe is closed."""
    while os.read(
        sys.stdin.fileno(), 1
    ):  # not its buffer, which a process that ends must have for itself
        pass
    os._exit(1)


def _reached(files: Files, retained: Sequence[bytes]) -> Sequence[bytes]:
    """Without those that a copy has not come to yet: another machine's may be retained in the same place."""
    with (
        contextlib.suppress(sqlite3.Error, CounterfoilError),
        contextlib.closing(Leaves(files)) as leaves,
    ):
        if leaves.is_copy:
            sizes = {name: leaves.size(epoch, 0) for epoch, (name, _) in leaves.stated().items()}
            return [data for data in retained if not _is_ahead(data, sizes)]
    return retained


def _is_ahead(data: bytes, sizes: Mapping[str, int]) -> bool:
    try:
        checkpoint = Note.parse(data).checkpoint
    except NotACheckpoint:
        return False
    return checkpoint.size > sizes.get(checkpoint.origin, -1)


def main() -> None:
    """The other process: say in JSON what is found."""
    with contextlib.suppress(OSError):  # where nobody may be told apart, it looks all the same
        os.nice(19)
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    path, *folders = map(Path, sys.argv[1:])
    try:
        # Before the log is read: of what grows, no more may be retained than is there.
        retained = [data for folder in folders for data in newest_in(folder)]
        files = Files.at(path)
        found = summed_up(of_log(files, None, _reached(files, retained)))
    except CounterfoilError as error:
        found = Found(failure=str(error))
    except Exception as error:  # noqa: BLE001 - said in words, and not as a traceback
        found = Found(failure=where(error))
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
