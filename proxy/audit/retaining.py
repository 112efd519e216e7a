"""Checkpoints go to where the operator cannot rewrite them: a folder, a URL, a witness.

Nothing waits for it and nothing fails with it: a place that cannot be reached is tried again, and what has
become of each is told to whoever asks. What was retained is what `log verify --retained` takes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import re
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp

from proxy import durable
from proxy.audit import registry
from proxy.audit.checkpoint import Checkpoint, NotACheckpoint, Note, VerifierKey
from proxy.audit.merkle import consistency_proof, inclusion_proof
from proxy.audit.proof import Proof
from proxy.audit.store import Files, read_only
from proxy.audit.tiles import CHECKPOINT, MOST_CHECKPOINT, Folder, FolderNodes, Missing
from proxy.audit.witness import SIZE_TYPE, Pushed
from proxy.keys import is_signature

_EVERY: Final = 1.0
TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_MOST_ANSWER: Final = 64 << 10
_SIZE: Final = re.compile(rb"(?:0|[1-9][0-9]{0,18})\n?\Z")
_LOGGER: Final = logging.getLogger("counterfoil")
_FAULTS: Final = (OSError, aiohttp.ClientError, TimeoutError)
"""Of a place, for all logs."""


class NotRetained(ValueError):
    """A place did not take a checkpoint; the text says why, for an operator."""


class Newest(NamedTuple):
    """The newest checkpoint of a log."""

    note: Note
    data: bytes
    """As it was published."""
    folder: Folder
    """What proves it."""


class Sink(ABC):
    """A place for checkpoints."""

    def __init__(self, name: str, *, every: float) -> None:
        """`every`: seconds between two checkpoints of one log."""
        self.name = name
        self.failure = ""
        self._every = every
        self._taken: dict[str, tuple[int, float]] = {}
        """Log -> how many entries the last checkpoint covers that it took, and when that was."""

    def due(self, checkpoint: Checkpoint) -> bool:
        """Whether it is to be given this one now."""
        size, when = self._taken.get(checkpoint.origin, (-1, -self._every))
        return checkpoint.size > size and time.monotonic() - when >= self._every

    def holds(self, checkpoint: Checkpoint) -> bool:
        """Whether it was given this one, or a newer one."""
        return self._taken.get(checkpoint.origin, (-1, 0.0))[0] >= checkpoint.size

    async def give(self, newest: Newest) -> None:
        """Give it a checkpoint; raises one of _FAULTS, Missing, or ValueError: NotRetained, say."""
        await self._give(newest)
        checkpoint = newest.note.checkpoint
        self._taken[checkpoint.origin] = (checkpoint.size, time.monotonic())

    @abstractmethod
    async def _give(self, newest: Newest) -> None: ...


class FolderSink(Sink):
    """Files in a folder, on another machine's disk or one that is written once: `counterfoil-3/0000…417`."""

    def __init__(self, path: Path, *, every: float) -> None:
        super().__init__(str(path), every=every)
        self._path = path

    async def _give(self, newest: Newest) -> None:
        await asyncio.to_thread(self._write, newest.note.checkpoint, newest.data)

    def _write(self, checkpoint: Checkpoint, data: bytes) -> None:
        own = self._path / re.sub(r"[^A-Za-z0-9.-]", "-", checkpoint.origin)
        own.mkdir(exist_ok=True)  # never the folder itself: without its mount it must not be made
        path = own / f"{checkpoint.size:019d}"
        if not path.exists():
            durable.write(path, data, mode=0o644)  # not by a link, which not every mount can make
        elif _there(path) != checkpoint:
            # What was retained is never replaced, by us least of all.
            raise NotRetained(f"{path} is another checkpoint of as many entries, or none")


def _there(path: Path) -> Checkpoint | None:
    with contextlib.suppress(NotACheckpoint):
        return Note.parse(path.read_bytes()).checkpoint
    return None


def newest_in(folder: Path) -> list[bytes]:
    """Of each log, the newest checkpoint that was put into such a folder: it stands for all before it."""
    found = []
    with contextlib.suppress(OSError):
        for own in sorted(folder.iterdir()):
            with contextlib.suppress(OSError, ValueError):
                newest = max(each for each in own.iterdir() if each.name.isdecimal())
                if newest.is_file():  # a pipe would be waited for
                    with newest.open("rb") as file:
                        found.append(file.read(MOST_CHECKPOINT))
    return found


class UrlSink(Sink):
    """An HTTP endpoint that takes a checkpoint as the body of a POST."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, *, token: str | None, every: float
    ) -> None:
        super().__init__(url, every=every)
        self._session = session
        self._headers = {"Content-Type": "text/plain; charset=utf-8"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    async def _give(self, newest: Newest) -> None:
        async with self._session.post(
            self.name, data=newest.data, headers=self._headers, allow_redirects=False
        ) as answer:
            if answer.status not in (200, 201, 202, 204):
                raise NotRetained(f"it answered {answer.status}")


class WitnessSink(Sink):
    """A witness: it signs what goes on from what it has seen (witness.py)."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, *, key: VerifierKey, every: float
    ) -> None:
        super().__init__(url, every=every)
        self._session = session
        self._key = key
        self._size: dict[str, int] = {}
        """Log -> how many entries it has signed, as far as known."""

    async def _give(self, newest: Newest) -> None:
        note, data, folder = newest
        origin, size = note.checkpoint.origin, note.checkpoint.size
        said = ""
        for _ in range(4):  # it may not know the log, nor we how far it has come
            old = self._size.get(origin, 0)
            if old > size:
                del self._size[origin]  # asked again the next time
                said = f"it has seen {old} entries, and there are {size}"
                break
            proof = await asyncio.to_thread(_from, folder, old, size)
            pushed = bytes(Pushed(old=old, proof=proof, note=data))
            status, body, kind = await self._post("add-checkpoint", pushed)
            if status == 200:
                await asyncio.to_thread(self._cosigned, note, data, body, folder)
                self._size[origin] = size
                return
            said = f"{status} {body[:200].decode('utf-8', 'replace').strip()}"
            if status == 409 and kind == SIZE_TYPE and _SIZE.match(body) and int(body) != old:
                self._size[origin] = int(body)
            elif status == 404:
                await self._introduce(origin, folder)
            else:
                break
        raise NotRetained(f"it refuses {origin} at {size}: {said}")

    async def _introduce(self, origin: str, folder: Folder) -> None:
        """Show the witness that the registry names a log."""
        registered = Folder(folder.path.parent / registry.SUFFIX)
        body = await asyncio.to_thread(_named, origin, registered, cosigned_by(self._key))
        status, said, _ = await self._post("add-log", body)
        if status != 200:
            text = said[:200].decode("utf-8", "replace")
            raise NotRetained(f"it does not take {origin} for a log: {status} {text}")

    async def _post(self, name: str, body: bytes) -> tuple[int, bytes, str]:
        async with self._session.post(
            f"{self.name.rstrip('/')}/{name}", data=body, allow_redirects=False
        ) as answer:
            said = bytearray()
            async for some in answer.content.iter_any():
                said += some
                if len(said) > _MOST_ANSWER:
                    raise NotRetained(f"its answer is over {_MOST_ANSWER} bytes long")
            return answer.status, bytes(said), answer.headers.get("Content-Type", "")

    def _cosigned(self, note: Note, data: bytes, line: bytes, folder: Folder) -> None:
        """Keep the checkpoint with the witness's signature, once that is seen to be one."""
        signed = Note.parse(data + line)
        if signed.text != note.text or self._key.name not in signed.signed_by(
            [self._key], is_signature
        ):
            raise NotRetained("its answer is not signed by its key")
        durable.write(folder.path / cosigned_by(self._key), data + line, mode=0o644)


def _from(folder: Folder, old: int, size: int) -> tuple[bytes, ...]:
    if not old or old == size:
        return ()
    return tuple(consistency_proof(old, size, FolderNodes(folder, size)))


def cosigned_by(key: VerifierKey) -> str:
    """Beside a log's checkpoint: the newest one that a witness has signed too, with its signature."""
    return f"{CHECKPOINT}.{key.id.hex()}"


def _named(origin: str, folder: Folder, signed: str) -> bytes:
    """The registry's entry that opens a log, proved in the checkpoint that witnesses have signed last."""
    note = (folder.path / signed).read_bytes()
    size = Note.parse(note).checkpoint.size
    for number in range(-(-size // 256)):
        for at, entry in enumerate(folder.entries(number, size)):
            said = registry.decode(entry)
            if isinstance(said, registry.Opened) and said.log == origin:
                index = number * 256 + at
                hashes = inclusion_proof(index, size, FolderNodes(folder, size))
                proof = Proof(index=index, hashes=tuple(hashes), note=note)
                return base64.b64encode(entry) + b"\n\n" + bytes(proof)
    raise NotRetained(f"no checkpoint that was signed names {origin} yet")


class Retaining:
    """Gives each sink the newest checkpoints, the registry's first."""

    def __init__(
        self, files: Files, sinks: Sequence[Sink], *, keeps: Callable[[], bool] = lambda: True
    ) -> None:
        """While this process `keeps` the log for all that write it."""
        self._files = files
        self._sinks = sinks
        self._keeps = keeps
        self._done: set[str] = set()
        """Logs that go on no more, and are in all places."""

    @property
    def failures(self) -> Mapping[str, str]:
        """Place -> why it does not take checkpoints."""
        return {sink.name: sink.failure for sink in self._sinks if sink.failure}

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            if self._keeps():
                await self.round()
            await asyncio.sleep(_EVERY)

    async def round(self) -> None:
        """Give each sink what is due, all sinks at once."""
        # First: the checkpoint of a log that has ended is its last one.
        ended = await asyncio.to_thread(self._ended)
        found = await asyncio.to_thread(self._newest)
        await asyncio.gather(*(self._give(sink, found) for sink in self._sinks))
        for note, _, folder in found:
            name = folder.path.name
            if name in ended and all(sink.holds(note.checkpoint) for sink in self._sinks):
                self._done.add(name)

    async def _give(self, sink: Sink, found: Sequence[Newest]) -> None:
        failure = ""
        for newest in found:
            if not sink.due(newest.note.checkpoint):
                continue
            try:
                await sink.give(newest)
            except (Missing, ValueError) as error:  # which is a matter of that log alone
                failure = failure or str(error)
            except _FAULTS as error:
                failure = f"{error}" or type(error).__name__
                break
        if failure != sink.failure:
            said = f"does not take checkpoints: {failure}" if failure else "takes checkpoints again"
            _LOGGER.warning("access log: %s %s", sink.name, said)
        sink.failure = failure

    def _ended(self) -> set[str]:
        """The logs of which the registry says how they ended."""
        try:
            with closing(sqlite3.connect(read_only(self._files.leaves), uri=True)) as leaves:
                rows = leaves.execute("SELECT epoch FROM log WHERE final IS NOT NULL").fetchall()
        except sqlite3.Error:
            return set()
        return {str(epoch) for (epoch,) in rows}

    def _newest(self) -> list[Newest]:
        """The registry's checkpoint, then those of the logs that may have a new one."""
        names = [registry.SUFFIX]
        with contextlib.suppress(OSError):
            numbers = [each.name for each in self._files.tiles.iterdir() if each.name.isdecimal()]
            names += sorted(set(numbers) - self._done, key=int)
        found = []
        for name in names:
            path = self._files.tiles / name
            with contextlib.suppress(OSError, NotACheckpoint):
                data = (path / CHECKPOINT).read_bytes()
                found.append(Newest(Note.parse(data), data, Folder(path)))
        return found
