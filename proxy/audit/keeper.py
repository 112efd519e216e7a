"""Which of the processes that write an access log does for all of them what one has to do alone.

That is to keep the query projection, to publish tiles and checkpoints of all logs, and to retain these.
Whoever takes the lock first is the keeper; when it ends, however it ends, the next to look takes it over.
"""

from __future__ import annotations

from proxy.audit.locks import Held, Locks


class Keeper:
    """Whether it is this process."""

    def __init__(self, locks: Locks) -> None:
        self._locks = locks
        self._held: Held | None = None

    @property
    def is_here(self) -> bool:
        """Whether this process is the keeper."""
        return self._held is not None

    def look(self) -> bool:
        """Become the keeper where there is none; whether this process is it. Raises OSError."""
        if self._held is None:
            self._held = self._locks.take(Locks.KEEPER)
        return self.is_here

    def resign(self) -> None:
        """Leave it to the others."""
        held, self._held = self._held, None
        if held is not None:
            held.release()
