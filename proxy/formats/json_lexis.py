r"""How JSON writes values (RFC 8259 §6, §7): tokens <-> the plain text of values.

A cell is a token as the document writes it: `"a\u0062"`, `1.10`, `true`. `null`, a missing member and
an object or array under a field are no value: null. Both directions have a column form and, for the
few rows of a small report, a form cell by cell, which costs less than to start the columns' machinery;
they agree to the character.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from proxy.batch import Lexis
from proxy.few import Cells, Few, Numbers, decided
from proxy.formats.pieces import cut
from proxy.texts import TEXT, Texts, column, content, texts, with_nulls
from proxy.values import Type

SMALL: Final = 64
"""Rows up to which cell by cell is faster."""

_ESCAPED = r'["\\\x00-\x1f]'
_NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?$"
"""Without exponent, as nearly all are."""
_NUMBER_STARTS: Final = frozenset("-0123456789")
_SPACE, _QUOTE, _BACKSLASH = b' "\\'
_IS_PLAIN: Final = re.compile(_NUMBER.replace("$", r"\Z"))
_IS_ESCAPED: Final = re.compile(_ESCAPED)
_LAX_NUMBER: Final = re.compile(r"([+-]?)0*([0-9]+(?:\.[0-9]+)?(?:[eE]([+-]?[0-9]{1,9}))?)\Z")
_LONG: Final = 4_300
"""Characters of a number, and the power of ten either way, beyond which readers of JSON give up."""
_EXPONENT: Final = 400


def _text(token: str | None) -> str | None:
    if token is None or not token.startswith('"'):
        return None
    return msgspec.json.decode(token, type=str) if "\\" in token else token[1:-1]


def _number(token: str | None) -> str | None:
    return token if token is not None and token[:1] in _NUMBER_STARTS else None


def _boolean(token: str | None) -> str | None:
    return token if token in {"true", "false"} else None


def _as_text(token: str | None) -> str | None:
    return token if token is None or token.startswith('"') else f'"{token}"'


def string(text: str) -> str:
    """The string token for `text`; whatever needs no escape stays as it is."""
    if _IS_ESCAPED.search(text):
        return msgspec.json.encode(text).decode()
    return f'"{text}"'


def _string(value: str | None) -> str | None:
    return None if value is None else string(value)


def _json_number(value: str | None) -> str | None:
    """The number as JSON has it: no `+`, no leading zeros; a string where it is none, or one too large."""
    if value is None:
        return None
    # What most numbers are can be told without a look at the grammar.
    if value.isdigit() and value.isascii() and (value[0] != "0" or value == "0"):
        return value if len(value) <= _LONG else string(value)
    if _IS_PLAIN.match(value) and len(value) <= _LONG:
        return value
    matched = _LAX_NUMBER.match(value)
    if matched is None or len(value) > _LONG or abs(int(matched[3] or 0)) > _EXPONENT:
        return string(value)
    return matched[1].replace("+", "") + matched[2]


def _json_boolean(value: str | None) -> str | None:
    return value if value in {None, "true", "false"} else string(str(value))


def _characters(token: str | None) -> str | None:
    return _text(token) if token is not None and token.startswith('"') else token


def _stand(values: Few, type_: Type) -> bool:
    """Whether they are tokens already, or nulls."""
    if isinstance(values, Numbers):
        return type_.is_number
    return values.count(None) == len(values)


def _strings(tokens: Few) -> list[str] | None:
    """What all of them have between their quotes, at once; None where one is no string, or has an escape.

    No token holds a line end. So there is one quote, line end, quote less than there are tokens only where
    each of them is a string, or there is no other.
    """
    try:
        joined = "\n".join(tokens)
    except TypeError:  # null
        return None
    if "\\" in joined or not joined.startswith('"'):
        return None
    found = joined[1:-1].split('"\n"')
    return found if len(found) == len(tokens) else None


WRITTEN: Final[Mapping[Type, str]] = MappingProxyType(
    dict.fromkeys(Type, "string")
    | {Type.INTEGER: "number", Type.DECIMAL: "number", Type.BOOLEAN: "`true`, `false`"}
)
"""How JSON has a value of each type."""


class JsonLexis(Lexis):
    """Values written as JSON tokens."""

    def read(self, cells: Cells, type_: Type) -> Cells:
        """Tokens -> plain text; null where the token's kind is not that of `type_`."""
        scalar: Callable[[str | None], str | None]
        if type_.is_number:
            scalar = _number
        elif type_ is Type.BOOLEAN:
            scalar = _boolean
        else:
            scalar = _text
        if isinstance(cells, Few):
            return Few((_strings(cells) if scalar is _text else None) or map(scalar, cells))
        if len(cells) <= SMALL:
            return pl.Series(cells.name, [*map(scalar, cells.to_list())], dtype=pl.String)
        if type_.is_number:
            return _where(cells, cells.str.contains("^[-0-9]"))
        if type_ is Type.BOOLEAN:
            return _where(cells, (cells == "true") | (cells == "false"))
        found = cells.str.strip_prefix('"').str.strip_suffix('"')
        found = _where(found, cells.str.starts_with('"'))
        return _amend(found, cells, cells.str.contains("\\", literal=True), _text)

    def write(self, values: Cells, type_: Type) -> Cells:
        """Plain text -> tokens; what is no number or Boolean and should be is written as a string."""
        if isinstance(values, Few) and _stand(values, type_):
            return values
        scalar: Callable[[str | None], str | None]
        if type_.is_number:
            scalar = _json_number
        elif type_ is Type.BOOLEAN:
            scalar = _json_boolean
        else:
            scalar = _string
        if isinstance(values, Few):
            return Few(map(scalar, values))
        if len(values) <= SMALL:
            return pl.Series(values.name, [*map(scalar, values.to_list())], dtype=pl.String)
        if type_.is_number:
            odd = ~values.str.contains(_NUMBER) | (values.str.len_bytes() > _LONG)
            return _amend(values, values, odd, scalar)
        if type_ is Type.BOOLEAN:
            return _amend(values, values, ~((values == "true") | (values == "false")), scalar)
        tokens = '"' + values + '"'
        return _amend(tokens, values, values.str.contains(_ESCAPED), scalar)

    def texts(self, cells: Cells) -> Cells:
        """A string as it is, any other token in quotes: `12` -> `"12"`."""
        if isinstance(cells, Few):
            return Few(map(_as_text, cells))
        is_text = cells.str.starts_with('"') | cells.is_null()
        return cells if is_text.all() else cells.zip_with(is_text, '"' + cells + '"')

    def plain(self, cells: Cells) -> Cells:
        """The text of a string; any other token as it is."""
        if isinstance(cells, Few):
            return Few(_strings(cells) or map(_characters, cells))
        if len(cells) <= SMALL:
            return pl.Series(cells.name, [*map(_characters, cells.to_list())], dtype=pl.String)
        return column(self.characters(texts(cells))).alias(cells.name)

    def characters(self, cells: Texts) -> Texts:
        """The same of cells as Arrow has them."""
        places, data = content(cells)
        starts, ends = places[:-1], places[1:]
        if not len(data):
            return cells
        # No token but a string begins with a quote; under a null there may be anything.
        strings = (data[np.minimum(starts, len(data) - 1)] == _QUOTE) & (ends - starts > 1)
        if not strings.any():
            return cells
        found = cut(data, (starts + strings, ends - strings))
        if cells.null_count:
            found = with_nulls(found, cells.is_null().to_numpy(zero_copy_only=False))
        if not (data == _BACKSLASH).any():
            return found
        tokens = column(cells)
        escaped = tokens.str.contains("\\", literal=True)
        return texts(_amend(column(found), tokens, escaped, _characters))

    def strings(self, cells: Few) -> str | None:
        """Such a string has two quotes, and any other token without an escape none."""
        try:
            joined = "\n".join(cells)
        except TypeError:  # null
            return None
        return joined if "\\" not in joined and joined.count('"') == 2 * len(cells) else None

    def tokens(self, values: Texts, type_: Type) -> Texts:
        """What `write` gives of values as Arrow has them."""
        if not (type_.is_number or type_ is Type.BOOLEAN):
            _, data = content(values)
            if not ((data < _SPACE) | (data == _QUOTE) | (data == _BACKSLASH)).any():
                mark = pa.scalar('"', TEXT)
                return pc.binary_join_element_wise(mark, values, mark, pa.scalar("", TEXT))
        written = self.write(column(values), type_)
        assert isinstance(written, pl.Series)
        return texts(written)


def _where(series: pl.Series, keep: pl.Series) -> pl.Series:
    """The series with null wherever `keep` is not true."""
    known = decided(keep, unknown=False)
    assert isinstance(known, pl.Series)
    return series if known.all() else series.set(~known, None)


def _amend(
    series: pl.Series,
    source: pl.Series,
    wrong: pl.Series,
    scalar: Callable[[str | None], str | None],
) -> pl.Series:
    """The series with the cells where `wrong` is true made anew from `source`, each distinct one once."""
    known = decided(wrong, unknown=False)
    assert isinstance(known, pl.Series)
    if not known.any():
        return series
    places = known.arg_true()
    cells = source.gather(places).to_list()
    made = {cell: scalar(cell) for cell in set(cells)}
    return series.clone().scatter(places, pl.Series([made[c] for c in cells], dtype=pl.String))


JSON_LEXIS: Final = JsonLexis()
