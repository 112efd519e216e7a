"""Forms that never look at the cell: `constant(v)` and `redact`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from proxy.batch import Batch
from proxy.few import Cells
from proxy.texts import Coded
from proxy.treatments.base import (
    BadArgument,
    Literal,
    Operation,
    Parameter,
    Site,
    Treatment,
)
from proxy.values import Type, scalar

_WRITTEN_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?\Z")


@dataclass(frozen=True, kw_only=True)
class Constant(Treatment):
    """One value in every row, where the cell is null too: nothing of the cell shows."""

    name: ClassVar[str] = "constant"
    summary: ClassVar[str] = (
        "The same number or text in every row, empty cells too. It keeps the field's type where "
        "the literal is a value of it: a number on a number field, `'2026-01-01'` on a date."
    )
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="value",
            attribute="value",
            read=lambda literal: literal,
            summary="the number or `'text'` to give",
            required=True,
            positional=True,
        ),
    )
    accepts: ClassVar[frozenset[Type]] = frozenset(Type)
    output: ClassVar[str] = "the field's, or text"
    rank: ClassVar[int] = 50
    deterministic: ClassVar[bool] = True
    reversible: ClassVar[bool] = False
    idempotent: ClassVar[bool] = True
    unchanged: ClassVar[str] = "the constant itself"
    tells: ClassVar[str] = "Nothing of the cell, not even whether there is a value."
    use: ClassVar[str] = "Where whoever reads the document insists on a value in each cell."
    avoid: ClassVar[str] = (
        "Where the constant would be taken for a value, as a 0 in a sum is: give `redact`."
    )
    shown: ClassVar[tuple[tuple[str, Type, str], ...]] = (
        ("constant(0)", Type.INTEGER, "1250"),
        ("constant('n/a')", Type.INTEGER, "1250"),
        ("constant('1900-01-01')", Type.DATE, "1984-05-17"),
    )

    value: Literal

    def __post_init__(self) -> None:
        text, quoted = self.value
        if not quoted and (not _WRITTEN_NUMBER.match(text) or scalar(text, Type.DECIMAL) is None):
            message = "an unquoted constant is a number of at most 36 digits"
            raise BadArgument("value", message, "write it in quotes: `constant('…')`")

    @property
    def fineness(self) -> tuple[object, ...]:
        """By the text; one constant is no finer than another."""
        return (self.value.quoted, self.value.text)

    @property
    def places(self) -> int:
        """Those of the constant itself."""
        return len(self.value.text.partition(".")[2])

    def __str__(self) -> str:
        return f"constant({self.value})"

    def gives(self, type_: Type) -> Type:
        """Keep the type where the literal is a value of it and of its kind, else text."""
        text, quoted = self.value
        return type_ if quoted != type_.is_number and scalar(text, type_) is not None else Type.TEXT

    def bind(self, site: Site) -> Operation:  # noqa: ARG002 - the same at every site
        """Give the constant, however many rows there are."""
        return lambda batch: _repeated(self.value.text, batch)


@dataclass(frozen=True, kw_only=True)
class Redact(Treatment):
    """No value in any row; the column stays."""

    name: ClassVar[str] = "redact"
    summary: ClassVar[str] = "No value: empty in CSV, null in JSON. The column stays."
    accepts: ClassVar[frozenset[Type]] = frozenset(Type)
    output: ClassVar[str] = "none"
    rank: ClassVar[int] = 60
    deterministic: ClassVar[bool] = True
    reversible: ClassVar[bool] = False
    idempotent: ClassVar[bool] = True
    unchanged: ClassVar[str] = "never"
    tells: ClassVar[str] = "Nothing of the cell, not even whether there is a value."
    use: ClassVar[str] = "Where the column has to be there and what is in it must not be known."
    avoid: ClassVar[str] = (
        "Where the field's name alone tells too much: grant the field in no form, and it has no column."
    )
    shown: ClassVar[tuple[tuple[str, Type, str], ...]] = (("redact", Type.TEXT, "ada@example.com"),)

    def __str__(self) -> str:
        return "redact"

    def gives(self, type_: Type) -> None:
        """Give no type: there never is a value."""

    def bind(self, site: Site) -> Operation:  # noqa: ARG002 - the same at every site
        """Give nulls, however many rows there are."""
        return lambda batch: _repeated(None, batch)


def _repeated(text: str | None, batch: Batch) -> Cells | Coded:
    return batch.repeated(text) if batch.few else Coded.of(text, height=batch.height)
