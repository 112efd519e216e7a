"""Plan × batch -> batch: keep the rows and give each cell the form that the plan grants.

One pass, vectorised: 1 fold the request's attributes and context into the predicates (once per request),
2 test each distinct predicate once per batch, 3 drop the rows of which no cell is granted, 4 build each
column from the preferred form of each cell.

PROMISE 1 (no cell without a grant): a row is kept, and a cell is filled, only where a mask that begins
as false was set by an allow line and by no deny line; unknown is false in an allow and true in a deny.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.batch import Batch
from proxy.few import Cells, both, either, filtered, one_of
from proxy.keys import Keyring
from proxy.plan import Choice, Column, ColumnTest, Context, Plan, Truth
from proxy.treatments.base import Operation, Site
from proxy.treatments.clear import Clear
from proxy.values import Type

Mask = bool | Cells
"""Rows for which something holds: all, none, or those of a Boolean column without nulls."""


def bind(plan: Plan, *, context: Context, subject: str, keyring: Keyring) -> Transform:
    """Tie a plan to one request; `subject` is the principal that per-recipient forms are keyed by."""
    tests = tuple(predicate.bind(context) for predicate in plan.predicates)
    columns = tuple(
        _BoundColumn(
            column=column,
            operations=tuple(
                _operation(choice, column, plan, context, subject, keyring)
                for choice in column.choices
            ),
        )
        for column in plan.columns
    )
    return Transform(plan, tests, columns)


def _operation(
    choice: Choice, column: Column, plan: Plan, context: Context, subject: str, keyring: Keyring
) -> Operation | None:
    """The treatment's operation; None for `clear`, whose cells are passed as they are written."""
    if isinstance(choice.treatment, Clear):
        return None
    return choice.treatment.bind(
        Site(
            report=plan.report.id,
            field=column.field.name,
            type=column.field.type,
            key=plan.report.key,
            purpose=context.purpose,
            subject=subject,
            keyring=keyring,
        )
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _BoundColumn:
    column: Column
    operations: tuple[Operation | None, ...]


class Transform:
    """A plan bound to one request; `rows` and `cells` count what it has let through so far."""

    def __init__(
        self, plan: Plan, tests: Sequence[Truth | ColumnTest], columns: Sequence[_BoundColumn]
    ) -> None:
        self._plan = plan
        self._tests = tests
        self._columns = columns
        self._types = {c.column.field.name: c.column.type for c in columns}
        self.rows = 0
        self.cells: dict[str, dict[str, int]] = {}
        """Field -> treatment -> cells given."""

    @property
    def columns(self) -> tuple[tuple[str, Type], ...]:
        """Names and types of the answer's columns, in order."""
        return tuple(self._types.items())

    def apply(self, batch: Batch) -> Batch:
        """The requester's rows and forms of `batch`'s records; never raises on data."""
        outcomes: list[Truth | Cells] = [
            test(batch) if callable(test) else test for test in self._tests
        ]
        allows = [_known_true(outcome) for outcome in outcomes]
        granted: dict[tuple[tuple[int, ...], tuple[int, ...]], list[Mask]] = {}
        released: Mask = False
        for bound in self._columns:
            signature = _signature(bound.column)
            if signature not in granted:
                masks = _exclusive(signature[0], allows, _hidden(signature[1], outcomes))
                granted[signature] = masks
                for mask in masks:
                    released = _or(released, mask)
        if released is False:
            return Batch({}, height=0, lexis=batch.lexis, types=self._types, few=batch.few)
        if released is not True:
            batch = batch.filter(released)
            granted = {
                signature: [_filtered(mask, released) for mask in masks]
                for signature, masks in granted.items()
            }
        self.rows += batch.height
        cells: dict[str, Cells] = {}
        for bound in self._columns:
            built = self._build(bound, granted[_signature(bound.column)], batch)
            if built is not None:
                cells[bound.column.field.name] = built
        return Batch(
            cells, height=batch.height, lexis=batch.lexis, types=self._types, few=batch.few
        )

    def _build(self, bound: _BoundColumn, masks: list[Mask], batch: Batch) -> Cells | None:
        """One column of the answer, in the lexical form of the batch; None where all of it is null."""
        field = bound.column.field.name
        column: Cells | None = None
        counts = self.cells.setdefault(field, {})
        for choice, operation, mask in zip(
            bound.column.choices, bound.operations, masks, strict=True
        ):
            given = batch.height * mask if isinstance(mask, bool) else int(mask.sum())
            if not given:
                continue
            name = str(choice.treatment)
            counts[name] = counts.get(name, 0) + given
            cells: Cells | None
            if operation is not None:
                cells = batch.lexis.write(operation(batch), bound.column.type)
            elif bound.column.type is bound.column.field.type:
                cells = batch.cells.get(field)
                if cells is None:
                    continue
            else:
                cells = batch.lexis.write(batch.values(field), bound.column.type)
            if isinstance(mask, bool):
                return cells
            column = either(cells, mask, column if column is not None else batch.repeated(None))
        return column


def _signature(column: Column) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(choice.when for choice in column.choices), column.denies


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
