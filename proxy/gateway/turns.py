"""How many answers at once may take memory that grows with the report, and whose they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

K = TypeVar("K")


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
        self._subjects: Counter[str] = Counter()
        self._stores: Counter[str] = Counter()

    @contextmanager
    def taken(self, subject: str, store: str) -> Iterator[None]:
        """While one of them is made; raises NoTurn."""
        if (
            self._subjects.total() >= self._most
            or self._subjects[subject] >= max(1, self._most // 4)
            or self._stores[store] >= self._most - self._most // 4
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
        self._subjects: Counter[str] = Counter()
        self._stores: Counter[tuple[str, str]] = Counter()

    def total(self) -> int:
        """Of all subjects."""
        return self._subjects.total()

    def refuses(self, subject: str, store: str) -> str:
        """Why there may be no further one, a slug; '' where there may."""
        if self._subjects[subject] >= self._most:
            return "too-many-requests"
        if self._stores[subject, store] >= self._most - self._most // 4:
            return "too-many-requests-of-store"
        return ""

    def begin(self, subject: str, store: str) -> None:
        """One more is under way, until its `end`."""
        self._subjects[subject] += 1
        self._stores[subject, store] += 1

    def end(self, subject: str, store: str) -> None:
        """One of them is over."""
        _less(self._subjects, subject)
        _less(self._stores, (subject, store))


@contextmanager
def _counted(counter: Counter[K], key: K) -> Iterator[None]:
    """One more, for a while."""
    counter[key] += 1
    try:
        yield
    finally:
        _less(counter, key)


def _less(counter: Counter[K], key: K) -> None:
    """One less; what is none is not kept."""
    left = counter[key] - 1
    if left:
        counter[key] = left
    else:
        del counter[key]
