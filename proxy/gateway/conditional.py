"""What a request wants of an answer beside all of it: its head, a range, or nothing that it has already.

RFC 9110: HEAD (§9.3.2), validators (§8.8.3), conditional requests (§13), ranges (§14). What is malformed in
these fields is passed over, as §13.1 and §14.2 have it: the answer is then the whole one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from aiohttp import hdrs, web

_TAG: Final = re.compile(r'[ \t,]*((?:W/)?"[^"\x00-\x20\x7f]*")[ \t]*(?=,|\Z)')
"""The next of a list, some of whose elements may be empty (RFC 9110 §5.6.1.2)."""
_RANGE: Final = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*\Z", re.IGNORECASE)
_WEAK: Final = "W/"


class Span(NamedTuple):
    """One range of bytes, as a request names it; `first` is None for the last `last` bytes."""

    first: int | None
    last: int | None

    def of(self, size: int) -> range | None:
        """The bytes of a document of `size` that it names; None where it names none."""
        if self.first is None:
            start, stop = max(0, size - (self.last or 0)), size
        else:
            start, stop = self.first, size if self.last is None else min(size, self.last + 1)
        return range(start, stop) if start < stop else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a request wants, where that is not just the answer."""

    head: bool = False
    if_match: frozenset[str] | None = None
    if_none_match: frozenset[str] | None = None
    span: Span | None = None
    if_range: str | None = None

    @classmethod
    def of(cls, request: web.BaseRequest) -> Self | None:
        """What `request` wants; None where it wants the answer, whatever it is."""
        headers = request.headers
        head = request.method == hdrs.METH_HEAD
        if not (
            head
            or hdrs.IF_NONE_MATCH in headers
            or hdrs.IF_MATCH in headers
            or hdrs.RANGE in headers
        ):
            return None
        if_range = headers.getall(hdrs.IF_RANGE, ())
        wanted = cls(
            head=head,
            if_match=_tags(headers.getall(hdrs.IF_MATCH, ())),
            if_none_match=_tags(headers.getall(hdrs.IF_NONE_MATCH, ())),
            span=None if head else _span(headers.getall(hdrs.RANGE, ())),
            if_range=if_range[0].strip() if len(if_range) == 1 else "" if if_range else None,
        )
        return None if wanted == cls() else wanted

    def fails(self, etag: str) -> bool:
        """Whether a precondition is false (§13.1.1; strong comparison): 412."""
        return self.if_match is not None and not self.if_match & {"*", etag}

    def has(self, etag: str) -> bool:
        """Whether the requester has this answer already (§13.1.2; weak comparison): 304."""
        tags = self.if_none_match
        return tags is not None and (
            "*" in tags or etag in {tag.removeprefix(_WEAK) for tag in tags}
        )

    def part(self, etag: str) -> Span | None:
        """The range that is wanted of the answer that has this validator (§13.1.5)."""
        return self.span if self.if_range in (None, etag) else None


def _tags(stated: tuple[str, ...] | list[str]) -> frozenset[str] | None:
    """The entity tags of a field; None without the field, or where it is malformed."""
    text = ",".join(stated).strip(" \t,")
    if text == "*":
        return frozenset("*")
    tags, end = set(), 0
    while matched := _TAG.match(text, end):
        tags.add(matched[1])
        end = matched.end()
    return frozenset(tags) if tags and end == len(text) else None


def _span(stated: tuple[str, ...] | list[str]) -> Span | None:
    """The one range of a field; None without it, and for several: these are answered as a whole."""
    matched = _RANGE.match(stated[0]) if len(stated) == 1 else None
    if matched is None or matched.groups() == ("", ""):
        return None
    first, last = (int(digits) if digits else None for digits in matched.groups())
    if first is not None and last is not None and last < first:
        return None
    return Span(first, last)
