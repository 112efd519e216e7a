"""Whether a store is asked at all: after failures it is left alone for a while, then asked by one request.

    closed ── so many failures in a row, or of the last ones ──▶ open
    open ── its time is over: one request goes as a probe ──▶ half-open
    half-open ── the probe has a head ──▶ closed;   it fails ──▶ open, for twice as long

A failure is that there was no connection, no answer in time, or none from behind a gateway (502, 503,
504). An error that the store itself answers is none, nor is what a requester breaks off or takes so slowly
that the store does: nobody shall shut a store for others by asking for what fails. Pure: it is given the
time, in seconds of any one clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

State = Literal["closed", "open", "half-open"]
STATES: Final[tuple[State, ...]] = ("closed", "open", "half-open")

_LOOKED_AT: Final = 4
"""So many times as many requests as may fail in a row are looked at: more than half of them may not fail."""
_LONGEST: Final = 60.0


class Suspended(Exception):
    """The store is not asked now; `after` seconds it may be."""

    def __init__(self, after: float) -> None:
        self.after = after
        super().__init__()


class Trial:
    """One request to the store: what comes of it is told once, or it is let go."""

    __slots__ = ("_breaker", "_era", "probe")

    def __init__(self, breaker: Breaker, era: int, *, probe: bool) -> None:
        self._breaker = breaker
        self._era = era
        self.probe = probe

    def answered(self) -> bool:
        """The head of an answer has come; True where the store is asked again by everybody."""
        return self._counts() and self._breaker._answered(self)  # noqa: SLF001 - one thing in two classes

    def failed(self, now: float) -> bool:
        """There was no answer; True where the store is asked no more."""
        return self._counts() and self._breaker._failed(self, now)  # noqa: SLF001 - as above

    def succeeded(self) -> None:
        """All went well."""
        if self._counts():
            self._breaker._succeeded()  # noqa: SLF001 - as above

    def let_go(self) -> None:
        """Nobody waits for it any more: it tells nothing."""
        if self._counts() and self.probe:
            self._breaker._probe_lost()  # noqa: SLF001 - as above

    def _counts(self) -> bool:
        """Whether it was begun in the state that the breaker is in: what is older tells of the past."""
        return self._era == self._breaker.era


class Breaker:
    """One store's."""

    def __init__(self, *, failures: int, suspend: float) -> None:
        """`failures` in a row open it, or more than half of four times as many.

        It stays so for `suspend` seconds at first.
        """
        self._most = failures
        self._first = suspend
        self._pause = suspend
        self._until = 0.0
        self._in_a_row = 0
        self._last: deque[bool] = deque(maxlen=_LOOKED_AT * failures)
        self.state: State = "closed"
        self.era = 0
        """Counts the changes of state."""

    def refuses(self, now: float) -> float:
        """For how many seconds the store is asked no more; 0 where it may be asked now."""
        match self.state:
            case "closed":
                return 0.0
            case "open":
                return max(0.0, self._until - now)
            case "half-open":
                return self._pause

    def begin(self, now: float) -> Trial:
        """A request is about to go; raises Suspended."""
        after = self.refuses(now)
        if after:
            raise Suspended(after)
        if self.state == "open":
            self._enter("half-open")
            return Trial(self, self.era, probe=True)
        return Trial(self, self.era, probe=False)

    def _answered(self, trial: Trial) -> bool:
        if not trial.probe:
            return False
        self._enter("closed")
        trial._era, trial.probe = self.era, False  # noqa: SLF001 - as above
        self._last.clear()
        self._in_a_row = self._most - 1  # until an answer ends well, one failure is enough
        return True

    def _succeeded(self) -> None:
        self._in_a_row = 0
        self._pause = self._first
        self._last.append(True)

    def _failed(self, trial: Trial, now: float) -> bool:
        if trial.probe:
            self._pause = min(2 * self._pause, max(_LONGEST, self._first))
            self._open(now)
            return False  # it is no news
        self._in_a_row += 1
        self._last.append(False)
        looked_at = _LOOKED_AT * self._most
        many = len(self._last) == looked_at and 2 * sum(self._last) < looked_at
        if self._in_a_row < self._most and not many:
            return False
        self._open(now)
        return True

    def _probe_lost(self) -> None:
        self._enter("open")  # its time is over: the next request goes

    def _open(self, now: float) -> None:
        self._until = now + self._pause
        self._last.clear()
        self._in_a_row = 0
        self._enter("open")

    def _enter(self, state: State) -> None:
        self.state = state
        self.era += 1
