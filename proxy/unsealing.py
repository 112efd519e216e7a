"""Sealed cells × a plan of action `reveal` -> their values, where the policy gives them back. Pure.

1 open each cell; 2 take what is known of its row: its value, what it carries, and the key fields that it is
bound to; 3 test each row condition on that, where all that it looks at is known; 4 give the value back
where a `reveal` line's condition is true and no `deny` line's may be; 5 take down of which rows that was, by
the fields by which rows are found, as far as these are known.

PROMISE 1 (no cell without a grant): a value is given back where a mask that begins as false was set by a
`reveal` line and by no deny line; a condition on what is not known is unknown, even one that asks whether
it is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from proxy.batch import PLAIN, Batch
from proxy.errors import ValueRefused
from proxy.evidence.witness import Shapes, Witness
from proxy.few import Cells, Few
from proxy.keys import Keyring
from proxy.masks import exclusive, hidden, known_true, released
from proxy.plan import Column, Context, Plan, Truth
from proxy.report import Report
from proxy.treatments import Site, opened
from proxy.treatments.sealed import Cause, Opened, Unopened
from proxy.values import Type, number

NOT_GRANTED: Final = "not-granted"
"""Beside the `Cause`s: it is opened, and no line gives it back in its row, or a line hides it there."""

Stated = Mapping[str, str | None]
"""A row's fields, as whoever asks says: their plain texts, None for no value."""
StandIn = Callable[[str, Site], str]
"""A cell without a seal -> its value; raises ValueRefused where it cannot be one."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One cell that is to be given back."""

    cell: str
    row: Stated


class Back(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A value that is given back."""

    type: Type
    value: str
    """As its document wrote it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Revealed:
    """What is given back."""

    values: tuple[Back | None, ...]
    """One for each cell, in order; None: not revealed, for whatever cause."""
    causes: Mapping[str, int]
    """Why not -> how many."""
    keys: tuple[str, ...]
    """The ids of the keys under which the opened cells were sealed."""
    evidence: bytes
    """Of which rows values are given back, where anything is known by which they are found."""


class _Known(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An opened cell, and what is known of its row."""

    place: int
    back: Back
    row: Stated


def unseal(
    plan: Plan,
    *,
    field: str,
    asked: Sequence[Asked],
    context: Context,
    subject: str,
    keyring: Keyring,
    stand_in: StandIn | None = None,
) -> Revealed:
    """What `plan`, of action `reveal`, gives back of these cells of one field; never raises on them.

    `stand_in` turns back what is no sealed cell; None: there are none.
    """
    report = plan.report
    site = Site(
        report=report.id,
        field=field,
        type=report.types[field],
        key=report.key,
        purpose=context.purpose,
        subject=subject,
        keyring=keyring,
        types=report.types,
    )
    causes: Counter[str] = Counter()
    keys: set[str] = set()
    groups: dict[frozenset[str], list[_Known]] = {}
    for place, each in enumerate(asked):
        try:
            known = _opened(place, each, site, stand_in, keys)  # 1, 2
        except Unopened as exc:
            causes[exc.cause] += 1
            continue
        groups.setdefault(frozenset(known.row), []).append(known)
    values: list[Back | None] = [None] * len(asked)
    tests = [predicate.bind(context) for predicate in plan.predicates]
    column = next((each for each in plan.columns if each.field.name == field), None)
    witness = Witness.of(report, keyring)
    evidence = []
    for names, cells in groups.items():
        granted = _granted(plan, column, tests, names, cells)
        given = [known for known, given in zip(cells, granted, strict=True) if given]
        for known in given:
            values[known.place] = known.back
        if len(given) < len(cells):
            causes[NOT_GRANTED] += len(cells) - len(given)
        if witness is not None:
            evidence.append(_evidence(witness.only(names), report, field, given))  # 5
    return Revealed(
        values=tuple(values),
        causes=dict(causes),
        keys=tuple(sorted(keys)),
        evidence=b"".join(evidence),
    )


def _evidence(witness: Witness, report: Report, field: str, given: Sequence[_Known]) -> bytes:
    """Of which rows a field's values are given back, of all of which the witness's fields are known."""
    if not witness.fields:
        return b""
    rows = Batch(
        {
            noted.field: Few([_as_digested(known.row[noted.field], noted.type) for known in given])
            for noted in witness.fields
        },
        height=len(given),
        lexis=PLAIN,
        types=report.types,
        few=True,
    )
    return witness.piece(rows, Shapes(((("clear", (field,)),),), None))


def _as_digested(text: str | None, type_: Type) -> str | None:
    """A whole number is stated as `7` or as `7.0`, which a seal takes for the same; its digest knows one."""
    if text is None or type_ is not Type.INTEGER:
        return text
    value = number(text)
    return text if value is None else str(value)


def _opened(
    place: int, asked: Asked, site: Site, stand_in: StandIn | None, keys: set[str]
) -> _Known:
    """The cell's value, and the row as far as it is known; raises Unopened."""
    try:
        found = opened(asked.cell, site, asked.row)
    except Unopened as exc:
        if stand_in is None or exc.cause is not Cause.NO_CELL:
            raise
        try:
            text = stand_in(asked.cell, site)
        except ValueRefused:
            raise Unopened(Cause.NO_CELL) from None
        back = Back(type=site.type, value=text)
        return _Known(place=place, back=back, row={site.field: text})
    keys.add(found.key_id)
    back = Back(type=found.type, value=found.text)
    return _Known(place=place, back=back, row=_row(found, asked.row, site))


def _row(found: Opened, stated: Stated, site: Site) -> Stated:
    """What is certain of the row; a value of another type than is declared now is not known."""
    row: dict[str, str | None] = {}
    for name in found.bound:
        # An empty value and none at all are bound alike: which of them it was is not known.
        if text := stated.get(name):
            row[name] = text
    for name, (type_, text) in found.carried.items():
        if type_ == site.types.get(name):
            row[name] = text
    if found.type == site.type:
        row[site.field] = found.text
    return row


def _granted(
    plan: Plan,
    column: Column | None,
    tests: Sequence[Truth | Callable[[Batch], Cells]],
    names: frozenset[str],
    cells: Sequence[_Known],
) -> Sequence[bool]:
    """Which of some cells are given back, of whose rows the same fields are known."""
    if column is None:
        return [False] * len(cells)
    batch = Batch(
        {name: Few([known.row[name] for known in cells]) for name in names},
        height=len(cells),
        lexis=PLAIN,
        types=plan.report.types,
        few=True,
    )
    outcomes: list[Truth | Cells] = []
    for predicate, test in zip(plan.predicates, tests, strict=True):  # 3
        if callable(test):
            outcomes.append(test(batch) if predicate.fields <= names else None)
        else:
            outcomes.append(test)
    whens = [choice.when for choice in column.choices]
    allows = [known_true(outcome) for outcome in outcomes]
    mask = released([exclusive(whens, allows, hidden(column.denies, outcomes))])  # 4
    return [mask] * len(cells) if isinstance(mask, bool) else mask.to_list()
