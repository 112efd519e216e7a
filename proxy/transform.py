"""Plan × batch -> batch: keep the rows and give each cell the form that the plan grants.

One pass, vectorised: 1 fold the request's attributes and context into the predicates (once per request),
2 test each distinct predicate once per batch, 3 drop the rows of which no cell is granted, 4 build each
column from the preferred form of each cell.

PROMISE 1 (no cell without a grant): a row is kept, and a cell is filled, only where a mask that begins
as false was set by an allow line and by no deny line; unknown is false in an allow and true in a deny.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from proxy.batch import Batch
from proxy.few import Cells, both, either, filtered, one_of
from proxy.keys import Keyring
from proxy.plan import ColumnTest, Context, Plan, Truth
from proxy.treatments.base import Operation, Site
from proxy.treatments.clear import Clear
from proxy.values import Type

Mask = bool | Cells
"""Rows for which something holds: all, none, or those of a Boolean column without nulls."""


def bind(plan: Plan, *, context: Context, subject: str, keyring: Keyring) -> Transform:
    """Tie a plan to one request; `subject` is the principal that per-recipient forms are keyed by."""
    recipient = subject if plan.per_recipient else ""
    keyed = _keyed(plan, context.purpose, recipient, keyring)
    return Transform(keyed, [predicate.bind(context) for predicate in plan.predicates])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Form:
    """One form that a cell can have; without an operation it passes as it is written."""

    name: str
    operation: Operation | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _KeyedColumn:
    field: str
    type: Type
    as_written: bool
    """Whether a clear cell keeps its lexical form: the column's type is the field's own."""
    group: int
    forms: tuple[_Form, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Keyed:
    """A plan tied to keys: all that is the same for every request of one purpose."""

    groups: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    """Each distinct (predicates of the choices, predicates of the denies) of the plan's columns."""
    columns: tuple[_KeyedColumn, ...]
    types: Mapping[str, Type]


@lru_cache(maxsize=64)
def _keyed(plan: Plan, purpose: str, recipient: str, keyring: Keyring) -> _Keyed:
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    columns = []
    for column in plan.columns:
        signature = tuple(choice.when for choice in column.choices), column.denies
        field = column.field
        site = Site(
            report=plan.report.id,
            field=field.name,
            type=field.type,
            key=plan.report.key,
            purpose=purpose,
            subject=recipient,
            keyring=keyring,
        )
        columns.append(
            _KeyedColumn(
                field=field.name,
                type=column.type,
                as_written=column.type is field.type,
                group=groups.setdefault(signature, len(groups)),
                forms=tuple(
                    _Form(
                        name=str(choice.treatment),
                        operation=None
                        if isinstance(choice.treatment, Clear)
                        else choice.treatment.bind(site),
                    )
                    for choice in column.choices
                ),
            )
        )
    return _Keyed(
        groups=tuple(groups),
        columns=tuple(columns),
        types={column.field: column.type for column in columns},
    )


class Transform:
    """A plan bound to one request; `rows` and `cells` count what it has let through so far."""

    def __init__(self, keyed: _Keyed, tests: Sequence[Truth | ColumnTest]) -> None:
        self._keyed = keyed
        self._tests = tests
        self._constant = None if any(map(callable, tests)) else self._masks(tests)
        self.rows = 0
        self.cells: dict[str, dict[str, int]] = {}
        """Field -> treatment -> cells given."""

    @property
    def columns(self) -> tuple[tuple[str, Type], ...]:
        """Names and types of the answer's columns, in order."""
        return tuple(self._keyed.types.items())

    def apply(self, batch: Batch) -> Batch:
        """The requester's rows and forms of `batch`'s records; never raises on data."""
        if self._constant is not None:
            granted = self._constant
        else:
            granted = self._masks([test(batch) if callable(test) else test for test in self._tests])
        released: Mask = False
        for masks in granted:
            for mask in masks:
                released = _or(released, mask)
        types = self._keyed.types
        if released is False:
            return Batch({}, height=0, lexis=batch.lexis, types=types, few=batch.few)
        if released is not True:
            batch = batch.filter(released)
            granted = [[_filtered(mask, released) for mask in masks] for masks in granted]
        self.rows += batch.height
        cells: dict[str, Cells] = {}
        for column in self._keyed.columns:
            built = self._build(column, granted[column.group], batch)
            if built is not None:
                cells[column.field] = built
        return Batch(cells, height=batch.height, lexis=batch.lexis, types=types, few=batch.few)

    def _masks(self, outcomes: Sequence[Truth | ColumnTest | Cells]) -> list[list[Mask]]:
        """For each group of columns, for each choice, the rows in which it is the one given."""
        known = [outcome for outcome in outcomes if not callable(outcome)]
        allows = [_known_true(outcome) for outcome in known]
        return [
            _exclusive(whens, allows, _hidden(denies, known))
            for whens, denies in self._keyed.groups
        ]

    def _build(self, column: _KeyedColumn, masks: list[Mask], batch: Batch) -> Cells | None:
        """One column of the answer, in the lexical form of the batch; None where all of it is null."""
        built: Cells | None = None
        counts = self.cells.setdefault(column.field, {})
        for form, mask in zip(column.forms, masks, strict=True):
            given = batch.height * mask if isinstance(mask, bool) else int(mask.sum())
            if not given:
                continue
            counts[form.name] = counts.get(form.name, 0) + given
            cells: Cells | None
            if form.operation is not None:
                cells = batch.lexis.write(form.operation(batch), column.type)
            elif column.as_written:
                cells = batch.cells.get(column.field)
                if cells is None:
                    continue
            else:
                cells = batch.lexis.write(batch.values(column.field), column.type)
            if isinstance(mask, bool):
                return cells
            built = either(cells, mask, built if built is not None else batch.repeated(None))
        return built


def _known_true(outcome: Truth | Cells) -> Mask:
    """Where an allow line's condition holds: unknown is false."""
    if outcome is None or isinstance(outcome, bool):
        return outcome is True
    return outcome.fill_null(value=False)


def _hidden(denies: Sequence[int], outcomes: Sequence[Truth | Cells]) -> Mask:
    """Where any deny line's condition holds: unknown is true."""
    hidden: Mask = False
    for number in denies:
        outcome = outcomes[number]
        if outcome is None or outcome is True:
            return True
        if outcome is not False:
            hidden = _or(hidden, outcome.fill_null(value=True))
    return hidden


def _exclusive(whens: Sequence[int], allows: Sequence[Mask], hidden: Mask) -> list[Mask]:
    """For each choice, most preferred first, the rows in which it is the one that is given."""
    taken = hidden
    masks: list[Mask] = []
    for when in whens:
        mask = _and(allows[when], _not(taken))
        masks.append(mask)
        taken = _or(taken, allows[when])
    return masks


def _or(left: Mask, right: Mask) -> Mask:
    if left is True or right is True:
        return True
    if left is False:
        return right
    return left if right is False else one_of(left, right)


def _and(left: Mask, right: Mask) -> Mask:
    if left is False or right is False:
        return False
    if left is True:
        return right
    return left if right is True else both(left, right)


def _not(mask: Mask) -> Mask:
    return not mask if isinstance(mask, bool) else ~mask


def _filtered(mask: Mask, keep: Cells) -> Mask:
    """`mask` over the kept rows; a constant where it has become one."""
    if isinstance(mask, bool):
        return mask
    kept = filtered(mask, keep)
    return True if kept.all() else kept
