"""What a start owes to those who died, as recover.py has it, where the logs are in PostgreSQL.

Whether the writer of a log lives is told by the advisory lock of its log, which its session holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.access import AccessEvent, encode, new_access_id
from proxy.audit import registry
from proxy.audit.checkpoint import VerifierKey
from proxy.audit.ledger import Epoch
from proxy.audit.postgres import schema
from proxy.audit.postgres.schema import lock_of
from proxy.audit.postgres.session import Refused, Session
from proxy.audit.recover import Opens, going_on, unresolved
from proxy.audit.registry import Signed
from proxy.audit.store import place_of
from proxy.keys import Keyring

_YOUNG: Final = 3.0
"""Seconds after its start in which a server is waited with: who writes to it may be on its way back."""
_AGE: Final = "SELECT extract(epoch FROM now() - pg_postmaster_start_time())::float8"
_UNSEALED: Final = (
    "SELECT epoch, name, settled FROM counterfoil.log WHERE sealed IS NULL AND epoch > 0"
    " ORDER BY epoch"
)
_LEAVES: Final = """
SELECT place, entry FROM counterfoil.leaf WHERE place >= $1 AND place < $2 ORDER BY place LIMIT 500
"""
_BY_HAND: Final = """
SELECT epoch, name, opened, key, key_id FROM counterfoil.log WHERE by_hand AND sealed IS NULL ORDER BY epoch
"""
_STANDING: Final = """
SELECT (SELECT sealed FROM counterfoil.log WHERE epoch = $1),
  (SELECT coalesce(max(number), 0) FROM counterfoil.leaf),
  (SELECT max(place) FROM counterfoil.leaf WHERE place >= $2 AND place < $3),
  (SELECT entry FROM counterfoil.leaf WHERE place = $2)
"""
_UNLOCK: Final = "SELECT pg_advisory_unlock($1)"
_PUT: Final = "INSERT INTO counterfoil.leaf (number, place, entry) VALUES ($1, $2, $3)"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Dead:
    """A log whose writer has died, and what that left open."""

    epoch: int
    name: str
    opens: Opens


async def begin(
    session: Session, *, origin: str, at: str, keyring: Keyring, by_hand: bool = False
) -> tuple[Epoch, str, int]:
    """Open a new log in one transaction: seal those of dead writers, append `opened` and what they owe.

    The session holds the lock of the new log. Gives the access log's identity, too, and the key of that lock.
    Raises Lost or Refused; then nothing has changed, or the log is one of a dead writer. Raises
    LogUnavailable for a leaf that is no event. A log that is written `by_hand` is gone on with instead, where
    there is one.
    """
    await schema.make(session)
    identity = await schema.identity_of(session)
    if by_hand and (found := await _again(session, identity, at=at, keyring=keyring)):
        return found
    await _until_others_are_back(session, identity)
    dead = await _dead(session, identity)  # and nobody takes up one of these any more
    async with session.transaction():
        await session.row(schema.TURN)
        (last,) = await session.row("SELECT max(epoch) FROM counterfoil.log")
        (head,) = await session.row(schema.HEAD)
        if last is None:
            last = registry.EPOCH
            name = f"{origin}/{registry.SUFFIX}"
            await _insert(session, registry.new(keyring, identity, epoch=last, name=name), at, head)
        number = last + 1
        name = f"{origin}/{number}"
        key = lock_of(identity, number)
        if not await _taken(session, key):
            raise Refused(f"somebody else holds the lock of {name} in {session.database}")
        log = registry.new(keyring, identity, epoch=number, name=name)
        opened = AccessEvent(access=new_access_id(), step="opened", at=at, log=name)
        entries = [encode(opened)]
        for each in dead:
            entries += [unresolved(event, log=each.name, at=at) for _, event in each.opens]
            await seal(session, each.epoch, at=at, head=head)
        await _insert(session, log, at, head, by_hand=by_hand)
        await append(session, [registry.Opened(at=at, key=str(log.key), log=name)], head=head)
        await session.many(
            _PUT,
            [
                (head + 1 + index, place_of(number, index), entry)
                for index, entry in enumerate(entries)
            ],
        )
    for each in dead:
        await session.row(_UNLOCK, lock_of(identity, each.epoch))
    epoch = Epoch(
        number=number,
        name=name,
        opened=opened.access,
        size=len(entries),
        head=head + len(entries),
        unresolved=len(entries) - 1,
        by_hand=by_hand,
    )
    return epoch, identity, key


async def _again(
    session: Session, identity: str, *, at: str, keyring: Keyring
) -> tuple[Epoch, str, int] | None:
    """Go on with a log of what operators do, unless all of them are old, sealed or written to just now."""
    for epoch, name, opened, key, key_id in await session.rows(_BY_HAND):
        try:
            log = Signed(epoch=epoch, name=name, key=VerifierKey.parse(key), key_id=key_id)
        except ValueError:
            raise Refused("the table of logs is damaged: a key in it is none") from None
        if not registry.goes_on(log, opened, keyring, identity, at=at):
            continue
        lock = lock_of(identity, epoch)
        if not await _taken(session, lock):
            continue
        # Whoever seals a log holds its lock: so now it is sealed, or nobody does it.
        sealed, head, last, first = await session.row(
            _STANDING, epoch, place_of(epoch, 0), place_of(epoch + 1, 0)
        )
        if sealed is None and first is not None:
            size = last - place_of(epoch, 0) + 1
            return going_on(log, bytes(first), size=size, head=head), identity, lock
        await session.row(_UNLOCK, lock)
    return None


async def seal(session: Session, epoch: int, *, at: str, head: int) -> None:
    """Seal a log, within a transaction that has the turn; raises Lost or Refused."""
    await session.row(
        "UPDATE counterfoil.log SET sealed = $2, ended = $3 WHERE epoch = $1 AND sealed IS NULL",
        epoch,
        at,
        head,
    )


async def append(session: Session, entries: Iterable[registry.Entry], *, head: int) -> None:
    """Add entries to the registry, within a transaction that has the turn; raises Lost or Refused."""
    (size,) = await session.row("SELECT count(*) FROM counterfoil.registry")
    values: list[tuple[object, ...]] = [
        (size + at, registry.encode(entry), head) for at, entry in enumerate(entries)
    ]
    await session.many("INSERT INTO counterfoil.registry VALUES ($1, $2, $3)", values)


async def _insert(
    session: Session, log: Signed, at: str, head: int, *, by_hand: bool = False
) -> None:
    await session.row(
        "INSERT INTO counterfoil.log (epoch, name, opened, key, key_id, begun, by_hand)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        *(log.epoch, log.name, at, str(log.key), log.key_id, head, by_hand),
    )


async def _dead(session: Session, identity: str) -> list[_Dead]:
    """The logs that are open, and whose lock nobody held; now this session does."""
    found = []
    for epoch, name, settled in await session.rows(_UNSEALED):
        if not await _taken(session, lock_of(identity, epoch)):
            continue
        dead = _Dead(epoch=epoch, name=name, opens=Opens())
        place, end = place_of(epoch, settled), place_of(epoch + 1, 0)
        while leaves := await session.rows(_LEAVES, place, end):
            dead.opens.feed((each[0], each[1]) for each in leaves)
            place = leaves[-1][0] + 1
        found.append(dead)
    return found


async def _taken(session: Session, key: int) -> bool:
    """Take a lock that nobody else holds; False where somebody does."""
    return bool((await session.row("SELECT pg_try_advisory_lock($1)", key))[0])


async def _held(session: Session, key: int) -> bool:
    """Whether another session holds a lock."""
    if not await _taken(session, key):
        return True
    await session.row(_UNLOCK, key)
    return False


async def _until_others_are_back(session: Session, identity: str) -> None:
    """After a restart of the server, those who write to it have lost their locks, and come back for them."""
    while True:
        (age,) = await session.row(_AGE)
        logs = await session.rows(_UNSEALED)
        if age > _YOUNG:
            return
        held = [await _held(session, lock_of(identity, epoch)) for epoch, *_ in logs]
        if all(held):
            return
        await asyncio.sleep(0.1)
