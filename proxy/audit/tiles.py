"""A log as static files (C2SP tlog-tiles): hashes of its tree and its entries, 256 to a file.

    checkpoint                   the signed root; written last
    tile/0/x001/234              hashes of the leaves 315904 to 316159, 32 bytes each
    tile/1/004.p/210             the first 210 hashes of a tile of level 1: of 256 leaves each
    tile/entries/x001/234        the entries: each behind its length, 16 bits, big-endian

Tile <L>/<N> holds the nodes (8·L, 256·N) to (8·L, 256·N + 255); a partial one ends in `.p/<W>` and
has W of them. N is written in groups of three digits, with `x` before all but the last.
Hashes tell nothing of entries; entries need the permission to read the log.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from proxy.audit.merkle import HASH_BYTES, level_above, root, subtree_root

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
CHECKPOINT: Final = "checkpoint"
LONGEST: Final = 65_535
"""Most bytes of an entry."""
_MOST_ENTRIES: Final = WIDTH * (2 + LONGEST)
"""Bytes of a file of entries."""
MOST_CHECKPOINT: Final = 1 << 20
"""Bytes of a checkpoint's file."""


def numbered(number: int) -> str:
    """A tile's number as a path: `x001/x234/067`."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.append(f"x{number % 1000:03d}")
    return "/".join(reversed(groups))


def hashes_path(level: int, number: int, width: int = WIDTH) -> str:
    """Where the hashes of a tile are, of which `width` are there."""
    return f"tile/{level}/{numbered(number)}{_part(width)}"


def entries_path(number: int, width: int = WIDTH) -> str:
    """Where the entries of a tile of level 0 are, of which `width` are there."""
    return f"tile/entries/{numbered(number)}{_part(width)}"


def _part(width: int) -> str:
    return "" if width == WIDTH else f".p/{width}"


def bundle(entries: Iterable[bytes]) -> bytes:
    """Entries as they stand in a file, each at most LONGEST bytes."""
    return b"".join([len(entry).to_bytes(2, "big") + entry for entry in entries])


def unbundled(data: bytes) -> list[bytes]:
    """The entries of a file; raises ValueError where it ends within one."""
    entries = []
    at = 0
    while at < len(data):
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if len(data) < max(at, start):
            raise ValueError("a file of entries ends within one")
        entries.append(data[start:at])
    return entries


def width_of(size: int, level: int, number: int) -> int:
    """How many hashes tile `number` of `level` has in a tree of `size` leaves."""
    return max(0, min(WIDTH, (size >> HEIGHT * level) - number * WIDTH))


class Missing(Exception):
    """A file of a log is not there, or has not the length that it must have; the text names it."""


class Folder:
    """The files of one log, to read from: whoever wrote them, no more is read than such a file can hold."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def checkpoint(self) -> bytes:
        """The signed root. Raises Missing."""
        return self._read(CHECKPOINT, MOST_CHECKPOINT)

    def entries(self, number: int, size: int) -> list[bytes]:
        """The entries of a tile of level 0, for a log of `size`. Raises Missing, or ValueError."""
        width = width_of(size, 0, number)
        data, wide = self._widest(entries_path(number), width, _MOST_ENTRIES)
        entries = unbundled(data)
        if len(entries) > wide:
            raise ValueError("a file of entries holds more of them than its name says")
        return entries[:width]

    def holds(self, number: int, size: int, entries: Sequence[bytes], skipped: int) -> bool:
        """Whether a tile's entries, after some that are skipped, are these. Raises Missing, or ValueError."""
        width = width_of(size, 0, number)
        data, wide = self._widest(entries_path(number), width, _MOST_ENTRIES)
        if not skipped and len(entries) == wide:
            return data == bundle(entries)
        found = unbundled(data)
        return len(found) <= wide and found[skipped : skipped + len(entries)] == [*entries]

    def hashes(self, level: int, number: int, size: int) -> list[bytes]:
        """The hashes of a tile, for a log of `size`. Raises Missing."""
        width = width_of(size, level, number)
        data, wide = self._widest(hashes_path(level, number), width, WIDTH * HASH_BYTES)
        if len(data) != wide * HASH_BYTES:
            raise Missing(f"{hashes_path(level, number, width)} is {len(data)} bytes long")
        return [data[at : at + HASH_BYTES] for at in range(0, width * HASH_BYTES, HASH_BYTES)]

    def _widest(self, whole: str, width: int, most: int) -> tuple[bytes, int]:
        """A tile that has `width` at least, and what it has: that very one, or one that has grown since."""
        if width < WIDTH:
            for wide in [width, *self._partial(whole, width)]:
                try:
                    return self._read(f"{whole}.p/{wide}", most), wide
                except Missing:
                    continue
        return self._read(whole, most), WIDTH

    def _partial(self, whole: str, width: int) -> list[int]:
        try:
            with os.scandir(self.path / f"{whole}.p") as found:
                names = {each.name for each in found if len(each.name) < len(str(WIDTH)) + 1}
        except OSError:
            return []
        return [wide for wide in range(width + 1, WIDTH) if str(wide) in names]

    def _read(self, name: str, most: int) -> bytes:
        try:
            # A pipe in its place must not be waited for.
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise Missing(f"{name}: not a file")
                data = file.read(most + 1)
        except OSError as error:
            raise Missing(f"{name}: {error.strerror}") from None
        if len(data) > most:
            raise Missing(f"{name}: over {most} bytes")
        return data


class FolderNodes:
    """The nodes of the tree of `size` leaves whose tiles are in a folder; remembers tiles it has read."""

    def __init__(self, folder: Folder, size: int) -> None:
        self._folder = folder
        self._size = size
        self._tiles: dict[tuple[int, int], list[list[bytes]]] = {}

    def __call__(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree. Raises Missing."""
        tile, within = divmod(level, HEIGHT)
        number, at = divmod(index << within, WIDTH)
        known = self._tiles.get((tile, number))
        if known is None:
            known = [self._folder.hashes(tile, number, self._size)]
            self._tiles[tile, number] = known
        while len(known) <= within:
            known.append(level_above(known[-1]))
        return known[within][at >> within]


class Edge:
    """The right edge of a growing tree: of each level of tiles the one that is not whole yet."""

    def __init__(self) -> None:
        self.size = 0
        self._levels: list[list[bytes]] = []

    @classmethod
    def of(cls, folder: Folder, size: int) -> Edge:
        """The edge of the tree of `size` leaves whose tiles are in a folder. Raises Missing."""
        edge = cls()
        edge.size = size
        level = 0
        while left := size >> HEIGHT * level:
            number, width = divmod(left, WIDTH)
            edge._levels.append(folder.hashes(level, number, size) if width else [])
            level += 1
        return edge

    def extend(self, hashes: Sequence[bytes], level: int = 0) -> Iterator[tuple[int, int, bytes]]:
        """Take in the hashes of new leaves; yields (level, number, hashes) of each tile that is whole now.

        To be exhausted: what is not asked for is not taken in.
        """
        if level == len(self._levels):
            self._levels.append([])
        at = 0
        while at < len(hashes):
            tile = self._levels[level]
            taken = hashes[at : at + WIDTH - len(tile)]
            tile += taken
            at += len(taken)
            if not level:
                self.size += len(taken)
            if len(tile) == WIDTH:
                yield level, (self.size >> HEIGHT * (level + 1)) - 1, b"".join(tile)
                self._levels[level] = []
                yield from self.extend([subtree_root(tile)], level + 1)

    def partial(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(level, number, width, hashes) of each tile that is begun and not whole."""
        for level, tile in enumerate(self._levels):
            if tile:
                number = self.size >> HEIGHT * (level + 1)
                yield level, number, len(tile), b"".join(tile)

    @property
    def root(self) -> bytes:
        """The root of the tree."""
        return root(self.size, self._node)

    def _node(self, level: int, index: int) -> bytes:
        """A complete subtree at the edge, which is within one tile that is not whole."""
        tile, within = divmod(level, HEIGHT)
        start = (index << within) % WIDTH
        return subtree_root(self._levels[tile][start : start + (1 << within)])
