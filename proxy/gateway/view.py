"""One requester's view of a report: decode → transform → encode, and blocks cut from what that gives."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from proxy.batch import Batch
from proxy.codings import IDENTITY
from proxy.errors import SourceRefused
from proxy.evidence.witness import Witness
from proxy.formats.base import Decoder, Encoder, Work
from proxy.gateway.parts import Failing, Part, summed, until
from proxy.keys import RunningMac
from proxy.transform import Counts, Given, Transform

BLOCK: Final = 1 << 18
"""Bytes of the answer in one block."""


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Some bytes of the answer, and how much of it exists when they are released (never too little)."""

    data: bytes
    """As it is sent."""
    evidence: bytes = b""
    """Which rows there are in it that no block before it has told of."""
    rows: int
    bytes: int
    """Of the answer up to and with this block, without content coding."""
    cells: Counts
    last: bool
    digest: str = ""
    """Of the whole answer without content coding, with its last block."""
    coding: str = IDENTITY
    """The content coding that the data has."""


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """What the source goes through, made for one request."""

    decoder: Decoder
    transform: Transform
    encoder: Encoder[Any]
    digest: RunningMac
    """Takes the answer's bytes."""
    witness: Witness | None = None
    """Takes down which rows are given, where the catalogue says by what they are known."""


class View:
    """The pure part: source bytes in, the requester's bytes out.

    `records`, `rest`, `add` and `finish` go in the order of the source; `parts` depends on its work alone.
    """

    def __init__(self, steps: Steps) -> None:
        self._decoder = steps.decoder
        self._transform = steps.transform
        self._encoder = steps.encoder
        self._digest = steps.digest
        self._witness = steps.witness
        self._rows = 0
        self._cells: Counts = {}
        self._evidence: list[bytes] = []
        """Of rows that no block has told of yet."""
        self._failure: SourceRefused | None = None

    @property
    def full(self) -> bool:
        """Whether nothing that is still to come of the source would be given."""
        return False

    @property
    def expands(self) -> bool:
        """Whether a short source may be much work."""
        return self._decoder.expands

    def short(self, pieces: Sequence[bytes]) -> Part | None:
        """What the requester gets of a whole document that is short and plain.

        None of any other, and where a cell has no place: of those nothing is known yet.
        """
        batch = self._decoder.short(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if batch is None:
            return None
        self._encoder.source_types = self._decoder.source_types
        try:
            return self.part(batch)
        except SourceRefused:
            return None

    def records(self, *blocks: bytes) -> list[Work]:
        """The records that the next bytes of the source complete; raises SourceRefused."""
        works = self._decoder.cut(*blocks)
        self._encoder.source_types = self._decoder.source_types
        return works

    def rest(self) -> Iterator[Work]:
        """The records that are left at the source's end, found one by one; raises SourceRefused."""
        for work in self._decoder.finish():
            self._encoder.source_types = self._decoder.source_types
            yield work
        self._encoder.source_types = self._decoder.source_types

    def close(self) -> None:
        """Let go of what is held beside memory."""
        self._decoder.close()

    def parts(self, work: Work) -> list[Part]:
        """What the requester gets of some records, up to what cannot be given; raises SourceRefused."""
        made: list[Part] = []
        for batch in work():
            try:
                made.append(self.part(batch))
            except SourceRefused as failure:
                return made + until(failure, batch, self._transform.released(batch), self.part)
        return made

    def part(self, batch: Batch) -> Part:
        """What the requester gets of some records; raises SourceRefused where a cell has no place."""
        given = self._transform.apply(batch)
        return Part(
            records=self._encoder.encode(given.batch),
            rows=given.batch.height,
            cells=given.cells,
            evidence=self._testimony(given),
        )

    def _testimony(self, given: Given) -> bytes:
        """Which rows are given, and in which forms."""
        if self._witness is None or not given.source.height:
            return b""
        return self._witness.piece(given.source, self._transform.shapes(given))

    def add(self, part: Part) -> bytes:
        """The next bytes of the answer; raises SourceRefused, and again ever after."""
        if isinstance(part, Failing):
            self._failure = part.failure
        if self._failure is not None:
            raise SourceRefused(self._failure.cause, str(self._failure))
        self._count(part)
        return self._digested(self._encoder.join(part.records))

    def finish(self) -> bytes:
        """The end of the answer."""
        return self._digested(self._encoder.finish())

    def _count(self, part: Part) -> None:
        self._rows += part.rows
        if part.evidence:
            self._evidence.append(part.evidence)
        self._cells = summed(self._cells, part.cells) if self._cells else part.cells

    def _digested(self, out: bytes) -> bytes:
        if out:
            self._digest.update(out)
        return out

    def block(self, data: bytes, end: int, *, last: bool) -> Block:
        """A block as the view stands now."""
        evidence = b"".join(self._evidence)
        self._evidence.clear()
        return Block(
            data=data,
            rows=self._rows,
            bytes=end,
            cells=self._cells,
            last=last,
            digest=self._digest.finalize().hex() if last else "",
            evidence=evidence,
        )

    @property
    def undeclared(self) -> frozenset[str]:
        """Columns that the store gives and the catalogue does not declare (they are never passed)."""
        return self._decoder.undeclared

    @property
    def vanished(self) -> frozenset[str] | None:
        """Columns that the catalogue declares and the store does not give; None where nobody knows."""
        return self._decoder.vanished

    @property
    def compared(self) -> bool:
        """Whether the two above are known."""
        return self._decoder.compared


class Cutter:
    """Cuts the answer into blocks.

    PROMISE 1, framing: by the answer's own bytes and at a fixed size, so that the number and the lengths of
    blocks say nothing of what was dropped.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._pending: deque[memoryview] = deque()
        self._size = 0
        """Bytes that are pending."""
        self._cut_off = 0

    def add(self, part: Part) -> list[Block]:
        """The blocks that are finished with a part; raises SourceRefused."""
        self._hold(self._view.add(part))
        return list(self.cut(everything=False)) if self._size > BLOCK else []

    def all(self, part: Part) -> list[Block]:
        """All blocks of an answer that is this part; raises SourceRefused."""
        data = self._view.add(part) + self._view.finish()
        if 0 < len(data) <= BLOCK:
            return [self._view.block(data, len(data), last=True)]
        self._hold(data)
        return list(self.cut(everything=True))

    def end(self) -> list[Block]:
        """The blocks that are left, the last one among them."""
        self._hold(self._view.finish())
        return list(self.cut(everything=True))

    def _hold(self, data: bytes) -> None:
        if data:
            self._pending.append(memoryview(data))
            self._size += len(data)

    def cut(self, *, everything: bool) -> Iterator[Block]:
        """Whole blocks of what is pending, always keeping some: the last block is never empty."""
        while self._size > BLOCK:
            yield self._view.block(self._taken(BLOCK), self._cut_off, last=False)
            if self._size <= BLOCK:  # what is left is not to keep all of its part
                self._pending = deque([memoryview(b"".join(self._pending))])
        if everything:
            yield self._view.block(self._taken(self._size), self._cut_off, last=True)

    def _taken(self, size: int) -> bytes:
        """The next so many bytes of what is pending, moved once."""
        some, missing = [], size
        while missing:
            first = self._pending.popleft()
            if len(first) > missing:
                self._pending.appendleft(first[missing:])
                first = first[:missing]
            some.append(first)
            missing -= len(first)
        self._size -= size
        self._cut_off += size
        return b"".join(some)
