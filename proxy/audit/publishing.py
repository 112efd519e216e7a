"""The thread that publishes: each second while there is news, and once more at the end.

It does so for the logs of all processes, where this one is the keeper; else it sees that another does.
Nothing waits for it and nothing fails with it: what it could not do, it tries again, and says so.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from proxy.audit.keeper import Keeper
from proxy.audit.publish import Publisher
from proxy.audit.store import Files, explain
from proxy.errors import LogUnavailable, where
from proxy.keys import Keyring

if TYPE_CHECKING:
    from proxy.audit.postgres.mirror import Mirror

_LOGGER: Final = logging.getLogger("counterfoil")
_EVERY: Final = 1.0
"""Seconds between two checkpoints."""
_AT_THE_END: Final = 3.0
"""Seconds for which a process that ends waits for the keeper to publish what it wrote."""
_LOOK: Final = 0.05


class Publishing:
    """Owns the publisher, and says who keeps; all but `lag` happens in its thread."""

    def __init__(
        self,
        files: Files,
        keeper: Keeper,
        keyring: Callable[[], Keyring],
        *,
        epoch: int,
        size: Callable[[], int],
        mirror: Mirror | None = None,
        patient: bool = True,
    ) -> None:
        """For the process that writes log `epoch`, which has `size` leaves by now.

        One that is not `patient` leaves its last entries to a keeper that lives.
        Where the files are a copy of a database's, `mirror` brings them up to date.
        """
        self.failure = ""
        self._files = files
        self._keeper = keeper
        self._size = size
        self._mirror = mirror
        self._patience = _AT_THE_END if patient else 0.0
        finish = None if mirror is None else mirror.finish
        self._publisher = Publisher(files, keyring, epoch=epoch, finish=finish)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log-publisher", daemon=True)
        self.start = self._thread.start

    @property
    def lag(self) -> int:
        """How many durable entries of the own log no checkpoint covers."""
        return max(0, self._size() - self._publisher.covered)

    def stop(self) -> None:
        """See that what is left is published, after the writer has stopped."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._tell(self._round(last=False))
            self._stopping.wait(_EVERY)
        until = time.monotonic() + self._patience
        while (
            True
        ):  # where the keeper ends too, it may have done its last round before we wrote our last
            self._tell(self._round(last=True))
            if self._keeper.is_here or self._publisher.done or time.monotonic() > until:
                break
            time.sleep(_LOOK)
        self._publisher.close()
        self._keeper.resign()

    def _round(self, *, last: bool) -> str:
        try:
            if not self._keeper.look():
                self._publisher.look()
                return ""
            if behind := self._catch_up():  # then the copy may end within what one log has by now
                return behind
            if last or self.failure or self._publisher.news:
                return self._publisher.round()
        except sqlite3.Error as error:
            return explain(error, self._files.leaves)
        except OSError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a silent death would be the worst of them
            return where(error)
        return ""

    def _catch_up(self) -> str:
        """Copy what the database has, where there is one; why it cannot be copied. Raises sqlite3.Error."""
        try:
            if self._mirror is not None:
                self._mirror.catch_up()
        except LogUnavailable as error:
            return str(error)
        return ""

    def _tell(self, failure: str) -> None:
        """Once for each thing that goes wrong, and when all is well again."""
        if failure != self.failure:
            said = f"is not published: {failure}" if failure else "is published again"
            _LOGGER.warning("access log: %s %s", self._files.tiles, said)
        self.failure = failure
