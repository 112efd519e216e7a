"""What was decided: a permit with its plan, or a denial with its reason (PDP and PEP share these).

A `Plan` is a template: all `p2` lines that one set of grants has on one report, merged and compiled.
It holds no requester's value; `transform.bind` ties it to a request's attributes, context and keys.

PROMISE 1 (no cell without a grant): `Plan.columns` names what may be given. Absent is a missing entry:
to forget a field is to drop it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from itertools import takewhile
from typing import Final, Protocol

import msgspec

from proxy.batch import Batch, Output
from proxy.few import Cells
from proxy.reasons import Reason
from proxy.report import By, Field, Parameter, Report, Variant
from proxy.subject import Subject
from proxy.treatments.base import Treatment
from proxy.treatments.groups import Counting
from proxy.values import Type, Value


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What conditions may look at beside the row; frozen for the whole request (`now` and `date` too)."""

    attributes: Mapping[str, Value]
    """`sub.*`"""
    now: datetime
    """Aware, UTC."""
    date: date
    ip: str
    purpose: str
    tool: str
    """The tool's principal without its `tool:`, or ''."""
    action: str
    method: str


Truth = bool | None
"""Kleene's three values; None is unknown."""

ColumnTest = Callable[[Batch], Cells]
"""All rows of a batch -> truths (Boolean), null = unknown. Never raises on data."""


class Predicate(Protocol):
    """A row condition, parsed and checked once per policy."""

    @property
    def text(self) -> str:
        """The condition as canonical text; equal texts mean equal predicates on one report."""

    @property
    def fields(self) -> frozenset[str]:
        """The fields of `row.*` that it reads."""

    @property
    def reads(self) -> frozenset[str]:
        """The names of `env.*` that it reads, without the `env.`."""

    @property
    def attributes(self) -> frozenset[str]:
        """The names of `sub.*` that it reads, without the `sub.`."""

    def bind(self, context: Context) -> Truth | ColumnTest:
        """Fold in the request's attributes and context; a constant where no row is needed any more."""


_CONSTANTS: Final = frozenset({"true", "false"})
"""Conditions that are the same everywhere."""


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A policy line's place, for the record: `policy.csv:12`."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Where predicate number `when` of the plan is true, `treatment` may be given."""

    when: int
    treatment: Treatment


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One field of the answer: how each cell's form is chosen."""

    field: Field
    type: Type
    """The type that is given: the common type of all choices, else text."""
    choices: tuple[Choice, ...]
    """Most preferred first; never empty unless the report's shape is stable (then: all nulls)."""
    denies: tuple[int, ...] = ()
    """Numbers of the predicates that hide the cell unless they are false."""
    carried: tuple[str, ...] = ()
    """The fields that its cells take along, sealed, where a form does so (`Treatment.carries`)."""


_CLOCK: Final = frozenset({"now", "date", "method"})
"""What is not the same from one request for a view to the next."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """All cell rules of one set of grants on one report; compared by identity or `gives_as`."""

    report: Report
    predicates: tuple[Predicate, ...]
    columns: tuple[Column, ...]
    """In the catalogue's order."""
    lines: tuple[Line, ...]
    """The `p2` lines that went into it."""

    @cached_property
    def reads(self) -> frozenset[str]:
        """Every field whose cells are needed to build the answer.

        Nothing else is even decoded, but for the fields by which rows are known (`Report.found_by`).
        """
        names = {column.field.name for column in self.columns if column.choices}
        for predicate in self.predicates:
            names |= predicate.fields
        for column in self.columns:
            names.update(column.carried)
            for choice in column.choices:
                names |= choice.treatment.needs
        return frozenset(names)

    @cached_property
    def stated(self) -> frozenset[str]:
        """The report's key fields that whoever is given a row is given in clear: it can say which row."""
        return self.clear & frozenset(self.report.key)

    @cached_property
    def counting(self) -> Counting | None:
        """By what the source's rows are counted before any is given; None where none are.

        A report has one way to count (policy/differencing.py); raises ValueError where there are two.
        """
        found = {choice.treatment.counting for c in self.columns for choice in c.choices} - {None}
        if len(found) > 1:
            raise ValueError("rows of one report are counted in one way")
        return next(iter(found), None)

    @cached_property
    def unconditional(self) -> bool:
        """Whether it depends on nothing which cells it gives: neither on rows nor on who asks, and when."""
        return all(predicate.text in _CONSTANTS for predicate in self.predicates)

    @cached_property
    def order_tells(self) -> bool:
        """Whether the store's order would tell of a field that is not clear in every row that may be seen."""
        return not self.clear.issuperset(self.report.ordered_by)

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """The columns of an answer."""
        return tuple(map(_output, self.columns))

    @cached_property
    def mixed(self) -> frozenset[str]:
        """The fields whose forms are of different types: text, or none at all where a column has one type."""
        return frozenset(
            column.field.name
            for column in self.columns
            if len({c.treatment.gives(column.field.type) for c in column.choices} - {None}) > 1
        )

    @cached_property
    def repeatable(self) -> bool:
        """Whether the same rows of the store come out as the same bytes, whenever they are asked for."""
        return not any(_CLOCK & predicate.reads for predicate in self.predicates) and all(
            choice.treatment.repeats for column in self.columns for choice in column.choices
        )

    @cached_property
    def clear(self) -> frozenset[str]:
        """The fields that are given clear in every row that may be released.

        Judged by structure alone, so that a field here is certainly one, and one that is not here
        may be one: every condition under which any cell is granted must be one under which the
        field is granted clear and nothing is preferred to that; and what hides the field must hide
        the whole row.
        """
        granted = [column for column in self.columns if column.choices]
        return frozenset(column.field.name for column in granted if self._is_clear(column, granted))

    @cached_property
    def whole(self) -> frozenset[str]:
        """The fields that are given clear in every row of the store's, not only in those released."""
        return frozenset(
            column.field.name
            for column in self.columns
            if not column.denies
            and any(self.predicates[number].text == "true" for number in _first_clear(column))
        )

    def hides(self, parameter: Parameter, value: str) -> frozenset[str]:
        """The fields that keep a parameter, with this value, from being used; none: it may be.

        A filter or an order tells of the fields that it looks at, so each must be clear in every row
        that may be released. Groups are made of all rows, and what is given of them is made of all
        rows' cells: so whoever groups must be given every row, and all that it is given, clear.
        """
        uses = parameter.uses(value)
        if parameter.by is By.GROUP:
            given = {column.field.name for column in self.columns if column.choices}
            return (uses | given) - self.whole
        return uses - self.clear

    @cached_property
    def free(self) -> frozenset[str]:
        """The parameters of its report that may be used whatever their values are."""
        given = {column.field.name for column in self.columns if column.choices}
        return frozenset(
            name
            for name, parameter in self.report.parameters.items()
            if not (
                (parameter.looks_at | given) - self.whole
                if parameter.by is By.GROUP
                else parameter.looks_at - self.clear
            )
        )

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Its lines as they are recorded."""
        return tuple(map(str, self.lines))

    @cached_property
    def per_recipient(self) -> bool:
        """Whether some form is keyed by who receives it."""
        return any(choice.treatment.per_recipient for c in self.columns for choice in c.choices)

    def _is_clear(self, column: Column, granted: list[Column]) -> bool:
        clear = _first_clear(column)
        if not clear or any(not set(column.denies) <= set(other.denies) for other in granted):
            return False
        if any(self.predicates[number].text == "true" for number in clear):
            return True
        return all(choice.when in clear for other in granted for choice in other.choices)

    @cached_property
    def attributes(self) -> frozenset[str]:
        """The names of `sub.*` on which it depends which rows and cells are given."""
        return frozenset().union(*(predicate.attributes for predicate in self.predicates))

    def gives_as(self, other: Plan) -> bool:
        """Whether both give the same view, whatever lines they were made from."""
        return (self.report, self.predicates, self.columns) == (
            other.report,
            other.predicates,
            other.columns,
        )


def _output(column: Column) -> Output:
    treatments = [choice.treatment for choice in column.choices]
    given = [each for each in treatments if each.gives(column.field.type) is not None]
    return Output(
        name=column.field.name,
        type=column.type,
        as_stored=bool(given) and all(each.name == "clear" for each in given),
        scale=column.field.scale,
        places=max((each.places for each in given), default=0),
    )


def _first_clear(column: Column) -> set[int]:
    """The predicates under which a cell is given clear, and nothing is preferred to that."""
    forms = takewhile(lambda choice: choice.treatment.name == "clear", column.choices)
    return {choice.when for choice in forms}


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """The requester may have `plan`'s view of the report until `valid_until`."""

    subject: Subject
    report: Report
    plan: Plan
    lines: tuple[Line, ...]
    """The `p` lines that applied."""
    valid_until: float
    """Seconds since the epoch: the earliest of token expiry and the next flip of a time condition."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deny:
    """The requester gets nothing but the reason."""

    reason: Reason
    cause: str
    """A fixed slug for the record, finer than the reason: `token-expired`, `no-allow-line`."""
    detail: str = ""
    """More help for the requester, built from the catalogue's names alone; never from input."""
    lines: tuple[Line, ...] = ()
    allow: tuple[str, ...] = ()
    """The methods for `Allow` (405)."""
    size: int | None = None
    """The bytes of the whole answer, for `Content-Range` (416)."""
    after: int = 5
    """In how many seconds to ask again, for `Retry-After` (429, 503)."""


Decision = Permit | Deny


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """A request target that equals a catalogued path: the variant and its path parameters' values."""

    report: Report
    variant: Variant
    path_values: Mapping[str, str]
