"""The access log's events, delivered to a receiver: at least once, in their order, from where it stopped.

It is a reader like any other: it looks at leaves that are durable, so no access ever waits for it. The
cursor, a file, moves once a receiver has taken a batch, and is durable before the next one goes out: whatever
is killed in between, the batch is delivered again, and its records have the same `metadata.uid`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec

from proxy import durable
from proxy.access import NO_EVENT, AccessEvent, decode, written
from proxy.audit.accesses import Leaf
from proxy.audit.merkle import leaf_hash
from proxy.audit.query import Reader
from proxy.audit.receivers import Message, NotTaken, Receiver
from proxy.audit.sources import Leaves
from proxy.audit.store import Files, failing_as_unavailable
from proxy.errors import CounterfoilError, LogUnavailable

Form = Callable[[Leaf, AccessEvent], bytes]
"""What is delivered of an event: one line, without its end."""

_MOST_RECORDS: Final = 1000
_MOST_BYTES: Final = 512 << 10
_POLL: Final = 0.5
"""Seconds between two looks for new leaves."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 15.0
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z\Z")
_LINE_END: Final = frozenset(b"\r\n")
_LOGGER: Final = logging.getLogger("counterfoil")


class GaveUp(CounterfoilError):
    """The receiver took nothing for as long as it was given."""


_Whole = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class _Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    number: _Whole
    log: str
    index: _Whole
    leaf: str
    """The hash (hex) of the entry there: a log that was replaced or cut off is not gone on with."""


class Cursor:
    """A file that says how far a receiver has got. Held by one process: `file` with `.lock` is its fence."""

    def __init__(self, file: Path) -> None:
        """Hold it. Raises CounterfoilError."""
        self._file = file
        self._descriptor = -1
        lock = file.with_name(file.name + ".lock")
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(lock, flags, durable.PRIVATE_FILE)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise CounterfoilError(f"another export holds the cursor {file}") from None
        except OSError as error:
            self.close()
            raise CounterfoilError(f"the cursor {file} cannot be used: {error.strerror}") from None

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def number(self, reader: Reader) -> int | None:
        """The number of the last leaf that was taken, which is there or was pruned since.

        None where there is no cursor. Raises CounterfoilError.
        """
        try:
            said = msgspec.json.decode(self._file.read_bytes(), type=_Place)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CounterfoilError(f"{self._file} cannot be read: {error.strerror}") from None
        except NO_EVENT:
            raise CounterfoilError(f"{self._file} is no cursor of an export") from None
        leaf = next(reader.since(said.number - 1), None)
        there = leaf is not None and (leaf.number, _hash(leaf)) == (said.number, said.leaf)
        if not there and not _was_pruned(reader.files, said):
            raise LogUnavailable(
                f"the log does not hold the event at which {self._file} stands: it was replaced or cut"
                " off since (`counterfoil log verify` tells), or the cursor is of another log"
            )
        return said.number

    def move(self, leaf: Leaf) -> None:
        """Stand at `leaf`, durably. Raises CounterfoilError."""
        place = _Place(number=leaf.number, log=leaf.log, index=leaf.index, leaf=_hash(leaf))
        try:
            durable.write(self._file, msgspec.json.encode(place) + b"\n")
        except OSError as error:
            text = f"the cursor {self._file} cannot be written: {error.strerror}"
            raise CounterfoilError(text) from None


def _hash(leaf: Leaf) -> str:
    return leaf_hash(leaf.entry).hex()


def _was_pruned(files: Files, said: _Place) -> bool:
    """Whether it is the hash that was kept when the entry at that place went. Raises LogUnavailable."""
    with failing_as_unavailable(files.leaves), closing(Leaves(files)) as leaves:
        epochs = [epoch for epoch, (name, _) in leaves.stated().items() if name == said.log]
        kept = [each.hex() for epoch in epochs for each in leaves.pruned(epoch, said.index)[:1]]
        return kept == [said.leaf]


class Export:
    """One export under way; `count` and `last` are how far it has come."""

    def __init__(
        self,
        reader: Reader,
        receiver: Receiver,
        form: Form,
        *,
        cursor: Cursor | None = None,
        patience: float = 300.0,
        most: int = _MOST_RECORDS,
        pause: float = _FIRST_PAUSE,
        stop: threading.Event | None = None,
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        """A batch of at most so many records is offered for `patience` seconds before the export gives up.

        `pause`: seconds until it is offered for the second time; more and more after that. `refresh` brings
        what `reader` reads up to date.
        """
        self._reader = reader
        self._receiver = receiver
        self._form = form
        self._cursor = cursor
        self._patience = patience
        self._most = most
        self._pause = pause
        self._stop = stop or threading.Event()
        self._refresh = refresh
        self.count = 0
        """Records that were taken in this run."""
        self.last: Leaf | None = None
        """The newest of them."""

    def run(self, *, since: datetime | None = None, follow: bool = False) -> bool:
        """Deliver what is there, from the cursor on or from the first record made at `since` or later.

        With `follow` go on with what comes, until `stop` is set. Whether all that was there was taken.
        Raises GaveUp, Refused, LogUnavailable, CounterfoilError.
        """
        after = self._cursor.number(self._reader) if self._cursor is not None else None
        if after is None:
            after = self._before(written(since)) if since is not None else 0
        while not self._stop.is_set():
            for leaf, batch in self._batches(after):
                if not self._delivered(batch):
                    return False
                self.count += len(batch)
                self.last = leaf
                after = leaf.number
                if self._cursor is not None:
                    self._cursor.move(leaf)
                if self._stop.is_set():
                    return False
            if not follow or self._stop.wait(_POLL):
                return True
            self._refresh()
        return False

    def _before(self, begun: str) -> int:
        """The number of the last leaf before the first one that was made at `begun` or later."""
        number = 0
        for leaf in self._reader.since(0):
            if self._stop.is_set() or _event(leaf).at >= begun:
                break
            number = leaf.number
        return number

    def _batches(self, after: int) -> Iterator[tuple[Leaf, list[Message]]]:
        """The leaves after `after` that are there, by so many; each time with the last leaf of them."""
        batch: list[Message] = []
        size, last = 0, None
        for leaf in self._reader.since(after):
            try:
                event = _event(leaf)
            except LogUnavailable:
                if last is not None and batch:
                    yield last, batch
                raise
            batch.append(Message(self._form(leaf, event), event))
            size, last = size + len(batch[-1].line), leaf
            if len(batch) >= self._most or size >= _MOST_BYTES:
                yield leaf, batch
                batch, size = [], 0
        if last is not None and batch:
            yield last, batch

    def _delivered(self, batch: list[Message]) -> bool:
        """Offer a batch until it is taken; whether it was. Raises GaveUp, Refused."""
        began, pause, said = time.monotonic(), self._pause, ""
        while True:
            try:
                self._receiver.deliver(batch)
            except NotTaken as error:
                if f"{error}" != said:
                    said = f"{error}"
                    _LOGGER.warning("%s takes no records: %s", self._receiver.name, said)
            else:
                if said:
                    _LOGGER.warning("%s takes records again", self._receiver.name)
                return True
            left = began + self._patience - time.monotonic()
            if left <= 0:
                raise GaveUp(
                    f"{self._receiver.name} took no records for {self._patience:g} seconds: {said}"
                )
            if self._stop.wait(min(pause, left)):
                return False
            pause = min(pause * 2, _LONGEST_PAUSE)


def _event(leaf: Leaf) -> AccessEvent:
    """The event that is in `leaf`, on one line and with a time that is one. Raises LogUnavailable."""
    try:
        event = decode(leaf.entry)
        datetime.fromisoformat(event.at)
        if _TIME.match(event.at) and _LINE_END.isdisjoint(leaf.entry):
            return event
    except (*NO_EVENT, ValueError):
        pass
    raise LogUnavailable(
        f"{leaf.log}[{leaf.index}] is not an access event that this program knows:"
        " `counterfoil log verify` tells whether the log is whole"
    )
