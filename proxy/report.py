"""What is asked for: stores, reports, their fields, parameters and the variants that they come in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from proxy.credentials import SYSTEM, Credential, Tls
from proxy.values import Type

OPEN_CLASSES: Final = frozenset({"public", "internal"})
"""Classes whose parameters are recorded by value; every other class by keyed digest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """A declared column or member of a report's records."""

    name: str
    type: Type
    class_: str
    """`public`, `internal`, `confidential`, `personal`, or a class of the admin's own."""
    scale: int | None = None
    """A decimal's digits after the point, where a format wants to know; None where nobody declared them."""


class Operator(StrEnum):
    """How a filter compares its fields with its value in the store."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    IN = "in"
    STARTS = "starts"
    CONTAINS = "contains"


class By(StrEnum):
    """What is done by a parameter: the store filters, orders or groups; the proxy cuts out a page."""

    FILTER = "filter"
    ORDER = "order"
    GROUP = "group"
    LIMIT = "limit"
    OFFSET = "offset"


class Direction(StrEnum):
    """How a value of an order parameter writes its direction."""

    MINUS = "minus"
    """`-date`"""
    DOT = "dot"
    """`date.asc`, `date.desc`"""
    BLANK = "blank"
    """`date asc`, `date desc`"""


class Ordering(NamedTuple):
    """A field by which rows are ordered, or grouped."""

    field: str
    descending: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """An allow-listed parameter: of the path (`{name}` in it) or of the query.

    What the store does by it tells of the fields that it looks at, hence `Plan.hides`. A filter without
    fields selects nothing by a field.
    """

    name: str
    type: Type = Type.TEXT
    by: By = By.FILTER
    fields: tuple[str, ...] = ()
    """A filter: what it looks at; all of them, whatever its value."""
    operator: Operator = Operator.EQ
    required: bool = False
    allowed: tuple[str, ...] = ()
    """The values that are allowed, as written; empty: any of the type."""
    words: tuple[tuple[str, Ordering], ...] = ()
    """Order and group: each word that its value may hold, with what it means."""
    most: int = 0
    """Limit and offset: the largest value."""

    @property
    def chooses(self) -> bool:
        """Whether its value says which fields the store looks at."""
        return self.by in (By.ORDER, By.GROUP)

    @property
    def pages(self) -> bool:
        """Whether it is about the requester's own rows, and no matter of the store."""
        return self.by in (By.LIMIT, By.OFFSET)

    @property
    def looks_at(self) -> frozenset[str]:
        """The fields that the store looks at, or may be told to."""
        return frozenset((*self.fields, *(meant.field for _, meant in self.words)))

    def orderings(self, value: str) -> tuple[Ordering, ...]:
        """What a (canonical) value of an order or group parameter names, in its order."""
        meant = dict(self.words)
        return tuple(meant[word] for word in value.split(",")) if self.chooses else ()

    def uses(self, value: str) -> frozenset[str]:
        """The fields that the store looks at when the parameter has this (canonical) value."""
        if not self.chooses:
            return frozenset(self.fields)
        return frozenset((*self.fields, *(each.field for each in self.orderings(value))))


class FormatName(StrEnum):
    """The formats in which a store gives a report, and in which it is given."""

    CSV = "csv"
    JSON = "json"
    NDJSON = "ndjson"
    XLSX = "xlsx"
    ARROW = "arrow"
    PARQUET = "parquet"


EXTENSIONS: Final[Mapping[FormatName, str]] = MappingProxyType(
    {
        FormatName.CSV: ".csv",
        FormatName.JSON: ".json",
        FormatName.NDJSON: ".ndjson",
        FormatName.XLSX: ".xlsx",
        FormatName.ARROW: ".arrows",
        FormatName.PARQUET: ".parquet",
    }
)
"""What paths of each format end with."""


class Charset(StrEnum):
    """How a store writes the characters of a text."""

    UTF_8 = "utf-8"
    LATIN_1 = "latin-1"
    WINDOWS_1252 = "windows-1252"
    UTF_16 = "utf-16"
    UTF_16_LE = "utf-16-le"
    UTF_16_BE = "utf-16-be"


class Formulas(StrEnum):
    """What becomes of a text that a spreadsheet would take for a formula."""

    KEEP = "keep"
    NEUTRALISE = "neutralise"


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """How a document is written: its format, and what the format leaves open."""

    format: FormatName
    rows_at: tuple[str, ...] = ()
    """JSON: the member names that lead to the array of records, e.g. ('data', 'rows'); () = top level."""
    members: tuple[tuple[str, str], ...] = ()
    """JSON: constant members of the answer's outermost object, each with its value's JSON text."""
    delimiter: str = ","
    """CSV: what stands between the cells."""
    charset: Charset = Charset.UTF_8
    """CSV: of the store's document; an answer is in UTF-8."""
    formulas: Formulas = Formulas.KEEP
    """CSV: of the answer."""
    sheet: str | None = None
    """XLSX: the name of the sheet; None: the store's first that is shown, and ours is `report`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One document of a report's at its store, and the path here at which it is given.

    Paths are literal segments or `{parameter}` segments, e.g. `/sales/{region}/daily.csv`.
    """

    path: str
    source: str
    stored: Dialect
    """How the store gives it."""
    offers: tuple[Dialect, ...]
    """How it may be given, of distinct formats; the first one where a requester prefers none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """An internal HTTP report store; `url` is `http(s)://host[:port][/base]` without a trailing slash."""

    name: str
    url: str
    credential: Credential | None = None
    """What the proxy itself presents in `Authorization`."""
    tls: Tls = SYSTEM
    """How the store is known, and the proxy by it."""
    limits: tuple[tuple[str, float], ...] = ()
    """What the catalogue says otherwise of it than the settings of all stores, by name."""
    loopback: bool = False
    """Whether the catalogue allows this store to be on this machine."""
    compression: bool = False
    """Whether the store is asked to compress its answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One catalogued resource of a store."""

    id: str
    title: str
    store: Store
    fields: Mapping[str, Field]
    """In the order in which columns and members are given."""
    variants: tuple[Variant, ...]
    parameters: Mapping[str, Parameter]
    key: tuple[str, ...] = ()
    """The fields that identify a row; ciphertexts are bound to them."""
    found_by: tuple[str, ...] = ()
    """The fields by whose values the access log tells which rows were given: the key's, then others."""
    ordered_by: tuple[str, ...] = ()
    """The fields on which the order depends in which the store gives the rows."""
    prefer: tuple[str, ...] = ()
    """Treatment names, most preferred first, where forms that have no order between them can meet."""
    audience: frozenset[str] = frozenset()
    """The audiences that open it; empty: any that is not `reserved`."""
    reserved: frozenset[str] = frozenset()
    """The audiences that the catalogue names: they open nothing but what they are named for."""
    stable: bool = False
    """`shape: stable`: columns that are not granted are given as nulls."""
    types: Mapping[str, Type] = field(init=False, repr=False, compare=False)
    """Of the fields, by name."""
    closed: frozenset[str] = field(init=False, repr=False, compare=False)
    """The parameters whose values may be data of a class that is not open."""
    shaping: frozenset[str] = field(init=False, repr=False, compare=False)
    """The parameters that are no filters: they order, group or page."""

    def __post_init__(self) -> None:
        types = {name: each.type for name, each in self.fields.items()}
        closed = [each.name for each in self.parameters.values() if not self._is_open(each)]
        object.__setattr__(self, "types", MappingProxyType(types))
        object.__setattr__(self, "closed", frozenset(closed))
        shaping = [each.name for each in self.parameters.values() if each.by is not By.FILTER]
        object.__setattr__(self, "shaping", frozenset(shaping))

    def opened_by(self, audiences: frozenset[str] | None) -> bool:
        """Whether a token that is for `audiences` is for this report; None: no token says for what."""
        if audiences is None:
            return True
        if self.audience:
            return not self.audience.isdisjoint(audiences)
        return not audiences <= self.reserved

    def _is_open(self, parameter: Parameter) -> bool:
        """Whether its value is no data of a closed class; one that names fields or counts rows is no data.

        Of a filter that the catalogue ties to no field nobody knows what its values are.
        """
        if parameter.chooses or parameter.pages:
            return True
        fields = [self.fields[name] for name in parameter.fields if name in self.fields]
        return bool(fields) and all(each.class_ in OPEN_CLASSES for each in fields)
