"""Columns of texts that a spreadsheet takes for formulas (formulas.py of the package), made texts."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from proxy.formats.bits import Bytes
from proxy.formulas import FORMULA, NUMBER
from proxy.values import Type

_FIRST: Final[npt.NDArray[np.bool_]] = np.zeros(256, np.bool_)
_FIRST[list(b"=+-@\t\r\n\xef")] = True
"""The first bytes of such texts in UTF-8; the last of them begins others as well."""


def none_begins(firsts: Bytes) -> bool:
    """Whether texts that begin with these bytes need no second look."""
    return not _FIRST[firsts].any()


def neutral_column(cells: pl.Series, type_: Type) -> pl.Series:
    """Each text as a spreadsheet takes it for one; null stays null."""
    formulas = cells.str.contains(FORMULA)
    if type_.is_number:
        formulas &= ~cells.str.contains(NUMBER)
    formulas = formulas.fill_null(value=False)
    return cells.zip_with(~formulas, "'" + cells) if formulas.any() else cells
