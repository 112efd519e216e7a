"""What a stretch of a log is, looked at by itself: its hashes, what is published of it, which entries matter.

No stretch needs another one, so several processes may look at a long log (a core does some 200,000 entries
a second). What joins stretches to a log, and a log to what is said of it, is verify.py's.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self

from proxy.audit import registry
from proxy.audit.merkle import leaf_hashes
from proxy.audit.tiles import WIDTH, Folder, Missing, entries_path

_PIECE: Final = 16 * WIDTH
"""Entries that a process is asked to look at; it reads them a tile at a time, at most 16 MiB."""
MOST_PROCESSES: Final = 4
"""More have nothing to do: a fifth of the work is for one alone."""
_AHEAD: Final = 2
"""Stretches that each process has in hand."""
_WORTH: Final = 200_000
"""Entries for which processes are begun: each takes most of a second to be there."""
UNRESOLVED: Final = b'"step":"unresolved"'
NAMES: Final = b'"evidence":["sha256:'
PRUNE: Final = b'"step":"prune"'
_MARKS: Final = (UNRESOLVED, NAMES, PRUNE)


class Source(Protocol):
    """Where the entries of the logs are."""

    apart: bool
    """Whether that is elsewhere than in the published files, which are then looked at too."""

    def size(self, epoch: int, published: int) -> int:
        """How many entries a log has, of which `published` are covered by its checkpoint."""

    def entries(self, epoch: int, start: int, end: int) -> list[bytes]:
        """The entries from `start` on, up to the first that is missing or `end`."""

    def last(self, epoch: int) -> list[bytes]:
        """The last entry of a log that has no checkpoint; none where it has no entries."""

    def pruned(self, epoch: int, start: int) -> list[bytes]:
        """The hashes of entries that are gone, from `start` on; none where it is there."""

    def epochs(self) -> Sequence[int]:
        """The logs of which there is anything."""

    def attached(self, digest: str) -> bool | None:
        """Whether what a record names has its digest; None where it is not there."""

    def stated(self) -> Mapping[int, tuple[str, str]]:
        """Epoch -> the name and the key that stand beside the entries, which nobody has signed."""

    @property
    def again(self) -> Callable[[], Source]:
        """What opens it anew, in another process too."""


class Stretch(NamedTuple):
    """Entries of one log."""

    epoch: int
    folder: Path
    """Of its published files."""
    published: int
    """How many of the log's entries these hold."""
    start: int
    end: int


class Looked(NamedTuple):
    """What was seen of a stretch."""

    hashes: list[bytes]
    """Of its entries, up to the first that is missing."""
    marked: list[tuple[int, bytes]]
    """The entries of which the content matters, with their places: of the registry, all."""
    wrong: list[tuple[int, str]]
    """What is wrong with the published entries, and from which place on."""


def look(source: Source, stretch: Stretch) -> Looked:
    """Look at a stretch; raises what the source does."""
    seen = Looked([], [], [])
    start = stretch.start
    while start < stretch.end:
        end = min(stretch.end, (start // WIDTH + 1) * WIDTH)
        entries = source.entries(stretch.epoch, start, end)
        seen.hashes.extend(leaf_hashes(entries))
        seen.marked.extend(_marked(stretch.epoch, start, entries))
        if source.apart:
            seen.wrong.extend(_differing(stretch, start, entries))
        if start + len(entries) < end:
            break
        start = end
    return seen


def _marked(epoch: int, start: int, entries: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    if epoch == registry.EPOCH:
        yield from enumerate(entries, start)
        return
    together = b"".join(entries)
    if any(mark in together for mark in _MARKS):
        for index, entry in enumerate(entries, start):
            if any(mark in entry for mark in _MARKS):
                yield index, entry


def _differing(stretch: Stretch, start: int, entries: Sequence[bytes]) -> Iterator[tuple[int, str]]:
    """Hold published entries of one tile against those of the log."""
    number, skipped = divmod(start, WIDTH)
    ours = entries[: max(0, stretch.published - start)]
    if not ours:
        return
    try:
        if not Folder(stretch.folder).holds(number, stretch.published, ours, skipped):
            yield start, f"{entries_path(number)} holds other entries than the log"
    except (Missing, ValueError) as error:
        yield start, f"a published file is missing or cut: {error}"


class Looking:
    """Looks along logs, in as many processes as it may begin."""

    def __init__(self, source: Source, *, processes: int) -> None:
        """Of one process it is this one."""
        self._source = source
        self._processes = processes if processes > 1 else 0
        self._helpers: list[_Helper] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def along(self, stretch: Stretch) -> Iterator[Looked]:
        """Piece by piece, up to the first entry that is missing; raises what the source does."""
        for piece, looked in self._looked(stretch):
            yield looked
            if piece.start + len(looked.hashes) < piece.end:
                return

    def _looked(self, stretch: Stretch) -> Iterator[tuple[Stretch, Looked]]:
        pieces = (
            stretch._replace(start=start, end=min(stretch.end, start + _PIECE))
            for start in range(stretch.start, stretch.end, _PIECE)
        )
        for piece in pieces:
            # The first one here: where many entries are missing, what is asked for ahead is in vain.
            yield piece, look(self._source, piece)
            if stretch.end - piece.end >= _WORTH and self._begin():
                yield from self._ahead(pieces)

    def _ahead(self, pieces: Iterator[Stretch]) -> Iterator[tuple[Stretch, Looked]]:
        """Each helper in its turn, so that answers come in the order of the log."""
        asked: deque[tuple[Stretch, _Helper]] = deque()
        turn = 0
        try:
            while True:
                while len(asked) < _AHEAD * len(self._helpers):
                    piece = next(pieces, None)
                    if piece is None:
                        break
                    helper = self._helpers[turn % len(self._helpers)]
                    turn += 1
                    helper.ask(piece)
                    asked.append((piece, helper))
                if not asked:
                    return
                piece, helper = asked.popleft()
                # What raised there raises here, unless it was the helper's own fault.
                yield piece, helper.answer() or look(self._source, piece)
        finally:
            for _, helper in asked:
                helper.answer()

    def _begin(self) -> bool:
        """Whether there are helpers."""
        if self._processes and not self._helpers:
            context = multiprocessing.get_context("spawn")  # no copy of what threads hold just now
            again = self._source.again
            try:
                for _ in range(self._processes):
                    self._helpers.append(_Helper(context, again))
            except OSError:  # there is no further process to be had
                self._end()
                self._processes = 0
        return bool(self._helpers)

    def _end(self) -> None:
        while self._helpers:
            self._helpers.pop().end()


class _Helper:
    """A process that looks at what it is asked to look at; one that is gone has no answers."""

    def __init__(
        self, context: multiprocessing.context.SpawnContext, again: Callable[[], Source]
    ) -> None:
        self._end, theirs = context.Pipe()
        # It holds no other end of the pipe, so it ends with this process, however that ends.
        self._process = context.Process(target=_help, args=(theirs, again), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, stretch: Stretch) -> None:
        """Have it look at this after what it has in hand."""
        with suppress(OSError):
            self._end.send(stretch)

    def answer(self) -> Looked | None:
        """What it saw of the first of these; None where it saw nothing."""
        try:
            answer = self._end.recv()
        except (OSError, EOFError):
            return None
        assert answer is None or isinstance(answer, Looked)
        return answer

    def end(self) -> None:
        """Have it end, and wait for it."""
        self._end.close()
        self._process.join()


def _help(end: Connection[Looked | None, Stretch], again: Callable[[], Source]) -> None:
    """The other process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the one that asks is told of too
    with suppress(OSError, EOFError):
        source = None
        while True:
            stretch = end.recv()
            try:
                source = source or again()
                looked = look(source, stretch)
            except Exception:  # noqa: BLE001 - the one that asks comes upon it again, and says it
                end.send(None)
            else:
                end.send(looked)
