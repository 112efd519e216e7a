"""Which accesses of a log gave which of the rows that are asked for, and how surely.

    confirmed   the answer went out whole, and its evidence has the rows
    assumed     the evidence has them, but not how much of the answer went out: it broke off, its end is not
                on record, or it was a part of a document, of which nobody knows what it holds
    possible    it cannot be excluded: there is no evidence, or it does not tell

No access that may have given such a row is left out: rows that the records count and no evidence knows are
possible ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
import numpy as np

from proxy.access import NO_EVENT, AccessEvent, decode
from proxy.audit import Access, Asked, Leaf, Reader
from proxy.audit.attachments import is_whole
from proxy.errors import LogUnavailable
from proxy.evidence.layout import NotEvidence, inline, named
from proxy.evidence.reading import Noted, read
from proxy.exposure.where import FALSE, TRUE, Where
from proxy.keys import Keyring

Certainty = Literal["confirmed", "assumed", "possible"]

_AT_ONCE: Final = 5_000
_ALL: Final = 2**62
Forms = dict[str, dict[str, int]]
"""Field -> form -> rows."""


class Exposed(msgspec.Struct, frozen=True, kw_only=True):
    """What one access gave of what is asked for."""

    access: Access
    certainty: Certainty
    rows: int
    """Rows that the condition holds of, and of which a field that is asked for was given."""
    fields: Forms
    """Of these."""
    possible: int
    """Rows that may be such rows."""
    possible_fields: Forms
    """In which forms they may have been given, as far as that is known."""
    wrong: str = ""
    """What is wrong with the evidence, where something is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked for."""

    where: Where | None
    """None: all rows."""
    fields: frozenset[str]
    """None of them: any."""


class Search:
    """Looks through the log that a reader has open."""

    def __init__(self, reader: Reader, question: Question, keyring: Keyring | None) -> None:
        self._reader = reader
        self._question = question
        self._keyring = keyring
        self.kept: dict[str, set[str]] = defaultdict(set)
        """Report -> the fields by which its rows can be found, as far as evidence was read."""

    def found(self, asked: Asked) -> Iterator[Exposed]:
        """The accesses that fit what is asked of accesses, in the order in which they began."""
        accesses = [each for each in self._reader.query(asked, limit=_ALL) if _gave(each)][::-1]
        for start in range(0, len(accesses), _AT_ONCE):
            some = accesses[start : start + _AT_ONCE]
            records = self.records(some)
            for access in some:
                exposed = self._exposed(access, [each for _, each in records[access.access]])
                if exposed.rows or exposed.possible:
                    yield exposed

    def records(self, accesses: Sequence[Access]) -> Mapping[str, list[tuple[Leaf, AccessEvent]]]:
        """The records of some accesses, in their order."""
        found: dict[str, list[tuple[Leaf, AccessEvent]]] = defaultdict(list)
        for leaf in self._reader.records(accesses):
            try:
                event = decode(leaf.entry)
            except NO_EVENT:
                raise LogUnavailable(
                    f"entry {leaf.index} of {leaf.log} is no access event"
                ) from None
            found[event.access].append((leaf, event))
        return found

    def _exposed(self, access: Access, records: Sequence[AccessEvent]) -> Exposed:
        count = _Count(self._question.fields)
        known = covered = lost = 0
        wrong = ""
        for event in records:
            before, fault = known, ""
            for noted in self._evidence(event):
                if isinstance(noted, str):
                    fault = noted
                    continue
                known += noted.rows
                self.kept[access.report] |= noted.values.keys()
                where = self._question.where
                truths = (
                    None if where is None else where.truths(noted, access.report, self._keyring)
                )
                count.add(noted, truths)
            if fault:  # evidence of other rows, which may not have gone out, is none of these
                lost += max(0, event.rows - covered - (known - before))
            wrong, covered = fault or wrong, max(covered, event.rows)
        if unknown := max(access.rows - known, lost):
            count.unknown(access, unknown)
        certainty: Certainty = "possible"
        if count.rows:
            whole = access.outcome == "whole" and access.status != _PART
            certainty = "confirmed" if whole else "assumed"
        return Exposed(
            access=access,
            certainty=certainty,
            rows=count.rows,
            fields=_plain(count.fields),
            possible=count.possible,
            possible_fields=_plain(count.possible_fields),
            wrong=wrong,
        )

    def _evidence(self, event: AccessEvent) -> Iterator[Noted | str]:
        """What a record says of rows; or what is wrong with it, in words."""
        for statement in event.evidence:
            digest = named(statement)
            try:
                if digest is None:
                    yield from read(inline(statement))
                    continue
                content = self._reader.attachment(digest)
                if content is None or not is_whole(digest, content):
                    yield f"attachment {digest[:12]} is {'altered' if content else 'missing'}"
                    continue
                yield from read(content)
            except NotEvidence as exc:
                yield f"its evidence cannot be read: {exc}"


_PART: Final = 206


def _gave(access: Access) -> bool:
    return access.decision == "permit" and access.rows > 0


def _plain(forms: Mapping[str, Mapping[str, int]]) -> Forms:
    return {field: dict(sorted(counts.items())) for field, counts in sorted(forms.items())}


class _Count:
    """Rows of one access, by what is asked for."""

    def __init__(self, asked: Collection[str]) -> None:
        self._asked = asked
        self.rows = self.possible = 0
        self.fields: dict[str, Counter[str]] = defaultdict(Counter)
        self.possible_fields: dict[str, Counter[str]] = defaultdict(Counter)

    def add(
        self, noted: Noted, truths: np.ndarray[tuple[int, ...], np.dtype[np.int8]] | None
    ) -> None:
        """Rows that evidence tells of; `truths` None: all are asked for."""
        many = len(noted.forms)
        for sure in (True, False):
            if truths is None:
                if not sure:
                    continue
                chosen = noted.codes
            else:
                chosen = noted.codes[
                    truths == TRUE if sure else (truths != TRUE) & (truths != FALSE)
                ]
            for forms, rows in zip(
                noted.forms, np.bincount(chosen, minlength=many).tolist(), strict=True
            ):
                given = {
                    f: form for f, form in forms.items() if not self._asked or f in self._asked
                }
                if not rows or not given:
                    continue
                fields = self.fields if sure else self.possible_fields
                for field, form in given.items():
                    fields[field][form] += rows
                if sure:
                    self.rows += rows
                else:
                    self.possible += rows

    def unknown(self, access: Access, rows: int) -> None:
        """Rows that no evidence tells of: what the records count of their fields is all that is known."""
        # A list that was too long, or is in a record that is gone.
        cut = not access.fields or any(name.startswith("+") for name in access.fields)
        given = {f: c for f, c in access.fields.items() if not self._asked or f in self._asked}
        if not given and not cut:
            return
        self.possible += rows
        for field, counts in given.items():
            for form, count in counts.items():
                self.possible_fields[field][form] += min(count, rows)
