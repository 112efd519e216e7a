"""JSON (RFC 8259): an array of objects, at the top or in an envelope, <-> record batches.

msgspec splits records into raw tokens, so that `1.10`, `1E400` and integers of any length stay to the
character. It keeps the last of two members of one name and skips members that it was not told of.
That a block has neither is proved by its weight, the number of its bytes that are no white space. The
least weight of records with the members found is known exactly; a second member of one name, or one
that was not found, adds to it. So equal weights mean that there is none.

    layout    members as in the first record (or the last block that differed), at full speed
    members   any members, where the weights differ
    strictly  record by record, where they still differ: a name was written with needless escapes, or
              twice, which is refused

A record is what stands between the end of the one before and its own `}`. The envelope is checked and
dropped: the answer's is made anew from the catalogue's `rows_at` and `members`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import attrgetter
from typing import Final, TypeVar

import msgspec
import numpy as np

from proxy.batch import Batch
from proxy.few import FEW, Cells, Few
from proxy.formats import json_few
from proxy.formats.base import Decoder, Format, Reading, Work, done, is_utf8, refused
from proxy.formats.bits import longest
from proxy.formats.json_encoder import JsonEncoder
from proxy.formats.json_lexis import JSON_LEXIS
from proxy.formats.json_text import (
    WHITESPACE,
    Scan,
    locate,
    name_weight,
    scan,
    strict,
    weight,
)
from proxy.formats.json_tokens import (
    MISSING,
    Layout,
    Tokens,
    cells_of,
    column_of,
    layout_of,
    tokens_of,
)
from proxy.formats.json_uniform import Uniform, members
from proxy.report import FormatName

_SEPARATOR: Final = re.compile(rb"\A[ \t\n\r]*,")
_LAYOUT_NAMES: Final = 16 << 10
"""Most characters of all names of a layout; layouts are kept, and names are the store's to choose."""

_EVIDENCE: Final = 64
"""Records of a document from which a declared member that none of them has is missed."""

_MEMBERS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_RECORDS: Final = msgspec.json.Decoder(list[msgspec.Raw])


class _Object(msgspec.Struct, gc=False):
    """An object of which no member is looked at."""


_OBJECTS: Final = msgspec.json.Decoder(list[_Object])
T = TypeVar("T")


class JsonDecoder(Decoder):
    """JSON blocks -> batches of the members in `reads`; a member that a record lacks is null."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self._fields = reading.report.fields
        self._types = reading.report.types
        self._wanted = tuple([name for name in self._fields if name in reading.reads])
        self._path = reading.dialect.rows_at
        self._limits = reading.limits
        self._before = b""
        self._inside = False
        self._after: bytes | None = None
        """What follows the array; None before its end."""
        self._rest = b""
        self._begun = False
        """Whether a record has come."""
        self._layout: Layout | None = None
        self._height = 0
        self._seen: set[str] = set()
        """The members that some record of `_height` has."""

    def _cut(self, block: bytes) -> list[Work]:
        return done(self._read(block))

    def _read(self, block: bytes) -> list[Batch]:
        """The batches of the records that `block` completes."""
        if self._after is not None:
            self._close(block)
            return []
        if not self._inside:
            short = None if self._path or self._before else json_few.read(block, self._limits)
            if short is not None:
                return [self._whole(block, *short)]
            self._before += block
            limit = self._limits.envelope_bytes
            start = locate(self._before[:limit], self._path, self._limits)
            if start is None:
                if len(self._before) > limit:
                    raise refused("envelope-too-large")
                return []
            block, self._before = self._before[start:], self._before[:start]
            self._inside = True
        return self._records(self._rest + block)

    def _whole(self, document: bytes, names: tuple[str, ...], cells: list[str | None]) -> Batch:
        """The batch of a document that `json_few` has read."""
        width = len(names)
        height = len(cells) // width
        self._drift(names, self._fields)
        self._saw(names, height)
        self._inside = self._begun = True
        self._before = document[: document.index(b"[") + 1]
        self._after = document[document.rindex(b"]") + 1 :]
        given = {name: cells[place::width] for place, name in enumerate(names)}
        columns: dict[str, Cells] = {
            name: Few(given[name] if name in given else [None] * height) for name in self._wanted
        }
        return Batch(columns, height=height, lexis=JSON_LEXIS, types=self._types, few=True)

    def _finish(self) -> Iterator[Work]:
        if self._after is None:
            raise refused("truncated")
        if self._height >= _EVIDENCE:
            self._lacks(self._seen, self._fields)
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
        """The batch of all complete records of `buffer`; what is left stays in `_rest`."""
        found = scan(buffer)
        if found.deepest > self._limits.depth:
            raise refused("too-deep")
        cut = int(found.ends[-1]) if len(found.ends) else 0
        end = len(buffer) if found.close is None else found.close
        if max(longest(found.ends), end - cut) > self._limits.record_bytes:
            raise refused("record-too-large")
        batches = [self._batch(buffer, cut, found)] if cut else []
        self._rest = buffer[cut:end]
        if found.close is not None:
            if self._rest.strip(WHITESPACE):
                raise refused(_why_no_record(self._rest))
            self._rest = b""
            self._close(buffer[end + 1 :])
        return batches

    def _batch(self, buffer: bytes, cut: int, found: Scan) -> Batch:
        start = 0
        if self._begun:
            separator = _SEPARATOR.match(buffer)
            if separator is None:
                raise refused("json-malformed")
            start = separator.end()
        self._begun = True
        text = b"".join((b"[", memoryview(buffer)[start:cut], b"]"))
        if not is_utf8(text):
            raise refused("not-utf-8")
        height = len(found.ends)
        if height > FEW:
            _decode(_OBJECTS, text)
            uniform = members(buffer, start, cut, found, self._limits)
            if uniform is not None:
                self._saw(uniform.names, height)
                self._drift(uniform.names, self._fields)
                if self._layout is None:
                    self._learn(uniform.names)
                return Batch(
                    {},
                    height=height,
                    lexis=JSON_LEXIS,
                    types=self._types,
                    unread=Uniform.of(buffer, uniform, self._wanted),
                )
        if self._layout is None:
            first = b"".join((b"[", memoryview(buffer)[start : int(found.ends[0])], b"]"))
            self._learn(_decode(_MEMBERS, first)[0])
        wanted = self._by_layout(text, height) or self._by_members(text, height)
        cells: dict[str, Cells]
        if height <= FEW:
            tokens = cells_of(wanted)
            cells = {
                name: Few(tokens[index * height : index * height + height])
                for index, name in enumerate(self._wanted)
            }
        else:
            column = column_of(wanted)
            cells = {
                name: column.slice(index * height, height).alias(name)
                for index, name in enumerate(self._wanted)
            }
        return Batch(cells, height=height, lexis=JSON_LEXIS, types=self._types, few=height <= FEW)

    def _saw(self, names: Iterable[str], height: int) -> None:
        """Take note of members that some of `height` records have."""
        self._seen.update(filter(self._fields.__contains__, names))
        self._height += height

    def _learn(self, names: Iterable[str]) -> None:
        """Take the members' names for the layout of what follows."""
        every = tuple(dict.fromkeys(chain(self._wanted, names)))
        self._drift(every, self._fields)
        small = len(every) <= self._limits.fields and sum(map(len, every)) <= _LAYOUT_NAMES
        self._layout = layout_of(every) if small else None

    def _by_layout(self, text: bytes, height: int) -> Tokens | None:
        """The wanted tokens, column by column; None where records have other members too."""
        layout = self._layout
        if layout is None:
            return None
        records = _decode(layout.decoder, text)
        columns = [[*map(attrgetter(f"f{index}"), records)] for index in range(len(layout.names))]
        few = len(self._wanted)
        wanted = tokens_of([*chain.from_iterable(columns[:few])], self._limits)
        others = tokens_of([*chain.from_iterable(columns[few:])], self._limits)
        kinds = np.concatenate((wanted.kinds, others.kinds)).reshape(len(columns), height)
        present = (kinds != ord("\n")).sum(axis=1).tolist()
        members = sum(present)
        # Brackets, and of each record braces and what separates it; then its members, as if no record
        # were empty: one that is makes the sum too small, never equal by chance.
        least = 2 + 3 * height - 1 + members - height + wanted.weight + others.weight
        weights = layout.weights[text.isascii()]
        least += sum(count * each for count, each in zip(present, weights, strict=True))
        if least != weight(text):
            return None
        self._saw([name for name, n in zip(layout.names, present, strict=True) if n], height)
        return wanted

    def _by_members(self, text: bytes, height: int) -> Tokens:
        """The wanted tokens where members differ from record to record; raises SourceRefused."""
        records = _decode(_MEMBERS, text)
        sizes = [*map(len, records)]
        if max(sizes) > self._limits.fields:
            raise refused("too-many-fields")
        names = Counter(chain.from_iterable(records))
        self._learn(names)
        self._saw(names, height)
        wanted = tokens_of(
            [record.get(name, MISSING) for name in self._wanted for record in records],
            self._limits,
        )
        chosen = frozenset(self._wanted)
        others = tokens_of(
            [token for record in records for name, token in record.items() if name not in chosen],
            self._limits,
        )
        ascii_only = text.isascii()
        filled = sum(map(bool, sizes))
        least = 2 + 3 * height - 1 + sum(sizes) - filled + wanted.weight + others.weight
        least += sum(name_weight(name, ascii_only=ascii_only) * n for name, n in names.items())
        if least != weight(text):
            for record in _decode(_RECORDS, text):
                strict(bytes(record), self._limits)
        return wanted


def _decode(decoder: msgspec.json.Decoder[list[T]], text: bytes) -> list[T]:
    """The records of `text`, which is an array; raises SourceRefused."""
    try:
        return decoder.decode(text)
    except msgspec.ValidationError:
        cause = "record-not-object"
    except msgspec.DecodeError:
        cause = "json-malformed"
    except RecursionError:
        cause = "too-deep"
    raise refused(cause)  # outside the handler: the parser's own error may hold data


def _why_no_record(text: bytes) -> str:
    """What is wrong with what stands before the array's end instead of a record."""
    try:
        values = _RECORDS.decode(b"[" + _SEPARATOR.sub(b"", text, count=1) + b"]")
    except (msgspec.DecodeError, RecursionError):
        return "json-malformed"
    return "record-not-object" if values else "json-malformed"


JSON: Final = Format(
    name=FormatName.JSON,
    media_type="application/json",
    store_types=frozenset({"application/json"}),
    parameters={"charset": "utf-8"},
    block_size=2 << 20,  # msgspec holds the interpreter's lock
    lexis=JSON_LEXIS,
    decoder=JsonDecoder,
    encoder=JsonEncoder,
)
