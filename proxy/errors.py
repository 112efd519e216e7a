"""The error tree: every failure that Counterfoil raises on purpose.

    CounterfoilError
    ├── Faulty             files that a person wrote are wrong: all faults at once, each with its place
    ├── SourceRefused      the store's answer is not the document that the catalogue declares
    │   ├── TooLargeToSort … or has too many rows to sort for one who may not know their order
    │   ├── TooLargeToCount … or to count them first, for one who may see large groups alone
    │   │   └── TooManyGroups … or has too many groups of them
    │   └── SpoolFull      … or is too much to put aside
    │       └── SpoolsFull … beside all that is put aside at this moment
    ├── StoreUnavailable   the store did not answer, or answered with an error
    │   ├── StoreTimeout   … in time
    │   └── StoreNotAsked  … for it is not asked at the moment
    ├── MalformedTarget    a request's target is none that a client of reports sends   (catalogue)
    ├── BadParameter       a query is not one that the catalogue declares              (catalogue)
    ├── LogUnavailable     an access event could not be made durable
    ├── KeyringError       a key is missing, sealed under another key, or its file is not private
    └── ValueRefused       a sealed or encrypted value was tampered with or moved

No message of this tree holds a cell's value, a token or a credential.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from dataclasses import dataclass


class CounterfoilError(Exception):
    """The root of the tree; its text may be shown to an operator."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Fault:
    """One thing wrong in a file that a person wrote; `line` and `column` count from 1, 0 = whole file."""

    file: str
    line: int = 0
    column: int = 0
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}"
            if self.column:
                place += f":{self.column}"
        text = f"{place}: {self.message}" + (f" ({self.hint})" if self.hint else "")
        if text.isprintable():
            return text
        # A name in it may hold a line end or an escape: it must forge no line of a log.
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Faulty(CounterfoilError):
    """One or more faults in configuration or policy files; `faults` is sorted by place and never empty."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(sorted(faults))
        if not self.faults:
            raise ValueError("a Faulty needs at least one fault")
        super().__init__("\n".join(map(str, self.faults)))


class SourceRefused(CounterfoilError):
    """The store's document is not what the catalogue declares; `cause` is a fixed slug, never data."""

    def __init__(self, cause: str, message: str) -> None:
        self.cause = cause
        super().__init__(message)


class TooLargeToSort(SourceRefused):
    """The rows that a requester may see, but not in the store's order, are over the limit."""

    def __init__(self) -> None:
        super().__init__("too-large-to-sort", "the rows to sort are over the limit")


class TooLargeToCount(SourceRefused):
    """The document whose rows must be counted before any is given is over the limit."""

    def __init__(self) -> None:
        super().__init__("too-large-to-count", "the document to count rows of is over the limit")


class TooManyGroups(TooLargeToCount):
    """The groups in which its rows are counted are over the limit."""

    def __init__(self) -> None:
        super(TooLargeToCount, self).__init__(
            "too-many-groups", "the groups of rows are over the limit"
        )


class SpoolFull(SourceRefused):
    """A document has to be put aside before it can be read, and is over the limit for that."""

    def __init__(self) -> None:
        super().__init__("spool-full", "the document is over the limit for what is put aside")


class SpoolsFull(SpoolFull):
    """There is no room for one more document beside those that are put aside at this moment."""

    def __init__(self) -> None:
        super(SpoolFull, self).__init__("spools-full", "too much is put aside at this moment")


class StoreUnavailable(CounterfoilError):
    """The store could not be asked or answered with an error; `cause` is a fixed slug."""

    def __init__(self, cause: str, message: str) -> None:
        self.cause = cause
        super().__init__(message)


class StoreTimeout(StoreUnavailable):
    """The store did not answer within its deadline."""


class StoreNotAsked(StoreUnavailable):
    """The store is left alone for a while, or has as many requests as it may; `after` is in seconds."""

    def __init__(self, cause: str, message: str, *, after: int) -> None:
        self.after = after
        super().__init__(cause, message)


class LogUnavailable(CounterfoilError):
    """The access log cannot make an event durable: nothing may be released."""


class KeyringError(CounterfoilError):
    """The keyring cannot be opened or has no such key."""


class ValueRefused(CounterfoilError):
    """An encrypted value does not open: tampered with, moved, or sealed under another key."""


def where(exc: BaseException) -> str:
    """Where an error arose, without its message: that may hold a value of the report."""
    frames = traceback.extract_tb(exc.__traceback__)
    places = " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in reversed(frames))
    return f"{type(exc).__name__} at {places}"
