"""The columns of the projection that an access is read from: all of it, what decided it, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec

from proxy.access import NO_EVENT
from proxy.audit import merging
from proxy.audit.accesses import End, Past
from proxy.errors import LogUnavailable

_DECIDED: Final = frozenset({"policy", "groups"})
"""What its first record says of how an access was decided; a later one says how it stood then."""


def _text_of(name: str) -> str:
    """The expression for a field of `Past` that is a text."""
    if name not in _DECIDED:
        return f"coalesce(\"{name}\", '')"
    entry = "replace(CAST(entry AS TEXT), '\\u0000', '\\u2400')"  # as the projection reads it
    begun = f"(SELECT {entry} ->> '$.{name}' FROM leaves.leaf WHERE number = first)"
    return f"coalesce(iif(records = 1, \"{name}\", {begun}), '')"


PAST: Final = ", ".join(["first", *map(_text_of, Past._fields[1:])])
END: Final = ", ".join(f"coalesce(\"{name}\", '')" for name in End._fields)

_COLUMNS: Final = (
    "access", "first", "records", "outcome", "started", "at",
    *(name for name in merging.TEXTS if name != "log"),
    *merging.DOCUMENTS, *merging.NUMBERS, *merging.GROWING,
)  # fmt: skip

ACCESS: Final = ", ".join(f'"{name}"' for name in _COLUMNS)
FIRST: Final = itemgetter(_COLUMNS.index("first"))
"""The number of its first record, of such a row."""
_DOCUMENT: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    "groups": msgspec.json.Decoder(tuple[str, ...]),
    "lines": msgspec.json.Decoder(tuple[str, ...]),
    "parameters": msgspec.json.Decoder(dict[str, str]),
    "fields": msgspec.json.Decoder(dict[str, dict[str, int]]),
    "unrevealed": msgspec.json.Decoder(dict[str, int]),
    "keys": msgspec.json.Decoder(tuple[str, ...]),
}


def values(row: Sequence[object]) -> dict[str, object]:
    """What a row of `ACCESS` has, by column. Raises LogUnavailable where one of its lists is none."""
    given = {name: v for name, v in zip(_COLUMNS, row, strict=True) if v is not None}
    try:
        return given | {n: d.decode(str(given[n])) for n, d in _DOCUMENT.items() if n in given}
    except NO_EVENT:
        raise LogUnavailable(f"a list of access {given['access']} is none") from None
