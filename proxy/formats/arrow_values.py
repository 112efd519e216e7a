"""Plain texts -> a typed Arrow column: exactly, or not at all.

Arrow's own parser takes more than the grammar of `proxy.values` has (`0x1F`) and less (`+5`): what is
plainly written goes through it, column by column; of the rest each distinct text is read by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as is_

from proxy.formats.arrow_text import DECIMALS, Column
from proxy.formats.arrow_types import DataType, is_text
from proxy.formats.base import refused
from proxy.texts import TEXT, Texts, column
from proxy.values import Type, scalar

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

_YEAR: Final = r"(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_DATE: Final = rf"^{_YEAR}-[0-9]{{2}}-[0-9]{{2}}$"
_INSTANT: Final = (
    rf"^{_YEAR}-[0-9]{{2}}-[0-9]{{2}}T(?:[01][0-9]|2[0-3]):[0-9]{{2}}:[0-9]{{2}}"
    r"(?:\.(?:[0-9]{6}|[0-9]{9}))?Z?$"
)
_INTEGER: Final = r"^-?[0-9]+$"
_DECIMAL: Final = r"^-?[0-9]+(?:\.[0-9]+)?$"
_FLOATING: Final = r"^-?(?:[0-9]{1,36}(?:\.[0-9]{1,36})?(?:[eE][+-]?[0-9]{1,3})?|inf)$|^nan$"


class _NotOfType(Exception):
    """A text is no value of the type, or does not fit it; holds nothing of it."""


def values_of(texts: Texts, given: DataType, declared: Type) -> Column:
    """The column of type `given`; raises SourceRefused where a text is no value or does not fit."""
    if is_text(given):
        return pc.cast(texts, given)
    if texts.null_count == len(texts):
        return pa.nulls(len(texts), given)
    read = _plainly(texts, given, declared)
    if read is None:
        try:
            return _one_by_one(texts, given, declared)
        except _NotOfType:
            pass
        raise refused("value-not-of-type")  # outside the handler: nothing of the value stays
    return read


def _plainly(texts: Texts, given: DataType, declared: Type) -> Column | None:
    """All at once; None where one of them is written otherwise, or is no value."""
    try:
        if is_.is_boolean(given):
            true = pc.equal(texts, "true")
            return true if _all(pc.or_(true, pc.equal(texts, "false"))) else None
        if is_.is_date(given):
            days = _cast(texts, _DATE, pa.date32())
            return None if days is None else pc.cast(days, given)
        if is_.is_timestamp(given):
            if not column(texts).str.contains(_INSTANT).all():
                return None
            unit = "ns" if given.unit == "ns" else "us"
            read = pc.cast(pc.ascii_rtrim(texts, "Z"), pa.timestamp(unit))
            return pc.cast(read, pa.timestamp(given.unit)).view(given)
        if is_.is_floating(given):
            read = _cast(texts, _FLOATING, given)
            overflows = read is not None and _infinite(read) != _infinite_texts(texts)
            return None if overflows else read
        if is_.is_decimal(given) and given.scale < 0:
            return _of_tens(texts, given)
        if is_.is_integer(given) or declared is Type.INTEGER:
            return _cast(texts, _INTEGER, given)
        return _cast(texts, _DECIMAL, given)
    except pa.ArrowInvalid:
        return None


def _cast(texts: Texts, pattern: str, given: DataType) -> Column | None:
    return pc.cast(texts, given) if column(texts).str.contains(pattern).all() else None


def _of_tens(texts: Texts, given: DataType) -> Column | None:
    """Decimals of a scale below 0: of the zeros that it stands for, Arrow's parser counts each as a digit."""
    zeros = "0" * -given.scale
    if not column(texts).str.contains(f"^-?(?:0|[0-9]+{zeros})$").all():
        return None
    short = pc.replace_substring_regex(texts, f"([0-9]){zeros}$", r"\1")
    read = pc.cast(short, DECIMALS[given.bit_width](given.precision, 0))
    return pa.Array.from_buffers(given, len(read), read.buffers(), offset=read.offset)


def _infinite(numbers: Column) -> int:
    return pc.sum(pc.is_inf(numbers)).as_py() or 0


def _infinite_texts(texts: Texts) -> int:
    return pc.sum(pc.ends_with(texts, "inf")).as_py() or 0


def _all(truths: Column) -> bool:
    """Whether all that is not null is true."""
    return pc.all(truths).as_py() is not False


def _one_by_one(texts: Texts, given: DataType, declared: Type) -> Column:
    """Each distinct text by itself; raises _NotOfType.

    PROMISE 1, framing: which cells are read together is the source's affair, hidden records' too. So what
    the plain road takes of a cell, as numbers of more digits than the grammar has, is taken here as well.
    """
    numbered = pc.dictionary_encode(texts)
    kind = _kind(given) if declared is Type.TEXT else declared
    convert = _converter(given)
    known = numbered.dictionary.to_pylist()
    values = [None if (value := scalar(text, kind)) is None else convert(value) for text in known]
    others = [text for text, value in zip(known, values, strict=True) if value is None]
    if others:
        read = iter(_others(others, given, declared))
        values = [next(read) if value is None else value for value in values]
    try:
        if is_.is_timestamp(given) or is_.is_date64(given):
            return pa.array(values, pa.int64()).view(given).take(numbered.indices)
        return pa.array(values, given).take(numbered.indices)
    except (pa.ArrowInvalid, OverflowError):
        pass
    raise _NotOfType


def _others(texts: list[str], given: DataType, declared: Type) -> list[Any]:
    """What pyarrow takes for texts that are no values by the grammar; raises _NotOfType."""
    read = _plainly(pa.array(texts, TEXT), given, declared)
    if read is None:
        raise _NotOfType
    whole = is_.is_timestamp(given) or is_.is_date64(given)
    found: list[Any] = (read.view(pa.int64()) if whole else read).to_pylist()
    return found


def _kind(given: DataType) -> Type:
    """What the texts of a column of that type are by the grammar."""
    if is_.is_integer(given):
        return Type.INTEGER
    if is_.is_boolean(given):
        return Type.BOOLEAN
    if is_.is_date(given):
        return Type.DATE
    return Type.DATETIME if is_.is_timestamp(given) else Type.DECIMAL


def _converter(given: DataType) -> Callable[[Any], Any]:
    """What makes of a value of the policy language what pyarrow takes for that type."""
    if is_.is_floating(given):
        return float
    if is_.is_decimal(given):
        return lambda value: _decimal(value, given.scale)
    if is_.is_timestamp(given):
        return lambda value: _instant(value, given.unit)
    if is_.is_date64(given):
        return lambda value: (value - date(1970, 1, 1)) // _DAY * 86_400_000
    return lambda value: value


def _decimal(value: int | Fraction, scale: int) -> Decimal:
    scaled = Fraction(value) * Fraction(10) ** scale
    if scaled.denominator != 1:
        raise _NotOfType
    number = scaled.numerator
    digits = tuple(map(int, str(abs(number))))
    return Decimal((int(number < 0), digits, -scale))


def _instant(value: datetime, unit: str) -> int:
    micro = (value - _EPOCH) // timedelta(microseconds=1)
    number, rest = divmod(micro * _PER_SECOND[unit], 10**6)
    if rest:
        raise _NotOfType
    return number
