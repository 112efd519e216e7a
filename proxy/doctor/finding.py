"""What was found by looking at one thing: whether it is as it is to be, and else what to do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Self

from proxy.catalogue import Catalogue
from proxy.config import Config
from proxy.errors import Fault
from proxy.identity import Identities


class State(IntEnum):
    """From good to bad; the worst one found is the exit status."""

    OK = 0
    WARN = 1
    """The proxy starts and works, and somebody should look."""
    FAIL = 2
    """It does not start, or refuses what it should give."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One row of the table; no text of it holds a secret, a cell or what a peer answered."""

    check: str
    what: str
    """The thing that was looked at: a file, a store, a setting."""
    state: State
    text: str
    fix: str = ""
    """What to do; '' where nothing is."""
    command: str = ""
    """… and what to paste for it."""

    @classmethod
    def of(cls, check: str, fault: Fault) -> Self:
        """A fault of a file."""
        place = ":".join([fault.file, *(str(n) for n in (fault.line, fault.column) if n)])
        return cls(check=check, what=place, state=State.FAIL, text=fault.message, fix=fault.hint)


@dataclass(frozen=True, kw_only=True, slots=True)
class Patient:
    """What is looked at; catalogue and identities are None where their files are at fault."""

    file: Path
    """counterfoil.yaml."""
    config: Config
    catalogue: Catalogue | None
    identities: Identities | None


Check = Callable[[Patient], Coroutine[Any, Any, Iterable[Finding]]]
"""Looks at one kind of thing. It runs beside the others, for a bounded time."""
