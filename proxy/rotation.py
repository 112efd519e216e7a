"""The keyring in force: one reference, that the file's new keyring takes the place of whole or not at all.

A request takes it with its snapshot of the policy, and keeps it to its end: what is under way goes on under
the keys that it began with. The file is looked at each second. A new keyring takes these steps:

    1 read, authenticated and opened (keys/file.py)
    2 each key that is in force is there too, and what is retired still is: else an older file, or that of
      another server, was put there, and what was sealed would open no more
    3 its record is durable: which ids seal and name, never a key
    4 swap one reference

Whatever goes wrong, the last good keyring stays in force, and the log, `/-/ready`, the metrics and
`keys list` say so. Once what was wrong is over, the file is taken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.access import AccessEvent, Step, new_access_id, timestamp
from proxy.audit import Asked, Reader
from proxy.audit.log import AccessLog
from proxy.errors import KeyringError, LogUnavailable, where
from proxy.keys import Keyring
from proxy.watching import Look, changes, look

_LOGGER: Final = logging.getLogger("counterfoil")

CAUSES: Final = ("not-opened", "keys-lost", "not-recorded", "internal-error")
"""Why a keyring is not taken."""
_MOST_IDS: Final = 256
"""Keys in one state that a record tells of, each of at most 32 characters."""
_AGAIN_SECONDS: Final = 5.0
"""When it is tried again: a file that was caught half-way, a key service that did not answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Untaken:
    """Why the file's keyring is not in force."""

    at: float
    cause: str
    """One of CAUSES."""
    why: str
    """For the operator."""


class KeysInForce:
    """Holds the keyring in force; takes new ones from the file."""

    def __init__(self, read: Callable[[], Keyring], *, paths: Sequence[Path]) -> None:
        """`read` gives the file's keyring or raises KeyringError; `paths` are the files that it reads.

        `open` and then `start` are called before anything else.
        """
        self.keyring: Keyring
        """The one reference; a request takes it once."""
        self.untaken: Untaken | None = None
        """Why the newest reading is not in force; None where it is."""
        self._read = read
        self._paths = tuple(paths)
        self._log: AccessLog
        self._seen: Look = {}
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Read the file; raises KeyringError."""
        self._seen = await look(self._paths)
        self.keyring = await asyncio.to_thread(self._read)

    async def start(self, log: AccessLog) -> None:
        """Put on record what is in force; raises LogUnavailable.

        An older file is noticed by what was in force last. It is said, no more: the newer one may be gone.
        """
        self._log = log
        lost = await asyncio.to_thread(_lost, log, self.keyring)
        if lost:
            _LOGGER.warning(
                "the keyring lacks keys that were in force, or retired: %s", ", ".join(lost)
            )
        await self._record("keys-loaded", self.keyring)

    def opaque(self, principal: str) -> str:
        """The id by which whoever is no requester is on record."""
        return self.keyring.opaque(principal)

    async def watch(self) -> None:
        """Take what changes, until cancelled."""
        async for _ in changes(lambda: self._paths, seen=self._seen, due=self._due, told=False):
            await self.reload(asked=False)

    async def reload(self, *, asked: bool = True) -> bool:
        """Take the file's keyring, or keep the last good one, loudly; True where it is in force.

        What nobody `asked` for is said once, however often it is found.
        """
        async with self._turn:
            untaken, before = await self._reload(), self.untaken
            self.untaken = untaken
            known = before is not None and untaken is not None and before.why == untaken.why
            if untaken is not None and (asked or not known):
                _LOGGER.error(
                    "keyring not taken, the last good one stays in force: %s", untaken.why
                )
                await self._record_untaken(untaken)
            return untaken is None

    async def _reload(self) -> Untaken | None:
        now = time.time()
        try:
            keyring = await asyncio.to_thread(self._read)  # 1
            lost = keyring.lost(self.keyring)  # 2
            if lost:
                why = f"it lacks keys that are in force, or has them otherwise: {', '.join(lost)}"
                return Untaken(at=now, cause="keys-lost", why=why)
            if not _same(keyring, self.keyring):
                await self._record("keys-loaded", keyring)  # 3
                self.keyring = self._log.keyring = keyring  # 4
                _LOGGER.info("keyring taken: %s seals, %s names", keyring.sealing, keyring.naming)
            elif self.untaken is not None:
                await self._record("keys-loaded", keyring)  # by the log, too, the refusal is over
                _LOGGER.info("the keyring's file is again the one that is in force")
        except KeyringError as exc:
            return Untaken(at=now, cause="not-opened", why=str(exc))
        except LogUnavailable as exc:
            return Untaken(at=now, cause="not-recorded", why=str(exc))
        except Exception as exc:  # noqa: BLE001 - whatever it is, nobody else would say it
            return Untaken(at=now, cause="internal-error", why=where(exc))
        return None

    def _due(self) -> bool:
        return self.untaken is not None and time.time() >= self.untaken.at + _AGAIN_SECONDS

    async def _record_untaken(self, untaken: Untaken) -> None:
        try:
            await self._record("keys-refused", self.keyring, cause=untaken.cause)
        except LogUnavailable as exc:
            _LOGGER.error("the refusal of a keyring is not on record: %s", exc)

    async def _record(self, step: Step, keyring: Keyring, *, cause: str = "") -> None:
        event = AccessEvent(
            access=new_access_id(),
            step=step,
            at=timestamp(time.time()),
            cause=cause,
            parameters=dict(_told(keyring)),
        )
        await self._log.append(event)


def _lost(log: AccessLog, keyring: Keyring) -> list[str]:
    """The ids of keys that the access log knows last, and that are gone or no longer retired."""
    with Reader(log.up_to_date()) as reader:
        (last,) = reader.query(Asked(outcome="keys-loaded"), limit=1) or (None,)
    if last is None:
        return []
    here = {key.id: key.state for key in keyring.keys}
    known = [(what, id_) for what, ids in last.parameters.items() for id_ in ids.split()]
    lost = {
        id_
        for what, id_ in known
        if not id_.startswith("+")
        and (id_ not in here or (what == "retired" and here[id_] != "retired"))
    }
    return sorted(lost)


def _told(keyring: Keyring) -> Mapping[str, str]:
    """What is told of a keyring: ids by what their keys do."""
    told = {"seals": keyring.sealing, "names": keyring.naming}
    for state in ("standby", "retired"):
        ids = [key.id for key in keyring.keys if key.state == state]
        if len(ids) > _MOST_IDS:  # the newest; an entry of the log has at most 65,535 bytes
            ids = [f"+{len(ids) - _MOST_IDS}", *ids[-_MOST_IDS:]]
        if ids:
            told[state] = " ".join(ids)
    return told


def _same(one: Keyring, other: Keyring) -> bool:
    """Whether both have the same keys in the same states; which keys they are was looked at."""
    states = [[(key.id, key.state) for key in each.keys] for each in (one, other)]
    does = [(each.sealing, each.naming) for each in (one, other)]
    return states[0] == states[1] and does[0] == does[1]
