"""Columns of values, worked on once per distinct value: what the treatments share.

Two roads to one result, held against each other by property: a plain loop for a few rows (a report
of 2 KB must not pay for vectorised set-up), and polars for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import polars as pl

from proxy.few import Cells, Few, like
from proxy.texts import by_distinct, nulls, texts
from proxy.values import Type, scalar

SMALL: Final = 256
"""Below this height a loop in Python is quicker than a chain of column operations."""

_DAY: Final = r"[12][0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
_CLOCK: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?Z?"
SURELY: Final = {
    Type.INTEGER: r"^[+-]?[0-9]{1,36}$",
    Type.DECIMAL: r"^[+-]?[0-9]{1,36}(?:\.[0-9]{1,36})?$",
    Type.BOOLEAN: r"^(?:true|false)$",
    Type.DATE: f"^{_DAY}$",
    Type.DATETIME: f"^{_DAY}[T ]{_CLOCK}$",
}
"""Texts that are values of a type beyond doubt; `proxy.values.scalar` judges the others."""
DAY: Final = len("2026-03-01")
ISO: Final = "%Y-%m-%d"


def per_distinct(values: Cells, function: Callable[[str], str | None]) -> Cells:
    """Apply `function` to each distinct value once; null stays null."""
    if isinstance(values, Few):
        return Few([None if text is None else function(text) for text in values])
    return all_distinct(values, lambda distinct: list(map(function, distinct)))


def all_distinct(values: Cells, function: Callable[[Sequence[str]], Sequence[str | None]]) -> Cells:
    """Apply `function` once to all distinct values together; null stays null."""
    if isinstance(values, pl.Series) and len(values) >= SMALL:
        given = by_distinct(texts(values), lambda distinct: list(function(distinct)), repeats=4)
        if given is not None:
            return given.column()
    cells = values.to_list()
    distinct = list({cell for cell in cells if cell is not None})
    results: dict[str | None, str | None] = dict(zip(distinct, function(distinct), strict=True))
    return like(values, list(map(results.get, cells)))


def of_type(values: Cells, type_: Type) -> Cells:
    """Give the values as they are, and null for a text that is no value of `type_`."""
    surely = SURELY.get(type_)
    if surely is None:  # every text is a text
        return values
    if isinstance(values, pl.Series) and len(values) >= SMALL:
        plain = values.str.contains(surely)
        if plain.all():
            return values
        doubtful = values.zip_with(~plain, nulls(1))
        judged = per_distinct(doubtful, lambda text: _judged(text, type_))
        assert isinstance(judged, pl.Series)
        return values.zip_with(plain, judged)
    return per_distinct(values, lambda text: _judged(text, type_))


def _judged(text: str, type_: Type) -> str | None:
    return None if scalar(text, type_) is None else text


def days(values: pl.Series) -> pl.Series:
    """The days with which texts begin; raises where one begins with none."""
    return values.str.slice(0, DAY).str.to_date(ISO)
