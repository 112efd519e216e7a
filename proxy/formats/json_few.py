"""A short JSON document, whole and plain: read in one step, without the columns' machinery.

numpy and polars cost some fifty microseconds to start, which is most of what a report of ten records
takes. Here one pass in C and Python's lists do. What is read here is read as `json_records` reads it, to the
character; for whatever is not plain there is no answer, and `json_records` reads it or refuses it.

Plain are a top-level array, or lines, of 1 to 64 records, each with the members of the first in its
order, whose names have no escapes, each a string, a number without exponent, `true`, `false` or `null`.
"""

from __future__ import annotations

from typing import Final, Self

from proxy.formats.base import Reading
from proxy.kernels.few import MOST_WANTED, FewJson, Names, json_few
from proxy.report import FormatName

MOST: Final = 16 << 10
"""Bytes of a document up to which it is looked at."""


class Short:
    """Reads the short documents that come for one reading."""

    def __init__(self, reading: Reading) -> None:
        """Use `Short.of`."""
        lines = reading.dialect.format is FormatName.NDJSON
        limits = reading.limits
        self._most = limits.record_bytes
        if not lines:
            self._most = min(self._most, limits.envelope_bytes)
        if len(reading.in_order) > MOST_WANTED:
            self._most = 0
        self._names = Names(
            reading.in_order,
            [name for name in reading.report.fields if name not in reading.wanted],
            members=limits.fields,
            number=limits.number_length,
            lines=lines,
        )

    @classmethod
    def of(cls, reading: Reading) -> Self:
        """Made once for a reading."""
        made = reading.made.get(cls)
        if made is None:
            made = reading.made[cls] = cls(reading)
        return made

    def read(self, document: bytes) -> FewJson | None:
        """What a whole array, or some whole lines, hold; None of any other document. Never raises on data."""
        if len(document) > MOST or len(document) > self._most:
            return None
        return json_few(document, self._names)
