"""NDJSON (one JSON object on each line) <-> record batches.

A line ends with LF, before which a CR is white space as JSON has it; the last line may lack its end. A
line is one object, neither more nor less, and no line is blank. Lines do not depend on each other, so
that blocks can be read at once.

A block is read as if each line feed were a comma, by what reads JSON's arrays. That the two mean the same
is proved first: as many objects end as there are lines, each on its own, with white space alone up to the
line's end. So no line feed stands inside an object, where a comma could make sense of what makes none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import msgspec
import numpy as np

from proxy.batch import Batch
from proxy.errors import SourceRefused
from proxy.formats import bits
from proxy.formats.base import Format, Reading, Work, refused
from proxy.formats.bits import Offsets, longest
from proxy.formats.json_encoder import LinesEncoder
from proxy.formats.json_lexis import JSON_LEXIS, WRITTEN
from proxy.formats.json_records import RecordsDecoder
from proxy.formats.json_text import WHITESPACE, scan
from proxy.formats.json_uniform import Again, again
from proxy.kernels import Alike, is_utf8
from proxy.report import FormatName

_LF, _CR = b"\n\r"
_VALUE: Final = msgspec.json.Decoder(msgspec.Raw)


class NdjsonDecoder(RecordsDecoder):
    """Lines -> batches of the members in `reads`; a member that a record lacks is null."""

    _at_once = False

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self._rest = b""

    def _cut(self, blocks: Sequence[bytes]) -> list[Work]:
        buffer = b"".join((self._rest, *blocks))
        end = buffer.rfind(b"\n") + 1
        self._rest = buffer[end:]
        if len(self._rest) > self._limits.record_bytes:
            raise refused("record-too-large")
        return [self._later(partial(self._lines, buffer[:end]))] if end else []

    def _finish(self) -> Iterator[Work]:
        rest, self._rest = self._rest, b""
        self._end()
        if rest:
            if _is_open(rest):
                raise refused("truncated")
            yield self._later(partial(self._lines, rest + b"\n"))

    def _lines(self, text: bytes) -> list[Batch]:
        """The batch of some lines, all with their ends."""
        short = self._short.read(text)
        if short is not None:
            return [self._few(short)]
        found = self._again(text)
        if found is not None:
            return [self._uniform(text, found.members)]
        return [self._others(text)]

    def _again(self, text: bytes) -> Again | None:
        """The lines, if all are written as those before them."""
        if self._alike is None:
            return None
        names, alike = self._alike
        alike = Alike(leads=alike.leads, between=alike.between.replace(b",", b"\n"))
        found = again(text, 0, names, alike, self._limits)
        if found is None or text[found.cut :] != alike.between:
            return None
        return found if found.longest + len(alike.between) <= self._limits.record_bytes else None

    def _others(self, text: bytes) -> Batch:
        """The batch of some lines, however they are written."""
        lines = bits.offsets(bits.where(np.frombuffer(text, np.uint8), _LF))
        if longest(lines + 1) > self._limits.record_bytes:
            raise refused("record-too-large")
        buffer = text.replace(b"\n", b",")
        try:
            found = scan(buffer)
        except SourceRefused:
            found = None
        if (
            found is None
            or found.close is not None
            or not _each_on_its_own(text, found.ends, lines)
        ):
            raise refused(self._why(text))
        if found.deepest > self._limits.depth:
            raise refused("too-deep")
        return self._batch(buffer, 0, int(found.ends[-1]), found)

    def _why(self, text: bytes) -> str:
        """What is wrong with the first line that is not one object."""
        for line in text.split(b"\n")[:-1]:
            cause = self._cause(line)
            if cause is not None:
                return cause
        return "json-malformed"

    def _cause(self, line: bytes) -> str | None:
        """What is wrong with a line, where it is not one object."""
        if not is_utf8(line):
            return "not-utf-8"
        kind = _kind(line)
        if kind:
            return None if kind == b"{" else "record-not-object"
        if not line.strip(WHITESPACE):
            return "line-blank"
        try:
            found = scan(line)
        except SourceRefused:
            return "json-malformed"
        if found.deepest > self._limits.depth:
            return "too-deep"
        whole = found.close is not None or (found.complete and len(found.ends) == 1)
        return "json-malformed" if whole else "line-not-one-object"


def _kind(line: bytes) -> bytes:
    """The first byte of the one JSON value that a line is; nothing where it is none."""
    try:
        return bytes(_VALUE.decode(line))[:1]
    except (msgspec.DecodeError, RecursionError):
        return b""


def _is_open(line: bytes) -> bool:
    """Whether something is left open at its end."""
    try:
        return not scan(line).complete
    except SourceRefused:
        return False


def _each_on_its_own(text: bytes, ends: Offsets, lines: Offsets) -> bool:
    """Whether one object ends on each line, and but white space comes after it.

    `ends` are the offsets after the objects, `lines` those of the line feeds.
    """
    if len(ends) != len(lines):
        return False
    if np.array_equal(ends, lines):
        return True
    if (ends > lines).any() or (ends[1:] <= lines[:-1]).any():
        return False
    data = np.frombuffer(text, np.uint8)
    odd = np.flatnonzero((ends != lines) & ~((ends + 1 == lines) & (data[ends] == _CR)))
    spans = zip(ends[odd].tolist(), lines[odd].tolist(), strict=True)
    return not any(text[end:line].strip(WHITESPACE) for end, line in spans)


NDJSON: Final = Format(
    name=FormatName.NDJSON,
    media_type="application/x-ndjson",
    store_types=frozenset(
        {
            "application/x-ndjson",
            "application/ndjson",
            "application/jsonl",
            "application/jsonlines",
            "application/x-jsonlines",
        }
    ),
    parameters={"charset": frozenset({"utf-8"})},
    block_size=2 << 20,  # msgspec holds the interpreter's lock
    written=WRITTEN,
    lexis=JSON_LEXIS,
    decoder=NdjsonDecoder,
    encoder=LinesEncoder,
)
