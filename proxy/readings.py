"""How a reading of the policy's folder ends, and its record: taken, or refused for one of CAUSES."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from proxy.access import AccessEvent, new_access_id, timestamp
from proxy.audit.log import AccessLog
from proxy.errors import Fault, Faulty, LogUnavailable
from proxy.worktree import Commit

_LOGGER: Final = logging.getLogger("counterfoil")

CAUSES: Final = (
    "faulty", "not-sealed", "not-committed", "lockdown-lost", "not-kept", "not-recorded",
    "internal-error",
)  # fmt: skip
"""Why a policy is not taken."""
PASSING: Final = frozenset({"not-kept", "not-recorded"})
"""Causes that are no fault of the policy's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """Why what the folder holds is not in force."""

    at: float
    cause: str
    """One of CAUSES."""
    why: str
    """For the operator."""
    faults: tuple[Fault, ...] = ()
    commit: Commit | None = None
    """The commit that the folder's files are those of, where git knows one."""

    def is_as(self, other: Refused | None) -> bool:
        """Whether nothing is different from an earlier refusal but the time."""
        return other is not None and (self.cause, self.why) == (other.cause, other.why)


class NotTaken(Faulty):
    """What the folder holds may not be put in force, for a cause of CAUSES."""

    def __init__(self, faults: Iterable[Fault], cause: str, commit: Commit | None) -> None:
        self.cause = cause
        self.commit = commit
        super().__init__(faults)


class Readings:
    """Puts on record how readings of the folder ended, and whose commit each was."""

    def __init__(self, log: AccessLog, opaque: Callable[[str], str]) -> None:
        """`opaque` gives the id by which a principal is on record."""
        self._log = log
        self._opaque = opaque

    async def taken(self, version: str, *, previous: str, commit: Commit | None) -> None:
        """Put it on record that a version follows another; raises LogUnavailable."""
        author, id_ = _author(commit)
        event = AccessEvent(
            access=new_access_id(),
            step="policy-loaded",
            at=timestamp(time.time()),
            subject=self._opaque(author) if author else "",
            policy=version,
            previous=previous,
            commit=id_,
        )
        await self._log.append(event, principal=author)

    async def refused(self, refused: Refused, *, previous: str) -> None:
        """Put a refusal on record; where that cannot be done, say so to the operator."""
        first = next(iter(refused.faults), None)
        author, id_ = _author(refused.commit)
        event = AccessEvent(
            access=new_access_id(),
            step="policy-refused",
            at=timestamp(refused.at),
            subject=self._opaque(author) if author else "",
            commit=id_,
            previous=previous,
            cause=refused.cause,
            lines=(f"{first.file}:{first.line}" if first.line else first.file,) if first else (),
            count=len(refused.faults),
        )
        try:
            await self._log.append(event, principal=author)
        except LogUnavailable as exc:
            _LOGGER.error("the refusal of a policy is not on record: %s", exc)


def _author(commit: Commit | None) -> tuple[str, str]:
    """The principal that a commit's author is on record as, and the commit's id."""
    return (f"author:{commit.author}", commit.id) if commit is not None else ("", "")
