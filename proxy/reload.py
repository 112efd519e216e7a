"""The policy in force: one reference, that a new policy takes the place of whole or not at all.

PROMISE 3 (all or nothing): a request finds one whole version or the one before it, whatever the
files look like meanwhile. A new policy takes these steps:

    1 read the folder in one state (snapshot.read_folder)
    2 sealed, or as committed, where that is required
    3 parse and check
    4 no lockdown is gone that no command lifted
    5 what tests.yaml expects of it
    6 keep it by its hash
    7 its record is durable: who wrote it, what it follows
    8 swap one reference

Whatever goes wrong, the last good policy stays in force, and the log, `/-/ready`, the metrics and
`policy status` say so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from proxy import durable, lockdowns
from proxy.audit.locks import Locks
from proxy.audit.log import AccessLog
from proxy.errors import CounterfoilError, Fault, Faulty, LogUnavailable, where
from proxy.policy import granting
from proxy.policy.granting import LOCKDOWN_FILE
from proxy.policy.index import Policy
from proxy.policy.piecemeal import free_gently, yielding
from proxy.policy.source import POLICY_FILE
from proxy.readings import PASSING, NotTaken, Readings, Refused
from proxy.seal import LOCK, MustBe, uncommitted, unlike
from proxy.snapshot import FILES, Snapshot, misnamed, read_folder, snapshot_of, with_rules
from proxy.versions import Versions
from proxy.watching import Look, changes, look
from proxy.worktree import Commit, head_of, marks_of

_LOGGER: Final = logging.getLogger("counterfoil")
_AGAIN_SECONDS: Final = 5.0
"""When it is tried again, where the policy was not to blame."""
_CHANGE_SECONDS: Final = 30.0
"""How long a change waits for one that another process makes."""
_LOOK_SECONDS: Final = 0.01
T = TypeVar("T")
Spread = Callable[[str, bytes], Awaitable[int]]
"""Tells the other processes of a file that was changed; how many have not taken it yet."""


async def nobody_else(name: str, content: bytes) -> int:  # noqa: ARG001 - there is nobody to tell
    """This process is the only one."""
    return 0


Expectations = Callable[[Snapshot, Mapping[str, bytes]], Sequence[Fault]]
"""What of the policy, as its authors wrote it, is not as its own tests.yaml says; raises Faulty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    """A policy that may be put in force."""

    snapshot: Snapshot
    files: Mapping[str, bytes]
    commit: Commit | None
    """The commit that the files are those of, where git knows one."""


class NotChanged(CounterfoilError):
    """A grant or lockdown is not in force; the text may be shown to who asked for it."""


class PolicyInForce:
    """Holds the snapshot in force; takes new ones from the folder."""

    def __init__(
        self,
        *,
        folder: Path,
        environment: Mapping[str, str],
        log: AccessLog,
        opaque: Callable[[str], str],
        versions: Versions,
        must_be: MustBe | None = None,
        expectations: Expectations | None = None,
        spread: Spread = nobody_else,
        commands: frozenset[str] = frozenset(),
        closed: frozenset[Path] = frozenset(),
    ) -> None:
        """`start` is called before anything else; `opaque` gives the id by which an author is on record.

        `commands` are those that counterfoil.yaml names; files that are `closed` are shown to no store.
        """
        self.folder = folder
        self.snapshot: Snapshot
        """PROMISE 3: the one reference; a request takes it once."""
        self.refused: Refused | None = None
        """Why the newest reading is not in force; None where it is."""
        self.since = 0.0
        """When the snapshot was put in force."""
        self.outcomes = {"taken": 0, "unchanged": 0, "refused": 0}
        """How many readings and changes ended how, since the start."""
        self._environment = environment
        self._commands = commands
        self._closed = closed
        self._log = log
        self._readings = Readings(log, opaque)
        self._versions = versions
        self._must_be = must_be
        self._marks: tuple[Path, ...] = ()
        self._expectations = expectations
        self._started = False
        self._files: Mapping[str, bytes] = {}
        self._lifted: set[str] = set()
        """The ids of lockdowns that a command ended."""
        self._seen: Look = {}
        self._written = False  # by a change, while the folder was not read since
        self._spread = spread
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Put the folder's policy in force; raises Faulty, LogUnavailable or CounterfoilError."""
        if self._must_be == "committed":
            self._marks = await asyncio.to_thread(marks_of, self.folder)
        self._seen = await look(self._paths())
        try:
            candidate = await asyncio.to_thread(self._read, None)
        except Faulty as exc:
            await self._record_refused(self._refusal(exc, time.time()))
            raise
        await self._put_in_force(candidate)
        self._started = True

    def text(self, name: str) -> str:
        """A file of the policy in force, as text; '' where it has none of that name."""
        return self._files.get(name, b"").decode()

    async def watch(self) -> None:
        """Take what changes, until cancelled."""
        async for _ in changes(self._paths, seen=self._seen, due=self._due):
            await self.reload(asked=False)

    async def reload(self, *, asked: bool = True) -> bool:
        """Take the folder's policy whole, or keep the last good one, loudly; True where it is in force.

        What nobody `asked` for is said once, however often it is found.
        """
        async with self._turn:  # an older reading never follows a newer one
            before, refused = self.refused, await self._reload()
            self.refused = refused
            self.outcomes["refused"] += refused is not None
            if refused is not None and (asked or not refused.is_as(before)):
                _LOGGER.error("policy not taken, the last good one stays in force: %s", refused.why)
                await self._record_refused(refused)
            return refused is None

    async def _reload(self) -> Refused | None:
        now = time.time()
        self._written = False
        try:
            candidate = await asyncio.to_thread(self._read, self.snapshot)
            if _same(candidate.snapshot, self.snapshot):
                if self.refused is not None:
                    await self._record_taken(candidate)  # by the log, too, the refusal is over
                self.outcomes["unchanged"] += 1
                return None
            await self._put_in_force(candidate)
        except Faulty as exc:
            return self._refusal(exc, now)
        except LogUnavailable as exc:
            return Refused(at=now, cause="not-recorded", why=str(exc))
        except CounterfoilError as exc:
            return Refused(at=now, cause="not-kept", why=str(exc))
        except Exception as exc:  # noqa: BLE001 - whatever it is, nobody else would say it
            return Refused(at=now, cause="internal-error", why=where(exc))
        _LOGGER.info("policy %s is in force", self.snapshot.version[:12])
        return None

    def _refusal(self, exc: Faulty, now: float) -> Refused:
        cause, commit = (
            ("faulty", None) if not isinstance(exc, NotTaken) else (exc.cause, exc.commit)
        )
        return Refused(at=now, cause=cause, why=f"\n{exc}", faults=exc.faults, commit=commit)

    def _paths(self) -> tuple[Path, ...]:
        """All that the policy in force, or the next one, is read from, and what keeps it from being."""
        beside: tuple[str, ...] = ()
        if self._started:
            beside = (
                *self.snapshot.catalogue.files,
                *self.snapshot.identities.files,
                *self.snapshot.identities.secrets,
            )
        names = (LOCK, *FILES, *misnamed(self.folder), *beside)
        return (*self._marks, *[self.folder / name for name in names])

    @property
    def _version(self) -> str:
        return self.snapshot.version if self._started else ""

    def _due(self) -> bool:
        """Whether to look though no file changed: it may since a change, or a refusal may be over."""
        refused = self.refused
        if refused is None or refused.cause not in PASSING or self._written:
            return self._written
        return time.time() >= refused.at + _AGAIN_SECONDS

    def _read(self, previous: Snapshot | None) -> _Candidate:
        """Steps 1 to 5, in a thread; raises Faulty, and at a start CounterfoilError."""
        files = read_folder(self.folder)
        commit = head_of(self.folder)
        # Else the files are somebody's, but not those of the commit's author.
        author = None if commit is None or uncommitted(self.folder, files, commit) else commit

        def check(faults: Sequence[Fault], cause: str) -> None:
            if faults:
                raise NotTaken(faults, cause, author)

        unfit = f"not-{self._must_be}"
        check(unlike(self._must_be, self.folder, files, commit), unfit)
        with yielding():
            try:
                snapshot = snapshot_of(
                    files,
                    folder=self.folder,
                    environment=self._environment,
                    previous=previous,
                    commands=self._commands,
                    closed=self._closed,
                )
            except Faulty as exc:
                raise NotTaken(exc.faults, "faulty", author) from None
            if previous is None or snapshot.policy is not previous.policy:
                free_gently(snapshot.policy, snapshot.policy.pieces)
            keys = snapshot.identities.files
            check(unlike(self._must_be, self.folder, keys, commit, keys=True), unfit)
            check(self._lost(files), "lockdown-lost")
            if self._expectations is not None:
                check(self._expectations(snapshot, files), "faulty")
        return _Candidate(snapshot=snapshot, files=files, commit=author)

    def _lost(self, files: Mapping[str, bytes]) -> list[Fault]:
        """Step 4; at a start, by what the access log says was in force."""
        locked, lifted = self.text(LOCKDOWN_FILE), self._lifted
        if not self._started:
            locked, lifted = lockdowns.left(self._log.up_to_date(), self._versions, files)
        gone = list(lockdowns.lost(locked, files, lifted=lifted))
        if gone and self._started:  # unless another process was asked for that
            lifted = lifted | lockdowns.lifted(
                self._log.up_to_date(), granting.ids(locked.encode())
            )
            gone = list(lockdowns.lost(locked, files, lifted=lifted))
        return gone

    async def change(
        self,
        name: str,
        edit: Callable[[Policy, str], str],
        record: Callable[[], Awaitable[T]],
    ) -> tuple[T, int]:
        """Put the policy in force with another `name`, one of the server's own files.

        `edit` makes its text anew, `record` puts the change on record before anything is written. The
        rest is as it is in force, whatever the folder holds meanwhile. Gives how many other processes have
        not taken it yet, too. Raises NotChanged, and what `edit` and `record` raise.
        """
        async with self._alone():
            receipt, content = await self._change(name, edit, record)
            return receipt, await self._spread(name, content)

    async def take(self, name: str, content: bytes) -> None:
        """Put in force here what another process was asked for, has put on record and has written.

        The rest is as it is in force here. Raises CounterfoilError.
        """
        async with self._turn:
            before = self._files.get(name, b"")
            if before == content:
                return
            changed = {**self._files, name: content}
            snapshot = await asyncio.to_thread(self._changed, changed)
            self._lifted |= granting.ids(before) - granting.ids(content)
            self._written = True
            await self._put_in_force_beside(snapshot, changed)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """While no other process changes the server's own files. Raises NotChanged."""
        locks = Locks(self._log.files.locks)
        until = time.monotonic() + _CHANGE_SECONDS
        while (held := locks.take(Locks.CHANGES)) is None:
            if time.monotonic() > until:
                raise NotChanged("another process is changing the policy")
            await asyncio.sleep(_LOOK_SECONDS)
        try:
            yield
        finally:
            held.release()

    async def _change(
        self,
        name: str,
        edit: Callable[[Policy, str], str],
        record: Callable[[], Awaitable[T]],
    ) -> tuple[T, bytes]:
        async with self._turn:
            files, before = self._files, self._files.get(name, b"")
            content = edit(self.snapshot.policy, before.decode()).encode()
            changed = {**files, name: content}
            try:
                snapshot = await asyncio.to_thread(self._changed, changed)
            except Faulty as exc:
                raise NotChanged(f"with it the policy is wrong: {exc.faults[0]}") from exc
            path = self.folder / name
            found = await asyncio.to_thread(_content, path)
            cut_off = name == LOCKDOWN_FILE and before.startswith(found)
            if found != before and not cut_off:
                raise NotChanged(f"`{name}` was changed by hand, and is not in force like that")
            receipt = await record()
            self._written = True
            try:
                await asyncio.to_thread(durable.write, path, content, mode=self._mode())
                self._lifted |= granting.ids(before) - granting.ids(content)
                await self._put_in_force_beside(snapshot, changed)
            except OSError as exc:
                raise NotChanged(f"`{name}` cannot be written: {exc.strerror}") from exc
            except CounterfoilError as exc:
                self.outcomes["refused"] += 1
                self.refused = Refused(at=time.time(), cause="not-kept", why=str(exc))
                await self._record_refused(self.refused)
                raise NotChanged(f"it is written, but not in force yet: {exc}") from exc
            return receipt, content

    async def _put_in_force_beside(self, snapshot: Snapshot, files: Mapping[str, bytes]) -> None:
        """The same, where the folder may hold something else that is refused: it still is."""
        refused = self.refused
        await self._put_in_force(_Candidate(snapshot=snapshot, files=files, commit=None))
        if refused is not None:
            self.refused = replace(refused, at=time.time())
            await self._record_refused(self.refused)

    def _changed(self, files: Mapping[str, bytes]) -> Snapshot:
        with yielding():
            snapshot = with_rules(self.snapshot, files)
        free_gently(snapshot.policy, snapshot.policy.pieces)
        return snapshot

    def _mode(self) -> int:
        """Who may read a policy file may read what the server writes beside it."""
        return (self.folder / POLICY_FILE).stat().st_mode & 0o666

    async def _put_in_force(self, candidate: _Candidate) -> None:
        """Steps 6 to 8; raises CounterfoilError where one is not done."""
        version = candidate.snapshot.version
        try:
            await asyncio.to_thread(self._versions.keep, version, candidate.files)
        except OSError as exc:
            raise CounterfoilError(f"the version cannot be kept: {exc.strerror}") from exc
        # PROMISE 2 (no record, no data): what is decided by a policy is decided by one on record.
        await self._record_taken(candidate)
        if self._started:
            fewer = self.snapshot.policy.denials - candidate.snapshot.policy.denials
            # A file that was cut off at a line's end looks like this, and like nothing else.
            if fewer > 0:
                _LOGGER.warning("policy %s has %d fewer lines that deny", version[:12], fewer)
        self.refused = None  # first: nobody sees the new policy beside the old one's refusal
        self.snapshot, self._files = candidate.snapshot, candidate.files
        self.since = time.time()
        self.outcomes["taken"] += self._started

    async def _record_taken(self, candidate: _Candidate) -> None:
        version = candidate.snapshot.version
        await self._readings.taken(version, previous=self._version, commit=candidate.commit)

    async def _record_refused(self, refused: Refused) -> None:
        await self._readings.refused(refused, previous=self._version)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _same(one: Snapshot, other: Snapshot) -> bool:
    """Whether both decide alike and know the same tokens and credentials."""
    return (
        one.version == other.version
        and one.catalogue.stores == other.catalogue.stores
        and one.identities.files == other.identities.files
        and one.identities.clients == other.identities.clients
    )
