"""A column of a few cells: what polars' series does, for the operations in use, on a Python list.

To start polars' machinery costs some ten microseconds an operation, which a report of a thousand
rows never notices and one of ten rows pays for fifty times. A decoder that has few records gives such
columns; whatever works on columns takes both, and a property holds the two against each other.
"""

from __future__ import annotations

from typing import Any, Final

import polars as pl

FEW: Final = 64
"""Records up to which a batch has columns of this kind."""


class Few(list[Any]):
    """Cells (str or None), or truths (bool or None), in a list that is never changed."""

    __slots__ = ()

    def to_list(self) -> list[Any]:
        """The cells; not to be changed."""
        return self

    def filter(self, keep: Few) -> Few:
        """The cells where `keep` is true."""
        return Few([item for item, kept in zip(self, keep, strict=True) if kept])

    def zip_with(self, mask: Few, other: Few) -> Few:
        """The own cell where `mask` is true, else the other's."""
        return Few(
            [mine if own else theirs for mine, own, theirs in zip(self, mask, other, strict=True)]
        )

    def is_not_null(self) -> Few:
        """Where there is a value."""
        return Few([item is not None for item in self])

    def fill_null(self, *, value: bool) -> Few:
        """The truths, with `value` for what is unknown."""
        return Few([value if item is None else item for item in self])

    def sum(self) -> int:
        """How many are true."""
        return sum(self)

    def all(self) -> bool:
        """Whether all are true."""
        return all(self)

    def __or__(self, other: Few) -> Few:
        return Few([a or b for a, b in zip(self, other, strict=True)])

    def __and__(self, other: Few) -> Few:
        return Few([a and b for a, b in zip(self, other, strict=True)])

    def __invert__(self) -> Few:
        return Few([not item for item in self])


class Numbers(Few):
    """Numbers as every document writes them: with no sign but `-`, no needless zero in front, no exponent."""

    __slots__ = ()


Cells = pl.Series | Few
"""Of equal meaning; which of the two depends on nothing but the number of a batch's records."""


def like(column: Cells, items: list[Any]) -> Cells:
    """A column of texts, of the kind of `column`."""
    return Few(items) if isinstance(column, Few) else pl.Series(items, dtype=pl.String)


def decided(truths: Cells, *, unknown: bool) -> Cells:
    """The truths, with what is unknown as said."""
    if isinstance(truths, pl.Series) and not truths.null_count():
        return truths
    return truths.fill_null(value=unknown)


def filtered(column: Cells, keep: Cells) -> Cells:
    """The cells where `keep`, a column of the same kind, is true."""
    if isinstance(column, Few):
        assert isinstance(keep, Few)
        return column.filter(keep)
    assert isinstance(keep, pl.Series)
    return column.filter(keep)


def either(mine: Cells, mask: Cells, theirs: Cells) -> Cells:
    """The cell of `mine` where `mask` is true, else that of `theirs`; all of the same kind."""
    if isinstance(mine, Few):
        assert isinstance(mask, Few)
        assert isinstance(theirs, Few)
        return mine.zip_with(mask, theirs)
    assert isinstance(mask, pl.Series)
    assert isinstance(theirs, pl.Series)
    return mine.zip_with(mask, theirs)


def one_of(left: Cells, right: Cells) -> Cells:
    """Where at least one of two columns of truths, without nulls, is true."""
    if isinstance(left, Few):
        assert isinstance(right, Few)
        return left | right
    assert isinstance(right, pl.Series)
    return left | right


def both(left: Cells, right: Cells) -> Cells:
    """Where both of two columns of truths, without nulls, are true."""
    if isinstance(left, Few):
        assert isinstance(right, Few)
        return left & right
    assert isinstance(right, pl.Series)
    return left & right
