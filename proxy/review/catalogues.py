"""What two catalogues declare otherwise: stores, purposes, classes, and report by report, in words.

What a requester is given of a report's fields is compared elsewhere (`difference`); this is all the rest:
where reports come from, under which paths they are, by what they can be asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from proxy.catalogue.entries import CatalogueFile, ReportEntry, StoreEntry, VariantEntry
from proxy.documents import load

_FILE: Final = "reports.yaml"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """One thing that is declared otherwise."""

    about: str
    """A report's id, or `store NAME`, `purpose NAME`, `class NAME`."""
    what: str


def otherwise(old: bytes, new: bytes) -> tuple[Declared, ...]:
    """What the new text of reports.yaml declares otherwise; both texts are without faults."""
    was, now = (load(text, CatalogueFile, file=_FILE).value for text in (old, new))
    return tuple(
        Declared(about=about, what=what)
        for about, what in (*_beside(was, now), *_reports(was, now))
    )


def _beside(old: CatalogueFile, new: CatalogueFile) -> Iterator[tuple[str, str]]:
    """Of all but reports: what it is about, and what is otherwise."""
    for name, was, now in _both(old.stores, new.stores):
        for what in _store(was, now):
            yield f"store {name}", what
    for kind, ours, theirs in (
        ("purpose", old.purposes, new.purposes),
        ("class", old.classes, new.classes),
    ):
        for name in ours:
            if name not in theirs:
                yield f"{kind} {name}", "is no more"
        for name in theirs:
            if name not in ours:
                yield f"{kind} {name}", "is new"


def _store(was: StoreEntry | None, now: StoreEntry | None) -> Iterator[str]:
    if was is None or now is None:
        yield "is no more" if now is None else f"is new, at {now.url}"
        return
    yield from _members(was, now)


def _reports(old: CatalogueFile, new: CatalogueFile) -> Iterator[tuple[str, str]]:
    for id_, was, now in _both(old.reports, new.reports):
        if was is None or now is None:
            paths = ", ".join(each.path for each in (now.variants if now else ()))
            yield id_, f"is new, at {paths}" if now else "is no more"
            continue
        for what in _report(was, now):
            yield id_, what


def _report(was: ReportEntry, now: ReportEntry) -> Iterator[str]:
    yield from _members(was, now, besides=("variants", "fields", "parameters"))
    paths = [{each.path: each for each in report.variants} for report in (was, now)]
    for path, before, after in _both(*paths):
        if before is None or after is None:
            yield f"{path} is no more" if after is None else f"{path} is new, from {_source(after)}"
            continue
        if _source(before) != _source(after):
            yield f"{path} reads {_source(after)} instead of {_source(before)}"
        for what in _members(before, after, besides=("source",)):
            yield f"{path}: {what}"
    for kind, ours, theirs in (
        ("field", was.fields, now.fields),
        ("parameter", was.parameters, now.parameters),
    ):
        yield from _named(kind, ours, theirs)
    kept = [[name for name in fields if name in was.fields and name in now.fields]
            for fields in (was.fields, now.fields)]  # fmt: skip
    if kept[0] != kept[1]:
        yield "its fields are in another order"


def _source(variant: VariantEntry) -> str:
    return variant.path if variant.source is None else variant.source


def _named(
    kind: str, old: Mapping[str, msgspec.Struct], new: Mapping[str, msgspec.Struct]
) -> Iterator[str]:
    """Of fields or parameters."""
    for name, was, now in _both(old, new):
        if was is None or now is None:
            yield f"the {kind} {name} is {'no more' if now is None else 'new'}"
            continue
        for what in _members(was, now):
            yield f"the {kind} {name}: {what}"


def _members(
    was: msgspec.Struct, now: msgspec.Struct, besides: Iterable[str] = ()
) -> Iterator[str]:
    """Each member of an entry that is otherwise, under the name that it has in the file."""
    for each in msgspec.structs.fields(now):
        if each.name in besides:
            continue
        before, after = getattr(was, each.name), getattr(now, each.name)
        if before != after:
            yield f"{each.encode_name} is {_value(after)} instead of {_value(before)}"


def _value(value: object) -> str:
    match value:
        case None | () | "":
            return "nothing"
        case dict() if not value:
            return "nothing"
        case msgspec.Struct():
            fields = [(each, getattr(value, each.name)) for each in msgspec.structs.fields(value)]
            said = [(each.encode_name, given) for each, given in fields if given != each.default]
            return _value(dict(said))
        case bool():
            return "true" if value else "false"
        case tuple():
            return f"[{', '.join(map(_value, value))}]"
        case dict():
            return f"{{{', '.join(f'{name}: {_value(each)}' for name, each in value.items())}}}"
        case _:
            return str(value)


def _both(old: Mapping[str, T], new: Mapping[str, T]) -> Iterator[tuple[str, T | None, T | None]]:
    """Each name with what it means in both, in the new one's order."""
    for name in dict.fromkeys((*new, *old)):
        yield name, old.get(name), new.get(name)
