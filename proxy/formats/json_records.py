"""Objects with commas between them -> batches: what JSON's array and NDJSON's lines have in common.

msgspec splits records into raw tokens, so that `1.10`, `1E400` and integers of any length stay to the
character. It keeps the last of two members of one name and skips members that it was not told of.
That a block has neither is proved by its weight, the number of its bytes that are no white space. The
least weight of records with the members found is known exactly; a second member of one name, or one
that was not found, adds to it. So equal weights mean that there is none.

    layout    members as in the first record (or the last block that differed), at full speed
    members   any members, where the weights differ
    strictly  record by record, where they still differ: a name was written with needless escapes, or
              twice, which is refused
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from operator import attrgetter
from threading import Lock
from typing import ClassVar, Final, TypeVar

import msgspec
import numpy as np

from proxy.batch import Batch
from proxy.few import FEW, Cells, Few
from proxy.formats.base import Decoder, Reading, refused
from proxy.formats.json_few import Short
from proxy.formats.json_lexis import JSON_LEXIS
from proxy.formats.json_text import Scan, name_weight, strict, weight
from proxy.formats.json_tokens import (
    MISSING,
    Layout,
    Tokens,
    cells_of,
    column_of,
    layout_of,
    tokens_of,
)
from proxy.formats.json_uniform import Members, Uniform, likely, members
from proxy.kernels import Alike, is_utf8
from proxy.kernels.few import FewJson

_LAYOUT_NAMES: Final = 16 << 10
"""Most characters of all names of a layout; layouts are kept, and names are the store's to choose."""
EVIDENCE: Final = 64
"""Records of a document from which a declared member that none of them has is missed."""

_MEMBERS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
RECORDS: Final = msgspec.json.Decoder(list[msgspec.Raw])


class _Object(msgspec.Struct, gc=False):
    """An object of which no member is looked at."""


_OBJECTS: Final = msgspec.json.Decoder(list[_Object])
T = TypeVar("T")


class RecordsDecoder(Decoder):
    """Objects -> batches of the members in `reads`; a member that a record lacks is null.

    `_batch` and `_few` may be at work in several threads at once.
    """

    _at_once: ClassVar[bool]
    """Whether what `_few` is given are all records."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self._fields = reading.report.fields
        self._types = reading.report.types
        self._wanted = reading.in_order
        self._limits = reading.limits
        self._short = Short.of(reading)
        self._layout: Layout | None = None
        self._alike: tuple[tuple[str, ...], Alike] | None = None
        """The members of records that were written alike, and how the next ones are likely to be."""
        self._noting = Lock()
        self._height = 0
        self._seen: set[str] = set()
        """The members that some record of `_height` has."""
        self._ended = False

    def _few(self, found: FewJson) -> Batch:
        """The batch of records that were read in one step."""
        height, values, there, nulls = found.records, found.values, found.there, found.nulls
        if not self._at_once or height >= EVIDENCE:
            self._saw(map(_name, found.names.splitlines()), height)
        elif found.others:  # they are too few to tell what is missing
            self._drift(map(_name, found.names.splitlines()), self._fields)
        else:
            self.compared = True
        columns: dict[str, Cells] = {}
        at = 0
        for number, name in enumerate(self._wanted):
            if there >> number & 1:
                cells = values[at : at + height]
                at += height
                if nulls >> number & 1:
                    columns[name] = Few([None if each == "null" else each for each in cells])
                else:
                    columns[name] = Few(cells)
            else:
                columns[name] = Few([None] * height)
        return Batch(columns, height=height, lexis=JSON_LEXIS, types=self._types, few=True)

    def _batch(self, buffer: bytes, start: int, cut: int, found: Scan) -> Batch:
        """The batch of the objects in `buffer[start:cut]`, which have commas between them."""
        text = b"".join((b"[", memoryview(buffer)[start:cut], b"]"))
        if not is_utf8(text):
            raise refused("not-utf-8")
        height = len(found.ends)
        if height > FEW:
            _decode(_OBJECTS, text)
            uniform = members(buffer, start, cut, found, self._limits)
            if uniform is not None:
                self._alike = uniform.names, likely(buffer, uniform)
                return self._uniform(buffer, uniform)
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

    def _uniform(self, buffer: bytes, found: Members) -> Batch:
        """The batch of records that were `found` to be written alike."""
        height = found.ends.shape[1]
        self._saw(found.names, height)
        if self._layout is None:
            self._learn(found.names)
        unread = Uniform.of(buffer, found, self._wanted)
        return Batch({}, height=height, lexis=JSON_LEXIS, types=self._types, unread=unread)

    def _saw(self, names: Iterable[str], height: int) -> None:
        """Take note of members that some of `height` records have."""
        every = tuple(names)
        with self._noting:
            self._drift(every, self._fields)
            self._seen.update(self._fields.keys() & every)
            self._height += height
            self._miss()

    def _end(self) -> None:
        """Take note that no more records come, though some may still be at work."""
        with self._noting:
            self._ended = True
            self._miss()

    def _miss(self) -> None:
        if self._ended and self._height >= EVIDENCE:
            self._lacks(self._seen, self._fields)

    def _learn(self, names: Iterable[str]) -> None:
        """Take the members' names for the layout of what follows."""
        every = tuple(dict.fromkeys(chain(self._wanted, names)))
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
            for record in _decode(RECORDS, text):
                strict(bytes(record), self._limits)
        return wanted


def _name(written: bytes) -> str:
    """The name that is written so, in quotes and without escapes."""
    return written[1:-1].decode()


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
