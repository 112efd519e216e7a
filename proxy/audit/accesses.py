"""What readers of the access log are given: a leaf as it is stored, an access with its records merged."""

from __future__ import annotations

from typing import Final, NamedTuple, get_args

import msgspec

from proxy.access import Ended

OUTCOMES: Final = frozenset({
    "open", "refused", "unresolved", *get_args(Ended),
    "opened", "policy-loaded", "policy-refused", "keys-loaded", "keys-refused", "change", "drift",
    "prune", "hold", "operated",
})  # fmt: skip
"""What `Access.outcome` can be; any other word of an outcome is a decision, a reason or a cause."""


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """One entry as it is stored."""

    number: int
    """Its cursor: numbers grow from leaf to leaf in the order of commits, over all logs."""
    log: str
    index: int
    entry: bytes


class Access(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One access, all its records merged; fields without a text here are those of `AccessEvent`."""

    access: str
    log: str
    """The log that holds its first record …"""
    index: int
    """… and where."""
    records: int
    outcome: str
    """`open`, how it ended (`whole`, `client-gone`, …), `refused`, `unresolved`, `opened`, or the
    step of a policy's record."""
    started: str
    at: str
    """When its last record was made."""
    subject: str = ""
    principal: str = ""
    """The subject's name, where the directory knows it."""
    groups: tuple[str, ...] = ()
    tool: str = ""
    address: str = ""
    method: str = ""
    path: str = ""
    report: str = ""
    format: str = ""
    action: str = ""
    purpose: str = ""
    decision: str = ""
    reason: str = ""
    cause: str = ""
    status: int = 0
    span: str = ""
    policy: str = ""
    previous: str = ""
    commit: str = ""
    lines: tuple[str, ...] = ()
    parameters: dict[str, str] = {}
    fields: dict[str, dict[str, int]] = {}
    unrevealed: dict[str, int] = {}
    keys: tuple[str, ...] = ()
    rows: int = 0
    bytes: int = 0
    digest: str = ""
    micros: int = 0
    count: int = 0


class End(NamedTuple):
    """How one access ended, or how far it is: what its last record says."""

    outcome: str
    at: str
    policy: str


class Past(NamedTuple):
    """What is decided about one access, as texts of the index; fields are those of `AccessEvent`."""

    number: int
    started: str
    access: str
    address: str
    rows: int
    fields: str
    """JSON, as are the two below."""
    parameters: str
    groups: str
    """As they were when it was decided, like `policy`: later records may have others."""
    subject: str
    tool: str
    method: str
    path: str
    report: str
    format: str
    action: str
    purpose: str
    decision: str
    reason: str
    cause: str
    policy: str


def csv_cell(value: object) -> str:
    """A value as a cell of CSV; lists and what is given by name are JSON."""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value, order="sorted").decode() if value else "0" * (value == 0)
