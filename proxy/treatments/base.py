"""What a treatment is: the form in which a cell is given, as an operation on a column of values.

A treatment is a frozen dataclass that cannot exist invalid; `parse` of the package reads one from
its text in policy.csv by the table of `Parameter`s that each class declares.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from proxy.batch import Batch
from proxy.few import Cells
from proxy.keys import Keyring
from proxy.texts import Coded
from proxy.values import Type

Operation = Callable[[Batch], Cells | Coded]
"""All rows of a batch -> the treated values of one field (plain text, null = no value)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Where a treatment is applied: one field of one report, for one request."""

    report: str
    field: str
    type: Type
    key: tuple[str, ...]
    """The fields that identify a row; () where the report declares none."""
    purpose: str
    subject: str
    keyring: Keyring


class Literal(NamedTuple):
    """A number or a text as policy.csv writes it: `100`, `-2.50`; `'n/a'`, `'it''s'` (quoted)."""

    text: str
    quoted: bool

    def __str__(self) -> str:
        return "'" + self.text.replace("'", "''") + "'" if self.quoted else self.text


class BadArgument(ValueError):
    """An argument is outside its range; `parameter` is its name in policy.csv."""

    def __init__(self, parameter: str, message: str, hint: str = "") -> None:
        self.parameter = parameter
        self.hint = hint
        super().__init__(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One parameter of a treatment."""

    name: str
    """As written in policy.csv: `with`."""
    attribute: str
    """The dataclass field that holds it: `mask`."""
    read: Callable[[Literal], Any]
    """The literal's value; raises ValueError with what is expected: `a whole number`."""
    summary: str
    required: bool = False
    positional: bool = False


class Treatment(ABC):
    """One row of the table of treatments; frozen, hashable, free of requests' values."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for the generated documentation."""
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    """In the order of positional arguments."""
    accepts: ClassVar[frozenset[Type]]
    output: ClassVar[str]
    """The type that is given, in words: `text`."""
    rank: ClassVar[int]
    """Place in the order of preference: the lowest is preferred; `clear` 0, `redact` last."""
    deterministic: ClassVar[bool]
    reversible: ClassVar[bool]
    per_value: ClassVar[bool] = False
    """Whether equal cells are given alike whatever else is in their rows, and it pays to remember how."""

    @property
    def per_recipient(self) -> bool:
        """Whether the form depends on who receives it."""
        return False

    @property
    def places(self) -> int:
        """Digits after the point that a number in this form has beyond those of the field's own."""
        return 0

    @property
    def fineness(self) -> tuple[int, ...] | tuple[object, ...]:
        """Within one rank, finer sorts before coarser; total among instances of one class."""
        return ()

    @abstractmethod
    def __str__(self) -> str:
        """The canonical text, which `parse` reads back: `round(100)`."""

    @abstractmethod
    def gives(self, type_: Type) -> Type | None:
        """The type of the treated value; None where there never is a value (`redact`)."""

    @abstractmethod
    def bind(self, site: Site) -> Operation:
        """Tie the treatment to one request.

        The operation must never raise on data: a cell that is no value of the field's type is given
        as null.
        """
