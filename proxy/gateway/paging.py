"""A page of the requester's own rows, cut out of its view: the store is told nothing of it.

A store's page would be one of all rows, and so tell how many of them are hidden. What is cut here are
the rows that the plan gives, in order; once the page is full, the store is read no further. So what
comes after it has no influence on the answer: neither rows nor, where it is still to be read, a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self

from proxy.batch import Batch
from proxy.gateway.parts import Failing, Part, those
from proxy.gateway.view import Steps, View
from proxy.report import By, Report


class Page(NamedTuple):
    """So many rows from number `first` on; `end` is the number after its last one, None for all."""

    first: int
    end: int | None

    @classmethod
    def of(cls, report: Report, parameters: Mapping[str, str]) -> Self | None:
        """The page that a request's (canonical) parameters ask for; None where they ask for none."""
        asked = {
            report.parameters[name].by: int(value)
            for name, value in parameters.items()
            if report.parameters[name].pages
        }
        if not asked:
            return None
        first, limit = asked.get(By.OFFSET, 0), asked.get(By.LIMIT)
        return cls(first=first, end=None if limit is None else first + limit)

    def within(self, start: int, count: int) -> range:
        """Which of `count` rows, the first of which is number `start`, are on the page."""
        end = count if self.end is None else min(count, self.end - start)
        return range(min(count, max(0, self.first - start)), max(0, end))


class _Cuttable(Part, frozen=True, kw_only=True):
    """A part with the records that it was made of, for where the page begins or ends in it."""

    batch: Batch


class PagedView(View):
    """A view of which only a page is given; on record are the page's rows and cells alone."""

    def __init__(self, steps: Steps, *, page: Page) -> None:
        super().__init__(steps)
        self._page = page
        self._met = 0
        """How many of the requester's rows have come."""

    @property
    def full(self) -> bool:
        """Whether the page has all its rows."""
        return self._page.end is not None and self._met >= self._page.end

    def part(self, batch: Batch) -> Part:
        """What the requester would get of some records, and the records."""
        part = super().part(batch)
        return _Cuttable(
            records=part.records,
            rows=part.rows,
            cells=part.cells,
            evidence=part.evidence,
            batch=batch,
        )

    def add(self, part: Part) -> bytes:
        """What of the next bytes is on the page; after it, nothing can fail."""
        if isinstance(part, Failing):
            return b"" if self.full else super().add(part)
        assert isinstance(part, _Cuttable)
        wanted = self._page.within(self._met, part.rows)
        self._met += part.rows
        if len(wanted) == part.rows:
            return super().add(part)
        if not wanted:
            return b""
        released = self._transform.released(part.batch)
        return super().add(super().part(part.batch.filter(those(part.batch, released, wanted))))
