"""Which rows something holds for, and which are granted: masks made of the truths of conditions.

PROMISE 1 (no cell without a grant): a mask begins as false; an allow line sets it where its condition is
known to be true, and a deny line takes away wherever its own is not known to be false.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from proxy.few import Cells, Few, both, decided, filtered, one_of
from proxy.plan import Truth

Mask = bool | Cells
"""Rows for which something holds: all, none, or those of a Boolean column without nulls."""


def known_true(outcome: Truth | Cells) -> Mask:
    """Where an allow line's condition holds: unknown is false."""
    if outcome is None or isinstance(outcome, bool):
        return outcome is True
    return decided(outcome, unknown=False)


def hidden(denies: Sequence[int], outcomes: Sequence[Truth | Cells]) -> Mask:
    """Where any deny line's condition holds: unknown is true."""
    found: Mask = False
    for number in denies:
        outcome = outcomes[number]
        if outcome is None or outcome is True:
            return True
        if outcome is not False:
            found = _or(found, decided(outcome, unknown=True))
    return found


def exclusive(whens: Sequence[int], allows: Sequence[Mask], hidden: Mask) -> list[Mask]:
    """For each choice, most preferred first, the rows in which it is the one that is given."""
    taken = hidden
    masks: list[Mask] = []
    for when in whens:
        mask = _and(allows[when], _not(taken))
        masks.append(mask)
        taken = _or(taken, allows[when])
    return masks


def _or(left: Mask, right: Mask) -> Mask:
    if left is True or right is True:
        return True
    if left is False:
        return right
    return left if right is False else one_of(left, right)


def _and(left: Mask, right: Mask) -> Mask:
    if left is False or right is False:
        return False
    if left is True:
        return right
    return left if right is True else both(left, right)


def _not(mask: Mask) -> Mask:
    return not mask if isinstance(mask, bool) else ~mask


def over(mask: Mask, keep: Cells) -> Mask:
    """`mask` over the kept rows; a constant where it has become one."""
    if isinstance(mask, bool):
        return mask
    kept = filtered(mask, keep)
    return True if kept.all() else kept


def released(granted: list[list[Mask]]) -> Mask:
    """The rows of which some cell is granted."""
    found: Mask = False
    for masks in granted:
        for mask in masks:
            found = _or(found, mask)
    return found


def truths(mask: Mask, height: int) -> pl.Series:
    """A mask as a column of `height` truths."""
    if isinstance(mask, bool):
        return pl.Series([mask], dtype=pl.Boolean).new_from_index(0, height)
    return pl.Series(mask, dtype=pl.Boolean) if isinstance(mask, Few) else mask


def numbered(masks: Sequence[Mask], height: int) -> int | npt.NDArray[np.int16]:
    """Which of exclusive masks each of `height` rows has, -1 where none; one number where it is the same."""
    constant = [place for place, mask in enumerate(masks) if mask is True]
    if constant:
        return constant[0]
    number: npt.NDArray[np.int16] | None = None
    for place, mask in enumerate(masks):
        if not isinstance(mask, bool):
            if number is None:
                number = np.full(height, -1, np.int16)
            number[np.array(mask) if isinstance(mask, Few) else mask.to_numpy()] = place
    return -1 if number is None else number
