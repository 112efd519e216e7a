"""What a small world consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.reference.conditions import Condition
from tests.reference.forms import Form


@dataclass(frozen=True)
class Field:
    name: str
    type: str
    class_: str


@dataclass(frozen=True)
class Report:
    id: str
    fields: tuple[Field, ...]
    key: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    stable: bool = False

    def type(self, name: str) -> str | None:
        return next((field.type for field in self.fields if field.name == name), None)


@dataclass(frozen=True)
class Fields:
    """`*`, `* except a|@b` or `a|@b`."""

    items: tuple[str, ...] = ()
    all: bool = False

    def __str__(self) -> str:
        if not self.all:
            return "|".join(self.items)
        return "* except " + " | ".join(self.items) if self.items else "*"

    def names(self, field: Field) -> bool:
        listed = field.name in self.items or f"@{field.class_}" in self.items
        return listed is not self.all


@dataclass(frozen=True)
class AccessLine:
    who: str
    report: str
    action: str
    when: Condition
    effect: str

    def __str__(self) -> str:
        return f"p, {self.who}, {self.report}, {self.action}, {self.when}, {self.effect}"


@dataclass(frozen=True)
class CellLine:
    who: str
    report: str
    rows: Condition
    fields: Fields
    form: Form | None
    """None: `deny`."""

    def __str__(self) -> str:
        return f"p2, {self.who}, {self.report}, {self.rows}, {self.fields}, {self.form or 'deny'}"


@dataclass(frozen=True)
class Requester:
    user: str | None
    groups: tuple[str, ...] = ()
    tool: str | None = None
    attributes: tuple[tuple[str, Any], ...] = ()
    purpose: str = ""

    @property
    def environment(self) -> dict[str, Any]:
        return {"purpose": self.purpose, "tool": (self.tool or "").removeprefix("tool:")}


@dataclass(frozen=True)
class Rules:
    access: tuple[AccessLine, ...] = ()
    cells: tuple[CellLine, ...] = ()
    members: tuple[tuple[str, str], ...] = ()
    sets: tuple[tuple[str, str], ...] = ()

    def lines(self) -> list[str]:
        return [
            *map(str, self.access),
            *map(str, self.cells),
            *(f"g, {member}, {role}" for member, role in self.members),
            *(f"g2, {member}, {set_}" for member, set_ in self.sets),
        ]


@dataclass(frozen=True)
class World:
    reports: tuple[Report, ...]
    """The first one is asked for."""
    rules: Rules
    requester: Requester
    rows: tuple[dict[str, Any], ...]
    """Field -> a cell of documents.py."""

    @property
    def report(self) -> Report:
        return self.reports[0]


PURPOSES = ("audit", "reconcile")
CLASSES = ("public", "internal", "confidential", "personal")
ATTRIBUTES = {"stores": ("text", True), "region": ("text", False), "level": ("integer", False)}
"""`sub.*`: type, and whether it is a list."""
