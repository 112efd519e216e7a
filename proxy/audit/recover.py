"""What a start owes to those who died: their logs sealed, their open accesses `unresolved`; and a new log.

An intent or progress record without an end means that the process died, or could not write, between
the record and the last byte. What was released is then not known, but no more than the records
cover was: so `unresolved` repeats what they cover. Nothing is deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from proxy.access import NO_EVENT, AccessEvent, decode, encode, new_access_id
from proxy.audit import registry
from proxy.audit.ledger import Epoch
from proxy.audit.locks import Held, Locks
from proxy.audit.registry import Signed
from proxy.audit.store import epoch_and_index, place_of
from proxy.audit.tiles import LONGEST
from proxy.errors import LogUnavailable
from proxy.keys import Keyring

OPENS: Final = frozenset({"intent", "progress"})
"""Steps after which an access is open."""

ENDS: Final = frozenset({"complete", "outcome", "refusal", "unresolved"})
"""Steps after which it is not."""

_COUNTS: Final = frozenset({"rows", "bytes", "micros"})
_DEFAULTS: Final = {
    field.name: field.default_factory() if callable(field.default_factory) else field.default
    for field in msgspec.structs.fields(AccessEvent)
}
_SHED: Final = ("parameters", "lines", "groups", "fields")
"""What an `unresolved` record leaves out, in this order, where it would be too long."""


class _Head(msgspec.Struct):
    access: str
    step: str


_HEAD: Final = msgspec.json.Decoder(_Head)


def merge(earlier: AccessEvent, later: AccessEvent) -> AccessEvent:
    """One record for both: `later`, or `earlier` where it is silent; counts never shrink."""
    changes: dict[str, object] = {}
    for name, default in _DEFAULTS.items():
        old = getattr(earlier, name)
        new = getattr(later, name)
        changes[name] = max(old, new) if name in _COUNTS else old if new == default else new
    return msgspec.structs.replace(earlier, **changes)


class Opens:
    """The accesses of a log that did not end, by its leaves so far."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, AccessEvent]] = {}

    def feed(self, leaves: Iterable[tuple[int, bytes]]) -> None:
        """The next leaves (place, entry). Raises LogUnavailable for one that is no event."""
        found = self._found
        for place, entry in leaves:
            try:
                head = _HEAD.decode(entry)
                if head.step in ENDS:
                    found.pop(head.access, None)
                elif head.step in OPENS:
                    event = decode(entry)
                    before = found.get(head.access)
                    found[head.access] = (
                        place,
                        event if before is None else merge(before[1], event),
                    )
            except NO_EVENT as error:
                epoch, index = epoch_and_index(place)
                raise LogUnavailable(
                    f"leaf {index} of log {epoch} is not an access event"
                ) from error

    def __iter__(self) -> Iterator[tuple[int, AccessEvent]]:
        """The place of the last record of each, and all its records merged, in the order they began in."""
        yield from self._found.values()


def open_accesses(leaves: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, AccessEvent]]:
    """The accesses among `leaves` that did not end; raises LogUnavailable for a leaf that is no event."""
    opens = Opens()
    opens.feed(leaves)
    yield from opens


def unresolved(event: AccessEvent, *, log: str, at: str) -> bytes:
    """The entry that closes `event`, an access left open in `log`."""
    closing = msgspec.structs.replace(
        event,
        step="unresolved",
        part=event.part + 1,
        at=at,
        log=log,
        ended="",
        digest="",
        evidence=(),  # which is in the records that it repeats
    )
    entry = encode(closing)
    for name in _SHED:
        if len(entry) <= LONGEST:
            break
        closing = msgspec.structs.replace(closing, **{name: _DEFAULTS[name]})
        entry = encode(closing)
    return entry


def again(
    connection: sqlite3.Connection, locks: Locks, *, at: str, keyring: Keyring
) -> tuple[Epoch, Held] | None:
    """Go on with a log of what operators do, unless all of them are old, sealed or written to just now.

    Raises LogUnavailable, OSError or sqlite3.Error.
    """
    identity = registry.identity_of(connection)
    try:
        logs = registry.logs(connection, "by_hand AND sealed IS NULL")
    except ValueError as error:
        raise LogUnavailable("the table of logs is damaged: a key in it is none") from error
    for log in logs:
        lock = locks.take(str(log.epoch))
        if lock is None:
            continue
        try:
            # Whoever seals a log has looked at its lock before: so now it is sealed, or nobody does it.
            connection.execute("BEGIN IMMEDIATE")
            opened, sealed = connection.execute(
                "SELECT opened, sealed FROM log WHERE epoch = ?", (log.epoch,)
            ).fetchone()
            (head,) = connection.execute("SELECT max(number) FROM leaf").fetchone()
            size = registry.size_of(connection, log.epoch)
            first = connection.execute(
                "SELECT entry FROM leaf WHERE place = ?", (place_of(log.epoch, 0),)
            ).fetchone()
            connection.execute("COMMIT")
            fits = sealed is None and first is not None
            if fits and registry.goes_on(log, opened, keyring, identity, at=at):
                return going_on(log, first[0], size=size, head=head), lock
        except BaseException:
            connection.rollback()
            lock.release()
            raise
        lock.release()
    return None


def going_on(log: Signed, first: bytes, *, size: int, head: int) -> Epoch:
    """A log that is written to again; raises LogUnavailable where its `first` entry is no event."""
    try:
        opened = _HEAD.decode(first).access
    except NO_EVENT as error:
        raise LogUnavailable(f"leaf 0 of log {log.epoch} is not an access event") from error
    return Epoch(
        number=log.epoch,
        name=log.name,
        opened=opened,
        size=size,
        head=head,
        unresolved=0,
        by_hand=True,
    )


def begin(
    connection: sqlite3.Connection,
    locks: Locks,
    *,
    origin: str,
    at: str,
    keyring: Keyring,
    by_hand: bool = False,
) -> tuple[Epoch, Held]:
    """Open a new log in one transaction: seal those of dead processes, append `opened` and what they owe.

    The new log is signed by a key of its own, derived from `keyring`; by the lock others see that the
    process lives.
    Raises LogUnavailable, OSError or sqlite3.Error; then nothing has changed.
    """
    lock = None
    connection.execute("BEGIN IMMEDIATE")
    try:
        (last,) = connection.execute("SELECT max(epoch) FROM log").fetchone()
        identity = registry.identity_of(connection)
        if last is None:
            last = registry.EPOCH
            name = f"{origin}/{registry.SUFFIX}"
            registry.insert(
                connection, registry.new(keyring, identity, epoch=last, name=name), at=at
            )
        number = last + 1
        name = f"{origin}/{number}"
        lock = locks.take(str(number))  # before anybody can see the log
        if lock is None:
            raise LogUnavailable(f"another process writes to this access log as {name}")
        log = registry.new(keyring, identity, epoch=number, name=name)
        opened = AccessEvent(access=new_access_id(), step="opened", at=at, log=name)
        entries = [encode(opened)]
        before = connection.execute(
            "SELECT epoch, name, settled FROM log WHERE sealed IS NULL AND epoch > 0"
        )
        for epoch, sealing, settled in before.fetchall():
            if locks.held(str(epoch)):
                continue
            leaves = connection.execute(
                "SELECT place, entry FROM leaf WHERE place >= ? AND place < ? ORDER BY place",
                (place_of(epoch, settled), place_of(epoch + 1, 0)),
            )
            entries += [unresolved(event, log=sealing, at=at) for _, event in open_accesses(leaves)]
            connection.execute("UPDATE log SET sealed = ? WHERE epoch = ?", (at, epoch))
        registry.insert(connection, log, at=at, by_hand=by_hand)
        registry.append(connection, [registry.Opened(at=at, key=str(log.key), log=name)])
        connection.executemany(
            "INSERT INTO leaf (place, entry) VALUES (?, ?)",
            [(place_of(number, index), entry) for index, entry in enumerate(entries)],
        )
        (head,) = connection.execute("SELECT max(number) FROM leaf").fetchone()
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        if lock is not None:
            lock.release(forget=True)
        raise
    epoch = Epoch(
        number=number,
        name=name,
        opened=opened.access,
        size=len(entries),
        head=head,
        unresolved=len(entries) - 1,
        by_hand=by_hand,
    )
    return epoch, lock
