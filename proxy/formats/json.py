"""JSON (RFC 8259): an array of objects, at the top or in an envelope, <-> record batches.

A record is what stands between the end of the one before and its own `}`; `json_records` reads it. The
envelope is checked and dropped: the answer's is made anew from the catalogue's `rows_at` and `members`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from proxy.batch import Batch
from proxy.formats.base import Format, Reading, Work, done, refused
from proxy.formats.bits import longest
from proxy.formats.json_encoder import JsonEncoder
from proxy.formats.json_lexis import JSON_LEXIS, WRITTEN
from proxy.formats.json_records import EVIDENCE, RECORDS, RecordsDecoder
from proxy.formats.json_text import WHITESPACE, Scan, locate, scan, strict
from proxy.formats.json_uniform import Again, again
from proxy.report import FormatName

_AT_ONCE: Final = 2 << 20
"""Bytes that are parsed at once."""
_SEPARATOR: Final = re.compile(rb"\A[ \t\n\r]*,")


class JsonDecoder(RecordsDecoder):
    """JSON blocks -> batches of the members in `reads`; a member that a record lacks is null."""

    _at_once = True

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self._path = reading.dialect.rows_at
        self._before = b""
        self._inside = False
        self._after: bytes | None = None
        """What follows the array; None before its end."""
        self._rest = b""
        self._begun = False
        """Whether a record has come."""

    def short(self, document: bytes) -> Batch | None:
        """All records of a plain one, but where they are so many that they tell what is missing."""
        found = None if self._path else self._short.read(document)
        return None if found is None or found.records >= EVIDENCE else self._few(found)

    def _cut(self, blocks: Sequence[bytes]) -> list[Work]:
        if self._inside and self._after is None:
            return done(self._records(b"".join((self._rest, *blocks))))
        return done(self._read(b"".join(blocks)))

    def _read(self, block: bytes) -> list[Batch]:
        """The batches of the records that `block` completes, before the array or after it."""
        if self._after is not None:
            self._close(block)
            return []
        short = None if self._path or self._before else self._short.read(block)
        if short is not None:
            self._inside = self._begun = True
            self._before = block[: block.index(b"[") + 1]
            self._after = block[block.rindex(b"]") + 1 :]
            return [self._few(short)]
        self._before += block
        limit = self._limits.envelope_bytes
        start = locate(self._before[:limit], self._path, self._limits)
        if start is None:
            if len(self._before) > limit:
                raise refused("envelope-too-large")
            return []
        block, self._before = self._before[start:], self._before[:start]
        self._inside = True
        return self._records(block)

    def _finish(self) -> Iterator[Work]:
        if self._after is None:
            raise refused("truncated")
        self._end()
        if not self._path:
            return iter(())  # white space before and after the array, as `_close` and `locate` saw
        envelope = self._before + b"0]" + self._after
        found = scan(envelope)
        if not found.complete:
            raise refused("truncated")
        if found.deepest > self._limits.depth:
            raise refused("too-deep")
        value = strict(envelope, self._limits)
        for name in self._path:
            value = value.get(name) if isinstance(value, dict) else None
        if value != ["0"]:
            raise refused("rows-missing")
        return iter(())

    def _close(self, block: bytes) -> None:
        """Take what follows the array of records."""
        self._after = (self._after or b"") + block
        if len(self._before) + len(self._after) > self._limits.envelope_bytes:
            raise refused("envelope-too-large")
        if not self._path and block.strip(WHITESPACE):
            raise refused("json-malformed")

    def _records(self, buffer: bytes) -> list[Batch]:
        """The batches of all complete records of `buffer`; what is left stays in `_rest`."""
        batches = []
        found = self._again(buffer)
        if found is not None:
            batches.append(self._uniform(buffer, found.members))
            buffer = buffer[found.cut :]
            if found.open:
                if len(buffer) > self._limits.record_bytes:
                    raise refused("record-too-large")
                self._rest = buffer
                return batches
        # msgspec holds the interpreter's lock: not for all of a large block.
        size = max(
            _AT_ONCE, self._limits.record_bytes + 1
        )  # which holds a record, or one that is too large
        while self._after is None and len(buffer) > size:
            batches += self._others(buffer[:size])
            buffer = self._rest + buffer[size:]
        if self._after is None:
            return batches + self._others(buffer)
        self._close(buffer)
        return batches

    def _again(self, buffer: bytes) -> Again | None:
        """The records at the beginning of `buffer` that are written as those before them."""
        if self._alike is None:
            return None
        names, alike = self._alike
        if not buffer.startswith(alike.between):
            return None
        found = again(buffer, len(alike.between), names, alike, self._limits)
        if found is None or found.longest + len(alike.between) > self._limits.record_bytes:
            return None
        return found

    def _others(self, buffer: bytes) -> list[Batch]:
        """The batch of all complete records of `buffer`, however they are written."""
        found = scan(buffer)
        if found.deepest > self._limits.depth:
            raise refused("too-deep")
        cut = int(found.ends[-1]) if len(found.ends) else 0
        end = len(buffer) if found.close is None else found.close
        if max(longest(found.ends), end - cut) > self._limits.record_bytes:
            raise refused("record-too-large")
        batches = [self._next(buffer, cut, found)] if cut else []
        self._rest = buffer[cut:end]
        if found.close is not None:
            if self._rest.strip(WHITESPACE):
                raise refused(_why_no_record(self._rest))
            self._rest = b""
            self._close(buffer[end + 1 :])
        return batches

    def _next(self, buffer: bytes, cut: int, found: Scan) -> Batch:
        """The batch of the records up to `cut`, after what separates them from those before."""
        start = 0
        if self._begun:
            separator = _SEPARATOR.match(buffer)
            if separator is None:
                raise refused("json-malformed")
            start = separator.end()
        self._begun = True
        return self._batch(buffer, start, cut, found)


def _why_no_record(text: bytes) -> str:
    """What is wrong with what stands before the array's end instead of a record."""
    try:
        values = RECORDS.decode(b"[" + _SEPARATOR.sub(b"", text, count=1) + b"]")
    except (msgspec.DecodeError, RecursionError):
        return "json-malformed"
    return "record-not-object" if values else "json-malformed"


JSON: Final = Format(
    name=FormatName.JSON,
    media_type="application/json",
    store_types=frozenset({"application/json"}),
    parameters={"charset": frozenset({"utf-8"})},
    block_size=4 << 20,
    written=WRITTEN,
    lexis=JSON_LEXIS,
    decoder=JsonDecoder,
    encoder=JsonEncoder,
)
