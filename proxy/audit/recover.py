"""What a start owes to the run before: a new log, the old ones sealed, open accesses `unresolved`.

An intent or progress record without an end means that the process died, or could not write, between
the record and the last byte. What was released is then not known, but no more than the records
cover was: so `unresolved` repeats what they cover. Nothing is deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from proxy.access import AccessEvent, decode, encode, new_access_id
from proxy.audit.store import LONGEST, epoch_and_index, place_of
from proxy.errors import LogUnavailable

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """A log that was just opened for writing."""

    number: int
    name: str
    opened: str
    """The access id of its `opened` record."""
    size: int
    """How many leaves it has."""
    unresolved: int
    """How many accesses of earlier logs were found open."""


def merge(earlier: AccessEvent, later: AccessEvent) -> AccessEvent:
    """One record for both: `later`, or `earlier` where it is silent; counts never shrink."""
    changes: dict[str, object] = {}
    for name, default in _DEFAULTS.items():
        old = getattr(earlier, name)
        new = getattr(later, name)
        changes[name] = max(old, new) if name in _COUNTS else old if new == default else new
    return msgspec.structs.replace(earlier, **changes)


def open_accesses(leaves: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, AccessEvent]]:
    """The accesses among `leaves` (place, entry) that did not end, in the order they began in.

    Yields the place of the last record, and all records merged. Raises LogUnavailable for a leaf
    that is no event.
    """
    found: dict[str, tuple[int, AccessEvent]] = {}
    for place, entry in leaves:
        try:
            head = _HEAD.decode(entry)
            if head.step in ENDS:
                found.pop(head.access, None)
            elif head.step in OPENS:
                event = decode(entry)
                before = found.get(head.access)
                found[head.access] = (place, event if before is None else merge(before[1], event))
        except (msgspec.MsgspecError, UnicodeError) as error:
            epoch, index = epoch_and_index(place)
            raise LogUnavailable(f"leaf {index} of log {epoch} is not an access event") from error
    yield from found.values()


def unresolved(event: AccessEvent, *, log: str, at: str) -> bytes:
    """The entry that closes `event`, an access left open in `log`."""
    closing = msgspec.structs.replace(
        event, step="unresolved", part=event.part + 1, at=at, log=log, ended="", digest=""
    )
    entry = encode(closing)
    for name in _SHED:
        if len(entry) <= LONGEST:
            break
        closing = msgspec.structs.replace(closing, **{name: _DEFAULTS[name]})
        entry = encode(closing)
    return entry


def begin(connection: sqlite3.Connection, *, origin: str, at: str) -> Epoch:
    """Open a new log in one transaction: seal those before it, append `opened` and what they owe.

    Raises LogUnavailable or sqlite3.Error; then nothing has changed.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        (last,) = connection.execute("SELECT coalesce(max(epoch), 0) FROM log").fetchone()
        number = last + 1
        name = f"{origin}/{number}"
        opened = AccessEvent(access=new_access_id(), step="opened", at=at, log=name)
        entries = [encode(opened)]
        before = connection.execute("SELECT epoch, name, settled FROM log WHERE sealed IS NULL")
        for epoch, sealing, settled in before.fetchall():
            leaves = connection.execute(
                "SELECT place, entry FROM leaf WHERE place >= ? AND place < ? ORDER BY place",
                (place_of(epoch, settled), place_of(epoch + 1, 0)),
            )
            entries += [unresolved(event, log=sealing, at=at) for _, event in open_accesses(leaves)]
            connection.execute("UPDATE log SET sealed = ? WHERE epoch = ?", (at, epoch))
        connection.execute(
            "INSERT INTO log (epoch, name, opened) VALUES (?, ?, ?)", (number, name, at)
        )
        connection.executemany(
            "INSERT INTO leaf (place, entry) VALUES (?, ?)",
            [(place_of(number, index), entry) for index, entry in enumerate(entries)],
        )
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    return Epoch(
        number=number,
        name=name,
        opened=opened.access,
        size=len(entries),
        unresolved=len(entries) - 1,
    )
