"""One log's files while it grows: entries, tree and signed root, in the order that publish.py says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy import durable
from proxy.audit.checkpoint import Checkpoint, NotACheckpoint, opened
from proxy.audit.registry import Signed
from proxy.audit.tiles import (
    CHECKPOINT,
    WIDTH,
    Edge,
    Folder,
    Missing,
    bundle,
    entries_path,
    hashes_path,
)
from proxy.keys import is_signature

_PUBLIC: Final = 0o644
PUBLIC_FOLDER: Final = 0o755


class Contradicted(Exception):
    """What is published of a log is not ours to add to: its leaves say otherwise, or its key is not here.

    The text may be shown to an operator.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some entries of a log, one after another."""

    hashes: list[bytes]
    entries: list[bytes] | None
    """None where they were pruned: files of entries go as a whole, and these are all that is left of them."""


class Published:
    """One log's files, written by one thread of one process at a time."""

    def __init__(self, log: Signed, folder: Path, sign: Callable[[bytes], bytes]) -> None:
        """Go on where the files end. Raises Contradicted where they are not those of this log."""
        self.log = log
        self._folder = folder
        self._sign = sign
        self._made: set[Path] = set()
        self._unsynced: set[Path] = set()
        self._begun: list[int] = []
        """The sizes whose last, partial files are there, oldest first."""
        self.size = 0
        """How many entries the last checkpoint covers."""
        self._edge = Edge()
        self._entries: list[bytes] = []
        """Of the last, partial bundle."""
        self._resume()

    @property
    def root(self) -> bytes:
        """The root of the tree over them."""
        return self._edge.root

    @property
    def last(self) -> list[bytes]:
        """The entries of the last file of them. Raises Contradicted where it is not there."""
        try:
            return Folder(self._folder).entries((self.size - 1) // WIDTH, self.size)
        except (Missing, ValueError) as error:
            raise Contradicted(f"{self._folder}: {error}") from None

    @property
    def last_hashes(self) -> list[bytes]:
        """… and their hashes. Raises Contradicted where they are not there."""
        try:
            return Folder(self._folder).hashes(0, (self.size - 1) // WIDTH, self.size)
        except Missing as error:
            raise Contradicted(f"{self._folder}: {error}") from None

    def _resume(self) -> None:
        folder = Folder(self._folder)
        try:
            data = folder.checkpoint()
        except Missing:
            return
        try:
            last = opened(data, self.log.key, is_signature)
            self._edge = Edge.of(folder, last.size)
            if last.size % WIDTH:
                with contextlib.suppress(Missing):  # they may be pruned, which others look at
                    self._entries = folder.entries(last.size // WIDTH, last.size)
        except (Missing, NotACheckpoint, ValueError) as error:
            raise Contradicted(f"{self._folder}: {error}") from None
        if self._edge.root != last.root:
            raise Contradicted(f"{self._folder}: the tiles are not those of its checkpoint")
        self._begun = [last.size]
        self.size = last.size

    def publish(self, batches: Iterator[Batch]) -> None:
        """Add entries, and sign the new root; raises OSError. What failed is written again next time."""
        edge = self._edge
        try:
            for batch in batches:
                number, within = divmod(edge.size, WIDTH)
                for level, place, hashes in edge.extend(batch.hashes):
                    self._put(hashes_path(level, place), hashes)
                if batch.entries is None:
                    self._entries = []
                    continue
                if len(self._entries) != within:
                    raise Contradicted(f"{self._folder}: the last file of entries is missing")
                self._entries += batch.entries
                while len(self._entries) >= WIDTH:
                    self._put(entries_path(number), bundle(self._entries[:WIDTH]), private=True)
                    del self._entries[:WIDTH]
                    number += 1
            number = edge.size // WIDTH
            for level, place, width, hashes in edge.partial():
                self._put(hashes_path(level, place, width), hashes)
            if self._entries:
                path = entries_path(number, len(self._entries))
                self._put(path, bundle(self._entries), private=True)
            checkpoint = Checkpoint(origin=self.log.name, size=edge.size, root=edge.root)
            signed = checkpoint.signed(self.log.key, self._sign)
            while self._unsynced:
                durable.sync_folder(self._unsynced.pop())
            durable.write(self._folder / CHECKPOINT, signed, mode=_PUBLIC)
        except BaseException:
            self._entries, self._edge, self.size = [], Edge(), 0
            self._resume()  # where the last checkpoint was
            raise
        self.size = edge.size
        self._forget(edge.size)

    def _put(self, name: str, data: bytes, *, private: bool = False) -> None:
        path = self._folder / name
        if path.parent not in self._made:
            self._make(path.parent, private=private)
        durable.put(path, data, mode=durable.PRIVATE_FILE if private else _PUBLIC)
        self._unsynced.add(path.parent)

    def _make(self, folder: Path, *, private: bool) -> None:
        """Make a folder and those it is in, durably."""
        missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
        for each in reversed(missing):
            mode = durable.PRIVATE_FOLDER if private else PUBLIC_FOLDER
            each.mkdir(mode=mode)
            each.chmod(mode)
            durable.sync_folder(each.parent)
        self._made.add(folder)

    def _forget(self, size: int) -> None:
        """Remove partial files that no reader of the newest checkpoints needs."""
        self._begun.append(size)
        while len(self._begun) > 2 and self._begun[0] < self._begun[-2]:
            old, following = self._begun[0], self._begun[1]
            del self._begun[0]
            level = 0
            while before := old >> 8 * level:
                after = following >> 8 * level
                if before % WIDTH and before != after:
                    number, width = divmod(before, WIDTH)
                    self._remove(hashes_path(level, number, width))
                    if not level:
                        self._remove(entries_path(number, width))
                level += 1

    def _remove(self, name: str) -> None:
        path = self._folder / name
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()  # once the whole tile is there and the last partial one is gone
            self._made.discard(path.parent)
