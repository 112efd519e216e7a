"""Reports, and documents fed to decoders in pieces: shared by the tests of all formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from hypothesis import strategies as st

from proxy.batch import Batch, Output
from proxy.errors import SourceRefused
from proxy.formats import CAUSES, FORMATS, Limits, Reading
from proxy.formats.base import Decoder, Work
from proxy.report import Dialect, Field, FormatName, Report, Store, Variant
from proxy.spool import Spools
from proxy.values import Type
from tests.harness.streams import ended, feed, joined


def dialect(format_: FormatName, **rest) -> Dialect:
    return Dialect(format=format_, **rest)


def report(of: Dialect, fields: Iterable[str], type_: Type = Type.TEXT) -> Report:
    return Report(
        id="r",
        title="A report",
        store=Store(name="s", url="http://store"),
        fields={name: Field(name=name, type=type_, class_="public") for name in fields},
        variants=(Variant(path="/r", source="/r", stored=of, offers=(of,)),),
        parameters={},
    )


def decoder(of: Dialect, fields: Sequence[str], *, reads=None, limits: Limits | None = None):
    needed = frozenset(fields if reads is None else reads)
    return FORMATS[of.format].decoder(
        Reading(
            report=report(of, fields),
            dialect=of,
            reads=needed,
            limits=limits or Limits(),
            spools=Spools(most=1 << 26, most_each=1 << 26),
        )
    )


def run(
    of: Dialect, pieces: Iterable[bytes], fields: Sequence[str], *, reads=None, limits=None
) -> list[tuple[str | None, ...]]:
    """The cells of all records, row by row; the same whether they are decoded at once or later."""
    names = fields if reads is None else reads
    stream = decoder(of, fields, reads=reads, limits=limits)
    if of.format is FormatName.JSON:
        batches = [batch for piece in pieces for batch in feed(stream, piece)]
        return rows([*batches, *ended(stream)], names)
    pieces = list(pieces)
    later = _decoded_later(decoder(of, fields, reads=reads, limits=limits), pieces)
    failure = None
    try:
        batches = [batch for piece in pieces for batch in feed(stream, piece)]
        found = rows([*batches, *ended(stream)], names)
    except SourceRefused as refusal:
        failure = refusal
    if failure is not None:
        assert later == failure.cause
        raise failure
    assert isinstance(later, list) and rows(later, names) == found
    return found


def _decoded_later(stream: Decoder, pieces: Sequence[bytes]) -> list[Batch] | str:
    """The batches of works done last to first, or the cause for which the first that fails is refused."""
    works: list[Work] = []
    end: list[Batch] | str
    try:
        for piece in pieces:
            works += stream.cut(piece)
        end = ended(stream)
    except SourceRefused as failure:
        end = failure.cause
    made: list[list[Batch] | str] = []
    for work in reversed(works):
        try:
            made.insert(0, work())
        except SourceRefused as failure:
            made.insert(0, failure.cause)
    every = [*made, end]
    refusals = [each for each in every if isinstance(each, str)]
    return refusals[0] if refusals else [batch for each in every for batch in each]


def rows(batches: Iterable[Batch], fields: Iterable[str]) -> list[tuple[str | None, ...]]:
    names = list(fields)
    found: list[tuple[str | None, ...]] = []
    for batch in batches:
        columns = [
            batch.cells[name].to_list() if name in batch.cells else [None] * batch.height
            for name in names
        ]
        found += zip(*columns, strict=True) if columns else [()] * batch.height
    return found


def encode(of: Dialect, batches: Iterable[Batch], columns: Sequence[str], type_=Type.TEXT) -> bytes:
    stream = FORMATS[of.format].encoder([Output(name, type_) for name in columns], of)
    return b"".join([*(joined(stream, batch) for batch in batches), stream.finish()])


def batches(of: Dialect, document: bytes, fields: Sequence[str], *, reads=None) -> list[Batch]:
    stream = decoder(of, fields, reads=reads)
    return [*feed(stream, document), *ended(stream)]


def bytewise(document: bytes) -> Iterator[bytes]:
    return (document[at : at + 1] for at in range(len(document)))


def cut(document: bytes, at: Iterable[int]) -> list[bytes]:
    """The document in pieces, cut at the given places (modulo its length)."""
    places = sorted({place % (len(document) + 1) for place in at} | {0, len(document)})
    return [document[a:b] for a, b in pairwise(places)] or [b""]


def outcome(of: Dialect, pieces: Iterable[bytes], fields: Sequence[str], **options):
    """The rows, or the cause of the refusal."""
    try:
        return run(of, pieces, fields, **options)
    except SourceRefused as failure:
        refusal = failure
    assert refusal.__context__ is None, "the parser's own error may hold data"
    assert str(refusal) == CAUSES[refusal.cause]
    return refusal.cause


CUTS = st.lists(st.integers(0, 5_000), max_size=6)
