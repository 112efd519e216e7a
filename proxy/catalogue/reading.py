"""reports.yaml -> stores and reports, with every fault at once and in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from proxy.catalogue.dialects import dialects_of
from proxy.catalogue.entries import (
    CatalogueFile,
    ReportEntry,
    StoreEntry,
    VariantEntry,
)
from proxy.catalogue.parameters import Note, parameter_of
from proxy.catalogue.paths import MOST_PATH, check_path, check_source
from proxy.catalogue.routing import Router, segments
from proxy.catalogue.stores import StoreReader
from proxy.documents import Document, load, nearest
from proxy.errors import Fault, Faulty
from proxy.report import (
    EXTENSIONS,
    By,
    Field,
    Parameter,
    Report,
    Store,
    Variant,
)
from proxy.treatments import TABLE, WITHOUT_ORDER
from proxy.values import Type

_ID = re.compile(r"[a-z0-9-]+(?:/[a-z0-9-]+)*\Z")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}\Z")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z")
_FIELD = re.compile(r"(?![@*\s])[^|,\x00-\x1f\x7f-\x9f\u2028\u2029]{1,255}(?<!\s)\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a catalogue is made of."""

    stores: dict[str, Store]
    reports: dict[str, Report]
    purposes: frozenset[str]
    classes: frozenset[str]
    router: Router
    files: frozenset[str]
    """The files that credentials are in, from the folder."""


def read(
    text: bytes,
    *,
    file: str,
    environment: Mapping[str, str],
    folder: Path | None,
    audiences: frozenset[str] | None,
    commands: frozenset[str],
    closed: frozenset[Path],
) -> Parts:
    """The parts that `text` writes; raises Faulty with all that is wrong with them."""
    document = load(text, CatalogueFile, file=file)
    reader = _Reader(document, environment, folder, audiences, commands, closed)
    parts = reader.parts()
    if reader.faults:
        raise Faulty(reader.faults)
    return parts


class _Reader:
    """Checks what types cannot say, and notes each fault."""

    def __init__(
        self,
        document: Document[CatalogueFile],
        environment: Mapping[str, str],
        folder: Path | None,
        audiences: frozenset[str] | None,
        commands: frozenset[str],
        closed: frozenset[Path],
    ) -> None:
        self.faults: list[Fault] = []
        self._document = document
        self._stores = StoreReader(folder, environment, commands, closed)
        self._audiences = audiences
        value = document.value
        named = (
            *(each.audience for each in value.stores.values()),
            *(each.audience for each in value.reports.values()),
        )
        self._reserved = frozenset(name for each in named for name in each)
        self._places: dict[tuple[str, str], tuple[str | int, ...]] = {}
        """Where a report's path is written."""

    def _fault(self, message: str, *path: str | int, hint: str = "", key: bool = False) -> None:
        self.faults.append(self._document.fault(message, *path, hint=hint, key=key))

    def parts(self) -> Parts:
        """Everything, as far as it can be made; only without faults is it whole."""
        value = self._document.value
        for member, names in (("purposes", value.purposes), ("classes", value.classes)):
            self._distinct(names, member)
            for number, name in enumerate(names):
                if not _NAME.match(name):
                    self._fault(
                        f"`{name}` is not a name",
                        member,
                        number,
                        hint="lower-case letters, digits, `-_.`",
                    )
        stores = {name: self._store(name, entry) for name, entry in value.stores.items()}
        reports = {id_: self._report(id_, entry, stores) for id_, entry in value.reports.items()}
        return Parts(
            stores=stores,
            reports=reports,
            purposes=frozenset(value.purposes),
            classes=frozenset(value.classes),
            router=self._router(reports),
            files=frozenset(self._stores.files),
        )

    def _distinct(self, names: tuple[str, ...], *path: str | int) -> None:
        seen = set()
        for number, name in enumerate(names):
            if name in seen:
                self._fault(f"`{name}` is named twice", *path, number, hint="write it once")
            seen.add(name)

    def _known(
        self, names: tuple[str, ...], known: Mapping[str, object], what: str, *path: str
    ) -> None:
        self._distinct(names, *path)
        for number, name in enumerate(names):
            if name not in known:
                self._fault(f"unknown {what} `{name}`", *path, number, hint=nearest(name, known))

    # ── stores ──

    def _store(self, name: str, entry: StoreEntry) -> Store:
        here = ("stores", name)
        if not _NAME.match(name):
            self._fault(
                f"`{name}` is not a name",
                *here,
                hint="lower-case letters, digits, `-_.`",
                key=True,
            )
        self._audience(entry.audience, *here)
        return self._stores.store(name, entry, self._below(*here))

    def _audience(self, names: tuple[str, ...], *here: str) -> None:
        self._distinct(names, *here, "audience")
        for number, name in enumerate(names):
            if self._audiences is not None and name not in self._audiences:
                hint = nearest(name, self._audiences)
                self._fault(
                    f"no issuer has the audience `{name}`", *here, "audience", number, hint=hint
                )

    # ── reports ──

    def _report(self, id_: str, entry: ReportEntry, stores: Mapping[str, Store]) -> Report:
        here = ("reports", id_)
        if not _ID.match(id_):
            self._fault(
                f"`{id_}` is not a report id", *here, hint="such as `sales/store-daily`", key=True
            )
        if not entry.title.strip():
            self._fault("the title is empty", *here, "title", hint="write what people call it")
        if entry.store not in stores:
            self._fault(
                f"unknown store `{entry.store}`", *here, "store", hint=nearest(entry.store, stores)
            )
        self._audience(entry.audience, *here)
        if not entry.fields:
            hint = "such as `date: {type: date, class: public}`"
            self._fault("a report needs at least one field", *here, "fields", hint=hint)
        if not entry.variants:
            hint = "such as `- {path: /sales/daily.csv, format: csv}`"
            self._fault("a report needs at least one variant", *here, "variants", hint=hint)
        self._known(entry.key, entry.fields, "field", *here, "key")
        self._known(entry.found_by, entry.fields, "field", *here, "found_by")
        self._known(entry.ordered_by, entry.fields, "field", *here, "ordered_by")
        self._known(entry.prefer, TABLE, "treatment", *here, "prefer")
        for number, name in enumerate(entry.prefer):
            if name in TABLE and name not in WITHOUT_ORDER:
                self._fault(
                    f"`{name}` has its place in the order of preference",
                    *here,
                    "prefer",
                    number,
                    hint=f"what can be preferred is {', '.join(f'`{n}`' for n in WITHOUT_ORDER)}",
                )
        parameters = dict(self._parameters(entry, *here))
        return Report(
            id=id_,
            title=entry.title,
            store=stores.get(entry.store) or Store(name=entry.store, url=""),
            fields=MappingProxyType(dict(self._fields(entry, *here))),
            variants=tuple(
                variant
                for number, each in enumerate(entry.variants)
                for variant in self._variants(number, each, parameters, *here)
            ),
            parameters=MappingProxyType(parameters),
            key=entry.key,
            found_by=tuple(dict.fromkeys((*entry.key, *entry.found_by))),
            ordered_by=entry.ordered_by,
            prefer=entry.prefer,
            audience=frozenset(entry.audience or self._store_audience(entry.store)),
            reserved=self._reserved,
            stable=entry.shape == "stable",
        )

    def _store_audience(self, name: str) -> tuple[str, ...]:
        store = self._document.value.stores.get(name)
        return store.audience if store is not None else ()

    def _fields(self, entry: ReportEntry, *here: str) -> Iterator[tuple[str, Field]]:
        classes = self._document.value.classes
        for name, each in entry.fields.items():
            if not _FIELD.match(name):
                self._fault(
                    f"`{name}` is not a field name",
                    *here,
                    "fields",
                    name,
                    hint="no `|`, `,`, control character or outer blank; no `@` or `*` first",
                    key=True,
                )
            if each.class_ not in classes:
                self._fault(
                    f"unknown class `{each.class_}`",
                    *here,
                    "fields",
                    name,
                    "class",
                    hint=nearest(each.class_, classes),
                )
            if each.scale is not None and each.type is not Type.DECIMAL:
                at = (*here, "fields", name, "scale")
                self._fault("`scale` is for decimals", *at, hint="take it out")
            yield name, Field(name=name, type=each.type, class_=each.class_, scale=each.scale)

    def _parameters(self, entry: ReportEntry, *here: str) -> Iterator[tuple[str, Parameter]]:
        paging: dict[By, str] = {}
        for name, each in entry.parameters.items():
            at = (*here, "parameters", name)
            if not _PARAMETER.match(name):
                self._fault(
                    f"`{name}` is not a parameter name",
                    *at,
                    hint="letters, digits, `_.-`",
                    key=True,
                )
            parameter = parameter_of(name, each, entry, self._below(*at))
            if parameter.pages and paging.setdefault(parameter.by, name) != name:
                self._fault(
                    f"`{paging[parameter.by]}` is `by: {parameter.by}` already",
                    *at,
                    hint="a report has one of each",
                )
            yield name, parameter

    def _below(self, *here: str | int) -> Note:
        def note(message: str, *path: str | int, hint: str = "", key: bool = False) -> None:
            self._fault(message, *here, *path, hint=hint, key=key)

        return note

    def _variants(
        self, number: int, entry: VariantEntry, parameters: Mapping[str, Parameter], *here: str
    ) -> Iterator[Variant]:
        """One entry's variants: one for each path at which it is given."""
        at: tuple[str | int, ...] = (*here, "variants", number)
        fault = self._below(*at, "path")
        if check_path(entry.path, parameters, fault) and segments(entry.path)[0] == "-":
            hint = "begin it with another segment"
            fault("paths below `/-/` are the proxy's own", hint=hint)
        source = entry.path if entry.source is None else entry.source
        if entry.source is not None:
            check_source(source, entry.path, parameters, self._below(*at, "source"))
        stored, others = dialects_of(entry, self._below(*at))
        extension = EXTENSIONS[entry.format]
        offers = {entry.path: (stored, *others)}
        if entry.path.endswith(extension):
            stem = entry.path.removesuffix(extension)
            offers = {f"{stem}{EXTENSIONS[each.format]}": (each,) for each in (stored, *others)}
        for path, offered in offers.items():
            self._places.setdefault((here[-1], path), (*at, "path"))
            yield Variant(path=path, source=source, stored=stored, offers=offered)

    def _router(self, reports: Mapping[str, Report]) -> Router:
        """The routes; no target may match two of them."""
        router = Router()
        for report in reports.values():
            for variant in report.variants:
                if len(variant.path) > MOST_PATH:
                    continue  # a fault already
                other = router.add(report, variant)
                if other is not None:
                    line, _ = self._document.place(*self._places[other[0].id, other[1].path])
                    self._fault(
                        f"the path can match the same target as one of `{other[0].id}`",
                        *self._places[report.id, variant.path],
                        hint=f"in line {line}",
                    )
        return router
