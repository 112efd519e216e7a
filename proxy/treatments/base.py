"""What a treatment is: the form in which a cell is given, as an operation on a column of values.

A treatment is a frozen dataclass that cannot exist invalid; `parse` of the package reads one from
its text in policy.csv by the table of `Parameter`s that each class declares.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from dataclasses import field as made_by
from typing import Any, ClassVar, NamedTuple

from proxy.batch import Batch
from proxy.few import Cells
from proxy.keys import Keyring
from proxy.texts import Coded
from proxy.treatments.groups import Counting
from proxy.values import Type

Operation = Callable[[Batch], Cells | Coded]
"""All rows of a batch -> the treated values of one field (plain text, null = no value)."""

Choosing = Callable[[Batch, Cells], Cells]
"""The same where only rows may be given for which the second column, of truths, is true."""


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
    types: Mapping[str, Type] = made_by(default_factory=dict)
    """The types of the report's fields, for a form that looks at others beside its own."""
    stated: frozenset[str] = frozenset()
    """The fields of `key` that whoever is given the cell is given in clear, in each of its rows."""
    carried: tuple[str, ...] = ()
    """The fields on which it depends in which rows this one may be revealed; the policy alone says so."""


class Literal(NamedTuple):
    """A number or a text as policy.csv writes it: `100`, `-2.50`; `'n/a'`, `'it''s'` (quoted)."""

    text: str
    quoted: bool

    def __str__(self) -> str:
        return "'" + self.text.replace("'", "''") + "'" if self.quoted else self.text


def quoted(literal: Literal) -> str:
    """Read a text in quotes, for a parameter that takes one."""
    if not literal.quoted:
        raise ValueError("a text in quotes")
    return literal.text


class BadArgument(ValueError):
    """An argument is outside its range; `parameter` is its name in policy.csv.

    `number` says which of several values is: 0 is the first.
    """

    def __init__(self, parameter: str, message: str, hint: str = "", *, number: int = 0) -> None:
        self.parameter = parameter
        self.hint = hint
        self.number = number
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
    many: bool = False
    """Whether it takes several values, as `0|100|1000`; the attribute is a tuple of what is read."""


class Treatment(ABC):
    """One row of the table of treatments; frozen, hashable, free of requests' values."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for the generated documentation."""
    tells: ClassVar[str]
    """What a recipient learns of the value, in one or two sentences of Markdown."""
    use: ClassVar[str]
    """When to use it, in a sentence."""
    avoid: ClassVar[str]
    """When not to, and what to use then, in a sentence."""
    shown: ClassVar[tuple[tuple[str, Type, str], ...]]
    """Examples for the documentation: the treatment's text, the field's type, a cell before."""
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    """In the order of positional arguments."""
    accepts: ClassVar[frozenset[Type]]
    """The types of fields that some form of it takes; `takes` says which this one does."""
    output: ClassVar[str]
    """The type that is given, in words: `text`."""
    rank: ClassVar[int]
    """Place in the order of preference: the lowest is preferred; `clear` 0, `redact` last."""
    deterministic: ClassVar[bool]
    """Whether the same rows under the same key are given alike, whenever they are asked for."""
    reversible: ClassVar[bool]
    idempotent: ClassVar[bool]
    """Whether a form of what is given in this form, where it takes the type of that, is the same."""
    unchanged: ClassVar[str]
    """When a value may be given as it is, in words: `always`, `never` or another case."""
    per_value: ClassVar[bool] = False
    """Whether equal cells are given alike whatever else is in their rows, and it pays to remember how."""

    @property
    def takes(self) -> frozenset[Type]:
        """The types of fields that can have this form."""
        return self.accepts

    @property
    def refers(self) -> tuple[tuple[str, str], ...]:
        """The other fields of the row that it names: the parameter that does, and the field."""
        return ()

    @property
    def needs(self) -> frozenset[str]:
        """The fields of the row that it reads beside its own."""
        return frozenset(field for _, field in self.refers)

    @property
    def per_recipient(self) -> bool:
        """Whether the form depends on who receives it."""
        return False

    @property
    def repeats(self) -> bool:
        """Whether equal cells come out alike each time: `deterministic`, but for what arguments change."""
        return self.deterministic

    @property
    def carries(self) -> bool:
        """Whether a cell takes along what tells in which rows it may be revealed (`Site.carried`)."""
        return False

    @property
    def kin(self) -> Hashable:
        """What forms have in common that compare with each other, and with the same others."""
        return self

    @property
    def places(self) -> int:
        """Digits after the point that a number in this form has beyond those of the field's own."""
        return 0

    @property
    def fineness(self) -> tuple[int, ...] | tuple[object, ...]:
        """Within one rank, finer sorts before coarser; total among instances of one class."""
        return ()

    @property
    def counting(self) -> Counting | None:
        """By what all rows of the source are counted before a cell is given; None where none are."""
        return None

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

    def choosing(self, site: Site) -> Choosing | None:  # noqa: ARG002 - most look at no other row
        """The same where rows were counted; None where nothing is counted."""
        return None
