"""Which Arrow types a declared type can be read from, and which type a column of an answer has.

PROMISE 1, schema: a column's type depends on the plan, the catalogue and the type that the store's
document declares of the field; no row has a part in it, nor whether there are any.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Final, TypeAlias

import pyarrow as pa
from pyarrow import types as is_

from proxy.batch import Output
from proxy.values import Type

DataType: TypeAlias = Any
"""A pyarrow.DataType; pyarrow ships no types."""
_MOST_DIGITS: Final = 38
_WIDEST: Final = 76
"""Digits of the widest decimal."""
_SCALE: Final = 9
"""Digits after the point where neither catalogue nor store declares them."""
_INSTANT: Final = pa.timestamp("us", "UTC")
_ZONE: Final = re.compile(r"[A-Za-z0-9_+:/-]{1,64}\Z")


def value_type(stored: DataType) -> DataType:
    """The type of a column's values: no dictionary, no views."""
    if is_.is_dictionary(stored):
        return value_type(stored.value_type)
    return pa.large_string() if is_.is_string_view(stored) else stored


def is_text(stored: DataType) -> bool:
    """Whether a column (of a value type) holds texts."""
    return bool(is_.is_string(stored) or is_.is_large_string(stored))


def can_be(stored: DataType, declared: Type) -> bool:
    """Whether values of the declared type can be read from a column of that (value) type."""
    if is_text(stored) or is_.is_null(stored):
        return True
    if is_.is_timestamp(stored):
        return _has_plain_zone(stored) and declared in (Type.TEXT, Type.DATETIME)
    if is_.is_date(stored):
        return declared in (Type.TEXT, Type.DATE)
    if is_.is_boolean(stored):
        return declared in (Type.TEXT, Type.BOOLEAN)
    if is_.is_floating(stored):
        return declared in (Type.TEXT, Type.DECIMAL)
    if is_.is_decimal(stored):
        whole = declared is Type.INTEGER and stored.scale <= 0
        sane = abs(stored.scale) <= _WIDEST
        return sane and (whole or declared in (Type.TEXT, Type.DECIMAL))
    return bool(is_.is_integer(stored)) and declared in (Type.TEXT, Type.DECIMAL, Type.INTEGER)


def _has_plain_zone(stored: DataType) -> bool:
    """Whether a timestamp's zone, where it has one, has a name that may be one."""
    with suppress(UnicodeDecodeError):
        return stored.tz is None or _ZONE.match(stored.tz) is not None
    return False


def given_type(output: Output, stored: DataType | None) -> DataType:
    """The type of an answer's column; `stored` is that of the field's values, None where nobody says."""
    if output.as_stored and stored is not None:
        return stored
    match output.type:
        case Type.TEXT:
            return pa.string()
        case Type.INTEGER:
            whole = stored is not None and is_.is_decimal(stored) and stored.scale <= 0
            return stored if whole else pa.int64()
        case Type.DECIMAL if stored is not None and is_.is_floating(stored):
            return pa.float64()
        case Type.DECIMAL:
            return pa.decimal128(_MOST_DIGITS, min(_scale(output, stored), _MOST_DIGITS))
        case Type.BOOLEAN:
            return pa.bool_()
        case Type.DATE:
            return pa.date32()
        case Type.DATETIME:
            return _INSTANT


def written() -> dict[Type, str]:
    """The type of an answer's column for each declared type, where the store's document has no types."""
    return {type_: f"`{given_type(Output('', type_), None)}`" for type_ in Type}


def _scale(output: Output, stored: DataType | None) -> int:
    """Digits after the point: those declared, or the store's, and what a form may add."""
    if output.scale is not None:
        scale = output.scale
    elif stored is not None and is_.is_decimal(stored):
        scale = max(stored.scale, 0)
    else:
        scale = _SCALE
    return max(scale, output.places)
