"""`clear`: the cell as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from proxy.treatments.base import Operation, Site, Treatment
from proxy.values import Type


@dataclass(frozen=True, kw_only=True)
class Clear(Treatment):
    """The cell as it is; the transform lets the document's own writing of it through."""

    name: ClassVar[str] = "clear"
    summary: ClassVar[str] = "The cell as the store wrote it, to the character."
    accepts: ClassVar[frozenset[Type]] = frozenset(Type)
    output: ClassVar[str] = "the field's"
    rank: ClassVar[int] = 0
    deterministic: ClassVar[bool] = True
    reversible: ClassVar[bool] = True
    idempotent: ClassVar[bool] = True
    unchanged: ClassVar[str] = "always"
    tells: ClassVar[str] = "All of the value, and how the store writes it."
    use: ClassVar[str] = "For what the requester needs exactly, and may know."
    avoid: ClassVar[str] = (
        "For personal and confidential fields that a coarser form would serve as well."
    )
    shown: ClassVar[tuple[tuple[str, Type, str], ...]] = (
        ("clear", Type.TEXT, "0042"),
        ("clear", Type.DECIMAL, "1.10"),
    )

    def __str__(self) -> str:
        return "clear"

    def gives(self, type_: Type) -> Type:
        """Keep the type."""
        return type_

    def bind(self, site: Site) -> Operation:
        """Give the values themselves."""
        return lambda batch: batch.values(site.field)
