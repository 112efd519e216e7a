"""DESIGN.md §5, `suppress(k, by=)`, row by row: which rows of a source are in groups that may be given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

Values = Sequence[Any]
"""A row's values of the `by` fields; None where it has none."""


def given(rows: Sequence[Values], least: int) -> list[bool]:
    """For each row whether its group is given."""
    size = Counter(tuple(row) for row in rows if None not in row)
    hidden = {group for group in size if size[group] < least}
    width = len(rows[0]) if rows else 0
    for depth in range(width - 1, -1, -1):
        for around in {tuple(row[:depth]) for row in rows if None not in row[:depth]}:
            while told(rows, hidden, around, least):
                left = {group for group in size if group[:depth] == around} - hidden
                if not left:
                    break
                hidden.add(min(left, key=lambda group: (size[group], group)))
    return [None not in row and tuple(row) not in hidden for row in rows]


def told(
    rows: Sequence[Values], hidden: set[tuple[Any, ...]], around: tuple[Any, ...], least: int
) -> bool:
    """Whether what is hidden within an enclosing group follows from its total, or nearly so."""
    inside = [tuple(row) for row in rows if tuple(row[: len(around)]) == around]
    of_hidden = [row for row in inside if row in hidden]
    loose = sum(None in row for row in inside)
    something = bool(of_hidden) or 0 < loose < least
    return something and (len(set(of_hidden)) < 2 or len(of_hidden) < least)
