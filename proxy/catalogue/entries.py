"""The shape of reports.yaml, as types; the documentation of its keys is generated from them."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from proxy.report import FormatName, Operator
from proxy.values import Type

CLASSES: Final = ("public", "internal", "confidential", "personal")


class StoreEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `stores`."""

    url: str
    """`http(s)://host[:port][/base]`."""
    loopback: bool = False
    """Whether the store may be on this machine."""
    credential: str | None = None
    """`env:NAME` or `file:PATH`: where the token is that the proxy presents to the store."""


class VariantEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of a report's `variants`."""

    path: str
    """The path at the proxy; a whole segment may be a `{parameter}`."""
    format: FormatName
    source: str | None = None
    """The path at the store, and a fixed query where it needs one; left out, it is the path."""
    rows_at: tuple[str, ...] = ()
    """JSON: the members that lead to the array of records; left out, it is the document."""
    delimiter: str = ","
    """CSV: what stands between the cells, in the store's document and in the answer."""


class ParameterEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of a report's `parameters`."""

    type: Type
    field: str | None = None
    """The field on which the store selects by it."""
    operator: Operator = Operator.EQ
    required: bool = False
    allowed: tuple[str, ...] = ()
    """The only values that are allowed."""


class FieldEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of a report's `fields`."""

    type: Type
    class_: str = msgspec.field(name="class")


class ReportEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `reports`."""

    title: str
    store: str
    variants: tuple[VariantEntry, ...]
    fields: dict[str, FieldEntry]
    """In the order in which they are given."""
    parameters: dict[str, ParameterEntry] = {}
    key: tuple[str, ...] = ()
    """The fields that identify a row."""
    prefer: tuple[str, ...] = ()
    """Of `round`, `partial` and `pseudonym`, which have no order between them: most preferred first."""
    shape: Literal["stable"] | None = None
    """`stable`: columns that are not granted are given as nulls."""


class CatalogueFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `reports.yaml`."""

    stores: dict[str, StoreEntry]
    reports: dict[str, ReportEntry]
    purposes: tuple[str, ...] = ()
    """What a requester may state in `Counterfoil-Purpose`."""
    classes: tuple[str, ...] = CLASSES
    """The classes that a field may have."""
