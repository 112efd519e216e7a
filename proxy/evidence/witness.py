"""Takes down which rows are given, while they are: released records -> a piece of evidence."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from proxy import kernels
from proxy.batch import REPEATS, Batch, Plain
from proxy.evidence.layout import DEFLATED, ITSELF, LENGTH, PLAIN, digest_of, mac_of
from proxy.few import Few
from proxy.keys import Keyring, Mac
from proxy.report import OPEN_CLASSES, Report
from proxy.texts import Coded, Texts, content, numbered, texts
from proxy.values import Type

Codes = npt.NDArray[np.integer[Any]]
Numbers = Sequence[int] | Codes
Told = list[str | None]
"""What is kept of some values."""
Forms = tuple[tuple[str, tuple[str, ...]], ...]
"""The fields that a row is given in each form."""

_LONGEST: Final = 64
"""Characters of a value that is kept as it is: a key is short."""
_AS_THEY_ARE: Final = 16
"""Rows up to which to number their values costs more than it saves."""
_SMALL: Final = 1 << 10
"""Bytes up to which to deflate costs more than it saves."""
_LEVEL: Final = 1
_NUMBERS: Final[Mapping[int, np.dtype[np.unsignedinteger[Any]]]] = {
    1: np.dtype("<u1"),
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
}
_DENSE: Final = 1 << 16
"""Numbers up to which those that there are are found without sorting."""
_ENCODER: Final = msgspec.json.Encoder()
_SPACE, _QUOTE, _BACKSLASH = b' "\\'


class Shapes(NamedTuple):
    """In which forms some rows are given."""

    forms: tuple[Forms, ...]
    codes: Codes | None
    """Which of them each row has; None: all have the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Noted:
    field: str
    type: Type
    told: bool
    """Whether its values are kept as they are."""
    mac: Mac

    @property
    def lead(self) -> bytes:
        """What stands before its width in the head."""
        return b'{"field":%b,"type":%b,"width":' % (
            _ENCODER.encode(self.field),
            _ENCODER.encode(self.type),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Witness:
    """Takes down which rows of one report are given; pure, so that parts can be worked on at once."""

    fields: tuple[_Noted, ...]
    key: str
    leads: tuple[bytes, ...]
    """Of each field."""

    @classmethod
    def of(cls, report: Report, keyring: Keyring) -> Self | None:
        """None where the catalogue declares nothing by which a row can be found."""
        if not report.found_by:
            return None
        fields = tuple([
            _Noted(
                field=name,
                type=report.types[name],
                told=report.fields[name].class_ in OPEN_CLASSES,
                mac=mac_of(keyring, report.id, name),
            )
            for name in report.found_by
        ])  # fmt: skip
        return cls(fields=fields, key=keyring.naming, leads=tuple([each.lead for each in fields]))

    def only(self, names: Collection[str]) -> Self:
        """Of rows of which no more than these fields are known."""
        fields = tuple([each for each in self.fields if each.field in names])
        return replace(self, fields=fields, leads=tuple([each.lead for each in fields]))

    def piece(self, rows: Batch, shapes: Shapes) -> bytes:
        """The evidence of released `rows`, as their store gives them; nothing where there are none."""
        return self._written(rows.height, [_kept(rows, noted) for noted in self.fields], shapes)

    def told(self, rows: Batch) -> list[pl.Series]:
        """What is kept of each field of some rows, to be put into another order: never much a row."""
        return [_told_of(rows, noted) for noted in self.fields]

    def piece_of(self, told: Sequence[pl.Series], shapes: Shapes) -> bytes:
        """The evidence of rows of which this is kept."""
        kept = [
            _Kept(len(values), values, codes) for values, codes in map(_distinct, map(texts, told))
        ]
        return self._written(len(told[0]), kept, shapes)

    def _written(self, height: int, kept: Iterable[_Kept], shapes: Shapes) -> bytes:
        if not height:
            return b""
        columns, numbers = [], []
        for lead, one in zip(self.leads, kept, strict=True):
            width = 0 if one.codes is None else _width(one.distinct)
            if one.codes is not None:
                numbers.append(_differences(one.codes, width))
            columns.append(b'%b%d,"values":%b}' % (lead, width, _ENCODER.encode(one.values)))
        width = 0
        if shapes.codes is not None and len(shapes.forms) > 1:
            width = _width(len(shapes.forms))
            numbers.append(_differences(shapes.codes, width))
        forms = b",".join(map(_written, shapes.forms))
        head = b'{"rows":%d,"key":%b,"columns":[%b],"forms":[%b],"width":%d}' % (  # as `layout.Head`
            height, _ENCODER.encode(self.key), b",".join(columns), forms, width,
        )  # fmt: skip
        document = b"".join((len(head).to_bytes(LENGTH, "big"), head, *numbers))
        small = len(document) <= _SMALL
        piece = PLAIN + document if small else DEFLATED + zlib.compress(document, _LEVEL)
        return len(piece).to_bytes(LENGTH, "big") + piece


class _Kept(msgspec.Struct, frozen=True):
    """What is kept of a field's distinct values, and which of them each row has."""

    distinct: int
    values: Told | msgspec.Raw
    """As JSON, where that is how they were made."""
    codes: Numbers | None
    """None: there is one for all, or one for each row."""


def _kept(rows: Batch, noted: _Noted) -> _Kept:
    if rows.few:
        kept = _written_so(rows, noted) if noted.told else None
        if kept is not None:
            return kept
        values, codes = _few(rows, noted)
        return _Kept(len(values), values, codes)
    many = _many(rows, noted)
    if many is None:
        return _Kept(1, [None], None)
    cells, numbers = many
    written = _as_they_are(cells) if noted.told else None
    return _Kept(
        len(cells), _told(cells.to_pylist(), noted) if written is None else written, numbers
    )


def _written_so(rows: Batch, noted: _Noted) -> _Kept | None:
    """What is kept of a few strings that are written as JSON; None of others, and where one is long."""
    cells = rows.column(noted.field)
    if not isinstance(cells, Few) or not 0 < len(cells) <= _AS_THEY_ARE:
        return None
    written = rows.lexis.strings(cells)
    if written is None or max(map(len, cells)) > _LONGEST + 2:
        return None
    distinct = len(cells)
    if cells.count(cells[0]) == distinct:
        written, distinct = str(cells[0]), 1
    values = '["' + ITSELF + written[1:].replace('\n"', ',"' + ITSELF) + "]"
    return _Kept(distinct, msgspec.Raw(values.encode()), None)


def _as_they_are(cells: Texts) -> msgspec.Raw | None:
    """Values that are kept as they are, as a JSON array; None if one is long or null, or needs an escape."""
    places, data = content(cells)
    if cells.null_count or not len(cells) or np.diff(places).max() > _LONGEST:
        return None
    if ((data < _SPACE) | (data == _QUOTE) | (data == _BACKSLASH)).any():
        return None
    parts = kernels.same(b'"' + ITSELF.encode()), kernels.texts(data, places), kernels.same(b'",')
    return msgspec.Raw(b"[" + kernels.weave(parts, len(cells))[:-1] + b"]")


def _told_of(rows: Batch, noted: _Noted) -> pl.Series:
    values: Told = [None]
    codes: Numbers | None = None
    if rows.few:
        values, codes = _few(rows, noted)
    elif (many := _many(rows, noted)) is not None:
        values, codes = _told(many[0].to_pylist(), noted), many[1]
    column = pl.Series(values, dtype=pl.String)
    if codes is not None:
        return column.gather(pl.Series(codes))
    return column if len(values) == rows.height else column.new_from_index(0, rows.height)


def _few(rows: Batch, noted: _Noted) -> tuple[Told, Sequence[int] | None]:
    cells = rows.plain(noted.field)
    if cells is None:
        return [None], None
    each: list[str | None] = cells.to_list()
    if not each:
        return [], None
    if each.count(each[0]) == len(each):
        return _told(each[:1], noted), None
    if len(each) <= _AS_THEY_ARE:
        return _told(each, noted), None
    known: dict[str | None, int] = {}
    codes = [known.setdefault(cell, len(known)) for cell in each]
    return _told([*known], noted), None if len(known) == len(each) else codes


def _many(rows: Batch, noted: _Noted) -> tuple[Texts, Codes | None] | None:
    """The field's distinct values and which of them each row has; None where it has none."""
    coded = rows.numbered(noted.field)
    if coded is None:
        cells = rows.characters(noted.field)
        return None if cells is None else (cells, None)
    if not isinstance(rows.lexis, Plain):  # else cells that differ have other characters, too
        coded = Coded(rows.lexis.characters(coded.distinct), coded.codes).apart()
    return _of(coded)


def _distinct(cells: Texts) -> tuple[Told, Codes | None]:
    """The same of what is kept of each row."""
    coded = numbered(cells, repeats=REPEATS)
    values, codes = (cells, None) if coded is None else _of(coded)
    return values.to_pylist(), codes


def _of(coded: Coded) -> tuple[Texts, Codes | None]:
    if len(coded.distinct) == 1:
        return coded.distinct, None
    if len(coded.distinct) * REPEATS > len(coded):
        return coded.distinct.take(pa.array(coded.codes)), None
    return coded.distinct, coded.codes


def _told(values: Told, noted: _Noted) -> Told:
    """The values as they are kept."""
    mac, type_ = noted.mac, noted.type
    if not noted.told:
        return [None if each is None else digest_of(mac, each, type_) for each in values]
    return [
        None
        if each is None
        else ITSELF + each
        if len(each) <= _LONGEST
        else digest_of(mac, each, type_)
        for each in values
    ]


def _width(count: int) -> int:
    return 1 if count <= 1 << 8 else 2 if count <= 1 << 16 else 4


def _differences(codes: Numbers, width: int) -> bytes:
    numbers = np.asarray(codes).astype(_NUMBERS[width])
    out = numbers.copy()
    out[1:] -= numbers[:-1]  # modulo its width
    return bytes(out.data)


@lru_cache(maxsize=1024)
def _written(forms: Forms) -> bytes:
    return _ENCODER.encode(dict(forms))


def combined(
    choices: Sequence[int | Codes], height: int
) -> tuple[list[tuple[int, ...]], Codes | None]:
    """The distinct combinations of what some rows have of each choice, and which one each row has.

    A choice that is one number is the same for all rows. None: all rows have the same of all.
    """
    codes: Codes | None = None
    for choice in choices:
        if not isinstance(choice, int):
            above = int(choice.max(initial=-1)) + 2
            own = choice.astype(np.int64) + 1
            codes = own if codes is None else _renumbered(codes * above + own)
    if codes is None or not height:
        return [tuple([each if isinstance(each, int) else -1 for each in choices])], None
    codes = _renumbered(codes)
    first = np.zeros(int(codes.max()) + 1, np.int64)
    first[codes[::-1]] = np.arange(height - 1, -1, -1)
    distinct = [
        tuple([each if isinstance(each, int) else int(each[row]) for each in choices])
        for row in first
    ]
    return distinct, codes


def _renumbered(codes: Codes) -> Codes:
    """The same numbers counted from 0 on, without gaps."""
    if int(codes.max(initial=0)) <= _DENSE:
        there = np.zeros(int(codes.max(initial=0)) + 1, np.int64)
        there[codes] = 1
        return (np.cumsum(there) - 1)[codes]
    return np.unique(codes, return_inverse=True)[1]
