"""Texts that a spreadsheet takes for formulas (CWE-1236), and the `'` that makes it take them for texts.

They begin with `=`, `+`, `-` or `@`, full-width ones too, or with a tab or a line end, after which some
spreadsheets look on. A number in a column of numbers is none.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from proxy.formats.bits import Bytes
from proxy.values import Type

_FORMULA: Final = "^[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_NUMBER: Final = r"^[+-][0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
_BEGINS: Final = re.compile(_FORMULA)
_IS_NUMBER: Final = re.compile(_NUMBER.replace("$", r"\Z"))
_FIRST: Final[npt.NDArray[np.bool_]] = np.zeros(256, np.bool_)
_FIRST[list(b"=+-@\t\r\n\xef")] = True
"""The first bytes of such texts in UTF-8; the last of them begins others as well."""


def none_begins(firsts: Bytes) -> bool:
    """Whether texts that begin with these bytes need no second look."""
    return not _FIRST[firsts].any()


def neutral(text: str, type_: Type) -> str:
    """The text as a spreadsheet takes it for one."""
    if not _BEGINS.match(text) or (type_.is_number and _IS_NUMBER.match(text)):
        return text
    return f"'{text}"


def neutral_column(cells: pl.Series, type_: Type) -> pl.Series:
    """The same of each cell; null stays null."""
    formulas = cells.str.contains(_FORMULA)
    if type_.is_number:
        formulas &= ~cells.str.contains(_NUMBER)
    formulas = formulas.fill_null(value=False)
    return cells.zip_with(~formulas, "'" + cells) if formulas.any() else cells
