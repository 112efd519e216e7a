"""The record of an access: events, and the receipt that proves one durable.

PROMISE 2 (no record, no data): `Receipt` is what `release` and `refuse` require, and only the log makes one.

An access has one id and one or more records, told apart by `step`:

    complete    all of it in one record: an answer of one block
    intent      before the first byte of a longer answer; then
    progress    before the blocks that it covers; then
    outcome     before the last block, or when it broke off (`ended` says how)
    refusal     nothing was released
    unresolved  appended at the next start for an intent without outcome: assume that all which the
                records cover was released
    opened      a writer opened the log
    burst       refusals of unauthenticated requests from one address that were counted together
    alive       nothing else was on record for a while: an hour without events is no hour cut out

What an operator does to the log itself, or with its files, is on record before it is done. `subject` is
`operator:UID@HOST`, as the machine knows whoever it is:

    prune       entries of a log go, and their hashes stay; `parameters` say which, `count` how many
    hold        a legal hold begins, or ends another one (`ends`); `parameters` say what it covers
    operated    a verb that reads the log or changes keys was used on the files; `action` says which

What changes the rules of all accesses is on record in the same log, before it is in force:

    change           a grant, a lockdown, or the end of one is permitted and about to be written; its
                     `parameters` say what and why, and a `policy-loaded` follows once it is in force
    policy-loaded    `policy` follows `previous`; `subject` is who wrote it, where git knows that.
                     It follows itself where a refusal is over and nothing was changed
    policy-refused   the files were not taken, and `previous` stays in force: `cause` says why,
                     `count` how many faults, `lines` where the first one is. Again after a `change`
                     beside them: what is newest of the two is how things stand

    keys-loaded      the keyring of which `parameters` tell is in force: the ids of the keys that seal, name,
                     are on standby or retired; at each start too, and once a refusal is over
    keys-refused     the keyring's file was not taken, as `cause` says; `parameters` tell of what stays

What is odd about a store is on record once:

    drift            the store of `report` gives `count` fields that the catalogue does not declare, or
                     lacks as many that it does, as `cause` says; the former are given to nobody, and
                     their names, which may be data, are not recorded

Records may overstate what a requester received, never understate it. They hold no token and no credential,
and of cells the values of open classes by which rows are found, and keyed digests of others (`evidence`).
A sample, as stored (one line, keys sorted):

    {"access":"0193…","action":"read","address":"127.0.0.1","at":"2026-11-23T22:58:40.123456Z", …}
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

import msgspec

Step = Literal[
    "complete", "intent", "progress", "outcome", "refusal", "unresolved", "opened", "burst",
    "change", "policy-loaded", "policy-refused", "keys-loaded", "keys-refused", "drift", "alive",
    "prune", "hold", "operated",
]  # fmt: skip
Ended = Literal[
    "whole", "client-gone", "store-failed", "expired", "policy-changed", "log-failed", "stopped",
    "internal-error", "budget-spent", "budget-failed",
]  # fmt: skip


class AccessEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record.

    Canonical JSON by restriction: strings, integers below 2**53, booleans, arrays and objects with
    sorted ASCII keys; no floats, no nulls (a default is left out).
    """

    v: int = 1
    access: str
    """The access's id, as in the answer's `Counterfoil-Event`."""
    step: Step
    part: int = 0
    """0 for the first record of an access, then counting."""
    at: str
    """RFC 3339, UTC, microseconds."""
    subject: str = ""
    """Opaque: keyed HMAC of the principal; the directory (erasable) knows the name."""
    groups: tuple[str, ...] = ()
    tool: str = ""
    certificate: str = ""
    """SHA-256 (hex) of the client certificate that came with the request; refused, it may be nobody's."""
    address: str = ""
    method: str = ""
    path: str = ""
    """The path as asked (ASCII, without query, at most 256 characters), only where no report matched."""
    report: str = ""
    format: str = ""
    action: str = ""
    purpose: str = ""
    decision: Literal["permit", "deny", ""] = ""
    reason: str = ""
    cause: str = ""
    status: int = 0
    span: str = ""
    """206: which bytes of which size, `0-99/4096`. What these bytes hold is in `rows` and `fields` with all
    else that the whole answer holds."""
    policy: str = ""
    """SHA-256 (hex) over the canonical content of the policy in force."""
    previous: str = ""
    """policy-loaded, policy-refused: the policy that was in force until then."""
    commit: str = ""
    """policy-loaded: the commit that the files are those of."""
    lines: tuple[str, ...] = ()
    """The policy lines that applied: `policy.csv:12`; policy-refused: the place of the first fault."""
    parameters: dict[str, str] = {}
    """Name -> value of declared non-confidential fields, else `hmac:…`; keys-…: what they do -> ids."""
    fields: dict[str, dict[str, int]] = {}
    """Field -> treatment -> cells covered so far; in an intent, what the first block covers."""
    unrevealed: dict[str, int] = {}
    """Action `reveal`: the cells that are not given back, by the cause, which whoever asks is not told:
    `not-sealed`, `unknown-key`, `not-authentic`, `not-granted`. Those given back are in `fields`, `rows`."""
    keys: tuple[str, ...] = ()
    """Action `reveal`: the ids of the keys under which the opened cells were sealed."""
    evidence: tuple[str, ...] = ()
    """Which rows are covered beside those that records before it of this access cover, and in which forms
    (proxy/evidence): itself in base64, or `sha256:` and the digest of an attachment that holds it."""
    rows: int = 0
    bytes: int = 0
    """Of the body without content coding: what a requester holds once it has taken that off."""
    digest: str = ""
    """Keyed HMAC-SHA-256 (hex) of all bytes of the body without content coding; 206: of the whole one."""
    ended: Ended | Literal[""] = ""
    micros: int = 0
    """Duration so far."""
    count: int = 0
    """burst: how many refusals; policy-refused: how many faults; drift: how many fields by now;
    prune: how many entries."""
    log: str = ""
    """opened, alive: the log's name; unresolved: the log that the open intent is in."""


_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder(AccessEvent)


def encode(event: AccessEvent) -> bytes:
    """The exact bytes that are stored, hashed and proved; never re-made from a decoded event."""
    return _ENCODER.encode(event)


NO_EVENT: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What decoders of JSON raise: of what is none, of no UTF-8, of thousands of brackets."""


def decode(leaf: bytes) -> AccessEvent:
    """The event that `leaf` holds; raises one of NO_EVENT."""
    return _DECODER.decode(leaf)


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The proof in hand that an event is durable: its access and its place in the log."""

    access: str
    log: str
    index: int


def new_access_id(now: float | None = None) -> str:
    """A fresh id of 32 hex digits that sorts by time: a UUIDv7 (RFC 9562 §5.7) without its dashes."""
    millis = int((time.time() if now is None else now) * 1000)
    try:
        tail = _TAILS.pop()
    except IndexError:
        tail = _draw()
    high = tail >> 68 & 0xFFF
    low = tail & (1 << 62) - 1
    return f"{(millis & (1 << 48) - 1) << 80 | 7 << 76 | high << 64 | 2 << 62 | low:032x}"


_TAILS: Final[list[int]] = []
"""Random numbers of 80 bits, each for one id."""


def _draw() -> int:
    """One such number, and more for what comes next: to ask the kernel gives up the interpreter lock."""
    size, drawn = 10, os.urandom(10 * 64)
    first, *others = [
        int.from_bytes(drawn[start : start + size], "big") for start in range(0, len(drawn), size)
    ]
    _TAILS.extend(others)
    return first


os.register_at_fork(after_in_child=_TAILS.clear)  # two processes never share one


def timestamp(now: float) -> str:
    """RFC 3339 in UTC with microseconds."""
    whole = int(now)
    return f"{_second(whole)}.{int((now - whole) * 1e6):06d}Z"


def written(moment: datetime) -> str:
    """The same of an instant with a time zone: to the microsecond, and of any year in four digits."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


@lru_cache(maxsize=4)
def _second(now: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
