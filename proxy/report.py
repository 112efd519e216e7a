"""What is asked for: stores, reports, their fields, parameters and the variants that they come in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from proxy.values import Type


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """A declared column or member of a report's records."""

    name: str
    type: Type
    class_: str
    """`public`, `internal`, `confidential`, `personal`, or a class of the admin's own."""


class Operator(StrEnum):
    """How a query parameter uses its field in the store."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """An allow-listed parameter: of the path (`{name}` in it) or of the query.

    `field` and `operator` say what it selects on in the store; a parameter with a field is refused to
    requesters who may not see that field in clear. `field` None: it selects nothing by a field.
    """

    name: str
    type: Type
    field: str | None = None
    operator: Operator = Operator.EQ
    required: bool = False
    allowed: tuple[str, ...] = ()
    """The values that are allowed, as written; empty: any of the type."""

    @property
    def chooses(self) -> bool:
        """Whether its value says which fields the store looks at."""
        return False

    def uses(self, value: str) -> frozenset[str]:  # noqa: ARG002 - what it looks at may depend on it
        """The fields that the store looks at when the parameter has this (canonical) value."""
        return frozenset() if self.field is None else frozenset((self.field,))


class FormatName(StrEnum):
    """The formats that a variant of a report can have."""

    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One form in which a report is served: a path here, a path at the store, a format.

    Paths are literal segments or `{parameter}` segments, e.g. `/sales/{region}/daily.csv`.
    """

    path: str
    source: str
    format: FormatName
    rows_at: tuple[str, ...] = ()
    """JSON: the member names that lead to the array of records, e.g. ('data', 'rows'); () = top level."""
    delimiter: str = ","


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """An internal HTTP report store; `url` is `http(s)://host[:port][/base]` without a trailing slash."""

    name: str
    url: str
    credential: str | None = field(default=None, repr=False)
    """The value of the Authorization header that the proxy itself presents, already resolved."""
    loopback: bool = False
    """Whether the catalogue allows this store to be on this machine."""


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
    prefer: tuple[str, ...] = ()
    """Treatment names, most preferred first, where forms that have no order between them can meet."""
    stable: bool = False
    """`shape: stable`: columns that are not granted are given as nulls."""
    types: Mapping[str, Type] = field(init=False, repr=False, compare=False)
    """Of the fields, by name."""

    def __post_init__(self) -> None:
        types = {name: each.type for name, each in self.fields.items()}
        object.__setattr__(self, "types", MappingProxyType(types))
