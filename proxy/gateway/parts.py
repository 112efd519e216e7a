"""What some records of the source become; and how far, where one of their cells has no place in the format.

PROMISE 1, framing: what is given before such a cell are the released rows before it, to the last one,
however the source's records came together with others. So nothing tells of what lies between them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import msgspec
import polars as pl

from proxy.batch import Batch
from proxy.errors import SourceRefused
from proxy.few import Cells, Few
from proxy.masks import Mask, truths
from proxy.transform import Counts


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What some records of the source become: a part of the answer."""

    records: Any
    """As the encoder has them."""
    rows: int
    cells: Counts
    evidence: bytes = b""
    """Which rows they are."""


class Failing(Part, frozen=True, kw_only=True):
    """What comes next and cannot be given."""

    failure: SourceRefused


def until(
    failure: SourceRefused, batch: Batch, released: Mask, part: Callable[[Batch], Part]
) -> list[Part]:
    """The part of all released rows before the first one for which `part` raises, and then that failure."""
    found: list[Part] = []
    good, bad = 0, int(truths(released, batch.height).sum())
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            found = [part(batch.filter(those(batch, released, range(middle))))]
            good = middle
        except SourceRefused:
            bad = middle
    return [*found, Failing(records=b"", rows=0, cells={}, failure=failure)]


def those(batch: Batch, released: Mask, wanted: range) -> Cells:
    """Where a record of `batch` is one of the `wanted` ones among those that are released."""
    if batch.few:
        flags = [released] * batch.height if isinstance(released, bool) else released.to_list()
        numbers = accumulate(map(int, flags))
        return Few(
            [flag and number - 1 in wanted for flag, number in zip(flags, numbers, strict=True)]
        )
    column = truths(released, batch.height)
    number = column.cast(pl.UInt32).cum_sum()
    return column & (number > wanted.start) & (number <= wanted.stop)


def summed(some: Counts, more: Counts) -> Counts:
    """Field by field, form by form."""
    return {
        field: {
            form: some.get(field, {}).get(form, 0) + more.get(field, {}).get(form, 0)
            for form in some.get(field, {}) | more.get(field, {})
        }
        for field in some | more
    }
