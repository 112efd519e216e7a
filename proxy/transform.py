"""Plan × batch -> batch: keep the rows and give each cell the form that the plan grants.

One pass, vectorised: 1 fold the request's attributes and context into the predicates (once per request),
2 test each distinct predicate once per batch, 3 drop the rows of which no cell is granted, 4 build each
column from the preferred form of each cell.

PROMISE 1 (no cell without a grant): a row is kept, and a cell is filled, only where a mask that begins
as false was set by an allow line and by no deny line; unknown is false in an allow and true in a deny.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec
import polars as pl

from proxy.batch import Batch, Output
from proxy.evidence.witness import Codes, Forms, Shapes, combined
from proxy.few import FEW, Cells, either
from proxy.forms import Form, KeyedColumn, formed
from proxy.keys import Keyring
from proxy.masks import Mask, exclusive, hidden, known_true, numbered, over, released, truths
from proxy.plan import ColumnTest, Context, Plan, Truth
from proxy.texts import Coded, plain
from proxy.treatments.base import Site
from proxy.treatments.clear import Clear
from proxy.treatments.groups import Groups
from proxy.values import Type

Counts = dict[str, dict[str, int]]
"""Field -> treatment -> cells given; never changed once it is given away."""


def bind(
    plan: Plan,
    *,
    context: Context,
    subject: str,
    keyring: Keyring,
    groups: Groups | None = None,
) -> Transform:
    """Tie a plan to one request; `subject` is the principal that per-recipient forms are keyed by.

    `groups` are those that may be given of the source, where the plan has its rows counted; without
    them, what depends on them is not given.
    """
    recipient = subject if plan.per_recipient else ""
    if plan.unconditional and groups is None:
        return _bound(plan, context.purpose, recipient, keyring)
    keyed = _keyed(plan, context.purpose, recipient, keyring)
    return Transform(keyed, [predicate.bind(context) for predicate in plan.predicates], groups)


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What of some records a requester gets."""

    batch: Batch
    cells: Counts
    source: Batch
    """The released records, as the store gives them."""
    masks: Sequence[Sequence[Mask]] = ()
    """For each group of columns, for each choice, in which of them it is the one given; () where none is, or
    each is given in the same forms."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Keyed:
    """A plan tied to keys: all that is the same for every request of one purpose."""

    groups: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    """Each distinct (predicates of the choices, predicates of the denies) of the plan's columns."""
    columns: tuple[KeyedColumn, ...]
    types: Mapping[str, Type]
    outputs: tuple[Output, ...]


@lru_cache(maxsize=64)
def _keyed(plan: Plan, purpose: str, recipient: str, keyring: Keyring) -> _Keyed:
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    columns = []
    for column in plan.columns:
        signature = tuple(choice.when for choice in column.choices), column.denies
        site = Site(
            report=plan.report.id,
            field=column.field.name,
            type=column.field.type,
            key=plan.report.key,
            purpose=purpose,
            subject=recipient,
            keyring=keyring,
            types=plan.report.types,
            stated=plan.stated,
            carried=column.carried,
        )
        columns.append(
            KeyedColumn(
                field=column.field.name,
                type=column.type,
                source=column.field.type,
                group=groups.setdefault(signature, len(groups)),
                forms=tuple(
                    Form(
                        name=str(choice.treatment),
                        operation=None
                        if isinstance(choice.treatment, Clear)
                        else choice.treatment.bind(site),
                        per_value=choice.treatment.per_value,
                        choosing=choice.treatment.choosing(site),
                    )
                    for choice in column.choices
                ),
            )
        )
    return _Keyed(
        groups=tuple(groups),
        columns=tuple(columns),
        types={column.field: column.type for column in columns},
        outputs=plan.outputs,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Settled:
    """The one form that all cells of a column have, for each column, or none."""

    as_is: tuple[str, ...]
    """The columns of which each cell is what the document has, to the character."""
    formed: tuple[tuple[KeyedColumn, Form], ...]
    """The other columns that have values."""
    forms: tuple[tuple[str, str | None], ...]
    """The form's name for each column, in order."""
    shapes: Shapes

    counted: dict[int, Counts] = field(default_factory=dict)
    """What `counts` gave of few records."""

    def counts(self, height: int) -> Counts:
        """How many cells have each form in so many records; not to be changed."""
        found = self.counted.get(height)
        if found is None:
            found = {field: {form: height} if form else {} for field, form in self.forms}
            if height <= FEW:
                self.counted[height] = found
        return found


@lru_cache(maxsize=256)
def _settled(keyed: _Keyed, outcomes: tuple[Truth, ...]) -> _Settled | None:
    """What every row is given where no condition looks at a row; None where that is nothing."""
    granted = _masks(keyed, outcomes)
    if not any(mask for masks in granted for mask in masks):
        return None
    forms = [
        (
            column,
            next((f for f, m in zip(column.forms, granted[column.group], strict=True) if m), None),
        )
        for column in keyed.columns
    ]
    given = [(column, form) for column, form in forms if form is not None]
    return _Settled(
        as_is=tuple([column.field for column, form in given if _as_is(column, form)]),
        formed=tuple([(column, form) for column, form in given if not _as_is(column, form)]),
        forms=tuple([(column.field, form.name if form else None) for column, form in forms]),
        shapes=Shapes((_by_form((column.field, form.name) for column, form in given),), None),
    )


def _by_form(given: Iterable[tuple[str, str]]) -> Forms:
    fields: dict[str, list[str]] = {}
    for name, form in given:
        fields.setdefault(form, []).append(name)
    return tuple([(form, tuple(names)) for form, names in sorted(fields.items())])


@lru_cache(maxsize=1024)
def _forms(keyed: _Keyed, chosen: tuple[int, ...]) -> Forms:
    """What a row is given of whose groups of columns these choices are made, -1 being none."""
    return _by_form(
        (column.field, column.forms[place].name)
        for column in keyed.columns
        if (place := chosen[column.group]) >= 0
    )


@lru_cache(maxsize=64)
def _bound(plan: Plan, purpose: str, recipient: str, keyring: Keyring) -> Transform:
    """What every request of one purpose gets, where no condition looks at the request."""
    outcomes = [predicate.text == "true" for predicate in plan.predicates]
    return Transform(_keyed(plan, purpose, recipient, keyring), outcomes)


class Transform:
    """A plan bound to one request; pure, so that blocks can be worked on at once."""

    def __init__(
        self, keyed: _Keyed, tests: Sequence[Truth | ColumnTest], groups: Groups | None = None
    ) -> None:
        self._keyed = keyed
        self._tests = tests
        self._groups = groups
        known = [test for test in tests if not callable(test)]
        self._looks = len(known) < len(tests)
        """Whether a condition looks at rows."""
        self._settled = None if self._looks else _settled(keyed, tuple(known))

    @property
    def columns(self) -> tuple[Output, ...]:
        """The answer's columns, in order."""
        return self._keyed.outputs

    def apply(self, batch: Batch) -> Given:
        """The requester's rows and forms of `batch`'s records; never raises on data."""
        if not self._looks:
            return self._all_alike(batch)
        granted = self._granted(batch)
        given = released(granted)
        if given is False:
            return self._nothing(batch)
        if given is not True:
            batch = batch.filter(given)
            granted = [[over(mask, given) for mask in masks] for masks in granted]
        columns = self._keyed.columns
        as_read = _as_read(batch, (c.field for c in columns if _untouched(c, granted[c.group])))
        shown = self._shown(batch)
        cells: dict[str, Cells | Coded] = {}
        counts: Counts = {}
        for column in columns:
            counted = counts[column.field] = {}
            if column.field in as_read:
                if batch.height:
                    counted[Clear.name] = batch.height
                continue
            built = _build(column, granted[column.group], batch, counted, shown)
            if built is not None:
                cells[column.field] = built
        return self._given(batch, cells, counts, as_read, granted)

    def shapes(self, given: Given) -> Shapes:
        """In which forms the records that are given are."""
        if not given.masks:
            return self._settled.shapes if self._settled else Shapes((), None)
        height = given.source.height
        return self._shaped([numbered(masks, height) for masks in given.masks], height)

    def shapes_of(self, chosen: Sequence[pl.Series]) -> Shapes:
        """The same by what `chosen` gave of some records."""
        return self._shaped([each.to_numpy() for each in chosen], len(chosen[0]) if chosen else 0)

    def _shaped(self, chosen: Sequence[int | Codes], height: int) -> Shapes:
        distinct, codes = combined(chosen, height)
        return Shapes(tuple([_forms(self._keyed, each) for each in distinct]), codes)

    def released(self, batch: Batch) -> Mask:
        """Which of `batch`'s records are given."""
        return released(self._granted(batch)) if self._looks else self._settled is not None

    def chosen(self, batch: Batch) -> list[pl.Series]:
        """For each group of columns, which of its forms each released record has; -1 where none."""
        granted = self._granted(batch)
        given = truths(released(granted), batch.height)
        numbers = []
        for masks in granted:
            number = pl.Series([-1], dtype=pl.Int16).new_from_index(0, batch.height)
            for place, mask in enumerate(masks):
                here = pl.Series([place], dtype=pl.Int16).new_from_index(0, batch.height)
                number = here.zip_with(truths(mask, batch.height), number)
            numbers.append(number.filter(given))
        return numbers

    def counted(self, chosen: Sequence[pl.Series]) -> Counts:
        """How many cells of some records have each form, by what `chosen` gave of them."""
        tallies = [Counter(numbers.to_list()) for numbers in chosen]
        counts: Counts = {}
        for column in self._keyed.columns:
            counted = counts[column.field] = {}
            for place, form in enumerate(column.forms):
                if given := tallies[column.group][place]:
                    counted[form.name] = counted.get(form.name, 0) + given
        return counts

    def _shown(self, batch: Batch) -> Cells | None:
        """Where a record's group may be given; None where nothing was counted."""
        return None if self._groups is None else self._groups.shown(batch)

    def _granted(self, batch: Batch) -> list[list[Mask]]:
        """For each group of columns, for each choice, the rows in which it is the one given."""
        return _masks(self._keyed, [t(batch) if callable(t) else t for t in self._tests])

    def _all_alike(self, batch: Batch) -> Given:
        """The same where each row is given in the same forms."""
        settled, height = self._settled, batch.height
        if settled is None or not height:
            return self._nothing(batch)
        as_read = _as_read(batch, settled.as_is)
        as_is = [name for name in settled.as_is if name not in as_read]
        columns = zip(as_is, batch.columns(as_is), strict=True)
        cells: dict[str, Cells | Coded] = {name: c for name, c in columns if c is not None}
        shown = self._shown(batch)
        for column, form in settled.formed:
            built = formed(column, form, batch, shown)
            if built is not None:
                cells[column.field] = built
        return self._given(batch, cells, settled.counts(height), as_read)

    def _given(
        self,
        source: Batch,
        cells: Mapping[str, Cells | Coded],
        counts: Counts,
        as_read: Collection[str] = (),
        masks: Sequence[Sequence[Mask]] = (),
    ) -> Given:
        """`as_read` are the columns that stay what they are in the source's document."""
        batch = Batch(
            cells,
            height=source.height,
            lexis=source.lexis,
            types=self._keyed.types,
            few=source.few,
            unread=source.unread.only(as_read) if source.unread and as_read else None,
        )
        return Given(batch=batch, cells=counts, source=source, masks=masks)

    def _nothing(self, source: Batch) -> Given:
        types, few = self._keyed.types, source.few
        batch = Batch({}, height=0, lexis=source.lexis, types=types, few=few)
        return Given(batch=batch, cells={}, source=batch)


def _as_is(column: KeyedColumn, form: Form) -> bool:
    """Whether cells in that form are what the document has, to the character."""
    return form.operation is None and column.type is column.source


def _untouched(column: KeyedColumn, masks: list[Mask]) -> bool:
    """Whether each cell of the column is what the document has."""
    return any(
        mask is True and _as_is(column, form)
        for form, mask in zip(column.forms, masks, strict=True)
    )


def _as_read(batch: Batch, names: Iterable[str]) -> frozenset[str]:
    """Of these columns, those that an encoder may take from the document without making them."""
    if batch.unread is None:
        return frozenset()
    return frozenset(names) & frozenset(batch.unread.names)


def _masks(keyed: _Keyed, outcomes: Sequence[Truth | Cells]) -> list[list[Mask]]:
    """The same from the outcomes of the plan's predicates."""
    allows = [known_true(outcome) for outcome in outcomes]
    return [exclusive(whens, allows, hidden(denies, outcomes)) for whens, denies in keyed.groups]


def _build(
    column: KeyedColumn,
    masks: list[Mask],
    batch: Batch,
    counts: dict[str, int],
    shown: Cells | None,
) -> Cells | Coded | None:
    """One column of the answer, in the lexical form of the batch; None where all of it is null.

    `counts` takes how many cells have each form.
    """
    built: Cells | None = None
    for form, mask in zip(column.forms, masks, strict=True):
        given = batch.height * mask if isinstance(mask, bool) else int(mask.sum())
        if not given:
            continue
        counts[form.name] = counts.get(form.name, 0) + given
        cells = formed(column, form, batch, shown)
        if cells is None:
            continue
        if isinstance(mask, bool):
            return cells
        built = either(plain(cells), mask, built if built is not None else batch.repeated(None))
    return built
