"""How many answers at once may take memory that grows with the report, and whose they are."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


class NoTurn(Exception):
    """No further answer of this kind may be made now, or none of this requester's; `cause` is a slug."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(cause)


class Turns:
    """PROMISE 4 (bounded memory): so many answers of one kind.

    Of them one requester has a quarter, and one store's reports three quarters, so that one that hangs leaves
    room for others.
    """

    def __init__(self, most: int, *, cause: str) -> None:
        """`cause` says why there is none left."""
        self._most = most
        self._cause = cause
        self._subjects: dict[str, int] = {}
        self._stores: dict[str, int] = {}

    @contextmanager
    def taken(self, subject: str, store: str) -> Iterator[None]:
        """While one of them is made; raises NoTurn."""
        if (
            sum(self._subjects.values()) >= self._most
            or self._subjects.get(subject, 0) >= max(1, self._most // 4)
            or self._stores.get(store, 0) >= self._most - self._most // 4
        ):
            raise NoTurn(self._cause)
        with _counted(self._subjects, subject), _counted(self._stores, store):
            yield


class Running:
    """Which permitted requests are under way: so many of one subject.

    Of one store they may be no more than three quarters, so that one that hangs leaves room for others.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._subjects: dict[str, int] = {}
        self._stores: dict[tuple[str, str], int] = {}

    def total(self) -> int:
        """Of all subjects."""
        return sum(self._subjects.values())

    def refuses(self, subject: str, store: str) -> str:
        """Why there may be no further one, a slug; '' where there may."""
        if self._subjects.get(subject, 0) >= self._most:
            return "too-many-requests"
        if self._stores.get((subject, store), 0) >= self._most - self._most // 4:
            return "too-many-requests-of-store"
        return ""

    def begin(self, subject: str, store: str) -> None:
        """One more is under way, until its `end`."""
        _more(self._subjects, subject)
        _more(self._stores, (subject, store))

    def end(self, subject: str, store: str) -> None:
        """One of them is over."""
        _less(self._subjects, subject)
        _less(self._stores, (subject, store))


@contextmanager
def _counted(counter: dict[K, int], key: K) -> Iterator[None]:
    """One more, for a while."""
    _more(counter, key)
    try:
        yield
    finally:
        _less(counter, key)


def _more(counter: dict[K, int], key: K) -> None:
    counter[key] = counter.get(key, 0) + 1


def _less(counter: dict[K, int], key: K) -> None:
    """One less; what is none is not kept."""
    left = counter[key] - 1
    if left:
        counter[key] = left
    else:
        del counter[key]
